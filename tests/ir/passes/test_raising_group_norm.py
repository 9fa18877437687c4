"""Instance and group normalization that a source spells out become one op; what only looks like them does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import Builder, DType, Model, Op, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.norm import raise_norms
from isomorph.ir.passes.share import share
from isomorph.ir.shapes import Shape

N, S, F32 = Sym("N"), Sym("S"), DType.FLOAT32
IMAGE: Shape = (N, 6, 3, S)


def normalized(b: Builder, x: Value, axes: tuple[int, ...], other: tuple[int, ...] | None = None) -> Value:
    centered = b.emit(ops.Sub(), x, b.emit(ops.ReduceMean(axes), x))
    variance = b.emit(ops.ReduceMean(other or axes), b.emit(ops.Mul(), centered, centered))
    return b.emit(ops.Div(), centered, b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, number(b, 1e-5))))


def affine(b: Builder, y: Value, *shape: int) -> Value:
    scaled = b.emit(ops.Mul(), y, weight(b, "w", *shape))
    return b.emit(ops.Add(), weight(b, "b", *shape), scaled)


def ones_and_zeros(b: Builder, groups: int, scale: float = 1.0) -> tuple[Value, Value]:
    return b.constant(np.full(groups, scale, np.float32), "ones"), b.constant(np.zeros(groups, np.float32), "zeros")


def grouped(  # as torch.onnx writes it
    b: Builder,
    *,
    groups: int = 2,
    scale: float = 1.0,
    rest: Shape = (9 * S,),
    back: Shape = IMAGE,
    inner: Callable[[Builder, Value], Value] | None = None,
) -> Value:
    apart = b.emit(ops.Reshape((N, groups, *rest)), b.input("x", F32, IMAGE))
    instance = ops.InstanceNormalization(1e-5)
    y = inner(b, apart) if inner else b.emit(instance, apart, *ones_and_zeros(b, groups, scale))
    return b.emit(ops.Reshape(back), y)


def twice(b: Builder) -> Value:
    y = b.emit(ops.InstanceNormalization(1e-5), b.input("x", F32, IMAGE))
    return affine(b, affine(b, y, 6, 1, 1), 6, 1, 1)


INSTANCE, GROUP = ops.InstanceNormalization(1e-5), ops.GroupNormalization(2, 1e-5)
FORMS: dict[str, tuple[Callable[[Builder], Value], Op, int]] = {
    "instance": (lambda b: normalized(b, b.input("x", F32, IMAGE), (2, 3)), INSTANCE, 1),
    "instance with scale and bias": (
        lambda b: affine(b, normalized(b, b.input("x", F32, IMAGE), (2, 3)), 1, 6, 1, 1), INSTANCE, 3
    ),
    "instance, channels last": (
        lambda b: affine(b, normalized(b, b.input("x", F32, (N, 3, S, 6)), (1, 2)), 6),
        ops.InstanceNormalization(1e-5, 3), 3,
    ),
    "torch.onnx's groups": (grouped, GROUP, 1),
    "torch.onnx's groups with scale and bias": (lambda b: affine(b, grouped(b), 6, 1, 1), GROUP, 3),
    "groups, normalized by the formula": (
        lambda b: affine(b, grouped(b, inner=lambda b, x: normalized(b, x, (2,))), 6, 1, 1), GROUP, 3
    ),
    "groups of images": (
        lambda b: grouped(b, rest=(3, 3, S), inner=lambda b, x: normalized(b, x, (2, 3, 4))), GROUP, 1
    ),
    "zeros are added": (
        lambda b: b.emit(ops.Add(), grouped(b), b.constant(np.zeros((1, 1, 1), np.float32))), GROUP, 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_spelled_norm_is_one_op(name: str) -> None:
    make, wanted, operands = FORMS[name]
    model = built(make)
    raised = raise_norms(model)
    (node,) = raised.graph.nodes
    assert type(node.op) is type(wanted)
    for attribute, found in node.op.attributes().items():
        assert found == pytest.approx(wanted.attributes()[attribute])
    assert len(node.inputs) == operands
    agree(model, raised, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vectors", [0, 2])
@pytest.mark.parametrize(
    "op",
    [
        INSTANCE,
        ops.InstanceNormalization(1e-3, 3),
        GROUP,
        ops.GroupNormalization(3, 1e-3),
        ops.GroupNormalization(1, 1e-3),
    ],
    ids=repr,
)
def test_what_a_norm_decomposes_to_is_the_norm(op: Op, vectors: int) -> None:
    shape: Shape = (N, 3, S, 6) if op.attributes()["axis"] == 3 else IMAGE

    def make(b: Builder) -> Value:
        return b.emit(op, b.input("x", F32, shape), *[weight(b, name, 6) for name in "wb"[:vectors]])

    model = built(make)
    for lacking in ((type(op),), (ops.InstanceNormalization, ops.GroupNormalization)):
        apart = legalize(model, lambda node: "spelled" if isinstance(node.op, lacking) else None, "a test")  # noqa: B023
        assert op.name not in kinds(apart)
        (node,) = canonicalize(raise_norms(share(apart))).graph.nodes
        assert type(node.op) is type(op)
        assert node.op.attributes() == pytest.approx(op.attributes())
        assert len(node.inputs) == 1 + vectors
        agree(model, raise_norms(apart), rtol=1e-4, atol=1e-5)


def test_moments_as_tensorflow_has_them() -> None:
    """x * m + (b - mean * m), m = w / sqrt(variance + epsilon)."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 3, 8))
        mean = b.emit(ops.ReduceMean((2,)), x)
        apart = b.emit(ops.Sub(), mean, x)
        variance = b.emit(ops.ReduceMean((2,)), b.emit(ops.Mul(), apart, apart))
        root = b.emit(ops.Reciprocal(), b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, number(b, 1e-3))))
        factor = b.emit(ops.Mul(), root, weight(b, "w", 8))
        rest = b.emit(ops.Sub(), weight(b, "b", 8), b.emit(ops.Mul(), mean, factor))
        return b.emit(ops.Add(), b.emit(ops.Mul(), x, factor), rest)

    model = built(make)
    raised = raise_norms(model)
    (node,) = raised.graph.nodes
    assert isinstance(node.op, ops.LayerNormalization)
    assert len(node.inputs) == 3
    agree(model, raised, rtol=1e-4, atol=1e-5)


