"""The op table at many opsets: what is written passes onnx's checker and runs in onnxruntime.

Each row is written at four of the opsets, its neighbors in the table at others. A row that ONNX cannot say below some
opset is refused there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from op_cases import CASES, OpCase

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import writer
from isomorph.errors import ShapeError, UnsupportedError, UsageError
from isomorph.ir import Model
from isomorph.ir.evaluate import evaluate
from isomorph.ir.verify import verify

OPSETS = (13, 15, 17, 18, 20, 21, 23, 24, 28)


def earliest(case: OpCase) -> int:
    """The opset from which on ONNX can say a row that has no decomposition below it."""
    return 16 if case.op.name == "RoiAlign" and "output" not in case.id else 0


def write(model: Model, path: Path, opset: int) -> None:
    prepared = prepare(model, writer.target(opset))
    verify(prepared)
    writer.write(prepared, path, opset=opset)
    first = path.read_bytes()
    writer.write(prepared, path, opset=opset)
    assert path.read_bytes() == first


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[case.id for case in CASES])
def test_every_row_at_four_opsets(index: int, case: OpCase, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = case.arrays(seed=1)
    for turn in range(4):
        opset = OPSETS[(index + 2 * turn) % len(OPSETS)]
        try:
            model = case.model(symbolic=turn % 2 == 1)
        except ShapeError:  # the case fixes its first axis
            model = case.model()
        if opset < earliest(case):
            with pytest.raises(UnsupportedError, match=f"opset {opset}"):
                prepare(model, writer.target(opset))
            continue
        write(model, path, opset)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        if opset == 28 and case.op.name in ("QuantizeLinear", "DequantizeLinear"):
            continue  # onnxruntime 1.32 has no kernel of that version
        if case.id == "cast_bfloat16":
            continue  # onnxruntime hands no bfloat16 to NumPy
        if opset > writer.opset_for(model) and writer.opset_for(model) < writer.DEFAULT_OPSET:
            continue  # onnxruntime has no kernel for what ONNX says there
        running = session(path)
        results = running.run(None, {node.name: arrays[node.name] for node in running.get_inputs()})
        for wanted, got in zip(evaluate(model, arrays).values(), results, strict=True):
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), opset
            np.testing.assert_allclose(
                got.astype(np.float64), wanted.astype(np.float64), rtol=1e-4, atol=1e-5, err_msg=f"opset {opset}"
            )


def test_an_opset_that_cannot_be_written_is_a_usage_error() -> None:
    for opset in (0, writer.OLDEST_OPSET - 1, writer.NEWEST_OPSET + 1):
        with pytest.raises(UsageError, match="opset"):
            writer.target(opset)
