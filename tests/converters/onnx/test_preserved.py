"""Operators that no rule reads: kept, written back, evaluated, printed; refused by other targets with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.convert import convert, prepare
from isomorph.converters.onnx import reader, writer
from isomorph.converters.rules import Target
from isomorph.errors import DTypeError, GraphError, MalformedError, ModelError, UnsafeError, UnsupportedError
from isomorph.ir import Builder, DType, Layout, Model, OpaqueType, Origin, Scope, Sym, TensorType, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.ops.preserved import EVALUATORS, Stated
from isomorph.ir.passes.fold import fold
from isomorph.ir.passes.share import share
from isomorph.ir.text import parse_model, print_model
from isomorph.ir.verify import verify

FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
DEPENDS = "operand 1 depends on data; isomorph needs sizes that follow from shapes"


def info(name: str, code: int = FLOAT, shape: list[Any] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, code, shape)


def stored(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    opsets: dict[str, int] | None = None,
    **others: Any,
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, **others)
    imports = [helper.make_opsetid(*each) for each in (opsets or {"": 21}).items()]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())
    return path


def kept(model: Model) -> list[ops.Preserved]:
    return [node.op for node in model.nodes() if isinstance(node.op, ops.Preserved)]


def run(path: Path, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return list(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds))


def check_same(path: Path, written: Path, **feeds: Any) -> Model:
    """The file written anew and the model itself compute what the file does; the text form gives the model back."""
    model = reader.read(path)
    verify(model)
    text = print_model(model)
    assert print_model(parse_model(text)) == text
    opset = writer.opset_for(model)
    writer.write(prepare(model, writer.target(opset)), written, opset=opset)
    if _is_valid(path):
        onnx.checker.check_model(onnx.load(written), full_check=True)
    expected = run(path, feeds)
    for found in (run(written, feeds), list(evaluate(model, feeds).values())):
        for one, other in zip(found, expected, strict=True):
            if isinstance(other, np.ndarray) and other.dtype.kind == "f":
                np.testing.assert_allclose(one, other, rtol=3e-7, strict=True)
            else:
                np.testing.assert_equal(one, other)
    return model


def _is_valid(path: Path) -> bool:
    """Whether the checker accepts the original: it does not where an output states no rank."""
    try:
        onnx.checker.check_model(onnx.load(path), full_check=True)
    except onnx.checker.ValidationError:
        return False
    return True


X = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_computed_axes(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1, name="sum")]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=["N", 4]), info("axes", INT64, [1])], [info("y")])
    model = check_same(path, tmp_path / "b.onnx", x=X, axes=np.array([1]))
    (op,) = kept(model)
    assert (op.title, op.version, op.reason) == ("ReduceSum", 21, DEPENDS)
    assert op.stated == (Stated("keepdims", "int", 1),)
    assert [node.name for node in model.graph.nodes] == ["sum"]


def test_a_size_that_is_decided_is_known_behind_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "start", "end"], ["part"]),
        helper.make_node("Relu", ["part"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["r", "t"], ["y"]),
    ]
    inputs = [info("x", shape=["N", 4]), info("start", INT64, [1]), info("end", INT64, [1])]
    path = stored(tmp_path / "a.onnx", nodes, inputs, [info("y")])
    model = check_same(path, tmp_path / "b.onnx", x=X - 5, start=np.array([1]), end=np.array([3]))
    assert [node.op.name for node in model.graph.nodes] == ["Preserved", "Relu", "Transpose", "MatMul"]
    (size,) = kept(model)[0].decides[:1]
    assert model.outputs["y"].shape == (Sym(size), Sym(size))


def test_an_operator_of_another_domain(tmp_path: Path) -> None:
    nodes = [helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=2.5)]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=[3, 4])], [info("y")], {"": 21, "ai.onnx.ml": 3})
    model = check_same(path, tmp_path / "b.onnx", x=X)
    assert kept(model)[0].title == "ai.onnx.ml.Binarizer"
    written = onnx.load(tmp_path / "b.onnx")
    assert {item.domain: item.version for item in written.opset_import}["ai.onnx.ml"] == 3


def test_attributes_of_every_kind(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.array([[1.5, -0.0], [np.inf, 2]], np.float32), "w")
    attributes: dict[str, Any] = {
        "f": 0.1, "i": -3, "s": "text", "b": b"\xff\x00", "fs": [1.0, 2.5], "is": [1, 2], "ss": ["a", "é"],
        "t": weights, "kind": helper.make_tensor_type_proto(FLOAT, [2]),
    }  # fmt: skip
    node = helper.make_node("Own", ["x", "", "x"], ["y", "", "z"], domain="com.example", **attributes)
    node.attribute.append(onnx.AttributeProto(name="none", type=onnx.AttributeProto.INTS))
    outputs = [info("y", shape=["A", 2]), info("z", INT64, [])]
    path = stored(tmp_path / "a.onnx", [node], [info("x", shape=[3, 4])], outputs, {"": 21, "com.example": 7})
    model = reader.read(path)
    text = print_model(model)
    assert print_model(parse_model(text)) == text
    writer.write(prepare(model, writer.target()), tmp_path / "b.onnx")
    written = onnx.load(tmp_path / "b.onnx")
    (made,) = written.graph.node
    for item in made.attribute:
        item.t.ClearField("name")
    for item in node.attribute:
        item.t.ClearField("name")
    assert {item.name: item.SerializeToString() for item in made.attribute} == {
        item.name: item.SerializeToString() for item in node.attribute
    }
    assert (list(made.input), list(made.output)) == (["x", "", "x"], ["y", "", "z"])
    assert not written.graph.initializer
    with pytest.raises(GraphError, match=r"com\.example\.Own"):
        evaluate(model, {"x": X})


def test_a_result_of_no_known_type_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Own", ["x"], ["h"], domain="com.example"), helper.make_node("Relu", ["h"], ["y"])]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=[3])], [info("y")], {"": 21, "com.example": 1})
    with pytest.raises(UnsupportedError, match="the type of its result 'h' is not stated"):
        reader.read(path)


def test_sequences(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], axis=0),
        helper.make_node("SequenceLength", ["parts"], ["n"]),
        helper.make_node("SequenceAt", ["parts", "n_1"], ["last"]),
        helper.make_node("Sub", ["n", "one"], ["n_1"]),
    ]
    nodes = [nodes[0], nodes[1], nodes[3], nodes[2]]
    one = numpy_helper.from_array(np.array(1), "one")
    outputs = [info("last"), info("n", INT64, []), helper.make_tensor_sequence_value_info("parts", FLOAT, None)]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=["N", 4])], outputs, initializer=[one])
    model = check_same(path, tmp_path / "b.onnx", x=X)
    kinds = {node.outputs[0].name: node.outputs[0].type for node in model.graph.nodes}
    assert str(kinds["parts"]).startswith("sequence(float32[")
    assert kinds["n"] == TensorType(DType.INT64, ())


def test_sequences_in_and_out(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, ["N"])
    nodes = [helper.make_node("SequenceErase", ["s", "at"], ["t"])]
    path = stored(
        tmp_path / "a.onnx", nodes, [sequence, info("at", INT64, [])],
        [helper.make_tensor_sequence_value_info("t", FLOAT, None)],
    )  # fmt: skip
    model = check_same(path, tmp_path / "b.onnx", s=[X[0], X[1, :2], X[2]], at=np.array(1))
    assert str(model.inputs["s"]) == "sequence(float32[any])"


def test_optionals_maps_and_strings(tmp_path: Path) -> None:
    text = [helper.make_node("StringConcat", ["a", "b"], ["c"])]
    path = stored(tmp_path / "a.onnx", text, [info("a", STRING, ["N"]), info("b", STRING, ["N"])], [info("c", STRING)])
    words = np.array(["x", "yz"], object)
    check_same(path, tmp_path / "b.onnx", a=words, b=words)
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    asked = [helper.make_node("OptionalHasElement", ["o"], ["has"])]
    path = stored(tmp_path / "a.onnx", asked, [helper.make_value_info("o", kind)], [info("has", BOOL)])
    model = reader.read(path)
    assert str(model.inputs["o"]) == "optional(float32[2])"
    assert [bool(evaluate(model, {"o": given})["has"]) for given in (None, X[0, :2])] == [False, True]
    named = [
        helper.make_node("ZipMap", ["x"], ["m"], domain="ai.onnx.ml", classlabels_strings=["a", "b"]),
    ]
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, [])))
    path = stored(
        tmp_path / "a.onnx", named, [info("x", shape=[1, 2])], [helper.make_value_info("m", kind)],
        {"": 21, "ai.onnx.ml": 1},
    )  # fmt: skip
    assert str(reader.read(path).outputs["m"]) == "sequence(map(string, float32[]))"


def test_a_tensor_of_unknown_rank_keeps_what_reads_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("Exp", ["r"], ["e"]),
        helper.make_node("Reshape", ["e", "flat"], ["f"]),
        helper.make_node("Neg", ["f"], ["y"]),
    ]
    flat = numpy_helper.from_array(np.array([-1]), "flat")
    inputs = [info("x", shape=[3, 4]), info("to", INT64, ["rank"])]
    path = stored(tmp_path / "a.onnx", nodes, inputs, [info("y")], initializer=[flat])
    model = check_same(path, tmp_path / "b.onnx", x=X, to=np.array([2, 2, 3]))
    assert [op.title for op in kept(model)] == ["Reshape", "Exp", "Reshape"]
    assert kept(model)[1].reason == "operand 0 is tensor(float32)"
    assert model.outputs["y"].rank == 1


def _branching(path: Path) -> Path:
    """A branch that gives a matrix and one that gives a vector, both of what they read from around them."""
    then = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["m"])], "then", [], [info("m")])
    flat = helper.make_node("Reshape", ["x", "to"], ["v"])
    other = helper.make_graph(
        [flat], "other", [], [info("v")], initializer=[numpy_helper.from_array(np.array([12]), "to")]
    )
    nodes = [
        helper.make_node("If", ["c"], ["r"], then_branch=then, else_branch=other),
        helper.make_node("Identity", ["r"], ["y"]),
    ]
    weight = numpy_helper.from_array(np.array([2, 3, 4, 5], np.float32), "w")
    return stored(path, nodes, [info("c", BOOL, []), info("x", shape=[3, 4])], [info("y")], initializer=[weight])


def test_branches_of_different_ranks(tmp_path: Path) -> None:
    path = _branching(tmp_path / "a.onnx")
    for condition in (True, False):
        model = check_same(path, tmp_path / "b.onnx", c=np.array(condition), x=X)
    assert sorted(kept(model)[0].captures) == ["w", "x"]


def test_a_loop_over_a_sequence(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("SequenceInsert", ["s", "x"], ["t"]),
        ],
        "body",
        [info("i", INT64, []), info("going", BOOL, []), helper.make_tensor_sequence_value_info("s", FLOAT, None)],
        [info("go", BOOL, []), helper.make_tensor_sequence_value_info("t", FLOAT, None)],
    )
    nodes = [
        helper.make_node("SequenceEmpty", [], ["none"]),
        helper.make_node("Loop", ["n", "", "none"], ["all"], body=body),
        helper.make_node("ConcatFromSequence", ["all"], ["y"], axis=0),
    ]
    path = stored(tmp_path / "a.onnx", nodes, [info("n", INT64, []), info("x", shape=[3, 4])], [info("y")])
    model = check_same(path, tmp_path / "b.onnx", n=np.array(2), x=X)
    assert [op.title for op in kept(model)] == ["SequenceEmpty", "Loop", "ConcatFromSequence"]


def test_a_kept_branch_with_a_call_and_an_operator_of_another_domain(tmp_path: Path) -> None:
    domains = {"": 21, "ai.onnx.ml": 3, "local": 1}
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    then = helper.make_graph([helper.make_node("Twice", ["x"], ["m"], domain="local")], "then", [], [info("m")])
    binary = helper.make_node("Binarizer", ["x"], ["v"], domain="ai.onnx.ml", threshold=2.5)
    flat = helper.make_node("ReduceMax", ["v"], ["s"], keepdims=0)
    other = helper.make_graph([binary, flat], "other", [], [info("s")])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    path = stored(tmp_path / "a.onnx", nodes, [info("c", BOOL, []), info("x", shape=[3, 4])], [info("y")], domains)
    proto = onnx.load(path)
    proto.functions.append(twice)
    path.write_bytes(proto.SerializeToString())
    for condition in (True, False):
        model = check_same(path, tmp_path / "b.onnx", c=np.array(condition), x=X)
    assert kept(model)[0].imports == (("", 21), ("ai.onnx.ml", 3))


def test_passes_leave_it_alone(tmp_path: Path) -> None:
    given = numpy_helper.from_array(X, "w")
    nodes = [
        helper.make_node("Binarizer", ["w"], [name], domain="ai.onnx.ml", threshold=2.5) for name in ("a", "b")
    ] + [helper.make_node("Add", ["a", "b"], ["y"])]
    path = stored(tmp_path / "a.onnx", nodes, [], [info("y")], {"": 21, "ai.onnx.ml": 3}, initializer=[given])
    model = reader.read(path)
    assert len(kept(fold(model, roles=("constant", "weight", "buffer")))) == 2
    assert len(kept(share(model))) == 2


def test_other_targets_refuse_it_with_the_reason(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], name="sum")]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=["N", 4]), info("axes", INT64, [1])], [info("y")])
    other = Target("other", Layout.CHANNELS_LAST, lambda node: "there is no such layer")
    with pytest.raises(UnsupportedError) as refused:
        prepare(reader.read(path), other)
    (item,) = refused.value.items
    assert item.op == "ReduceSum"
    assert item.reason == f"{DEPENDS}, so it stays as onnx has it; there is no such layer"


def test_a_conversion_says_what_it_kept(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"])]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=["N", 4]), info("axes", INT64, [1])], [info("y")])
    done = convert(path, tmp_path / "b.onnx")
    assert done.notes == [f"ReduceSum is written as it stands in the source: {DEPENDS}"]


@pytest.mark.parametrize(("opset", "written"), [(11, 13), (13, 13), (18, 18), (21, 21)])
def test_it_is_written_where_the_definition_has_its_form(opset: int, written: int, tmp_path: Path) -> None:
    nodes = [helper.make_node("Slice", ["x", "start", "end"], ["y"])]
    inputs = [info("x", shape=[3, 4]), info("start", INT64, [1]), info("end", INT64, [1])]
    path = stored(tmp_path / "a.onnx", nodes, inputs, [info("y")], {"": opset})
    assert writer.opset_for(reader.read(path)) == written
    check_same(path, tmp_path / "b.onnx", x=X, start=np.array([1]), end=np.array([3]))


def test_an_opset_that_defines_it_otherwise_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMax", ["x", "axes"], ["y"])]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=[3, 4]), info("axes", INT64, [1])], [info("y")])
    with pytest.raises(UnsupportedError, match="opset 17 defines it otherwise than opset 21"):
        prepare(reader.read(path), writer.target(17))


def test_upsample_with_computed_scales_is_a_resize_of_the_same_coordinates(tmp_path: Path) -> None:
    nodes = [helper.make_node("Upsample", ["x", "scales"], ["y"], mode="linear")]
    inputs = [info("x", shape=[1, 1, 3, 4]), info("scales", FLOAT, [4])]
    path = stored(tmp_path / "a.onnx", nodes, inputs, [info("y")], {"": 9})
    check_same(path, tmp_path / "b.onnx", x=X.reshape(1, 1, 3, 4), scales=np.array([1, 1, 2, 2.5], np.float32))


def test_only_preserved_takes_what_is_no_tensor() -> None:
    b = Builder("g")
    value = b.input_of("s", OpaqueType.of("sequence", TensorType(DType.FLOAT32, (2,))))
    with b.at(Scope(), Origin("test", "node")), pytest.raises(DTypeError, match="sequence"):
        b.emit(ops.Relu(), value)


def test_evaluation_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"])]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=[3, 4]), info("axes", INT64, [1])], [info("y")])
    model = reader.read(path)
    monkeypatch.delitem(EVALUATORS, "onnx")
    with pytest.raises(GraphError, match="nothing here evaluates the onnx operator ReduceSum"):
        evaluate(model, {"x": X, "axes": np.array([1])})


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("ReduceSum", ["x", "axes"], ["y"], slope=1.0),
        helper.make_node("TopK", ["x", "axes"], ["y", "z"], axis=b"\xff"),
        helper.make_node("NoSuchOperator", ["x"], ["y"]),
        helper.make_node("Reshape", ["x"], ["y"]),
        helper.make_node("Own", ["x"], ["y"], domain="com.example", graphs=[helper.make_graph([], "g", [], [])]),
    ],
    ids=["attribute", "kind", "operator", "operands", "graphs"],
)
def test_what_no_operator_is_like_is_refused(node: onnx.NodeProto, tmp_path: Path) -> None:
    inputs = [info("x", shape=[3, 4]), info("axes", INT64, [1])]
    path = stored(tmp_path / "a.onnx", [node], inputs, [info("y", shape=[3])], {"": 21, "com.example": 1})
    with pytest.raises((UnsupportedError, MalformedError)):
        reader.read(path)


def test_an_attribute_that_brings_the_onnx_package_down(tmp_path: Path) -> None:
    node = helper.make_node("LayerNormalization", ["x", "w"], ["y", "mean"], axis=1 << 31)
    path = stored(tmp_path / "a.onnx", [node], [info("x", shape=[3, 4]), info("w", shape=[4])], [info("y")])
    for _ in range(2):
        with pytest.raises(ModelError):
            reader.read(path)
    good = helper.make_node("ReduceSum", ["x", "axes"], ["y"])
    inputs = [info("x", shape=[3, 4]), info("axes", INT64, [1])]
    assert kept(reader.read(stored(path, [good], inputs, [info("y")])))


def test_no_file_is_opened_for_an_attribute(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    direct = helper.make_node("Own", ["x"], ["y"], domain="com.example", t=tensor)
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [info("c")])
    nested = helper.make_node("Own", ["x"], ["y"], domain="com.example", g=inner)
    for node in (direct, nested):
        path = stored(
            tmp_path / "a.onnx", [node], [info("x", shape=[3])], [info("y", shape=[3])], {"": 21, "com.example": 1}
        )
        with pytest.raises((UnsafeError, UnsupportedError)):
            reader.read(path)


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_weights_are_dense(indices: Any, tmp_path: Path) -> None:
    sparse = _sparse(indices, [2, 3])
    nodes = [
        helper.make_node("Add", ["x", "w"], ["a"]),
        helper.make_node("Constant", [], ["c"], sparse_value=sparse),
        helper.make_node("Mul", ["a", "c"], ["y"]),
    ]
    path = stored(tmp_path / "a.onnx", nodes, [info("x", shape=[2, 3])], [info("y")], sparse_initializer=[sparse])
    dense = np.array([[0, 3, 0], [0, 0, 4]], np.float32)
    model = reader.read(path)
    np.testing.assert_array_equal(model.parameters()["w"].data.numpy(), dense)
    ones = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(evaluate(model, {"x": ones})["y"], (ones + dense) * dense)


def _sparse(indices: Any, dims: list[int]) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([3, 4], np.float32), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices), "w_indices"), dims)


@pytest.mark.parametrize(
    ("indices", "dims"),
    [([1, 6], [2, 3]), ([-1, 2], [2, 3]), ([1, 1], [2, 3]), ([1, 2, 3], [2, 3]), ([0, 1], [1 << 40]), ([0, 1], [-2])],
)
def test_sparse_weights_that_contradict_themselves(indices: list[int], dims: list[int], tmp_path: Path) -> None:
    path = stored(
        tmp_path / "a.onnx", [helper.make_node("Identity", ["w"], ["y"])], [], [info("y")],
        sparse_initializer=[_sparse(indices, dims)],
    )  # fmt: skip
    with pytest.raises(ModelError):
        reader.read(path)


def test_constants_of_text(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["one"], value_string="é"),
        helper.make_node("Constant", [], ["two"], value_strings=["a", "b"]),
    ]
    path = stored(tmp_path / "a.onnx", nodes, [], [info("one", STRING, []), info("two", STRING, [2])])
    model = reader.read(path)
    writer.write(prepare(model, writer.target()), tmp_path / "b.onnx")
    np.testing.assert_equal(run(tmp_path / "b.onnx", {}), run(path, {}))


@pytest.mark.parametrize(
    ("code", "values"),
    [
        (TensorProto.COMPLEX64, [1 + 2j, -0.5j]),
        (TensorProto.COMPLEX128, [1 + 2j, -0.5j]),
        (TensorProto.BFLOAT16, [1.5, -2]),
        (TensorProto.FLOAT16, [1.5, -2]),
        (TensorProto.FLOAT8E4M3FN, [1.5, -2]),
        (TensorProto.FLOAT8E5M2FNUZ, [1.5, -2]),
        (TensorProto.INT4, [7, -8]),
        (TensorProto.BOOL, [True, False]),
        (TensorProto.UINT32, [1, 1 << 31]),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_initializers_in_every_storage_form(code: int, values: list[Any], raw: bool, tmp_path: Path) -> None:
    array = np.array(values).astype(helper.tensor_dtype_to_np_dtype(code))
    tensor = numpy_helper.from_array(array, "w") if raw else helper.make_tensor("w", code, [2], values)
    path = stored(tmp_path / "a.onnx", [], [], [info("w", code, [2])], initializer=[tensor])
    data = reader.read(path).parameters()["w"].data.numpy()
    assert data.dtype == array.dtype
    np.testing.assert_array_equal(data.astype(np.complex128), array.astype(np.complex128))
