"""Rotary position embedding that a source spells out becomes one op; what only looks like it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import agree, built, kinds

from isomorph.ir import Builder, DType, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.movement import shorten_moves
from isomorph.ir.passes.raising.heads import pack_heads
from isomorph.ir.passes.raising.rotary import raise_rotary
from isomorph.ir.shapes import Dim

N, L = Sym("N"), Sym("L")
F32 = DType.FLOAT32
Pair = tuple[Value, Value]


def computed(b: Builder, *, double: bool = True, other: bool = False) -> Pair:
    """cos and sin (1, 1, L, 8 or 4), computed from angles."""
    angles = b.input("angles", F32, (1, L, 4))
    second = b.input("others", F32, (1, L, 4)) if other else angles
    wide = b.emit(ops.Concat(2), angles, second) if double else angles
    scale = b.constant(np.float32(1.25), "scale")
    cos, sin = (b.emit(ops.Mul(), b.emit(op, wide), scale) for op in (ops.Cos(), ops.Sin()))
    return b.emit(ops.Unsqueeze((1,)), cos), b.emit(ops.Unsqueeze((1,)), sin)


def rotate_half(b: Builder, x: Value, *, swapped: bool = False) -> Value:
    half = int(x.shape[3]) // 2  # type: ignore[arg-type]
    first = b.emit(ops.Slice((3,), (0,), (half,), (1,)), x)
    second = b.emit(ops.Slice((3,), (half,), (None,), (1,)), x)
    if swapped:
        first, second = second, first
    return b.emit(ops.Concat(3), b.emit(ops.Neg(), second), first)


def turned(b: Builder, x: Value, cos: Value, sin: Value, *, swapped: bool = False) -> Value:
    rotated = b.emit(ops.Mul(), rotate_half(b, x, swapped=swapped), sin)
    return b.emit(ops.Add(), b.emit(ops.Mul(), x, cos), rotated)


def turned_apart(b: Builder, x: Value, cos: Value, sin: Value) -> Value:
    first, second = b.emit_many(ops.Split(3, (4, 4)), x)
    real = b.emit(ops.Sub(), b.emit(ops.Mul(), first, cos), b.emit(ops.Mul(), second, sin))
    imaginary = b.emit(ops.Add(), b.emit(ops.Mul(), second, cos), b.emit(ops.Mul(), first, sin))
    return b.emit(ops.Concat(3), real, imaginary)


def test_angles_that_are_computed_are_computed_once() -> None:
    model = built(lambda b: turned(b, b.input("x", F32, (N, 4, L, 8)), *computed(b)))
    raised = canonicalize(raise_rotary(model))
    assert kinds(raised) == {
        "RotaryEmbedding": 1,
        "Cos": 1,
        "Sin": 1,
        "Mul": 2,
        "Expand": 2,
        "Reshape": 2,
        "Unsqueeze": 2,
    }
    agree(model, raised)


def test_halves_that_are_turned_apart() -> None:
    model = built(lambda b: turned_apart(b, b.input("x", F32, (N, 4, L, 8)), *computed(b, double=False)))
    assert kinds(raise_rotary(model))["RotaryEmbedding"] == 1
    agree(model, raise_rotary(model))


def constant_angles(b: Builder, *, differ: bool = False) -> Pair:
    angles = np.random.default_rng(1).normal(size=(1, 1, 3, 4)).astype(np.float32)
    wide = np.concatenate([angles, angles + differ], -1)
    return b.constant(np.cos(wide), "cos"), b.constant(np.sin(wide), "sin")


def test_constant_angles() -> None:
    model = built(lambda b: turned(b, b.input("x", F32, (1, 4, 3, 8)), *constant_angles(b)))
    raised = raise_rotary(model)
    assert kinds(raised) == {"RotaryEmbedding": 1}
    agree(model, raised)


def test_a_part_of_each_head() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (1, 4, 3, 12))
        part = b.emit(ops.Slice((3,), (0,), (8,), (1,)), x)
        kept = b.emit(ops.Slice((3,), (8,), (None,), (1,)), x)
        return b.emit(ops.Concat(3), turned(b, part, *constant_angles(b)), kept)

    model = built(make)
    raised = raise_rotary(model)
    assert kinds(raised) == {"RotaryEmbedding": 1}
    agree(model, raised)


def test_heads_stay_side_by_side() -> None:
    def make(b: Builder) -> Value:
        def heads(name: str, count: int) -> Value:
            apart = b.emit(ops.Reshape((N, L, count, 8)), b.input(name, F32, (N, L, 8 * count)))
            return b.emit(ops.Transpose((0, 2, 1, 3)), apart)

        angles = computed(b)
        q, k = (turned(b, heads(name, count), *angles) for name, count in (("q", 4), ("k", 2)))
        y = b.emit(ops.ScaledDotProductAttention(group=2), q, k, heads("v", 2))
        return b.emit(ops.Reshape((N, L, 32)), b.emit(ops.Transpose((0, 2, 1, 3)), y))

    model = built(make)
    raised = shorten_moves(pack_heads(raise_rotary(model)))
    counts = kinds(raised)
    assert (counts["RotaryEmbedding"], counts["MultiHeadAttention"], counts["Transpose"]) == (2, 1, 0)
    agree(model, raised)


def test_heads_that_were_normalized_one_by_one_are_packed() -> None:
    def make(b: Builder) -> Value:
        def heads(name: str) -> Value:
            apart = b.emit(ops.Reshape((N, L, 4, 8)), b.input(name, F32, (N, L, 32)))
            return b.emit(ops.Transpose((0, 2, 1, 3)), b.emit(ops.Softmax(axis=3), apart))

        y = b.emit(ops.ScaledDotProductAttention(), *(heads(name) for name in "qkv"))
        return b.emit(ops.Reshape((N, L, 32)), b.emit(ops.Transpose((0, 2, 1, 3)), y))

    model = built(make)
    packed = shorten_moves(pack_heads(model))
    assert kinds(packed)["Transpose"] == 0
    agree(model, packed)


OPS = [ops.RotaryEmbedding(heads, interleaved) for heads in (None, 4) for interleaved in (False, True)]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_what_rotary_embedding_decomposes_to_is_rotary_embedding(op: ops.RotaryEmbedding) -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 4, L, 8) if op.heads is None else (N, L, 32))
        return b.emit(op, x, b.input("cos", F32, (N, L, 4)), b.input("sin", F32, (N, L, 4)))

    model = built(make)
    apart = legalize(model, lambda node: "it is spelled" if node.op.name == "RotaryEmbedding" else None, "a test")
    agree(model, apart)
    raised = shorten_moves(canonicalize(raise_rotary(apart)))
    assert [node.op for node in raised.graph.nodes] == [op]
    agree(model, raised)


def twice(b: Builder, c: Value, *, expand: bool) -> Value:
    """c, c, d, d, … of c, d, …: repeat_interleave, or a stack."""
    apart = b.emit(ops.Unsqueeze((4,)), c)
    pairs = b.emit(ops.Expand((*c.shape, 2)), apart) if expand else b.emit(ops.Concat(4), apart, apart)
    return b.emit(ops.Reshape((*c.shape[:3], 2 * c.shape[3])), pairs)


def stacked(b: Builder, first: Value, second: Value, *, flat: bool = True) -> Value:
    pairs = b.emit(ops.Concat(4), *(b.emit(ops.Unsqueeze((4,)), each) for each in (first, second)))
    shape = (*first.shape[:3], 2 * first.shape[3])
    return b.emit(ops.Reshape(shape), pairs) if flat else pairs


def every_other(b: Builder, x: Value) -> Pair:
    first, second = (b.emit(ops.Slice((3,), (start,), (None,), (2,)), x) for start in (0, 1))
    return first, second


def rotate_every_two(
    b: Builder, x: Value, cos: Value, sin: Value, *, expand: bool = True, swapped: bool = False
) -> Value:
    """As GPT-J has it."""
    first, second = every_other(b, x)[:: -1 if swapped else 1]
    rotated = stacked(b, b.emit(ops.Neg(), second), first)
    cos, sin = (twice(b, each, expand=expand) for each in (cos, sin))
    return b.emit(ops.Add(), b.emit(ops.Mul(), x, cos), b.emit(ops.Mul(), rotated, sin))


def small_angles(b: Builder, *shape: Dim) -> Pair:
    cos, sin = (b.input(name, F32, shape) for name in ("cos", "sin"))
    return cos, sin


def turned_pairs(b: Builder, first: Value, second: Value, cos: Value, sin: Value) -> Pair:
    real = b.emit(ops.Sub(), b.emit(ops.Mul(), first, cos), b.emit(ops.Mul(), second, sin))
    imaginary = b.emit(ops.Add(), b.emit(ops.Mul(), first, sin), b.emit(ops.Mul(), second, cos))
    return real, imaginary


def of_pairs(b: Builder, how: str) -> Value:
    """Llama's first release: pairs on an axis of their own, here of packed heads."""
    pairs = b.emit(ops.Reshape((N, L, 4, 4, 2)), b.input("x", F32, (N, L, 32)))
    cos, sin = small_angles(b, 1, L, 1, 4)
    if how == "complex":  # torch.onnx's complex numbers
        parts = b.emit_many(ops.Split(4, (1, 1)), pairs)
        angles = (b.emit(ops.Unsqueeze((4,)), each) for each in (cos, sin))
        joined = b.emit(ops.Concat(4), *turned_pairs(b, *parts, *angles))  # type: ignore[misc]
    elif how == "gather":
        parts = tuple(b.emit(ops.Gather(4), pairs, b.constant(np.int64(place))) for place in (0, 1))
        joined = stacked(b, *turned_pairs(b, *parts, cos, sin), flat=False)  # type: ignore[misc]
    else:
        ends = [b.emit(ops.Slice((4,), (place,), (place + 1,), (1,)), pairs) for place in (0, 1)]
        parts = tuple(b.emit(ops.Squeeze((4,)), each) for each in ends)
        joined = stacked(b, *turned_pairs(b, *parts, cos, sin), flat=False)  # type: ignore[misc]
    return b.emit(ops.Reshape((N, L, 32)), joined)


