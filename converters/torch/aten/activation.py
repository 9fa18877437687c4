"""Activation functions and softmax. Each in-place overload stands beside its functional twin."""

from __future__ import annotations

from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Number
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import Op

_PLAIN: dict[str, Op] = {
    "relu6": ops.Clip(0.0, 6.0),
    "selu": ops.Selu(),
    "silu": ops.Swish(),
    "mish": ops.Mish(),
    "hardswish": ops.HardSwish(),
    "hardsigmoid": ops.HardSigmoid(1 / 6, 0.5),
    "log_sigmoid": ops.LogSigmoid(),
    "softsign": ops.Softsign(),
}


def _register(name: str, op: Op) -> None:
    @rules.imports(f"aten.{name}.default", f"aten.{name}_.default")
    def activation(b: Lowering, self: Value) -> Value:
        return b.emit(op, self)

    activation.__doc__ = f"{name}(Tensor self), {name}_(Tensor(a!) self)"


for _name, _op in _PLAIN.items():
    _register(_name, _op)


@rules.imports("aten.relu.default", "aten.relu_.default")
def relu(b: Lowering, self: Value) -> Value:
    """relu(Tensor self); of unsigned integers the identity"""
    return self if self.dtype is DType.UINT8 else b.emit(ops.Relu(), self)


@rules.imports("aten.sigmoid.default", "aten.sigmoid_.default")
def sigmoid(b: Lowering, self: Value) -> Value:
    """sigmoid(Tensor self); integers become float32"""
    return b.emit(ops.Sigmoid(), b.floating(self))


@rules.imports("aten.tanh.default", "aten.tanh_.default")
def tanh(b: Lowering, self: Value) -> Value:
    """tanh(Tensor self); integers become float32"""
    return b.emit(ops.Tanh(), b.floating(self))


@rules.imports("aten.hardtanh.default", "aten.hardtanh_.default")
def hardtanh(b: Lowering, self: Value, min_val: float = -1, max_val: float = 1) -> Value:
    """hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1)"""
    return b.emit(ops.Clip(min_val, max_val), self)


@rules.imports("aten.leaky_relu.default", "aten.leaky_relu_.default")
def leaky_relu(b: Lowering, self: Value, negative_slope: float = 0.01) -> Value:
    """leaky_relu(Tensor self, Scalar negative_slope=0.01)"""
    return b.emit(ops.LeakyRelu(float(negative_slope)), self)


@rules.imports("aten.rrelu.default", "aten.rrelu_.default")
def rrelu(b: Lowering, self: Value, lower: float = 0.125, upper: float = 1 / 3, training: bool = False) -> Value:
    """rrelu(Tensor self, Scalar lower=0.125, Scalar upper=0.333…, bool training=False): the mean slope"""
    b.require(not training, "it is in training mode; call model.eval() before torch.export.export")
    return b.emit(ops.LeakyRelu((float(lower) + float(upper)) / 2), self)


@rules.imports("aten.prelu.default")
def prelu(b: Lowering, self: Value, weight: Value) -> Value:
    """prelu(Tensor self, Tensor weight): a slope for all, or one for each index of axis 1"""
    if weight.shape == (1,) or weight.rank == 0:
        slope = b.reshape(weight, (1,) * max(self.rank, 1)) if self.rank else b.reshape(weight, ())
        return b.emit(ops.PRelu(), self, slope)
    return b.emit(ops.PRelu(), self, b.reshape(weight, (*weight.shape, *(1,) * (self.rank - 2))))


