"""If, Loop and Scan: read from ONNX, written again, and computed as onnxruntime computes the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.errors import MalformedError, UnsupportedError
from isomorph.ir.evaluate import evaluate
from isomorph.ir.text import parse_model, print_model

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'

CAPTURES = """
m (float[N, 3] x, bool c) => (float[N, 3] y) <float[3] w = {1, 2, 3}>
{
  a = Mul(x, w)
  y = If(c) <
    then_branch = t () => (float[N, 3] p) { p = Add(a, w) },
    else_branch = e () => (float[N, 3] q) { r = Sub(x, a) q = Sub(r, w) }
  >
  }
"""
PASSES_THROUGH = """
m (float[2] x, float[2] z, bool c) => (float[2] y, float[2] v)
{
  y, v = If(c) <
    then_branch = t () => (float[2] p, float[2] o) { p = Identity(x) o = Identity(x) },
    else_branch = e () => (float[2] q, float[2] s) { q = Identity(z) s = Neg(x) }
  >
  }
"""
SIZES_DIFFER = """
m (float[N, 3] x, bool c) => (float[K, 3] y, float[3] s)
{
  y = If(c) <
    then_branch = t () => (float[M, 3] p) { p = Concat<axis = 0>(x, x) },
    else_branch = e () => (float[N, 3] q) { q = Neg(x) }
  >
  axes = Constant<value = int64[1] {0}>()
  s = ReduceSum<keepdims = 0>(y, axes)
  }
"""
NESTED = """
m (float[2] x, int64 n, bool c) => (float[2] y, float[k, 2] ys)
{
  yes = Constant<value = bool {1}>()
  y, ys = Loop(n, yes, x) <
    body = b (int64 i, bool go, float[2] v) => (bool on, float[2] u, float[2] w) {
      f = CastLike(i, x)
      d = If(c) <
        then_branch = t () => (float[2] p) { p = Add(v, f) },
        else_branch = e () => (float[2] q) { g = Mul(v, x) q = Sub(g, f) }
      >
      w = Identity(d)
      u = Identity(d)
      on = Identity(go)
      }
  >
  }
"""
GROWS = """
m (float[1, 2] x, int64 n) => (float[r, 2] y)
{
  yes = Constant<value = bool {1}>()
  y = Loop(n, yes, x) <
    body = b (int64 i, bool go, float[s, 2] v) => (bool on, float[t, 2] u) {
      u = Concat<axis = 0>(v, x)
      on = Identity(go)
      }
  >
  }
"""
ENDS_BY_CONDITION = """
m (float x, float limit) => (float y, int64[k] turns)
{
  go = Less(x, limit)
  y, turns = Loop("", go, x) <
    body = b (int64 i, bool c, float v) => (bool on, float u, int64 j) {
      u = Add(v, v)
      on = Less(u, limit)
      j = Identity(i)
      }
  >
  }
"""
SCANS = """
m (float[3] h, float[4, 3] x, float[2, 4] z) => (float[3] last, float[3, 4] all, float[4, 2] zs)
{
  last, all, zs = Scan(h, x, z) <
    num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [0, 1], scan_output_axes = [1, 0],
    scan_output_directions = [1, 0],
    body = b (float[3] s, float[3] row, float[2] column) => (float[3] t, float[3] o, float[2] c) {
      t = Add(s, row)
      o = Mul(t, h)
      c = Neg(column)
      }
  >
  }