@pytest.mark.parametrize("how", ["complex", "gather", "slice"])
def test_pairs_on_an_axis_of_their_own(how: str) -> None:
    model = built(lambda b: of_pairs(b, how))
    raised = shorten_moves(canonicalize(raise_rotary(model)))
    assert kinds(raised)["RotaryEmbedding"] == 1
    assert kinds(raised)["Mul"] == 0
    assert ops.RotaryEmbedding(4, interleaved=True) in [node.op for node in raised.graph.nodes]
    agree(model, raised)


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("heads", [1, 2])
def test_every_other_element(heads: int, expand: bool) -> None:
    def make(b: Builder) -> Value:
        angles = small_angles(b, 1, 1, L, 4) if heads == 1 else small_angles(b, N, L, 1, 4)
        return rotate_every_two(
            b, b.input("x", F32, (N, 4, L, 8) if heads == 1 else (N, L, 4, 8)), *angles, expand=expand
        )

    model = built(make)
    raised = shorten_moves(canonicalize(raise_rotary(model)))
    assert ops.RotaryEmbedding(None if heads == 1 else 4, interleaved=True) in [node.op for node in raised.graph.nodes]
    assert kinds(raised)["Mul"] == 0
    agree(model, raised)


def test_interleaved_constants() -> None:
    def make(b: Builder) -> Value:
        angles = np.repeat(np.linspace(-3, 3, 12, dtype=np.float32).reshape(1, 1, 3, 4), 2, -1)
        x = b.input("x", F32, (1, 4, 3, 8))
        first, second = every_other(b, x)
        rotated = b.emit(ops.Mul(), stacked(b, b.emit(ops.Neg(), second), first), b.constant(np.sin(angles)))
        return b.emit(ops.Add(), rotated, b.emit(ops.Mul(), b.constant(np.cos(angles)), x))

    model = built(make)
    raised = raise_rotary(model)
    assert [node.op for node in raised.graph.nodes] == [ops.RotaryEmbedding(interleaved=True)]
    agree(model, raised)


