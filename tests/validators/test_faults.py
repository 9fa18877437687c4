"""The judge is judged: injected faults are found, clean models are not accused."""

from __future__ import annotations

from pathlib import Path

import faults
import numpy as np
import onnx
import pytest

from isomorph.validators import Verdict, judge
from isomorph.validators.runners.onnxruntime import OnnxRunner


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> OnnxRunner:
    return OnnxRunner(save(faults.build(), tmp_path_factory.mktemp("faults") / "clean.onnx"), role="reference")


@pytest.mark.parametrize("name", sorted(faults.FAULTS))
def test_fault_is_found(name: str, source: OnnxRunner, tmp_path: Path) -> None:
    fault = faults.FAULTS[name]
    assert faults.changes_the_function(fault)
    model = faults.build()
    fault(model)
    report = judge(source, OnnxRunner(save(model, tmp_path / "faulty.onnx"), role="target"))
    assert report.verdict is Verdict.DIFFERENT
    assert report.exit_code == 1


@pytest.mark.parametrize("seed", range(5))
def test_clean_model_is_equivalent(seed: int, source: OnnxRunner, tmp_path: Path) -> None:
    target = OnnxRunner(save(faults.build(), tmp_path / "clean.onnx"), role="target")
    report = judge(source, target, seed=seed)
    assert report.verdict is Verdict.EQUIVALENT, report.as_dict()


def test_float64_build_agrees_with_the_widened_model(source: OnnxRunner) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 15)).astype(np.float32)
    widened = source.run({"x": x}, precision="float64").outputs["logits"]
    (truth,) = onnx.reference.ReferenceEvaluator(faults.build(np.float64)).run(None, {"x": x.astype(np.float64)})
    assert widened.dtype == np.float64
    np.testing.assert_allclose(widened, truth, rtol=1e-12, atol=1e-12)
