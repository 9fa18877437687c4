"""SARIF 2.1.0: the keys that its specification requires, findings at the right place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isomorph.validators.reports import render

Content = Callable[[str], dict[str, Any]]


def run_of(content: dict[str, Any]) -> dict[str, Any]:
    log = json.loads(render(content, "sarif"))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning")
        assert result["message"]["text"]
        for location in result["locations"]:
            place = location["physicalLocation"]
            assert place["artifactLocation"]["uri"]
            assert place["region"]["startLine"] >= 1
    return dict(run)


def test_equivalent_models_have_no_findings(content: Content) -> None:
    assert run_of(content("EQUIVALENT"))["results"] == []


def test_the_culprit_is_the_finding(content: Content) -> None:
    found = content("DIFFERENT")
    results = run_of(found)["results"]
    assert [r["ruleId"] for r in results] == ["ISO001"] * len(results)
    assert found["culprit"]["target"] in results[0]["message"]["text"]


def test_a_finding_is_at_the_line_of_the_source(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = content("DIFFERENT")
    found["culprit"].update(file=str(tmp_path / "my nets/a.py"), line=91, code="out = self.conv1(x)", path="conv1")
    place = run_of(found)["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "my%20nets/a.py"
    assert place["physicalLocation"]["region"] == {"startLine": 91, "snippet": {"text": "out = self.conv1(x)"}}
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "conv1"


def test_without_a_culprit_the_output_is_the_finding(content: Content) -> None:
    found = content("DIFFERENT")
    found["culprit"] = None
    assert [r["ruleId"] for r in run_of(found)["results"]] == ["ISO002"]


def test_an_inconclusive_output_is_a_warning(content: Content) -> None:
    assert [(r["ruleId"], r["level"]) for r in run_of(content("INCONCLUSIVE"))["results"]] == [("ISO003", "warning")]


def test_models_whose_signatures_differ(content: Content) -> None:
    found = content("DIFFERENT")
    found.update(culprit=None, outputs=[{**found["inputs"][0]}], reasons=["the source has 1 outputs, the target 2"])
    (result,) = run_of(found)["results"]
    assert result["ruleId"] == "ISO004"
    assert "the target 2" in result["message"]["text"]


def test_each_parameter_that_trains_otherwise_is_a_finding(trained: dict[str, Any]) -> None:
    results = run_of(trained)["results"]
    assert [(r["ruleId"], r["level"]) for r in results] == [("ISO005", "error")] * 2
    assert "`head.weight` does not train as in the source (gradient, step 3): 40 times" in results[0]["message"]["text"]
    assert "(change): the source records the unbiased variance" in results[1]["message"]["text"]
    assert len({r["partialFingerprints"]["isomorph/v1"] for r in results}) == 2


def test_fingerprints_are_stable(content: Content) -> None:
    first, second = (run_of(content("DIFFERENT"))["results"] for _ in range(2))
    assert [r["partialFingerprints"] for r in first] == [r["partialFingerprints"] for r in second]
