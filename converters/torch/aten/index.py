"""Reading elements at computed places."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Number
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Shape, Sym, Value, ops
from isomorph.ir.layout import inverse
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import elements

__all__ = ["as_vector", "expanded", "integer_indices", "leading", "moved_back", "tuples"]


def as_vector(b: Lowering, x: Value) -> Value:
    """x, or of a scalar the vector of its one element: operations on places take it for that."""
    return x if x.rank else b.reshape(x, (1,))


def expanded(b: Lowering, x: Value, shape: Shape) -> Value:
    """x broadcast to a shape."""
    return x if x.shape == shape else b.emit(ops.Expand(shape), x)


@rules.imports("aten.gather.default")
def gather(b: Lowering, self: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """gather(Tensor self, int dim, Tensor index): index may be smaller than self along the other axes"""
    if index.type.size == 0:
        return b.emit(ops.ConstantOfShape(index.shape, 0, self.dtype))
    found = b.emit(ops.GatherElements(axis_of(dim, self)), as_vector(b, self), as_vector(b, index))
    return b.reshape(found, index.shape)


@rules.imports("aten.index_select.default")
def index_select(b: Lowering, self: Value, dim: int, index: Value) -> Value:
    """index_select(Tensor self, int dim, Tensor index): a scalar index counts as one of a vector"""
    found = b.emit(ops.Gather(axis_of(dim, self)), as_vector(b, self), as_vector(b, index))
    return found if self.rank else b.reshape(found, ())


@rules.imports("aten.take.default")
def take(b: Lowering, self: Value, index: Value) -> Value:
    """take(Tensor self, Tensor index): elements of self in C order"""
    return b.emit(ops.Gather(0), b.reshape(self, (elements(self.shape),)), index)


@rules.imports("aten.take_along_dim.default")
def take_along_dim(b: Lowering, self: Value, indices: Value, dim: int | None = None) -> Value:
    """take_along_dim(Tensor self, Tensor indices, int? dim=None): gather, the other axes broadcast"""
    if dim is None:
        flat = b.reshape(self, (elements(self.shape),))
        return b.emit(ops.GatherElements(0), flat, b.reshape(indices, (elements(indices.shape),)))
    if not self.rank:
        return gather(b, self, dim, indices)
    axis = axis_of(dim, self)
    others = [(*x.shape[:axis], 1, *x.shape[axis + 1 :]) for x in (self, indices)]
    shape = broadcast(*others)

    def wide(x: Value) -> Value:
        return expanded(b, x, (*shape[:axis], x.shape[axis], *shape[axis + 1 :]))

    return b.emit(ops.GatherElements(axis), wide(self), wide(indices))


@rules.imports("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(b: Lowering, self: Value, indices: Sequence[Value | None]) -> Value:
    """index.Tensor(Tensor self, Tensor?[] indices): as NumPy's advanced indexing

    Integer indices of several axes are taken together, broadcast; their axes are replaced where they stand, or in front
    where a None stands between them. A mask of bools stands for as many axes as it has.
    """
    chosen = [each for each in indices if each is not None]
    b.require(bool(chosen), "it has no index")
    masks = [each for each in chosen if _is_mask(each)]
    if len(chosen) == len(masks) == 1:
        return _kept(b, self, masks[0], next(axis for axis, each in enumerate(indices) if each is not None))
    axes, places = integer_indices(b, indices, self, lambda: _decided(b, self, indices))
    if len(places) == 1:
        return b.emit(ops.Gather(axes[0]), self, places[0])
    order, front = leading(self, axes)
    data = self if order == tuple(range(self.rank)) else b.emit(ops.Transpose(order), self)
    found = b.emit(ops.GatherND(), data, tuples(b, places))
    extra = found.rank - (self.rank - len(axes))
    if front == 0:
        return found
    return b.emit(
        ops.Transpose((*range(extra, extra + front), *range(extra), *range(extra + front, found.rank))), found
    )


def _is_mask(x: Value) -> bool:
    """Whether an index says which elements to take, not where they are; bytes do so, too."""
    return x.dtype in (DType.BOOL, DType.UINT8)


def _kept(b: Lowering, x: Value, mask: Value, axis: int) -> Value:
    """The slices of x, along the axes from `axis` on that the mask has, where it is True."""
    after = x.shape[axis + mask.rank :]
    data = b.reshape(x, (*x.shape[:axis], elements(x.shape[axis : axis + mask.rank]), *after))
    condition = b.reshape(b.cast(mask, DType.BOOL), (elements(mask.shape),))
    return b.emit(ops.Compress(_recorded(b, axis), axis), data, condition)


def _recorded(b: Lowering, axis: int) -> Dim:
    kind = b.recorded[0]
    if kind is None or kind.rank <= axis:
        raise b.refusal("the size that the data decide is not known")
    return kind.shape[axis]


def _decided(b: Lowering, x: Value, indices: Sequence[Value | None]) -> Dim:
    """The size of the axis that masks among other indices make, from the recorded result."""
    kind = b.recorded[0]
    sizes = [] if kind is None else [dim for dim in kind.shape if isinstance(dim, Sym) and not dim.names() <= b.bound]
    if len(sizes) != 1:
        raise b.refusal("masks beside other indices, whose sizes are not known")
    return sizes[0]


def integer_indices(
    b: Lowering, indices: Sequence[Value | None], x: Value, size: Callable[[], Dim]
) -> tuple[tuple[int, ...], list[Value]]:
    """(axes, their indices): masks become the coordinates of what they keep, as many as `size` says."""
    axes: list[int] = []
    places: list[Value] = []
    axis = 0
    for each in indices:
        if each is None:
            axis += 1
        elif _is_mask(each):
            found = b.emit(ops.NonZero(size()), b.cast(each, DType.BOOL))
            rows = b.emit_many(ops.Split(0, (1,) * each.rank), found) if each.rank > 1 else (found,)
            places += [b.reshape(row, (row.shape[1],)) for row in rows]
            axes += range(axis, axis + each.rank)
            axis += each.rank
        else:
            places.append(each)
            axes.append(axis)
            axis += 1
    return tuple(axes), places


def leading(x: Value, axes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The permutation that brings the indexed axes to the front, and how many others stand before their result."""
    rest = [axis for axis in range(x.rank) if axis not in axes]
    neighbours = list(axes) == list(range(axes[0], axes[0] + len(axes)))
    return (*axes, *rest), axes[0] if neighbours else 0


