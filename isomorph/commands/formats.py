"""`isomorph formats`: the table of formats."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("formats")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(as_json: bool) -> int:
    """List the file formats: which are read, which are written, and what runs them for the judge."""
    from isomorph import screen
    from isomorph.converters.formats import FORMATS

    if as_json:
        rows = [
            {
                "name": format.name,
                "title": format.title,
                "suffixes": list(format.suffixes),
                "reads": format.reads,
                "writes": format.writes,
                "runner": format.runner,
                "extra": format.extra or None,
            }
            for format in FORMATS
        ]
        screen.print_json({"command": "formats", "formats": rows, "exit_code": 0})
        return 0
    table = screen.columns("name", "format", "suffixes", "read", "written", "judged by")
    for format in FORMATS:
        supported = format.reads or format.writes or format.lacks is not None
        table.add_row(
            format.name,
            format.title,
            " ".join(format.suffixes),
            "yes" if format.reads else "--arch" if format.lacks else "-",
            "yes" if format.writes else "-",
            _judge(format.runner, format.extra),
            style=None if supported else "dim",
        )
    screen.show(table)
    return 0


def _judge(runner: str | None, extra: str | None) -> str:
    if runner is None:
        return "-"
    return f"{runner} (isomorph[{extra}])" if extra else runner