def test_a_part_of_each_head_of_gpt_j() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, L, 4, 12))
        part, kept = b.emit_many(ops.Split(3, (8, 4)), x)
        return b.emit(ops.Concat(3), rotate_every_two(b, part, *small_angles(b, N, L, 1, 4)), kept)

    model = built(make)
    raised = shorten_moves(canonicalize(raise_rotary(model)))
    assert kinds(raised) == {"Reshape": 4, "RotaryEmbedding": 1}
    agree(model, raised)


def another_half(b: Builder, cos: Value, sin: Value) -> Value:
    x, z = (b.input(name, F32, (N, 4, L, 8)) for name in "xz")
    return b.emit(ops.Add(), b.emit(ops.Mul(), x, cos), b.emit(ops.Mul(), rotate_half(b, z), sin))


def interleaved_by(b: Builder, cos: Value, sin: Value) -> Value:
    x = b.input("x", F32, (N, 4, L, 8))
    first, second = every_other(b, x)
    rotated = stacked(b, b.emit(ops.Neg(), second), first)
    return b.emit(ops.Add(), b.emit(ops.Mul(), x, cos), b.emit(ops.Mul(), rotated, sin))


NEAR_MISSES: dict[str, Callable[[Builder], Value]] = {
    "halves that are swapped": lambda b: turned(b, b.input("x", F32, (N, 4, L, 8)), *computed(b), swapped=True),
    "angles that differ": lambda b: turned(b, b.input("x", F32, (N, 4, L, 8)), *computed(b, other=True)),
    "constants that differ": lambda b: turned(b, b.input("x", F32, (1, 4, 3, 8)), *constant_angles(b, differ=True)),
    "angles for each head": lambda b: turned(
        b, b.input("x", F32, (1, 4, 3, 8)), *(b.input(name, F32, (1, 4, 3, 8)) for name in ("cos", "sin"))
    ),
    "angles from outside": lambda b: turned(
        b, b.input("x", F32, (1, 4, 3, 8)), *(b.input(name, F32, (1, 1, 3, 8)) for name in ("cos", "sin"))
    ),
    "interleaved and swapped": lambda b: rotate_every_two(
        b, b.input("x", F32, (N, 4, L, 8)), *small_angles(b, 1, 1, L, 4), swapped=True
    ),
    "interleaved, the angles of halves": lambda b: interleaved_by(b, *computed(b)),
    "interleaved, angles that are not repeated": lambda b: interleaved_by(b, *small_angles(b, 1, 1, L, 8)),
    "pairs that change their order": lambda b: stacked(
        b, *turned_pairs(b, *every_other(b, b.input("x", F32, (N, 4, L, 8)))[::-1], *small_angles(b, 1, 1, L, 4))
    ),
    "halves that become pairs": lambda b: stacked(
        b,
        *turned_pairs(
            b, *b.emit_many(ops.Split(3, (4, 4)), b.input("x", F32, (N, 4, L, 8))), *small_angles(b, 1, 1, L, 4)
        ),
    ),
    "pairs with an angle for each head": lambda b: stacked(
        b, *turned_pairs(b, *every_other(b, b.input("x", F32, (N, 4, L, 8))), *small_angles(b, 1, 4, L, 4))
    ),
    "the half of another tensor": lambda b: another_half(b, *computed(b)),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_no_rotary_embedding(name: str) -> None:
    model = built(NEAR_MISSES[name])
    assert kinds(raise_rotary(model)) == kinds(model)