def tuples(b: Lowering, places: Sequence[Value]) -> Value:
    """Indices of several axes as tuples: of broadcast shape (*S), the result is (*S, len(places))."""
    shape = broadcast(*(each.shape for each in places))
    columns = [b.reshape(expanded(b, b.cast(each, DType.INT64), shape), (*shape, 1)) for each in places]
    return columns[0] if len(columns) == 1 else b.emit(ops.Concat(len(shape)), *columns)


def moved_back(b: Lowering, x: Value, order: Sequence[int]) -> Value:
    """Undo a permutation of axes."""
    return x if tuple(order) == tuple(range(x.rank)) else b.emit(ops.Transpose(inverse(tuple(order))), x)


@rules.imports("aten._unsafe_masked_index.default")
def masked_index(b: Lowering, self: Value, mask: Value, indices: Sequence[Value | None], fill: Number) -> Value:
    """_unsafe_masked_index(Tensor self, Tensor mask, Tensor?[] indices, Scalar fill): self[indices], else `fill`"""
    inside = [
        None
        if place is None
        else b.emit(ops.Min(), b.emit(ops.Max(), place, b.number(0, place.dtype)), b.number(size - 1, place.dtype))
        for place, size in zip(indices, self.shape, strict=False)
    ]
    found = index(b, self, inside)
    return b.emit(ops.Where(), mask, found, b.number(fill, found.dtype))
