"""Which runtimes the judge can start: those installed here, found without importing any of them, and those that the
user names with `--runner` and `--device`.

    --runner keras:torch                       each side that Keras runs: on its PyTorch backend
    --runner target=onnx.reference             the target by another runner
    --runner onnxruntime=/envs/old/bin/python  each side that onnxruntime runs: in another interpreter
    --runner target=program=./my_runner        the target by a program that speaks docs/runner-protocol.md
    --device cuda:1                            both sides there
    --device target=cuda                       the target only
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from isomorph.converters.formats import Format
from isomorph.errors import MissingExtraError, UsageError
from isomorph.validators.runner import PROGRAM, RunnerChoice

__all__ = ["RUNTIMES", "choose_runners", "missing", "require_runtime"]

RUNTIMES = {
    "onnxruntime": ("onnxruntime",),
    "onnx.reference": ("onnx",),
    "torch": ("torch",),
    "keras": ("keras", "tensorflow|jax|torch"),
    "tensorflow": ("tensorflow",),
    "litert": ("ai_edge_litert|tensorflow|tflite_runtime",),
}
"""Runner -> the modules it needs; `a|b` means one of them."""

_ALTERNATIVES = {"onnxruntime": ("onnx.reference",)}
"""Runner of a format -> the others that can run it."""
_BACKENDS = ("tensorflow", "jax", "torch")
_SIDES = ("source", "target")
_EXAMPLE = "write it as [source=|target=]NAME[:BACKEND][=PYTHON], for example target=onnxruntime=/envs/old/bin/python"


def missing(runner: str) -> list[str]:
    """The modules that a runner needs and that are not installed."""
    return [need for need in RUNTIMES[runner] if not any(find_spec(name) for name in need.split("|"))]


def require_runtime(format: Format, choice: RunnerChoice | None = None) -> None:
    """Raise MissingExtraError unless a file of this format can be run here, or the choice is to run it elsewhere."""
    name = choice.name if choice is not None and choice.name is not None else format.runner
    if name is None or (choice is not None and choice.elsewhere):
        return
    if absent := missing(name):
        package = absent[0].replace("|", " or ")
        raise MissingExtraError(package, format.extra or "all", purpose=f"judging a .{format.name} model")


def choose_runners(
    runners: Sequence[str], devices: Sequence[str], defaults: tuple[str | None, str | None]
) -> tuple[RunnerChoice, RunnerChoice]:
    """What `--runner` and `--device` say of the source and of the target.

    defaults  the runner of each side's format; None where no runner knows the format
    Raises UsageError that quotes what is wrong.
    """
    choices = [RunnerChoice(), RunnerChoice()]
    for text in runners:
        side, rest = _side(text)
        choice = _parse(rest, text)
        fitting = [index for index in range(2) if side in (None, _SIDES[index]) and _fits(choice, defaults[index])]
        if not fitting:
            have = " and ".join(f"the {name} is run by {runner or 'no runner'}" for name, runner in _named(defaults))
            raise UsageError(f"--runner {text!r} runs neither side", because=have, advice=_EXAMPLE)
        if choice.name == PROGRAM and side is None:
            raise UsageError(f"--runner {text!r} does not say which side", advice=f"--runner target={rest}")
        for index in fitting:
            choices[index] = replace(choice, device=choices[index].device)
    for text in devices:
        side, device = _side(text)
        if not re.fullmatch(r"[a-z]+(:\d+)?", device):
            raise UsageError(f"cannot read --device {text!r}", advice="--device cpu, cuda:1 or target=cuda")
        for index in range(2):
            if side in (None, _SIDES[index]):
                choices[index] = replace(choices[index], device=device)
    return choices[0], choices[1]


def _named(defaults: tuple[str | None, str | None]) -> list[tuple[str, str | None]]:
    return list(zip(_SIDES, defaults, strict=True))


def _side(text: str) -> tuple[str | None, str]:
    first, equals, rest = text.partition("=")
    return (first, rest) if equals and first in _SIDES else (None, text)


def _parse(text: str, option: str) -> RunnerChoice:
    spelled, _, path = text.partition("=")
    name, _, backend = spelled.partition(":")
    if name not in (*RUNTIMES, PROGRAM):
        known = ", ".join((*RUNTIMES, PROGRAM))
        raise UsageError(f"--runner {option!r}: no runner is named {name!r}", because=f"known are {known}")
    if backend and (name != "keras" or backend not in _BACKENDS):
        raise UsageError(f"--runner {option!r}: {name} has no backend {backend!r}", advice="keras:tensorflow|jax|torch")
    if name == PROGRAM and not path:
        raise UsageError(f"--runner {option!r} names no program", advice="--runner target=program=./my_runner")
    return RunnerChoice(name, backend or None, _executable(path, option) if path else None)


def _executable(path: str, option: str) -> str:
    found = shutil.which(path)
    if found is None:
        raise UsageError(f"--runner {option!r}: {path} is not an executable")
    return str(Path(found).absolute())


def _fits(choice: RunnerChoice, default: str | None) -> bool:
    if choice.name == PROGRAM:
        return True
    return default is not None and choice.name in (default, *_ALTERNATIVES.get(default, ()))
