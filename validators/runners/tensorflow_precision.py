"""The rounding of a declared class (validators/precision.py) for TensorFlow graphs: a widened GraphDef whose inputs,
weights and results are moved by as much as the class may round them, times an amplitude.

A placeholder is an input; a constant of the graph is a weight, or a number that the code states. Each is moved once
for all its readers. Where results are not stored in the class, they have the noise of float32 (tensorflow_noise.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow
from tensorflow.core.framework import types_pb2

from isomorph.validators.monte_carlo import BASE, Noise
from isomorph.validators.precision import MASKING, Precision
from isomorph.validators.runners.tensorflow_double import EPSILON, DoubleFunction
from isomorph.validators.runners.tensorflow_noise import EXACT, Move, NoisyFunction, Rewriting, draw

__all__ = ["MovedFunctions"]

_PRODUCT_NAMES = """
MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum Conv2D Conv3D DepthwiseConv2dNative Conv2DBackpropInput
Conv2DBackpropInputV2 Conv3DBackpropInput Conv3DBackpropInputV2
"""
_PRODUCTS = frozenset(_PRODUCT_NAMES.split())
_TYPES = {"fp16": tensorflow.float16, "bf16": tensorflow.bfloat16, "float32": tensorflow.float32}
_INPUTS = ("Placeholder", "PlaceholderWithDefault")
# What they state is a number of elements.
_COUNTING = ("Range", "LinSpace")
_AMPLITUDE = "rounding_amplitude"


class _RoundedFunction(NoisyFunction):
    """A signature in float64 with the rounding of one class, whatever the amplitude and the seed. Raises
    NotImplementedError, naming the op, where it has no such form."""

    suffix = "_float64_rounded"

    def __init__(self, function: Any, names: Iterable[str], precision: Precision) -> None:
        self._precision = precision
        super().__init__(function, names)

    def rewritten(self, graph: Any) -> tuple[Any, Mapping[str, str]]:
        return _Rounding(DoubleFunction.rewritten(self, graph)[0], self._precision).result()

    @staticmethod
    def variables() -> dict[str, Any]:
        return {**NoisyFunction.variables(), _AMPLITUDE: tensorflow.float64}

    def settings(self, noise: Noise) -> dict[str, float | int]:
        return {**super().settings(Noise(BASE, noise.seed)), _AMPLITUDE: noise.amplitude}


class MovedFunctions:
    """One signature with noise or with the rounding of any class; each form is made when it is first asked for."""

    def __init__(self, function: Any, names: Iterable[str]) -> None:
        self._function = function
        self._names = list(names)
        self._made: dict[Precision | None, NoisyFunction] = {}

    def run(
        self, noise: Noise, inputs: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """These outputs by name, or all. Raises NotImplementedError."""
        precision = noise.precision
        if precision not in self._made:
            made = _RoundedFunction(self._function, self._names, precision) if precision else None
            self._made[precision] = made or NoisyFunction(self._function, self._names)
        return self._made[precision].run_with(noise, inputs, names)


class _Rounding(Rewriting):
    def __init__(self, graph: Any, precision: Precision) -> None:
        self._precision = precision
        super().__init__(graph)
        bodies = [graph.node, *(each.node_def for each in graph.library.function)]
        counting = [name for body in bodies for node in body if node.op in _COUNTING for name in node.input]
        self._counts = {name.partition(":")[0] for name in counting}

    def movers(self) -> dict[str, Callable[[Any, Any, Any], Any]]:
        return {**super().movers(), **_movers(self._precision)}

    def results(self, node: Any) -> Sequence[Move]:
        scope = self._precision.scope
        if node.op in _INPUTS:
            return (Move("given"),) if scope == "tensors" else ()
        if node.op == "Const":
            return (Move("weight"),) if self._stored(node) else ()
        if scope != "tensors":
            return super().results(node)
        return () if node.op in EXACT else (Move("made"),)

    def operands(self, node: Any) -> Sequence[Move]:
        scope = self._precision.scope
        if scope == "tensors":
            return ()
        read = super().operands(node)
        return (Move("made"), *read) if scope == "products" and node.op in _PRODUCTS else read

    def _stored(self, node: Any) -> bool:
        """Whether the class rounds this constant."""
        tensor = node.attr["value"].tensor
        sizes = [each.size for each in tensor.tensor_shape.dim]
        if tensor.dtype != types_pb2.DT_DOUBLE or not math.prod(sizes):
            return False
        if node.name in self._counts or node.name.endswith(EPSILON):
            return False
        scope, matrix = self._precision.scope, len(sizes) >= 2
        return (scope == "tensors" and (matrix or not self._precision.bits)) or (scope == "weights" and matrix)


def _movers(precision: Precision) -> dict[str, Callable[[Any, Any, Any], Any]]:
    """What moves a result ("made"), an input ("given") and a constant ("weight"), as y, index, c -> moved y."""

    def moved(y: Any, index: Any, error: Any) -> Any:
        return y + error * draw(_AMPLITUDE, index, 0, tensorflow.shape(y, tensorflow.int64))

    def made(y: Any, index: Any, _: Any) -> Any:
        return moved(y, index, _step(precision, y, weight=False) if precision.bits else _error(precision, y))

    def given(y: Any, index: Any, _: Any) -> Any:
        error = _step(precision, y, weight=False) if precision.bits else _error_given(precision, y)
        return moved(y, index, error)

    def weight(y: Any, index: Any, _: Any) -> Any:
        error = _step(precision, y, weight=True) if precision.bits else _error_given(precision, y)
        return moved(y, index, error)

    return {"made": made, "given": given, "weight": weight}


def _error(precision: Precision, y: Any) -> Any:
    """How far the class's rounding may move each element: none for 0, infinities and NaN."""
    error = tensorflow.maximum(precision.unit * tensorflow.abs(y), tensorflow.constant(precision.least, y.dtype))
    rounds = tensorflow.math.is_finite(y) & tensorflow.not_equal(y, 0.0)
    return tensorflow.where(rounds, error, tensorflow.zeros_like(y))


