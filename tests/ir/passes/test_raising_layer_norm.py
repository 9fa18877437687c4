"""Layer normalization that a source spells out becomes one op; what only looks like it does not."""

from __future__ import annotations

import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import Builder, DType, Model, Node, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.norm import raise_norms

N, F32 = Sym("N"), DType.FLOAT32


def spelled(
    *,
    inverse: str = "division",
    affine: str = "both",
    mean_of: str = "x",
    mean_axis: int = 2,
    bias_shape: tuple[int, ...] = (4,),
    dtype: DType = F32,
    shown: bool = False,
) -> Model:
    def make(b: Builder) -> Value:
        x, z = b.input("x", dtype, (N, 4, 4)), b.input("z", dtype, (N, 4, 4))
        centered = b.emit(ops.Sub(), x, b.emit(ops.ReduceMean((mean_axis,)), z if mean_of == "z" else x))
        square = b.emit(ops.Pow(), centered, number(b, 2.0, dtype))
        shifted = b.emit(ops.Add(), b.emit(ops.ReduceMean((2,)), square), number(b, 1e-5, dtype))
        if inverse == "division":
            y = b.emit(ops.Div(), centered, b.emit(ops.Sqrt(), shifted))
        else:
            y = b.emit(ops.Mul(), b.emit(ops.Reciprocal(), b.emit(ops.Sqrt(), shifted)), centered)
        if affine in ("both", "scale"):
            y = b.emit(ops.Mul(), weight(b, "w", 4), y)
        if shown:
            b.output("before", y)
        return b.emit(ops.Add(), y, weight(b, "b", *bias_shape)) if affine in ("both", "bias") else y

    return built(make)


@pytest.mark.parametrize("affine", ["both", "scale", "bias", "none"])
@pytest.mark.parametrize("inverse", ["division", "reciprocal"])
def test_spelled_layer_norm_is_one_op(affine: str, inverse: str) -> None:
    model = spelled(affine=affine, inverse=inverse)
    raised = raise_norms(model)
    (node,) = raised.graph.nodes
    assert isinstance(node.op, ops.LayerNormalization)
    assert node.op.axis == 2
    agree(model, raised, rtol=1e-4, atol=1e-5)


def _spelled_out(node: Node) -> str | None:
    return "spelled" if isinstance(node.op, ops.LayerNormalization) else None


@pytest.mark.parametrize("affine", [True, False])
def test_what_layer_norm_decomposes_to_is_layer_norm(affine: bool) -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 3, 8))
        vectors = (weight(b, "w", 8), weight(b, "b", 8)) if affine else ()
        return b.emit(ops.LayerNormalization(1e-5, 2), x, *vectors)

    model = built(make)
    apart = legalize(model, _spelled_out, "a test")
    assert "LayerNormalization" not in kinds(apart)
    raised = canonicalize(raise_norms(apart))
    (node,) = raised.graph.nodes
    assert isinstance(node.op, ops.LayerNormalization)
    assert node.op.epsilon == pytest.approx(1e-5)
    agree(model, raised, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(spelled(affine="none", mean_of="z"), id="the mean of another tensor"),
        pytest.param(spelled(affine="none", mean_axis=1), id="the mean over another axis"),
        pytest.param(spelled(affine="none", dtype=DType.FLOAT64), id="float64"),
    ],
)
def test_what_is_no_layer_norm(model: Model) -> None:
    assert kinds(raise_norms(model)) == kinds(model)


def test_a_scale_around_another_mean_is_of_the_root_mean_square() -> None:
    raised = raise_norms(spelled(mean_of="z"))
    assert kinds(raised) == {"ReduceMean": 1, "Sub": 1, "RMSNormalization": 1, "Add": 1}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(spelled(bias_shape=(4, 4)), id="a bias on two axes"),
        pytest.param(spelled(shown=True), id="something else reads it without bias"),
    ],
)
def test_what_is_no_bias_of_it(model: Model) -> None:
    raised = raise_norms(model)
    assert kinds(raised) == {"LayerNormalization": 1, "Add": 1}
    agree(model, raised, rtol=1e-4, atol=1e-5)


def test_a_target_without_it_keeps_the_formula() -> None:
    model = spelled()
    refused = raise_norms(model, _spelled_out)
    assert kinds(refused) == kinds(model)


def test_nodes_of_several_outputs_are_passed_by() -> None:
    """A Split, a TopK or an LSTM beside a norm."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 4, 4))
        halves = b.emit_many(ops.Split(2, (2, 2)), x)
        largest, _ = b.emit_many(ops.TopK(2, 2), x)
        rows = (weight(b, "w", 16, 4), weight(b, "r", 16, 4))
        y = b.emit_many(ops.LSTM(batch_first=True), x, *rows)[0]
        b.output("others", b.emit(ops.Concat(2), *halves, largest))
        centered = b.emit(ops.Sub(), y, b.emit(ops.ReduceMean((2,)), y))
        variance = b.emit(ops.ReduceMean((2,)), b.emit(ops.Mul(), centered, centered))
        root = b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, number(b, 1e-5)))
        return b.emit(ops.Div(), centered, root)

    model = built(make)
    raised = raise_norms(model)
    assert kinds(raised) == {"Split": 1, "TopK": 1, "Concat": 1, "LSTM": 1, "LayerNormalization": 1}
    agree(model, raised, rtol=1e-4, atol=1e-5)
