"""The report as SARIF 2.1.0 (OASIS): each finding at the file and line of the source model's code that is to blame.

    ISO001  error    an op of the target makes the error            at the op's line in the source
    ISO002  error    an output differs, and no op is known to be to blame    at the target's file
    ISO003  warning  an output is inconclusive                       at the target's file
    ISO004  error    the interfaces differ, or the models as a whole at the target's file
    ISO005  error    a parameter, or the loss, trains otherwise (`--train`)  at the target's file

EQUIVALENT has no results. Paths are relative to the root of the checkout where they are inside of the working
directory, as GitHub's code scanning wants them; `partialFingerprints` keep a finding the same from run to run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from isomorph.validators.reports.lessons import differing
from isomorph.validators.reports.prose import culprits, number, title, worst_ratio

__all__ = ["render"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = (
    ("ISO001", "OperationDiffers", "error", "An operation of the target computes something else than the source's"),
    ("ISO002", "OutputDiffers", "error", "An output of the target differs from the source's float64 run"),
    ("ISO003", "NothingProven", "warning", "Neither equality nor a difference of the models is proven"),
    ("ISO004", "ModelsDiffer", "error", "The interfaces of the models differ"),
    ("ISO005", "TrainingDiffers", "error", "A parameter of the target does not train as the source's does"),
)


def render(content: Mapping[str, Any]) -> str:
    """One run with its results; JSON with a final newline."""
    run = {
        "tool": {"driver": _driver(content)},
        "invocations": [_invocation(content)],
        "results": list(_results(content)),
        "columnKind": "unicodeCodePoints",
        "properties": {
            "verdict": content["verdict"],
            "source": content["source"],
            "target": content["target"],
            "seed": content["seed"],
            "cases": content["cases"],
        },
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _driver(content: Mapping[str, Any]) -> dict[str, Any]:
    rules = [
        {
            "id": rule,
            "name": name,
            "shortDescription": {"text": text},
            "defaultConfiguration": {"level": level},
            "help": {"text": "docs/validation.md says how the verdict is reached."},
        }
        for rule, name, level, text in _RULES
    ]
    return {"name": "isomorph", "semanticVersion": content["judge"]["isomorph"], "rules": rules}


def _invocation(content: Mapping[str, Any]) -> dict[str, Any]:
    told = {"executionSuccessful": True, "exitCode": content["exit_code"]}
    return {**told, "commandLine": content["replay"]} if content.get("replay") else told


def _results(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    blamed = list(culprits(content)) if content["verdict"] == "DIFFERENT" else []
    for found in blamed:
        ratio = number(found["ratio"])
        text = f"{found['op']} `{found['target']}` is wrong by {ratio} times its budget although its operands are right"
        where = f" ({found['where']})" if found["where"] else ""
        yield _result(content, 0, f"{text}{where}", _culprit_location(content, found), found["target"])
    reported = bool(blamed)
    for output in content["outputs"]:
        verdict = output.get("verdict")
        if verdict not in ("DIFFERENT", "INCONCLUSIVE") or (verdict == "DIFFERENT" and blamed):
            continue
        reasons = "; ".join(output["reasons"]) or f"ratio {number(worst_ratio(output))}"
        text = f"output `{output['source']}` is {verdict}: {reasons}"
        location = _file_location(content["target"]["model"], output["target"])
        yield _result(content, 1 if verdict == "DIFFERENT" else 2, text, location, output["source"])
        reported = True
    for name, quantities in differing(content):
        location = _file_location(content["target"]["model"], quantities[0]["target"] or None)
        yield _result(content, 4, _trained(name, quantities), location, f"training\0{name}")
        reported = True
    if content["verdict"] != "EQUIVALENT" and not reported:
        rule = 3 if content["verdict"] == "DIFFERENT" else 2
        text = f"{title(content)}: {'; '.join(content['reasons'])}"
        yield _result(content, rule, text, _file_location(content["target"]["model"], None), "")


def _trained(name: str, quantities: Sequence[Mapping[str, Any]]) -> str:
    worst = quantities[0]
    what = f"`{name}`" if name else "the loss"
    kinds = ", ".join(dict.fromkeys(quantity["what"] for quantity in quantities))
    said = worst["explanation"] or f"{number(worst['ratio'])} times the budget ({worst['case']})"
    return f"{what} does not train as in the source ({kinds}): {said}"


def _result(
    content: Mapping[str, Any], rule: int, text: str, location: Mapping[str, Any], subject: str
) -> dict[str, Any]:
    name, _, level, _ = _RULES[rule]
    identity = "\0".join((name, content["source"]["model"], content["target"]["model"], subject))
    return {
        "ruleId": name,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": text},
        "locations": [location],
        "partialFingerprints": {"isomorph/v1": hashlib.sha256(identity.encode(errors="replace")).hexdigest()},
    }


def _culprit_location(content: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    name = found["path"] or found["target"]
    if not found["file"]:
        return _file_location(content["source"]["model"], name)
    region: dict[str, Any] = {"startLine": max(1, int(found["line"]))}
    if found["code"]:
        region["snippet"] = {"text": found["code"]}
    return {
        "physicalLocation": {"artifactLocation": {"uri": _uri(found["file"])}, "region": region},
        "logicalLocations": [{"fullyQualifiedName": name, "kind": "member"}],
    }


def _file_location(path: str, name: str | None) -> dict[str, Any]:
    """A model's file as a whole. (Line 1: code scanning wants a region, and a model has no lines.)"""
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": 1}},
    }
    if name:
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "member"}]
    return location


def _uri(path: str) -> str:
    """Relative to the working directory where it is inside; percent-encoded."""
    if path.startswith("python:"):
        return quote(path.removeprefix("python:").partition(":")[0].replace(".", "/") + ".py")
    given = Path(path)
    if given.is_absolute():
        here = Path.cwd()
        if not given.is_relative_to(here):
            return given.as_uri()
        given = given.relative_to(here)
    return quote(given.as_posix())
