"""Complex functions that are composed of others: logarithms, truth, sums of products, selections."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import inspect
import math
from functools import wraps
from typing import Any

from isomorph.converters.torch.aten.complex import PARTS, AnyNumber, AnyOperand, Complex
from isomorph.converters.torch.aten.complex_elementwise import add, div, log, mul, multiplied
from isomorph.converters.torch.aten.complex_linear import matmul, mean
from isomorph.converters.torch.aten.complex_partwise import variances
from isomorph.converters.torch.aten.index import expanded
from isomorph.converters.torch.aten.search import selected
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules, rules
from isomorph.ir import DType, Op, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import elements


def _register_log(name: str, base: float) -> None:
    @complex_rules.imports(f"aten.{name}.default", f"aten.{name}_.default")
    def logarithm(b: Lowering, self: Complex) -> Complex:
        made = log(b, self)
        factor = b.number(1 / math.log(base), PARTS[made.dtype])
        return made.each(b, lambda x: b.emit(ops.Mul(), x, factor))

    logarithm.__doc__ = f"{name}(Tensor self): log(z) / log({base})"


_register_log("log2", 2)
_register_log("log10", 10)


def _truth(b: Lowering, x: Complex | Value) -> Value:
    """Whether a number is not 0."""
    if isinstance(x, Value):
        return b.cast(x, DType.BOOL)
    return b.emit(ops.Or(), *(b.cast(part, DType.BOOL) for part in x.parts(b)))


@complex_rules.imports("aten.logical_not.default")
def logical_not(b: Lowering, self: Complex) -> Value:
    """logical_not(Tensor self): whether both parts are 0"""
    return b.emit(ops.Not(), _truth(b, self))


def _register_of_truth(target: str) -> None:
    """Operations that see of a number only whether it is 0."""
    rule = rules.importer(target)
    if rule is None:
        return

    @complex_rules.imports(target)
    @wraps(rule)
    def of_truth(b: Lowering, self: Complex, **arguments: Any) -> Any:
        assert rule is not None
        return rule(b, _truth(b, self), **arguments)


for _name in (
    "all.default", "all.dim", "all.dims", "any.default", "any.dim", "any.dims", "nonzero.default", "argwhere.default",
    "nonzero_numpy.default", "nonzero_static.default", "count_nonzero.default", "count_nonzero.dim_IntList",
):  # fmt: skip
    _register_of_truth(f"aten.{_name}")


def _register_logic(name: str, op: Op) -> None:
    @complex_rules.imports(f"aten.{name}.default")
    def logic(b: Lowering, self: Complex | Value, other: Complex | Value) -> Value:
        return b.emit(op, _truth(b, self), _truth(b, other))

    logic.__doc__ = f"{name}(Tensor self, Tensor other)"


_register_logic("logical_and", ops.And())
_register_logic("logical_or", ops.Or())
_register_logic("logical_xor", ops.Xor())


@complex_rules.imports("aten.addcmul.default", "aten.addcmul_.default")
def addcmul(b: Lowering, self: AnyOperand, tensor1: AnyOperand, tensor2: AnyOperand, value: AnyNumber = 1) -> Complex:
    """addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1): self + value tensor1 tensor2"""
    return add(b, self, mul(b, tensor1, tensor2), value)


@complex_rules.imports("aten.addcdiv.default", "aten.addcdiv_.default")
def addcdiv(b: Lowering, self: AnyOperand, tensor1: AnyOperand, tensor2: AnyOperand, value: AnyNumber = 1) -> Complex:
    """addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1): self + value tensor1 / tensor2"""
    return add(b, self, div(b, tensor1, tensor2), value)


def _added(b: Lowering, addend: Complex, product: Complex, beta: complex, alpha: complex) -> Complex:
    part = PARTS[product.dtype]
    if beta == 0:
        return product if alpha == 1 else multiplied(b, product, alpha, part)
    return add(b, addend if beta == 1 else multiplied(b, addend, beta, part), product, alpha)


@complex_rules.imports("aten.addr.default", "aten.addr_.default")
def addr(b: Lowering, self: Complex, vec1: Complex, vec2: Complex, beta: complex = 1, alpha: complex = 1) -> Complex:
    """addr(Tensor self, Tensor vec1, Tensor vec2, *, beta=1, alpha=1): beta self + alpha vec1 vec2^T"""
    real, imaginary = (b.emit(ops.Unsqueeze((1,)), part) for part in vec1.parts(b))
    return _added(b, self, mul(b, Complex(None, (real, imaginary)), vec2), beta, alpha)


@complex_rules.imports("aten.addbmm.default", "aten.addbmm_.default")
def addbmm(
    b: Lowering, self: Complex, batch1: Complex, batch2: Complex, beta: complex = 1, alpha: complex = 1
) -> Complex:
    """addbmm(Tensor self, Tensor batch1, Tensor batch2, *, beta=1, alpha=1): beta self + alpha sum_n batch1 batch2"""
    products = matmul(b, batch1, batch2)
    real, imaginary = (b.emit(ops.ReduceSum((0,), keepdims=False), part) for part in products.parts(b))
    return _added(b, self, Complex(None, (real, imaginary)), beta, alpha)


@complex_rules.imports("aten.masked_select.default")
def masked_select(b: Lowering, self: Complex, mask: Value) -> Complex:
    """masked_select(Tensor self, Tensor mask): the elements of self, in C order, where mask is True; broadcast"""
    shape = broadcast(self.shape, mask.shape)
    pairs = expanded(b, self.pair(b), (*shape, 2))
    return Complex(selected(b, b.reshape(pairs, (elements(shape), 2)), mask, shape))


def _register_spread(name: str, overload: str) -> None:
    variance = variances[overload]

    @complex_rules.imports(f"aten.{name}_mean.{overload}")
    def spread(b: Lowering, self: Complex, **arguments: Any) -> tuple[Value, Complex]:
        made = variance(b, self, **arguments)
        middle = mean(b, self, arguments.get("dim"), bool(arguments.get("keepdim", False)))
        return made if name == "var" else b.emit(ops.Sqrt(), made), middle

    spread.__doc__ = f"{name}_mean.{overload}(Tensor self, …) -> (Tensor of real numbers, mean)"
    spread.__signature__ = inspect.signature(variance)  # type: ignore[attr-defined]


def _register_deviation(overload: str) -> None:
    variance = variances[overload]

    @complex_rules.imports(f"aten.std.{overload}")
    def deviation(b: Lowering, self: Complex, **arguments: Any) -> Value:
        return b.emit(ops.Sqrt(), variance(b, self, **arguments))

    deviation.__doc__ = f"std.{overload}(Tensor self, …): the square root of var"
    deviation.__signature__ = inspect.signature(variance)  # type: ignore[attr-defined]


for _overload in variances:
    _register_deviation(_overload)
    for _name in ("var", "std"):
        _register_spread(_name, _overload)
