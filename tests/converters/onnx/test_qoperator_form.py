"""Quantized models: what is read from QDQ or QOperator files is written in either form, to the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from isomorph.api import validate
from isomorph.converters.convert import convert, prepare
from isomorph.converters.onnx import reader, writer
from isomorph.converters.onnx.form import OnnxForm
from isomorph.converters.onnx.qoperator_form import in_qoperator_form
from isomorph.errors import UsageError
from isomorph.ir import Builder, DType, Model, Origin, Scope, Value, ops
from isomorph.ir.evaluate import evaluate
from isomorph.validators import Verdict

FORM = OnnxForm(quantized="qoperator")
IN_WHOLE_NUMBERS = [
    "QuantizeLinear", "QLinearConv", "MaxPool", "QLinearConv", "QLinearAdd", "QLinearSigmoid", "QLinearMul",
    "QLinearConcat", "QLinearGlobalAveragePool", "Flatten", "QGemm", "QLinearMatMul", "DequantizeLinear",
]  # fmt: skip


class _Examples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.left = [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def _float_model() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = {
        "w1": (8, 3, 3, 3),
        "b1": (8,),
        "w2": (8, 8, 3, 3),
        "b2": (8,),
        "w3": (10, 16),
        "b3": (10,),
        "w4": (10, 5),
    }
    weights = [
        numpy_helper.from_array((rng.normal(size=s) * 0.3).astype(np.float32), name) for name, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "p1"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["m"]),
        helper.make_node("Concat", ["m", "a"], ["k"], axis=1),
        helper.make_node("GlobalAveragePool", ["k"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["h"], transB=1),
        helper.make_node("MatMul", ["h", "w4"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[QuantFormat, QuantType, bool], Path]:
    folder = tmp_path_factory.mktemp("quantized")
    onnx.save(_float_model(), folder / "float.onnx")

    def make(form: QuantFormat, activations: QuantType, per_channel: bool) -> Path:
        path = folder / f"{form.name}.{activations.name}.{per_channel}.onnx"
        quantize_static(
            folder / "float.onnx",
            path,
            _Examples(),
            quant_format=form,
            per_channel=per_channel,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )
        return path

    return make


def _run(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_either_form_is_written_as_either(
    form: QuantFormat,
    activations: QuantType,
    per_channel: bool,
    quantized: Callable[[QuantFormat, QuantType, bool], Path],
    tmp_path: Path,
) -> None:
    source, x = quantized(form, activations, per_channel), np.random.default_rng(2).normal(size=(4, 3, 8, 8))
    x = x.astype(np.float32)
    model = prepare(reader.read(source), writer.target(21))
    wanted = _run(source, x)
    for chosen in (FORM, OnnxForm()):
        path = tmp_path / f"{chosen.quantized}.onnx"
        writer.write(model, path, opset=21, form=chosen)
        onnx.checker.check_model(path, full_check=True)
        np.testing.assert_array_equal(_run(path, x), wanted)
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert (kinds == IN_WHOLE_NUMBERS) == (chosen is FORM)
        assert any(kind.startswith("QLinear") for kind in kinds) == (chosen is FORM)


def _pattern(
    steps: Callable[[Builder, Callable[[Value], Value], Value], Value | Sequence[Value]],
    dtype: DType = DType.UINT8,
    scale: float = 0.5,
    zero_point: int = 3,
) -> Model:
    """x (2, 4, 4, 4), 8 bits, in steps of 0.5 around 3, through `steps` and back to 8 bits."""
    b = Builder("pattern")
    x = b.input("x", dtype, (2, 4, 4, 4))

    def dequantized(data: Value) -> Value:
        return b.emit(
            ops.DequantizeLinear(DType.FLOAT32, 0), data, b.constant(np.float32(0.5)), _number(b, 3, data.dtype)
        )

    with b.at(Scope(), Origin("test", "node")):
        made = steps(b, dequantized, x)
        results = [made] if isinstance(made, Value) else list(made)
        ends = b.constant(np.float32(scale)), _number(b, zero_point, dtype)
        b.output("y", b.emit(ops.QuantizeLinear(dtype, 0), results[0], *ends))
        for position, value in enumerate(results[1:]):
            b.output(f"also{position}", value)
    return b.finish(source=("test", ""))


def _number(b: Builder, number: int, dtype: DType) -> Value:
    return b.constant(np.asarray(number, dtype.numpy))


def _convolved(b: Builder, dequantized: Callable[[Value], Value], x: Value, *, steps: float = 0.25 * 0.5) -> Value:
    rng = np.random.default_rng(3)
    w = b.constant(rng.integers(-100, 100, (6, 4, 3, 3)).astype(np.int8))
    kernel = b.emit(ops.DequantizeLinear(DType.FLOAT32, 0), w, b.constant(np.float32(0.25)))
    whole = b.constant(rng.integers(-100, 100, 6).astype(np.int32))
    bias = b.emit(ops.DequantizeLinear(DType.FLOAT32, 0), whole, b.constant(np.float32(steps)))
    return b.emit(ops.Conv((1, 1), ((0, 0), (0, 0)), (1, 1), 1), dequantized(x), kernel, bias)


def _kinds(model: Model) -> list[str]:
    nodes = in_qoperator_form(model, 21).graph.nodes
    return [node.op.title if isinstance(node.op, ops.Preserved) else node.op.name for node in nodes]


MATCHES = {
    "conv": ([_convolved], {}, ["QLinearConv"]),
    "conv and relu": ([_convolved, ops.Relu()], {"zero_point": 0}, ["QLinearConv"]),
    "conv and clip": ([_convolved, ops.Clip(0.0, 6.0)], {"zero_point": 0, "scale": 6 / 255}, ["QLinearConv"]),
    "leaky relu": ([ops.LeakyRelu(0.1)], {}, ["com.microsoft.QLinearLeakyRelu"]),
    "average pool": (
        [ops.AveragePool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))],
        {"scale": 0.31379},
        ["com.microsoft.QLinearAveragePool"],
    ),
    "max pool": ([ops.MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))], {}, ["MaxPool"]),
    "transpose": ([ops.Transpose((0, 2, 3, 1))], {}, ["Transpose"]),
}


def _steps(parts: Sequence[object]) -> Callable[[Builder, Callable[[Value], Value], Value], Value]:
    def made(b: Builder, dequantized: Callable[[Value], Value], x: Value) -> Value:
        value = parts[0](b, dequantized, x) if callable(parts[0]) else b.emit(parts[0], dequantized(x))  # type: ignore[arg-type]
        for op in parts[1:]:
            value = b.emit(op, value)  # type: ignore[arg-type]
        return value

    return made


@pytest.mark.parametrize("name", MATCHES)
def test_what_is_replaced_computes_the_same(name: str, tmp_path: Path) -> None:
    """The scales are such that no quotient is a half, which onnxruntime's pools do not round to even."""
    parts, ends, kinds = MATCHES[name]
    model = _pattern(_steps(parts), **ends)  # type: ignore[arg-type]
    assert _kinds(model) == kinds
    path = tmp_path / "m.onnx"
    writer.write(prepare(model, writer.target(21)), path, opset=21, form=FORM)
    x = np.random.default_rng(4).integers(0, 255, (2, 4, 4, 4)).astype(np.uint8)
    np.testing.assert_array_equal(_run(path, x), evaluate(model, {"x": x})["y"])


