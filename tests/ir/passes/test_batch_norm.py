"""Batch normalization folded into the layer before it: the same numbers; what must not be folded stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import built, kinds

from isomorph.ir import ArrayTensor, Builder, DType, Layout, Parameter, Sym, Value, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.passes.batch_norm import fold_batch_norm
from isomorph.ir.verify import verify

F32 = DType.FLOAT32
N = Sym("N")


def weight(b: Builder, name: str, *shape: int, positive: bool = False) -> Value:
    drawn = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return b.parameter(Parameter(name, ArrayTensor(np.abs(drawn) + 0.5 if positive else drawn)))


def normalized(b: Builder, x: Value, channels: int, *, axis: int = 1, affine: bool = True) -> Value:
    scale, bias = (weight(b, f"bn.{name}", channels) if affine else None for name in ("weight", "bias"))
    mean, var = weight(b, "bn.running_mean", channels), weight(b, "bn.running_var", channels, positive=True)
    return b.emit(ops.BatchNormalization(1e-3, axis), x, scale, bias, mean, var)


def conv(layout: Layout = Layout.CHANNELS_FIRST, group: int = 1) -> ops.Conv:
    return ops.Conv((1, 1), ((1, 1), (1, 1)), (1, 1), group, layout)


def plain(b: Builder) -> Value:
    return normalized(b, b.emit(conv(), b.input("x", F32, (N, 4, 5, 5)), weight(b, "c.weight", 6, 4, 3, 3)), 6)


def grouped_with_bias(b: Builder) -> Value:
    x = b.input("x", F32, (N, 4, 5, 5))
    y = b.emit(conv(group=2), x, weight(b, "c.weight", 6, 2, 3, 3), weight(b, "c.bias", 6))
    return normalized(b, y, 6, affine=False)


def channels_last(b: Builder) -> Value:
    x = b.input("x", F32, (N, 5, 5, 4))
    return normalized(b, b.emit(conv(Layout.CHANNELS_LAST), x, weight(b, "c.kernel", 6, 4, 3, 3)), 6, axis=3)


def transposed(b: Builder) -> Value:
    op = ops.ConvTranspose((2, 2), ((1, 1), (1, 1)), (1, 1), (0, 0), 2)
    return normalized(b, b.emit(op, b.input("x", F32, (N, 4, 5, 5)), weight(b, "c.weight", 4, 3, 3, 3)), 6)


def dense(b: Builder) -> Value:
    return normalized(b, b.emit(ops.Linear(), b.input("x", F32, (N, 4)), weight(b, "c.weight", 6, 4)), 6)


@pytest.mark.parametrize("make", [plain, grouped_with_bias, channels_last, transposed, dense])
def test_folded(make: Callable[[Builder], Value]) -> None:
    model = built(make)
    folded = fold_batch_norm(model)
    verify(folded)
    assert len(folded.graph.nodes) == 1
    names = [value.parameter.name for value in folded.graph.parameters if value.parameter is not None]
    assert names == ["c.kernel" if make is channels_last else "c.weight", "c.bias"]
    shape = [2 if isinstance(dim, Sym) else dim for dim in model.graph.inputs[0].shape]
    given = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    (wanted,), (got,) = evaluate(model, given).values(), evaluate(folded, given).values()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def shared_weight(b: Builder) -> Value:
    kernel = weight(b, "c.weight", 4, 4, 3, 3)
    first = b.emit(conv(), b.input("x", F32, (N, 4, 5, 5)), kernel)
    return b.emit(conv(), normalized(b, first, 4), kernel)


def read_twice(b: Builder) -> Value:
    y = b.emit(conv(), b.input("x", F32, (N, 4, 5, 5)), weight(b, "c.weight", 4, 4, 3, 3))
    return b.emit(ops.Add(), normalized(b, y, 4), y)


def shown(b: Builder) -> Value:
    y = b.emit(conv(), b.input("x", F32, (N, 4, 5, 5)), weight(b, "c.weight", 4, 4, 3, 3))
    b.output("between", y)
    return normalized(b, y, 4)


def another_axis(b: Builder) -> Value:
    y = b.emit(ops.Linear(), b.input("x", F32, (N, 4, 4)), weight(b, "c.weight", 4, 4))
    return normalized(b, y, 4)


def computed_kernel(b: Builder) -> Value:
    x = b.input("x", F32, (N, 4, 5, 5))
    return normalized(b, b.emit(conv(), x, b.input("w", F32, (4, 4, 3, 3))), 4)


@pytest.mark.parametrize("make", [shared_weight, read_twice, shown, another_axis, computed_kernel])
def test_what_must_not_be_folded(make: Callable[[Builder], Value]) -> None:
    model = built(make)
    assert kinds(fold_batch_norm(model)) == kinds(model)
