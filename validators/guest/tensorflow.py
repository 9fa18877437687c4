"""SavedModels by TensorFlow: the signature `serving_default`, or the only one there is."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import tensorflow

from . import Refusal

__all__ = ["SavedModel", "open_model"]


def open_model(model: dict[str, Any], role: str, device: str) -> SavedModel:
    """The model, loaded on one thread."""
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    if hasattr(tensorflow.config.experimental, "enable_tensor_float_32_execution"):
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    kind, _, number = device.partition(":")
    present = tensorflow.config.list_physical_devices("GPU" if kind == "cuda" else kind.upper())
    if int(number or 0) >= len(present):
        have = ", ".join(each.name for each in tensorflow.config.list_physical_devices())
        raise Refusal(f"there is no device `{device}` here", because="tensorflow has " + have)
    if kind == "cuda" and number:
        tensorflow.config.set_visible_devices([present[int(number)]], "GPU")
    path = model["path"]
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        raise Refusal("a graph without the folder of a SavedModel cannot be run", advice="name the SavedModel's folder")
    return SavedModel(tensorflow.saved_model.load(folder), device)


class SavedModel:
    """One signature; inputs and outputs by the names that it gives them, sorted: the file keeps them in maps, and each
    time that they are read they come in another order."""

    def __init__(self, loaded: Any, device: str) -> None:
        signatures = dict(loaded.signatures)
        name = "serving_default" if "serving_default" in signatures else None
        if name is None and len(signatures) == 1:
            name = next(iter(signatures))
        if name is None:
            have = ", ".join(sorted(signatures)) or "none"
            raise Refusal("the SavedModel has no signature `serving_default`", because="its signatures: " + have)
        self._loaded = loaded
        self._function = signatures[name]
        self._inputs = dict(sorted(self._function.structured_input_signature[1].items(), key=_place))
        self._outputs = dict(sorted(self._function.structured_outputs.items(), key=_place))
        self._variables = getattr(self._function, "variables", ())
        self._environment = {
            "runtime": "tensorflow " + tensorflow.__version__,
            "device": device,
            "threads": 1,
            "tf32": False,
            "signature": name,
        }

    def signature(self) -> dict[str, Any]:
        dims: dict[str, Any] = {}
        return {
            "inputs": [_spec(name, spec, dims) for name, spec in self._inputs.items()],
            "outputs": [_spec(name, spec, {}) for name, spec in self._outputs.items()],
            "dims": dims,
            "parameters": int(sum(int(np.prod(variable.shape)) for variable in self._variables)),
            "environment": self._environment,
            "notes": [],
            "ordered": False,
        }

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        feeds = {name: tensorflow.constant(inputs[name], spec.dtype) for name, spec in self._inputs.items()}
        values = self._function(**feeds)
        return {name: np.asarray(values[name].numpy()) for name in self._outputs}, {}

    def graph(self) -> tuple[Any, list[str]]:
        """The signature's function, and the names of its outputs in their order."""
        return self._function, list(self._outputs)


def _place(item: tuple[str, Any]) -> list[Any]:
    """Where a name stands among others: output_2 before output_10."""
    return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", item[0])]


def _spec(name: str, spec: Any, dims: dict[str, Any]) -> dict[str, Any]:
    shape: list[Any] = []
    for axis, size in enumerate(spec.shape):
        if size is None:
            dim = "N" if axis == 0 else f"d{axis}"
            dims.setdefault(dim, [1, None])
            shape.append(dim)
        else:
            shape.append(int(size))
    return {"name": name, "dtype": spec.dtype.name, "shape": shape, "bounds": None}
