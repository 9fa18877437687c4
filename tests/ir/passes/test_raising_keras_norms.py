"""Keras' normalization layers as tf2onnx spells them become one op; what only looks like them does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import Builder, DType, Sym, Value, ops
from isomorph.ir.op import Op
from isomorph.ir.passes.raising.norm import raise_norms
from isomorph.ir.shapes import Shape

N, S, F32 = Sym("N"), Sym("S"), DType.FLOAT32
Make = Callable[[Builder], Value]


def mean_of(b: Builder, x: Value, axes: tuple[int, ...], pooled: bool) -> Value:
    return b.emit(ops.GlobalAveragePool() if pooled else ops.ReduceMean(axes), x)


def normalized(
    b: Builder,
    x: Value,
    axes: tuple[int, ...],
    vectors: Shape | None,
    *,
    pooled: bool = False,
    negated: str = "mean",
    biased: bool = True,
    of: Value | None = None,
) -> Value:
    """x * m + (-mean * m + b), m = w / sqrt(variance + epsilon)."""
    mean = mean_of(b, x if of is None else of, axes, pooled)
    apart = b.emit(ops.Sub(), x, mean)
    variance = mean_of(b, b.emit(ops.Mul(), apart, apart), axes, pooled)
    factor = b.emit(ops.Reciprocal(), b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, number(b, 1e-3))))
    if vectors is not None:
        factor = b.emit(ops.Mul(), factor, weight(b, "w", *vectors))
    other = b.emit(ops.Neg(), mean) if negated == "mean" else mean
    shift = b.emit(ops.Mul(), other, factor)
    if vectors is not None and biased:
        shift = b.emit(ops.Add(), shift, weight(b, "b", *vectors))
    return b.emit(ops.Add(), b.emit(ops.Mul(), x, factor), shift)


def layer(
    b: Builder,
    *,
    shape: Shape = (N, 3, 8),
    axes: tuple[int, ...] = (2,),
    vectors: Shape | None = (1, 1, 8),
    **how: bool | str,
) -> Value:
    return normalized(b, b.input("x", F32, shape), axes, vectors, **how)  # type: ignore[arg-type]


def root(b: Builder, *, pooled: bool = False, vectors: Shape = (8,), of_other: bool = False) -> Value:
    """x * (w / sqrt(mean(x * x) + epsilon))."""
    x = b.input("x", F32, (N, 3, 8))
    other = b.input("z", F32, (N, 3, 8)) if of_other else x
    mean = mean_of(b, b.emit(ops.Mul(), other, other), (2,), pooled)
    factor = b.emit(ops.Reciprocal(), b.emit(ops.Sqrt(), b.emit(ops.Add(), mean, number(b, 1e-6))))
    return b.emit(ops.Mul(), x, b.emit(ops.Mul(), factor, weight(b, "w", *vectors)))


def groups(
    b: Builder,
    *,
    middle: Shape = (4, S),
    axes: tuple[int, ...] = (1, 2, 4),
    split: tuple[int, int] = (2, 3),
    vectors: Shape | None = (1, 1, 1, 2, 3),
    back: Shape | None = None,
    **how: bool | str,
) -> Value:
    x = b.input("x", F32, (N, *middle, 6))
    apart = b.emit(ops.Reshape((N, *middle, *split)), x)
    y = normalized(b, apart, axes, vectors, **how)  # type: ignore[arg-type]
    return b.emit(ops.Reshape(back or x.shape), y)


FORMS: dict[str, tuple[Make, type[Op], int]] = {
    "layer": (layer, ops.LayerNormalization, 3),
    "layer, means by pooling": (partial(layer, pooled=True), ops.LayerNormalization, 3),
    "layer, vectors of one axis": (partial(layer, vectors=(8,)), ops.LayerNormalization, 3),
    "layer without bias": (partial(layer, biased=False), ops.LayerNormalization, 2),
    "layer without scale and bias": (partial(layer, vectors=None), ops.LayerNormalization, 1),
    "layer over two axes": (partial(layer, axes=(1, 2), vectors=(1, 3, 8)), ops.LayerNormalization, 3),
    "root mean square": (root, ops.RMSNormalization, 2),
    "root mean square by pooling": (partial(root, pooled=True), ops.RMSNormalization, 2),
    "groups": (groups, ops.GroupNormalization, 3),
    "groups, vectors of two axes": (partial(groups, vectors=(2, 3)), ops.GroupNormalization, 3),
    "groups without scale and bias": (partial(groups, vectors=None), ops.GroupNormalization, 1),
    "groups without bias": (partial(groups, biased=False), ops.GroupNormalization, 2),
    "groups of sequences": (
        partial(groups, middle=(S,), axes=(1, 3), vectors=(1, 1, 2, 3)), ops.GroupNormalization, 3
    ),
    "layer of images by pooling": (
        partial(layer, shape=(N, 3, 2, 8), vectors=(2, 8), pooled=True), ops.LayerNormalization, 3
    ),
    "groups of one channel": (partial(groups, split=(6, 1), vectors=(1, 1, 1, 6, 1)), ops.GroupNormalization, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_layer_as_tf2onnx_spells_it_is_one_op(name: str) -> None:
    make, op, operands = FORMS[name]
    model = built(make)
    raised = raise_norms(model)
    (node,) = raised.graph.nodes
    assert isinstance(node.op, op)
    assert len(node.inputs) == operands
    agree(model, raised, rtol=1e-4, atol=1e-5)


def of_another(b: Builder) -> Value:
    return normalized(b, b.input("x", F32, (N, 3, 8)), (2,), None, of=b.input("z", F32, (N, 3, 8)))


NEAR_MISSES: dict[str, Make] = {
    "the mean is added": partial(layer, negated="nothing"),
    "the mean of another value": of_another,
    "a scale along another axis": partial(layer, axes=(2,), vectors=(1, 3, 1)),
    "pooling over one axis more than the scale has": partial(
        layer, shape=(N, 3, 2, 8), axes=(3,), vectors=(8,), pooled=True
    ),
    "the root of another value": partial(root, of_other=True),
    "a scale for each row": partial(root, vectors=(3, 1)),
    "the mean is added, in groups": partial(groups, negated="nothing"),
    "statistics of each row": partial(groups, axes=(2, 4)),
    "statistics of the runs, not of the groups": partial(groups, axes=(1, 2, 3)),
    "a scale for each group": partial(groups, vectors=(1, 1, 1, 2, 1)),
    "another shape than before": partial(groups, back=(N, S, 4, 6)),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_only_looks_like_it(name: str) -> None:
    raised = raise_norms(built(NEAR_MISSES[name]))
    found = {"LayerNormalization", "RMSNormalization", "GroupNormalization"} & set(kinds(raised))
    assert not found
    agree(built(NEAR_MISSES[name]), raised, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [groups, layer])
def test_a_target_without_it_keeps_the_formula(make: Make) -> None:
    model = built(make)
    assert kinds(raise_norms(model, lambda node: "no")) == kinds(model)
