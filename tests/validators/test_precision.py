"""Declared precision classes: what a class allows, that correct targets of it pass, and that faults are found in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers import float16

from isomorph.cli import main
from isomorph.errors import UsageError
from isomorph.validators import ModelFile, Report, Verdict, judge, validate
from isomorph.validators.certificates.certificate import read_certificate
from isomorph.validators.certificates.verify import certified_target, verify
from isomorph.validators.lowered import input_ranges, shown_precision
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.precision import NAMES, Precision
from isomorph.validators.reports import schema
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.runners.torch_live import CallableRunner

Edit = Callable[[onnx.ModelProto], object]
HALF = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def network() -> onnx.ModelProto:
    """x (N, 3, 11, 9) -> logits (N, 5): two convolutions, a residual, a dense layer."""
    rng = np.random.default_rng(3)
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        values = rng.standard_normal(shape) * np.sqrt(2 / fan)
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=output, **attributes)

    nodes = [
        node("Conv", ["x", weight("w1", 8, 3, 3, 3), weight("b1", 8)], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["conv1"], "relu1"),
        node("Conv", ["relu1", weight("w2", 8, 8, 3, 3), weight("b2", 8)], "conv2", pads=[1, 1, 1, 1]),
        node("Add", ["conv2", "relu1"], "sum"),
        node("GlobalAveragePool", ["sum"], "pooled"),
        node("Flatten", ["pooled"], "flat"),
        node("Gemm", ["flat", weight("w3", 5, 8), weight("b3", 5)], "logits", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 11, 9])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])]
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    onnx.save(network(), str(path))
    return path


def rounded(proto: onnx.ModelProto, dtype: Any) -> None:
    """The weights through another type, and back to float32."""
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(dtype).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def stored(proto: onnx.ModelProto) -> None:
    """The whole model in float16, inputs and outputs included."""
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def quantized(proto: onnx.ModelProto) -> None:
    """Each weight of two axes or more in 8 bits, symmetric, by channel, behind a DequantizeLinear."""
    for tensor in [each for each in proto.graph.initializer if len(each.dims) > 1]:
        values = numpy_helper.to_array(tensor)
        scale = np.abs(values).reshape(len(values), -1).max(1) / 127
        whole = np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        name, made = tensor.name, numpy_helper.from_array(whole, f"{tensor.name}.q")
        tensor.CopyFrom(made)
        proto.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.s"))
        node = helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s"], [name], name=name, axis=0)
        proto.graph.node.insert(0, node)


LOWERED: dict[str, Edit] = {
    "fp16": stored,
    "bf16": lambda proto: rounded(proto, ml_dtypes.bfloat16),
    "int8": quantized,
}


def judged(source: Path, *edits: Edit, precision: str | None, **options: Any) -> Report:
    proto, path = onnx.load(str(source)), source.with_name("target.onnx")
    for edit in edits:
        edit(proto)
    onnx.save(proto, str(path))
    left, right = OnnxRunner(source, role="reference"), OnnxRunner(path, role="target")
    return judge(left, right, written=ModelFile(path, "onnx"), precision=precision, **options)


def negate_a_channel(proto: onnx.ModelProto) -> None:
    _change(proto, "w2", lambda w: w * np.where(np.arange(8) == 3, -1, 1).reshape(8, 1, 1, 1))


def drop_a_bias(proto: onnx.ModelProto) -> None:
    _change(proto, "b1", np.zeros_like)


def flip_a_kernel(proto: onnx.ModelProto) -> None:
    _change(proto, "w1", lambda w: w[..., ::-1])


def drop_the_residual(proto: onnx.ModelProto) -> None:
    node = next(node for node in proto.graph.node if node.op_type == "Add")
    node.input[1] = "conv2"


def _change(proto: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(each for each in proto.graph.initializer if each.name == name)
    values = np.ascontiguousarray(change(numpy_helper.to_array(tensor)), np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


FAULTS: tuple[Edit, ...] = (negate_a_channel, drop_a_bias, flip_a_kernel, drop_the_residual)


@pytest.mark.parametrize("name", LOWERED)
def test_a_correct_target_is_equivalent_only_if_it_is_declared(source: Path, name: str) -> None:
    declared = judged(source, LOWERED[name], precision=name)
    assert declared.verdict is Verdict.EQUIVALENT, declared.reasons
    assert declared.precision is not None
    assert declared.precision.name == name
    assert declared.as_dict()["precision"] == declared.precision.as_dict()
    bare = judged(source, LOWERED[name], precision=None, explain=False)
    assert bare.verdict is Verdict.DIFFERENT
    hints = [note for note in bare.notes if f"--precision {name}" in note]
    assert bool(hints) == (name != "bf16")  # weights that are float32 again do not look like it


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", LOWERED)
def test_a_fault_is_different_within_every_class(source: Path, name: str, fault: Edit) -> None:
    report = judged(source, fault, LOWERED[name], precision=name, explain=False)
    assert report.verdict is Verdict.DIFFERENT, report.outputs[0].worst


def test_a_half_source_between_float32_ends_is_its_own_measure(source: Path, tmp_path: Path) -> None:
    """onnxruntime computes it in float32 without optimizations and in float16 with them: an error of its own of 0."""
    half = tmp_path / "half.onnx"
    onnx.save(float16.convert_float_to_float16(network(), keep_io_types=True), str(half))
    faulty = tmp_path / "faulty.onnx"
    proto = network()
    negate_a_channel(proto)
    onnx.save(float16.convert_float_to_float16(proto, keep_io_types=True), str(faulty))
    subject = ModelFile(half, "onnx")
    report = validate(subject, subject)
    assert report.verdict is Verdict.EQUIVALENT and report.precision == Precision.of("fp16")
    assert any("the source itself is fp16" in note for note in report.notes)
    assert validate(subject, ModelFile(faulty, "onnx")).verdict is Verdict.DIFFERENT
    assert validate(ModelFile(source, "onnx"), subject).verdict is Verdict.DIFFERENT


def test_a_finer_class_does_not_excuse_a_coarser_target(source: Path) -> None:
    coarse = LOWERED["bf16"]
    assert judged(source, coarse, precision="tf32", explain=False).verdict is not Verdict.EQUIVALENT
    assert judged(source, LOWERED["int8"], precision="fp16", explain=False).verdict is not Verdict.EQUIVALENT


def test_tf32_rounds_operands_of_products_only(source: Path) -> None:
    def truncated(proto: onnx.ModelProto) -> None:
        for name in ("w1", "w2", "w3"):
            _change(proto, name, lambda w: ((w.view(np.int32) + 0x1000) & ~0x1FFF).view(np.float32))

    assert judged(source, truncated, precision="tf32", explain=False).verdict is Verdict.EQUIVALENT
    assert judged(source, truncated, precision=None, explain=False).verdict is Verdict.DIFFERENT

    def shifted(proto: onnx.ModelProto) -> None:
        _change(proto, "b3", lambda b: b + np.float32(0.05))

    assert judged(source, shifted, precision="tf32", explain=False).verdict is Verdict.DIFFERENT


def test_what_leaves_the_range_of_float16_is_different(source: Path) -> None:
    """R goes on where float16 is infinite."""

    def larger(proto: onnx.ModelProto) -> None:
        _change(proto, "w1", lambda w: w * np.float32(200))
        _change(proto, "w2", lambda w: w * np.float32(200))

    proto = onnx.load(str(source))
    larger(proto)
    onnx.save(proto, str(source))
    report = judged(source, stored, precision="fp16", explain=False)
    assert report.verdict is Verdict.DIFFERENT
    assert any("Inf" in reason or "NaN" in reason for reason in report.reasons)
    assert any("65504" in note for note in report.notes)


def test_a_declared_class_that_is_no_lower_changes_nothing(source: Path) -> None:
    report = judged(source, precision="float32")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.precision is None
    fault = judged(source, lambda proto: rounded(proto, np.float16), precision="float32", explain=False)
    assert fault.verdict is Verdict.DIFFERENT


def test_a_culprit_is_named_within_a_class(source: Path) -> None:
    report = judged(source, flip_a_kernel, LOWERED["fp16"], precision="fp16")
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None


def test_strictly_within_a_class(source: Path) -> None:
    """Intermediate values are held to the class, too; a file in float16 has no record of names, equal names will do."""
    report = judged(source, LOWERED["fp16"], precision="fp16", strict=True)
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
    assert report.layers


def test_a_certificate_remembers_the_class(source: Path) -> None:
    proto, path = onnx.load(str(source)), source.with_name("target.onnx")
    stored(proto)
    onnx.save(proto, str(path))
    subjects = ModelFile(source, "onnx"), ModelFile(path, "onnx")
    written = source.with_name("verdict.json")
    report = validate(*subjects, precision="fp16", certificate=written)
    assert report.verdict is Verdict.EQUIVALENT
    certificate = read_certificate(written)
    again = verify(certificate, certified_target(certificate))
    assert again.identical
    assert again.verdict is Verdict.EQUIVALENT
    assert again.report.verdict is Verdict.EQUIVALENT


def test_the_command_line(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto, path = onnx.load(str(source)), source.with_name("target.onnx")
    stored(proto)
    onnx.save(proto, str(path))
    assert main(["validate", str(source), str(path), "--precision", "fp16"]) == 0
    assert "EQUIVALENT within fp16" in capsys.readouterr().out
    assert main(["validate", str(source), str(path), "--precision", "fp16", "--train"]) == 2
    assert main(["validate", str(source), str(path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["precision"] is None
    assert any("--precision fp16" in note for note in told["notes"])


class Half(torch.nn.Module):
    """A block of a transformer, computed in a type of its own; it takes and gives float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).eval().to(dtype)
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x.to(self.dtype)).to(torch.float32)


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_modules_of_pytorch(name: str, dtype: torch.dtype) -> None:
    example = (torch.randn(2, 7, 16),)
    left = CallableRunner(Half(torch.float32).eval(), example)
    right = CallableRunner(Half(dtype).eval(), example)
    assert judge(left, right, precision=name, explain=False).verdict is Verdict.EQUIVALENT
    assert judge(left, right, explain=False).verdict is Verdict.DIFFERENT
    broken = Half(dtype).eval()
    with torch.no_grad():
        broken.block.linear1.weight.copy_(broken.block.linear1.weight.roll(1, 0))
    faulty = judge(left, CallableRunner(broken, example), precision=name, explain=False)
    assert faulty.verdict is Verdict.DIFFERENT


