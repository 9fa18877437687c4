"""Reports of real trials, judged once: a fault, the same model against itself, and an output that proves nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import onnx
import pytest

from isomorph.validators import ModelFile, Report, judge
from isomorph.validators.runners.onnxruntime import OnnxRunner

Content = dict[str, Any]


def judged(folder: Path, fault: str | None) -> Report:
    """The network of faults.py against itself or with a fault, as files that can be read again."""
    source, target = folder / "source.onnx", folder / "target.onnx"
    proto = faults.build()
    onnx.save(proto, str(source))
    if fault is not None:
        faults.FAULTS[fault](proto)
    onnx.save(proto, str(target))
    sides = OnnxRunner(source, role="reference"), OnnxRunner(target, role="target")
    report = judge(*sides, written=ModelFile(target, "onnx"))
    report.subjects = ModelFile(source, "onnx"), ModelFile(target, "onnx")
    report.replay = "isomorph validate source.onnx target.onnx"
    return report


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    return {
        "EQUIVALENT": judged(tmp_path_factory.mktemp("same"), None),
        "DIFFERENT": judged(tmp_path_factory.mktemp("fault"), "kernel_flipped"),
    }


@pytest.fixture
def content(reports: dict[str, Report]) -> Callable[[str], Content]:
    """`content("DIFFERENT")`: such a report as a dictionary of its own; "INCONCLUSIVE" is made of one."""

    def make(verdict: str) -> Content:
        if verdict in reports:
            return json.loads(json.dumps(reports[verdict].as_dict()))  # type: ignore[no-any-return]
        found = copy.deepcopy(json.loads(json.dumps(reports["EQUIVALENT"].as_dict())))
        reasons = ["the output does not depend on the inputs (constant or all zero)"]
        found.update(verdict=verdict, exit_code=3, reasons=[f"output `logits`: {reasons[0]}"])
        found["outputs"][0].update(verdict=verdict, reasons=reasons)
        return found  # type: ignore[no-any-return]

    return make
