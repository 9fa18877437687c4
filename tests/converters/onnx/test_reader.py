"""What the ONNX reader makes of symbolic sizes, functions, branches, unread results and foreign provenance."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.errors import MalformedError, UnsupportedError
from isomorph.ir import Model, Sym, ops

HEAD = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'
N = Sym("N")


def stored(text: str, folder: Path, head: str = HEAD) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(head + text).SerializeToString())
    return path


def read(text: str, folder: Path, head: str = HEAD) -> Model:
    return reader.read(stored(text, folder, head))


def kinds(model: Model) -> list[str]:
    return [node.op.name for node in model.graph.nodes]


def run(path: Path, **arrays: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return list(onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]).run(None, arrays))


def check_same(path: Path, model: Model, **arrays: np.ndarray) -> None:
    """The written model computes what the original does."""
    written = path.with_name("written.onnx")
    writer.write(prepare(model, writer.target()), written)
    for got, wanted in zip(run(written, **arrays), run(path, **arrays), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_reading_imports_no_runtime_and_no_framework(tmp_path: Path) -> None:
    path = stored("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", tmp_path)
    code = (
        "import sys, pathlib; from isomorph.converters.onnx import reader, writer; "
        f"reader.read(pathlib.Path({str(path)!r})); "
        "assert not {'onnxruntime', 'torch', 'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_a_chain_of_sizes_becomes_an_attribute(tmp_path: Path) -> None:
    text = """g (float[N, 3, 4, 5] x) => (float[N, M] y)
    <int64[1] zero = {0}, int64[1] one = {1}, int64[1] rest = {-1}> {
        s = Shape(x)  n = Gather(s, zero)  c = Gather(s, one)
        double = Add(c, c)  halved = Div(double, c)
        to = Concat<axis=0>(n, halved, rest)
        y = Reshape(x, to)
    }"""
    model = read(text, tmp_path)
    assert kinds(model) == ["Reshape"]
    assert model.outputs["y"].shape == (N, 2, 30)


def test_sizes_survive_floating_point(tmp_path: Path) -> None:
    """Upsampling as older exporters wrote it: sizes times a scale, floored."""
    text = """g (float[N, 3, H, 5] x) => (float[N, 3, A, B] y)
    <int64[1] from = {2}, int64[1] to = {4}, float scale = {2.0}> {
        s = Shape(x)  space = Slice(s, from, to)  head = Shape<end=2>(x)
        f = Cast<to=1>(space)  grown = Mul(f, scale)  floored = Floor(grown)  i = Cast<to=7>(floored)
        sizes = Concat<axis=0>(head, i)
        y = Resize<mode="nearest">(x, , , sizes)
    }"""
    path = stored(text, tmp_path)
    model = reader.read(path)
    assert kinds(model) == ["Resize"]
    assert model.outputs["y"].shape == (N, 3, Sym("H") * 2, 10)
    check_same(path, model, x=rows(2, 3, 7, 5))


def test_a_size_that_is_used_as_data_becomes_dims(tmp_path: Path) -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) {
        n = Shape<end=1>(x)  f = Cast<to=1>(n)  y = Div(x, f)
    }"""
    path = stored(text, tmp_path)
    model = reader.read(path)
    assert ops.Dims((N,)) in [node.op for node in model.graph.nodes]
    check_same(path, model, x=rows(3, 4))


def test_a_size_that_depends_on_data_keeps_its_node(tmp_path: Path) -> None:
    text = """g (float[N, 4] x, int64[2] to) => (float[A, B] y, float[A, B] z) {
        [first] y = Reshape(x, to)  [second] z = Expand(x, to)
    }"""
    nodes = [(node.name, node.op) for node in read(text, tmp_path).graph.nodes]
    reason = "operand 1 depends on data; isomorph needs sizes that follow from shapes"
    found = [(name, op.title, op.reason) for name, op in nodes if isinstance(op, ops.Preserved)]
    assert found == [("first", "Reshape", reason), ("second", "Expand", reason)]


@pytest.mark.parametrize(
    ("stated", "dim"),
    [("N", N), ("2*N + 1", 2 * N + 1), ("floor(H/2)", None), ("unk__12", Sym("unk__12")), ("a b!", Sym("a_b"))],
)
def test_names_of_dimensions(stated: str, dim: Any, tmp_path: Path) -> None:
    path = stored("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", tmp_path)
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = stated
    path.write_bytes(proto.SerializeToString())
    size = reader.read(path).inputs["x"].shape[0]
    assert isinstance(size, Sym) if dim is None else size == dim


FUNCTION = """g (float[N, 4] x) => (float[N, 4] y) { [block] y = local.Twice<slope=0.5>(x) }
<domain: "local", opset_import: ["" : 21]>
Twice <slope, power: float = 3.0> (x) => (y) {
    inner = LeakyRelu<alpha: float = @slope>(x)
    exponent = Constant<value_float: float = @power>()
    y = Pow(inner, exponent)
}"""


