"""Symbolic dimensions: arithmetic in normal form equals arithmetic on ints."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isomorph.errors import ShapeError
from isomorph.ir import Dim, DimRange, DType, Layout, Sym, TensorType, ops
from isomorph.ir.evaluate import bind, evaluate_op
from isomorph.ir.shapes import (
    bounds,
    ceil_div,
    decide,
    dim_max,
    dim_min,
    parse_dim,
    provably_different,
    substitute,
)

N, H = Sym("N"), Sym("H")
SIZES = st.fixed_dictionaries({"N": st.integers(1, 40), "H": st.integers(1, 40)})

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": dim_min,
    "max": dim_max,
}

_LEAVES = st.one_of(st.integers(-9, 9), st.sampled_from(["N", "H"]))
EXPRESSIONS = st.recursive(
    _LEAVES, lambda inner: st.tuples(st.sampled_from(sorted(_BINARY)), inner, inner), max_leaves=8
)


def _compute(tree: Any, names: dict[str, Any]) -> Any:
    """The expression over ints or Syms; ZeroDivisionError where a divisor is 0."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return names[tree]
    name, left, right = tree
    left, right = _compute(left, names), _compute(right, names)
    if name in ("//", "%") and right == 0:
        raise ZeroDivisionError
    return _BINARY[name](left, right)


@settings(max_examples=500)
@given(EXPRESSIONS, SIZES)
def test_a_normal_form_has_the_value_of_the_expression(tree: Any, sizes: dict[str, int]) -> None:
    try:
        expected = _compute(tree, sizes)
        dim = _compute(tree, {"N": N, "H": H})
    except ZeroDivisionError:
        return
    assert substitute(dim, sizes) == expected


@settings(max_examples=300)
@given(EXPRESSIONS)
def test_the_text_of_a_dimension_is_read_back_equal(tree: Any) -> None:
    try:
        dim = _compute(tree, {"N": N, "H": H})
    except ZeroDivisionError:
        return
    assert parse_dim(str(dim)) == dim


@given(EXPRESSIONS, EXPRESSIONS, SIZES)
def test_provably_different_is_never_wrong(left: Any, right: Any, sizes: dict[str, int]) -> None:
    try:
        dims = [_compute(tree, {"N": N, "H": H}) for tree in (left, right)]
        values = [_compute(tree, sizes) for tree in (left, right)]
    except ZeroDivisionError:
        return
    assert not (provably_different(*dims) and values[0] == values[1])


@given(st.integers(-50, 50), st.integers(1, 9), SIZES)
def test_ceil_div_rounds_up(offset: int, divisor: int, sizes: dict[str, int]) -> None:
    assert substitute(ceil_div(N + offset, divisor), sizes) == math.ceil((sizes["N"] + offset) / divisor)


