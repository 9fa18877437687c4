"""Configurations of Keras 1 and 2 in the words of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["modernize"]

_CLASSES = {
    "Convolution1D": "Conv1D", "Convolution2D": "Conv2D", "Convolution3D": "Conv3D", "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D", "Deconvolution2D": "Conv2DTranspose", "Convolution2DTranspose": "Conv2DTranspose",
    "SeparableConvolution1D": "SeparableConv1D", "SeparableConvolution2D": "SeparableConv2D",
    "DepthwiseConvolution2D": "DepthwiseConv2D", "TimeDistributedDense": "Dense", "MaxPool1D": "MaxPooling1D",
    "MaxPool2D": "MaxPooling2D", "MaxPool3D": "MaxPooling3D", "AvgPool1D": "AveragePooling1D",
    "AvgPool2D": "AveragePooling2D", "AvgPool3D": "AveragePooling3D", "GlobalMaxPool1D": "GlobalMaxPooling1D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D", "GlobalMaxPool3D": "GlobalMaxPooling3D",
    "GlobalAvgPool1D": "GlobalAveragePooling1D", "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "GlobalAvgPool3D": "GlobalAveragePooling3D", "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization", "SyncBatchNormalization": "BatchNormalization",
}  # fmt: skip
_MERGE_MODES = {
    "sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot",
    "cos": "Dot",
}  # fmt: skip
_KEYS = {
    "nb_filter": "filters", "subsample": "strides", "border_mode": "padding", "bias": "use_bias",
    "atrous_rate": "dilation_rate", "output_dim": "units", "p": "rate", "sigma": "stddev", "pool_length": "pool_size",
    "stride": "strides", "subsample_length": "strides", "filter_length": "kernel_size",
}  # fmt: skip
_ORDERINGS = {"tf": "channels_last", "th": "channels_first", "default": "channels_last"}


def modernize(cls: str, config: Mapping[str, Any], major: int) -> tuple[str, Mapping[str, Any]]:
    """The class and the configuration as Keras 3 would state them; unknown ones come back as they are."""
    modern = dict(config)
    if major < 2:
        cls, modern = _from_keras1(cls, modern)
    elif cls == "Conv2DTranspose" or cls.startswith("Depthwise"):
        modern.setdefault("dilation_rate", 1)
    if cls == "InputLayer" and "batch_input_shape" in modern:
        modern.setdefault("batch_shape", modern["batch_input_shape"])
    if cls in ("LeakyReLU", "ThresholdedReLU", "ELU") and "alpha" in modern and cls == "LeakyReLU":
        modern.setdefault("negative_slope", modern["alpha"])
    return _CLASSES.get(cls, cls), modern


def _from_keras1(cls: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if cls == "Merge":
        mode = str(config.get("mode"))
        if mode == "cos":
            config["normalize"] = True
        config["axis"], config["axes"] = config.get("concat_axis", -1), config.get("dot_axes", -1)
        return _MERGE_MODES.get(mode, cls), config
    if cls != "Embedding":
        config = {(_KEYS.get(key, key)): value for key, value in config.items()}
    if "dim_ordering" in config:
        config["data_format"] = _ORDERINGS.get(str(config["dim_ordering"]), "channels_last")
    special = _KERNELS.get(cls)
    return cls, special(config) if special else config


def _kernel(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def rename(config: dict[str, Any]) -> dict[str, Any]:
        if all(key in config for key in keys):
            config["kernel_size"] = [config[key] for key in keys]
        return config

    return rename


_KERNELS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **dict.fromkeys(
        ["Convolution2D", "AtrousConvolution2D", "Deconvolution2D", "SeparableConvolution2D"],
        _kernel("nb_row", "nb_col"),
    ),
    "Convolution3D": _kernel("kernel_dim1", "kernel_dim2", "kernel_dim3"),
}
