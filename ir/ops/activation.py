"""Activation functions, softmax, and dropout in its inference form."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.layout import LayoutRule, Perm, inverse
from isomorph.ir.op import Op, TensorType, broadcast, normalize_axis, operation
from isomorph.ir.ops.elementwise import (
    Abs,
    Add,
    Div,
    Erf,
    Exp,
    Greater,
    GreaterOrEqual,
    Identity,
    Less,
    Log,
    Max,
    Min,
    Mul,
    Neg,
    Sub,
    Where,
    scalar,
)  # fmt: skip
from isomorph.ir.ops.numerics import Array, erf, in_single
from isomorph.ir.ops.reduce import ReduceMax, ReduceSum
from isomorph.ir.ops.special import Log1p

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "Celu", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSigmoid", "LogSoftmax",
    "Mish", "PRelu", "Relu", "Selu", "Shrink", "Sigmoid", "Softmax", "Softplus", "Softsign", "Swish", "Tanh",
    "ThresholdedRelu",
]  # fmt: skip


@operation
class _Activation(Op):
    """Base: x (any shape, floating point) -> y of the same type, element by element."""

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self.formula, x)

    def formula(self, x: Array) -> Array:
        """The function on float32 or wider."""
        raise NotImplementedError  # pragma: no cover


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _softplus(x: Array) -> Array:
    return np.logaddexp(np.zeros((), x.dtype), x)


@operation
class Relu(Op):
    """y = max(x, 0), also for signed integers. See: ONNX Relu-14."""

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if not (x.dtype.is_float or x.dtype.is_signed_integer):
            raise DTypeError(f"Relu: a signed operand is needed, not {x.dtype}")
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.maximum(x, x.dtype.type(0))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Max(), x, scalar(b, 0, x))


@operation
class LeakyRelu(_Activation):
    """y = x where x >= 0, else alpha * x. See: ONNX LeakyRelu-16."""

    alpha: float = 0.01

    def formula(self, x: Array) -> Array:
        return np.where(x >= 0, x, x.dtype.type(self.alpha) * x)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        scaled = b.emit(Mul(), x, scalar(b, self.alpha, x))
        return b.emit(Where(), b.emit(GreaterOrEqual(), x, scalar(b, 0.0, x)), x, scaled)


@operation
class PRelu(Op):
    """y = x where x >= 0, else slope * x; slope broadcasts to x as in NumPy. See: ONNX PRelu-16."""

    inputs: ClassVar[tuple[str, ...]] = ("x", "slope")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType, slope: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_same_dtype(x, slope)
        self.require(broadcast(x.shape, slope.shape) == x.shape, f"slope {slope} does not broadcast to {x}")
        return (x,)

    def evaluate(self, x: Array, slope: Array) -> Array:  # type: ignore[override]
        return np.where(x >= 0, x, slope * x)

    def decompose(self, b: Builder, x: Value, slope: Value) -> Value:  # type: ignore[override]
        return b.emit(Where(), b.emit(GreaterOrEqual(), x, scalar(b, 0, x)), x, b.emit(Mul(), slope, x))


@operation
class Elu(_Activation):
    """y = x where x > 0, else alpha * (exp(x) - 1). See: ONNX Elu-22."""

    alpha: float = 1.0

    def formula(self, x: Array) -> Array:
        return np.where(x > 0, x, x.dtype.type(self.alpha) * np.expm1(x))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        grown = b.emit(Mul(), b.emit(Sub(), b.emit(Exp(), x), scalar(b, 1.0, x)), scalar(b, self.alpha, x))
        return b.emit(Where(), b.emit(Greater(), x, scalar(b, 0.0, x)), x, grown)


@operation
class Celu(_Activation):
    """y = max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). See: ONNX Celu-12."""

    alpha: float = 1.0

    def formula(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        zero, alpha = scalar(b, 0.0, x), scalar(b, self.alpha, x)
        grown = b.emit(Sub(), b.emit(Exp(), b.emit(Div(), x, alpha)), scalar(b, 1.0, x))
        return b.emit(Add(), b.emit(Max(), x, zero), b.emit(Min(), b.emit(Mul(), grown, alpha), zero))


@operation
class Selu(_Activation):
    """y = gamma * (x where x > 0, else alpha * (exp(x) - 1)). See: ONNX Selu-22; Klambauer et al. 2017."""

    alpha: float = 1.6732632423543772

    def formula(self, x: Array) -> Array:
        kind = x.dtype.type
        return kind(self.gamma) * np.where(x > 0, x, kind(self.alpha) * np.expm1(x))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Mul(), b.emit(Elu(self.alpha), x), scalar(b, self.gamma, x))

    gamma: float = 1.0507009873554805


@operation
class Gelu(_Activation):
    """y = x * Phi(x), Phi the normal distribution function: by erf ("none"), or
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) ("tanh").

    See: ONNX Gelu-20; torch.nn.functional.gelu; keras.activations.gelu.
    """

    approximate: Literal["none", "tanh"] = "none"

    def formula(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))  # type: ignore[no-any-return]
        return 0.5 * x * (1 + erf(x / math.sqrt(2)))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        if self.approximate == "tanh":
            cubic = b.emit(Mul(), b.emit(Mul(), b.emit(Mul(), x, x), x), scalar(b, 0.044715, x))
            inner = b.emit(Mul(), b.emit(Add(), x, cubic), scalar(b, math.sqrt(2 / math.pi), x))
            bend = b.emit(Tanh(), inner)
        else:
            bend = b.emit(Erf(), b.emit(Mul(), x, scalar(b, math.sqrt(0.5), x)))
        return b.emit(Mul(), b.emit(Mul(), x, scalar(b, 0.5, x)), b.emit(Add(), bend, scalar(b, 1.0, x)))


@operation
class Sigmoid(_Activation):
    """y = 1 / (1 + exp(-x)). See: ONNX Sigmoid-13."""

    def formula(self, x: Array) -> Array:
        return _sigmoid(x)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """1 / (1 + exp(-|x|)), times exp(-|x|) below 0, which does not overflow."""
        small = b.emit(Exp(), b.emit(Neg(), b.emit(Abs(), x)))
        one = scalar(b, 1.0, x)
        above = b.emit(GreaterOrEqual(), x, scalar(b, 0.0, x))
        return b.emit(Div(), b.emit(Where(), above, one, small), b.emit(Add(), small, one))


@operation
class LogSigmoid(_Activation):
    """y = log(1 / (1 + exp(-x))) = -softplus(-x). See: torch.nn.LogSigmoid; keras.ops.log_sigmoid."""

    def formula(self, x: Array) -> Array:
        return -_softplus(-x)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Neg(), b.emit(Softplus(), b.emit(Neg(), x)))


@operation
class HardSigmoid(_Activation):
    """y = max(0, min(1, alpha * x + beta)).

    The defaults are ONNX's; torch and Keras 3 use alpha = 1/6, Keras 1 and 2 use alpha = 0.2. See: ONNX HardSigmoid-22.
    """

    alpha: float = 0.2

    def formula(self, x: Array) -> Array:
        kind = x.dtype.type
        return np.clip(kind(self.alpha) * x + kind(self.beta), 0, 1)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        line = b.emit(Add(), b.emit(Mul(), x, scalar(b, self.alpha, x)), scalar(b, self.beta, x))
        return b.emit(Clip(0.0, 1.0), line)

    beta: float = 0.5


@operation
class HardSwish(_Activation):
    """y = x * max(0, min(1, x / 6 + 1/2)). See: ONNX HardSwish-22."""

    def formula(self, x: Array) -> Array:
        return x * np.clip(x / 6 + x.dtype.type(0.5), 0, 1)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Mul(), x, b.emit(HardSigmoid(1 / 6, 0.5), x))


@operation
class Swish(_Activation):
    """y = x * sigmoid(alpha * x); SiLU for alpha = 1. See: ONNX Swish-24; torch.nn.SiLU; keras.activations.silu."""

    alpha: float = 1.0

    def formula(self, x: Array) -> Array:
        return x * _sigmoid(x.dtype.type(self.alpha) * x)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        scaled = x if self.alpha == 1.0 else b.emit(Mul(), x, scalar(b, self.alpha, x))
        return b.emit(Mul(), x, b.emit(Sigmoid(), scaled))


@operation
class Mish(_Activation):
    """y = x * tanh(softplus(x)). See: ONNX Mish-22."""

    def formula(self, x: Array) -> Array:
        return x * np.tanh(_softplus(x))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Mul(), x, b.emit(Tanh(), b.emit(Softplus(), x)))


@operation
class Softplus(_Activation):
    """y = log(1 + exp(x)). See: ONNX Softplus-22."""

    def formula(self, x: Array) -> Array:
        return _softplus(x)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """max(x, 0) + log1p(exp(-|x|)), which neither overflows nor loses digits."""
        rest = b.emit(Log1p(), b.emit(Exp(), b.emit(Neg(), b.emit(Abs(), x))))
        return b.emit(Add(), b.emit(Max(), x, scalar(b, 0.0, x)), rest)


@operation
class Softsign(_Activation):
    """y = x / (1 + |x|). See: ONNX Softsign-22."""

    def formula(self, x: Array) -> Array:
        return x / (1 + np.abs(x))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Div(), x, b.emit(Add(), b.emit(Abs(), x), scalar(b, 1.0, x)))


@operation
class Tanh(_Activation):
    """y = tanh(x). See: ONNX Tanh-13."""

    def formula(self, x: Array) -> Array:
        return np.tanh(x)


@operation
class ThresholdedRelu(_Activation):
    """y = x where x > alpha, else 0. See: ONNX ThresholdedRelu-22."""

    alpha: float = 1.0

    def formula(self, x: Array) -> Array:
        return np.where(x > x.dtype.type(self.alpha), x, x.dtype.type(0))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        zero = scalar(b, 0.0, x)
        return b.emit(Where(), b.emit(Greater(), x, scalar(b, self.alpha, x)), x, zero)


@operation
class Shrink(_Activation):
    """y = x + bias where x < -lambd, x - bias where x > lambd, else 0.

    See: ONNX Shrink-9; torch.nn.Hardshrink (bias 0); torch.nn.Softshrink (bias = lambd).
    """

    lambd: float = 0.5

    def formula(self, x: Array) -> Array:
        kind = x.dtype.type
        high = np.where(x > kind(self.lambd), x - kind(self.bias), kind(0))
        return np.where(x < -kind(self.lambd), x + kind(self.bias), high)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        bias = scalar(b, self.bias, x)
        high = b.emit(
            Where(), b.emit(Greater(), x, scalar(b, self.lambd, x)), b.emit(Sub(), x, bias), scalar(b, 0.0, x)
        )
        return b.emit(Where(), b.emit(Less(), x, scalar(b, -self.lambd, x)), b.emit(Add(), x, bias), high)

    bias: float = 0.0


@operation
class Clip(Op):
    """y = min(max(x, min), max); None leaves a side open. Any real type. NaN stays NaN.

    Differs from ONNX Clip-13: the bounds are attributes (readers emit Max and Min where they are computed).
    """

    min: float | int | None = None
    max: float | int | None = None

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        low = x if self.min is None else np.maximum(x, np.asarray(self.min).astype(x.dtype))
        return low if self.max is None else np.minimum(low, np.asarray(self.max).astype(x.dtype))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        if self.min is None and self.max is None:
            return b.emit(Identity(), x)
        low = x if self.min is None else b.emit(Max(), x, scalar(b, self.min, x))
        return low if self.max is None else b.emit(Min(), low, scalar(b, self.max, x))


@operation
class Softmax(_Activation):
    """y = exp(x) / sum(exp(x)) along `axis`. See: ONNX Softmax-13."""

    axis: int = -1

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        normalize_axis(self.axis, x.rank)
        return (x,)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])

    def formula(self, x: Array) -> Array:
        grown = np.exp(x - np.max(x, self.axis, keepdims=True, initial=-np.inf))
        return grown / np.sum(grown, self.axis, keepdims=True)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        axes = (normalize_axis(self.axis, x.rank),)
        grown = b.emit(Exp(), b.emit(Sub(), x, b.emit(ReduceMax(axes), x)))
        return b.emit(Div(), grown, b.emit(ReduceSum(axes), grown))


@operation
class LogSoftmax(Softmax):
    """y = x - log(sum(exp(x))) along `axis`. See: ONNX LogSoftmax-13."""

    def formula(self, x: Array) -> Array:
        centered = x - np.max(x, self.axis, keepdims=True, initial=-np.inf)
        return centered - np.log(np.sum(np.exp(centered), self.axis, keepdims=True))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        axes = (normalize_axis(self.axis, x.rank),)
        centered = b.emit(Sub(), x, b.emit(ReduceMax(axes), x))
        return b.emit(Sub(), centered, b.emit(Log(), b.emit(ReduceSum(axes), b.emit(Exp(), centered))))


@operation
class Dropout(_Activation):
    """y = x: dropout at inference. `ratio` is kept so that a trainable target can have the layer back."""

    ratio: float = 0.5

    def formula(self, x: Array) -> Array:
        return x

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Identity(), x)
