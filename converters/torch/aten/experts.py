"""Matrix products in groups of rows: mixtures of experts."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from itertools import pairwise

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops

_MOST_GROUPS = 512


@rules.imports("transformers.grouped_mm_fallback.default")
def grouped_mm_fallback(b: Lowering, input: Value, weight: Value, offs: Value) -> Value:
    """transformers' grouped_mm_fallback(input (M, K), weight (G, K, N), offs (G,)) -> (M, N), rows sorted by group

    Rows offs[g - 1] to offs[g] are multiplied by weight[g]; rows after the last group are zero.
    """
    return _grouped(b, input, weight, offs, None)


@rules.imports("aten._grouped_mm.default")
def grouped_mm(
    b: Lowering,
    self: Value,
    mat2: Value,
    offs: Value | None = None,
    bias: Value | None = None,
    out_dtype: DType | None = None,
) -> Value:
    """_grouped_mm(Tensor self (M, K), Tensor mat2 (G, K, N), Tensor? offs (G,), Tensor? bias, *, dtype? out_dtype)"""
    if offs is None or self.rank != 2 or mat2.rank != 3 or bias is not None:
        raise b.refusal("only groups of rows with `offs` and without a bias")
    return _grouped(b, self, mat2, offs, out_dtype)


def _grouped(b: Lowering, x: Value, weight: Value, ends: Value, dtype: DType | None) -> Value:
    groups, rows = b.static(weight.shape[0], "the number of groups"), x.shape[0]
    b.require(groups <= _MOST_GROUPS, f"{groups} groups of rows: more than {_MOST_GROUPS}")
    bounds: list[Dim] = [0]
    ends = b.cast(ends, DType.INT64)
    for last in b.emit_many(ops.Split(0, (1,) * groups), ends) if groups > 1 else [ends]:
        bounds.append(_fresh(b, len(bounds)))
        b.bind(bounds[-1], b.reshape(last, ()))  # type: ignore[arg-type]
    pieces = []
    for group, (start, end) in enumerate(pairwise(bounds)):
        taken = b.emit(ops.Slice((0,), (start,), (end,), (1,)), x)
        matrix = b.emit(ops.Slice((0,), (group,), (group + 1,), (1,)), weight)
        pieces.append(b.emit(ops.MatMul(), taken, b.reshape(matrix, weight.shape[1:])))
    pieces.append(b.emit(ops.ConstantOfShape((rows - bounds[-1], weight.shape[2]), 0, x.dtype)))
    made = b.emit(ops.Concat(0), *pieces)
    return made if dtype is None else b.cast(made, dtype)


def _fresh(b: Lowering, index: int) -> Sym:
    """A name for the number of rows up to the end of a group."""
    count = 0
    while f"rows{count}_{index}" in b.bound:
        count += 1
    return Sym(f"rows{count}_{index}")
