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


@pytest.mark.parametrize("op", [ops.RotaryEmbedding(), ops.RotaryEmbedding(4)], ids=str)
def test_what_rotary_embedding_decomposes_to_is_rotary_embedding(op: ops.RotaryEmbedding) -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 4, L, 8) if op.heads is None else (N, L, 32))
        return b.emit(op, x, b.input("cos", F32, (N, L, 4)), b.input("sin", F32, (N, L, 4)))

    model = built(make)
    apart = legalize(model, lambda node: "it is spelled" if node.op.name == "RotaryEmbedding" else None, "a test")
    agree(model, apart)
    if op.heads is None:  # packed heads are packed again where attention follows
        raised = shorten_moves(canonicalize(raise_rotary(apart)))
        assert [node.op for node in raised.graph.nodes] == [op]
        agree(model, raised)


def another_half(b: Builder, cos: Value, sin: Value) -> Value:
    x, z = (b.input(name, F32, (N, 4, L, 8)) for name in "xz")
    return b.emit(ops.Add(), b.emit(ops.Mul(), x, cos), b.emit(ops.Mul(), rotate_half(b, z), sin))


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
    "the half of another tensor": lambda b: another_half(b, *computed(b)),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_no_rotary_embedding(name: str) -> None:
    model = built(NEAR_MISSES[name])
    assert kinds(raise_rotary(model)) == kinds(model)
