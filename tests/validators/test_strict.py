"""What outputs alone do not show: --strict, dropout that a runtime removes, masks and moves as culprits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from isomorph import convert, validate
from isomorph.validators import ModelFile, Report, Verdict, judge
from isomorph.validators.inputs import plan
from isomorph.validators.runners.onnxruntime import OnnxRunner

RNG = np.random.default_rng(2)


def pair(
    folder: Path,
    nodes: Sequence[NodeProto],
    weights: dict[str, np.ndarray],
    shape: Sequence[int | str],
    opset: int = 23,
) -> tuple[Path, Path]:
    """A model x -> y and isomorph's conversion of it."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    source, target = folder / "source.onnx", folder / "target.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), str(source))
    convert(source, target)
    return source, target


def judged(
    source: Path, target: Path, edit: Callable[[ModelProto], None] | None = None, *, strict: bool = False
) -> Report:
    if edit is not None:
        proto = onnx.load(str(target))
        edit(proto)
        onnx.save(proto, str(target))
    left, right = OnnxRunner(source, role="reference"), OnnxRunner(target, role="target")
    return judge(left, right, written=ModelFile(target, "onnx"), strict=strict)


def changed(proto: ModelProto, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the weight of this shape."""
    tensor = next(tensor for tensor in proto.graph.initializer if tuple(tensor.dims) == shape)
    array = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def hidden(folder: Path) -> tuple[Path, Path]:
    """y = x + relu(x w - 1e6): the weight matters to no input that anybody tries."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "matmul"),
        helper.make_node("Sub", ["m", "far"], ["s"], "sub"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        helper.make_node("Add", ["x", "r"], ["y"], "add"),
    ]
    weights = {"w": RNG.standard_normal((6, 6)).astype(np.float32), "far": np.full(6, 1e6, np.float32)}
    return pair(folder, nodes, weights, ["N", 6])


def test_strict_looks_inside(tmp_path: Path) -> None:
    source, target = hidden(tmp_path)
    assert judged(source, target, lambda proto: changed(proto, (6, 6), np.transpose)).verdict is Verdict.EQUIVALENT
    report = judged(source, target, strict=True)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("--strict" in reason and "times its budget" in reason for reason in report.reasons), report.reasons
    assert any(layer.state == "wrong" for layer in report.layers)


def test_strict_passes_what_is_right(tmp_path: Path) -> None:
    source, target = hidden(tmp_path)
    report = judged(source, target, strict=True)
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
    assert report.layers
    assert {layer.state for layer in report.layers} == {"right"}


def test_strict_needs_intermediate_values(tmp_path: Path) -> None:
    source, target = hidden(tmp_path)
    report = judge(OnnxRunner(source, role="reference"), OnnxRunner(target, role="target"), strict=True)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("intermediate values cannot be compared" in reason for reason in report.reasons)


def test_strict_asks_at_thresholds(tmp_path: Path) -> None:
    """x >= 0.5 and x > 0.5 differ at 0.5 alone, where a moved input may excuse it: then not with --strict."""
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "half"], ["up"], "compare"),
        helper.make_node("Where", ["up", "x", "low"], ["chosen"], "choose"),
        helper.make_node("Add", ["chosen", "x"], ["y"], "add"),
    ]
    weights = {"half": np.array(0.5, np.float32), "low": np.array(-2, np.float32)}
    source, target = pair(tmp_path, nodes, weights, ["N", 12])
    left, right = OnnxRunner(source, role="reference"), OnnxRunner(target, role="target")
    clean = judge(left, right, written=ModelFile(target, "onnx"), strict=True)
    assert clean.verdict is Verdict.EQUIVALENT, clean.reasons

    proto = onnx.load(str(target))
    next(node for node in proto.graph.node if node.op_type == "GreaterOrEqual").op_type = "Greater"
    onnx.save(proto, str(target))
    right = OnnxRunner(target, role="target")
    excused = 0
    for seed in range(12):
        if not any((case.inputs["x"] == 0.5).any() for case in plan(left.signature(), seed)):
            continue
        loose, strict = (
            judge(left, right, written=ModelFile(target, "onnx"), seed=seed, strict=each, explain=False)
            for each in (False, True)
        )
        assert strict.verdict is not Verdict.EQUIVALENT
        if loose.verdict is Verdict.EQUIVALENT:
            excused += 1
            assert any("threshold" in reason for reason in strict.reasons), strict.reasons
    assert excused


def test_dropout_in_training_mode_is_run(tmp_path: Path) -> None:
    """onnxruntime removes it, from opset 23 on, as if it were in inference mode."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")]
    source, target = pair(tmp_path, nodes, {"w": RNG.standard_normal((6, 6)).astype(np.float32)}, ["N", 6])

    def train(proto: ModelProto) -> None:
        proto.graph.initializer.extend(
            [numpy_helper.from_array(np.float32(0.5), "p"), numpy_helper.from_array(np.bool_(True), "t")]
        )
        last = proto.graph.node[-1]
        name, last.output[0] = last.output[0], "before"
        proto.graph.node.append(helper.make_node("Dropout", ["before", "p", "t"], [name], "dropout"))

    report = judged(source, target, train)
    assert report.verdict is Verdict.DIFFERENT
    assert any("two answers" in reason for reason in report.reasons)
    assert "EliminateDropout" in report.as_dict()["target"]["environment"]["graph_optimizations"]


def test_a_mask_is_the_culprit(tmp_path: Path) -> None:
    """The triangle is a bool, what it masks is infinite elsewhere: both are compared."""
    nodes = [
        helper.make_node("Trilu", ["ones", "diagonal"], ["keep"], "triangle", upper=0),
        helper.make_node("Where", ["keep", "x", "low"], ["masked"], "mask"),
        helper.make_node("Softmax", ["masked"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "w"], ["y"], "mix"),
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["ones"], "ones", value=numpy_helper.from_array(np.array([True]))
        ),
    ]
    nodes = [nodes[4], nodes[5], *nodes[:4]]
    weights = {
        "diagonal": np.array(1, np.int64),
        "low": np.array(-np.inf, np.float32),
        "w": RNG.standard_normal((5, 3)).astype(np.float32),
    }
    source, target = pair(tmp_path, nodes, weights, ["N", 5, 5])

    def shift(proto: ModelProto) -> None:
        node = next(node for node in proto.graph.node if node.op_type == "Trilu")
        proto.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "other"))
        node.input[1] = "other"

    report = judged(source, target, shift)
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert report.culprit.op == "Trilu"


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(".onnx", id="onnx"),
        pytest.param(".keras", id="keras", marks=pytest.mark.requires("keras", "tensorflow")),
    ],
)
def test_a_source_that_was_converted_itself(between: str, tmp_path: Path) -> None:
    """Its target speaks of values of the first model: `flatten` is torch's, channels first, and Keras has one, too."""
    middle, target = tmp_path / f"middle{between}", tmp_path / "target.onnx"
    convert("zoo:digits-cnn.pt2", middle)
    convert(middle, target)
    report = validate(middle, target, strict=True)
    assert report.verdict is Verdict.EQUIVALENT, report.blockers
    assert len(report.layers) > 3
