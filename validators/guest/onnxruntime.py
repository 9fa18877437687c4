"""ONNX models by the onnxruntime of this interpreter, of any age."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from . import Refusal

__all__ = ["PROVIDERS", "OnnxModel", "open_model"]

_TYPES = {"float": "float32", "double": "float64"}
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
}


def open_model(model: dict[str, Any], role: str, device: str) -> OnnxModel:
    """The model in a session of one thread."""
    return OnnxModel(model["path"], role, device)


class OnnxModel:
    """`role` "reference": graph optimizations off; "target": as users run it."""

    def __init__(self, path: str, role: str, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if role == "reference":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        kind, _, number = device.partition(":")
        provider = PROVIDERS.get(kind, kind)
        if provider not in onnxruntime.get_available_providers():
            have = ", ".join(onnxruntime.get_available_providers())
            raise Refusal(f"there is no device `{device}` here", because="this onnxruntime has " + have)
        chosen = (provider, {"device_id": number} if number else {})
        self._session = onnxruntime.InferenceSession(path, options, providers=[chosen])
        if self._session.get_providers()[0] != provider:
            raise Refusal(f"there is no device `{device}` here", because="onnxruntime fell back to the CPU")
        self._environment = {
            "runtime": "onnxruntime " + onnxruntime.__version__,
            "device": device,
            "threads": 1,
            "graph_optimizations": "disabled" if role == "reference" else "all (the default)",
        }

    def signature(self) -> dict[str, Any]:
        dims: dict[str, Any] = {}
        return {
            "inputs": [_spec(node, dims) for node in self._session.get_inputs()],
            "outputs": [_spec(node, {}) for node in self._session.get_outputs()],
            "dims": dims,
            "parameters": 0,
            "environment": self._environment,
            "notes": [],
        }

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        names = [node.name for node in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, inputs))), {}


def _spec(node: Any, dims: dict[str, Any]) -> dict[str, Any]:
    if not node.type.startswith("tensor("):
        raise Refusal(f"`{node.name}` is {node.type}, and the judge feeds and compares tensors")
    kind = node.type[len("tensor(") : -1]
    shape: list[Any] = []
    for axis, size in enumerate(node.shape or ()):
        if isinstance(size, int) and size >= 0:
            shape.append(size)
        else:
            name = size if isinstance(size, str) and size else ("N" if axis == 0 else f"d{axis}")
            dims.setdefault(name, [1, None])
            shape.append(name)
    return {"name": node.name, "dtype": _TYPES.get(kind, kind), "shape": shape, "bounds": None}
