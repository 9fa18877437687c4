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

from isomorph.validators import ModelFile, Report, Verdict, judge
from isomorph.validators.compare import Comparison
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.training.trial import Quantity, Training

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


def _quantity(what: str, name: str, ratio: float, explanation: str = "") -> Quantity:
    verdict = Verdict.DIFFERENT if ratio > 2 else Verdict.EQUIVALENT
    compared = Comparison({"rms": ratio}, 1e-7 * ratio, 1e-7, 1e-7, (0,), 1.5, 1.25)
    return Quantity(what, name, name.replace(".", "/"), "normal N=2", verdict, compared, True, explanation)


@pytest.fixture
def trained(content: Callable[[str], Content]) -> Content:
    """A report whose outputs agree and whose training does not: one gradient, and a running variance."""
    training = Training(3, Verdict.DIFFERENT, ["gradient, step 3 of head.weight: 40 times the budget"], rates=[0.125])
    unbiased = "the source records the unbiased variance"
    training.quantities = [
        _quantity("loss", "", 0.5),
        *(_quantity("gradient, step 1", f"{name}.weight", 0.25) for name in ("conv", "head")),
        *(_quantity("gradient, step 3", f"{name}.weight", ratio) for name, ratio in (("conv", 0.75), ("head", 40.0))),
        _quantity("change", "conv.weight", 0.5),
        _quantity("change", "norm.running_var", 9.0, unbiased),
    ]
    found = content("EQUIVALENT")
    told = json.loads(json.dumps(training.as_dict()))
    found.update(verdict="DIFFERENT", exit_code=1, reasons=["training: " + training.reasons[0]], training=told)
    return found
