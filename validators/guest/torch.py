"""TorchScript archives and exported programs (`.pt2`) by the PyTorch of this interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import Refusal

__all__ = ["TorchModel", "open_model"]


def open_model(model: dict[str, Any], role: str, device: str) -> TorchModel:
    """The model on one thread and one device."""
    torch.set_num_threads(1)
    if not (device == "cpu" or (device.startswith("cuda") and torch.cuda.is_available())):
        raise Refusal(f"there is no device `{device}` here", because="torch " + torch.__version__)
    if model["kind"] != "file" or model["format"] != "torchscript":
        raise Refusal("PyTorch in another interpreter runs TorchScript archives only")
    if not model["inputs"]:
        raise Refusal("a TorchScript archive does not say its inputs", advice="--input NAME=SHAPE[:DTYPE]")
    module = torch.jit.load(model["path"], map_location=device)
    return TorchModel(module.eval(), model["inputs"], device)


class TorchModel:
    """`forward` of an archive, called with the inputs that the judge describes, in their order."""

    def __init__(self, module: Any, inputs: list[Any], device: str) -> None:
        self._module = module
        self._device = device
        self._inputs = [(name, list(shape), dtype or "float32") for name, shape, dtype in inputs]

    def signature(self) -> dict[str, Any]:
        dims = {size: [1, None] for _, shape, _ in self._inputs for size in shape if isinstance(size, str)}
        small, large = self._probe(2), self._probe(3)
        outputs = []
        for name in small:
            pairs = enumerate(zip(small[name].shape, large[name].shape))
            shape = [a if a == b else f"{name}_d{axis}" for axis, (a, b) in pairs]
            outputs.append({"name": name, "dtype": small[name].dtype.name, "shape": shape, "bounds": None})
        return {
            "inputs": [{"name": n, "dtype": d, "shape": s, "bounds": None} for n, s, d in self._inputs],
            "outputs": outputs,
            "dims": dims,
            "parameters": int(sum(tensor.numel() for tensor in self._module.parameters())),
            "environment": {"runtime": "torch " + torch.__version__, "device": self._device, "threads": 1},
            "notes": [],
        }

    def _probe(self, size: int) -> dict[str, np.ndarray]:
        feeds = {
            name: np.zeros([each if isinstance(each, int) else size for each in shape], dtype)
            for name, shape, dtype in self._inputs
        }
        return self.run(feeds, [])[0]

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        feeds = [torch.from_numpy(np.array(inputs[name])).to(self._device) for name, _, _ in self._inputs]
        with torch.no_grad():
            values = self._module(*feeds)
        if isinstance(values, dict):
            return {str(name): _array(value) for name, value in values.items()}, {}
        if not isinstance(values, (list, tuple)):
            return {"output": _array(values)}, {}
        return {f"output_{index}": _array(value) for index, value in enumerate(values)}, {}


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy())
