"""Moving the elements of complex tensors: the rules of real tensors, applied to the pairs or to both parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from isomorph.converters.torch.aten import (  # noqa: F401 (their rules are registered first)
    create,
    diagonal,
    elementwise,
    index,
    pad,
    rearrange,
    search,
    split,
)
from isomorph.converters.torch.aten import shape as _shape  # noqa: F401
from isomorph.converters.torch.aten.complex import Complex, as_complex, real_dtype, recorded_parts
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules, rules
from isomorph.ir import Dim, Value, ops
from isomorph.ir.op import broadcast

__all__ = ["expanded"]

Arguments = Mapping[str, Any]
Adapt = Callable[[Complex, Arguments], Arguments | None]


def _axes(z: Complex, given: Any) -> Any:
    """Nonnegative axes, so that the axis of the pairs is not among them."""
    rank = max(z.rank, 1)
    return tuple(axis % rank for axis in given) if isinstance(given, Sequence) else given % rank


def _along(*names: str, **defaults: Any) -> Adapt:
    """The named arguments, or their defaults, are axes."""

    def adapt(z: Complex, arguments: Arguments) -> Arguments:
        stated = {**defaults, **arguments}
        return {**stated, **{name: _axes(z, stated[name]) for name in names if stated.get(name) is not None}}

    return adapt


def _sized(name: str, last: int) -> Adapt:
    """The named argument lists sizes or counts for all axes; that of the pairs gets `last`."""

    def adapt(z: Complex, arguments: Arguments) -> Arguments:
        if name in arguments:
            return {**arguments, name: (*arguments[name], last)}
        return arguments

    return adapt


def _viewed(z: Complex, arguments: Arguments) -> Arguments:
    name = "size" if "size" in arguments else "shape"
    return {**arguments, name: (*arguments[name], 2)}


def _permuted(z: Complex, arguments: Arguments) -> Arguments:
    return {"dims": (*_axes(z, arguments["dims"]), z.rank)}


def _unsqueezed(z: Complex, arguments: Arguments) -> Arguments:
    return {"dim": arguments["dim"] % (z.rank + 1)}


def _rolled(z: Complex, arguments: Arguments) -> Arguments | None:
    return {**arguments, "dims": _axes(z, arguments["dims"])} if arguments.get("dims") else None


def _squeezed(z: Complex, arguments: Arguments) -> Arguments:
    dims = arguments["dim"] if arguments.get("dim") is not None else tuple(range(z.rank))
    return {"dim": _axes(z, dims)}


def _padded(z: Complex, arguments: Arguments) -> Arguments | None:
    return None if arguments.get("value") else {**arguments, "pad": (0, 0, *arguments["pad"])}


def _of_parts(z: Complex, arguments: Arguments) -> None:
    """The pairs' axis would be in the way."""


_SAME: Adapt = lambda z, arguments: arguments  # noqa: E731