def _error_given(precision: Precision, y: Any) -> Any:
    """The same of a number that is given: none where the class can represent it."""
    error = _error(precision, y)
    if precision.name not in _TYPES:
        return error
    kept = tensorflow.equal(tensorflow.cast(tensorflow.cast(y, _TYPES[precision.name]), y.dtype), y)
    return tensorflow.where(kept, tensorflow.zeros_like(y), error)


def _step(precision: Precision, y: Any, *, weight: bool) -> Any:
    """Half a step of a grid that holds the tensor. That of a weight is symmetric, maybe one for each channel: along one
    of the last two axes, whichever is coarser."""
    counts = tensorflow.abs(y) < MASKING
    seen = tensorflow.where(counts, y, tensorflow.zeros_like(y))
    if weight:
        reach = 2.0 * _reach(tensorflow.abs(seen), split=precision.split)
    else:
        zero = tensorflow.constant(0.0, y.dtype)
        reach = tensorflow.maximum(tensorflow.reduce_max(seen), zero) - tensorflow.minimum(
            tensorflow.reduce_min(seen), zero
        )
    return tensorflow.where(counts, precision.unit * reach, tensorflow.zeros_like(y))


def _reach(size: Any, *, split: bool) -> Any:
    """The largest of the absolute values, of the tensor or of each channel."""
    if not split:
        return tensorflow.reduce_max(size)
    rank = tensorflow.rank(size)
    every = tensorflow.range(rank)

    def largest(axis: int) -> Any:
        others = tensorflow.boolean_mask(every, tensorflow.not_equal(every, rank + axis))
        return tensorflow.reduce_max(size, others, keepdims=True)

    return tensorflow.maximum(largest(-1), largest(-2))
