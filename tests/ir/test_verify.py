"""Each invariant, broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isomorph.errors import GraphError
from isomorph.ir import (
    ArrayTensor,
    Builder,
    DimRange,
    DType,
    Model,
    Origin,
    Parameter,
    Scope,
    Sym,
    TensorType,
    Value,
    ops,
)
from isomorph.ir.verify import verify

N = Sym("N")


def _model() -> Model:
    b = Builder("m")
    x = b.input("x", DType.FLOAT32, (N, 4))
    w = b.parameter(Parameter("w", ArrayTensor(np.ones((4, 4), np.float32))))
    with b.at(Scope(), Origin("test", "linear")):
        y = b.emit(ops.Linear(), x, w, name="y")
        z = b.emit(ops.Relu(), y, name="z")
    b.output("z", z)
    return b.finish(dims={"N": DimRange()})


def test_a_sound_model_passes() -> None:
    verify(_model())


def test_a_recorded_size_may_be_more_specific() -> None:
    model = _model()
    model.graph.nodes[1].outputs[0].type = TensorType(DType.FLOAT32, (3, 4))
    verify(model)


def test_a_dimension_that_depends_on_data_is_declared() -> None:
    model = _model()
    b = Builder("m", graph=model.graph)
    with b.at(Scope(), Origin("test", "range")):
        b.output("r", b.emit(ops.Range(0, 1, Sym("found"), DType.INT64), name="r"))
    with pytest.raises(GraphError, match="unknown dimension found"):
        verify(model)
    model.dims["found"] = DimRange(0)
    verify(model)


def _swap(model: Model) -> None:
    model.graph.nodes.reverse()


def _rename(model: Model) -> None:
    model.graph.nodes[1].outputs[0].name = "y"


def _unname(model: Model) -> None:
    model.graph.nodes[1].outputs[0].name = ""


def _forget_parameter(model: Model) -> None:
    model.graph.parameters.clear()


def _parameter_twice(model: Model) -> None:
    first = model.graph.parameters[0]
    model.graph.parameters.append(Value("w again", first.type, parameter=first.parameter))


def _parameter_type(model: Model) -> None:
    model.graph.parameters[0].type = TensorType(DType.FLOAT32, (4, 5))


def _parameter_without_data(model: Model) -> None:
    model.graph.parameters.append(Value("p", TensorType(DType.FLOAT32, ())))


def _input_twice(model: Model) -> None:
    model.graph.inputs.append(model.graph.inputs[0])


def _input_with_producer(model: Model) -> None:
    model.graph.inputs.append(model.graph.nodes[0].output)


def _foreign_output(model: Model) -> None:
    model.graph.outputs["other"] = Value("other", TensorType(DType.FLOAT32, ()))


def _no_origin(model: Model) -> None:
    model.graph.nodes[0].origin = None  # type: ignore[assignment]


def _anonymous_origin(model: Model) -> None:
    model.graph.nodes[0].origin = replace(model.graph.nodes[0].origin, framework="")


def _no_scope(model: Model) -> None:
    model.graph.nodes[0].scope = None  # type: ignore[assignment]


def _wrong_shape(model: Model) -> None:
    model.graph.nodes[1].outputs[0].type = TensorType(DType.FLOAT32, (N, 5))


def _less_specific(model: Model) -> None:
    model.graph.nodes[1].outputs[0].type = TensorType(DType.FLOAT32, (N, N))


def _wrong_dtype(model: Model) -> None:
    model.graph.nodes[1].outputs[0].type = TensorType(DType.FLOAT16, (N, 4))


def _missing_operand(model: Model) -> None:
    model.graph.nodes[0].inputs = model.graph.nodes[0].inputs[:1]


def _absent_operand(model: Model) -> None:
    model.graph.nodes[0].inputs = (None, *model.graph.nodes[0].inputs[1:])


def _extra_operand(model: Model) -> None:
    model.graph.nodes[1].inputs *= 2


def _foreign_producer(model: Model) -> None:
    model.graph.nodes[1].outputs[0].producer = model.graph.nodes[0]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_swap, "reads %y, which is not defined before"),
        (_rename, "two values are named 'y'"),
        (_unname, "a value has no name"),
        (_forget_parameter, "a parameter that the graph does not list"),
        (_parameter_twice, "parameter 'w' is listed twice"),
        (_parameter_type, "is not of its data's type"),
        (_parameter_without_data, "is listed as a parameter and is none"),
        (_input_twice, "input %x is listed twice"),
        (_input_with_producer, "input %y has a producer"),
        (_foreign_output, "output 'other' is %other, which is no value"),
        (_no_origin, "has no scope or no origin"),
        (_anonymous_origin, "has no scope or no origin"),
        (_no_scope, "has no scope or no origin"),
        (_wrong_shape, "is recorded as"),
        (_less_specific, "is recorded as"),
        (_wrong_dtype, "is recorded as"),
        (_missing_operand, "lacks its operand 'w'"),
        (_absent_operand, "lacks its operand 'x'"),
        (_extra_operand, "has 2 operands and takes 1"),
        (_foreign_producer, "names another producer"),
    ],
)
def test_a_broken_invariant_is_named(break_it: Callable[[Model], None], message: str) -> None:
    model = _model()
    break_it(model)
    with pytest.raises(GraphError) as caught:
        verify(model)
    assert message in str(caught.value)