def test_what_a_file_shows(source: Path) -> None:
    def shown(*edits: Edit) -> Precision | None:
        proto, path = onnx.load(str(source)), source.with_name("shown.onnx")
        for edit in edits:
            edit(proto)
        onnx.save(proto, str(path))
        return shown_precision(ModelFile(path, "onnx"))

    assert shown() is None
    assert shown(stored) == Precision("fp16")
    assert shown(quantized) == Precision("int8", "weights", 8, split=True)


def test_the_range_that_a_target_was_calibrated_for(source: Path) -> None:
    """Inputs beyond it are left out; what is within is judged on a grid of its step."""

    def calibrated(proto: onnx.ModelProto) -> None:
        scale, zero = np.float32(10 / 255), np.uint8(128)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(scale), "x.s"))
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(zero), "x.z"))
        proto.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "x.s", "x.z"], ["x.q"], name="x.q"))
        proto.graph.node.insert(1, helper.make_node("DequantizeLinear", ["x.q", "x.s", "x.z"], ["x.d"], name="x.d"))
        next(node for node in proto.graph.node if node.name == "conv1").input[0] = "x.d"

    report = judged(source, quantized, calibrated, precision="int8", explain=False)
    assert report.verdict is not Verdict.DIFFERENT, report.reasons
    assert any("calibrated" in note and "bytes" in note for note in report.notes)
    (ends,) = input_ranges(ModelFile(source.with_name("target.onnx"), "onnx")).values()
    assert ends == pytest.approx((-128 * 10 / 255, 127 * 10 / 255))


def test_spelled_and_read() -> None:
    for each in (*map(Precision.of, NAMES), Precision("int8", "weights", 4, split=True)):
        noise = Noise(each.allowance, 3, each)
        assert Noise.parse(str(noise)) == noise
    with pytest.raises(UsageError, match="no precision class `fp8`"):
        Precision.of("fp8")
    described = json.loads(schema())["properties"]["precision"]["anyOf"][0]["properties"]
    assert set(described) == set(Precision("fp16").as_dict())
