"""The judge says the same every time: the same bytes, apart from the times."""

from __future__ import annotations

import json
from pathlib import Path

import faults
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from isomorph.validators import Report, judge
from isomorph.validators.runners.onnxruntime import OnnxRunner


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, Path]]:
    """A network against itself, and against one with a weight changed."""
    clean, broken = tmp_path / "clean.onnx", tmp_path / "broken.onnx"
    model = faults.build()
    onnx.save(model, str(clean))
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1].copy(), weight.name))
    onnx.save(model, str(broken))
    return [(clean, clean), (clean, broken)]


def judged(source: Path, target: Path) -> Report:
    return judge(OnnxRunner(source, role="reference"), OnnxRunner(target, role="target"))


def spelled(report: Report) -> str:
    return json.dumps({key: value for key, value in report.as_dict().items() if "seconds" not in key}, sort_keys=True)


@pytest.mark.parametrize("repeats", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_the_same_report_every_time(repeats: int, pairs: list[tuple[Path, Path]]) -> None:
    verdicts = []
    for source, target in pairs:
        reports = [judged(source, target) for _ in range(repeats)]
        assert len({spelled(report) for report in reports}) == 1
        verdicts.append(reports[0].verdict.value)
    assert verdicts == ["EQUIVALENT", "DIFFERENT"]