_MOVES: dict[str, Adapt] = {
    "aten.view.default": _viewed,
    "aten.reshape.default": _viewed,
    "aten._unsafe_view.default": _viewed,
    "aten.flatten.using_ints": _along("start_dim", "end_dim", start_dim=0, end_dim=-1),
    "aten.unflatten.int": _along("dim"),
    "aten.permute.default": _permuted,
    "aten.transpose.int": _along("dim0", "dim1"),
    "aten.swapaxes.default": _along("axis0", "axis1"),
    "aten.t.default": _of_parts,
    "aten.numpy_T.default": _of_parts,
    "aten.mT.default": _of_parts,
    "aten.movedim.int": _along("source", "destination"),
    "aten.movedim.intlist": _along("source", "destination"),
    "aten.squeeze.default": _squeezed,
    "aten.squeeze.dim": _squeezed,
    "aten.squeeze.dims": _squeezed,
    "aten.unsqueeze.default": _unsqueezed,
    "aten.expand.default": _sized("size", -1),
    "aten.repeat.default": _sized("repeats", 1),
    "aten.tile.default": _sized("dims", 1),
    "aten.repeat_interleave.self_int": _of_parts,
    "aten.chunk.default": _along("dim", dim=0),
    "aten.split.Tensor": _along("dim", dim=0),
    "aten.split_with_sizes.default": _along("dim", dim=0),
    "aten.split.sizes": _along("dim", dim=0),
    "aten.tensor_split.sections": _along("dim", dim=0),
    "aten.unbind.int": _along("dim", dim=0),
    "aten.select.int": _along("dim"),
    "aten.slice.Tensor": _along("dim", dim=0),
    "aten.narrow.default": _along("dim"),
    "aten.pad.default": _padded,
    "aten.constant_pad_nd.default": _padded,
    "aten.flip.default": _along("dims"),
    "aten.fliplr.default": _SAME,
    "aten.flipud.default": _SAME,
    "aten.roll.default": _rolled,
    "aten.rot90.default": _of_parts,
    "aten.diagonal.default": _of_parts,
    "aten.tril.default": _of_parts,
    "aten.triu.default": _of_parts,
    "aten.gather.default": _of_parts,
    "aten.take.default": _of_parts,
    "aten.index_select.default": _along("dim"),
    "aten.index.Tensor": _SAME,
    "aten.contiguous.default": _SAME,
    "aten.clone.default": _SAME,
    "aten.detach.default": _SAME,
    "aten.alias.default": _SAME,
    "aten.lift_fresh_copy.default": _SAME,
}
"""How the arguments of a move read for pairs (…, 2). If they cannot, or there are no pairs, the parts are moved."""


def _register_move(target: str, adapt: Adapt) -> None:
    rule = rules.importer(target)
    if rule is None:
        return

    @complex_rules.imports(target)
    @wraps(rule)
    def moved(b: Lowering, self: Complex, **arguments: Any) -> Any:
        assert rule is not None
        changed = None if self.value is None or not self.rank else adapt(self, arguments)
        if self.value is not None and changed is not None:
            with recorded_parts(b, 2):
                found = rule(b, self.value, **changed)
            return Complex(found) if isinstance(found, Value) else [Complex(each) for each in found if each]
        parts = self.parts(b)
        filled = arguments.get("value") or 0  # of a pad: a complex number, or a real one
        given = [{**arguments, "value": each} for each in (filled.real, filled.imag)] if filled else [arguments] * 2
        with recorded_parts(b):
            both = [rule(b, part, **each) for part, each in zip(parts, given, strict=True)]
        if isinstance(both[0], Value):
            return Complex(None, (both[0], both[1]))  # type: ignore[arg-type]
        return [Complex(None, pair) for pair in zip(*both, strict=True)]


for _target, _adapt in _MOVES.items():
    _register_move(_target, _adapt)


@complex_rules.imports("aten.view_as.default", "aten.reshape_as.default")
def view_as(b: Lowering, self: Complex, other: Complex | Value) -> Complex:
    """view_as(Tensor self, Tensor other)"""
    if self.value is not None:
        return Complex(b.reshape(self.value, (*other.shape, 2)))
    return self.each(b, lambda x: b.reshape(x, other.shape))


@complex_rules.imports("aten.expand_as.default")
def expand_as(b: Lowering, self: Complex | Value, other: Complex | Value) -> Complex | Value:
    """expand_as(Tensor self, Tensor other)"""
    if isinstance(self, Value):
        return self if self.shape == other.shape else b.emit(ops.Expand(other.shape), self)
    return expanded(b, self, other.shape)


def expanded(b: Lowering, z: Complex, shape: Sequence[Dim]) -> Complex:
    """z broadcast to a shape."""
    if z.shape == tuple(shape):
        return z
    if z.value is not None:
        return Complex(b.emit(ops.Expand((*shape, 2)), z.value))
    return z.each(b, lambda x: b.emit(ops.Expand(tuple(shape)), x))


