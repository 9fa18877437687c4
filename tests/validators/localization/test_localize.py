"""Culprits: each op is judged with the source's operands, so that all of them are named and what follows is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph import convert
from isomorph.errors import UsageError
from isomorph.validators import Capture, ModelFile, Report, Verdict, judge, validate
from isomorph.validators.localization.onnx_part import extract
from isomorph.validators.localization.reduce import check_reducible, write_reduced
from isomorph.validators.runner import RunnerChoice
from isomorph.validators.runners.onnxruntime import OnnxRunner

LAYERS = 6


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six dense layers, tanh between them."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for index in range(LAYERS):
        weights.append(numpy_helper.from_array((rng.standard_normal((7, 7)) / 2).astype(np.float32), f"w{index}"))
        weights.append(numpy_helper.from_array(rng.standard_normal(7).astype(np.float32), f"b{index}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"m{index}"], f"matmul{index}"))
        nodes.append(helper.make_node("Add", [f"m{index}", f"b{index}"], [f"a{index}"], f"add{index}"))
        value = f"h{index}" if index < LAYERS - 1 else "y"
        nodes.append(helper.make_node("Tanh", [f"a{index}"], [value], f"tanh{index}"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 7])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    path = tmp_path / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def broken(source: Path, layers: tuple[int, ...]) -> Path:
    """isomorph's conversion of it with a transposed matrix in each of these layers."""
    path = source.with_name("target.onnx")
    convert(source, path, force=True)
    originals = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(source)).graph.initializer}
    proto = onnx.load(str(path))
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if any(array.shape == (7, 7) and np.array_equal(array, originals[f"w{index}"]) for index in layers):
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array.T), tensor.name))
    onnx.save(proto, str(path))
    return path


def judged(source: Path, target: Path) -> Report:
    left, right = OnnxRunner(source, role="reference"), OnnxRunner(target, role="target")
    return judge(left, right, written=ModelFile(target, "onnx"))


def test_every_culprit_and_nothing_else(source: Path) -> None:
    report = judged(source, broken(source, (1, 4)))
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    culprits = [report.culprit, *report.culprit.others]
    assert len(culprits) == 2, [each.target for each in culprits]
    assert [each.source[-1] for each in culprits] == ["1", "4"]
    assert report.culprit.propagated >= 4
    told = report.as_dict()["culprit"]
    assert [each["source"] for each in told["others"]] == [culprits[1].source]
    assert "piece" not in told


def test_one_culprit(source: Path) -> None:
    report = judged(source, broken(source, (2,)))
    assert report.culprit is not None
    assert (report.culprit.source[-1], report.culprit.others) == ("2", ())


def test_the_smallest_failing_model(source: Path, tmp_path: Path) -> None:
    target = broken(source, (3,))
    report = judged(source, target)
    assert report.culprit is not None
    assert report.culprit.piece is not None
    reduced = tmp_path / "reduced.onnx"
    check_reducible(ModelFile(target, "onnx"), reduced)
    said = write_reduced(reduced, ModelFile(target, "onnx"), report.culprit.piece)
    assert said.startswith("reduced to")
    proto = onnx.load(str(reduced))
    onnx.checker.check_model(proto)
    assert len(proto.graph.node) <= 3
    inputs = dict(np.load(f"{reduced}.inputs.npz"))
    [(name, expected)] = np.load(f"{reduced}.expected.npz").items()
    session = onnxruntime.InferenceSession(str(reduced), providers=["CPUExecutionProvider"])
    (wrong,) = session.run([name], inputs)
    assert np.abs(wrong - expected).max() > 0.1


def test_what_cannot_be_reduced(source: Path, tmp_path: Path) -> None:
    """The suffix says of which format a piece is; other formats are refused by name."""
    with pytest.raises(UsageError, match=r"the suffix \.keras, not .*r\.onnx"):
        check_reducible(ModelFile(tmp_path / "m.keras", "keras"), tmp_path / "r.onnx")
    with pytest.raises(UsageError, match=r"the suffix \.onnx, not .*r\.keras"):
        check_reducible(ModelFile(source, "onnx"), tmp_path / "r.keras")
    check_reducible(ModelFile(tmp_path / "m.h5", "h5"), tmp_path / "r.keras")
    for name in ("tf", "tflite", "pt2"):
        with pytest.raises(UsageError, match=f"format `{name}`"):
            check_reducible(ModelFile(tmp_path / "m", name), tmp_path / "r.onnx")
    with pytest.raises(UsageError, match="another interpreter"):
        choice = RunnerChoice("keras", python="/usr/bin/python3")
        check_reducible(ModelFile(tmp_path / "m.keras", "keras"), tmp_path / "r.keras", choice)
    with pytest.raises(UsageError, match="code"):
        check_reducible(Capture("a:b"), tmp_path / "r.onnx")
    with pytest.raises(UsageError, match="exists"):
        check_reducible(ModelFile(source, "onnx"), source)


