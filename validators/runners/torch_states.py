"""What a PyTorch model changes in place: buffers and arguments, as inputs and outputs of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from isomorph.converters.torch.state import input_name, next_name
from isomorph.validators.runner import TensorSpec
from isomorph.validators.runners.torch_signature import as_numpy, tensor_spec

__all__ = ["States", "Writes", "memory", "tensors_of"]


class States:
    """Buffers by their paths, and arguments by their names, that a model changes in place."""

    def __init__(
        self, module: torch.nn.Module, buffers: Sequence[str], arguments: Sequence[str], inputs: Sequence[str]
    ) -> None:
        self._initial = {path: _attribute(module, path).detach().clone() for path in buffers}
        self._names = {path: input_name(path, inputs) for path in buffers}
        self._arguments = tuple(arguments)

    def restore(self, module: torch.nn.Module, given: Mapping[str, np.ndarray] | None = None) -> None:
        """Give the buffers the values that they began with, or those that are given."""
        with torch.no_grad():
            for path, value in self._initial.items():
                array = (given or {}).get(self._names[path])
                _attribute(module, path).copy_(value if array is None else torch.from_numpy(np.array(array)))

    def inputs(self) -> tuple[TensorSpec, ...]:
        """The buffers as inputs, with the range of the values that they began with."""
        return tuple(
            replace(tensor_spec(self._names[path], value, None), bounds=_range(value))
            for path, value in self._initial.items()
        )

    def after(self, module: torch.nn.Module, arguments: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """What became of them, under the names of the outputs that a conversion has for them."""
        found = {self._names[path]: _attribute(module, path) for path in self._initial}
        found.update((name, arguments[name]) for name in self._arguments)
        return {next_name(name): as_numpy(value) for name, value in found.items()}

    def specs(self, arguments: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        buffers = [tensor_spec(next_name(self._names[path]), value, None) for path, value in self._initial.items()]
        return (*buffers, *(replace(arguments[name], name=next_name(name), bounds=None) for name in self._arguments))


def _range(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Whole numbers around the elements, at least 1 apart."""
    if not tensor.numel() or tensor.dtype is torch.bool or tensor.is_complex() or not tensor.isfinite().all():
        return None
    low, high = math.floor(tensor.min().item()), math.ceil(tensor.max().item())
    return low, max(high, low + 1)


def _attribute(module: torch.nn.Module, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


class Writes(TorchDispatchMode):
    """Notes the memory that operations write to in place."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for formal, given in zip(func._schema.arguments, args, strict=False):
            if formal.alias_info is not None and formal.alias_info.is_write:
                self.written.update(memory(each) for each in tree_flatten(given)[0] if isinstance(each, torch.Tensor))
        return func(*args, **(kwargs or {}))


def memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers and plain attributes by path, each once."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                found[f"{prefix}.{name}" if prefix else name] = value
    return found
