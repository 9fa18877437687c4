"""Decompositions keep the digits: against float64, where a plain formula overflows, cancels or forgets."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from isomorph.ir import Builder, DType, Model, Origin, Scope, Value, ops, rewrite
from isomorph.ir.evaluate import evaluate
from isomorph.ir.op import Op
from isomorph.ir.ops.numerics import Array

SINGLE = ops.Softplus, ops.Sigmoid, ops.Expm1, ops.Log1p, ops.Erfc, ops.LogSigmoid
TINY = float(np.finfo(np.float32).tiny)


def apart(op: Op, *arrays: Array) -> Array:
    """What the op's decomposition computes, all the way down."""
    b = Builder("test")
    with b.at(Scope(), Origin("test", "op", "x")):
        inputs = [b.input(f"x{place}", DType.of(array.dtype), array.shape) for place, array in enumerate(arrays)]
        b.output("y", b.emit(op, *inputs))
    model: Model = b.finish()
    while any(isinstance(node.op, (type(op), *SINGLE)) and node.op.can_decompose() for node in model.graph.nodes):
        model = rewrite(model, "decompose", _change(type(op)))
    (y,) = evaluate(model, {f"x{place}": array for place, array in enumerate(arrays)}).values()
    return y


def _change(kind: type[Op]) -> Callable[..., tuple[Value, ...] | None]:
    def change(b: Builder, node: object) -> tuple[Value, ...] | None:
        if not isinstance(node.op, (kind, *SINGLE)):  # type: ignore[attr-defined]
            return None
        made = node.op.decompose(b, *b.new_inputs(node))  # type: ignore[attr-defined]
        return (made,) if isinstance(made, Value) else made

    return change


def exact(function: Callable[[float], float], x: Array) -> Array:
    return np.array([function(float(each)) for each in x])


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1 + small)


FUNCTIONS: dict[str, tuple[Op, Callable[[float], float], Array]] = {
    "softplus": (ops.Softplus(), softplus, np.linspace(-85, 200, 997)),
    "softplus near 0": (ops.Softplus(), softplus, np.linspace(-1e-3, 1e-3, 99)),
    "sigmoid": (ops.Sigmoid(), sigmoid, np.linspace(-85, 200, 997)),
    "log sigmoid": (ops.LogSigmoid(), lambda x: -softplus(-x), np.linspace(-200, 85, 997)),
    "expm1": (ops.Expm1(), math.expm1, np.linspace(-90, 85, 997)),
    "expm1 near 0": (ops.Expm1(), math.expm1, np.geomspace(1e-30, 1, 499)),
    "log1p": (ops.Log1p(), math.log1p, np.linspace(-0.999, 300, 997)),
    "log1p near 0": (ops.Log1p(), math.log1p, -np.geomspace(1e-30, 0.9, 499)),
    "erfc": (ops.Erfc(), math.erfc, np.linspace(-6, 9.1, 997)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_has_its_digits(name: str) -> None:
    op, function, points = FUNCTIONS[name]
    x = points.astype(np.float32)
    wanted = exact(function, x)
    got = apart(op, x)
    assert got.dtype == np.float32
    normal = np.abs(wanted) > TINY
    np.testing.assert_allclose(got[normal], wanted[normal], rtol=6e-7)
    np.testing.assert_allclose(got, wanted, rtol=6e-7, atol=TINY)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite(name: str, dtype: type) -> None:
    """As NumPy has it: infinities, NaN, zeros of both signs, and what is larger than exp can take."""
    op = FUNCTIONS[name][0]
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 6e4, -6e4], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(apart(op, x), op.evaluate(x), rtol=2e-3, atol=1e-7)


PAIRS = np.array([1.0, 2.0, np.nan, 3.0, np.inf, -0.0]), np.array([1.0, 1.0, 1.0, np.nan, np.inf, 0.0])


@pytest.mark.parametrize("op", [ops.GreaterOrEqual(), ops.LessOrEqual()], ids=lambda op: op.name)
def test_comparisons_are_false_of_nan(op: Op) -> None:
    np.testing.assert_array_equal(apart(op, *PAIRS), op.evaluate(*PAIRS))
    np.testing.assert_array_equal(apart(op, *PAIRS[::-1]), op.evaluate(*PAIRS[::-1]))


@pytest.mark.parametrize("op", [ops.IsNaN(), ops.IsInf()], ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_a_number_is(op: Op, dtype: type) -> None:
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, 60000.0], dtype)
    np.testing.assert_array_equal(apart(op, x), op.evaluate(x))


def test_a_running_product_rounds_step_by_step() -> None:
    """Products of runs would be infinite and 0 where the running one is not a number but infinite."""
    x = np.array([1e30, 1e30, 1e-30, 1e-30], np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(apart(ops.CumProd(0), x), op_result := np.cumprod(x))
    assert np.isinf(op_result[-1])
