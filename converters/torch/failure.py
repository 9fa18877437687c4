"""Why `torch.export` refused a module, in terms of the user's code: which line fixed a size, which line raised.

Only the exception is looked at: its message, its traceback, and the shape environment that the traceback holds.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isomorph.converters.frames import user_frame
from isomorph.errors import Unsupported

__all__ = ["explain", "suggestion"]

_MOST = 8
_FIXED = re.compile(r"marked (?P<name>\w+) as dynamic but your code specialized it to be a constant \((?P<size>\d+)\)")
_BOUNDED = re.compile(
    r"Not all values of (?P<name>.+?) in the specified range satisfy the generated guard (?P<guard>.+)"
)


def explain(error: BaseException) -> list[Unsupported]:
    """One item for each size that the code fixes or bounds, with the lines that do; else the error and its line."""
    text = str(error)
    items = []
    frozen, bounded = _decisions(error)
    for match in _FIXED.finditer(text):
        places = frozen.get(int(match["size"]), [])
        items.append(
            Unsupported(match["name"], f"the code only works where this size is {match['size']}", "; ".join(places))
        )
    for match in _BOUNDED.finditer(text):
        reason = f"the code only works where {_readable(match['guard'])}"
        items.append(Unsupported(match["name"].partition(" = ")[0], reason, "; ".join(bounded[:_MOST])))
    if items:
        return items
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return [Unsupported("torch.export.export", reason, _raised_at(error))]


def suggestion(error: BaseException) -> str:
    """What torch suggests to change, if it does."""
    _, found, fixes = str(error).partition("Suggested fixes:")
    lines = [line.strip() for line in fixes.partition("\n\n")[0].splitlines() if line.strip()] if found else []
    return f"torch suggests {', '.join(lines)}" if lines else "the chained error has torch's whole message"


def _readable(guard: str) -> str:
    """A guard without the spelling of its sources: x.shape[0] for L['x'].size()[0]."""
    guard = re.sub(r"L\['(\w+)'\]", r"\1", guard)
    guard = re.sub(r" and [^ ]+ <= IntInfinity\(\)", "", guard.replace(".size()[", ".shape["))
    return guard.strip().removesuffix(".")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _decisions(error: BaseException) -> tuple[dict[int, list[str]], list[str]]:
    """({size: lines that fixed a symbol to it}, lines that put another condition on sizes)."""
    environment = next(filter(None, (_environment(each) for each in _chain(error))), None)
    frozen: dict[int, list[str]] = {}
    bounded: list[str] = []
    for guard in getattr(environment, "guards", ()):
        place = _place(guard.sloc.maybe_user_loc or guard.sloc.framework_loc)
        equal = re.fullmatch(r"Eq\(\w+, (\d+)\)", str(guard.expr))
        places = frozen.setdefault(int(equal[1]), []) if equal else bounded
        if place not in places:
            places.append(place)
    return frozen, bounded


def _place(frame: Any) -> str:
    """`nets.py:12 in forward` of a frame, whose file is told from its package on."""
    if isinstance(frame, traceback.FrameSummary):
        _, installed, below = frame.filename.replace("\\", "/").rpartition("site-packages/")
        return f"{below if installed else Path(frame.filename).name}:{frame.lineno} in {frame.name}"
    return str(frame or "")


def _environment(error: BaseException) -> Any:
    """The ShapeEnv in a frame of the traceback, None if there is none."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        holder = frame.f_locals.get("self")
        if type(holder).__name__ == "ShapeEnv":
            return holder
    return None


def _raised_at(error: BaseException) -> str:
    """The innermost line of the traceback that is the user's."""
    for each in reversed(list(_chain(error))):
        file, line, code = user_frame("".join(traceback.format_tb(each.__traceback__)))
        if file and not file.startswith("isomorph") and "converters/torch" not in file:
            return f"{file}:{line}" + (f"  `{code}`" if code else "")
    return ""
