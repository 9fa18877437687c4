"""GELU that a source spells out becomes one op; what only looks like it does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from small_graphs import agree, built, kinds, number

from isomorph.ir import Builder, DType, Model, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.gelu import raise_gelu

F32, F16 = DType.FLOAT32, DType.FLOAT16
ROOT = math.sqrt(2 / math.pi)


def x_of(b: Builder, dtype: DType = F32) -> Value:
    return b.input("x", dtype, (Sym("N"), 3, 8))


def times(b: Builder, *factors: Value | float) -> Value:
    """The product, from left to right."""
    values = [number(b, each) if isinstance(each, float) else each for each in factors]
    total = values[0]
    for each in values[1:]:
        total = b.emit(ops.Mul(), total, each)
    return total


def plus(b: Builder, x: Value, other: Value | float) -> Value:
    return b.emit(ops.Add(), x, number(b, other) if isinstance(other, float) else other)


def cubic(b: Builder, x: Value, factor: float = 0.044715, exponent: float = 3.0) -> Value:
    return times(b, plus(b, x, times(b, factor, b.emit(ops.Pow(), x, number(b, exponent)))), ROOT)


def gpt2(b: Builder) -> Value:
    x = x_of(b)
    return times(b, times(b, 0.5, x), plus(b, b.emit(ops.Tanh(), cubic(b, x)), 1.0))


def fast(b: Builder) -> Value:
    """0.5 * x * (1 + tanh(x * 0.7978… * (1 + 0.044715 * x * x)))."""
    x = x_of(b)
    inner = times(b, x, ROOT, plus(b, times(b, 0.044715, x, x), 1.0))
    return times(b, 0.5, x, plus(b, b.emit(ops.Tanh(), inner), 1.0))


def erf(b: Builder) -> Value:
    x = x_of(b)
    bent = b.emit(ops.Erf(), b.emit(ops.Div(), x, number(b, math.sqrt(2))))
    return times(b, x, times(b, 0.5, plus(b, bent, 1.0)))


def halved_last(b: Builder) -> Value:
    x = x_of(b)
    return times(b, times(b, x, plus(b, b.emit(ops.Erf(), times(b, x, math.sqrt(0.5))), 1.0)), 0.5)


def tail(b: Builder, *, slope: float = -math.sqrt(0.5), factor: float = 0.5) -> Value:
    """What tf2onnx makes of Keras' GELU."""
    x = x_of(b)
    inner = times(b, b.emit(ops.Neg(), x), -slope)
    return times(b, times(b, factor, x), b.emit(ops.Erfc(), inner))


@pytest.mark.parametrize("takes", [True, False])
def test_gelu_of_the_tail_is_raised_for_any_target(takes: bool) -> None:
    model = built(tail)
    raised = raise_gelu(model, lambda node: None if takes else "no")
    assert [node.op for node in raised.graph.nodes] == [ops.Gelu()]
    agree(model, raised)


@pytest.mark.parametrize(("slope", "factor"), [(math.sqrt(0.5), 0.5), (-0.7, 0.5), (-math.sqrt(0.5), 1.0)])
def test_another_tail_is_no_gelu(slope: float, factor: float) -> None:
    model = built(lambda b: tail(b, slope=slope, factor=factor))
    assert kinds(raise_gelu(model)) == kinds(model)


@pytest.mark.parametrize(
    ("make", "approximate"), [(gpt2, "tanh"), (fast, "tanh"), (erf, "none"), (halved_last, "none")]
)
def test_spelled_gelu_is_one_op(make: Callable[[Builder], Value], approximate: str) -> None:
    model = built(make)
    raised = raise_gelu(model)
    (node,) = raised.graph.nodes
    assert node.op == ops.Gelu(approximate)  # type: ignore[arg-type]
    agree(model, raised)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_what_gelu_decomposes_to_is_gelu(approximate: str, dtype: DType) -> None:
    model = built(lambda b: b.emit(ops.Gelu(approximate), x_of(b, dtype)))  # type: ignore[arg-type]
    apart = legalize(model, lambda node: "spelled" if isinstance(node.op, ops.Gelu) else None, "a test")
    assert "Gelu" not in kinds(apart)
    raised = canonicalize(raise_gelu(apart))
    assert [node.op for node in raised.graph.nodes] == [node.op for node in model.graph.nodes]


def near_miss(name: str) -> Model:
    def make(b: Builder) -> Value:
        x = x_of(b)
        other = b.input("z", F32, (Sym("N"), 3, 8))
        if name == "a factor of x^2":
            bent = b.emit(ops.Tanh(), cubic(b, x, exponent=2.0))
        elif name == "a factor of 0.0447":
            bent = b.emit(ops.Tanh(), cubic(b, x, factor=0.0447))
        elif name == "tanh of another value":
            bent = b.emit(ops.Tanh(), cubic(b, other))
        elif name == "erf of x":
            bent = b.emit(ops.Erf(), x)
        else:
            bent = b.emit(ops.Erf(), times(b, x, math.sqrt(0.5)))
        shifted = plus(b, bent, 2.0 if name == "two and erf" else 1.0)
        return times(b, 0.25 if name == "a quarter" else 0.5, other if name == "another factor" else x, shifted)

    return built(make)


@pytest.mark.parametrize(
    "name",
    [
        "a factor of x^2",
        "a factor of 0.0447",
        "tanh of another value",
        "erf of x",
        "two and erf",
        "a quarter",
        "another factor",
    ],
)
def test_what_is_no_gelu(name: str) -> None:
    model = near_miss(name)
    assert kinds(raise_gelu(model)) == kinds(model)


def test_a_target_without_gelu_gets_none() -> None:
    model = built(gpt2)
    refused = raise_gelu(model, lambda node: "no" if isinstance(node.op, ops.Gelu) else None)
    assert kinds(refused) == kinds(model)


def test_a_sum_that_is_read_elsewhere_stays_beside_the_op() -> None:
    def make(b: Builder) -> Value:
        x = x_of(b)
        bent = plus(b, b.emit(ops.Erf(), times(b, x, math.sqrt(0.5))), 1.0)
        b.output("bent", bent)
        return times(b, 0.5, x, bent)

    model = built(make)
    raised = raise_gelu(model)
    assert kinds(raised) == {"Mul": 1, "Erf": 1, "Add": 1, "Gelu": 1}
    agree(model, raised)
