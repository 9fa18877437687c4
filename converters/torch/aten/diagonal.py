"""Diagonals and triangles of matrices."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.aten.elementwise import both
from isomorph.converters.torch.aten.index import moved_back
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import result_type
from isomorph.converters.torch.rules import rules
from isomorph.errors import ShapeError
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.op import normalize_axis
from isomorph.ir.shapes import dim_max, dim_min


@rules.imports(*both("triu", "default"))
def triu(b: Lowering, self: Value, diagonal: int = 0) -> Value:
    """triu(Tensor self, SymInt diagonal=0)"""
    return b.emit(ops.Trilu(diagonal, upper=True), self)


@rules.imports(*both("tril", "default"))
def tril(b: Lowering, self: Value, diagonal: int = 0) -> Value:
    """tril(Tensor self, SymInt diagonal=0)"""
    return b.emit(ops.Trilu(diagonal, upper=False), self)


def _register_indices(name: str, upper: bool) -> None:
    @rules.imports(f"aten.{name}_indices.default")
    def indices(
        b: Lowering,
        row: int,
        col: int,
        offset: int = 0,
        dtype: DType | None = None,
        layout: object = None,
        device: object = None,
        pin_memory: object = None,
    ) -> Value:
        if min(row, col) < 0 or row * col > _MOST_CELLS:
            raise ShapeError(f"a triangle of {row} x {col} cells")
        places = np.triu_indices(row, offset, col) if upper else np.tril_indices(row, offset, col)
        return b.constant(np.stack(places).astype((dtype or DType.INT64).numpy), "indices")

    indices.__doc__ = f"{name}_indices(int row, int col, int offset=0, …): (2, count), rows and columns in C order"


_MOST_CELLS = 1 << 26

for _name, _upper in (("triu", True), ("tril", False)):
    _register_indices(_name, _upper)


def _matrices(b: Lowering, x: Value, dim1: int, dim2: int) -> tuple[Value, tuple[int, ...]]:
    """x with two axes at the end, and the permutation that brought them there."""
    first, second = normalize_axis(dim1, x.rank, "dim1"), normalize_axis(dim2, x.rank, "dim2")
    order = (*(axis for axis in range(x.rank) if axis not in (first, second)), first, second)
    return (x if order == tuple(range(x.rank)) else b.emit(ops.Transpose(order), x)), order


def _diagonal_length(rows: Dim, columns: Dim, offset: int) -> Dim:
    reach = dim_min(rows, columns - offset) if offset >= 0 else dim_min(rows + offset, columns)
    return dim_max(reach, 0) if isinstance(reach, int) else reach


@rules.imports("aten.diagonal.default")
def diagonal(b: Lowering, self: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """diagonal(Tensor self, int offset=0, int dim1=0, int dim2=1): every (columns + 1)-th element of a flat matrix"""
    x, _ = _matrices(b, self, dim1, dim2)
    *lead, rows, columns = x.shape
    length = _diagonal_length(rows, columns, offset)
    if length == 0:
        return b.emit(ops.ConstantOfShape((*lead, 0), 0, self.dtype))
    if isinstance(columns, Sym) or isinstance(rows, Sym):
        mask = _on_diagonal(b, rows, columns, offset)
        return _picked(b, x, mask, length, offset)
    flat = b.reshape(x, (*lead, rows * columns))
    start = offset if offset >= 0 else -offset * columns
    end = start + (b.static(length, "the diagonal") - 1) * (columns + 1) + 1
    return b.emit(ops.Slice((len(lead),), (start,), (end,), (columns + 1,)), flat)


def _picked(b: Lowering, x: Value, mask: Value, length: Dim, offset: int) -> Value:
    """The diagonal of matrices of symbolic sizes: each row's only element on it."""
    alone = b.emit(ops.Where(), mask, x, b.number(0, x.dtype))
    kind = DType.INT32 if x.dtype in (DType.BOOL, DType.UINT8, DType.INT8, DType.INT16) else x.dtype
    sums = b.cast(b.emit(ops.ReduceSum((x.rank - 1,), keepdims=False), b.cast(alone, kind)), x.dtype)
    start = max(-offset, 0)
    return b.emit(ops.Slice((x.rank - 2,), (start,), (start + length,), (1,)), sums)


def _on_diagonal(b: Lowering, rows: Dim, columns: Dim, offset: int) -> Value:
    """The mask (rows, columns) of the cells of one diagonal."""
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns <= _MOST_CELLS:
        return b.constant(np.eye(rows, columns, offset, dtype=np.bool_), "diagonal")
    down = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(offset, 1, rows, DType.INT64)))
    return b.emit(ops.Equal(), down, b.emit(ops.Range(0, 1, columns, DType.INT64)))