def test_layer_normalization_over_several_axes() -> None:
    model = built(lambda b: affine(b, normalized(b, b.input("x", F32, (N, 3, 4, 6)), (2, 3)), 4, 6))
    (node,) = raise_norms(model).graph.nodes
    assert isinstance(node.op, ops.LayerNormalization)
    assert (node.op.axis, len(node.inputs)) == (2, 3)
    agree(model, raise_norms(model), rtol=1e-4, atol=1e-5)


STAYS: dict[str, tuple[Callable[[Builder], Value], dict[str, int]]] = {
    "mean and variance over other axes": (
        lambda b: normalized(b, b.input("x", F32, IMAGE), (2, 3), (3,)), {"InstanceNormalization": 0}
    ),
    "statistics of the batch": (
        lambda b: normalized(b, b.input("x", F32, IMAGE), (0, 2, 3)), {"InstanceNormalization": 0}
    ),
    "two axes stay": (lambda b: normalized(b, b.input("x", F32, IMAGE), (3,)), {"InstanceNormalization": 0}),
    "a symbolic number of channels": (
        lambda b: normalized(b, b.input("x", F32, (N, S, 3, 4)), (1, 3)), {"InstanceNormalization": 1}
    ),
    "a scale of two": (lambda b: grouped(b, scale=2.0), {"GroupNormalization": 0}),
    "another shape than before": (
        lambda b: grouped(b, back=(N, 3, 6, S)), {"GroupNormalization": 0}
    ),
    "nine groups of six channels": (
        lambda b: grouped(b, groups=9, rest=(2 * S,)), {"GroupNormalization": 0}
    ),
    "a scale along another axis": (
        lambda b: affine(b, grouped(b), 3, 1), {"GroupNormalization": 1, "Mul": 1, "Add": 1}
    ),
    "one number for all channels": (
        lambda b: affine(b, grouped(b), 1, 1, 1), {"GroupNormalization": 1, "Mul": 1, "Add": 1}
    ),
    "a second scale and bias": (twice, {"InstanceNormalization": 1, "Mul": 1, "Add": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_what_is_no_norm_or_no_part_of_it(name: str) -> None:
    make, counts = STAYS[name]
    model = built(make)
    raised = raise_norms(model)
    assert {kind: kinds(raised)[kind] for kind in counts} == counts
    agree(model, raised, rtol=1e-4, atol=1e-5)


def without(*names: str) -> Callable[[Model], Model]:
    return lambda model: raise_norms(model, lambda node: "no" if node.op.name in names else None)


def test_a_target_without_groups_gets_them_as_instances() -> None:
    model = built(FORMS["groups, normalized by the formula"][0])
    for names in (("GroupNormalization",), ("GroupNormalization", "LayerNormalization")):
        raised = without(*names)(model)
        assert kinds(raised) == {"Reshape": 2, "InstanceNormalization": 1, "Mul": 1, "Add": 1}
        agree(model, raised, rtol=1e-4, atol=1e-5)


def test_a_target_without_any_keeps_the_formula() -> None:
    model = built(FORMS["instance with scale and bias"][0])
    assert kinds(without("InstanceNormalization")(model)) == kinds(model)
