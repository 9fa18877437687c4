"""TorchScript archives through torch.jit.load, called with the inputs that the conversion was given.

The file says nothing of its inputs' shapes: they come from the judge (`ModelFile.inputs`), and are understood by the
same code as in the reader. Attributes that the model changes are set before a run and read after it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isomorph.converters.archive import Archive
from isomorph.converters.torch.script.archive import ScriptArchive
from isomorph.converters.torch.script.signature import Given, leaves
from isomorph.converters.torch.script.signature import Signature as Call
from isomorph.converters.torch.state import next_name
from isomorph.ir import DType, Sym, TensorType
from isomorph.ir.shapes import parse_dim, substitute
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import NATIVE, Result, Signature, TensorSpec
from isomorph.validators.runners.torch_device import environment
from isomorph.validators.runners.torch_double import in_double

__all__ = ["ScriptRunner"]

AsNumpy = Callable[[Any], np.ndarray]


class ScriptRunner:
    """The `forward` of an archive. `as_numpy` (of torch.py) makes arrays."""

    def __init__(self, model: Mapping[str, Any], as_numpy: AsNumpy) -> None:
        self._path = model["path"]
        self._as_numpy = as_numpy
        given = {
            name: (tuple(_dim(size) for size in shape), None if dtype is None else DType.of(dtype))
            for name, shape, dtype in model.get("inputs", ())
        }
        with Archive(Path(self._path)) as archive:
            script = ScriptArchive(archive)
            forward = script.library.class_of(script.root.title).methods["forward"]
            self._call = Call.of(forward, script.root, given)
            self._parameters = [each.arg for each in forward.parameters[1:]]
        self._module = self._load()
        self._double: Any = None

    def _load(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return torch.jit.load(self._path, map_location="cpu")
            except RuntimeError:
                if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
                    raise
                importlib.import_module("torchvision")  # registers its operators
                return torch.jit.load(self._path, map_location="cpu")

    def signature(self) -> Signature:
        rows = _embedding_rows(self._module)
        inputs = tuple(_spec(name, kind, rows) for name, kind in self._call.tensors)
        small, large = (self._probe(size) for size in (2, 3))
        outputs = []
        for (name, one), other in zip(small.items(), large.values(), strict=True):
            pairs = enumerate(zip(one.shape, other.shape, strict=True))
            shape = tuple(a if a == b else f"{name}_d{axis}" for axis, (a, b) in pairs)
            outputs.append(TensorSpec(name, str(one.dtype), shape))
        dims = {name: (span.min, span.max) for name, span in self._call.dims.items()}
        count = sum(tensor.numel() for tensor in (*self._module.parameters(), *self._module.buffers()))
        notes = ("the module is in training mode",) if getattr(self._module, "training", False) else ()
        return Signature(inputs, tuple(outputs), dims, count, environment(), notes)

    def _probe(self, size: int) -> dict[str, np.ndarray]:
        """The outputs for zeros, with this size for each named dimension."""
        bindings: dict[str, Any] = dict.fromkeys(self._call.dims, size)
        feeds = {
            name: np.zeros([int(str(substitute(dim, bindings))) for dim in kind.shape], kind.dtype.numpy)
            for name, kind in self._call.tensors
        }
        return self.run(feeds).outputs

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        feeds = {name: _tensor(inputs[name]) for name, _ in self._call.tensors}
        if precision != NATIVE:
            if self._double is None:
                self._double = self._load().double()
            wide = {name: value.double() if value.is_floating_point() else value for name, value in feeds.items()}
            values = in_double(lambda: self._forward(self._double, wide), Noise.parse(precision), wide.values())
        else:
            with torch.no_grad():
                values = self._forward(self._module, feeds)
        return Result({name: self._as_numpy(value) for name, value in values})

    def _forward(self, module: Any, feeds: Mapping[str, torch.Tensor]) -> list[tuple[str, Any]]:
        for name in self._call.states:
            setattr(module, name, feeds[name])
        for name, number in self._call.numbers.items():
            if name not in self._parameters:
                setattr(module, name, number)
        arguments = {
            name: _filled(argument, feeds)
            for name, argument in zip(self._parameters, self._call.arguments, strict=True)
            if not isinstance(argument, ast.expr)
        }
        with torch.jit.optimized_execution(False):
            result = module(**arguments)
        return [*leaves(result), *((next_name(name), getattr(module, name)) for name in self._call.states)]


def _dim(size: int | str) -> Any:
    return size if isinstance(size, int) else parse_dim(size)


def _tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _filled(argument: Any, feeds: Mapping[str, torch.Tensor]) -> Any:
    """An argument with tensors where inputs stand."""
    if isinstance(argument, Given):
        return feeds[argument.name] if argument.number is None else argument.number(feeds[argument.name].item())
    if isinstance(argument, list | tuple):
        return type(argument)(_filled(each, feeds) for each in argument)
    if isinstance(argument, dict):
        return {key: _filled(each, feeds) for key, each in argument.items()}
    return argument


def _spec(name: str, kind: TensorType, rows: int | None) -> TensorSpec:
    shape = tuple(str(dim) if isinstance(dim, Sym) else dim for dim in kind.shape)
    integer = kind.dtype.is_integer
    return TensorSpec(name, str(kind.dtype), shape, (0, rows - 1) if rows and integer and shape else None)


def _embedding_rows(module: Any) -> int | None:
    return min(_tables(module), default=None)


def _tables(module: Any) -> Iterator[int]:
    for part in module.modules():
        if getattr(part, "original_name", "") in ("Embedding", "EmbeddingBag"):
            yield int(part.weight.shape[0])