def test_equal_expressions_compare_equal() -> None:
    assert (N + 1) * 2 - 2 == 2 * N
    assert (4 * N) // 2 == 2 * N
    assert (6 * N + 5) // 3 == 2 * N + 1
    assert ((H // 2) // 3) == H // 6
    assert (4 * N) % 2 == 0
    assert N - N == 0


def test_polynomials_are_divided_exactly_or_not_at_all() -> None:
    frames = ((H // 80) + 1) // 2
    assert (4 * frames * N - 4 * N) // (frames - 1) == 4 * N
    assert (4 * frames * frames * N - 8 * frames * N + 4 * N) // ((frames - 1) * (frames - 1)) == 4 * N
    assert (N * N - H * H) // (N - H) == N + H
    assert ((N + H) * (N + 1)) % (N + 1) == 0
    assert str((N * H + N + 1) // (H + 1)) == "((H*N + N + 1) // (H + 1))"
    assert str((N + 2) // (2 * N + 2)) == "((N + 2) // (2*N + 2))"


def test_a_division_by_zero_is_a_shape_error() -> None:
    for compute in (lambda: N // 0, lambda: N % 0, lambda: parse_dim("3 // 0"), lambda: parse_dim("N % (H - H)")):
        with pytest.raises(ShapeError, match="by zero"):
            compute()


SPATIAL = st.integers(1, 12)


@settings(max_examples=300)
@given(
    size=SPATIAL,
    kernel=st.integers(1, 4),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 3),
    begin=st.integers(0, 2),
    end=st.integers(0, 2),
    ceil_mode=st.booleans(),
    layout=st.sampled_from(Layout),
)
def test_symbolic_windows_have_the_sizes_of_static_ones(  # noqa: PLR0917
    size: int, kernel: int, stride: int, dilation: int, begin: int, end: int, ceil_mode: bool, layout: Layout
) -> None:
    op = ops.MaxPool((kernel,), (stride,), ((begin, end),), (dilation,), ceil_mode, layout)
    extent = (kernel - 1) * dilation + 1
    if size + begin + end < extent or end >= extent:  # no window, or windows of nothing but padding
        return
    (static,) = op.infer(TensorType(DType.FLOAT32, layout.join(2, 3, (size,))))
    (symbolic,) = op.infer(TensorType(DType.FLOAT32, layout.join(2, 3, (Sym("N"),))))
    assert tuple(substitute(dim, {"N": size}) for dim in symbolic.shape) == static.shape


BOUND = st.one_of(st.none(), st.integers(-7, 14))


@settings(max_examples=300)
@given(size=st.integers(7, 14), start=BOUND, end=BOUND, step=st.sampled_from([1, 2, 3, -1, -2]))
def test_symbolic_slices_have_the_length_of_static_ones(
    size: int, start: int | None, end: int | None, step: int
) -> None:
    """Where the documented assumption holds: the start lies within the size, and begins before the end."""
    if start is not None and start >= size:
        return
    expected = len(range(*slice(start, end, step).indices(size)))
    (kind,) = ops.Slice((0,), (start,), (end,), (step,)).infer(TensorType(DType.FLOAT32, (N,)))
    length: Dim = substitute(kind.shape[0], {"N": size})
    assert length == expected or (expected == 0 and isinstance(length, int) and length <= 0)


@given(SIZES, st.integers(0, 6))
def test_symbolic_bounds_of_slices(sizes: dict[str, int], offset: int) -> None:
    x = TensorType(DType.FLOAT32, (N + H,))
    op = ops.Slice((0,), (N,), (N + H,), (1,))
    assert op.infer(x)[0].shape == (H,)
    (y,) = evaluate_op(bind(op, sizes), np.zeros(sizes["N"] + sizes["H"], np.float32))
    assert y.shape == (sizes["H"],)


def test_reshape_refuses_what_can_never_fit() -> None:
    x = TensorType(DType.FLOAT32, (N, 6))
    assert ops.Reshape((N, 2, 3)).infer(x)[0].shape == (N, 2, 3)
    assert ops.Reshape((6, H)).infer(x)[0].shape == (6, H)
    for shape in ((N, 7), (N, 6, 2), (N + 1, 6)):
        with pytest.raises(ShapeError, match="elements"):
            ops.Reshape(shape).infer(x)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("7", 7, 7),
        ("N", 1, 48),
        ("2048 - N", 2000, 2047),
        ("2*N + M", 3, None),
        ("N*M", 1, None),
        ("N*N", 1, 2304),
        ("max(0, 2048 - N)", 2000, 2047),
        ("min(N, 3)", 1, 3),
        ("(N - 1) // 2", 0, 23),
        ("M % 5", 0, 4),
        ("X", None, None),
        ("-M", None, -1),
    ],
)
def test_bounds(text: str, low: int | None, high: int | None) -> None:
    ranges = {"N": DimRange(1, 48), "M": DimRange(1)}
    assert bounds(parse_dim(text), ranges) == (low, high)


def test_decide_takes_the_operand_that_the_ranges_leave() -> None:
    ranges = {"N": DimRange(1, 48)}
    assert decide(parse_dim("2048 - max(0, 2048 - N)"), ranges) == Sym("N")
    assert decide(parse_dim("min(N, 48) + max(N, 1)"), ranges) == 2 * Sym("N")
    assert decide(parse_dim("max(N, 7)"), ranges) == parse_dim("max(N, 7)")
    assert decide(parse_dim("max(M, 1)"), ranges) == parse_dim("max(M, 1)")


def test_quotients_without_common_factors() -> None:
    n, s = Sym("N"), Sym("S")
    padded = s + (127 * (s % 128)) % 128
    assert (128 * padded * n) // (16384 * n) == padded // 128
    assert (6 * n) // (4 * n) == 1
    assert padded % 128 == 0
    assert padded // (padded // 128) == 128
    assert (s % 128 + 3 * s) % 128 == (4 * s) % 128
