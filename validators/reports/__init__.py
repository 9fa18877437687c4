"""The report in the forms that people and programs ask for: each makes text of `Report.as_dict()`.

    html    one page without a network: for people
    junit   JUnit XML: test results of continuous integration
    sarif   SARIF 2.1.0: findings with a file and a line
    json    the report itself, as report.schema.json (JSON Schema 2020-12) describes it

`FORMS` maps a suffix to the form. Nothing here runs a model or imports a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from isomorph.converters.files import atomic_path
from isomorph.errors import UsageError

__all__ = ["FORMS", "Form", "check_report_path", "form_of", "render", "schema", "write_reports"]

Content = Mapping[str, Any]
Form = Callable[[Content], str]

FORMS = {".html": "html", ".htm": "html", ".xml": "junit", ".sarif": "sarif", ".json": "json"}
"""Suffix of a report's file -> its form."""


def form_of(path: Path) -> str:
    """The form that the suffix names; `.sarif.json` is SARIF. Raises UsageError."""
    if path.name.endswith(".sarif.json"):
        return "sarif"
    form = FORMS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(FORMS)
        raise UsageError(
            f"the suffix {path.suffix!r} of {path} names no form of report", advice=f"choose one of {known}"
        )
    return form


def check_report_path(path: Path) -> None:
    """Raise UsageError unless a report can be written there, before anything is run."""
    form_of(path)
    if path.is_dir() or not path.parent.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"the folder of the report does not exist: {path.parent}"
        raise UsageError(what)


def render(content: Content, form: str) -> str:
    """`Report.as_dict()` as text: "html", "junit", "sarif" or "json"."""
    text: str = import_module(f"{__name__}.{form}").render(content)
    return text


def write_reports(content: Content, paths: Sequence[Path]) -> None:
    """Write each report in the form that its suffix names; a reader sees the old file or the new one. UTF-8."""
    for path in paths:
        # An unpaired surrogate becomes \udXXX, which is how JSON spells it.
        data = render(content, form_of(path)).encode("utf-8", "backslashreplace")
        if path.exists() and not path.is_file():  # /dev/stdout
            path.write_bytes(data)
            continue
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)


def schema() -> str:
    """The JSON Schema (2020-12) of the report, as text."""
    return files(__name__).joinpath("report.schema.json").read_text(encoding="utf-8")
