"""Keras models (`.h5`, `.keras`) by the Keras of this interpreter: Keras 2 (alone or inside TensorFlow) or 3."""

from __future__ import annotations

import importlib
import importlib.util
import json
import zipfile
from typing import Any

import numpy as np

from . import Refusal

__all__ = ["KerasModel", "open_model"]


def open_model(model: dict[str, Any], role: str, device: str) -> KerasModel:
    """The model, loaded without compilation."""
    if device != "cpu":
        raise Refusal("Keras in another interpreter runs on the CPU only", advice="--device cpu")
    if importlib.util.find_spec("tensorflow") is not None:
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    keras = _keras()
    try:
        loaded = keras.models.load_model(model["path"], compile=False)
    except (TypeError, ValueError, AttributeError, KeyError, ImportError) as error:
        writer = _writer(model["path"])
        if writer is None or writer == keras.__version__:
            raise
        what = "Keras " + keras.__version__ + " cannot read a file in the form of Keras " + writer
        because = type(error).__name__ + ": " + (str(error).strip().splitlines() or ["no message"])[-1][:300]
        raise Refusal(what, because, "name an interpreter that has Keras " + writer) from None
    return KerasModel(keras, loaded)


def _writer(path: str) -> str | None:
    """The version of Keras that a `.keras` archive names; None where it names none."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("metadata.json")).get("keras_version")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return found if isinstance(found, str) else None


def _keras() -> Any:
    if importlib.util.find_spec("keras") is not None:
        return importlib.import_module("keras")
    return importlib.import_module("tensorflow.keras")


class KerasModel:
    """A Functional or Sequential model; names are those of its input layers and of the layers that make its outputs."""

    def __init__(self, keras: Any, model: Any) -> None:
        if not getattr(model, "inputs", None):
            raise Refusal(f"the {type(model).__name__} model has no symbolic inputs")
        self._model = model
        self._inputs = _unique([_layer(tensor) for tensor in model.inputs])
        self._outputs = _unique([_layer(tensor) for tensor in model.outputs])
        self._environment = {"runtime": "keras " + keras.__version__, "device": "cpu", "threads": 1}

    def signature(self) -> dict[str, Any]:
        dims: dict[str, Any] = {}
        inputs, outputs = zip(self._inputs, self._model.inputs), zip(self._outputs, self._model.outputs)
        return {
            "inputs": [_spec(name, tensor, dims) for name, tensor in inputs],
            "outputs": [_spec(name, tensor, {}) for name, tensor in outputs],
            "dims": dims,
            "parameters": int(self._model.count_params()),
            "environment": self._environment,
            "notes": [],
        }

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        feeds = [inputs[name] for name in self._inputs]
        values = self._model(feeds if len(feeds) > 1 else feeds[0], training=False)
        arrays = [np.asarray(value) for value in (values if isinstance(values, (list, tuple)) else [values])]
        return dict(zip(self._outputs, arrays)), {}


def _layer(tensor: Any) -> str:
    history = getattr(tensor, "_keras_history", None)
    maker = getattr(history, "operation", None) or getattr(history, "layer", None)
    return str(maker.name if maker is not None else tensor.name)


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        unique.append(f"{name}_{count}" if count else name)
    return unique


def _spec(name: str, tensor: Any, dims: dict[str, Any]) -> dict[str, Any]:
    shape: list[Any] = []
    for axis, size in enumerate(tensor.shape):
        size = getattr(size, "value", size)
        if size is None:
            dim = "N" if axis == 0 else f"d{axis}"
            dims.setdefault(dim, [1, None])
            shape.append(dim)
        else:
            shape.append(int(size))
    dtype = getattr(tensor.dtype, "name", tensor.dtype)
    return {"name": name, "dtype": str(dtype), "shape": shape, "bounds": None}