@rules.imports("aten.elu.default", "aten.elu_.default")
def elu(b: Lowering, self: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    """elu(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1)"""
    b.require(scale == 1 and input_scale == 1, f"scale={scale} and input_scale={input_scale} are not expressed")
    return b.emit(ops.Elu(float(alpha)), self)


@rules.imports("aten.celu.default", "aten.celu_.default")
def celu(b: Lowering, self: Value, alpha: float = 1.0) -> Value:
    """celu(Tensor self, Scalar alpha=1.0)"""
    return b.emit(ops.Celu(float(alpha)), self)


@rules.imports("aten.gelu.default", "aten.gelu_.default")
def gelu(b: Lowering, self: Value, approximate: str = "none") -> Value:
    """gelu(Tensor self, *, str approximate='none' | 'tanh')"""
    return b.emit(ops.Gelu("tanh" if approximate == "tanh" else "none"), self)


@rules.imports("aten.softplus.default")
def softplus(b: Lowering, self: Value, beta: float = 1, threshold: float = 20) -> Value:
    """softplus(Tensor self, Scalar beta=1, Scalar threshold=20)

    log(1 + exp(beta * x)) / beta, and x where beta * x > threshold.
    From 17 on, the two branches are one float32 number; the threshold then says nothing below float64.
    """
    scaled = self if beta == 1 else b.emit(ops.Mul(), self, b.number(beta, self.dtype))
    smooth = b.emit(ops.Softplus(), scaled)
    if beta != 1:
        smooth = b.emit(ops.Div(), smooth, b.number(beta, self.dtype))
    if threshold >= 17 and self.dtype is not DType.FLOAT64:
        return smooth
    return b.emit(ops.Where(), b.emit(ops.Greater(), scaled, b.number(threshold, self.dtype)), self, smooth)


@rules.imports("aten.softmax.int", "aten.special_softmax.int")
def softmax(b: Lowering, self: Value, dim: int, dtype: DType | None = None) -> Value:
    """softmax.int(Tensor self, int dim, ScalarType? dtype=None); the type is taken before"""
    x = b.cast(self, dtype) if dtype else b.floating(self)
    return b.reshape(b.emit(ops.Softmax(axis=axis_of(dim, x)), b.lined(x)), x.shape)


@rules.imports("aten._softmax.default")
def decomposed_softmax(b: Lowering, self: Value, dim: int, half_to_float: bool) -> Value:
    """_softmax(Tensor self, int dim, bool half_to_float), as decomposed"""
    return softmax(b, self, dim, DType.FLOAT32 if half_to_float else None)


@rules.imports("aten.log_softmax.int")
def log_softmax(b: Lowering, self: Value, dim: int, dtype: DType | None = None) -> Value:
    """log_softmax.int(Tensor self, int dim, ScalarType? dtype=None)"""
    x = b.cast(self, dtype) if dtype else b.floating(self)
    return b.reshape(b.emit(ops.LogSoftmax(axis=axis_of(dim, x)), b.lined(x)), x.shape)


@rules.imports("aten._log_softmax.default")
def decomposed_log_softmax(b: Lowering, self: Value, dim: int, half_to_float: bool) -> Value:
    """_log_softmax(Tensor self, int dim, bool half_to_float), as decomposed"""
    return log_softmax(b, self, dim, DType.FLOAT32 if half_to_float else None)


@rules.imports("aten.glu.default")
def glu(b: Lowering, self: Value, dim: int = -1) -> Value:
    """glu(Tensor self, int dim=-1): the first half times the sigmoid of the second"""
    axis = axis_of(dim, self)
    half = self.shape[axis] // 2
    value, gate = b.emit_many(ops.Split(axis, (half, half)), self)
    return b.emit(ops.Mul(), value, b.emit(ops.Sigmoid(), gate))


@rules.imports("aten.threshold.default", "aten.threshold_.default")
def threshold(b: Lowering, self: Value, threshold: Number, value: Number) -> Value:
    """threshold(Tensor self, Scalar threshold, Scalar value): value where x <= threshold, else x"""
    low = b.emit(ops.LessOrEqual(), self, b.number(threshold, self.dtype))
    return b.emit(ops.Where(), low, b.number(value, self.dtype), self)


@rules.imports("aten.hardshrink.default")
def hardshrink(b: Lowering, self: Value, lambd: float = 0.5) -> Value:
    """hardshrink(Tensor self, Scalar lambd=0.5)"""
    return b.emit(ops.Shrink(float(lambd), 0.0), self)


@rules.imports("aten.softshrink.default")
def softshrink(b: Lowering, self: Value, lambd: float = 0.5) -> Value:
    """softshrink(Tensor self, Scalar lambd=0.5)"""
    return b.emit(ops.Shrink(float(lambd), float(lambd)), self)
