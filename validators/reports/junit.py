"""The report as JUnit XML: one test suite a pair of models, one test case an output.

With `--train` there is one more for each kind of quantity (loss, gradients by step, changes of weights).

DIFFERENT is a `failure`, INCONCLUSIVE an `error` (it says that nothing was proven, and a continuous integration that
takes it for a pass would be wrong). The elements and attributes are those that Jenkins, GitLab, GitHub's and pytest's
readers share: testsuites > testsuite > properties, testcase > failure | error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as Xml

from isomorph.validators.reports.lessons import Lesson, lessons, named
from isomorph.validators.reports.prose import clean, culprits, number, runtime, title, worst_ratio

__all__ = ["render"]

_ELEMENTS = {"DIFFERENT": "failure", "INCONCLUSIVE": "error"}


def render(content: Mapping[str, Any]) -> str:
    """XML 1.0 in UTF-8; characters that XML forbids are replaced by U+FFFD."""
    cases = _cases(content)
    failed = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "error")}
    counts = {
        "tests": str(len(cases)),
        "failures": str(failed["failure"]),
        "errors": str(failed["error"]),
        "skipped": "0",
        "time": f"{content['seconds']:.3f}",
    }
    root = Xml.Element("testsuites", {"name": "isomorph validate", **_without_skipped(counts)})
    suite = Xml.SubElement(root, "testsuite", {"name": clean(title(content)), **counts})
    properties = Xml.SubElement(suite, "properties")
    for name, value in _properties(content).items():
        Xml.SubElement(properties, "property", {"name": name, "value": clean(value)})
    suite.extend(cases)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _without_skipped(counts: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in counts.items() if name != "skipped"}


def _properties(content: Mapping[str, Any]) -> dict[str, str]:
    given = {
        "verdict": content["verdict"],
        "source": content["source"]["model"],
        "target": content["target"]["model"],
        "source.runtime": runtime(content["source"]),
        "target.runtime": runtime(content["target"]),
        "seed": str(content["seed"]),
        "cases": str(len(content["cases"])),
    }
    return {**given, "replay": content["replay"]} if content.get("replay") else given


def _cases(content: Mapping[str, Any]) -> list[Xml.Element]:
    """One an output, and one for what concerns the whole where no output is to blame for the verdict."""
    cases = [_case(content, output) for output in content["outputs"]]
    taught = lessons(content)
    cases += [_lesson(content, lesson) for lesson in taught]
    blamed = {output.get("verdict") for output in content["outputs"]} | {lesson.verdict for lesson in taught}
    if content["verdict"] != "EQUIVALENT" and content["verdict"] not in blamed:
        case = Xml.Element("testcase", _names(content, "the models as a whole"))
        _add_failure(case, content["verdict"], content["reasons"], content)
        cases.append(case)
    return cases


def _names(content: Mapping[str, Any], name: str) -> dict[str, str]:
    return {"classname": clean(title(content)), "name": clean(name), "time": "0"}


def _case(content: Mapping[str, Any], output: Mapping[str, Any]) -> Xml.Element:
    case = Xml.Element("testcase", _names(content, f"output {output['source']}"))
    verdict = output.get("verdict")
    if verdict in _ELEMENTS:
        _add_failure(case, verdict, output["reasons"], content)
    elif verdict is not None:
        told = "in distribution" if output.get("draws") else f"ratio {number(worst_ratio(output))}"
        Xml.SubElement(case, "system-out").text = f"{verdict}, {told}"
    else:
        _add_failure(case, content["verdict"], ["the output was not compared"], content)
    return case


def _lesson(content: Mapping[str, Any], lesson: Lesson) -> Xml.Element:
    case = Xml.Element("testcase", _names(content, f"training: {lesson.what}"))
    if not lesson.blamed:
        count = len(lesson.quantities)
        Xml.SubElement(case, "system-out").text = clean(
            f"EQUIVALENT, {count} of {count} agree, worst ratio {number(lesson.worst['ratio'])}"
        )
        return case
    reasons = [_told(quantity) for quantity in lesson.blamed]
    _add_failure(case, lesson.verdict, reasons, {**content, "culprit": None, "maps": []})
    return case


def _told(quantity: Mapping[str, Any]) -> str:
    place = ", ".join(part for part in (named(quantity), quantity["case"]) if part)
    said = quantity["explanation"] or f"{number(quantity['ratio'])} times the budget"
    return f"{quantity['what']} of {place}: {said}" if place else f"{quantity['what']}: {said}"


def _add_failure(case: Xml.Element, verdict: str, reasons: list[str], content: Mapping[str, Any]) -> None:
    message = clean(reasons[0] if reasons else verdict)
    element = Xml.SubElement(case, _ELEMENTS.get(verdict, "error"), {"type": verdict, "message": message})
    lines = [f"{verdict}: {reason}" for reason in reasons]
    if verdict == "DIFFERENT":
        lines += [f"culprit {c['op']} `{c['target']}` at {c['where']}" for c in culprits(content)]
        lines += [f"try --map {text}" for text in content["maps"]]
    if content.get("replay"):
        lines.append(f"replay {content['replay']}")
    element.text = clean("\n".join(lines))
