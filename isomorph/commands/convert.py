"""`isomorph convert`: read, lay out, write; with --validate also judge."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from isomorph.judge_options import PRECISIONS

if TYPE_CHECKING:
    from isomorph.converters.convert import Conversion, Inputs, LayoutChoice, Progress
    from isomorph.converters.onnx.form import OnnxForm
    from isomorph.inputs import Dynamic
    from isomorph.ir import Model
    from isomorph.sources import Source
    from isomorph.validators import Report
    from isomorph.validators.runner import Subject

__all__ = ["command"]


@click.command("convert")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--from", "source_format", metavar="FORMAT", help="Format of SOURCE, where its content does not tell.")
@click.option("--to", "target_format", metavar="FORMAT", help="Format of TARGET, where its suffix does not tell.")
@click.option(
    "--input", "inputs", metavar="NAME=SHAPE[:DTYPE]", multiple=True, help="Shape of an input, e.g. x=N,3,224,224."
)
@click.option(
    "--dynamic",
    metavar="NAME=AXIS:SIZE",
    multiple=True,
    help="Let a size of a captured module vary, e.g. x=0:N or ids=0:N,1:S:2..512.",
)
@click.option(
    "--arch",
    metavar="MODULE:CALLABLE[(ARGS)]",
    help="Your own code that makes the module a checkpoint is for; it is imported and called.",
)
@click.option("--prefix", help="Where in the checkpoint the weights are, e.g. state_dict, if names do not tell.")
@click.option("--opset", type=click.IntRange(min=1), help="ONNX opset to write.")
@click.option(
    "--layout",
    type=click.Choice(["keep", "native"]),
    default="keep",
    help="keep: inputs and outputs keep their axis order (default). native: they take the target's.",
)
@click.option("--simplify", is_flag=True, help="Fewer nodes also within a format, and a table of what changed.")
@click.option("--fold-batch-norm", is_flag=True, help="Fold batch normalization into the layer before it.")
@click.option(
    "--quantized",
    type=click.Choice(["qdq", "qoperator"]),
    help="Form of a quantized ONNX model: float operators between QuantizeLinear and DequantizeLinear, or QLinearConv "
    "and the like where they are the same.",
)
@click.option(
    "--keep-functions", is_flag=True, help="Write each module, and each function of the source, as a function of ONNX."
)
@click.option(
    "--external-data",
    metavar="MB",
    type=click.IntRange(min=0),
    help="Put the weights of an ONNX model beside it where they are more than this; 0: always (default 1074).",
)
@click.option("--validate", "judged", is_flag=True, help="Run both models afterwards and give a verdict.")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Real inputs for --validate, by name (.npz).",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="What --validate declares TARGET to compute in.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def command(  # noqa: PLR0917 (click passes by name)
    source: str,
    target: Path,
    source_format: str | None,
    target_format: str | None,
    inputs: tuple[str, ...],
    dynamic: tuple[str, ...],
    arch: str | None,
    prefix: str | None,
    opset: int | None,
    layout: LayoutChoice,
    simplify: bool,
    fold_batch_norm: bool,
    quantized: Literal["qdq", "qoperator"] | None,
    keep_functions: bool,
    external_data: int | None,
    judged: bool,
    data: Path | None,
    precision: str | None,
    as_json: bool,
    force: bool,
) -> int:
    """Convert SOURCE to TARGET.

    SOURCE is a path, zoo:NAME, or python:MODULE:CALLABLE (your own code: it is called, what it returns is captured).
    A checkpoint needs --arch, which calls your own code, too.
    Nothing of a model file is run unless --validate asks for it.
    """
    from isomorph import screen
    from isomorph.inputs import parse_dynamic, parse_inputs, read_data
    from isomorph.report_options import spell_command
    from isomorph.sources import locate

    if data is not None and not judged:
        raise click.UsageError("--data is for --validate, which is not given")
    if precision is not None and not judged:
        raise click.UsageError("--precision is for --validate, which is not given")
    shapes, axes = parse_inputs(inputs) or None, parse_dynamic(dynamic)
    arrays = read_data(data)
    options = {
        "target_format": target_format,
        "opset": opset,
        "layout": layout,
        "simplify": simplify,
        "fold_batch_norm": fold_batch_norm,
        "onnx": _onnx_form(quantized, keep_functions, external_data),
        "force": force,
    }
    began = time.perf_counter()
    with screen.progress(quiet=as_json) as progress:
        located = locate(source, format=source_format, progress=progress).joined(arch, prefix)
        subject = _subject(located, target, target_format, shapes) if judged else None
        done = _convert(located, target, shapes, axes, progress=progress, options=options)
        seconds = time.perf_counter() - began
        report = _judge(subject, target, done, arrays, progress, precision=precision) if subject else None
        if report is not None:
            given = {"data": data, "input": inputs, "arch": arch, "prefix": prefix, "precision": precision}
            report.replay = spell_command(source, str(target), given)
    code = report.exit_code if report is not None else 0
    if as_json:
        screen.print_json(
            {
                "command": "convert",
                **done.as_dict(),
                "seconds": round(seconds, 6),
                "verdict": report.verdict.value if report is not None else None,
                "report": report.as_dict() if report is not None else None,
                "exit_code": code,
            }
        )
    else:
        _show(done, target, seconds, report, changes=simplify or fold_batch_norm)
    return code


def _onnx_form(
    quantized: Literal["qdq", "qoperator"] | None, keep_functions: bool, external_data: int | None
) -> OnnxForm | None:
    """What is asked of an ONNX file, None if nothing is."""
    from isomorph.converters.onnx.form import OnnxForm

    if quantized is None and not keep_functions and external_data is None:
        return None
    form = OnnxForm(quantized=quantized or "qdq", functions="kept" if keep_functions else "inline")
    return form if external_data is None else replace(form, external_data=external_data * 10**6)


def _convert(
    located: Source, target: Path, shapes: Inputs | None, axes: Dynamic, *, progress: Progress, options: dict[str, Any]
) -> Conversion:
    from isomorph import screen
    from isomorph.converters.convert import convert
    from isomorph.converters.files import check_target
    from isomorph.sources import refuse_dynamic

    if located.path is not None and located.architecture is None:
        refuse_dynamic(located.given, axes)
        done = convert(located.path, target, source_format=located.format, inputs=shapes, progress=progress, **options)
        done.source = located.given
        return done
    check_target(target, force=options["force"])
    screen.note(f"calling your code: {located.calls}")
    progress("capture")
    began = time.perf_counter()
    model, notes = located.captured(shapes, axes)
    seconds = time.perf_counter() - began
    done = convert(model, target, progress=progress, **options)
    done.source = located.given
    done.steps.insert(0, ("capture", seconds))
    done.notes[:0] = notes
    return done


def _subject(located: Source, target: Path, target_format: str | None, shapes: Inputs | None) -> Subject:
    """What the judge will run, known before anything is written; a missing runtime of either side is reported here."""
    from isomorph.converters.formats import by_name, by_suffix
    from isomorph.runtimes import require_runtime

    kind = by_name(target_format) if target_format else by_suffix(target)
    if kind is not None:
        require_runtime(kind)
    return located.subject(shapes)


def _judge(
    subject: Subject, target: Path, done: Conversion, arrays: Any, progress: Progress, *, precision: str | None
) -> Report:
    from isomorph.validators import validate
    from isomorph.validators.runner import ModelFile

    written = ModelFile(target, done.target_format)
    return validate(subject, written, data=arrays, progress=progress, precision=precision)


def _show(done: Conversion, target: Path, seconds: float, report: Report | None, *, changes: bool) -> None:
    from rich.text import Text

    from isomorph import screen
    from isomorph.converters.formats import by_name

    nodes = [len(model.graph.nodes) for model in (done.source_model, done.model)]
    steps = ", ".join(f"{name} {spent:.2f}" for name, spent in done.steps)
    rows: list[tuple[str, str | Text]] = [
        ("format", f"{_title(done.source_format)} -> {by_name(done.target_format).title}"),
        ("layers", _layers(done.source_model)),
        ("parameters", f"{done.parameters:,}"),
        (
            "nodes",
            f"{nodes[0]} -> {nodes[1]}, {_count(done.transposes, 'transpose')}",
        ),
        *((kind, str(text)) for kind, text in _signature(done.model)),
        ("size", f"{target.stat().st_size / 1e6:,.2f} MB"),
        ("time", f"{seconds:.2f} s ({steps})"),
        *(("note", text) for text in done.notes),
    ]
    if report is None:
        rows.append(("verdict", Text("not judged (add --validate)", style="yellow")))
    screen.show(Text.assemble((done.source, "bold"), " -> ", (str(target), "bold")), screen.fields(rows))
    if changes:
        _show_changes(done)
    if report is not None:
        screen.show()
        report.render(screen.output())


def _show_changes(done: Conversion) -> None:
    """A table of what simplifying did, step by step."""
    from isomorph import screen

    def counted(kinds: dict[str, int]) -> str:
        shown = [f"{count} {kind}" for kind, count in list(kinds.items())[:6]]
        return ", ".join(shown) + (f" and {len(kinds) - 6} more kinds" if len(kinds) > 6 else "")

    table = screen.columns("simplified", "nodes", "gone", "new", right=["nodes"])
    for change in done.changes:
        table.add_row(change.step, f"{change.before} -> {change.after}", counted(change.gone), counted(change.new))
    screen.show()
    screen.show(table if done.changes else "nothing to simplify")


def _title(format: str) -> str:
    from isomorph.converters.formats import FORMATS

    return next(
        (known.title for known in FORMATS if known.name == format), "PyTorch module" if format == "torch" else format
    )


def _layers(model: Model) -> str:
    """How many modules hold nodes, and the commonest of them by class."""
    modules = {node.scope.path: node.scope.cls.rpartition(".")[2] for node in model.graph.nodes if node.scope.path}
    if not modules:
        return "not named by the source"
    common = Counter(cls for cls in modules.values() if cls).most_common(4)
    return f"{len(modules)}" + (f" ({', '.join(f'{count} {cls}' for cls, count in common)})" if common else "")


def _signature(model: Model) -> list[tuple[str, str]]:
    rows = [("input", f"{name} {kind}") for name, kind in model.inputs.items()]
    return rows + [("output", f"{name} {kind}") for name, kind in model.outputs.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
