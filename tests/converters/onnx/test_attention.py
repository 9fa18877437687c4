"""Attention in onnxruntime under masks that hide every key of a query, by -inf and by the lowest number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import writer
from isomorph.ir import Builder, DType, Model, Origin, Scope, Value, ops
from isomorph.ir.evaluate import evaluate

LOWEST = np.finfo(np.float32).min
F32 = DType.FLOAT32


def attention(mask_of: str) -> Model:
    """Two layers of attention under one mask: an input, or one that is made of truth values."""
    b = Builder("test")
    with b.at(Scope(), Origin("test", "op", "x")):
        q, k, v = (b.input(name, F32, (2, 3, 4, 8)) for name in ("q", "k", "v"))
        mask: Value
        if mask_of == "truth values":
            allowed = b.input("allowed", DType.BOOL, (2, 1, 4, 4))
            mask = b.emit(ops.Where(), allowed, b.constant(np.float32(0)), b.constant(np.float32(LOWEST)))
        else:
            mask = b.input("mask", DType.BOOL if mask_of == "bool" else F32, (2, 1, 4, 4))
        for _ in range(2):
            q = b.emit(ops.ScaledDotProductAttention(), q, k, v, mask)
        b.output("y", q)
    return b.finish()


def feeds(mask_of: str, hidden: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {name: rng.normal(size=(2, 3, 4, 8)).astype(np.float32) for name in ("q", "k", "v")}
    allowed = rng.random((2, 1, 4, 4)) < 0.6
    allowed[0, 0, 1] = False
    if mask_of == "numbers":
        return made | {"mask": np.where(allowed, rng.normal(size=allowed.shape), hidden).astype(np.float32)}
    return made | {"allowed" if mask_of == "truth values" else "mask": allowed}


@pytest.mark.parametrize(
    ("mask_of", "hidden", "nodes"),
    [
        ("bool", 0.0, {"Attention": 2}),
        ("truth values", 0.0, {"Attention": 2, "Where": 1, "Max": 1}),
        ("numbers", -np.inf, {"Attention": 2, "Where": 1, "Equal": 1}),
        ("numbers", float(LOWEST), {"Attention": 2, "Where": 1, "Equal": 1}),
        ("numbers", -1e4, {"Attention": 2, "Where": 1, "Equal": 1}),
    ],
)
def test_masks(mask_of: str, hidden: float, nodes: dict[str, int], tmp_path: Path) -> None:
    model, path = attention(mask_of), tmp_path / "attention.onnx"
    given = feeds(mask_of, hidden)
    writer.write(prepare(model, writer.target(23)), path, opset=23)
    assert Counter(node.op_type for node in onnx.load(path).graph.node) == nodes
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (wanted,) = evaluate(model, given).values()
    np.testing.assert_allclose(session.run(None, given)[0], wanted, rtol=1e-4, atol=1e-5)
