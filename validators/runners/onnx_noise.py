"""Monte Carlo arithmetic (validators/monte_carlo.py) for `onnx.reference`: noise on each node of an evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from isomorph.validators.monte_carlo import Noise

__all__ = ["EXACT", "with_noise"]

# Results are elements of the operands, or decisions about them.
_COPIES_AND_DECISIONS = """
Identity Reshape Transpose Squeeze Unsqueeze Flatten Expand Tile Concat Split Slice Gather GatherElements GatherND
ScatterElements ScatterND Pad Cast CastLike Constant ConstantOfShape Shape Size Range Where OneHot EyeLike Trilu
DepthToSpace SpaceToDepth Compress Unique ReverseSequence CenterCropPad Dropout NonZero
Relu Clip Abs Neg Sign Floor Ceil Round Max Min ArgMax ArgMin TopK MaxPool GlobalMaxPool MaxRoiPool ReduceMax ReduceMin
Equal Less LessOrEqual Greater GreaterOrEqual Not And Or Xor IsNaN IsInf BitwiseAnd BitwiseOr BitwiseXor BitwiseNot
BitShift QuantizeLinear SequenceConstruct SequenceAt SequenceEmpty SequenceInsert SequenceLength SplitToSequence
ConcatFromSequence Optional OptionalGetElement OptionalHasElement
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial
"""
# One rounding (or a few) of the result.
_ARITHMETIC = """
Add Sub Mul Div Pow Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Sigmoid
Swish Gelu Elu Celu Selu Softplus Softsign Mish HardSigmoid HardSwish LeakyRelu PRelu ThresholdedRelu Mod Softmax
LogSoftmax DequantizeLinear BiasAdd BiasGelu FastGelu QuickGelu
"""
EXACT = frozenset(_COPIES_AND_DECISIONS.split())
_ELEMENTWISE = frozenset(_ARITHMETIC.split())
# The c of functions that are computed as c + g(x): how large the terms are that cancel.
_TERMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Sigmoid": np.ones_like,
    "HardSigmoid": np.ones_like,
    "Elu": np.ones_like,
    "Celu": np.ones_like,
    "Selu": lambda x: np.full_like(x, 1.76),
    "Swish": np.abs,
    "Gelu": np.abs,
    "BiasGelu": np.abs,
    "FastGelu": np.abs,
    "QuickGelu": np.abs,
    "HardSwish": np.abs,
}


def with_noise(evaluator: ReferenceEvaluator, noise: Noise) -> ReferenceEvaluator:
    """The evaluator, each of whose nodes adds noise from now on.

    What is inside a body or a function of the model stays exact; its results get noise as those of one operation.
    """
    source = _Draws(noise)
    for node in evaluator.rt_nodes_:
        if node.op_type not in EXACT:
            node.run = _noisy(node.run, node.op_type, source)
    return evaluator


class _Draws:
    def __init__(self, noise: Noise) -> None:
        self._amplitude = noise.amplitude
        self._rng = np.random.default_rng(noise.seed)

    def moved(self, value: Any, terms: np.ndarray | None = None) -> Any:
        """A new array with noise in proportion to the elements, and to `terms` where they have its shape."""
        if not isinstance(value, np.ndarray | np.floating) or value.dtype.kind not in "fc":
            return value
        moved = value * (1 + self._rng.uniform(-self._amplitude, self._amplitude, value.shape))
        if terms is not None and terms.shape == value.shape:
            moved = moved + terms * self._rng.uniform(-self._amplitude, self._amplitude)
        return np.asarray(moved, value.dtype)


def _noisy(run: Callable[..., Any], kind: str, source: _Draws) -> Callable[..., Any]:
    def call(*operands: Any, **linked: Any) -> Any:
        terms = _TERMS[kind](operands[0]) if kind in _TERMS else None
        if kind not in _ELEMENTWISE:
            operands = tuple(source.moved(each) for each in operands)
        return tuple(source.moved(each, terms) for each in run(*operands, **linked))

    return call
