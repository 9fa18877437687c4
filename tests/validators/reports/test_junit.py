"""JUnit XML: counts that add up, a failure or an error where nothing is proven equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from isomorph.validators.reports import render

Content = Callable[[str], dict[str, Any]]
KINDS = {"EQUIVALENT": (0, 0), "DIFFERENT": (1, 0), "INCONCLUSIVE": (0, 1)}


def suite_of(content: dict[str, Any]) -> Xml.Element:
    root = Xml.fromstring(render(content, "junit"))
    assert root.tag == "testsuites"
    (suite,) = root
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    for attribute, kind in (("failures", "failure"), ("errors", "error")):
        assert suite.get(attribute) == root.get(attribute) == str(len(suite.findall(f"testcase/{kind}")))
    return suite


@pytest.mark.parametrize("verdict", KINDS)
def test_verdicts_count_as_they_should(content: Content, verdict: str) -> None:
    suite = suite_of(content(verdict))
    assert (int(suite.get("failures", "")), int(suite.get("errors", ""))) == KINDS[verdict]


def test_a_failure_names_the_culprit_and_the_replay(content: Content) -> None:
    found = content("DIFFERENT")
    failure = suite_of(found).find("testcase/failure")
    assert failure is not None
    assert failure.text is not None
    assert found["culprit"]["target"] in failure.text
    assert found["replay"] in failure.text


def test_training_is_a_case_for_each_kind_of_quantity(trained: dict[str, Any]) -> None:
    suite = suite_of(trained)
    failures = {case.get("name"): case.find("failure") for case in suite.findall("testcase")}
    kinds = {"loss": 0, "gradient, step 1": 0, "gradient, step 3": 1, "change": 1}
    for kind, failed in kinds.items():
        assert (failures[f"training: {kind}"] is not None) == failed
    told = failures["training: gradient, step 3"]
    assert told is not None
    assert told.get("message") == "gradient, step 3 of head.weight -> head/weight, normal N=2: 40 times the budget"
    assert suite.get("failures") == "2"


def test_models_that_could_not_be_compared_fail(content: Content) -> None:
    found = content("DIFFERENT")
    found.update(outputs=[], reasons=["the source has 1 inputs, the target 2"])
    assert suite_of(found).get("failures") == "1"


def test_names_that_xml_forbids(content: Content) -> None:
    found = content("DIFFERENT")
    found["outputs"][0]["source"] = "a\x00<b>&\"'\ud800\x1b]]>"
    case = suite_of(found).find("testcase")
    assert case is not None
    assert case.get("name") == "output a\ufffd<b>&\"'\ufffd\ufffd]]>"
