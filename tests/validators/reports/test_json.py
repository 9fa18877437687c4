"""The report as JSON: as its schema says, documented, and the same bytes every time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from isomorph.validators.reports import render, schema

Content = Callable[[str], dict[str, Any]]
ROOT = Path(__file__).resolve().parents[3]
VERDICTS = ("EQUIVALENT", "DIFFERENT", "INCONCLUSIVE")
SCHEMA = json.loads(schema())


@pytest.mark.requires("jsonschema")
def test_the_schema_is_a_schema() -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.requires("jsonschema")
@pytest.mark.parametrize("verdict", VERDICTS)
def test_reports_are_as_the_schema_says(content: Content, verdict: str) -> None:
    import jsonschema

    strict = _closed(SCHEMA)  # readers must bear unknown keys; we must not write undescribed ones
    jsonschema.Draft202012Validator(strict).validate(json.loads(render(content(verdict), "json")))


@pytest.mark.requires("jsonschema")
def test_training_is_as_the_schema_says(trained: dict[str, Any]) -> None:
    import jsonschema

    jsonschema.Draft202012Validator(_closed(SCHEMA)).validate(json.loads(render(trained, "json")))


def _closed(part: Any) -> Any:
    """The schema without room for keys that it does not describe."""
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, Mapping):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    if "properties" in part:
        closed["unevaluatedProperties"] = False
    if part.get("title") is None and set(part.get("properties", ())) == {"source", "target", "perm", "how"}:
        del closed["unevaluatedProperties"]  # a base of others
    return closed


def test_every_key_is_documented() -> None:
    section = (ROOT / "docs/json.md").read_text().partition("## validate")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section))
    assert set(SCHEMA["properties"]) - documented == set()


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("form", ["json", "junit", "sarif", "html"])
def test_the_same_report_gives_the_same_bytes(content: Content, verdict: str, form: str) -> None:
    assert render(content(verdict), form) == render(content(verdict), form)


def test_errors_are_counted_against_the_budget(content: Content) -> None:
    found = content("EQUIVALENT")
    edges = found["histogram_edges"]
    assert {found["thresholds"]["equal"], found["thresholds"]["unequal"]} <= set(edges)
    for case in found["outputs"][0]["cases"]:
        assert len(case["errors"]["histogram"]) == len(edges) + 1
        assert sum(case["errors"]["histogram"]) == case["errors"]["elements"]
        beyond = 1 + edges.index(found["thresholds"]["unequal"])
        assert sum(case["errors"]["histogram"][beyond:]) == 0


def test_culprits_stand_out_along_the_graph(content: Content) -> None:
    found = content("DIFFERENT")
    states = {layer["target"]: layer["state"] for layer in found["layers"]}
    assert states[found["culprit"]["target"]] == "culprit"
    assert "right" in states.values()
    assert "carried" in states.values()
