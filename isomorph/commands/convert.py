"""`isomorph convert`: read, lay out, write; with --validate also judge."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isomorph.converters.convert import Conversion, LayoutChoice
    from isomorph.ir import Model
    from isomorph.sources import Source

__all__ = ["command"]


@click.command("convert")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--from", "source_format", metavar="FORMAT", help="Format of SOURCE, where its content does not tell.")
@click.option("--to", "target_format", metavar="FORMAT", help="Format of TARGET, where its suffix does not tell.")
@click.option("--input", "inputs", metavar="NAME=SHAPE[:DTYPE]", multiple=True, help="Shape of an input, e.g. x=N,3,224,224.")
@click.option("--opset", type=click.IntRange(min=1), help="ONNX opset to write.")
@click.option(
    "--layout",
    type=click.Choice(["keep", "native"]),
    default="keep",
    help="keep: inputs and outputs keep their axis order (default). native: they take the target's.",
)
@click.option("--validate", "judged", is_flag=True, help="Run both models afterwards and give a verdict.")
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Real inputs for --validate, by name (.npz).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def command(
    source: str,
    target: Path,
    source_format: str | None,
    target_format: str | None,
    inputs: tuple[str, ...],
    opset: int | None,
    layout: LayoutChoice,
    judged: bool,
    data: Path | None,
    as_json: bool,
    force: bool,
) -> int:
    """Convert SOURCE to TARGET.

    SOURCE is a path, zoo:NAME, or python:MODULE:CALLABLE (your own code: it is called, and what it returns is captured).
    Nothing of a model file is run unless --validate asks for it.
    """
    from isomorph import screen
    from isomorph.signature import parse_inputs
    from isomorph.sources import locate

    if data is not None and not judged:
        raise click.UsageError("--data is for --validate, which is not given")
    shapes = parse_inputs(inputs) or None
    began = time.perf_counter()
    with screen.progress(quiet=as_json) as progress:
        located = locate(source, format=source_format, progress=progress)
        done = _convert(located, target, progress, source_format, target_format, shapes, opset, layout, force)
        seconds = time.perf_counter() - began
        report = _judge(located, target, done, data, progress) if judged else None
    code = report.exit_code if report is not None else 0
    if as_json:
        screen.print_json(
            {
                "command": "convert",
                **done.as_dict(),
                "seconds": round(seconds, 6),
                "verdict": str(report.verdict) if report is not None else None,
                "report": report.as_dict() if report is not None else None,
                "exit_code": code,
            }
        )
    else:
        _show(done, target, seconds, report)
    return code


def _convert(
    located: Source,
    target: Path,
    progress: Any,
    source_format: str | None,
    target_format: str | None,
    shapes: Any,
    opset: int | None,
    layout: LayoutChoice,
    force: bool,
) -> Conversion:
    from isomorph import screen
    from isomorph.converters.convert import convert
    from isomorph.converters.files import check_target

    options: dict[str, Any] = {"target_format": target_format, "opset": opset, "layout": layout, "force": force, "progress": progress}
    if located.path is not None:
        return convert(located.path, target, source_format=source_format, inputs=shapes, **options)
    check_target(target, force=force)
    screen.note(f"calling your code: {located.reference}")
    progress("capture")
    began = time.perf_counter()
    model = located.model(shapes)
    seconds = time.perf_counter() - began
    done = convert(model, target, **options)
    done.source = located.given
    done.steps.insert(0, ("capture", seconds))
    return done


def _judge(located: Source, target: Path, done: Conversion, data: Path | None, progress: Any) -> Any:
    from isomorph.validators import validate
    from isomorph.validators.runner import ModelFile

    return validate(located.subject(), ModelFile(target, done.target_format), data=data, progress=progress)


def _show(done: Conversion, target: Path, seconds: float, report: Any) -> None:
    from rich.text import Text

    from isomorph import screen
    from isomorph.converters.formats import by_name

    steps = ", ".join(f"{name} {spent:.2f}" for name, spent in done.steps)
    rows: list[tuple[str, str | Text]] = [
        ("format", f"{_title(done.source_format)} -> {by_name(done.target_format).title}"),
        ("layers", _layers(done.source_model)),
        ("parameters", f"{done.parameters:,}"),
        ("nodes", f"{len(done.source_model.graph.nodes)} -> {len(done.model.graph.nodes)}, {_count(done.transposes, 'transpose')}"),
        *((kind, str(text)) for kind, text in _signature(done.model)),
        ("size", f"{target.stat().st_size / 1e6:,.2f} MB"),
        ("time", f"{seconds:.2f} s ({steps})"),
        *(("note", text) for text in done.notes),
    ]
    if report is None:
        rows.append(("verdict", Text("not judged (add --validate)", style="yellow")))
    screen.show(Text.assemble((done.source, "bold"), " -> ", (str(target), "bold")), screen.fields(rows))
    if report is not None:
        screen.show()
        report.render(screen.output())


def _title(format: str) -> str:
    from isomorph.converters.formats import FORMATS

    return next((known.title for known in FORMATS if known.name == format), "PyTorch module" if format == "torch" else format)


def _layers(model: Model) -> str:
    """How many modules hold nodes, and the commonest of them by class."""
    modules = {(node.scope.path, node.scope.cls.rpartition(".")[2]) for node in model.graph.nodes if node.scope.path}
    if not modules:
        return "not named by the source"
    common = Counter(cls for _, cls in modules if cls).most_common(4)
    return f"{len(modules)}" + (f" ({', '.join(f'{count} {cls}' for cls, count in common)})" if common else "")


def _signature(model: Model) -> list[tuple[str, str]]:
    rows = [("input", f"{name} {kind}") for name, kind in model.inputs.items()]
    return rows + [("output", f"{name} {kind}") for name, kind in model.outputs.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
