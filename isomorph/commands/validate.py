"""`isomorph validate`: run two models, each in a process of its own, and say whether they compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from isomorph.judge_options import Judging, judge_options
from isomorph.report_options import Saving, report_options, spell_command

__all__ = ["command"]


def _report_path(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """FILE must not be a model that the shell handed over by mistake (`--json a.onnx b.onnx`)."""
    if value not in (None, "-") and Path(value).suffix != ".json" and Path(value).is_file():
        raise click.BadParameter(
            f"{value} exists and is not a .json file; write --json after SOURCE and TARGET, or --json=FILE"
        )
    return value


@click.command("validate")
@click.argument("source")
@click.argument("target")
@judge_options
@report_options
@click.option(
    "--input",
    "inputs",
    metavar="NAME=SHAPE[:DTYPE]",
    multiple=True,
    help="Shape of an input that SOURCE itself does not describe (TorchScript), e.g. x=N,3,224,224.",
)
@click.option(
    "--arch",
    metavar="MODULE:CALLABLE[(ARGS)]",
    help="Your own code that makes the module the checkpoint SOURCE is for; it is imported and called.",
)
@click.option("--prefix", help="Where in the checkpoint the weights are, e.g. state_dict, if names do not tell.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the generated inputs (default 0).")
@click.option(
    "--json",
    "json_path",
    metavar="[FILE]",
    is_flag=False,
    flag_value="-",
    callback=_report_path,
    help="Print the report as JSON; with FILE, write it there and print it for people.",
)
def command(  # noqa: PLR0917 (click passes by name)
    source: str,
    target: str,
    inputs: tuple[str, ...],
    arch: str | None,
    prefix: str | None,
    seed: int,
    json_path: str | None,
    reports: tuple[Path, ...],
    counterexample: Path | None,
    certificate: Path | None,
    **options: Any,
) -> int:
    """Judge whether TARGET computes what SOURCE computes. Both models are run.

    SOURCE and TARGET are paths, zoo:NAME or python:MODULE:CALLABLE. The reference is SOURCE in float64, in its own
    framework. Exit code 0 is EQUIVALENT, 1 DIFFERENT, 3 INCONCLUSIVE.
    """
    from isomorph import screen
    from isomorph.inputs import parse_inputs
    from isomorph.sources import locate

    judging, saving = Judging(**options), Saving(reports, counterexample, certificate)
    printed = [Path(json_path)] if json_path not in (None, "-") else []
    saving.check([*printed, *judging.written()], [Path(each) for each in (source, target, judging.data) if each])
    data = judging.opened()
    to_stdout = json_path == "-"
    with screen.progress(quiet=to_stdout) as progress:
        subjects = [locate(given, progress=progress) for given in (source, target)]
        subjects[0] = subjects[0].joined(arch, prefix)
        for located in subjects:
            if located.calls:
                screen.note(f"calling your code: {located.calls}")
        shapes = parse_inputs(inputs)
        runners = judging.choose(subjects[0], subjects[1])
        sides = subjects[0].subject(shapes, runners[0]), subjects[1].subject(shapes, runners[1])
        report = judging.validate(sides, runners, data=data, seed=seed, progress=progress, certificate=certificate)
    given = {**judging.spelled(), "input": inputs, "arch": arch, "prefix": prefix, "seed": seed or None}
    report.replay = spell_command(source, target, given)
    content = saving.save(report, lambda path: spell_command(source, target, {**given, "data": path, "images": None}))
    if to_stdout:
        screen.print_json(content)
        return int(report.exit_code)
    report.render(screen.output())
    if json_path is not None:
        _write(Path(json_path), content)
    return int(report.exit_code)


def _write(path: Path, content: dict[str, Any]) -> None:
    from isomorph.converters.files import atomic_path
    from isomorph.screen import json_text

    if path.exists() and not path.is_file():
        path.write_text(json_text(content), encoding="utf-8")
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")