@complex_rules.imports("aten.mH.default", "aten.adjoint.default")
def adjoint(b: Lowering, self: Complex) -> Complex:
    """mH(Tensor self): the last two axes exchanged, conjugated"""
    real, imaginary = self.parts(b)
    order = (*range(self.rank - 2), self.rank - 1, self.rank - 2)
    turned = b.emit(ops.Neg(), b.emit(ops.Transpose(order), imaginary))
    return Complex(None, (b.emit(ops.Transpose(order), real), turned))


@rules.imports("aten.resolve_conj.default", "aten.resolve_neg.default", "aten.conj.default", "aten._conj.default",
               "aten.conj_physical.default", "aten.conj_physical_.default")  # fmt: skip
def of_real(b: Lowering, self: Value) -> Value:
    """resolve_neg(Tensor self), conj(Tensor self): of real numbers the same ones"""
    return self


@complex_rules.imports("aten.resolve_conj.default", "aten.resolve_neg.default")
def resolved(b: Lowering, self: Complex) -> Complex:
    """resolve_conj(Tensor self): the same numbers; the IR has no lazy conjugation"""
    return self


def _joined(b: Lowering, tensors: Sequence[Complex | Value]) -> list[Complex]:
    part = real_dtype(b, *tensors)
    return [as_complex(b, each, part) for each in tensors]


@complex_rules.imports("aten.cat.default", "aten.concat.default")
def cat(b: Lowering, tensors: Sequence[Complex | Value], dim: int = 0) -> Complex:
    """cat(Tensor[] tensors, int dim=0)"""
    kept = _joined(b, [each for each in tensors if each.shape != (0,)] or tensors[:1])
    axis = dim % kept[0].rank
    if all(each.value is None for each in kept):
        both = zip(*(each.parts(b) for each in kept), strict=True)
        return Complex(None, tuple(b.emit(ops.Concat(axis), *part) for part in both))  # type: ignore[arg-type]
    return Complex(b.emit(ops.Concat(axis), *(each.pair(b) for each in kept)))


@complex_rules.imports("aten.stack.default")
def stack(b: Lowering, tensors: Sequence[Complex | Value], dim: int = 0) -> Complex:
    """stack(Tensor[] tensors, int dim=0)"""
    kept = _joined(b, tensors)
    axis = dim % (kept[0].rank + 1)
    return cat(b, [each.each(b, lambda x: b.emit(ops.Unsqueeze((axis,)), x)) for each in kept], axis)


@complex_rules.imports("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf")
def where(b: Lowering, condition: Value, self: Complex | Value | complex, other: Complex | Value | complex) -> Complex:
    """where.self(Tensor condition, Tensor self, Tensor other)"""
    part = real_dtype(b, self, other)
    left, right = as_complex(b, self, part), as_complex(b, other, part)
    if left.value is None and right.value is None:
        both = zip(left.parts(b), right.parts(b), strict=True)
        return Complex(None, tuple(b.emit(ops.Where(), condition, x, y) for x, y in both))  # type: ignore[arg-type]
    chosen = b.emit(ops.Unsqueeze((condition.rank,)), condition)
    return Complex(b.emit(ops.Where(), chosen, left.pair(b), right.pair(b)))


@complex_rules.imports("aten.masked_fill.Scalar", "aten.masked_fill.Tensor", "aten.masked_fill_.Scalar")
def masked_fill(b: Lowering, self: Complex, mask: Value, value: Complex | Value | complex) -> Complex:
    """masked_fill.Scalar(Tensor self, Tensor mask, Scalar value)"""
    return where(b, mask, value, self)


@complex_rules.imports("aten.broadcast_tensors.default")
def broadcast_tensors(b: Lowering, tensors: Sequence[Complex | Value]) -> list[Complex | Value]:
    """broadcast_tensors(Tensor[] tensors): all in their common shape; real ones stay real"""
    common = broadcast(*(each.shape for each in tensors))
    return [
        expanded(b, each, common) if isinstance(each, Complex) else index.expanded(b, each, common) for each in tensors
    ]
