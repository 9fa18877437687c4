"""The rounding of a declared class (validators/precision.py) for `onnx.reference`: its inputs, weights and nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from onnx.reference import ReferenceEvaluator

from isomorph.validators.monte_carlo import BASE, Noise
from isomorph.validators.precision import MASKING, Precision
from isomorph.validators.runners.onnx_noise import EXACT, with_noise

__all__ = ["Rounding"]

_PRODUCT_NAMES = """
Conv ConvTranspose MatMul Gemm Einsum LSTM GRU RNN Attention
FusedConv FusedMatMul TransposeMatMul FusedGemm MultiHeadAttention GroupQueryAttention MatMulNBits
"""
_PRODUCTS = frozenset(_PRODUCT_NAMES.split())
_TYPES: dict[str, Any] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "float32": np.float32}


class Rounding:
    """Moves each number that the class stores by as much as its rounding may, times the amplitude. Where results are
    not stored in the class, they have the noise of float32.

    What is inside a body or a function of the model stays exact; its results are rounded as those of one operation.
    """

    def __init__(self, noise: Noise, precision: Precision) -> None:
        self._amplitude = noise.amplitude
        self._precision = precision
        self._seed = noise.seed
        self._rng = np.random.default_rng(noise.seed)

    def applied(self, evaluator: ReferenceEvaluator) -> ReferenceEvaluator:
        """The evaluator, whose weights are moved now and whose nodes move their operands or results from now on."""
        scope = self._precision.scope
        if scope != "tensors":
            with_noise(evaluator, Noise(BASE, self._seed))
        for name, value in evaluator.rt_inits_.items():
            if self._stored(value):
                evaluator.rt_inits_[name] = self._moved(value, given=True, weight=True)
        for node in evaluator.rt_nodes_:
            if node.op_type == "Constant" or (scope == "tensors" and node.op_type not in EXACT):
                node.run = self._storing(node.run, constant=node.op_type == "Constant")
            elif scope == "products" and node.op_type in _PRODUCTS:
                node.run = self._reading(node.run)
        return evaluator

    def inputs(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs as the class stores them."""
        moved = self._precision.scope == "tensors"
        return {name: self._moved(array, given=True) if moved else array for name, array in feeds.items()}

    def _stored(self, weight: Any) -> bool:
        """Whether the class rounds this weight."""
        matrix = isinstance(weight, np.ndarray) and weight.ndim >= 2
        scope = self._precision.scope
        return (scope == "tensors" and (matrix or not self._precision.bits)) or (scope == "weights" and matrix)

    def _storing(self, run: Callable[..., Any], *, constant: bool) -> Callable[..., Any]:
        def call(*operands: Any, **linked: Any) -> Any:
            results = run(*operands, **linked)
            stored = [not constant or self._stored(each) for each in results]
            return tuple(
                self._moved(each, given=constant, weight=constant) if kept else each
                for each, kept in zip(results, stored, strict=True)
            )

        return call

    def _reading(self, run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *operands, **linked: run(*(self._moved(each) for each in operands), **linked)

    def _moved(self, value: Any, *, given: bool = False, weight: bool = False) -> Any:
        """A new array, each element moved within what its rounding may do."""
        if not isinstance(value, np.ndarray | np.floating) or value.dtype.kind not in "fc" or not value.size:
            return value
        if value.dtype.kind == "c":
            return self._moved(value.real, given=given) + 1j * self._moved(value.imag, given=given)
        draws = self._rng.uniform(-self._amplitude, self._amplitude, value.shape)
        array = np.asarray(value)
        error = self._step(array, weight=weight) if self._precision.bits else self._error(array, given=given)
        return np.asarray(value + error * draws, value.dtype)

    def _step(self, value: np.ndarray, *, weight: bool) -> Any:
        """Half a step of a grid that holds the tensor. That of a weight is symmetric, maybe one for each channel: along
        axis 0 or 1, whichever is coarser."""
        counts = np.abs(value) < MASKING
        seen = np.where(counts, value, 0.0)
        if weight and self._precision.split and value.ndim >= 2:
            others = (tuple(each for each in range(value.ndim) if each != axis) for axis in (0, 1))
            reach = np.maximum(*(2 * np.abs(seen).max(rest, keepdims=True) for rest in others))
        else:
            reach = 2 * np.abs(seen).max() if weight else np.maximum(seen.max(), 0) - np.minimum(seen.min(), 0)
        return np.where(counts, self._precision.unit * reach, 0.0)

    def _error(self, value: np.ndarray, *, given: bool) -> Any:
        precision = self._precision
        finite = np.isfinite(value)
        error = np.maximum(precision.unit * np.abs(value), precision.least)
        error = np.where(finite & (value != 0), error, 0.0)
        if given and precision.name in _TYPES:
            error = np.where(value.astype(_TYPES[precision.name]).astype(value.dtype) == value, 0.0, error)
        return error