@rules.imports("aten.diag_embed.default")
def diag_embed(b: Lowering, self: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    """diag_embed(Tensor self, int offset=0, int dim1=-2, int dim2=-1): self on a diagonal, else 0"""
    size = self.shape[-1] + abs(offset)
    rows = _down(b, self, offset, size)
    square = b.emit(ops.Where(), _on_diagonal(b, size, size, offset), rows, b.number(0, self.dtype))
    first, second = normalize_axis(dim1, square.rank, "dim1"), normalize_axis(dim2, square.rank, "dim2")
    order = (*(axis for axis in range(square.rank) if axis not in (first, second)), first, second)
    return moved_back(b, square, order)


def _down(b: Lowering, x: Value, offset: int, rows: Dim) -> Value:
    """The elements of a diagonal as a column (*, rows, 1), each in its row."""
    before = max(-offset, 0)
    after = rows - x.shape[-1] - before
    if before or after != 0:
        x = b.emit(ops.Pad((*((0, 0),) * (x.rank - 1), (before, after)), "constant", 0), x)
    return b.emit(ops.Unsqueeze((x.rank,)), x)


@rules.imports("aten.linalg_diagonal.default")
def linalg_diagonal(b: Lowering, A: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:  # noqa: N803
    """linalg_diagonal(Tensor A, *, int offset=0, int dim1=-2, int dim2=-1)"""
    return diagonal(b, A, offset, dim1, dim2)


@rules.imports("aten.diag.default")
def diag(b: Lowering, self: Value, diagonal: int = 0) -> Value:
    """diag(Tensor self, int diagonal=0): of a vector the matrix, of a matrix the vector"""
    return diag_embed(b, self, diagonal) if self.rank == 1 else _diagonal(b, self, diagonal)


_diagonal = diagonal


@rules.imports("aten.diagflat.default")
def diagflat(b: Lowering, self: Value, offset: int = 0) -> Value:
    """diagflat(Tensor self, int offset=0)"""
    return diag_embed(b, b.reshape(self, (self.type.size,)), offset)


@rules.imports("aten.diagonal_scatter.default")
def diagonal_scatter(b: Lowering, self: Value, src: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """diagonal_scatter(Tensor self, Tensor src, int offset=0, int dim1=0, int dim2=1): self with another diagonal"""
    x, order = _matrices(b, self, dim1, dim2)
    rows = _down(b, src, offset, x.shape[-2])
    made = b.emit(ops.Where(), _on_diagonal(b, x.shape[-2], x.shape[-1], offset), rows, x)
    return moved_back(b, made, order)


@rules.imports("aten.fill_diagonal_.default")
def fill_diagonal(b: Lowering, self: Value, fill_value: float, wrap: bool = False) -> Value:
    """fill_diagonal_(Tensor self, Scalar fill_value, bool wrap=False): with `wrap` again below a square, a row apart"""
    b.require(self.rank == 2, f"the diagonal of {self.type}")
    rows, columns = self.shape
    mask = _on_diagonal(b, rows, columns, 0)
    if wrap:
        height, width = b.static(rows, "the number of rows"), b.static(columns, "the number of columns")
        cells = np.zeros((height, width), np.bool_)
        cells.reshape(-1)[:: width + 1] = True
        mask = b.constant(cells, "diagonal")
    return b.emit(ops.Where(), mask, b.number(fill_value, self.dtype), self)


@rules.imports("aten.trace.default")
def trace(b: Lowering, self: Value) -> Value:
    """trace(Tensor self): the sum of the diagonal of a matrix; of integers in int64"""
    line = diagonal(b, self)
    kind = self.dtype if self.dtype.is_float or self.dtype.is_complex else DType.INT64
    return b.emit(ops.ReduceSum((0,), keepdims=False), b.cast(line, kind))


@rules.imports("aten.block_diag.default")
def block_diag(b: Lowering, tensors: Sequence[Value]) -> Value:
    """block_diag(Tensor[] tensors): matrices one after another along the diagonal, else 0"""
    flat = [b.reshape(x, (*(1,) * (2 - x.rank), *x.shape)) for x in tensors]
    kind = result_type(*tensors)
    blocks = [b.cast(x, kind) for x in flat]
    total = sum((x.shape[1] for x in blocks), start=0)
    rows, before = [], 0
    for block in blocks:
        after = total - block.shape[1] - before
        rows.append(b.emit(ops.Pad(((0, 0), (before, after)), "constant", 0), block))
        before = before + block.shape[1]  # type: ignore[assignment]
    return rows[0] if len(rows) == 1 else b.emit(ops.Concat(0), *rows)
