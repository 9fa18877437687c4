"""Weights of 4 bits and 8-bit floats in opsets that lack their types: stored as wider numbers, the same numbers."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer

SCALES = {"tensor": (), "channel": (4,), "block": (2, 4)}


def stored(folder: Path, kind: str, way: str, zero: bool) -> Path:
    """DequantizeLinear(w) - x."""
    rng = np.random.default_rng(0)
    dtype = np.dtype(getattr(ml_dtypes, kind))
    low = 0 if kind.startswith("u") else -7
    w = rng.integers(low, 8, (4, 4)).astype(np.float32).astype(dtype)
    shape = SCALES[way]
    scale = rng.uniform(0.5, 2, shape).astype(np.float32)
    points = rng.integers(max(low, -3), 4, shape).astype(np.float32).astype(dtype)
    held = {"w": w, "scale": scale} | ({"zero": np.asarray(points)} if zero else {})
    attributes = {"channel": {"axis": 1}, "block": {"axis": 0, "block_size": 2}}.get(way, {})
    nodes = [
        helper.make_node("DequantizeLinear", list(held), ["d"], **attributes),
        helper.make_node("Sub", ["d", "x"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in "xy")
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    path = folder / "source.onnx"
    onnx.save(model, path)
    return path


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("opset", [13, 18, 20, 21])
@pytest.mark.parametrize("zero", [True, False], ids=["zero points", "none"])
@pytest.mark.parametrize("way", SCALES)
@pytest.mark.parametrize("kind", ["int4", "uint4", "float8_e4m3fn"])
def test_a_weight_of_few_bits_at_any_opset(kind: str, way: str, zero: bool, opset: int, tmp_path: Path) -> None:
    if kind.startswith("float8") and zero:
        pytest.skip("onnxruntime has no such kernel")
    source, written = stored(tmp_path, kind, way, zero), tmp_path / "written.onnx"
    writer.write(prepare(reader.read(source), writer.target(opset)), written, opset=opset)
    model = onnx.load(written)
    onnx.checker.check_model(model, full_check=True)
    types = {tensor.data_type for tensor in model.graph.initializer}
    if opset < 21 and not kind.startswith("float8"):
        byte = TensorProto.UINT8 if kind == "uint4" else TensorProto.INT8
        assert types <= {byte, TensorProto.FLOAT, TensorProto.INT64}
    np.testing.assert_array_equal(run(written), run(source))
