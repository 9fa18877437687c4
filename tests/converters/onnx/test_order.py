"""Files whose nodes are in no order: onnxruntime reads them, and names leave one meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from isomorph import validate
from isomorph.converters.convert import convert
from isomorph.converters.onnx import reader
from isomorph.errors import MalformedError

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


def stored(text: str, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(HEAD + text).SerializeToString())
    return path


def test_nodes_in_no_order(tmp_path: Path) -> None:
    text = (
        "g (float[N, 4] x) => (float[N, 4] y) { y = Add(b, a) b = Relu(a) c = Neg(d) d = Exp(x) a = Cast<to = 1>(c) }"
    )
    path = stored(text, tmp_path)
    with pytest.raises(onnx.checker.ValidationError, match="sorted"):
        onnx.checker.check_model(str(path))
    model = reader.read(path)
    assert [node.op.name for node in model.graph.nodes] == ["Exp", "Neg", "Cast", "Relu", "Add"]
    convert(path, tmp_path / "written.onnx")
    onnx.checker.check_model(str(tmp_path / "written.onnx"), full_check=True)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    got, wanted = (
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for file in (tmp_path / "written.onnx", path)
    )
    np.testing.assert_array_equal(got, wanted)
    assert validate(path, tmp_path / "written.onnx").exit_code == 0


def test_what_a_subgraph_reads_comes_first(tmp_path: Path) -> None:
    text = """g (bool c, float[4] x) => (float[4] y) {
        y = If (c) <then_branch = t () => (float[4] u) { u = Relu(v) v = Neg(late) },
                    else_branch = e () => (float[4] w) { w = Identity(x) }>
        late = Exp(x)
    }"""
    model = reader.read(stored(text, tmp_path))
    assert [node.op.name for node in model.graph.nodes] == ["Exp", "If"]
    assert [node.op.name for node in model.graph.nodes[1].regions[0].nodes] == ["Neg", "Relu"]


def test_nodes_in_order_stay_where_they_are(tmp_path: Path) -> None:
    text = "g (float[4] x) => (float[4] y, float[4] z) { z = Neg(x) a = Exp(x) b = Relu(x) y = Add(b, a) }"
    assert [node.op.name for node in reader.read(stored(text, tmp_path)).graph.nodes] == ["Neg", "Exp", "Relu", "Add"]


@pytest.mark.parametrize(
    "nodes", ["y = Add(x, b) b = Neg(y)", "y = Add(x, y)", "b = Exp(x) y = Add(b, a) a = Neg(c) c = Neg(a)"]
)
def test_nodes_that_wait_for_each_other(nodes: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="which nothing before produces"):
        reader.read(stored(f"g (float[4] x) => (float[4] y) {{ {nodes} }}", tmp_path))