NEAR_MISSES: dict[str, Model] = {
    "a bias in other steps": _pattern(lambda b, d, x: _convolved(b, d, x, steps=0.3)),
    "a relu that is not implied": _pattern(_steps([_convolved, ops.Relu()])),
    "a clip within the range": _pattern(_steps([_convolved, ops.Clip(0.0, 6.0)]), zero_point=0),
    "a float result that is read": _pattern(lambda b, d, x: [_convolved(b, d, x)] * 2),
    "a pool to another scale": _pattern(_steps([ops.MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))]), scale=0.25),
    "a pool to another zero point": _pattern(
        _steps([ops.MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))]), zero_point=4
    ),
    "data of another type": _pattern(lambda b, d, x: b.emit(ops.Add(), d(x), d(b.emit(ops.Cast(DType.INT8), x)))),
    "data in 16 bits": _pattern(_steps([ops.Sigmoid()]), dtype=DType.UINT16),
    "one float operand": _pattern(lambda b, d, x: b.emit(ops.Mul(), d(x), b.constant(np.float32(2)))),
    "no quantized operator": _pattern(_steps([ops.Tanh()])),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_not_the_pattern_stays(name: str) -> None:
    model = NEAR_MISSES[name]
    assert in_qoperator_form(model, 21).graph.nodes == model.graph.nodes


def test_the_judge_finds_them_equivalent(
    quantized: Callable[[QuantFormat, QuantType, bool], Path], tmp_path: Path
) -> None:
    """Of a source in whole numbers it has no run in float64, and says INCONCLUSIVE."""
    source = quantized(QuantFormat.QDQ, QuantType.QInt8, True)
    convert(source, tmp_path / "m.onnx", onnx=FORM)
    assert validate(source, tmp_path / "m.onnx").verdict is Verdict.EQUIVALENT


def test_it_is_asked_for_and_of_onnx_alone(
    quantized: Callable[[QuantFormat, QuantType, bool], Path], tmp_path: Path
) -> None:
    source = quantized(QuantFormat.QDQ, QuantType.QInt8, True)
    convert(source, tmp_path / "m.onnx", onnx=FORM)
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == IN_WHOLE_NUMBERS
    with pytest.raises(UsageError, match="forms of ONNX are asked of Keras"):
        convert(source, tmp_path / "m.keras", onnx=FORM)