def test_a_function_is_inlined_with_its_attributes(tmp_path: Path) -> None:
    path = stored(FUNCTION, tmp_path)
    model = reader.read(path)
    assert kinds(model) == ["LeakyRelu", "Pow"]
    leaky, power = model.graph.nodes
    assert leaky.op == ops.LeakyRelu(0.5) and leaky.output.name == "y/inner"
    assert leaky.scope == power.scope and leaky.scope.path == "block" and leaky.scope.cls == "local.Twice"
    check_same(path, model, x=rows(3, 4))


def test_a_function_that_calls_itself_is_malformed(tmp_path: Path) -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) { y = local.Loop(x) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]>
    Loop (x) => (y) { y = local.Loop(x) }"""
    with pytest.raises(MalformedError, match="without end"):
        read(text, tmp_path)


def test_functions_that_double_are_malformed(tmp_path: Path) -> None:
    bodies = "".join(
        f"""<domain: "local", opset_import: ["" : 21, "local" : 1]>
        F{level} (x) => (y) {{ a = local.F{level + 1}(x)  y = local.F{level + 1}(a) }}\n"""
        for level in range(40)
    )
    text = f"""g (float[N, 4] x) => (float[N, 4] y) {{ y = local.F0(x) }}
    {bodies}<domain: "local", opset_import: ["" : 21, "local" : 1]>
    F40 (x) => (y) {{ y = Relu(x) }}"""
    path = stored(text, tmp_path)
    with pytest.raises(MalformedError, match="without end"):
        reader.read(path)


@pytest.mark.parametrize(("rank", "op"), [(2, "Relu"), (3, "Sigmoid")])
def test_the_branch_of_a_known_condition(rank: int, op: str, tmp_path: Path) -> None:
    shape = "N, 4" if rank == 2 else "N, 4, 5"
    text = f"""g (float[{shape}] x) => (float[{shape}] y) <int64 two = {{2}}> {{
        s = Shape(x)  r = Shape(s)  axes = Constant<value_ints=[0]>()  rank = Squeeze(r, axes)
        flat = Equal(rank, two)
        y = If(flat)<then_branch = a () => (float[{shape}] t) {{ t = Relu(x) }},
                     else_branch = b () => (float[{shape}] t) {{ t = Sigmoid(x) }}>
    }}"""
    path = stored(text, tmp_path)
    model = reader.read(path)
    assert kinds(model) == [op]
    check_same(path, model, x=rows(*(3, 4, 5)[:rank]))


def test_a_branch_that_depends_on_data_is_read(tmp_path: Path) -> None:
    text = """g (float[N, 4] x, bool which) => (float[N, 4] y) {
        y = If(which)<then_branch = a () => (float[N, 4] t) { t = Relu(x) },
                      else_branch = b () => (float[N, 4] t) { t = Sigmoid(x) }>
    }"""
    assert kinds(reader.read(stored(text, tmp_path))) == ["If"]


def test_an_operator_without_an_op_is_read_as_its_specified_body(tmp_path: Path) -> None:
    path = stored("g (float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) { y = MeanVarianceNormalization(x) }", tmp_path)
    model = reader.read(path)
    assert "ReduceMean" in kinds(model)
    check_same(path, model, x=rows(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("y, mean, deviation = LayerNormalization(x, s)", 1),
        ("y, mask = Dropout(x)", 1),
        ("y, indices = MaxPool<kernel_shape=[1]>(x)", 1),
    ],
)
def test_optional_results_that_nothing_reads(text: str, count: int, tmp_path: Path) -> None:
    model = read(f"g (float[N, 2, 4] x) => (float[N, 2, 4] y) <float[4] s = {{1, 2, 3, 4}}> {{ {text} }}", tmp_path)
    assert len(model.graph.nodes) == count


def test_statistics_that_are_read_are_computed(tmp_path: Path) -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y, float[N, 1] mean) <float[4] s = {1, 2, 3, 4}> {
        y, mean = LayerNormalization(x, s)
    }"""
    path = stored(text, tmp_path)
    check_same(path, reader.read(path), x=rows(3, 4))


def test_an_attribute_that_no_rule_looks_at_is_refused(tmp_path: Path) -> None:
    path = stored("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", tmp_path)
    proto = onnx.load(path)
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("slope", 0.5))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedError, match="slope"):
        reader.read(path)


def test_scale_per_group_of_opset_18(tmp_path: Path) -> None:
    head = HEAD.replace("21", "18")
    text = """g (float[N, 4, 3] x) => (float[N, 4, 3] y) <float[2] s = {1, 2}, float[2] b = {3, 4}> {
        y = GroupNormalization<num_groups=2>(x, s, b)
    }"""
    path = stored(text, tmp_path, head)
    check_same(path, reader.read(path), x=rows(2, 4, 3))


