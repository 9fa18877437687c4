"""Activation functions that a source spells out become one op; what only looks like them does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import agree, built, kinds, number

from isomorph.ir import Builder, DType, Model, Op, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.activations import raise_activations

F32 = DType.FLOAT32
Make = Callable[[Builder, Value, Value], Value]


def model_of(make: Make, dtype: DType = F32) -> Model:
    """A model of x and z (N, 3, 8), both of which it uses."""

    def both(b: Builder) -> Value:
        x, z = (b.input(name, dtype, (Sym("N"), 3, 8)) for name in "xz")
        b.output("z_again", b.emit(ops.Identity(), z))
        return make(b, x, z)

    return built(both)


def emit(op: Op) -> Callable[..., Value]:
    def call(b: Builder, *operands: Value | float) -> Value:
        dtype = [each.dtype for each in operands if isinstance(each, Value)][-1]
        values = (each if isinstance(each, Value) else number(b, each, dtype) for each in operands)
        return b.emit(op, *values)

    return call


add, sub, mul, div, high, low = (emit(op()) for op in (ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Max, ops.Min))
exp, log, neg, absolute, where = (emit(op()) for op in (ops.Exp, ops.Log, ops.Neg, ops.Abs, ops.Where))
greater, less, at_least = emit(ops.Greater()), emit(ops.Less()), emit(ops.GreaterOrEqual())
sigmoid, tanh, softplus, relu = (emit(op()) for op in (ops.Sigmoid, ops.Tanh, ops.Softplus, ops.Relu))
reciprocal, expm1 = emit(ops.Reciprocal()), emit(ops.Expm1())


def clip(b: Builder, x: Value, least: float | None, most: float | None) -> Value:
    return b.emit(ops.Clip(least, most), x)


def six(b: Builder, x: Value) -> Value:
    """relu6(x + 3)."""
    return clip(b, add(b, x, 3.0), 0.0, 6.0)


def grown(b: Builder, x: Value, alpha: float, slope: float = 1.0) -> Value:
    inside = x if slope == 1.0 else div(b, x, 1 / slope)
    return mul(b, alpha, sub(b, exp(b, inside), 1.0))


def grown_below(b: Builder, x: Value, alpha: float, slope: float) -> Value:
    return mul(b, alpha, expm1(b, mul(b, low(b, x, 0.0), slope)))


FORMS: dict[str, tuple[Make, Op]] = {
    "silu": (lambda b, x, z: mul(b, sigmoid(b, x), x), ops.Swish()),
    "quick gelu": (lambda b, x, z: mul(b, x, sigmoid(b, mul(b, 1.702, x))), ops.Swish(float(np.float32(1.702)))),
    "silu by exp": (lambda b, x, z: div(b, x, add(b, 1.0, exp(b, neg(b, x)))), ops.Swish()),
    "sigmoid by exp": (lambda b, x, z: div(b, 1.0, add(b, exp(b, neg(b, x)), 1.0)), ops.Sigmoid()),
    "sigmoid by reciprocal": (lambda b, x, z: reciprocal(b, add(b, exp(b, mul(b, x, -1.0)), 1.0)), ops.Sigmoid()),
    "keras hard sigmoid": (
        lambda b, x, z: clip(b, add(b, mul(b, x, 0.25), 0.5), 0.0, 1.0), ops.HardSigmoid(0.25, 0.5)
    ),
    "hard sigmoid by min and max": (
        lambda b, x, z: high(b, 0.0, low(b, 1.0, add(b, 0.5, mul(b, 0.125, x)))), ops.HardSigmoid(0.125, 0.5)
    ),
    "hard sigmoid by relu6": (lambda b, x, z: div(b, six(b, x), 6.0), ops.HardSigmoid(1 / 6, 0.5)),
    "hard swish, torch before 1.6": (lambda b, x, z: div(b, mul(b, x, six(b, x)), 6.0), ops.HardSwish()),
    "hard swish, gate first": (lambda b, x, z: mul(b, div(b, six(b, x), 6.0), x), ops.HardSwish()),
    "hard swish, relu and min": (
        lambda b, x, z: mul(b, mul(b, 1 / 6, x), low(b, relu(b, add(b, x, 3.0)), 6.0)), ops.HardSwish()
    ),
    "hard swish, opset 13": (lambda b, x, z: mul(b, x, b.emit(ops.HardSigmoid(1 / 6, 0.5), x)), ops.HardSwish()),
    "mish": (lambda b, x, z: mul(b, x, tanh(b, softplus(b, x))), ops.Mish()),
    "mish, softplus cut off": (
        lambda b, x, z: mul(b, tanh(b, where(b, greater(b, x, 20.0), x, softplus(b, x))), x), ops.Mish()
    ),
    "torch.onnx's softplus": (lambda b, x, z: where(b, greater(b, x, 20.0), x, softplus(b, x)), ops.Softplus()),
    "softplus, the other way round": (
        lambda b, x, z: where(b, less(b, x, 30.0), softplus(b, x), x), ops.Softplus()
    ),
    "softplus that does not overflow": (
        lambda b, x, z: add(b, relu(b, x), log(b, add(b, 1.0, exp(b, neg(b, absolute(b, x)))))), ops.Softplus()
    ),
    "log sigmoid": (lambda b, x, z: neg(b, softplus(b, neg(b, x))), ops.LogSigmoid()),
    "softsign": (lambda b, x, z: div(b, x, add(b, absolute(b, x), 1.0)), ops.Softsign()),
    "elu": (lambda b, x, z: where(b, at_least(b, x, 0.0), x, grown(b, x, 0.5)), ops.Elu(0.5)),
    "elu, below": (lambda b, x, z: where(b, less(b, x, 0.0), sub(b, exp(b, x), 1.0), x), ops.Elu(1.0)),
    "celu": (lambda b, x, z: add(b, relu(b, x), low(b, 0.0, grown(b, x, 2.0, 0.5))), ops.Celu(2.0)),
    "celu by expm1": (lambda b, x, z: add(b, high(b, x, 0.0), grown_below(b, x, 2.0, 0.5)), ops.Celu(2.0)),
    "elu by expm1": (lambda b, x, z: where(b, greater(b, x, 0.0), x, mul(b, 0.5, expm1(b, x))), ops.Elu(0.5)),
    "selu": (lambda b, x, z: mul(b, ops.Selu().gamma, b.emit(ops.Elu(ops.Selu().alpha), x)), ops.Selu()),
    "leaky relu by max": (lambda b, x, z: high(b, mul(b, x, 0.25), x), ops.LeakyRelu(0.25)),
    "leaky relu by a choice": (lambda b, x, z: where(b, greater(b, x, 0.0), x, mul(b, x, -0.25)), ops.LeakyRelu(-0.25)),
    "relu by max": (lambda b, x, z: high(b, 0.0, x), ops.Relu()),
    "relu by clip": (lambda b, x, z: clip(b, x, 0.0, None), ops.Relu()),
    "relu6 by min": (lambda b, x, z: low(b, relu(b, x), 6.0), ops.Clip(0.0, 6.0)),
    "thresholded relu": (lambda b, x, z: where(b, greater(b, x, 0.5), x, 0.0), ops.ThresholdedRelu(0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", [F32, DType.FLOAT16])
def test_a_spelled_activation_is_one_op(name: str, dtype: DType) -> None:
    make, wanted = FORMS[name]
    model = model_of(make, dtype)
    (_, node) = raise_activations(model).graph.nodes
    assert type(node.op) is type(wanted)
    for attribute, found in node.op.attributes().items():
        assert found == pytest.approx(wanted.attributes()[attribute], rel=1e-6 if dtype is F32 else 2e-3)
    tolerance = 1e-5 if dtype is F32 else 4e-3
    agree(model, raise_activations(model), rtol=tolerance, atol=tolerance / 4)


def test_a_product_is_the_argument() -> None:
    """What is activated may be a product itself."""
    model = model_of(lambda b, x, z: mul(b, y := mul(b, mul(b, x, z), 3.0), sigmoid(b, y)))
    raised = raise_activations(model)
    assert kinds(raised) == {"Identity": 1, "Mul": 2, "Swish": 1}
    agree(model, raised)


COMPOSITES = [
    ops.Swish(), ops.Swish(1.5), ops.HardSigmoid(0.25, 0.5), ops.HardSwish(), ops.Mish(), ops.LogSigmoid(),
    ops.Elu(0.5), ops.Softsign(), ops.Selu(), ops.Celu(0.5), ops.Clip(-1.0, 0.5), ops.LeakyRelu(0.25),
    ops.ThresholdedRelu(0.5), ops.Softplus(), ops.Sigmoid(),
]  # fmt: skip


@pytest.mark.parametrize("op", COMPOSITES, ids=repr)
def test_what_an_activation_decomposes_to_is_the_activation(op: Op) -> None:
    model = built(lambda b: b.emit(op, b.input("x", F32, (Sym("N"), 8))))
    apart = legalize(model, lambda node: "spelled" if isinstance(node.op, type(op)) else None, "a test")
    assert op.name not in kinds(apart)
    (node,) = canonicalize(raise_activations(apart)).graph.nodes
    assert type(node.op) is type(op)
    assert node.op.attributes() == pytest.approx(op.attributes(), rel=1e-6)
    agree(model, raise_activations(apart))


NEAR_MISSES: dict[str, Make] = {
    "the gate of another value": lambda b, x, z: mul(b, sigmoid(b, z), x),
    "a gate that is shifted": lambda b, x, z: mul(b, sigmoid(b, add(b, x, 1.0)), x),
    "twice silu": lambda b, x, z: mul(b, mul(b, 2.0, x), sigmoid(b, x)),
    "two and exp": lambda b, x, z: div(b, x, add(b, 2.0, exp(b, neg(b, x)))),
    "exp of x": lambda b, x, z: div(b, 1.0, add(b, 1.0, exp(b, x))),
    "limits of which the upper is no 1": lambda b, x, z: div(b, clip(b, add(b, x, 3.0), 0.0, 5.0), 6.0),
    "limits of which the lower is no 0": lambda b, x, z: div(b, clip(b, add(b, x, 3.0), 1.0, 6.0), 6.0),
    "hard swish of another value": lambda b, x, z: mul(b, x, b.emit(ops.HardSigmoid(1 / 6, 0.5), z)),
    "hard swish with ONNX's slope": lambda b, x, z: mul(b, x, b.emit(ops.HardSigmoid(0.2, 0.5), x)),
    "mish of another value": lambda b, x, z: mul(b, z, tanh(b, softplus(b, x))),
    "tanh without softplus": lambda b, x, z: mul(b, x, tanh(b, x)),
    "softplus that is cut off early": lambda b, x, z: where(b, greater(b, x, 5.0), x, softplus(b, x)),
    "softplus of another value": lambda b, x, z: where(b, greater(b, x, 20.0), x, softplus(b, z)),
    "the logarithm of sigmoid, -inf where it is 0": lambda b, x, z: log(b, sigmoid(b, x)),
    "softplus that overflows": lambda b, x, z: log(b, add(b, 1.0, exp(b, x))),
    "softplus of the absolute value": lambda b, x, z: add(b, relu(b, x), log(b, add(b, 1.0, exp(b, absolute(b, x))))),
    "softplus of two values": lambda b, x, z: add(b, relu(b, z), log(b, add(b, 1.0, exp(b, neg(b, absolute(b, x)))))),
    "softplus of twice the value": lambda b, x, z: add(
        b, relu(b, x), log(b, add(b, 1.0, exp(b, mul(b, absolute(b, x), -2.0))))
    ),
    "sigmoid above one": lambda b, x, z: div(
        b,
        where(b, at_least(b, x, 1.0), 1.0, exp(b, neg(b, absolute(b, x)))),
        add(b, exp(b, neg(b, absolute(b, x))), 1.0),
    ),
    "elu above another threshold": lambda b, x, z: where(b, greater(b, x, 1.0), x, grown(b, x, 0.5)),
    "exp without minus one": lambda b, x, z: where(b, greater(b, x, 0.0), x, mul(b, 0.5, exp(b, x))),
    "celu of two slopes": lambda b, x, z: add(b, relu(b, x), low(b, 0.0, grown(b, x, 2.0, 0.25))),
    "celu of two slopes, by expm1": lambda b, x, z: add(b, relu(b, x), grown_below(b, x, 2.0, 0.25)),
    "celu of two values, by expm1": lambda b, x, z: add(b, relu(b, z), grown_below(b, x, 2.0, 0.5)),
    "another gamma": lambda b, x, z: mul(b, 1.1, b.emit(ops.Elu(ops.Selu().alpha), x)),
    "the greater of x and 2 x": lambda b, x, z: high(b, x, mul(b, 2.0, x)),
    "the lesser of x and x / 4": lambda b, x, z: low(b, x, mul(b, 0.25, x)),
    "at least the threshold": lambda b, x, z: where(b, at_least(b, x, 0.5), x, 0.0),
    "softsign without the absolute value": lambda b, x, z: div(b, x, add(b, x, 1.0)),
    "limits out of order": lambda b, x, z: low(b, high(b, x, 1.0), -1.0),
    "a limit for each element": high,
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_only_looks_like_it(name: str) -> None:
    model = model_of(NEAR_MISSES[name])
    assert kinds(raise_activations(model)) == kinds(model)


def test_a_constant_that_is_larger_than_x_is_no_number() -> None:
    """The result has more axes than x."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (8,))
        return b.emit(ops.Max(), x, b.constant(np.zeros((1, 1), np.float32)))

    model = built(make)
    assert raise_activations(model) is model


@pytest.mark.parametrize("name", ["mish", "silu", "hard swish, opset 13", "relu6 by min"])
def test_a_target_without_it_keeps_the_formula(name: str) -> None:
    make, op = FORMS[name]
    model = model_of(make)
    refused = raise_activations(model, lambda node: "no" if isinstance(node.op, type(op)) else None)
    assert kinds(refused) == kinds(model)


def test_double_precision_stays() -> None:
    """Formats have the numbers of an attribute in float32."""
    model = model_of(FORMS["keras hard sigmoid"][0], DType.FLOAT64)
    assert kinds(raise_activations(model)) == kinds(model)
