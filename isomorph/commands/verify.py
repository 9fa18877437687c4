"""`isomorph verify`: ask a certified target again, without the source's framework."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from isomorph.validators.certificates.certificate import Certificate
    from isomorph.validators.certificates.verify import Verification
    from isomorph.validators.runner import ModelFile

__all__ = ["command"]

_FILE = click.Path(path_type=Path)


@click.command("verify")
@click.argument("certificate", type=_FILE)
@click.option("--target", metavar="PATH", type=_FILE, help="The target, where it is not where it was judged.")
@click.option(
    "--changed",
    is_flag=True,
    help="The target was changed on purpose: judge what it computes, whatever its bytes are.",
)
@click.option("--runner", metavar="NAME[:BACKEND][=PYTHON]", help="What runs the target (default: what did).")
@click.option("--device", metavar="DEVICE", help="Where the target runs (default: where it did).")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    metavar="SECONDS",
    help="How long the runner may take for one request (default 600).",
)
@click.option("--memory", type=click.IntRange(min=1), metavar="MB", help="What the runner may allocate.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(  # noqa: PLR0917 (click passes by name)
    certificate: Path,
    target: Path | None,
    changed: bool,
    runner: str | None,
    device: str | None,
    timeout: float,
    memory: int | None,
    as_json: bool,
) -> int:
    """Run the target of CERTIFICATE and judge it by the source's recorded answers.

    CERTIFICATE is what `isomorph validate --certificate` wrote; its .npz lies beside it. Exit code 0 is EQUIVALENT, 1
    DIFFERENT, 3 INCONCLUSIVE, also where the target's bytes are not the certified ones.
    """
    from isomorph import screen
    from isomorph.converters.formats import by_name
    from isomorph.runtimes import choose_runners, require_runtime
    from isomorph.validators.certificates.certificate import read_certificate
    from isomorph.validators.certificates.verify import certified_choice, certified_target, verify

    read = read_certificate(certificate)
    subject = _of_the_zoo(read, target) or certified_target(read, target)
    kind = by_name(subject.format)
    choice = certified_choice(read)
    if runner is not None or device is not None:
        runners = [f"target={runner}"] if runner else []
        _, choice = choose_runners(runners, [f"target={device or choice.device}"], (None, kind.runner))
    require_runtime(kind, choice)
    with screen.progress(quiet=as_json) as progress:
        found = verify(
            read,
            subject,
            choice=choice,
            changed=changed,
            timeout=timeout,
            memory=None if memory is None else memory * 1_000_000,
            progress=progress,
        )
    if as_json:
        screen.print_json({"command": "verify", **found.as_dict()})
    else:
        _show(certificate, found)
    return found.exit_code


def _of_the_zoo(certificate: Certificate, target: Path | None) -> ModelFile | None:
    """The target, where the zoo has it: it is fetched if it is not in the cache."""
    from dataclasses import replace

    from isomorph.sources import ZOO, locate
    from isomorph.validators.certificates.verify import certified_target

    given = str(certificate.target["model"] if target is None else target)
    if not given.startswith(ZOO):
        return None
    return replace(certified_target(certificate, locate(given).path), given=given)


def _training(found: Verification) -> str:
    of = "of this file" if found.same_file else "of the certified file, not of this one"
    return f"{found.training}, certified {of}; not asked again: its steps need the source's framework"


def _show(certificate: Path, found: Verification) -> None:
    from rich.text import Text

    from isomorph import screen

    rows: list[tuple[str, str | Text]] = [
        ("certificate", f"{certificate}: {found.certified.value}"),
        ("target", f"{found.report.subjects[1]}"),
        ("files", "as certified (SHA-256)" if found.same_file else "not those that were certified"),
        (
            "answers",
            "bit for bit as certified" if found.identical else "not the certified bits; judged by their budgets",
        ),
        *((("training", _training(found)),) if found.training else ()),
        *(("because", reason) for reason in found.reasons),
        ("judged", f"{len(found.report.cases)} cases, {found.report.seconds:.1f} s"),
    ]
    screen.show(Text(found.verdict.value, screen.VERDICT_STYLES[found.verdict.value]), screen.fields(rows))