"""

x23 = np.arange(6, dtype=np.float32).reshape(2, 3)
pair = np.array([1, 2], np.float32)
yes, no = np.array(True), np.array(False)
CASES = {
    "captures-then": (CAPTURES, {"x": x23, "c": yes}),
    "captures-else": (CAPTURES, {"x": x23, "c": no}),
    "passes-through-then": (PASSES_THROUGH, {"x": pair, "z": -pair, "c": yes}),
    "passes-through-else": (PASSES_THROUGH, {"x": pair, "z": -pair, "c": no}),
    "nested-then": (NESTED, {"x": pair, "n": np.array(3), "c": yes}),
    "nested-else": (NESTED, {"x": pair, "n": np.array(3), "c": no}),
    "no-turn": (NESTED, {"x": pair, "n": np.array(0), "c": no}),
    "grows": (GROWS, {"x": pair.reshape(1, 2), "n": np.array(3)}),
    "condition": (ENDS_BY_CONDITION, {"x": np.float32(1), "limit": np.float32(20)}),
    "condition-never": (ENDS_BY_CONDITION, {"x": np.float32(30), "limit": np.float32(20)}),
    "scan": (
        SCANS,
        {
            "h": np.ones(3, np.float32),
            "x": np.arange(12, dtype=np.float32).reshape(4, 3),
            "z": np.arange(8, dtype=np.float32).reshape(2, 4),
        },
    ),
}


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + text)


def run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: np.asarray(array) for name, array in inputs.items()}))


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_and_written_computes_the_same(case: str, tmp_path: Path) -> None:
    text, inputs = CASES[case]
    original, written = tmp_path / "original.onnx", tmp_path / "written.onnx"
    original.write_bytes(parsed(text).SerializeToString())
    model = reader.read(original)
    found = evaluate(model, inputs)
    assert print_model(parse_model(print_model(model))) == print_model(model)
    prepared = prepare(model, writer.target())
    writer.write(prepared, written)
    onnx.checker.check_model(str(written), full_check=True)
    wanted = run(original, inputs)
    for name, mine, theirs, expected in zip(found, found.values(), run(written, inputs), wanted, strict=True):
        np.testing.assert_array_equal(mine, expected, err_msg=name)
        np.testing.assert_array_equal(theirs, expected, err_msg=name)
        assert mine.dtype == theirs.dtype == expected.dtype
    again = prepare(reader.read(written), writer.target())
    assert [len(list(model.nodes())) for model in (again, prepared)] == [len(list(prepared.nodes()))] * 2


def names(graph: onnx.GraphProto) -> list[str]:
    found = [item.name for item in graph.input]
    for node in graph.node:
        found += [name for name in node.output if name]
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                found += names(item.g)
    return found


def test_names_are_unique_over_all_scopes_and_weights_are_outside(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(parsed(CAPTURES).SerializeToString())
    writer.write(prepare(reader.read(path), writer.target()), path)
    graph = onnx.load(path).graph
    found = names(graph)
    assert len(found) == len(set(found))
    assert [tensor.name for tensor in graph.initializer] == ["w"]
    (node,) = (each for each in graph.node if each.op_type == "If")
    assert all(not item.g.initializer and not item.g.input for item in node.attribute)


def test_sizes_that_differ_between_branches(tmp_path: Path) -> None:
    path, written = tmp_path / "m.onnx", tmp_path / "w.onnx"
    path.write_bytes(parsed(SIZES_DIFFER).SerializeToString())
    model = reader.read(path)
    assert str(model.outputs["y"]) == "float32[branch1, 3]"
    writer.write(prepare(model, writer.target()), written)
    for condition in (yes, no):
        inputs = {"x": x23, "c": condition}
        for a, b, c in zip(run(path, inputs), run(written, inputs), evaluate(model, inputs).values(), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("p = Add(a, w)", "p = Add(a, nowhere)", MalformedError),
        ("=> (float[N, 3] q)", "=> (float[N, 3] other)", MalformedError),
        ("p = Add(a, w)", "p = Cast<to = 7>(a)", MalformedError),
        ("p = Add(a, w)", "p = NotAnOperator(a)", UnsupportedError),
    ],
)
def test_broken_branches_are_refused(old: str, new: str, error: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert old in CAPTURES
    path.write_bytes(parsed(CAPTURES.replace(old, new)).SerializeToString())
    with pytest.raises(error):
        reader.read(path)
