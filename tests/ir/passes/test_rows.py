"""Products of matrices between two reshapes become products of tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_graphs import agree, built, kinds, weight

from isomorph.ir import Builder, DType, Sym, Value, ops
from isomorph.ir.passes.rows import merge_rows

N, L = Sym("N"), Sym("L")
F32 = DType.FLOAT32


def gemm(b: Builder, rows: Value) -> Value:
    return b.emit(ops.Gemm(), rows, weight(b, "w", 8, 6), weight(b, "bias", 6))


def unbiased(b: Builder, rows: Value) -> Value:
    return b.emit(ops.Gemm(), rows, weight(b, "w", 8, 6))


def linear(b: Builder, rows: Value) -> Value:
    return b.emit(ops.Linear(), rows, weight(b, "w", 6, 8), weight(b, "bias", 6))


@pytest.mark.parametrize(
    ("product", "left"), [(gemm, {"MatMul": 1, "Add": 1}), (unbiased, {"MatMul": 1}), (linear, {"Linear": 1})]
)
@pytest.mark.parametrize("heads", [False, True])
def test_rows_on_several_axes(product: Callable[[Builder, Value], Value], left: dict[str, int], heads: bool) -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, L, 2, 4) if heads else (N, L, 8))
        return b.emit(ops.Reshape((N, L, 6)), product(b, b.emit(ops.Reshape((N * L, 8)), x)))

    model = built(make)
    merged = merge_rows(model)
    assert kinds(merged) == left | ({"Reshape": 1} if heads else {})
    agree(model, merged)


def scaled(b: Builder, rows: Value) -> Value:
    return b.emit(ops.Gemm(alpha=0.5), rows, weight(b, "w", 8, 6))


def with_a_matrix(b: Builder, rows: Value) -> Value:
    return b.emit(ops.Gemm(), rows, weight(b, "w", 8, 6), b.input("c", F32, (N * L, 6)))


def shown(b: Builder, rows: Value) -> Value:
    y = gemm(b, rows)
    b.output("product", y)
    return y


@pytest.mark.parametrize("product", [scaled, with_a_matrix, shown])
def test_other_products_stay(product: Callable[[Builder, Value], Value]) -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, L, 8))
        return b.emit(ops.Reshape((N, L, 6)), product(b, b.emit(ops.Reshape((N * L, 8)), x)))

    model = built(make)
    assert kinds(merge_rows(model)) == kinds(model)


def test_rows_that_come_back_on_other_axes_stay() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, L, 8))
        return b.emit(ops.Reshape((L, N, 6)), gemm(b, b.emit(ops.Reshape((N * L, 8)), x)))

    model = built(make)
    assert kinds(merge_rows(model)) == kinds(model)
