"""The pytest plugin: conversions are tested where the rest of the code is.

    def test_the_exported_model(isomorph_validate):
        isomorph_validate("model.pt2", "model.onnx")

The test fails unless the verdict is EQUIVALENT; `accept=` takes others. With `--isomorph-report DIR` every verdict
leaves a page, JSON and SARIF there, and on DIFFERENT the inputs that show it. pytest loads this by its entry point;
importing it imports nothing but pytest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from isomorph.validators import Report

__all__ = ["isomorph_validate", "pytest_addoption", "pytest_terminal_summary"]

_VERDICTS = pytest.StashKey[list[tuple[str, str]]]()
_FORMS = ("html", "json", "sarif")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--isomorph-report DIR`."""
    group = parser.getgroup("isomorph", "isomorph: judging conversions")
    group.addoption(
        "--isomorph-report", metavar="DIR", type=Path, help="Write the report of each isomorph_validate into DIR."
    )


@pytest.fixture
def isomorph_validate(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`isomorph_validate(source, target, accept=("EQUIVALENT",), **options) -> Report`.

    Runs both models as `isomorph.validate` does, which `options` are for, and fails the test with the report unless the
    verdict is one of `accept`. Errors (a model that cannot be read, a runtime that fails) are raised as they are.
    """

    def validate(
        source: str | Path, target: str | Path, accept: Sequence[str] = ("EQUIVALENT",), **options: Any
    ) -> Report:
        import isomorph

        report = isomorph.validate(source, target, **options)
        told = request.config.stash.setdefault(_VERDICTS, [])
        folder: Path | None = request.config.getoption("--isomorph-report")
        if folder is not None:
            _write(folder, f"{_slug(request.node.nodeid)}-{len(told)}", report)
        told.append((report.verdict.value, request.node.nodeid))
        if report.verdict.value not in accept:
            pytest.fail(_text(report), pytrace=False)
        return report

    return validate


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How many verdicts of each kind there were, and where the reports are."""
    told = config.stash.get(_VERDICTS, [])
    if not told:
        return
    words = [verdict for verdict, _ in told]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(sorted(words)))
    folder = config.getoption("--isomorph-report")
    terminalreporter.write_sep("-", "isomorph")
    terminalreporter.write_line(f"{counts}{f'; reports in {folder}' if folder is not None else ''}")


def _write(folder: Path, name: str, report: Report) -> None:
    from isomorph.validators.counterexample import write_counterexample
    from isomorph.validators.reports import write_reports

    folder.mkdir(parents=True, exist_ok=True)
    write_reports(report.as_dict(), [folder / f"{name}.{form}" for form in _FORMS])
    write_counterexample(folder / f"{name}.npz", report)


def _slug(nodeid: str) -> str:
    """A name for files: readable, and different for different tests."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", nodeid).strip("-")[:80]
    return f"{readable}-{hashlib.sha256(nodeid.encode(errors='replace')).hexdigest()[:8]}"


def _text(report: Report) -> str:
    from rich.console import Console

    console = Console(width=120, no_color=True, force_terminal=False)
    with console.capture() as captured:
        report.render(console)
    replay = f"  replay   {report.replay}\n" if report.replay else ""
    return captured.get() + replay
