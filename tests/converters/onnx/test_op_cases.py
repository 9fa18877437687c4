"""Every row of the op table through the ONNX pipeline, run by onnxruntime, against the op's own evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from op_cases import CASES, OpCase

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import writer
from isomorph.errors import ShapeError
from isomorph.ir.evaluate import evaluate
from isomorph.ir.verify import verify

LIMITATIONS = {
    "cast_bfloat16": "onnxruntime hands no bfloat16 to NumPy",
}


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_onnxruntime_computes_what_the_op_says(
    case: OpCase, symbolic: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if case.id in LIMITATIONS:
        request.applymarker(pytest.mark.xfail(reason=LIMITATIONS[case.id], strict=True))
    try:
        model = case.model(symbolic=symbolic)
    except ShapeError:
        pytest.skip("the case fixes its first axis")
    path = tmp_path / "model.onnx"
    opset = writer.opset_for(model)
    prepared = prepare(model, writer.target(opset))
    verify(prepared)
    writer.write(prepared, path, opset=opset)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    arrays = case.arrays()
    results = session.run(None, {node.name: arrays[node.name] for node in session.get_inputs()})
    for wanted, got in zip(evaluate(model, arrays).values(), results, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=1e-4, atol=1e-5)
