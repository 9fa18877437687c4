"""Ranges and lists whose length only the run decides: what a loop appended to, what an axis that varies unbinds to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import Rows, Value
from isomorph.errors import MalformedError
from isomorph.ir import Dim, DimRange, Sym
from isomorph.ir.shapes import ceil_div, decide, dim_max

__all__ = ["Steps", "call", "concerns"]

_APPENDS = frozenset({"append", "add_", "extend"})


@dataclass(frozen=True, slots=True)
class Steps:
    """range(start, stop, step) of sizes that vary."""

    start: Dim
    stop: Dim
    step: int

    @classmethod
    def of(cls, *limits: Dim) -> Steps:
        """As of range(): (stop), (start, stop) or (start, stop, step). Raises MalformedError for a step that varies."""
        start, stop = (0, limits[0]) if len(limits) == 1 else limits[:2]
        step = limits[2] if len(limits) == 3 else 1
        if isinstance(step, Sym):
            raise MalformedError(f"a range has the step {step}", because="it is not known when converting")
        return cls(start, stop, step)

    def trips(self, ranges: Mapping[str, DimRange]) -> Dim:
        """max(0, ceil((stop - start) / step))"""
        distance = self.stop - self.start if self.step > 0 else self.start - self.stop
        count = ceil_div(distance, abs(self.step))
        return decide(dim_max(0, count), ranges)


def concerns(session: Session, args: Sequence[Value]) -> bool:
    """Whether an argument is such a list."""
    known = session.growing.keys() | session.tracked.keys()
    return any(isinstance(each, list) and id(each) in known for each in args)


def call(
    session: Session, name: str, args: Sequence[Value], keywords: Mapping[str, Value], appended: Callable[[], Value]
) -> Value:
    """The result of an operation one of whose arguments is such a list; `appended` does it on the list itself."""
    plain = name.removeprefix("prim::")
    if plain in _APPENDS and not (len(args) > 1 and concerns(session, args[1:])):
        return appended()
    rule = _RULES.get(plain)
    if any(id(each) in session.growing for each in args):
        session.note("prim.Loop", f"`{plain}` reads a list in the loop that appends to it", session.here())
    if rule is None:
        session.note("prim.Loop", f"`{plain}` is asked of a list whose length is not known", session.here())
    return rule(session, *args, **keywords)


def _length(session: Session, items: list[Value]) -> Dim:
    total: Dim = 0
    for item in items:
        total = total + (item.count if isinstance(item, Rows) else 1)
    return total


def _item(session: Session, items: list[Value], index: Value) -> Value:
    """items[index]: of the first tensors or the last ones, or of rows alone."""
    if isinstance(index, int):
        known = items[: index + 1] if index >= 0 else items[index:]
        if len(known) == (index + 1 if index >= 0 else -index) and not any(isinstance(each, Rows) for each in known):
            return items[index]
    if len(items) == 1 and isinstance(items[0], Rows) and isinstance(index, int | Sym):
        return session.node("aten.select.int", {"self": items[0].tensor, "dim": 0, "index": index})
    return session.note("prim.Loop", f"the item {index} of a list whose length is not known", session.here())


def _stacked(session: Session, items: list[Value], dim: int = 0) -> Ref:
    """torch.stack"""
    first = items[0]
    rank = session.kind(first.tensor).rank if isinstance(first, Rows) else session.kind(first).rank + 1
    axis = dim % rank if rank else 0
    parts = [
        _moved(session, each.tensor, axis)
        if isinstance(each, Rows)
        else session.node("aten.unsqueeze.default", {"self": session.tensor(each), "dim": axis})
        for each in items
    ]
    return _joined(session, parts, axis)


def _concatenated(session: Session, items: list[Value], dim: int = 0) -> Ref:
    """torch.cat"""
    first = items[0]
    rank = session.kind(first.tensor).rank - 1 if isinstance(first, Rows) else session.kind(first).rank
    axis = dim % rank if rank else 0
    parts = [_flat(session, each.tensor, axis) if isinstance(each, Rows) else session.tensor(each) for each in items]
    return _joined(session, parts, axis)


def _moved(session: Session, rows: Ref, axis: int) -> Ref:
    """The rows along another axis."""
    if axis == 0:
        return rows
    return session.node("aten.movedim.int", {"self": rows, "source": 0, "destination": axis})


def _flat(session: Session, rows: Ref, axis: int) -> Ref:
    """The rows one after another along an axis of theirs."""
    args = {"self": _moved(session, rows, axis), "start_dim": axis, "end_dim": axis + 1}
    return session.node("aten.flatten.using_ints", args)


def _joined(session: Session, parts: list[Ref], axis: int) -> Ref:
    return parts[0] if len(parts) == 1 else session.node("aten.cat.default", {"tensors": tuple(parts), "dim": axis})


def _copied(session: Session, items: list[Value]) -> list[Value]:
    made = list(items)
    session.tracked[id(made)] = made
    return made


_RULES: dict[str, Callable[..., Value]] = {
    "len": _length,
    "__getitem__": _item,
    "select": _item,
    "stack": _stacked,
    "cat": _concatenated,
    "concat": _concatenated,
    "list": _copied,
    "copy": _copied,
}
