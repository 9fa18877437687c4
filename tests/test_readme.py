"""What README.md says is true: snippets run, the table is the table, links lead somewhere, commands parse."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from isomorph.cli import group
from isomorph.converters.formats import FORMATS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^\$ (isomorph .*?)(?:\s+#.*)?$", README, re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


def block(marker: str) -> str:
    match = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert match is not None
    return match.group(1)


def format_rows() -> str:
    """The table of formats, as README must show it."""
    rows = []
    for format in FORMATS:
        if not (format.reads or format.writes):
            continue
        suffixes = " ".join(f"`{suffix}`" for suffix in format.suffixes)
        judge = f"{format.runner}, `isomorph[{format.extra}]`" if format.extra else format.runner
        read, written = ("yes" if able else "" for able in (format.reads, format.writes))
        rows.append(f"| {format.title} | {suffixes} | {read} | {written} | {judge} |\n")
    return "| format | suffixes | read | written | judged by |\n|---|---|---|---|---|\n" + "".join(rows)


def test_the_table_of_formats_is_the_table() -> None:
    assert block("formats") == format_rows()


@pytest.mark.parametrize("marker", ["start", "install-and-test"])
def test_each_set_up_is_one_line_with_the_tested_versions(marker: str) -> None:
    (line,) = block(marker).removeprefix("```sh\n").removesuffix("```\n").splitlines()
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ")


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images.npz",):
        Path(name).touch()
    context: click.Context | None = group.make_context("isomorph", shlex.split(line)[1:])
    while context is not None and isinstance(context.command, click.Group):
        arguments = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, arguments)
        context = command.make_context(name, rest, parent=context) if command else None
    assert context is not None


def test_the_first_command_is_the_one_that_start_runs() -> None:
    assert COMMANDS[0] in block("start")


@pytest.mark.requires("torch")
def test_snippets_run_in_the_order_of_the_page(tmp_path: Path, requires: Callable[..., None]) -> None:
    assert len(SNIPPETS) == 3
    for snippet in SNIPPETS:
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{snippet}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
