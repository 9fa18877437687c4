"""Operations that cut tensors."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.shapes import ceil_div

Sizes = Sequence[Dim]

_LAST = 2**63 - 1


def _split(b: Lowering, x: Value, axis: int, sizes: Sizes) -> Sequence[Value]:
    return b.emit_many(ops.Split(axis, tuple(sizes)), x)


def _even(b: Lowering, x: Value, axis: int, size: Dim) -> Sequence[Value]:
    total = b.static(x.shape[axis], "the axis that is split")
    length = max(b.static(size, "the size of the pieces"), 1)
    b.require(
        max(-(-total // length), 1) == len(b.recorded), f"{len(b.recorded)} pieces of {length} do not make up {total}"
    )
    sizes = [min(length, total - start) for start in range(0, total, length)] or [0]
    return _split(b, x, axis, sizes)


@rules.imports("aten.chunk.default", "aten.unsafe_chunk.default")
def chunk(b: Lowering, self: Value, chunks: int, dim: int = 0) -> Sequence[Value]:
    """chunk(Tensor self, int chunks, int dim=0): pieces of ceil(size / chunks), the last one smaller"""
    axis = axis_of(dim, self)
    if isinstance(self.shape[axis], Sym):
        return _split(b, self, axis, _recorded_sizes(b, axis))
    return _even(b, self, axis, ceil_div(self.shape[axis], chunks))


@rules.imports("aten.split.Tensor", "aten.unsafe_split.Tensor")
def split(b: Lowering, self: Value, split_size: Dim, dim: int = 0) -> Sequence[Value]:
    """split.Tensor(Tensor self, SymInt split_size, int dim=0): pieces of split_size, the last one smaller"""
    axis = axis_of(dim, self)
    if isinstance(self.shape[axis], Sym):
        return _split(b, self, axis, _recorded_sizes(b, axis))
    return _even(b, self, axis, split_size)


def _recorded_sizes(b: Lowering, axis: int) -> Sizes:
    """What torch recorded for the pieces of a symbolic axis."""
    sizes = []
    for kind in b.recorded:
        if kind is None or kind.rank <= axis:
            raise b.refusal("the sizes of the pieces are not known")
        sizes.append(kind.shape[axis])
    return sizes


@rules.imports("aten.split_with_sizes.default", "aten.split.sizes", "aten.unsafe_split_with_sizes.default")
def split_with_sizes(
    b: Lowering, self: Value, split_sizes: Sizes | None = None, dim: int = 0, split_size: Sizes | None = None
) -> Sequence[Value]:
    """split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=0)"""
    return _split(b, self, axis_of(dim, self), split_sizes if split_sizes is not None else split_size or ())


@rules.imports("aten.tensor_split.sections", "aten.tensor_split.indices")
def tensor_split(
    b: Lowering, self: Value, sections: int | None = None, dim: int = 0, indices: Sizes | None = None
) -> Sequence[Value]:
    """tensor_split.sections(Tensor self, SymInt sections, int dim=0): the first pieces are one longer, if it must be"""
    axis = axis_of(dim, self)
    size = b.static(self.shape[axis], "the axis that is split")
    if sections is not None:
        return _split(b, self, axis, [size // sections + (place < size % sections) for place in range(sections)])
    stated = [b.static(place, "a place to split at") for place in indices or ()]
    places = [min(max(place + size if place < 0 else place, 0), size) for place in stated]
    pairs = list(pairwise([0, *places, size]))
    b.require(all(begin <= end for begin, end in pairs), f"places {stated} that are not in order")
    return _split(b, self, axis, [end - begin for begin, end in pairs])


@rules.imports("aten.tensor_split.tensor_indices_or_sections")
def tensor_split_at(b: Lowering, self: Value, tensor_indices_or_sections: Value, dim: int = 0) -> Sequence[Value]:
    """tensor_split.tensor_indices_or_sections(Tensor self, Tensor tensor_indices_or_sections, int dim=0): a constant"""
    parameter = tensor_indices_or_sections.parameter
    if parameter is None:
        raise b.refusal("places to split at that are computed")
    places = parameter.data.numpy()
    if places.ndim == 0:
        return tensor_split(b, self, int(places), dim)
    return tensor_split(b, self, None, dim, tuple(int(place) for place in places))


def _register_apart(name: str, axis: int) -> None:
    @rules.imports(f"aten.{name}.int", f"aten.{name}.array")
    def split_apart(
        b: Lowering, self: Value, sections: int | None = None, indices: Sizes | None = None
    ) -> Sequence[Value]:
        return tensor_split(b, self, sections, axis if self.rank > axis else 0, indices)

    split_apart.__doc__ = f"{name}.int(Tensor self, int sections), {name}.array(Tensor self, int[] indices)"


for _name, _axis in (("hsplit", 1), ("vsplit", 0), ("dsplit", 2)):
    _register_apart(_name, _axis)


@rules.imports("aten.unbind.int")
def unbind(b: Lowering, self: Value, dim: int = 0) -> Sequence[Value]:
    """unbind.int(Tensor self, int dim=0)"""
    axis = axis_of(dim, self)
    pieces = _even(b, self, axis, 1)
    return [b.emit(ops.Squeeze((axis,)), piece) for piece in pieces]


@rules.imports("aten.select.int")
def select(b: Lowering, self: Value, dim: int, index: Dim) -> Value:
    """select.int(Tensor self, int dim, SymInt index): the elements at one index, without the axis"""
    axis = axis_of(dim, self)
    end = None if index == -1 else index + 1
    return b.emit(ops.Squeeze((axis,)), b.emit(ops.Slice((axis,), (index,), (end,), (1,)), self))


@rules.imports("aten.slice.Tensor")
def slice_axis(
    b: Lowering, self: Value, dim: int = 0, start: Dim | None = None, end: Dim | None = None, step: int = 1
) -> Value:
    """slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)"""
    axis = axis_of(dim, self)
    size = self.shape[axis]
    start, end = (None if bound is None else _from_front(bound, size) for bound in (start, end))
    stop = None if end is None or end in (_LAST, size) else end
    begin = 0 if start is None else start
    if isinstance(stop, int) and isinstance(size, int) and stop >= size:
        stop = None
    if begin == 0 and stop is None and step == 1:
        return self
    return b.emit(ops.Slice((axis,), (begin,), (stop,), (step,)), self)


def _from_front(bound: Dim, size: Dim) -> Dim:
    """A symbolic bound that is negative whatever the sizes are (x[:, -n:]), counted from the front."""
    if isinstance(bound, Sym) and all(
        factor < 0 and all(atom.op == "dim" for atom in product) for product, factor in bound.terms
    ):
        return bound + size
    return bound


@rules.imports("aten.narrow.default")
def narrow(b: Lowering, self: Value, dim: int, start: Dim, length: Dim) -> Value:
    """narrow(Tensor self, int dim, SymInt start, SymInt length)"""
    axis = axis_of(dim, self)
    begin = start + self.shape[axis] if isinstance(start, int) and start < 0 else _from_front(start, self.shape[axis])
    return b.emit(ops.Slice((axis,), (begin,), (begin + length,), (1,)), self)


@rules.imports("aten.narrow.Tensor")
def narrow_at(b: Lowering, self: Value, dim: int, start: Value, length: Dim) -> Value:
    """narrow.Tensor(Tensor self, int dim, Tensor start, SymInt length): start is an integer of shape ()"""
    axis = axis_of(dim, self)
    places = b.emit(ops.Add(), b.emit(ops.Range(0, 1, length, DType.INT64)), b.cast(b.reshape(start, ()), DType.INT64))
    return b.emit(ops.Gather(axis), self, places)
