"""`isomorph diff`: what differs between two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from rich.text import Text

    from isomorph.ir.diff import Difference
    from isomorph.ir.diff.difference import NodeDifference, Pairing, ParameterDifference, ValueDifference

__all__ = ["command"]

_KINDS = ("interface", "network", "weights", "names", "training", "metadata")


@click.command("diff")
@click.argument("a")
@click.argument("b")
@click.option(
    "--form",
    type=click.Choice(["auto", "written", "normal"]),
    default="auto",
    help="Compare as written, or in the normal form that conversions use; auto: normal if the formats differ.",
)
@click.option("--strict", is_flag=True, help="Names, training flags and metadata count, too.")
@click.option(
    "--ignore", type=click.Choice(_KINDS), multiple=True, help="A kind of difference that does not count; repeatable."
)
@click.option("--from-a", "format_a", metavar="FORMAT", help="Format of A, where its content does not tell.")
@click.option("--from-b", "format_b", metavar="FORMAT", help="Format of B, where its content does not tell.")
@click.option(
    "--input",
    "inputs",
    metavar="NAME=SHAPE[:DTYPE]",
    multiple=True,
    help="Shape of an input that a model itself does not describe (TorchScript), e.g. x=N,3,224,224.",
)
@click.option("--all", "everything", is_flag=True, help="Print every difference; else long lists are cut.")
@click.option("--json", "as_json", is_flag=True, help="Print the difference as JSON, all of it.")
def command(  # noqa: PLR0917 (click passes by name)
    a: str,
    b: str,
    form: Literal["auto", "written", "normal"],
    strict: bool,
    ignore: tuple[str, ...],
    format_a: str | None,
    format_b: str | None,
    inputs: tuple[str, ...],
    everything: bool,
    as_json: bool,
) -> int:
    """Show what differs from A to B: interface, nodes, attributes, weights, names. Nothing of them is run.

    A and B are paths, zoo:NAME or python:MODULE:CALLABLE, in any formats. Nodes are matched by structure and weights:
    what is only renamed is listed as renamed. Exit code 0: they are called alike and compute the same with the same
    weights; 1: they differ. Names of nodes and parameters, training flags and metadata count with --strict.
    """
    from isomorph import screen
    from isomorph.comparison import compare
    from isomorph.inputs import parse_inputs
    from isomorph.ir.diff import LENIENT
    from isomorph.sources import locate

    ignored = {*ignore, *(() if strict else LENIENT)}
    with screen.progress(quiet=as_json) as progress:
        located = [locate(given, format=kind, progress=progress) for given, kind in ((a, format_a), (b, format_b))]
        for each in located:
            if each.calls:
                screen.note(f"calling your code: {each.calls}")
        shapes = parse_inputs(inputs) or None
        difference = compare(located[0], located[1], form=form, inputs=shapes, progress=progress)
    code = 1 if difference.counting(ignored) else 0
    if as_json:
        screen.print_json({"command": "diff", **difference.as_dict(), "ignored": sorted(ignored), "exit_code": code})
    else:
        _show(difference, ignored, everything=everything)
    return code


_STYLES = {"added": "green", "removed": "red"}
_SIGNS = {"added": "+", "removed": "-", "renamed": "=", "moved": "="}
_ROWS = 12
"""Lines of a section, unless all are asked for."""


def _show(difference: Difference, ignored: set[str], *, everything: bool) -> None:
    from rich.text import Text

    from isomorph import screen
    from isomorph.printable import printable

    a, b = difference.a, difference.b
    head = Text.assemble((printable(a.label), "bold"), " -> ", (printable(b.label), "bold"))
    screen.show(head, screen.fields(_overview(difference)), Text(), _answer(difference, ignored))
    for title, lines in _sections(difference):
        if not lines:
            continue
        count = len([line for line in lines if not line.plain.startswith("    ")])
        shown = lines if everything else _cut(lines)
        left = count - len([line for line in shown if not line.plain.startswith("    ")])
        more = [Text(f"  ... {left:,} more (--all lists them)", style="dim")] if left else []
        screen.show(Text(), Text(f"{title} ({count:,})", style="bold"), *shown, *more)


def _cut(lines: Sequence[Text]) -> list[Text]:
    """The first entries with what is indented below them."""
    kept: list[Text] = []
    for line in lines:
        if not line.plain.startswith("    ") and len([each for each in kept if each.plain[2:3] != " "]) >= _ROWS:
            break
        kept.append(line)
    return kept


def _overview(difference: Difference) -> list[tuple[str, str | Text]]:
    a, b = difference.a, difference.b
    rows: list[tuple[str, str | Text]] = [
        (
            label,
            f"{' '.join(filter(None, side.format)) or 'model'}, {side.nodes:,} nodes, "
            f"{side.parameters:,} parameters with {side.elements:,} elements",
        )
        for label, side in (("a", a), ("b", b))
    ]
    rows.append(("form", _FORMS[difference.form]))
    rows.append(("nodes", f"{difference.same_nodes:,} the same{_counts(each.change for each in difference.nodes)}"))
    changes = _counts(each.change for each in difference.parameters if each.change not in ("renamed", "training"))
    rows.append(("weights", f"{difference.same_parameters:,} the same{changes}"))
    uneven = [each for each in difference.ops if each.a != each.b or each.changed]
    if uneven:
        texts = [f"{each.op} {each.a} {'=' if each.a == each.b else '->'} {each.b}" for each in uneven[:_ROWS]]
        rest = f", {len(uneven) - _ROWS} other kinds" if len(uneven) > _ROWS else ""
        rows.append(("ops", ", ".join(texts) + rest))
    return rows


_FORMS = {
    "written": "as written",
    "normal": "normal form: what is only spelt otherwise is no difference",
    "weights": "weights alone: a checkpoint has no program",
}


def _counts(changes: Iterable[str]) -> str:
    counts = Counter(changes)
    return "".join(f", {count:,} {change}" for change, count in counts.items())


def _answer(difference: Difference, ignored: set[str]) -> Text:
    from rich.text import Text

    counting = difference.counting(ignored)
    rest = [kind for kind in difference.kinds if kind in ignored]
    beside = f"  (not counted: {', '.join(rest)})" if rest else ""
    if counting:
        return Text.assemble(("DIFFERENT", "bold red"), f"  in {', '.join(counting)}{beside}")
    if difference.identical:
        return Text("IDENTICAL", style="bold green")
    return Text.assemble(("SAME", "bold green"), beside)


def _sections(difference: Difference) -> Iterator[tuple[str, list[Text]]]:
    yield "Interface", [_value_line(each) for each in difference.interface]
    yield "Nodes", [line for each in difference.nodes for line in _node_lines(each)]
    yield "Types of values", [_value_line(each) for each in difference.values]
    weights = [each for each in difference.parameters if each.change not in ("renamed", "training")]
    yield "Weights", [_parameter_line(each) for each in weights]
    yield "Tied weights", [_line("changed", f"{' = '.join(tie.a)} -> {' = '.join(tie.b)}") for tie in difference.ties]
    renamed = [each for each in difference.parameters if each.names.a != each.names.b and each.change == "renamed"]
    yield "Renamed parameters", [_line("renamed", f"{each.names.a} -> {each.names.b}") for each in renamed]
    yield "Renamed otherwise", [_value_line(each) for each in difference.renames]
    flags = [each for each in difference.parameters if _flags(each)]
    yield "Training", [_line("changed", f"{each.names.b} {_flags(each)}") for each in flags]
    yield (
        "Metadata",
        [
            _line(_change(*texts), f"{key}: {_short(texts[0])} -> {_short(texts[1])}")
            for key, texts in difference.metadata.items()
        ],
    )


def _line(change: str, text: str) -> Text:
    from rich.text import Text

    from isomorph.printable import printable

    sign, style = _SIGNS.get(change, "~"), _STYLES.get(change, "yellow" if change not in _SIGNS else "cyan")
    return Text.assemble("  ", (sign, style), " ", printable(text).replace("\n", " "))


def _detail(text: str) -> Text:
    from rich.text import Text

    from isomorph.printable import printable

    return Text(f"      {printable(text)}".replace("\n", " "))


def _change(a: str | None, b: str | None) -> str:
    return "added" if a is None else "removed" if b is None else "changed"


def _short(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= 60 else f"{text[:57]}..."


def _named(names: Pairing) -> str:
    if names.a is None or names.b is None or names.a == names.b:
        return str(names.a if names.b is None else names.b)
    return f"{names.a} -> {names.b}"


def _value_line(each: ValueDifference) -> Text:
    types = f"  {each.a or 'nothing'} -> {each.b or 'nothing'}" if each.a and each.b else f"  {each.a or each.b or ''}"
    note = {"moved": " changes its place", "rewired": " is computed elsewhere"}.get(each.change, "")
    return _line(each.change, f"{each.what} {_named(each.names)}{note}{types}".rstrip())


def _node_lines(each: NodeDifference) -> Iterator[Text]:
    inside = f"  in {each.region}" if each.region else ""
    at = f"  at {each.at}" if each.at and each.at not in (each.names.a, each.names.b) else ""
    yield _line(each.change, f"{_named(each.op)} {_named(each.names)}{inside}{at}")
    for name, (first, second) in each.attributes.items():
        yield _detail(f"{name}  {_short(first)} -> {_short(second)}")
    for operand in each.operands:
        yield _detail(f"operand {operand.position}  {operand.a or 'absent'} -> {operand.b or 'absent'}")


def _parameter_line(each: ParameterDifference) -> Text:
    kind = each.a if each.a == each.b or each.b is None else f"{each.a} -> {each.b}" if each.a else each.b
    return _line(each.change, f"{_named(each.names)}  {kind}{_numbers(each)}")


def _numbers(each: ParameterDifference) -> str:
    if each.change == "permuted":
        return f"  the same elements with axes {each.axes}"
    if each.change == "reshaped":
        return "  the same elements in another shape"
    numbers = each.numbers
    if numbers is None:
        return ""
    if not numbers.differing:
        return "  the same values"
    nans = f", NaN {numbers.nan_a:,} -> {numbers.nan_b:,}" if numbers.nan_a or numbers.nan_b else ""
    return (
        f"  {numbers.differing:,} of {numbers.elements:,} differ, by at most {numbers.absolute:.3g} "
        f"(relative {numbers.relative:.3g}){nans}"
    )


def _flags(each: ParameterDifference) -> str:
    """How training flag and role differ, "" if they do not."""
    words = {True: "trainable", False: "frozen"}
    texts = []
    if None not in each.trainable and each.trainable[0] != each.trainable[1]:
        texts.append(" -> ".join(words[bool(flag)] for flag in each.trainable))
    if None not in each.role and each.role[0] != each.role[1]:
        texts.append(" -> ".join(map(str, each.role)))
    return ", ".join(texts)
