"""TensorFlow Lite models by LiteRT (ai-edge-litert), TensorFlow's own interpreter or tflite-runtime, on one thread."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from . import Refusal
from .channel import dtype_name

__all__ = ["LiteModel", "open_model"]

_HOMES = (("ai_edge_litert", "ai_edge_litert.interpreter"), ("tflite_runtime", "tflite_runtime.interpreter"))


def open_model(model: dict[str, Any], role: str, device: str) -> LiteModel:
    """The model in an interpreter; with graph optimizations (the delegate XNNPACK) where it is the target."""
    if device != "cpu":
        raise Refusal("LiteRT runs on the CPU only", advice="--device cpu")
    runtime, interpreter, resolver = _runtime()
    options: dict[str, Any] = {"model_path": model["path"], "num_threads": 1}
    if role == "reference" and resolver is not None:
        options["experimental_op_resolver_type"] = resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return LiteModel(interpreter(**options), runtime, "none" if role == "reference" else "default")


def _runtime() -> tuple[str, Any, Any]:
    """(name and version, class Interpreter, its OpResolverType or None)."""
    for package, home in _HOMES:
        if importlib.util.find_spec(package) is not None:
            module = importlib.import_module(home)
            version = getattr(importlib.import_module(package), "__version__", _version(package))
            return f"{package} {version}", module.Interpreter, getattr(module, "OpResolverType", None)
    import tensorflow

    resolver = getattr(tensorflow.lite.experimental, "OpResolverType", None)
    return "tensorflow.lite " + tensorflow.__version__, tensorflow.lite.Interpreter, resolver


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "?"


class LiteModel:
    """A `.tflite` file. Names are those of its tensors, as in the file."""

    def __init__(self, interpreter: Any, runtime: str, delegates: str) -> None:
        self._interpreter = interpreter
        self._inputs = _named(interpreter.get_input_details())
        self._outputs = _named(interpreter.get_output_details())
        self._shapes: dict[str, Any] = {}
        self._environment = {"runtime": runtime, "device": "cpu", "threads": 1, "delegates": delegates}

    def signature(self) -> dict[str, Any]:
        dims: dict[str, Any] = {}
        return {
            "inputs": [_spec(name, detail, dims) for name, detail in self._inputs.items()],
            "outputs": [_spec(name, detail, {}) for name, detail in self._outputs.items()],
            "dims": dims,
            "parameters": 0,
            "environment": self._environment,
            "notes": [],
        }

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        shapes = {name: tuple(inputs[name].shape) for name in self._inputs}
        if shapes != self._shapes:
            for name, detail in self._inputs.items():
                self._interpreter.resize_tensor_input(detail["index"], shapes[name], strict=True)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, detail in self._inputs.items():
            self._interpreter.set_tensor(detail["index"], np.ascontiguousarray(inputs[name]))
        self._interpreter.invoke()
        return {name: np.array(self._interpreter.get_tensor(d["index"])) for name, d in self._outputs.items()}, {}


def _named(details: list[Any]) -> dict[str, Any]:
    names = [detail["name"] for detail in details]
    if len(set(names)) < len(names):
        names = [f"{name}/{index}" for index, name in enumerate(names)]
    return dict(zip(names, details))


def _spec(name: str, detail: Any, dims: dict[str, Any]) -> dict[str, Any]:
    shape: list[Any] = []
    signature = detail.get("shape_signature", detail["shape"])
    signature = signature if len(signature) == len(detail["shape"]) else detail["shape"]
    for axis, size in enumerate(signature):
        if int(size) >= 0:
            shape.append(int(size))
        else:
            dim = "N" if axis == 0 else f"d{axis}"
            dims.setdefault(dim, [1, None])
            shape.append(dim)
    return {"name": name, "dtype": dtype_name(detail["dtype"]), "shape": shape, "bounds": None}
