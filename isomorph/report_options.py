"""Options of `isomorph validate` that say what is written beside the verdict."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isomorph.errors import UsageError
from isomorph.records import record

if TYPE_CHECKING:
    from isomorph.validators import Report

__all__ = ["Saving", "report_options", "spell_command"]

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--report",
        "reports",
        metavar="FILE",
        type=_FILE,
        multiple=True,
        help="Write the report: .html (one page), .xml (JUnit), .sarif (SARIF 2.1.0), .json. Repeatable.",
    ),
    click.option(
        "--save-counterexample",
        "counterexample",
        metavar="FILE.npz",
        type=_FILE,
        help="On DIFFERENT, write the inputs that show it, and print the command that replays them.",
    ),
    click.option(
        "--certificate",
        metavar="FILE.json",
        type=_FILE,
        help="Write a certificate, which `isomorph verify` replays with the target's runtime alone.",
    ),
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; their values arrive as `reports`, `counterexample` and `certificate`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@record
class Saving:
    """What is written, and where."""

    reports: Sequence[Path] = ()
    counterexample: Path | None = None
    certificate: Path | None = None

    def check(self, beside: Sequence[Path], read: Sequence[Path]) -> None:
        """Raise UsageError for what cannot be written, before anything is run. `beside` are the other files that the
        command writes, `read` those that it reads."""
        from isomorph.validators.certificates.certificate import check_certificate_path
        from isomorph.validators.counterexample import check_counterexample_path
        from isomorph.validators.reports import check_report_path

        for path in self.reports:
            check_report_path(path)
        if self.counterexample is not None:
            check_counterexample_path(self.counterexample)
        if self.certificate is not None:
            check_certificate_path(self.certificate)
            beside = [*beside, self.certificate, self.certificate.with_name(f"{self.certificate.name}.npz")]
        if self.counterexample is not None:
            beside = [*beside, self.counterexample]
        _check_distinct([*self.reports, *beside], read)

    def save(self, report: Report, replay: Callable[[Path], str]) -> dict[str, Any]:
        """Write it all; returns the report as `--json` prints it. `replay` spells the command for a file of inputs."""
        from isomorph.validators.counterexample import write_counterexample
        from isomorph.validators.reports import write_reports

        if self.counterexample is not None:
            if write_counterexample(self.counterexample, report):
                shown = f"the inputs that show the difference are in {self.counterexample}"
                report.notes.append(f"{shown}: {replay(self.counterexample)}")
            else:
                report.notes.append("--save-counterexample: nothing was written, for no inputs show a difference")
        content = {"command": "validate", **report.as_dict()}
        write_reports(content, self.reports)
        return content


def _check_distinct(written: Sequence[Path], read: Sequence[Path]) -> None:
    """Raise UsageError if a file would be written over what the command reads, or writes itself."""
    taken = {path.resolve(): "is read, and would be written over" for path in read if path.exists()}
    for path in written:
        if path.exists() and not path.is_file():
            continue  # a device: /dev/null takes as much as there is
        if (why := taken.get(path.resolve())) is not None:
            raise UsageError(f"{path} {why}", advice="name another file")
        taken[path.resolve()] = "is named for two outputs"


def spell_command(source: str, target: str, options: Mapping[str, Any]) -> str:
    """`isomorph validate SOURCE TARGET …` for a shell; options that are None or empty are left out, True is a flag."""
    words = ["isomorph", "validate", source, target]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        words += [
            word
            for each in values
            if each is not None
            for word in ((f"--{name}",) if each is True else (f"--{name}", str(each)))
        ]
    return shlex.join(words)
