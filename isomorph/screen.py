"""What a person sees: colours and progress on a terminal, plain text in a pipe, JSON where it is asked for.

Results go to standard output, everything else (progress, notes, errors) to standard error. `NO_COLOR` is respected.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from isomorph.printable import printable

if TYPE_CHECKING:  # a command that prints JSON does not need it
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["VERDICT_STYLES", "columns", "fields", "json_text", "note", "output", "print_json", "progress", "show"]

VERDICT_STYLES = {"EQUIVALENT": "bold green", "DIFFERENT": "bold red", "INCONCLUSIVE": "bold yellow"}

_PIPE_WIDTH = 200
"""Columns that a table may take where there is no terminal to fit."""


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def output() -> Console:
    """The console of results."""
    return _console(sys.stdout)


def show(*renderables: RenderableType) -> None:
    """Print results. In a pipe, lines carry no trailing spaces."""
    console = output()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def note(text: str) -> None:
    """One line on standard error that is not an error."""
    from rich.text import Text

    _console(sys.stderr).print(Text(text, style="dim"))


def print_json(content: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json_text(content))


def json_text(content: Any) -> str:
    """A JSON document with a final newline; NaN and infinities become strings, because JSON has none."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(content: Any) -> Any:
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def fields(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Two columns: what, and its value. The first is dim, the second may wrap on a terminal."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(f"  {label}", printable(value) if isinstance(value, str) else value)
    return grid


def columns(*names: str, right: Sequence[str] = ()) -> Table:
    """An open table with these headings; those in `right` hold numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Within the block, the function given shows what is being done: a spinner on a terminal, nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.text import Text

    with _console(sys.stderr).status("starting") as status:
        yield lambda text: status.update(Text(text))