def test_a_piece_of_a_graph(source: Path) -> None:
    model = onnx.load(str(source))
    piece = extract(model, {"h1": np.zeros((2, 7), np.float32), "x": np.zeros((2, 7), np.float32)}, ["a2"])
    assert [node.op_type for node in piece.graph.node] == ["MatMul", "Add"]
    assert [value.name for value in piece.graph.input] == ["h1"]
    assert sorted(tensor.name for tensor in piece.graph.initializer) == ["b2", "w2"]
    with pytest.raises(KeyError, match="x"):
        extract(model, {}, ["a2"])


def test_a_piece_with_a_body() -> None:
    """What a body takes from outside is an operand, too."""
    inside = helper.make_graph(
        [helper.make_node("Add", ["outer", "c"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "c")],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["outer"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, [1])]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["outer"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=inside, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1]), helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", 1, [1])],
    )
    model = helper.make_model(graph)
    feeds = {"x": np.ones(1, np.float32), "flag": np.array(True)}
    assert [node.op_type for node in extract(model, feeds, ["y"]).graph.node] == ["Relu", "If"]
    feeds = {"outer": np.ones(1, np.float32), "flag": np.array(True)}
    assert [node.op_type for node in extract(model, feeds, ["y"]).graph.node] == ["If"]


@pytest.mark.parametrize(
    "choice",
    [RunnerChoice("onnx.reference"), RunnerChoice("onnxruntime", python=sys.executable)],
    ids=["onnx.reference", "in another interpreter"],
)
def test_every_culprit_by_other_runners(source: Path, choice: RunnerChoice, tmp_path: Path) -> None:
    target = ModelFile(broken(source, (1, 4)), "onnx")
    reduced = tmp_path / "reduced.onnx"
    report = validate(ModelFile(source, "onnx"), target, runners=(RunnerChoice(), choice), reduce=reduced)
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert [each.source[-1] for each in (report.culprit, *report.culprit.others)] == ["1", "4"]
    assert report.culprit.piece is not None
    assert reduced.exists()
    assert f"reduced to {reduced}" in report.notes[-1]


def strided(path: Path, strides: tuple[int, int], *, pooled: bool) -> Path:
    """Three convolutions, the first with these strides; a mean over all cells makes the shapes the same again."""
    rng = np.random.default_rng(1)
    sizes = [(5, 3, 3, 3), (6, 5, 3, 3), (4, 6, 1, 1)]
    weights = [
        numpy_helper.from_array(rng.standard_normal(size).astype(np.float32) / 4, f"w{i}")
        for i, size in enumerate(sizes)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "conv0", strides=strides, pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["c0"], ["t0"], "tanh0"),
        helper.make_node("Conv", ["t0", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["c1"], ["t1"], "tanh1"),
        helper.make_node("Conv", ["t1", "w2"], ["c2" if pooled else "y"], "conv2"),
    ]
    nodes += [helper.make_node("GlobalAveragePool", ["c2"], ["y"], "pool")] if pooled else []
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, None, None])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("pooled", [True, False])
def test_a_value_of_another_shape(tmp_path: Path, pooled: bool) -> None:
    """What is made of it has other sizes, too, but is right with the source's value of it."""
    source = strided(tmp_path / "source.onnx", (2, 2), pooled=pooled)
    report = judged(source, strided(tmp_path / "target.onnx", (1, 1), pooled=pooled))
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert (report.culprit.target, report.culprit.others) == ("c0", ()), report.culprit.note
    assert report.culprit.note.startswith("it has the shape [")
    assert report.culprit.propagated == (5 if pooled else 4)
