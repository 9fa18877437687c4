"""Judging functions of the caller's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.errors import ModelError, RunnerError
from isomorph.validators import TensorSpec, Verdict, judge_functions
from isomorph.validators.reports import render

ROOT = Path(__file__).resolve().parents[2]
X = {"x": "N,8"}


def mean(x: np.ndarray) -> Any:
    return x.mean(axis=1)


def sum_over_eight(x: np.ndarray) -> Any:
    return sum(x[:, i] for i in range(8)) / x.dtype.type(8)


def test_another_order_of_summation_is_equivalent() -> None:
    report = judge_functions(mean, sum_over_eight, X)
    assert report.verdict is Verdict.EQUIVALENT
    assert len(report.cases) == 9
    assert str(report.subjects[0]).endswith(":mean")


def test_another_function_is_different() -> None:
    report = judge_functions(mean, lambda x: sum_over_eight(x) * x.dtype.type(1.001), X)
    assert report.verdict is Verdict.DIFFERENT
    assert report.counterexample is not None
    assert "DIFFERENT" in render(report.as_dict(), "html")


@pytest.mark.parametrize("returned", [lambda y: y, lambda y: (y, -y), lambda y: {"a": y, "b": -y}])
def test_one_output_several_and_named_ones(returned: Any) -> None:
    report = judge_functions(lambda x: returned(mean(x)), lambda x: returned(sum_over_eight(x)), X)
    assert report.verdict is Verdict.EQUIVALENT


def test_without_a_float64_run_nothing_is_proven() -> None:
    def narrow(x: np.ndarray) -> Any:
        return mean(x.astype(np.float32))

    report = judge_functions(narrow, sum_over_eight, X)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("float64" in reason for reason in report.reasons)
    assert judge_functions(narrow, sum_over_eight, X, float64=mean).verdict is Verdict.EQUIVALENT


def test_shapes_and_types_must_be_the_same() -> None:
    assert judge_functions(mean, lambda x: mean(x)[:, None], X).verdict is Verdict.DIFFERENT
    assert judge_functions(mean, lambda x: mean(x).astype(np.float64), X).verdict is Verdict.DIFFERENT
    assert judge_functions(mean, lambda x: (mean(x), mean(x)), X).verdict is Verdict.DIFFERENT


def test_a_function_of_integers_within_their_bounds() -> None:
    table = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    ids = [TensorSpec("ids", "int64", ("N", 5), (0, 9))]

    def rows(ids: np.ndarray) -> Any:
        return table[ids]

    def by_one_hot(ids: np.ndarray) -> Any:
        return (ids[..., None] == np.arange(10)).astype(table.dtype) @ table

    report = judge_functions(rows, by_one_hot, ids, float64=lambda ids: table.astype(np.float64)[ids])
    assert report.verdict is Verdict.EQUIVALENT
    assert judge_functions(np.sort, lambda ids: ids, ids).verdict is Verdict.DIFFERENT


def test_ranges_of_sizes_are_kept() -> None:
    seen = set()

    def watched(x: np.ndarray) -> Any:
        seen.add(x.shape[1])
        return mean(x)

    judge_functions(watched, mean, {"x": "N,K"}, dims={"K": (30, 40)})
    assert seen <= set(range(30, 41))
    assert len(seen) > 1


def test_a_target_that_raises() -> None:
    with pytest.raises(RunnerError, match="target raised ZeroDivisionError") as caught:
        judge_functions(mean, lambda x: 1 / 0, X)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_inputs_that_cannot_be_read() -> None:
    with pytest.raises(ModelError):
        judge_functions(mean, mean, {"x": "N,8:float31"})


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (ROOT / "docs/validation.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-P", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DIFFERENT")
