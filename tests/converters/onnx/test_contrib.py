"""Operators of com.microsoft: onnxruntime on the original file against onnxruntime on what isomorph writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from contrib_cases import CONTRIB, Contrib

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.ir import ops
from isomorph.ir.evaluate import evaluate


def run(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, inputs), strict=True))


def check(got: np.ndarray, wanted: np.ndarray) -> None:
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)
    else:
        apart = np.abs(got.astype(int) - wanted.astype(int))
        assert apart.max() <= 1 and (apart > 0).mean() < 0.05


@pytest.mark.parametrize("case", CONTRIB, ids=lambda case: case.id)
def test_the_same_results_without_the_domain(case: Contrib, tmp_path: Path) -> None:
    original, written = tmp_path / "original.onnx", tmp_path / "written.onnx"
    onnx.save(case.model(), original)
    model = reader.read(original)
    assert not [node for node in model.graph.nodes if isinstance(node.op, ops.Preserved)]
    opset = writer.opset_for(model)
    writer.write(prepare(model, writer.target(opset)), written, opset=opset)
    made = onnx.load(written)
    onnx.checker.check_model(made, full_check=True)
    assert {item.domain for item in made.opset_import} == {""}
    wanted = run(original, case.inputs())
    evaluated = evaluate(model, case.inputs())
    for name, array in run(written, case.inputs()).items():
        for got in (array, evaluated[name]):
            check(case.stated(name, got), case.stated(name, wanted[name]))
