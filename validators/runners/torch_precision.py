"""Float64 runs of PyTorch code with the rounding of a declared class (validators/precision.py), by a dispatch mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from isomorph.validators.monte_carlo import BASE, Noise
from isomorph.validators.precision import MASKING, Precision
from isomorph.validators.runners.torch_double import EXACT, Noisy

__all__ = ["PRODUCTS", "Rounding"]

_OF_PRODUCTS = """
mm addmm bmm baddbmm addbmm addmv mv dot vdot matmul linear convolution _convolution convolution_overrideable
mkldnn_convolution _trilinear addr _scaled_dot_product_flash_attention_for_cpu lstm gru rnn_tanh rnn_relu
"""
PRODUCTS = frozenset(_OF_PRODUCTS.split())
_COUNTING = ("arange", "linspace", "range")
_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "float32": torch.float32}
_MARK = "_isomorph_origin"
_MADE, _WEIGHT, _INPUT = "made", "weight", "input"


class Rounding(Noisy):
    """Moves each number that the class stores by as much as its rounding may, times the amplitude.

    Where a tensor comes from is marked on it: results are "made"; a view of a weight or an input is one; what has no
    mark is part of the model, a weight. Weights and inputs are
    moved when an operation first reads them, and are then the same for every reader; so are numbers that the code
    states. What is written in place stays in place. Where results are not stored in the class, they have the noise of
    float32.
    """

    def __init__(self, noise: Noise, precision: Precision, inputs: Iterable[Any]) -> None:
        super().__init__(Noise(BASE, noise.seed))
        self._rounding = noise.amplitude
        self._precision = precision
        self._marked(list(inputs), _INPUT)
        self._entered: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = func._schema.name.split("::")[-1]
        writes = func._schema.is_mutable
        name = name.removesuffix("_") if writes else name
        if any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns):
            return self._marked(func(*args, **kwargs), _origin(tree_flatten((args, kwargs))[0]))
        if not writes:
            args, kwargs = tree_map(self._read, (args, kwargs))
        if self._precision.scope == "tensors" and name not in _COUNTING:
            args = self._literals(func, args)
        if self._precision.scope == "products" and name in PRODUCTS:
            args, kwargs = tree_map(self._rounded, (args, kwargs))
        if self._precision.scope != "tensors":
            return self._marked(super().call(func, args, kwargs), _MADE)
        result = func(*args, **kwargs)
        if name not in EXACT and writes:
            for written in filter(_is_float, tree_flatten(result)[0]):
                written.copy_(self._rounded(written))
        elif name not in EXACT:
            result = tree_map(self._rounded, result)
        return self._marked(result, _MADE)

    @staticmethod
    def _marked(values: Any, origin: str) -> Any:
        for each in tree_flatten(values)[0]:
            if isinstance(each, torch.Tensor) and not hasattr(each, _MARK):
                setattr(each, _MARK, origin)
        return values

    def _read(self, value: Any) -> Any:
        """A weight or an input as the class stores it; anything else as it is."""
        if not _is_float(value) or (origin := _origin([value])) == _MADE:
            return value
        scope, matrix = self._precision.scope, value.dim() >= 2
        stored = scope == "tensors" and (matrix or origin == _INPUT or not self._precision.bits)
        if not (stored or (scope == "weights" and origin == _WEIGHT and matrix)):
            return value
        key = (value.data_ptr(), tuple(value.shape), tuple(value.stride()))
        if key not in self._entered:
            self._entered[key] = (value, self._rounded(value, given=True, weight=origin == _WEIGHT))
        return self._entered[key][1]

    def _literals(self, func: Any, args: Any) -> Any:
        """The arguments, numbers that the class cannot represent moved: a target has them as tensors."""
        kinds = [str(each.type) for each in func._schema.arguments]
        return tuple(
            self._rounded(torch.tensor(each, dtype=torch.float64), given=True).item()
            if isinstance(each, float) and "number" in kind and not self._precision.bits
            else each
            for each, kind in zip(args, kinds, strict=False)
        )

    def _rounded(self, value: Any, *, given: bool = False, weight: bool = False) -> Any:
        """A new tensor, each element moved within what its rounding may do."""
        if not _is_float(value) or not value.numel():
            return value
        if value.is_complex():
            return torch.complex(self._rounded(value.real, given=given), self._rounded(value.imag, given=given))
        error = self._step(value, weight=weight) if self._precision.bits else self._error(value, given=given)
        draws = torch.rand(value.shape, dtype=torch.float64, generator=self._generator)
        return value + error * (2 * draws - 1) * self._rounding

    def _step(self, value: torch.Tensor, *, weight: bool) -> torch.Tensor:
        """Half a step of a grid that holds the tensor. That of a weight is symmetric, maybe one for each channel: along
        axis 0 or 1, whichever is coarser."""
        counts = value.abs() < MASKING
        seen = torch.where(counts, value, 0.0)
        if weight and self._precision.split and value.dim() >= 2:
            others = ([each for each in range(value.dim()) if each != axis] for axis in (0, 1))
            reach = torch.maximum(*(2 * seen.abs().amax(rest, keepdim=True) for rest in others))
        elif weight:
            reach = 2 * seen.abs().max()
        else:
            reach = seen.max().clamp(min=0) - seen.min().clamp(max=0)
        return torch.where(counts, self._precision.unit * reach, 0.0)

    def _error(self, value: torch.Tensor, *, given: bool) -> torch.Tensor:
        precision = self._precision
        error = (precision.unit * value.abs()).clamp(min=precision.least)
        error = torch.where(value.isfinite() & (value != 0), error, 0.0)
        if given and precision.name in _TYPES:
            error = torch.where(value.to(_TYPES[precision.name]).double() == value, 0.0, error)
        return error


def _origin(values: Any) -> str:
    """Where tensors come from: a weight if one does, made if one is, else an input."""
    found = {getattr(each, _MARK, _WEIGHT) for each in values if isinstance(each, torch.Tensor)}
    return _WEIGHT if _WEIGHT in found else _MADE if _MADE in found else _INPUT


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())
