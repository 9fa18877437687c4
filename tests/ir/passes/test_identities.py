"""What gives an operand back is dropped, and reading a whole tensor in order; what only looks like it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import agree, built, number

from isomorph.ir import Builder, DType, Model, Sym, Value, ops
from isomorph.ir.passes.counting import drop_counting
from isomorph.ir.passes.identities import drop_identities

N, S = Sym("N"), Sym("S")
Make = Callable[[Builder], Value]


def x(b: Builder, dtype: DType = DType.FLOAT32) -> Value:
    return b.input("x", dtype, (N, 4))


INT, BOOL = DType.INT64, DType.BOOL


def kinds(model: Model) -> list[str]:
    return [node.op.name for node in model.graph.nodes]


IDENTITIES: dict[str, Make] = {
    "integer + 0": lambda b: b.emit(ops.Add(), number(b, 0, INT), x(b, INT)),
    "integer - 0": lambda b: b.emit(ops.Sub(), x(b, INT), number(b, 0, INT)),
    "x * 1": lambda b: b.emit(ops.Mul(), b.constant(np.ones((1, 4), np.float32)), x(b)),
    "x / 1": lambda b: b.emit(ops.Div(), x(b), number(b, 1)),
    "x ^ 1": lambda b: b.emit(ops.Pow(), x(b), number(b, 1)),
    "x & True": lambda b: b.emit(ops.And(), x(b, BOOL), number(b, True, BOOL)),
    "x | False": lambda b: b.emit(ops.Or(), number(b, False, BOOL), x(b, BOOL)),
    "x[-4:]": lambda b: b.emit(ops.Slice((1,), (-4,), (None,), (1,)), x(b)),
    "x[:]": lambda b: b.emit(ops.Slice((0,), (0,), (None,), (1,)), x(b)),
    "as it is": lambda b: b.emit(ops.Expand((N, 4)), x(b)),
    "once": lambda b: b.emit(ops.Tile((1, 1)), x(b)),
    "padded by nothing": lambda b: b.emit(ops.Pad(((0, 0), (0, 0))), x(b)),
    "one operand": lambda b: b.emit(ops.Concat(1), x(b)),
    "nothing": lambda b: b.emit(ops.Concat(1), b.input("nothing", DType.FLOAT32, (N, 0)), x(b)),
    "a choice of one": lambda b: b.emit(ops.Where(), b.input("c", BOOL, (N, 1)), *[x(b)] * 2),
}


def slices(*cuts: tuple[int | None, int | None], axis: int = 1, along: int = 1, step: int = 1) -> Make:
    """Slices of x from start to end, joined."""

    def make(b: Builder) -> Value:
        data = x(b)
        parts = [b.emit(ops.Slice((axis,), (start,), (end,), (step,)), data) for start, end in cuts]
        return b.emit(ops.Concat(along), *parts)

    return make


def split(order: tuple[int, ...], *, sizes: tuple[int, ...] = (1, 2, 1), axis: int = 1) -> Make:
    def make(b: Builder) -> Value:
        parts = b.emit_many(ops.Split(axis, sizes), x(b))
        return b.emit(ops.Concat(1), *(parts[place] for place in order))

    return make


def of_two(b: Builder) -> Value:
    first = b.emit(ops.Slice((1,), (0,), (2,), (1,)), x(b))
    second = b.emit(ops.Slice((1,), (2,), (4,), (1,)), b.input("z", DType.FLOAT32, (N, 4)))
    return b.emit(ops.Concat(1), first, second)


PARTS: dict[str, Make] = {
    "slices": slices((None, 1), (1, 3), (3, None)),
    "slices counted from the end": slices((0, -2), (-2, 9)),
    "an empty slice in between": slices((0, 2), (2, 2), (2, 4)),
    "a split": split((0, 1, 2)),
    "a split counted from the end": split((0, 1), sizes=(3, 1), axis=-1),
}
NOT_ALL_PARTS: dict[str, Make] = {
    "parts in another order": slices((2, 4), (0, 2)),
    "a part twice": slices((0, 2), (0, 2)),
    "a part is missing": slices((0, 1), (2, 4)),
    "the last part is missing": slices((0, 1), (1, 3)),
    "the first part is missing": slices((1, 2), (2, 4)),
    "every other element": slices((0, 2), (2, 4), step=2),
    "along another axis": slices((None, None), (None, None), axis=0, along=0),
    "a split in another order": split((1, 0, 2)),
    "a split without its last part": split((0, 1)),
    "parts of two values": of_two,
}


@pytest.mark.parametrize("name", PARTS)
def test_all_parts_together_are_the_whole(name: str) -> None:
    model = built(PARTS[name])
    dropped = drop_identities(model)
    assert kinds(dropped) == []
    agree(model, dropped, rtol=0, atol=0)


@pytest.mark.parametrize("name", NOT_ALL_PARTS)
def test_other_parts_are_not(name: str) -> None:
    model = built(NOT_ALL_PARTS[name])
    dropped = drop_identities(model)
    assert "Concat" in kinds(dropped)
    agree(model, dropped, rtol=0, atol=0)


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(name: str) -> None:
    model = built(IDENTITIES[name])
    dropped = drop_identities(model)
    assert kinds(dropped) == []
    agree(model, dropped, rtol=0, atol=0)


NOT_IDENTITIES: dict[str, Make] = {
    "-0.0 + 0 is 0": lambda b: b.emit(ops.Add(), x(b), number(b, 0)),
    "0 - x": lambda b: b.emit(ops.Sub(), number(b, 0, INT), x(b, INT)),
    "1 / x": lambda b: b.emit(ops.Div(), number(b, 1), x(b)),
    "1 ^ x": lambda b: b.emit(ops.Pow(), number(b, 1), x(b)),
    "a product that broadcasts": lambda b: b.emit(ops.Mul(), x(b), b.constant(np.ones((3, 1, 1), np.float32))),
    "a mask with a hole": lambda b: b.emit(ops.And(), x(b, BOOL), b.constant(np.array([True, False, True, True]))),
    "x[::-1]": lambda b: b.emit(ops.Slice((1,), (None,), (None,), (-1,)), x(b)),
    "x[:S] of N": lambda b: b.emit(ops.Slice((0,), (0,), (2,), (1,)), x(b)),
    "a weight of ones": lambda b: b.emit(ops.Mul(), x(b), b.input("w", DType.FLOAT32, (4,))),
}


@pytest.mark.parametrize("name", NOT_IDENTITIES)
def test_what_is_no_identity(name: str) -> None:
    model = built(NOT_IDENTITIES[name])
    assert kinds(drop_identities(model)) == kinds(model)


def test_operands_of_size_0_leave_a_concat() -> None:
    def make(b: Builder) -> Value:
        given = x(b)
        return b.emit(ops.Concat(1), given, b.input("nothing", DType.FLOAT32, (N, 0)), given)

    model = built(make)
    dropped = drop_identities(model)
    assert [len(node.inputs) for node in dropped.graph.nodes] == [2]
    agree(model, dropped, rtol=0, atol=0)


def counted(b: Builder, size: Sym | int, shape: tuple[Sym | int, ...], start: int = 0) -> Value:
    return b.emit(ops.Reshape(shape), b.emit(ops.Range(start, 1, size, INT)))


def pairs(b: Builder, first: Value, second: Value, shape: tuple[Sym | int, ...]) -> Value:
    wide = [b.emit(ops.Unsqueeze((len(shape),)), b.emit(ops.Expand(shape), part)) for part in (first, second)]
    return b.emit(ops.Concat(len(shape)), *wide)


@pytest.mark.parametrize(
    ("order", "shape", "left"),
    [
        ((0, 1), (N, 1, 1, S), ["Unsqueeze"]),
        ((0, 1), (N, S), []),
        ((1, 0), (S, N), ["Transpose"]),
        ((0, 1), (N, 7, S), ["Unsqueeze", "Expand"]),
    ],
)
def test_reading_all_in_order_is_no_reading(
    order: tuple[int, int], shape: tuple[Sym | int, ...], left: list[str]
) -> None:
    def make(b: Builder) -> Value:
        data = b.input("x", DType.FLOAT32, (N, S, 3))
        ends = [tuple(dim if dim is size else 1 for dim in shape) for size in (N, S)]
        parts = [counted(b, size, end) for size, end in zip((N, S), ends, strict=True)]
        return b.emit(ops.GatherND(), data, pairs(b, *parts, shape))

    model = built(make)
    dropped = drop_counting(model)
    assert kinds(dropped) == left, order
    agree(model, dropped, rtol=0, atol=0)


def test_constant_indices_that_count() -> None:
    places = np.stack(np.broadcast_arrays(np.arange(1).reshape(1, 1, 1), np.arange(4)), -1)
    model = built(lambda b: b.emit(ops.GatherND(), b.input("x", DType.FLOAT32, (1, 4)), b.constant(places)))
    assert kinds(drop_counting(model)) == ["Unsqueeze"]
    agree(model, drop_counting(model), rtol=0, atol=0)
    model = built(lambda b: b.emit(ops.Gather(1), x(b), b.constant(np.arange(4))))
    assert kinds(drop_counting(model)) == []


NOT_COUNTING: dict[str, Make] = {
    "from 1 on": lambda b: b.emit(ops.Gather(0), x(b), b.emit(ops.Range(1, 1, N, INT))),
    "another size": lambda b: b.emit(ops.Gather(1), x(b), b.emit(ops.Range(0, 1, 3, INT))),
    "backwards": lambda b: b.emit(ops.Gather(1), x(b), b.constant(np.arange(4)[::-1].copy())),
    "one axis twice": lambda b: b.emit(
        ops.GatherND(), b.input("x", DType.FLOAT32, (N, N)), pairs(b, *[counted(b, N, (N,))] * 2, (N,))
    ),
    "any indices": lambda b: b.emit(ops.Gather(0), x(b), b.input("i", INT, (N,))),
}


@pytest.mark.parametrize("name", NOT_COUNTING)
def test_what_does_not_read_all_in_order(name: str) -> None:
    model = built(NOT_COUNTING[name])
    assert kinds(drop_counting(model)) == kinds(model)


@pytest.mark.parametrize(
    ("size", "index", "left"), [(1, 0, "Squeeze"), (1, -1, "Squeeze"), (2, 0, "Gather"), (N, 0, "Gather")]
)
def test_the_only_element_of_an_axis(size: int | Sym, index: int, left: str) -> None:
    model = built(lambda b: b.emit(ops.Gather(1), b.input("x", DType.FLOAT32, (3, size, 4)), number(b, index, INT)))
    dropped = drop_identities(model)
    assert kinds(dropped) == [left]
    agree(model, dropped, rtol=0, atol=0)


def test_an_element_at_a_computed_position_stays() -> None:
    model = built(lambda b: b.emit(ops.Gather(1), b.input("x", DType.FLOAT32, (3, 1, 4)), b.input("i", INT, ())))
    assert kinds(drop_identities(model)) == ["Gather"]
