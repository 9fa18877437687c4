"""Canonicalization: what goes, what stays, and names that survive."""

import numpy as np

from isomorph.ir import ArrayTensor, Builder, DType, Model, Origin, Parameter, Scope, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize


def start() -> tuple[Builder, Value]:
    b = Builder("net")
    return b, b.input("x", DType.FLOAT32, (Sym("N"), 4, 6))


def kinds(model: Model) -> list[str]:
    return [node.op.name for node in model.graph.nodes]


def test_identities_and_round_trips_go() -> None:
    b, x = start()
    with b.at(Scope(), Origin("test", "test")):
        y = b.emit(ops.Identity(), b.emit(ops.Transpose((0, 2, 1)), b.emit(ops.Transpose((0, 2, 1)), x)))
        y = b.emit(
            ops.Reshape((Sym("N"), 4, 6)), b.emit(ops.Reshape((Sym("N"), 24)), b.emit(ops.Cast(DType.FLOAT32), y))
        )
        b.emit(ops.Exp(), y)
    b.output("y", y)
    model = canonicalize(b.finish())
    assert kinds(model) == []
    assert model.graph.outputs["y"] is model.graph.inputs[0]


def test_transposes_compose() -> None:
    b, x = start()
    with b.at(Scope(), Origin("test", "test")):
        y = b.emit(ops.Transpose((2, 0, 1)), b.emit(ops.Transpose((0, 2, 1)), x), name="turned")
    b.output("y", y)
    (node,) = canonicalize(b.finish()).graph.nodes
    assert node.op == ops.Transpose((1, 0, 2))
    assert node.output.name == "turned"
    assert node.origin.passes == ("canonicalize",)


def test_a_transposed_weight_makes_a_linear_layer() -> None:
    b, x = start()
    w = b.parameter(Parameter("fc.weight", ArrayTensor(np.zeros((5, 6), np.float32))))
    bias = b.parameter(Parameter("fc.bias", ArrayTensor(np.zeros(5, np.float32))))
    with b.at(Scope(), Origin("test", "test")):
        y = b.emit(ops.Add(), bias, b.emit(ops.MatMul(), x, b.emit(ops.Transpose((1, 0)), w)), name="fc")
    b.output("y", y)
    (node,) = canonicalize(b.finish()).graph.nodes
    assert node.op == ops.Linear()
    assert [value.name for value in node.operands()] == ["x", "fc.weight", "fc.bias"]
    assert node.output.name == "fc"


def test_a_product_that_is_shown_keeps_its_bias_apart() -> None:
    b, x = start()
    w = b.parameter(Parameter("w", ArrayTensor(np.zeros((5, 6), np.float32))))
    bias = b.parameter(Parameter("b", ArrayTensor(np.zeros(5, np.float32))))
    with b.at(Scope(), Origin("test", "test")):
        product = b.emit(ops.Linear(), x, w)
        y = b.emit(ops.Add(), product, bias)
    b.output("product", product)
    b.output("y", y)
    assert kinds(canonicalize(b.finish())) == ["Linear", "Add"]
