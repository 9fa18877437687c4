"""In-place operations made functional: which names of a program share memory, and what each of them is now.

A tensor of the program is a `Cell`. Names that are the same tensor share a cell; views have cells of their own that
know their base. After an in-place operation the cell holds the new value. Its bases get the new elements written back,
where the view can be undone; other views of the same memory are stale, and are made again from their base when they
are read.
What cannot be followed is refused when, and only when, it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from isomorph.converters.torch.aten.complex import Complex
from isomorph.converters.torch.aten.diagonal import diagonal_scatter
from isomorph.converters.torch.aten.scatter import select_scatter, slice_scatter
from isomorph.converters.torch.lowering import Lowering, Refusal, axis_of
from isomorph.converters.torch.program import ProgramNode
from isomorph.ir import Dim, DType, Shape, TensorType, Value, ops
from isomorph.ir.layout import inverse
from isomorph.ir.shapes import ceil_div

__all__ = ["IDENTITIES", "MAYBE_VIEWS", "VIEWS", "Cell", "mutated_argument", "mutates", "write"]

IDENTITIES = frozenset(
    {"aten.alias", "aten.detach", "aten.detach_", "aten.lift_fresh", "aten.positive", "aten.requires_grad_"}
)
"""Return the tensor itself, or all of its memory."""

_DROPOUTS = frozenset({"aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout"})

_TURNED = frozenset(
    {
        "aten.squeeze_",
        "aten.swapaxes_",
        "aten.swapdims_",
        "aten.t_",
        "aten.transpose_",
        "aten.unsqueeze_",
    }
)
"""Change the axes of a tensor in place, not its elements: from then on the program names the result."""

VIEWS = (
    _TURNED
    | _DROPOUTS
    | frozenset(
        {
            "aten.view",
            "aten.unsqueeze",
            "aten.squeeze",
            "aten.transpose",
            "aten.permute",
            "aten.t",
            "aten.select",
            "aten.slice",
            "aten.expand",
            "aten.expand_as",
            "aten.view_as",
            "aten.split",
            "aten.split_with_sizes",
            "aten.chunk",
            "aten.unbind",
            "aten.narrow",
            "aten.unflatten",
            "aten.numpy_T",
            "aten.mT",
            "aten.swapaxes",
            "aten.movedim",
            "aten.moveaxis",
            "aten.broadcast_to",
            "aten.diagonal",
            "aten.linalg_diagonal",
            "aten.unfold",
            "aten.as_strided",
            "aten.hsplit",
            "aten.vsplit",
            "aten.dsplit",
            "aten.swapdims",
            "aten.mH",
            "aten.adjoint",
            "aten.real",
            "aten.imag",
            "aten.view_as_real",
            "aten.view_as_complex",
        }
    )
)
"""Always return a view of `self` (dropout: the tensor itself, outside of training)."""

MAYBE_VIEWS = frozenset(
    {
        "aten.reshape",
        "aten.flatten",
        "aten.contiguous",
        "aten.to",
        "aten.type_as",
        "aten._unsafe_view",
        "aten.reshape_as",
        "aten.pad",
        "aten.tensor_split",
        "aten.ravel",
        "aten.atleast_1d",
        "aten.atleast_2d",
        "aten.atleast_3d",
    }
)
"""Return a view of `self` or a copy, depending on strides or types."""


@dataclass(eq=False, slots=True)
class Cell:
    """One tensor of the program.

    value   what it holds, a Value or a Complex; None where an operation could not be imported
    base    the cell that this one is a view of; `node` and `index` say which output of which operation
    root    "" for memory of the program's own, "input x" or "buffer running_mean" for memory from outside
    stale   why the value is out of date, "" if it is not
    family  all cells of the same memory
    """

    value: Any
    base: Cell | None = None
    node: ProgramNode | None = None
    index: int = 0
    certain: bool = True
    root: str = ""
    stale: str = ""
    family: list[Cell] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.base is not None:
            self.family = self.base.family
            self.root = self.base.root
        self.family.append(self)

    def read(self, remake: Callable[[ProgramNode, int], Any]) -> Any:
        """The current value; `remake` computes an output of a view again."""
        if (
            self.stale
            and self.base is not None
            and self.node is not None
            and self.certain
            and not self.base.stale_root()
        ):
            self.base.read(remake)
            self.value = remake(self.node, self.index)
            self.stale = ""
        if self.stale:
            raise Refusal(self.stale)
        return self.value

    def stale_root(self) -> bool:
        """Whether this cell can not be made again."""
        cell: Cell = self
        while cell.stale and cell.base is not None and cell.certain:
            cell = cell.base
        return bool(cell.stale)


def base_name(target: str) -> str:
    """The operator without its overload: "aten.add_" of "aten.add_.Tensor"."""
    return target.rpartition(".")[0]


def mutates(target: str) -> bool:
    """Whether the operation changes its argument `self` in place."""
    name = base_name(target)
    return (
        name.startswith("aten.") and name.endswith("_") and not name.endswith("__") and name not in IDENTITIES | _TURNED
    )


def mutated_argument(node: ProgramNode) -> Any:
    return node.args.get("self", node.args.get("input"))


Strides = Shape | None
ViewOf = Callable[[ProgramNode, int, Value], Value]
"""An output of a view operation, applied to another base of the same shape."""


def shares(node: ProgramNode, base: tuple[TensorType, Strides], made: tuple[TensorType, Strides]) -> bool | None:
    """Whether the result of one of MAYBE_VIEWS has the memory of its operand; None where that is not certain."""
    name = base_name(node.target)
    (kind, strides), (result, result_strides) = base, made
    if name in _ALWAYS_VIEWS:
        return True
    if kind.dtype is not result.dtype or node.args.get("copy"):
        return False
    if strides is None or result_strides is None or name == "aten.pad":
        return None
    if name in ("aten.to", "aten.type_as", "aten.contiguous"):
        return strides == result_strides
    if _is_contiguous(kind.shape, strides):
        return True
    return False if name == "aten.ravel" else _fits(kind.shape, strides, result.shape)


_ALWAYS_VIEWS = frozenset({"aten.tensor_split", "aten.atleast_1d", "aten.atleast_2d", "aten.atleast_3d"})


def _is_contiguous(shape: Shape, strides: Shape) -> bool:
    """Whether the elements lie in C order without gaps; the stride of an axis of size 1 does not matter."""
    if 0 in shape:
        return True
    step: Dim = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step = step * size
    return True


def _fits(shape: Shape, strides: Shape, target: Shape) -> bool | None:
    """Whether a tensor can be seen under another shape: axes that are merged must lie next to each other.

    Groups of axes between which nothing can be merged must have as many elements as groups of axes of the target.
    """
    if not all(isinstance(size, int) for size in (*shape, *strides, *target)):
        return None
    groups: list[Any] = []  # elements of each run of axes that lie next to each other, the last axis first
    inner: tuple[Any, Any] | None = None
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if inner is not None and stride == inner[0] * inner[1]:
            groups[-1] *= size
        else:
            groups.append(size)
        inner = size, stride
    sizes: list[Any] = [size for size in reversed(target) if size != 1]
    for group in groups:
        product = 1
        while product < group and sizes:
            product *= sizes.pop(0)
        if product != group:
            return False
    return True


def write(b: Lowering, cell: Cell, value: Value, view_of: ViewOf) -> None:
    """Let the cell hold a new value, in place."""
    reason = "it is read after an in-place operation changed its memory through another view"
    cell.value, cell.stale = value, ""
    fresh = [cell]
    while cell.base is not None and cell.node is not None:
        base = cell.base
        current = None if base.stale or not cell.certain or base.value is None else base.value
        made = None if current is None or cell.value is None else _write_back(b, cell, current, view_of)
        if made is None:
            break
        base.value = made
        fresh.append(base)
        cell = base
    for other in cell.family:
        if other not in fresh:
            other.stale = reason


def _write_back(b: Lowering, cell: Cell, base: Any, view_of: ViewOf) -> Value | None:
    """The base with the elements of its changed view, or None where the view cannot be undone."""
    node, view = cell.node, cell.value
    if node is None or isinstance(base, Complex) or isinstance(view, Complex) or base.dtype is not view.dtype:
        return None
    made = _undone(b, node, cell.index, base, view)
    return _scattered(b, base, view, lambda where: view_of(node, cell.index, where)) if made is None else made


def _scattered(b: Lowering, base: Value, view: Value, view_of: Callable[[Value], Value]) -> Value:
    """The base with the elements of any view of it: the same view of the positions says where they come from."""
    count, changed = base.type.size, view.type.size
    positions = b.emit(ops.Reshape(base.shape), b.emit(ops.Range(0, 1, count, DType.INT64)))
    where = b.emit(ops.Reshape((changed,)), view_of(positions))
    flat, elements = b.emit(ops.Reshape((count,)), base), b.emit(ops.Reshape((changed,)), view)
    return b.emit(ops.Reshape(base.shape), b.emit(ops.ScatterElements(0), flat, where, elements))


def _undone(b: Lowering, node: ProgramNode, index: int, base: Value, view: Value) -> Value | None:
    """The same for views that have an operation that undoes them."""
    name = base_name(node.target).rstrip("_")
    given = {key: each for key, each in node.args.items() if key != "self"}
    if name in _DROPOUTS:
        kept: Value = view
        return kept
    if name in _RESHAPES:
        return b.emit(ops.Reshape(base.shape), view)
    if (
        name in ("aten.transpose", "aten.swapaxes", "aten.swapdims", "aten.permute", "aten.t")
        and view.producer is not None
    ):
        perm = _permutation(name, node.args, base)
        return b.emit(ops.Transpose(inverse(perm)), view)
    scatter = {"aten.select": select_scatter, "aten.slice": slice_scatter, "aten.diagonal": diagonal_scatter}.get(name)
    if scatter is not None:
        made: Value = scatter(b, base, view, **given)  # type: ignore[operator]
        return made
    if name not in _PIECES:
        return None
    dim = given.get("dim", 0)
    if name == "aten.unbind":
        return select_scatter(b, base, view, dim, index)
    start = given["start"] if name == "aten.narrow" else _piece_start(name, given, base, index)
    return None if start is None else slice_scatter(b, base, view, dim, start)


_RESHAPES = frozenset(
    f"aten.{name}"
    for name in (
        "view", "unsqueeze", "squeeze", "unflatten", "view_as", "reshape", "flatten", "reshape_as", "ravel", "to",
        "type_as", "contiguous", "_unsafe_view", "atleast_1d", "atleast_2d", "atleast_3d",
    )
)  # fmt: skip
_PIECES = frozenset(f"aten.{name}" for name in ("unbind", "narrow", "split", "split_with_sizes", "chunk"))


def _piece_start(name: str, given: Mapping[str, Any], base: Value, index: int) -> Dim | None:
    """Where a piece begins along the axis that was split; None where that is not known."""
    if name == "aten.split_with_sizes" or isinstance(given.get("split_size"), tuple):
        sizes = given.get("split_sizes") or given.get("split_size") or ()
        return sum(sizes[:index], start=0)
    if name == "aten.split":
        return index * given["split_size"]  # type: ignore[no-any-return]
    if name == "aten.chunk":
        return index * ceil_div(base.shape[axis_of(given.get("dim", 0), base)], given["chunks"])
    return None


def _permutation(name: str, args: Mapping[str, Any], base: Value) -> tuple[int, ...]:
    if name == "aten.permute":
        return tuple(axis_of(dim, base) for dim in args["dims"])
    first, second = (args.get("dim0", args.get("axis0", 0)), args.get("dim1", args.get("axis1", 1)))
    order = list(range(base.rank))
    if len(order) > 1:
        first, second = axis_of(first, base), axis_of(second, base)
        order[first], order[second] = order[second], order[first]
    return tuple(order)
