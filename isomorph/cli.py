"""The command line: knows the commands by name, imports one when it is called, turns every outcome into an exit code.

    0    done; EQUIVALENT; no difference        4    the model cannot be read or written
    1    DIFFERENT; a difference                70   a bug of isomorph
    2    the call is wrong                      130  interrupted (Ctrl-C)
    3    INCONCLUSIVE; a runner failed          141  the reader of the output went away

Imports click and nothing heavier, so that `isomorph --help` answers at once.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from isomorph import __version__
from isomorph.deferred import defer
from isomorph.errors import IsomorphError, Terminated
from isomorph.printable import printable

__all__ = ["COMMANDS", "main", "run"]

COMMANDS = {
    "convert": "Convert a model to another format.",
    "validate": "Run two models and say whether they compute the same.",
    "verify": "Ask a certified target again, without the source's framework.",
    "diff": "Show what differs between two models. Nothing of them is run.",
    "inspect": "Show what a model file contains. Nothing of it is run.",
    "formats": "List the file formats that can be read and written.",
    "doctor": "Say what is installed here and what works with it.",
    "zoo": "Real pretrained models with known answers.",
}

EXIT_UNREADABLE = 4
EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
EXIT_TERMINATED = 143


class LazyGroup(click.Group):
    """A group whose commands live in `isomorph.commands.<name>` and are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"isomorph.commands.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(COMMANDS)}."
            raise click.UsageError(f"no command is named {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Convert neural networks between frameworks, and prove that nothing changed.

    A model is a path, zoo:NAME (see `isomorph zoo list`) or python:MODULE:CALLABLE (your own code, which is called).
    """


_OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Python's own number, 700, spends a fifth of a short command on looking for garbage among modules and classes."""


def run() -> NoReturn:
    """The command `isomorph`: `main`, and the end of the process."""
    code = main()
    gc.freeze()  # else Python looks through all that was imported once more before it leaves: a seventh of the whole
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Every error of isomorph is printed here and nowhere else."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 50)
    defer("onnx", names="onnx.onnx_pb")
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = _wants_json(given)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(given)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except Exception as error:
        return _fail(error, as_json=as_json)
    return code


def _wants_json(arguments: list[str]) -> bool:
    """Whether standard output is JSON: `--json`, but not `validate … --json FILE`."""
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        if argument == "--json":
            return arguments[0] != "validate" or following.startswith("-")
    return "--json=-" in arguments


def _run(arguments: list[str]) -> int:
    """What click's own `main` does, without its handling of errors (there a closed pipe is exit code 1)."""
    if "_ISOMORPH_COMPLETE" in os.environ:
        group.main(arguments, prog_name="isomorph")
    try:
        with group.make_context("isomorph", arguments) as context:
            code = group.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return code if isinstance(code, int) else 0


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM unwinds the stack, so that temporary files go."""
    raise Terminated(EXIT_TERMINATED)


def _fail(error: Exception, *, as_json: bool) -> int:
    """Print an error (as JSON on standard output where `--json` was given) and return its exit code."""
    if os.environ.get("ISOMORPH_TRACEBACK"):
        from traceback import print_exception

        print_exception(error)
    described, code = _describe(error)
    if as_json and _told(json.dumps({**described, "exit_code": code}, indent=2)):
        return code
    _print(str(error) if isinstance(error, IsomorphError) else _as_text(described))
    return code


def _told(text: str) -> bool:
    """Print on standard output; False where that is full, and then what is still buffered for it goes nowhere."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _describe(error: Exception) -> tuple[dict[str, object], int]:
    if isinstance(error, IsomorphError):
        return error.as_dict(), error.exit_code
    because, advice, code = None, None, EXIT_UNREADABLE
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        kind, what, code = "UsageError", error.format_message(), EXIT_USAGE
        advice = f"{context.command_path} --help" if context else None
    elif isinstance(error, OSError):
        kind, what = (
            "OSError",
            f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}",
        )
    elif isinstance(error, MemoryError):
        kind, what, because = "MemoryError", "out of memory", str(error) or None
    else:
        from traceback import extract_tb

        frames = extract_tb(error.__traceback__)
        where = f"  {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119
        kind, what, code = (
            type(error).__name__,
            "unexpected error: this is a bug of isomorph, not of your model",
            EXIT_BUG,
        )
        because = f"{kind}: {error}{where}"
        advice = "run again with ISOMORPH_TRACEBACK=1 and report what it prints"
    return {"error": kind, "what": what, "at": None, "because": because, "try": advice}, code


def _as_text(described: dict[str, object]) -> str:
    labels = [f"  {label:<8} {described[label]}" for label in ("because", "try") if described[label]]
    return "\n".join([str(described["what"]), *labels])


def _print(text: str) -> None:
    color = False if os.environ.get("NO_COLOR") else None
    head, _, rest = printable(text).partition("\n")
    tail = "\n" + "\n".join(click.style(line[:10], dim=True) + line[10:] for line in rest.split("\n")) if rest else ""
    click.echo(click.style("error: ", fg="red", bold=True) + head + tail, err=True, color=color)
