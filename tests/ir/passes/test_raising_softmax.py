"""Softmax that a source spells out becomes one op; what only looks like it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import agree, built, drawn, kinds, number

from isomorph.ir import Builder, DType, Op, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.attention import raise_attention
from isomorph.ir.passes.raising.softmax import raise_softmax
from isomorph.ir.shapes import Shape

N, F32 = Sym("N"), DType.FLOAT32
Make = Callable[[Builder, Value], Value]


def x_of(b: Builder, shape: Shape = (N, 3, 8)) -> Value:
    return b.input("x", F32, shape)


def reduced(b: Builder, kind: type[Op], x: Value, axis: int, dropped: str = "") -> Value:
    """x reduced along an axis, which is kept, or dropped and given back."""
    if not dropped:
        return b.emit(kind((axis,)), x)  # type: ignore[call-arg]
    y = b.emit(kind((axis,), keepdims=False), x)  # type: ignore[call-arg]
    shape = tuple(1 if place == axis else dim for place, dim in enumerate(x.shape))
    return b.emit(ops.Unsqueeze((axis,)) if dropped == "unsqueeze" else ops.Reshape(shape), y)


def centered(b: Builder, x: Value, axis: int, dropped: str = "") -> Value:
    return b.emit(ops.Sub(), x, reduced(b, ops.ReduceMax, x, axis, dropped))


def stable(b: Builder, x: Value, axis: int = 2, dropped: str = "", sum_axis: int | None = None) -> Value:
    grown = b.emit(ops.Exp(), centered(b, x, axis, dropped))
    return b.emit(ops.Div(), grown, reduced(b, ops.ReduceSum, grown, axis if sum_axis is None else sum_axis, dropped))


def by_reciprocal(b: Builder, x: Value) -> Value:
    grown = b.emit(ops.Exp(), centered(b, x, 1))
    return b.emit(ops.Mul(), b.emit(ops.Reciprocal(), reduced(b, ops.ReduceSum, grown, 1)), grown)


def log_sum(b: Builder, x: Value, axis: int, dropped: str = "") -> Value:
    return b.emit(ops.Log(), reduced(b, ops.ReduceSum, b.emit(ops.Exp(), x), axis, dropped))


def log_stable(b: Builder, x: Value, dropped: str = "") -> Value:
    inner = centered(b, x, 2, dropped)
    return b.emit(ops.Sub(), inner, log_sum(b, inner, 2, dropped))


def less_log_sum(b: Builder, x: Value) -> Value:
    greatest = reduced(b, ops.ReduceMax, x, 1)
    total = log_sum(b, b.emit(ops.Sub(), x, greatest), 1)
    return b.emit(ops.Sub(), x, b.emit(ops.Add(), total, greatest))


def between_transposes(b: Builder, x: Value, op: Op, back: tuple[int, ...] = (0, 2, 1)) -> Value:
    """As torch.onnx writes softmax along another axis than the last before opset 13."""
    return b.emit(ops.Transpose(back), b.emit(op, b.emit(ops.Transpose((0, 2, 1)), x)))


def flattened(b: Builder, shape: Shape, place: int = 1) -> Value:
    """As ONNX means Softmax before opset 13."""
    x = x_of(b, shape)
    return b.emit(ops.Reshape(shape), b.emit(ops.Softmax(axis=1), b.emit(ops.Flatten(place), x)))


FORMS: dict[str, tuple[Callable[[Builder], Value], Op]] = {
    "stable": (lambda b: stable(b, x_of(b)), ops.Softmax(axis=2)),
    "stable, along the first axis": (lambda b: stable(b, x_of(b), 0), ops.Softmax(axis=0)),
    "the axis dropped and given back": (lambda b: stable(b, x_of(b), 1, "unsqueeze"), ops.Softmax(axis=1)),
    "the axis dropped and shaped back": (lambda b: stable(b, x_of(b), 1, "reshape"), ops.Softmax(axis=1)),
    "times the reciprocal": (lambda b: by_reciprocal(b, x_of(b)), ops.Softmax(axis=1)),
    "exp of log softmax": (lambda b: b.emit(ops.Exp(), b.emit(ops.LogSoftmax(axis=1), x_of(b))), ops.Softmax(axis=1)),
    "logsumexp": (
        lambda b: b.emit(ops.Sub(), x := x_of(b), b.emit(ops.ReduceLogSumExp((1,)), x)), ops.LogSoftmax(axis=1)
    ),
    "log, stable": (lambda b: log_stable(b, x_of(b)), ops.LogSoftmax(axis=2)),
    "log, stable, the axis dropped": (lambda b: log_stable(b, x_of(b), "reshape"), ops.LogSoftmax(axis=2)),
    "less the log of the sum": (lambda b: less_log_sum(b, x_of(b)), ops.LogSoftmax(axis=1)),
    "between transposes": (lambda b: between_transposes(b, x_of(b), ops.Softmax(axis=2)), ops.Softmax(axis=1)),
    "log between transposes": (
        lambda b: between_transposes(b, x_of(b), ops.LogSoftmax(axis=-1)), ops.LogSoftmax(axis=1)
    ),
    "of all axes from 1, of which one is no 1": (lambda b: flattened(b, (N, 8, 1, 1)), ops.Softmax(axis=1)),
    "of all axes from 1, the last": (lambda b: flattened(b, (N, 1, 1, 8)), ops.Softmax(axis=3)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_spelled_softmax_is_one_op(name: str) -> None:
    make, wanted = FORMS[name]
    model = built(make)
    raised = raise_softmax(raise_softmax(model))
    (node,) = raised.graph.nodes
    assert node.op == wanted
    agree(model, raised)
    agree(model, raised, {name: 100 * array for name, array in drawn(model).items()}, atol=1e-4)


@pytest.mark.parametrize("op", [ops.Softmax(), ops.Softmax(axis=1), ops.LogSoftmax(), ops.LogSoftmax(axis=0)], ids=repr)
def test_what_softmax_decomposes_to_is_softmax(op: ops.Softmax) -> None:
    model = built(lambda b: b.emit(op, x_of(b)))
    apart = legalize(model, lambda node: "spelled" if isinstance(node.op, ops.Softmax) else None, "a test")
    assert len(apart.graph.nodes) > 3
    (node,) = canonicalize(raise_softmax(apart)).graph.nodes
    assert type(node.op) is type(op)
    assert node.op.attributes()["axis"] == op.axis % 3
    agree(model, raise_softmax(apart))


def test_attention_around_it_is_attention() -> None:
    def make(b: Builder) -> Value:
        q, k, v = (b.input(name, F32, (N, 2, 3, 8)) for name in "qkv")
        scores = b.emit(ops.MatMul(), q, b.emit(ops.Transpose((0, 1, 3, 2)), k))
        return b.emit(ops.MatMul(), stable(b, scores, 3), v)

    model = built(make)
    raised = canonicalize(raise_attention(raise_softmax(model)))
    assert kinds(raised) == {"ScaledDotProductAttention": 1}
    agree(model, raised)


def without_greatest(b: Builder) -> Value:
    grown = b.emit(ops.Exp(), x_of(b))
    return b.emit(ops.Div(), grown, reduced(b, ops.ReduceSum, grown, 2))


def of_another(b: Builder) -> Value:
    x, z = x_of(b), b.input("z", F32, (N, 3, 8))
    grown = b.emit(ops.Exp(), b.emit(ops.Sub(), x, reduced(b, ops.ReduceMax, z, 2)))
    return b.emit(ops.Div(), grown, reduced(b, ops.ReduceSum, grown, 2))


def over_two_axes(b: Builder) -> Value:
    grown = b.emit(ops.Exp(), centered(b, x_of(b), 2))
    return b.emit(ops.Div(), grown, b.emit(ops.ReduceSum((1, 2)), grown))


def shown_between(b: Builder) -> Value:
    moved = b.emit(ops.Softmax(axis=2), b.emit(ops.Transpose((0, 2, 1)), x_of(b)))
    b.output("moved", moved)
    return b.emit(ops.Transpose((0, 2, 1)), moved)


NEAR_MISSES: dict[str, Callable[[Builder], Value]] = {
    "the greatest is not taken away": without_greatest,
    "the greatest of another value": of_another,
    "sums along another axis": lambda b: stable(b, x_of(b), 2, sum_axis=1),
    "sums over two axes": over_two_axes,
    "the logarithm of a sum that overflows": lambda b: b.emit(ops.Sub(), x := x_of(b), log_sum(b, x, 2)),
    "logsumexp over two axes": lambda b: b.emit(ops.Sub(), x := x_of(b), b.emit(ops.ReduceLogSumExp((1, 2)), x)),
    "the logarithm, -inf where a probability is 0": lambda b: b.emit(ops.Log(), b.emit(ops.Softmax(), x_of(b))),
    "the logarithm of a scaled softmax": lambda b: b.emit(
        ops.Log(), b.emit(ops.Mul(), b.emit(ops.Softmax(), x_of(b)), number(b, 2.0))
    ),
    "another transpose": lambda b: between_transposes(b, x_of(b, (4, 4, 4)), ops.Softmax(axis=2), (2, 0, 1)),
    "something else reads it transposed": shown_between,
    "over two axes": lambda b: flattened(b, (N, 3, 8, 1)),
    "over the size of a batch": lambda b: flattened(b, (2, N, 3), 1),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_no_softmax_along_an_axis(name: str) -> None:
    model = built(NEAR_MISSES[name])
    assert kinds(raise_softmax(model)) == kinds(model)


def test_a_target_without_it_keeps_the_formula() -> None:
    model = built(FORMS["stable"][0])
    refused = raise_softmax(model, lambda node: "no" if isinstance(node.op, ops.Softmax) else None)
    assert kinds(refused) == kinds(model)


def test_a_row_that_is_hidden_stays_nan() -> None:
    model = built(FORMS["stable"][0])
    feeds = {"x": np.full((2, 3, 8), -np.inf, np.float32)}
    agree(model, raise_softmax(model), feeds)
