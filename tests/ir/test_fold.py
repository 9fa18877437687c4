"""Constant folding: what is folded, what is left, and what is carried over."""

from __future__ import annotations

from typing import Any

import numpy as np

from isomorph.ir import ArrayTensor, Builder, DerivedTensor, DType, Model, Origin, Parameter, Scope, Sym, Value, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.passes.fold import fold
from isomorph.ir.text import print_model
from isomorph.ir.verify import verify

HERE = (Scope(), Origin("test", "node"))
N = Sym("N")


def _ops(model: Model) -> list[str]:
    return [node.op.name for node in model.graph.nodes]


def _build(make: Any) -> Model:
    b = Builder("m")
    x = b.input("x", DType.FLOAT32, (N, 4))
    with b.at(*HERE):
        b.output("y", make(b, x))
    return b.finish()


def _folded(make: Any, **options: Any) -> Model:
    model = _build(make)
    result = fold(model, **options)
    verify(result)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(evaluate(result, {"x": x})["y"], evaluate(model, {"x": x})["y"])
    return result


def test_a_chain_of_constants_becomes_one() -> None:
    def make(b: Builder, x: Value) -> Value:
        steps = b.emit(ops.Range(0, 1, 4, DType.FLOAT32))
        scaled = b.emit(ops.Mul(), steps, b.constant(np.float32(0.5), "half"), name="scaled")
        return b.emit(ops.Add(), x, scaled)

    assert print_model(_folded(make)) == (
        "model m\n"
        "input %x: float32[N, 4]\n"
        "constant %scaled: float32[4] = {0.0, 0.5, 1.0, 1.5}\n"
        "%add: float32[N, 4] = Add(%x, %scaled)\n"
        "output y = %add\n"
    )


def test_an_output_may_be_folded() -> None:
    model = _build(lambda b, x: b.emit(ops.Dims((3, 4)), name="sizes"))
    folded = fold(model)
    verify(folded)
    assert _ops(folded) == []
    assert folded.graph.outputs["y"].name == "sizes"


def test_symbolic_sizes_stay() -> None:
    model = _folded(lambda b, x: b.emit(ops.Add(), x, b.emit(ops.ConstantOfShape((N, 4), 1.0, DType.FLOAT32))))
    assert _ops(model) == ["ConstantOfShape", "Add"]


def test_weights_stay_unless_asked_for() -> None:
    def make(b: Builder, x: Value) -> Value:
        weight = b.parameter(Parameter("w", ArrayTensor(np.ones((4, 2), np.float32))))
        return b.emit(ops.Linear(), x, b.emit(ops.Transpose((1, 0)), weight))

    assert _ops(_folded(make)) == ["Transpose", "Linear"]
    assert _ops(_folded(make, roles=("constant", "weight"))) == ["Transpose", "Linear"]


def test_what_is_computed_from_weights_is_folded_where_that_is_asked_for() -> None:
    def make(b: Builder, x: Value) -> Value:
        weight = b.parameter(Parameter("w", ArrayTensor(np.ones((4, 2), np.float32))))
        turned = b.emit(ops.Transpose((1, 0)), weight)
        return b.emit(ops.Linear(), x, b.emit(ops.Mul(), turned, b.emit(ops.Abs(), turned)))

    assert _ops(_folded(make)) == ["Transpose", "Abs", "Mul", "Linear"]
    assert "Mul" not in _ops(_folded(make, roles=("constant", "weight")))


def test_the_budget_is_checked_before_anything_is_read() -> None:
    def never() -> Any:
        raise AssertionError("the data was read")

    def make(b: Builder, x: Value) -> Value:
        data = DerivedTensor(DType.FLOAT32, (4,), (), never)
        return b.emit(ops.Tile((10**9,)), b.parameter(Parameter("c", data, trainable=False, role="constant")))

    assert _ops(fold(_build(make))) == ["Tile"]


def test_the_budget_can_be_changed() -> None:
    def make(b: Builder, x: Value) -> Value:
        return b.emit(ops.Add(), x, b.emit(ops.Range(0, 1, 4, DType.FLOAT32)))

    assert _ops(_folded(make, budget=3)) == ["Range", "Add"]
    assert _ops(_folded(make, budget=4)) == ["Add"]


def test_what_cannot_be_evaluated_is_left_to_the_runtime() -> None:
    def make(b: Builder, x: Value) -> Value:
        table = b.constant(np.ones(3, np.float32), "table")
        return b.emit(ops.Gather(), table, b.constant(np.int64(7), "index"))

    assert _ops(fold(_build(make))) == ["Gather"]


def test_a_model_without_constants_is_returned_as_it_is() -> None:
    model = _build(lambda b, x: b.emit(ops.Relu(), x))
    assert fold(model) is model


def test_several_outputs_are_folded_one_by_one() -> None:
    def make(b: Builder, x: Value) -> Value:
        first, _ = b.emit_many(ops.Split(0, (4, 2)), b.constant(np.arange(6, dtype=np.float32), "c"))
        return b.emit(ops.Add(), x, first)

    model = _folded(make)
    assert _ops(model) == ["Add"]
    assert len(model.graph.parameters) == 1


def test_a_weight_in_codes_stays_in_codes() -> None:
    """Even where weights are folded: four bits an element are the point of it."""

    def make(b: Builder, x: Value) -> Value:
        codes = ArrayTensor(np.arange(-8, 8, dtype=np.int8).reshape(4, 4).astype(DType.INT4.numpy))
        weight = b.parameter(Parameter("w", codes))
        scale = b.parameter(Parameter("s", ArrayTensor(np.float32(0.25)), trainable=False, role="constant"))
        return b.emit(ops.MatMul(), x, b.emit(ops.DequantizeLinear(DType.FLOAT32), weight, scale))

    folded = _folded(make, roles=("constant", "buffer", "weight"))
    assert _ops(folded) == ["DequantizeLinear", "MatMul"]
    assert folded.parameters()["w"].data.dtype is DType.INT4
