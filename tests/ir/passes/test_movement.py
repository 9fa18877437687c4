"""Chains of moves as mappings, and the passes that shorten them; attention whose heads stay side by side."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import built, kinds

from isomorph.ir import ArrayTensor, Builder, DType, Model, Parameter, Sym, Value, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.movement import join_slices, pick_elements, shorten_moves, sink_moves
from isomorph.ir.passes.raising.heads import pack_heads
from isomorph.ir.passes.views import cost, materialize, trace
from isomorph.ir.verify import verify

N, L = Sym("N"), Sym("L")
F32 = DType.FLOAT32


def agree(before: Model, after: Model, *shapes: tuple[int, ...]) -> None:
    verify(after)
    rng = np.random.default_rng(0)
    feeds = {
        value.name: rng.normal(size=shape).astype(np.float32)
        for value, shape in zip(before.graph.inputs, shapes, strict=True)
    }
    for wanted, got in zip(evaluate(before, feeds).values(), evaluate(after, feeds).values(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def _factors(count: int, rng: random.Random) -> tuple[int, ...]:
    """A random shape with this many elements, sizes of 1 among them."""
    shape: list[int] = []
    while count > 1 and len(shape) < 5:
        size = rng.choice([d for d in range(2, count + 1) if count % d == 0])
        shape.append(size)
        count //= size
    shape[-1:] = [*shape[-1:], *([count] if count > 1 else [])]
    for _ in range(rng.randrange(2)):
        shape.insert(rng.randrange(len(shape) + 1), 1)
    return tuple(shape) or (1,)


def _move(b: Builder, x: Value, rng: random.Random) -> Value:
    sizes = [int(size) for size in x.shape if isinstance(size, int)]
    choice = rng.randrange(6)
    if choice <= 1:
        return b.emit(ops.Reshape(_factors(math.prod(sizes), rng)), x)
    if choice <= 3 or x.rank < 2:
        return b.emit(ops.Transpose(tuple(rng.sample(range(x.rank), x.rank))), x)
    axis = rng.randrange(x.rank)
    if choice == 4:
        start = rng.randrange(sizes[axis])
        end = rng.randrange(start, sizes[axis]) + 1
        return b.emit(ops.Slice((axis,), (start,), (end,), (1,)), x)
    return b.emit(ops.Gather(axis), x, b.constant(np.int64(rng.randrange(-sizes[axis], sizes[axis])), "index"))


@pytest.mark.parametrize("seed", range(300))
def test_views_of_random_chains(seed: int) -> None:
    rng = random.Random(seed)
    shape = _factors(rng.choice([12, 24, 48, 60, 64]), rng)

    def make(b: Builder) -> Value:
        x = b.input("x", F32, shape)
        for _ in range(rng.randrange(1, 7)):
            x = _move(b, x, rng)
        return b.emit(ops.Relu(), x)

    model = built(make)
    last = model.graph.nodes[-1].inputs[0]
    assert last is not None
    view = trace(model.graph, cuts=True)[last]
    assert view.shape == last.shape
    if view.source in model.graph.inputs:

        def again(b: Builder) -> Value:
            x = b.input("x", F32, shape)
            made = materialize(b, view, x)
            return b.emit(ops.Relu(), x if made is None else made)

        made = built(again)
        if cost(view) < 1 << 20:
            assert len(made.graph.nodes) == cost(view) + 1
            agree(model, made, shape)
    short = shorten_moves(model)
    assert len(short.graph.nodes) <= len(prune(model).graph.nodes)
    agree(model, short, shape)


def test_moves_that_undo_each_other_vanish_with_symbolic_sizes() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, L, 12))
        y = b.emit(ops.Transpose((1, 0, 2)), x)
        y = b.emit(ops.Reshape((L, N * 3, 4)), y)
        y = b.emit(ops.Transpose((1, 0, 2)), y)
        y = b.emit(ops.Reshape((N, 3, L, 4)), y)
        y = b.emit(ops.Reshape((N, L, 12)), b.emit(ops.Transpose((0, 2, 1, 3)), y))
        return b.emit(ops.Relu(), y)

    model = built(make)
    short = shorten_moves(model)
    assert kinds(short) == {"Relu": 1}
    agree(model, short, (2, 5, 12))


def test_a_chain_that_something_else_reads_stays() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (2, 3, 4))
        y = b.emit(ops.Transpose((2, 0, 1)), x)
        b.output("shown", y)
        return b.emit(ops.Relu(), b.emit(ops.Transpose((1, 2, 0)), y))

    model = built(make)
    assert kinds(shorten_moves(model)) == {"Transpose": 1, "Relu": 1}


def _weight(b: Builder, name: str, *shape: int) -> Value:
    return b.parameter(Parameter(name, ArrayTensor(np.linspace(-1, 1, math.prod(shape)).reshape(shape).astype("f"))))


def test_moves_sink_through_a_linear_and_vanish() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, L, 6))
        y = b.emit(ops.Reshape((L * N, 6)), b.emit(ops.Transpose((1, 0, 2)), x))
        y = b.emit(ops.Linear(), y, _weight(b, "w", 8, 6), _weight(b, "b", 8))
        return b.emit(ops.Relu(), b.emit(ops.Transpose((1, 0, 2)), b.emit(ops.Reshape((L, N, 8)), y)))

    model = built(make)
    short = shorten_moves(sink_moves(model))
    assert kinds(short) == {"Linear": 1, "Relu": 1}
    agree(model, short, (2, 5, 6))


def test_a_linear_that_something_else_reads_stays_where_it_is() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (2, 5, 6))
        y = b.emit(ops.Linear(), b.emit(ops.Reshape((10, 6)), x), _weight(b, "w", 8, 6))
        return b.emit(ops.Relu(), y)

    model = built(make)
    assert kinds(sink_moves(model)) == kinds(model)


def test_slices_of_all_parts_are_a_split() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 7))
        parts = [b.emit(ops.Slice((1,), (at,), (end,), (1,)), x) for at, end in ((2, 5), (0, 2), (5, 7))]
        return b.emit(ops.Concat(1), *(b.emit(ops.Relu(), part) for part in parts))

    model = built(make)
    joined = join_slices(model)
    assert kinds(joined) == {"Split": 1, "Relu": 3, "Concat": 1}
    agree(model, joined, (3, 7))


def test_single_elements_are_gathered() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (3, N, 4))
        first, second, third = b.emit_many(ops.Split(0, (1, 1, 1)), x)
        last = b.emit(ops.Slice((2,), (-1,), (4,), (1,)), x)
        picked = [b.emit(ops.Squeeze((0,)), piece) for piece in (first, second, third)]
        b.output("last", b.emit(ops.Squeeze((2,)), last))
        return b.emit(ops.Concat(1), *picked)

    model = built(make)
    made = pick_elements(model)
    assert kinds(made) == {"Gather": 4, "Concat": 1}
    agree(model, made, (3, 2, 4))


def test_elements_that_are_read_unsqueezed_stay() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (3, N, 4))
        first = b.emit(ops.Slice((0,), (0,), (1,), (1,)), x)
        b.output("first", first)
        return b.emit(ops.Squeeze((0,)), first)

    model = built(make)
    assert kinds(pick_elements(model)) == kinds(model)


@pytest.mark.parametrize("cuts", [((0, 3), (4, 7)), ((0, 4), (3, 7)), ((1, 7),), ((0, 3), (3, 6))])
def test_slices_of_some_parts_stay(cuts: tuple[tuple[int, int], ...]) -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (2, 7))
        return b.emit(ops.Concat(1), *(b.emit(ops.Slice((1,), (at,), (end,), (1,)), x) for at, end in cuts))

    model = built(make)
    assert kinds(join_slices(model)) == kinds(model)


def _heads(b: Builder, x: Value, heads: int) -> Value:
    batch, length, width = x.shape
    apart = b.emit(ops.Reshape((batch, length, heads, width // heads)), x)
    return b.emit(ops.Transpose((0, 2, 1, 3)), apart)


def _joined(b: Builder, y: Value) -> Value:
    moved = b.emit(ops.Transpose((0, 2, 1, 3)), y)
    batch, length, heads, width = moved.shape
    return b.emit(ops.Reshape((batch, length, heads * width)), moved)


def _separate(b: Builder) -> Value:
    q, k, v = (b.input(name, F32, (N, length, 12)) for name, length in (("q", L), ("k", 7), ("v", 7)))
    return _joined(b, b.emit(ops.ScaledDotProductAttention(), *(_heads(b, x, 3) for x in (q, k, v))))


def _out_of_one_product(b: Builder) -> Value:
    x = b.input("x", F32, (N, L, 36))
    apart = b.emit(ops.Transpose((2, 0, 3, 1, 4)), b.emit(ops.Reshape((N, L, 3, 3, 4)), x))
    q, k, v = (b.emit(ops.Gather(0), apart, b.constant(np.int64(at), "index")) for at in range(3))
    return _joined(b, b.emit(ops.ScaledDotProductAttention(causal=True), q, k, v))


def _sequence_first(b: Builder) -> Value:
    x = b.input("x", F32, (L, N, 12))

    def heads(x: Value) -> Value:
        y = b.emit(ops.Transpose((1, 0, 2)), b.emit(ops.Reshape((L, N * 3, 4)), x))
        return b.emit(ops.Reshape((N, 3, L, 4)), y)

    y = b.emit(ops.ScaledDotProductAttention(scale=0.3), *(heads(each) for each in (x, x, x)))
    return b.emit(ops.Reshape((L * N, 12)), b.emit(ops.Transpose((2, 0, 1, 3)), y))


@pytest.mark.parametrize(
    ("make", "shapes", "nodes"),
    [
        (_separate, ((2, 5, 12), (2, 7, 12), (2, 7, 12)), {"MultiHeadAttention": 1}),
        (_out_of_one_product, ((2, 5, 36),), {"MultiHeadAttention": 1, "Split": 1}),
        (_sequence_first, ((5, 2, 12),), {"MultiHeadAttention": 1, "Transpose": 4, "Reshape": 1}),
    ],
)
def test_heads_stay_side_by_side(
    make: Callable[[Builder], Value], shapes: tuple[tuple[int, ...], ...], nodes: dict[str, int]
) -> None:
    model = built(make)
    raised = shorten_moves(join_slices(pack_heads(model)))
    assert kinds(raised) == nodes
    agree(model, raised, *shapes)


def test_heads_that_are_interleaved_with_queries_and_keys_stay_apart() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (2, 5, 36))
        apart = b.emit(ops.Reshape((2, 5, 3, 3, 4)), x)  # (N, L, head, q or k or v, width)
        parts = [b.emit(ops.Gather(3), apart, b.constant(np.int64(at), "index")) for at in range(3)]
        y = b.emit(ops.ScaledDotProductAttention(), *(b.emit(ops.Transpose((0, 2, 1, 3)), part) for part in parts))
        return _joined(b, y)

    model = built(make)
    assert kinds(pack_heads(model)) == kinds(model)


def test_heads_from_a_cache_stay_apart() -> None:
    def make(b: Builder) -> Value:
        x, cache = b.input("x", F32, (2, 5, 12)), b.input("cache", F32, (2, 3, 6, 4))
        q = _heads(b, x, 3)
        k = b.emit(ops.Concat(2), cache, q)
        return _joined(b, b.emit(ops.ScaledDotProductAttention(), q, k, k))

    model = built(make)
    assert kinds(pack_heads(model)) == kinds(model)
