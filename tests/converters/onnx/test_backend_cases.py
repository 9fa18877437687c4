"""The onnx package's own operator cases: read -> IR -> write -> run must pass wherever onnxruntime passes the original.

A case whose ops isomorph does not read is refused with a reason, never converted wrongly. How many are read may only
grow.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.errors import UnsupportedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases

READ_AT_LEAST = 695


def run(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip([item.name for item in session.get_inputs()], inputs, strict=False))))


def agree(got: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """The tolerances of the onnx package's own runner."""

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        close = a.dtype.kind in "fc"
        return bool(np.allclose(a, b, rtol=1e-3, atol=1e-7, equal_nan=True) if close else (a == b).all())

    return len(got) == len(expected) and all(same(a, b) for a, b in zip(got, expected, strict=True))


def runs_as_recorded(path: Path, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> bool:
    try:
        return agree(run(path, inputs), outputs)
    except Exception:  # many kinds, for what onnxruntime does not support: such a case says nothing of isomorph
        return False


@pytest.mark.filterwarnings("ignore")
def test_every_case_that_is_read_computes_the_same(tmp_path: Path) -> None:
    original, written = tmp_path / "original.onnx", tmp_path / "written.onnx"
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        inputs, outputs = case.data_sets[0]
        if not all(isinstance(item, np.ndarray) for item in [*inputs, *outputs]):
            continue
        original.write_bytes(case.model.SerializeToString())
        if not runs_as_recorded(original, inputs, outputs):
            continue
        try:
            model = prepare(reader.read(original), writer.target())
        except UnsupportedError:
            counts["refused"] += 1
            continue
        writer.write(model, written)
        counts["read"] += 1
        if not agree(run(written, inputs), outputs):
            wrong.append(case.name)
    assert not wrong
    assert counts["read"] >= READ_AT_LEAST, counts
