"""Layout by minimum cut: the number of transposes, and the same numbers out."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from isomorph.ir import ArrayTensor, Builder, DType, Layout, Model, Node, Origin, Parameter, Scope, Sym, Value, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.ops.shape import Transpose
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.layout import assign_layout
from isomorph.ir.verify import verify

RNG = np.random.default_rng(0)
Body = Callable[["Net", Value], Value]


class Net:
    """A builder with weights on demand."""

    def __init__(self) -> None:
        self.b = Builder("net")

    def weight(self, *shape: int) -> Value:
        return self.b.parameter(Parameter("w", ArrayTensor(RNG.normal(size=shape).astype(np.float32))))

    def conv(self, x: Value, channels: int, **kwargs: object) -> Value:
        conv = ops.Conv((1, 1), ((1, 1), (1, 1)), (1, 1), **kwargs)  # type: ignore[arg-type]
        _, inputs, _ = conv.layout.split(x.shape)
        return self.b.emit(conv, x, self.weight(channels, int(inputs), 3, 3))  # type: ignore[arg-type]


def build(body: Body, shape: tuple[int, ...] = (3, 6, 8)) -> Model:
    net = Net()
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), *shape))
    with net.b.at(Scope(), Origin("test", "test")):
        net.b.output("y", body(net, x))
    return net.b.finish()


def residual(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Relu(), net.conv(x, 4))
    y = net.b.emit(ops.Add(), y, net.conv(y, 4))
    return net.b.emit(ops.GlobalAveragePool(keepdims=False), y)


def channel_scale(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Mul(), net.conv(x, 4), net.weight(4, 1, 1))
    return net.b.emit(ops.ReduceMean((2, 3), False), net.b.emit(ops.PRelu(), y, net.weight(4, 1, 1)))


def flatten_linear(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Flatten(1), net.conv(x, 4))
    return net.b.emit(ops.Linear(), net.b.emit(ops.Dropout(), y), net.weight(5, 4 * 48))


def flatten_gemm(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Reshape((Sym("N"), 4 * 48)), net.conv(x, 4))
    return net.b.emit(ops.Gemm(), y, net.weight(4 * 48, 5))


def convnext_block(net: Net, x: Value) -> Value:
    x = net.conv(x, 4)
    y = net.b.emit(Transpose((0, 2, 3, 1)), net.conv(x, 4, group=1))
    y = net.b.emit(ops.LayerNormalization(1e-6, 3), y, net.weight(4), net.weight(4))
    y = net.b.emit(ops.Gelu(), net.b.emit(ops.Linear(), y, net.weight(4, 4)))
    y = net.b.emit(ops.Mul(), net.b.emit(Transpose((0, 3, 1, 2)), y), net.weight(4, 1, 1))
    return net.b.emit(ops.GlobalMaxPool(keepdims=False), net.b.emit(ops.Add(), x, y))


def squeeze_excite(net: Net, x: Value) -> Value:
    y = net.conv(x, 4)
    gate = net.b.emit(ops.Sigmoid(), net.conv(net.b.emit(ops.GlobalAveragePool(), y), 4))
    y = net.b.emit(ops.Concat(1), net.b.emit(ops.Mul(), y, gate), y)
    y = net.b.emit(ops.Pad(((0, 0), (0, 0), (1, 0), (0, 2))), y)
    return net.b.emit(ops.ReduceMax((2, 3), False), net.b.emit(ops.Slice((1, 3), (1, 0), (7, 9), (2, 1)), y))


def patches_to_tokens(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Reshape((Sym("N"), 4, 48)), net.conv(x, 4))
    y = net.b.emit(ops.Linear(), net.b.emit(Transpose((0, 2, 1)), y), net.weight(4, 4))
    return net.b.emit(ops.ReduceMean((1,), False), net.b.emit(ops.LayerNormalization(1e-6, 2), y))


def spatial_split(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Reshape((Sym("N"), 4, 3, 2, 8)), net.conv(x, 4))
    return net.b.emit(ops.ReduceMax((2, 3, 4), False), net.b.emit(ops.Relu(), y))


def unabsorbable_flatten(net: Net, x: Value) -> Value:
    y = net.b.emit(ops.Flatten(1), net.conv(x, 4))
    return net.b.emit(ops.Softmax(1), y)


def transposes(model: Model) -> int:
    return sum(isinstance(node.op, Transpose) for node in model.graph.nodes)


def accept(node: Node) -> str | None:
    return None


@pytest.mark.parametrize(
    ("body", "keep", "native"),
    [
        (residual, 1, 0),
        (channel_scale, 1, 0),
        (flatten_linear, 1, 0),
        (flatten_gemm, 1, 0),
        (convnext_block, 1, 0),
        (squeeze_excite, 1, 0),
        (patches_to_tokens, 1, 0),
        (spatial_split, 1, 0),
        (unabsorbable_flatten, 2, 1),
    ],
)
def test_transposes_are_few_and_values_stay(body: Body, keep: int, native: int) -> None:
    model = build(body)
    x = RNG.normal(size=(2, 3, 6, 8)).astype(np.float32)
    expected = evaluate(model, {"x": x})["y"]
    for choice, count in ((False, keep), (True, native)):
        laid_out = assign_layout(canonicalize(model), Layout.CHANNELS_LAST, accept, native=choice)
        verify(laid_out)
        assert transposes(laid_out) == count
        (pair,) = json.loads(laid_out.metadata["isomorph.pairing"])["inputs"]
        fed = x if pair["perm"] is None else x.transpose(pair["perm"])
        np.testing.assert_allclose(evaluate(laid_out, {"x": fed})["y"], expected, rtol=1e-5, atol=1e-6)
        assert all(
            getattr(node.op, "layout", Layout.CHANNELS_LAST) is Layout.CHANNELS_LAST for node in laid_out.graph.nodes
        )


def test_channels_last_source_goes_channels_first_with_one_transpose() -> None:
    def body(net: Net, x: Value) -> Value:
        last = Layout.CHANNELS_LAST
        y = net.b.emit(
            ops.BatchNormalization(1e-3, 3),
            net.conv(x, 4, layout=last),
            *(net.weight(4) for _ in range(3)),
            net.b.constant(np.ones(4, np.float32)),
        )
        return net.b.emit(ops.GlobalAveragePool(keepdims=False, layout=last), net.b.emit(ops.Relu(), y))

    def refuse(node: Node) -> str | None:
        return "axis" if isinstance(node.op, ops.BatchNormalization) and node.op.axis != 1 else None

    model = build(body, (6, 8, 3))
    laid_out = assign_layout(model, Layout.CHANNELS_FIRST, refuse)
    assert transposes(laid_out) == 1
    x = RNG.normal(size=(2, 6, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(evaluate(laid_out, {"x": x})["y"], evaluate(model, {"x": x})["y"], rtol=1e-5, atol=1e-6)


def test_a_value_read_in_the_other_order_by_many_is_transposed_once() -> None:
    def body(net: Net, x: Value) -> Value:
        y = net.conv(x, 4)
        first = net.b.emit(ops.Softmax(1), net.b.emit(ops.Flatten(1), y))
        second = net.b.emit(ops.Softmax(1), net.b.emit(ops.Reshape((Sym("N"), 4 * 48)), y))
        return net.b.emit(ops.Add(), first, second)

    laid_out = assign_layout(build(body), Layout.CHANNELS_LAST, accept)
    assert transposes(laid_out) == 2  # the input, and the one before both reshapes


def test_a_tied_flattened_weight_keeps_its_other_use() -> None:
    def body(net: Net, x: Value) -> Value:
        w = net.weight(5, 4 * 48)
        y = net.b.emit(ops.Linear(), net.b.emit(ops.Flatten(1), net.conv(x, 4)), w)
        plain = net.b.emit(ops.Linear(), net.b.emit(ops.ReduceSum((0,), True), net.b.emit(ops.MatMul(), y, w)), w)
        return net.b.emit(ops.Add(), y, plain)

    model = build(body)
    x = RNG.normal(size=(2, 3, 6, 8)).astype(np.float32)
    laid_out = assign_layout(model, Layout.CHANNELS_LAST, accept)
    np.testing.assert_allclose(evaluate(laid_out, {"x": x})["y"], evaluate(model, {"x": x})["y"], rtol=1e-4)