def test_attention_keeps_its_form(tmp_path: Path) -> None:
    head = HEAD.replace("21", "23")
    text = """g (float[2, 5, 8] q, float[2, 6, 8] k, float[2, 6, 8] v) => (float[2, 5, 8] y) {
        y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)
    }"""
    path = stored(text, tmp_path, head)
    model = reader.read(path)
    assert kinds(model) == ["MultiHeadAttention"]
    check_same(path, model, q=rows(2, 5, 8), k=rows(2, 6, 8), v=rows(2, 6, 8))


def test_scopes_from_node_names_and_from_torch(tmp_path: Path) -> None:
    path = stored("g (float[N] x) => (float[N] z) { [n0] y = Relu(x)  [n1] z = Relu(y) }", tmp_path)
    proto = onnx.load(path)
    first, second = proto.graph.node
    first.name = "/layer1/conv/Relu"
    second.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'layer1', 'layer1.act', 'relu']")
    second.metadata_props.add(
        key="pkg.torch.onnx.class_hierarchy", value="['net.Net', 'torch.nn.Sequential', 'torch.nn.ReLU', 'aten.relu']"
    )
    path.write_bytes(proto.SerializeToString())
    one, two = reader.read(path).graph.nodes
    assert one.scope.path == "layer1.conv"
    assert [entry.path for entry in two.scope.entries][:2] == ["layer1", "layer1.act"]
    assert two.scope.entries[1].cls == "torch.nn.ReLU"


def test_weights_are_not_copied(tmp_path: Path) -> None:
    """A weight of more than a page stays in the mapped file."""
    weight = onnx.numpy_helper.from_array(rows(64, 64), "w")
    path = stored("g (float[N, 64] x) => (float[N, 64] y) { y = Gemm<transB=1>(x, w) }", tmp_path)
    proto = onnx.load(path)
    proto.graph.initializer.append(weight)
    path.write_bytes(proto.SerializeToString())
    model = reader.read(path)
    data = model.parameters()["w"].data.numpy()
    np.testing.assert_array_equal(data, rows(64, 64))
    assert not data.flags.owndata and not data.flags.writeable
    path.write_bytes(b"")  # another file may take the name: the model keeps what it read
    assert kinds(model) == ["Linear"]


@pytest.mark.parametrize(
    ("call", "opset"),
    [("GroupNormalization<num_groups=0>(x, s, s)", 18), ("SpaceToDepth<blocksize=1000000000000>(x)", 21)],
)
def test_attributes_that_fit_no_operand(call: str, opset: int, tmp_path: Path) -> None:
    text = f"g (float[2, 4, 3, 3] x) => (float[a, b, c, d] y) <float[2] s = {{1, 2}}> {{ y = {call} }}"
    with pytest.raises((MalformedError, UnsupportedError)):
        read(text, tmp_path, HEAD.replace("21", str(opset)))


def test_names_of_nested_calls_stay_apart(tmp_path: Path) -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) { y = local.Outer(x) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]>
    Outer (x) => (y) { a = Relu(x)  y = local.Inner(a) }
    <domain: "local", opset_import: ["" : 21]>
    Inner (x) => (y) { a = Neg(x)  y = Exp(a) }"""
    path = stored(text, tmp_path)
    model = reader.read(path)
    assert kinds(model) == ["Relu", "Neg", "Exp"]
    check_same(path, model, x=rows(3, 4))


def test_a_number_of_a_foreign_file_is_a_literal(tmp_path: Path) -> None:
    """Exporters leave the 3 of `x / 3` as an initializer without axes; as a weight Keras would hold it in a layer."""
    text = "g (float[N, 4] x) => (float[N, 4] y) <float c = {3}, float[1] w = {2}> { a = Div(x, c) y = Mul(a, w) }"
    model = read(text, tmp_path)
    assert {name: value.role for name, value in model.parameters().items()} == {"c": "constant", "w": "weight"}


def test_functions_that_tf2onnx_leaves_in_the_standard_domain(tmp_path: Path) -> None:
    """They are read as what TensorFlow computes, and written as what ONNX has."""
    text = (
        "g (float[N, 5] x) => (float[N, 5] a, float[N, 5] b, float[N, 5] c) { a = Erfc(x) b = Expm1(x) c = Log1p(x) }"
    )
    model = read(text, tmp_path, HEAD.replace("21", "15"))
    assert kinds(model) == ["Erfc", "Expm1", "Log1p"]
    path = tmp_path / "written.onnx"
    writer.write(prepare(model, writer.target()), path)
    x = np.array([[-0.75, -1e-6, 0.0, 1e-6, 9.0], [-0.5, 1e-20, 0.3, 3.0, 6.0]], np.float32)
    wanted = [
        np.vectorize(math.erfc)(x.astype(np.float64)),
        np.expm1(x.astype(np.float64)),
        np.log1p(x.astype(np.float64)),
    ]
    for got, exact in zip(run(path, x=x), wanted, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-6)
