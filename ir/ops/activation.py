"""Activation functions, softmax, and dropout in its inference form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from isomorph.errors import DTypeError
from isomorph.ir.layout import LayoutRule, Perm, inverse
from isomorph.ir.op import Op, TensorType, broadcast, normalize_axis

__all__ = [
    "Celu", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSigmoid", "LogSoftmax", "Mish", "PRelu", "Relu",
    "Selu", "Shrink", "Sigmoid", "Softmax", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Activation(Op):
    """Base: x (any shape, floating point) -> y of the same type, element by element."""

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (x,)


@dataclass(frozen=True, slots=True)
class Relu(Op):
    """y = max(x, 0), also for signed integers. See: ONNX Relu-14."""

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if not (x.dtype.is_float or x.dtype.is_signed_integer):
            raise DTypeError(f"Relu: a signed operand is needed, not {x.dtype}")
        return (x,)


@dataclass(frozen=True, slots=True)
class LeakyRelu(_Activation):
    """y = x where x >= 0, else alpha * x. See: ONNX LeakyRelu-16."""

    alpha: float = 0.01


@dataclass(frozen=True, slots=True)
class PRelu(Op):
    """y = x where x >= 0, else slope * x; slope broadcasts to x as in NumPy. See: ONNX PRelu-16."""

    inputs: ClassVar[tuple[str, ...]] = ("x", "slope")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType, slope: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_same_dtype(x, slope)
        self.require(broadcast(x.shape, slope.shape) == x.shape, f"slope {slope} does not broadcast to {x}")
        return (x,)


@dataclass(frozen=True, slots=True)
class Elu(_Activation):
    """y = x where x > 0, else alpha * (exp(x) - 1). See: ONNX Elu-22."""

    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Celu(_Activation):
    """y = max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). See: ONNX Celu-12."""

    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Selu(_Activation):
    """y = gamma * (x where x > 0, else alpha * (exp(x) - 1)). See: ONNX Selu-22; Klambauer et al. 2017."""

    alpha: float = 1.6732632423543772
    gamma: float = 1.0507009873554805


@dataclass(frozen=True, slots=True)
class Gelu(_Activation):
    """y = x * Phi(x), Phi the normal distribution function: by erf ("none"), or
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) ("tanh").

    See: ONNX Gelu-20; torch.nn.functional.gelu; keras.activations.gelu.
    """

    approximate: Literal["none", "tanh"] = "none"


@dataclass(frozen=True, slots=True)
class Sigmoid(_Activation):
    """y = 1 / (1 + exp(-x)). See: ONNX Sigmoid-13."""


@dataclass(frozen=True, slots=True)
class LogSigmoid(_Activation):
    """y = log(1 / (1 + exp(-x))) = -softplus(-x). See: torch.nn.LogSigmoid; keras.ops.log_sigmoid."""


@dataclass(frozen=True, slots=True)
class HardSigmoid(_Activation):
    """y = max(0, min(1, alpha * x + beta)).

    The defaults are ONNX's; torch and Keras 3 use alpha = 1/6, Keras 1 and 2 use alpha = 0.2. See: ONNX HardSigmoid-22.
    """

    alpha: float = 0.2
    beta: float = 0.5


@dataclass(frozen=True, slots=True)
class HardSwish(_Activation):
    """y = x * max(0, min(1, x / 6 + 1/2)). See: ONNX HardSwish-22."""


@dataclass(frozen=True, slots=True)
class Swish(_Activation):
    """y = x * sigmoid(alpha * x); SiLU for alpha = 1. See: ONNX Swish-24; torch.nn.SiLU; keras.activations.silu."""

    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Mish(_Activation):
    """y = x * tanh(softplus(x)). See: ONNX Mish-22."""


@dataclass(frozen=True, slots=True)
class Softplus(_Activation):
    """y = log(1 + exp(x)). See: ONNX Softplus-22."""


@dataclass(frozen=True, slots=True)
class Softsign(_Activation):
    """y = x / (1 + |x|). See: ONNX Softsign-22."""


@dataclass(frozen=True, slots=True)
class Tanh(_Activation):
    """y = tanh(x). See: ONNX Tanh-13."""


@dataclass(frozen=True, slots=True)
class ThresholdedRelu(_Activation):
    """y = x where x > alpha, else 0. See: ONNX ThresholdedRelu-22."""

    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Shrink(_Activation):
    """y = x + bias where x < -lambd, x - bias where x > lambd, else 0. See: ONNX Shrink-9; torch hardshrink, softshrink."""

    lambd: float = 0.5
    bias: float = 0.0


@dataclass(frozen=True, slots=True)
class Clip(Op):
    """y = min(max(x, min), max); None leaves a side open. Any real type. NaN stays NaN.

    Differs from ONNX Clip-13: the bounds are attributes (readers emit Max and Min where they are computed).
    """

    min: float | int | None = None
    max: float | int | None = None

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (x,)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class LogSoftmax(Softmax):
    """y = x - log(sum(exp(x))) along `axis`. See: ONNX LogSoftmax-13."""


@dataclass(frozen=True, slots=True)
class Dropout(_Activation):
    """y = x: dropout at inference. `ratio` is kept so that a trainable target can have the layer back."""

    ratio: float = 0.5
