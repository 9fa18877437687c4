"""Attention that a source spells out becomes one op; what only looks like it does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import agree, built, kinds, number

from isomorph.ir import Builder, DType, Model, Origin, Scope, Sym, Value, ops
from isomorph.ir.bounds import bounds
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.attention import raise_attention

N, L, S = Sym("N"), Sym("L"), Sym("S")
F32 = DType.FLOAT32
LOWEST = float(np.finfo(np.float32).min)


def operands(b: Builder) -> tuple[Value, Value, Value]:
    return b.input("q", F32, (N, 4, L, 8)), b.input("k", F32, (N, 4, S, 8)), b.input("v", F32, (N, 4, S, 6))


def weigh(b: Builder, scores: Value, v: Value) -> Value:
    return b.emit(ops.MatMul(), b.emit(ops.Softmax(axis=scores.rank - 1), scores), v)


def no_mask(b: Builder, scores: Value) -> Value:
    return scores


def where_added(b: Builder, scores: Value) -> Value:
    allowed = b.input("allowed", DType.BOOL, (N, 1, L, S))
    return b.emit(ops.Add(), scores, b.emit(ops.Where(), allowed, number(b, 0), number(b, LOWEST)))


def chosen(b: Builder, scores: Value) -> Value:
    return b.emit(ops.Where(), b.input("allowed", DType.BOOL, (N, 1, L, S)), scores, number(b, LOWEST))


def hidden(b: Builder, scores: Value) -> Value:
    return b.emit(ops.Where(), b.input("hidden", DType.BOOL, (N, 4, L, S)), number(b, LOWEST), scores)


def of_keys(b: Builder, scores: Value) -> Value:
    """A mask (N, 1, 1, S) from truth values, as numbers: (1 - m) * lowest."""
    kept = b.emit(ops.Cast(F32), b.input("kept", DType.BOOL, (N, 1, 1, S)))
    return b.emit(ops.Add(), b.emit(ops.Mul(), b.emit(ops.Sub(), number(b, 1), kept), number(b, LOWEST)), scores)


def biased(b: Builder, scores: Value) -> Value:
    bias = b.constant(np.linspace(-1, 1, 4, dtype=np.float32).reshape(4, 1, 1), "bias")
    return where_added(b, b.emit(ops.Add(), scores, bias))


MASKS = [no_mask, where_added, chosen, hidden, of_keys, biased]
SCALES = ["none", "times", "over", "queries"]


@pytest.mark.parametrize(("mask", "scale"), list(itertools.product(MASKS, SCALES)))
def test_spelled_attention_is_one_op(mask: Callable[[Builder, Value], Value], scale: str) -> None:
    def make(b: Builder) -> Value:
        q, k, v = operands(b)
        q = b.emit(ops.Mul(), q, number(b, 0.25)) if scale == "queries" else q
        scores = b.emit(ops.MatMul(), q, b.emit(ops.Transpose((0, 1, 3, 2)), k))
        if scale == "times":
            scores = b.emit(ops.Mul(), number(b, 0.25), scores)
        elif scale == "over":
            scores = b.emit(ops.Div(), scores, number(b, 4))
        return weigh(b, mask(b, scores), v)

    model = built(make)
    raised = canonicalize(raise_attention(model))
    counts = kinds(raised)
    assert counts["ScaledDotProductAttention"] == 1
    assert not counts.keys() & {"MatMul", "Softmax", "Transpose", "Div"}
    (node,) = (node for node in raised.graph.nodes if isinstance(node.op, ops.ScaledDotProductAttention))
    assert node.op == ops.ScaledDotProductAttention(scale=1.0 if scale == "none" else 0.25)
    agree(model, raised)


@pytest.mark.parametrize("mask", [no_mask, of_keys, biased])
@pytest.mark.parametrize("together", ["scores", "scores and weights"])
def test_attention_of_heads_on_the_axis_of_the_batch(mask: Callable[[Builder, Value], Value], together: str) -> None:
    def make(b: Builder) -> Value:
        q, k, v = operands(b)
        q3, k3 = b.emit(ops.Reshape((4 * N, L, 8)), q), b.emit(ops.Reshape((4 * N, S, 8)), k)
        scores = b.emit(ops.MatMul(), q3, b.emit(ops.Transpose((0, 2, 1)), k3))
        slopes = b.emit(ops.Add(), b.input("slopes", F32, (4 * N, 1, S)), scores) if mask is biased else scores
        masked = mask(b, b.emit(ops.Reshape((N, 4, L, S)), scores if mask is no_mask else slopes))
        if together == "scores":
            return weigh(b, masked, v)
        weights = b.emit(ops.Reshape((4 * N, L, S)), b.emit(ops.Softmax(axis=3), masked))
        return b.emit(ops.MatMul(), weights, b.emit(ops.Reshape((4 * N, S, 6)), v))

    model = built(make)
    raised = raise_attention(model)
    counts = kinds(raised)
    if mask is biased:  # slopes that come from outside may be -inf
        assert counts == kinds(model)
        return
    assert counts["ScaledDotProductAttention"] == 1
    assert not counts.keys() & {"MatMul", "Softmax"}
    agree(model, raised)


def decomposed(op: ops.ScaledDotProductAttention, dtype: DType | None, *, constant: bool = False) -> Model:
    def make(b: Builder) -> Value:
        q, k, v = operands(b)
        mask: Value | None = None
        if dtype is not None:
            mask = b.input("mask", dtype, (N, 1, L, S))
        if constant:
            mask = b.constant(np.ones((1, 1, 3, 5), np.bool_), "mask")
            q, k, v = (b.input(f"{name}s", F32, (2, 4, length, 8)) for name, length in (("q", 3), ("k", 5), ("v", 5)))
        return b.emit(op, q, k, v, mask)

    return built(make)


@pytest.mark.parametrize("scale", [0.5, 1 / math.sqrt(8)])
@pytest.mark.parametrize(
    ("mask", "constant"), [(None, False), (DType.BOOL, False), (F32, False), (None, True)], ids=str
)
def test_what_attention_decomposes_to_is_attention(mask: DType | None, constant: bool, scale: float) -> None:
    model = decomposed(ops.ScaledDotProductAttention(scale=np.float32(scale).item()), mask, constant=constant)
    apart = legalize(
        model, lambda node: "it is spelled" if node.op.name == "ScaledDotProductAttention" else None, "a test"
    )
    assert "ScaledDotProductAttention" not in kinds(apart)
    raised = canonicalize(raise_attention(apart))
    assert [node.op for node in raised.graph.nodes] == [node.op for node in model.graph.nodes]
    agree(model, raised)


def near_miss(name: str) -> Model:
    def make(b: Builder) -> Value:
        q, k, v = operands(b)
        scores = b.emit(ops.MatMul(), q, b.emit(ops.Transpose((0, 1, 3, 2)), k))
        factor = -0.25 if name == "a negative scale" else 0.25
        if name == "a mask before the scale":
            scores = where_added(b, scores)
        scores = b.emit(ops.Mul(), scores, number(b, factor))
        if name == "scores that something else reads":
            b.output("scores", scores)
        elif name == "a mask that may add -inf":
            scores = b.emit(ops.Add(), scores, b.input("mask", F32, (N, 1, L, S)))
        elif name == "a mask from any integer":
            kept = b.emit(ops.Cast(F32), b.input("kept", DType.INT64, (N, 1, 1, S)))
            scores = b.emit(ops.Add(), scores, b.emit(ops.Mul(), kept, number(b, LOWEST)))
        elif name == "two masks that may add up to -inf":
            scores = where_added(b, of_keys(b, scores))
        elif name == "scores replaced by -inf":
            scores = b.emit(ops.Where(), b.input("m", DType.BOOL, (N, 1, L, S)), scores, number(b, -np.inf))
        elif name == "scores replaced by a small number":
            scores = b.emit(ops.Where(), b.input("m", DType.BOOL, (N, 1, L, S)), scores, number(b, -5.0))
        weights = b.emit(ops.Softmax(axis=2 if name == "a softmax over the queries" else 3), scores)
        if name == "weights that something else reads":
            b.output("weights", weights)
        return b.emit(ops.MatMul(), weights, v)

    return built(make)


@pytest.mark.parametrize(
    "name",
    [
        "a negative scale",
        "a mask before the scale",
        "scores that something else reads",
        "weights that something else reads",
        "a mask that may add -inf",
        "a mask from any integer",
        "two masks that may add up to -inf",
        "scores replaced by -inf",
        "scores replaced by a small number",
        "a softmax over the queries",
    ],
)
def test_what_is_no_attention(name: str) -> None:
    model = near_miss(name)
    assert kinds(raise_attention(model)) == kinds(model)


@pytest.mark.parametrize(
    ("wrong", "operand"), [("top", "a sum"), ("nothing", "a one"), ("lowest", "a finite number")], ids=str
)
def test_guards_of_another_kind_stay(wrong: str, operand: str) -> None:
    def make(b: Builder) -> Value:
        q, k, v = operands(b)
        scores = b.emit(ops.MatMul(), q, b.emit(ops.Transpose((0, 1, 3, 2)), k))
        scores = b.emit(ops.Where(), b.input("m", DType.BOOL, (N, 1, L, S)), scores, number(b, -np.inf))
        top = b.emit((ops.ReduceSum if wrong == "top" else ops.ReduceMax)((3,)), scores)
        none = b.emit(ops.Equal(), top, number(b, LOWEST if wrong == "lowest" else -np.inf))
        weights = b.emit(ops.Softmax(axis=3), scores)
        kept = b.emit(ops.Where(), none, number(b, 1.0 if wrong == "nothing" else 0.0), weights)
        return b.emit(ops.MatMul(), kept, v)

    model = built(make)
    assert kinds(raise_attention(model)) == kinds(model), operand


def nan_guarded(wrong: str) -> Model:
    """Where(IsNaN(softmax(s)), 0, softmax(s)) @ v under a mask of -inf, as torch.onnx writes it."""

    def make(b: Builder) -> Value:
        q, k, v = operands(b)
        keys = b.emit(ops.Mul(), b.emit(ops.Transpose((0, 1, 3, 2)), k), number(b, 0.5))
        scores = b.emit(ops.MatMul(), b.emit(ops.Mul(), q, number(b, 0.5)), keys)
        hidden = b.emit(ops.Where(), b.input("m", DType.BOOL, (N, 1, L, S)), number(b, 0), number(b, -np.inf))
        scores = b.emit(ops.Add(), scores, hidden)
        weights = b.emit(ops.Softmax(axis=3), scores)
        looked_at = scores if wrong == "scores" else weights
        none = b.emit((ops.IsInf() if wrong == "infinite" else ops.IsNaN()), looked_at)
        number_there = number(b, 1.0 if wrong == "one" else 0.0)
        kept = b.emit(ops.Where(), none, number_there, weights)
        if wrong == "read":
            b.output("weights", weights)
        return b.emit(ops.MatMul(), kept, v)

    return built(make)


def test_attention_guarded_against_nan_and_scaled_on_both_sides() -> None:
    model = nan_guarded("")
    raised = canonicalize(raise_attention(model))
    (node,) = (node for node in raised.graph.nodes if isinstance(node.op, ops.ScaledDotProductAttention))
    assert node.op == ops.ScaledDotProductAttention(scale=0.25)
    assert not kinds(raised).keys() & {"MatMul", "Softmax", "IsNaN"}
    with np.errstate(invalid="ignore"):
        agree(model, raised)


@pytest.mark.parametrize("wrong", ["scores", "infinite", "one", "read"])
def test_guards_against_nan_that_are_none(wrong: str) -> None:
    model = nan_guarded(wrong)
    assert kinds(raise_attention(model)) == kinds(model)


def test_a_target_without_attention_keeps_a_guard_as_it_is() -> None:
    model = nan_guarded("")
    refuse = lambda node: "no" if isinstance(node.op, ops.ScaledDotProductAttention) else None  # noqa: E731
    assert kinds(raise_attention(model, refuse)) == kinds(model)


def test_bounds_follow_the_arithmetic_of_the_type() -> None:
    b = Builder("test")
    with b.at(Scope(), Origin("test", "op", "x")):
        kept = b.emit(ops.Cast(F32), b.input("kept", DType.BOOL, (N, 5)))
        small = b.emit(ops.Mul(), b.emit(ops.Sub(), number(b, 1), kept), number(b, LOWEST))
        assert bounds(small) == (LOWEST, 0.0)
        assert bounds(b.emit(ops.Add(), small, number(b, -5))) == (LOWEST, -5.0)  # rounds to the lowest number
        assert bounds(b.emit(ops.Add(), small, small)) == (-np.inf, 0.0)
        assert bounds(b.emit(ops.Cast(DType.FLOAT16), small)) == (-np.inf, 0.0)
        assert bounds(b.input("mask", F32, (N, 5))) == (-np.inf, np.inf)
        assert bounds(b.emit(ops.Div(), small, small)) == (-np.inf, np.inf)
        assert bounds(number(b, np.nan)) == (-np.inf, np.inf)
        doubled = small
        for _ in range(60):  # shared operands are looked at once
            doubled = b.emit(ops.Min(), doubled, doubled)
        assert bounds(doubled) == (LOWEST, 0.0)
