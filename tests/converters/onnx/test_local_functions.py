"""Modules and model-local functions of a source, written as model-local functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.convert import convert, prepare
from isomorph.converters.onnx import reader, writer
from isomorph.converters.onnx.form import OnnxForm
from isomorph.ir import Builder, DType, Model, Origin, Scope, Value, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.origin import ScopeEntry

KEPT = OnnxForm(functions="kept")
X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


def _function(name: str, inputs: list[str], nodes: list[onnx.NodeProto], output: str, **given: list[str]) -> object:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my.nets", 1)]
    return helper.make_function("my.nets", name, inputs, [output], nodes, imports, **given)


def _source(path: Path) -> Path:
    """Two calls of Block(x, w), which calls Scaled(x; by) twice, with one constant and one attribute."""
    half = helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32(0.5)))
    by = helper.make_node("Constant", [], ["factor"])
    by.attribute.append(onnx.AttributeProto(name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name="by"))
    scaled = [half, by]
    scaled += [helper.make_node("Mul", ["x", "factor"], ["m"]), helper.make_node("Add", ["m", "half"], ["y"])]
    block = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Scaled", ["h"], ["s"], domain="my.nets", by=2.0),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("Scaled", ["r"], ["y"], domain="my.nets", by=3.0),
    ]
    nodes = [
        helper.make_node("Block", ["x", "w1"], ["a"], domain="my.nets", name="first"),
        helper.make_node("Block", ["a", "w2"], ["b"], domain="my.nets", name="second"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    rng = np.random.default_rng(1)
    weights = [numpy_helper.from_array(rng.normal(size=(4, 4)).astype(np.float32), name) for name in ("w1", "w2")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    functions = [_function("Block", ["x", "w"], block, "y"), _function("Scaled", ["x"], scaled, "y", attributes=["by"])]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my.nets", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10), path)
    return path


def _run(path: Path, **feeds: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return np.asarray(onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"]).run(None, feeds)[0])


def test_functions_of_the_source_come_back(tmp_path: Path) -> None:
    source = _source(tmp_path / "a.onnx")
    convert(source, tmp_path / "b.onnx", onnx=KEPT)
    onnx.checker.check_model(tmp_path / "b.onnx", full_check=True)
    written = onnx.load(tmp_path / "b.onnx")
    assert [(node.op_type, node.name) for node in written.graph.node][:2] == [("Block", "first"), ("Block", "second")]
    made = [(f.domain, f.name, [node.op_type for node in f.node]) for f in written.functions]
    body = ["Constant", "Constant", "Mul", "Add"]
    assert sorted(made) == [
        ("my.nets", "Block", ["MatMul", "Scaled", "Relu", "Scaled_1"]),
        ("my.nets", "Scaled", body),
        ("my.nets", "Scaled_1", body),
    ]
    assert [tensor.name for tensor in written.graph.initializer] == ["w1", "w2"]
    np.testing.assert_array_equal(_run(tmp_path / "b.onnx", x=X), _run(source, x=X))


def test_another_round_changes_nothing(tmp_path: Path) -> None:
    convert(_source(tmp_path / "a.onnx"), tmp_path / "b.onnx", onnx=KEPT)
    convert(tmp_path / "b.onnx", tmp_path / "c.onnx", onnx=KEPT)
    first, second = (onnx.load(tmp_path / name) for name in ("b.onnx", "c.onnx"))
    assert first.functions == second.functions
    assert first.graph == second.graph


def test_without_it_they_are_inlined(tmp_path: Path) -> None:
    convert(_source(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    written = onnx.load(tmp_path / "b.onnx")
    assert not written.functions and {node.domain for node in written.graph.node} == {""}


def _modules(split: bool = False) -> Model:
    """Two blocks of one class with other weights; with `split` a node outside stands between their halves."""
    b = Builder("net")
    x = b.input("x", DType.FLOAT32, (2, 4))
    rng = np.random.default_rng(2)

    def scope(path: str) -> Scope:
        return Scope((ScopeEntry("net", "nets.Net"), ScopeEntry(path, "nets.Block")))

    def block(path: str, value: Value) -> Value:
        with b.at(scope(path), Origin("test", path)):
            w = b.constant(rng.normal(size=(4, 4)).astype(np.float32), f"{path}.w")
            inner = b.emit(ops.Relu(), b.emit(ops.MatMul(), value, w))
        if split:
            with b.at(Scope(), Origin("test", "between")):
                inner = b.emit(ops.Tanh(), inner)
        with b.at(scope(path), Origin("test", path)):
            return b.emit(ops.Sigmoid(), inner)

    b.output("y", block("net.second", block("net.first", x)))
    return b.finish(source=("torch", ""))


@pytest.mark.parametrize("split", [False, True])
def test_modules_become_functions_where_they_are_whole(split: bool, tmp_path: Path) -> None:
    model, path = _modules(split), tmp_path / "m.onnx"
    writer.write(prepare(model, writer.target(21)), path, opset=21, form=KEPT)
    onnx.checker.check_model(path, full_check=True)
    written = onnx.load(path)
    assert {f.name for f in written.functions} == (set() if split else {"Block", "Block_1", "Net"})
    np.testing.assert_allclose(_run(path, x=X), evaluate(model, {"x": X})["y"], rtol=1e-6)
    again = reader.read(path)
    if not split:
        assert {node.scope.path.rpartition("/")[2] for node in again.graph.nodes} == {"first", "second"}
        assert {node.scope.cls for node in again.graph.nodes} == {"nets.Block", "nets.Block_1"}


def test_a_branch_in_a_function_reads_what_is_around_it(tmp_path: Path) -> None:
    result = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4])]
    then, other = (
        helper.make_graph([helper.make_node(kind, ["t", "x"], ["z"])], kind, [], result) for kind in ("Add", "Sub")
    )
    body = [
        helper.make_node("Mul", ["x", "x"], ["t"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    calls = [
        helper.make_node("Choose", ["c", "x"], ["z"], domain="my.nets"),
        helper.make_node("Choose", ["c", "z"], ["y"], domain="my.nets"),
    ]
    graph = helper.make_graph(calls, "net", [condition, ends[0]], ends[1:])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my.nets", 1)]
    function = _function("Choose", ["c", "x"], body, "y")
    source = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10), source)
    convert(source, tmp_path / "b.onnx", onnx=KEPT)
    onnx.checker.check_model(tmp_path / "b.onnx", full_check=True)
    written = onnx.load(tmp_path / "b.onnx")
    assert [node.op_type for node in written.graph.node] == ["Choose", "Choose"]
    for c in (True, False):
        wanted, got = (_run(path, x=X, c=np.array(c)) for path in (source, tmp_path / "b.onnx"))
        np.testing.assert_array_equal(got, wanted)
