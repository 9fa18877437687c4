"""Random numbers: drawn anew at each run, as PyTorch draws them, though not the same ones."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.aten.elementwise import both
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Number
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Shape, Sym, Value, ops
from isomorph.ir.op import broadcast

__all__ = ["chosen"]

Sizes = Sequence[Dim]
_TINY = float(np.finfo(np.float32).tiny)
_MOST_INTEGERS = 2**24
"""ONNX states the bounds of a draw in float32, which holds all integers up to here."""


def _uniform(b: Lowering, shape: Sizes, dtype: DType, low: float = 0.0, high: float = 1.0) -> Value:
    return b.emit(ops.RandomUniform(tuple(shape), dtype, float(low), float(high)))


def _normal(b: Lowering, shape: Sizes, dtype: DType, mean: float = 0.0, scale: float = 1.0) -> Value:
    return b.emit(ops.RandomNormal(tuple(shape), dtype, float(mean), float(scale)))


def _register_creation(name: str, *, normal: bool) -> None:
    draw = _normal if normal else _uniform

    @rules.imports(f"aten.{name}.default", f"aten.{name}.generator")
    def drawn(
        b: Lowering,
        size: Sizes,
        generator: object = None,
        dtype: DType | None = None,
        layout: object = None,
        device: object = None,
        pin_memory: object = None,
    ) -> Value:
        return draw(b, size, dtype or DType.FLOAT32)

    @rules.imports(f"aten.{name}_like.default")
    def drawn_like(
        b: Lowering,
        self: Value,
        dtype: DType | None = None,
        layout: object = None,
        device: object = None,
        pin_memory: object = None,
        memory_format: object = None,
    ) -> Value:
        return draw(b, self.shape, dtype or self.dtype)

    drawn.__doc__ = f"{name}(SymInt[] size, *, ScalarType? dtype=None, …)"
    drawn_like.__doc__ = f"{name}_like(Tensor self, *, ScalarType? dtype=None, …)"


_register_creation("rand", normal=False)
_register_creation("randn", normal=True)


def _integers(b: Lowering, low: Number, high: Number, shape: Sizes, dtype: DType) -> Value:
    """floor(u), u uniform in [low, high)."""
    if isinstance(low, Sym) or isinstance(high, Sym):
        raise b.refusal("random integers up to a symbolic size")
    b.require(max(abs(low), abs(high)) <= _MOST_INTEGERS, f"random integers in [{low}, {high})")
    return b.cast(b.emit(ops.Floor(), _uniform(b, shape, DType.FLOAT64, low, high)), dtype)


@rules.imports("aten.randint.default", "aten.randint.low")
def randint(
    b: Lowering,
    high: Number,
    size: Sizes,
    low: Number = 0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """randint.low(SymInt low, SymInt high, SymInt[] size, *, …): integers in [low, high)"""
    return _integers(b, low, high, size, dtype or DType.INT64)


@rules.imports("aten.randint_like.default", "aten.randint_like.low_dtype")
def randint_like(
    b: Lowering,
    self: Value,
    high: Number,
    low: Number = 0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Value:
    """randint_like.low_dtype(Tensor self, SymInt low, SymInt high, *, …)"""
    return _integers(b, low, high, self.shape, dtype or self.dtype)


@rules.imports("aten.randperm.default")
def randperm(
    b: Lowering,
    n: Dim,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """randperm(SymInt n, *, ScalarType? dtype=long, …): the order of n random numbers"""
    _, order = b.emit_many(ops.TopK(n, 0), _uniform(b, (n,), DType.FLOAT32))
    return b.cast(order, dtype or DType.INT64)


@rules.imports("aten.bernoulli.default")
def bernoulli(b: Lowering, self: Value, generator: object = None) -> Value:
    """bernoulli(Tensor self): 1 with the probability that self says"""
    return b.emit(ops.Bernoulli(self.dtype), self)


@rules.imports("aten.bernoulli.p", "aten.bernoulli_.float", "aten.bernoulli_.Tensor", "aten.bernoulli.Tensor")
def bernoulli_of(b: Lowering, self: Value, p: Value | float = 0.5, generator: object = None) -> Value:
    """bernoulli.p(Tensor self, float p), bernoulli_.float(Tensor(a!) self, float p=0.5): in the shape of self"""
    if isinstance(p, Value):
        given = b.floating(p)
        wide = given if given.shape == self.shape else b.emit(ops.Expand(self.shape), given)
        return b.emit(ops.Bernoulli(self.dtype), wide)
    return chosen(b, self.shape, p, self.dtype)


def chosen(b: Lowering, shape: Shape, p: float, dtype: DType) -> Value:
    """1 with the probability p, else 0."""
    below = b.emit(ops.Less(), _uniform(b, shape, DType.FLOAT32), b.number(float(p), DType.FLOAT32))
    return b.cast(below, dtype)


@rules.imports("aten.multinomial.default")
def multinomial(
    b: Lowering, self: Value, num_samples: int, replacement: bool = False, generator: object = None
) -> Value:
    """multinomial(Tensor self, SymInt num_samples, bool replacement=False): indices, drawn by the weights self (B?, C)

    Without replacement: the classes with the largest weight / e, e exponential.
    """
    count = b.static(num_samples, "the number of samples")
    weights = b.cast(self, DType.FLOAT32)
    if replacement:
        rows = weights if self.rank == 2 else b.emit(ops.Unsqueeze((0,)), weights)
        drawn = b.emit(ops.Multinomial(count), b.emit(ops.Log(), rows))
        return drawn if self.rank == 2 else b.emit(ops.Squeeze((0,)), drawn)
    scores = b.emit(ops.Div(), weights, _exponential(b, self.shape, DType.FLOAT32, 1.0))
    return b.emit_many(ops.TopK(count, self.rank - 1), scores)[1]


def _exponential(b: Lowering, shape: Shape, dtype: DType, rate: float) -> Value:
    """-log(u) / rate"""
    drawn = b.emit(ops.Neg(), b.emit(ops.Log(), _uniform(b, shape, dtype, _TINY)))
    return drawn if rate == 1 else b.emit(ops.Div(), drawn, b.number(float(rate), dtype))


@rules.imports("aten.normal.float_float")
def normal(
    b: Lowering,
    mean: float,
    std: float,
    size: Sizes,
    generator: object = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """normal.float_float(float mean, float std, SymInt[] size, *, …)"""
    return _normal(b, size, dtype or DType.FLOAT32, mean, std)


@rules.imports("aten.normal.Tensor_float", "aten.normal.float_Tensor", "aten.normal.Tensor_Tensor")
def normal_of_tensors(
    b: Lowering, mean: Value | float = 0.0, std: Value | float = 1.0, generator: object = None
) -> Value:
    """normal.Tensor_Tensor(Tensor mean, Tensor std): mean + std z"""
    given = [each for each in (mean, std) if isinstance(each, Value)]
    dtype = given[0].dtype
    drawn = _normal(b, broadcast(*(each.shape for each in given)), dtype)
    return b.emit(ops.Add(), b.emit(ops.Mul(), drawn, b.operand(std, dtype)), b.operand(mean, dtype))


@rules.imports("aten.normal_.default", "aten.normal_functional.default")
def normal_in_place(b: Lowering, self: Value, mean: float = 0.0, std: float = 1.0, generator: object = None) -> Value:
    """normal_(Tensor(a!) self, float mean=0, float std=1)"""
    return _normal(b, self.shape, self.dtype, mean, std)


def uniform_in_place(b: Lowering, self: Value, **bounds: float) -> Value:
    """uniform_(Tensor(a!) self, float from=0, float to=1)"""
    return _uniform(b, self.shape, self.dtype, bounds.get("from", 0.0), bounds.get("to", 1.0))


def _stated(name: str, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY, default=default)


uniform_in_place.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        _stated("b", inspect.Parameter.empty),
        _stated("self", inspect.Parameter.empty),
        _stated("from", 0.0),  # a keyword of Python
        _stated("to", 1.0),
        _stated("generator", None),
    ]
)
rules.imports("aten.uniform_.default", "aten.uniform.default")(uniform_in_place)


@rules.imports(*both("exponential", "default"))
def exponential(b: Lowering, self: Value, lambd: float = 1.0, generator: object = None) -> Value:
    """exponential_(Tensor(a!) self, float lambd=1)"""
    return _exponential(b, self.shape, self.dtype, lambd)


@rules.imports(*both("log_normal", "default"))
def log_normal(b: Lowering, self: Value, mean: float = 1.0, std: float = 2.0, generator: object = None) -> Value:
    """log_normal_(Tensor(a!) self, float mean=1, float std=2): exp of normal numbers"""
    return b.emit(ops.Exp(), _normal(b, self.shape, self.dtype, mean, std))


@rules.imports(*both("cauchy", "default"))
def cauchy(b: Lowering, self: Value, median: float = 0.0, sigma: float = 1.0, generator: object = None) -> Value:
    """cauchy_(Tensor(a!) self, float median=0, float sigma=1): median + sigma tan(pi (u - 1/2))"""
    angle = _uniform(b, self.shape, self.dtype, -np.pi / 2, np.pi / 2)
    spread = b.emit(ops.Mul(), b.emit(ops.Tan(), angle), b.number(float(sigma), self.dtype))
    return b.emit(ops.Add(), spread, b.number(float(median), self.dtype))


@rules.imports(*both("geometric", "default"))
def geometric(b: Lowering, self: Value, p: float, generator: object = None) -> Value:
    """geometric_(Tensor(a!) self, float p): ceil(log(u) / log(1 - p)), trials up to the first success"""
    b.require(0 < p < 1, f"a probability of {p}")
    drawn = b.emit(ops.Log(), _uniform(b, self.shape, DType.FLOAT32, _TINY))
    trials = b.emit(ops.Ceil(), b.emit(ops.Div(), drawn, b.number(float(np.log1p(-p)), DType.FLOAT32)))
    return b.cast(trials, self.dtype)
