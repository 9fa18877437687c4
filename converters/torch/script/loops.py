"""Loops that the data or a varying size decides: the body is followed once, for any iteration.

What the body changes becomes a variable of the loop: a tensor or number that a name, a part of a tuple or an attribute
stands for, and tensors that are changed in place. Which these are is found by following: first nothing varies, then
what came out changed does, until nothing else changes. Tensors that are appended to a list, one in each iteration,
are stacked; the list then has Rows, whose number may only be known when the model runs. A name that each iteration
sets anew, with another type than before, is refused if it is read outside of its iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script.arithmetic import is_number, kind_of
from isomorph.converters.torch.script.branches import Changes, Undecided, same_value
from isomorph.converters.torch.script.queries import Raised
from isomorph.converters.torch.script.recording import Recording
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import NamedTuple, Rows, Value, is_tensor
from isomorph.ir import Dim, DType, TensorType

__all__ = ["repeat"]

Path: TypeAlias = tuple[Any, ...]
Slot: TypeAlias = tuple[Any, str]
"""(None, name) is a variable, (object, name) an attribute."""
Follow = Callable[[dict[str, Value], Changes, Dim], None]
Test = Callable[[dict[str, Value]], Value]

_OP = "prim.Loop"
_MOST_ROUNDS = 32
_KINDS = {int: DType.INT64, float: DType.FLOAT64, bool: DType.BOOL}
_OTHER_KIND = Undecided("a variable has another type after an iteration than before the loop")


@dataclass(slots=True)
class _Varying:
    """What varies from one iteration to the next, as far as it is known.

    parts   places in variables and attributes where a tensor or number is another one afterwards
    memory  tensors from outside that are changed in place
    local   names that each iteration sets anew
    lists   lists that get one more tensor, by identity
    """

    parts: dict[Slot, list[Path]] = field(default_factory=dict)
    memory: list[str] = field(default_factory=list)
    local: set[str] = field(default_factory=set)
    lists: dict[int, list[Value]] = field(default_factory=dict)

    def places(self) -> Iterator[tuple[Slot, Path]]:
        return ((slot, path) for slot, paths in self.parts.items() for path in paths)


@dataclass(slots=True)
class _Iteration:
    """The body as followed in one round: its recording and what it leaves in each place, memory and list."""

    recording: Recording
    results: list[Any]
    added: list[tuple[Any, TensorType]]


def repeat(
    session: Session,
    names: dict[str, Value],
    reachable: Mapping[int, Value],
    body: Follow,
    *,
    test: Test | None = None,
    trips: Dim | None = None,
) -> None:
    """Emit a loop; `names`, attributes and lists have what it leaves. It runs while `test` holds, or `trips` times.

    body  runs one iteration on variables, given its number; `test` reads them
    """
    loop = _Loop(session, names, reachable, body, test)
    iteration = loop.settle()
    loop.emit(iteration, trips)


class _Loop:
    def __init__(
        self,
        session: Session,
        names: dict[str, Value],
        reachable: Mapping[int, Value],
        body: Follow,
        test: Test | None,
    ) -> None:
        self.session, self.names, self.reachable = session, names, reachable
        self.body, self.test = body, test
        self.varying = _Varying()

    def settle(self) -> _Iteration:
        """Follow the body until what varies is known."""
        for _ in range(_MOST_ROUNDS):
            iteration = self._round()
            if iteration is not None:
                return iteration
        return self._refuse("what varies from one iteration to the next is not found")

    def emit(self, iteration: _Iteration, trips: Dim | None) -> None:
        """The node, and what it leaves."""
        session, varying = self.session, self.varying
        places = list(varying.places())
        initial = [session.as_tensor(self._part(slot, path), self._type(slot, path)) for slot, path in places]
        blocks = [(iteration.recording, (*iteration.results, *(value for value, _ in iteration.added)))]
        if self.test is not None:
            blocks.insert(0, self._condition())
        count = trips if trips is not None or not varying.lists else session.new_size()
        stacked = [TensorType(kind.dtype, (count or 0, *kind.shape)) for _, kind in iteration.added]
        carried = [*initial, *map(Ref, varying.memory)]
        made = session.loop(blocks, carried, trips=trips, stacked=stacked)
        for (slot, path), ref in zip(places, made, strict=False):
            old = self._part(slot, path)
            self._put(slot, path, session.item(ref, kind_of(old)) if is_number(old) else ref)
        for name, ref in zip(varying.memory, made[len(places) :], strict=False):
            session.node("aten.copy_.default", {"self": Ref(name), "src": ref})
        for owner, ref in zip(varying.lists.values(), made[len(carried) :], strict=True):
            owner.append(Rows(ref, count or 0))
            session.tracked[id(owner)] = owner
        self.names.update(dict.fromkeys(varying.local, _OTHER_KIND))

    # one round

    def _round(self) -> _Iteration | None:
        """Follow the body with what is known to vary; None if more does."""
        session, varying = self.session, self.varying
        own, changes = dict(self.names), Changes()
        kinds = {place: self._type(*place) for place in varying.places()}
        session.begin_block()
        number = session.item(session.formal("iteration", TensorType(DType.INT64, ())), int)
        formals = self._give(own, changes, kinds)
        for name in varying.local:
            own[name] = _OTHER_KIND
        session.growing.update(varying.lists)
        started = dict(own)
        try:
            self.body(own, changes, number)
        except Raised as raised:
            session.end_block()
            changes.undo()
            self._refuse(f"its body raises an exception: {raised}")
        finally:
            for key in varying.lists:
                session.growing.pop(key, None)
        settled = self._compare(started, own, changes)
        results = [self._result(own, slot, path, kind) for (slot, path), kind in kinds.items()] if settled else []
        added = [self._added(owner, changes) for owner in varying.lists.values()] if settled else []
        types = [session.kind(each) for each in added]
        written = [name for name in formals if session.is_written(name)]
        changes.undo()
        recording = session.end_block()
        new = [name for name in recording.changed if name not in varying.memory]
        varying.memory += new
        if new or not settled:
            return None
        if written or self._aliased():
            self._refuse("it changes a tensor in place that is another one in the next iteration")
        plain = [session.block_result(recording, value) for value in results]
        slices = [session.block_result(recording, value) for value in added]
        return _Iteration(recording, [*plain, *map(Ref, varying.memory)], list(zip(slices, types, strict=True)))

    def _give(
        self, own: dict[str, Value], changes: Changes | None, kinds: Mapping[tuple[Slot, Path], TensorType]
    ) -> list[str]:
        """Let what varies be inputs of the block that is recorded; names of the tensors among them."""
        session, formals = self.session, []
        for (slot, path), kind in kinds.items():
            old, given = self._part(slot, path), session.formal("variable", kind)
            value = session.item(given, kind_of(old)) if is_number(old) else session.node(_CLONE, {"self": given})
            if is_tensor(value):
                formals.append(value.name)
            owner, name = slot
            if owner is None:
                own[name] = _replaced(own[name], path, value)
            else:
                assert changes is not None
                changes.attribute(owner, name)
                owner.attributes[name] = _replaced(owner.attributes[name], path, value)
        for name in self.varying.memory:
            session.let(name, session.formal("memory", session.kind(Ref(name))))
        return formals

    def _compare(self, started: Mapping[str, Value], own: Mapping[str, Value], changes: Changes) -> bool:
        """Note what the iteration left different; whether nothing more than what was known."""
        settled = True
        for name, before in started.items():
            after = own[name]
            if name in self.varying.local or after is before:
                continue
            found = self._differing(before, after)
            if found is None:
                self.varying.local.add(name)
                self.varying.parts.pop((None, name), None)
                settled = False
            else:
                settled &= self._note((None, name), found)
        for (owner, name), before in changes.attributes.items():
            known = self.varying.parts.get((owner, name), [])
            found = self._differing(before, owner.attributes[name])
            if found is None:
                self._refuse(f"the attribute {name} has another type after an iteration")
            settled &= self._note((owner, name), [path for path in found if path not in known])
        for key, (changed, content) in changes.containers.items():
            if key in self.reachable and key not in self.varying.lists:
                if not self._grows(changed, content):
                    self._refuse("it changes a list or dict otherwise than by appending one tensor")
                self.varying.lists[key] = changed
                settled = False
        return settled

    def _note(self, slot: Slot, found: list[Path]) -> bool:
        """Note places that vary; whether all were known."""
        known = self.varying.parts.setdefault(slot, []) if found else self.varying.parts.get(slot, [])
        new = [path for path in found if path not in known]
        known += new
        return not new

    def _differing(self, before: Value, after: Value) -> list[Path] | None:
        """The places at which two values differ; None if one cannot be a variable for both."""
        if before is after or same_value(before, after):
            return []
        if is_number(before) and is_number(after):
            return [()] if kind_of(before) is kind_of(after) in _KINDS else None
        if is_tensor(before) and is_tensor(after):
            return [()] if self.session.kind(before) == self.session.kind(after) else None
        if isinstance(before, list | tuple) and type(before) is type(after) and len(before) == len(after):
            return self._within(dict(enumerate(before)), dict(enumerate(after)))
        if isinstance(before, dict) and isinstance(after, dict) and list(before) == list(after):
            return self._within(before, after)
        return None

    def _within(self, before: Mapping[Any, Value], after: Mapping[Any, Value]) -> list[Path] | None:
        found: list[Path] = []
        for key in before:
            paths = self._differing(before[key], after[key])
            if paths is None:
                return None
            found += [(key, *path) for path in paths]
        return found

    def _grows(self, owner: Value, content: Value) -> bool:
        if not isinstance(owner, list) or len(owner) != len(content) + 1 or not is_tensor(owner[-1]):
            return False
        return all(one is other for one, other in zip(owner, content, strict=False))

    def _added(self, owner: list[Value], changes: Changes) -> Value:
        """The one tensor that the iteration appended."""
        _, content = changes.containers.get(id(owner), (owner, None))
        if content is None or not self._grows(owner, content):
            self._refuse("an iteration appends another number of tensors to a list than the first one")
        return owner[-1]

    def _aliased(self) -> bool:
        """Whether a variable begins as memory that the loop changes."""
        initial = [self._part(slot, path) for slot, path in self.varying.places()]
        return any(isinstance(value, Ref) and value.name in self.varying.memory for value in initial)

    def _condition(self) -> tuple[Recording, tuple[Any, ...]]:
        """The block that says whether there is another iteration."""
        session, own, changes = self.session, dict(self.names), Changes()
        assert self.test is not None
        kinds = {place: self._type(*place) for place in self.varying.places()}
        session.begin_block()
        self._give(own, changes, kinds)
        own.update(dict.fromkeys(self.varying.local, _OTHER_KIND))
        value = self.test(own)
        changes.undo()
        recording = session.end_block()
        if recording.changed:
            self._refuse("its condition changes a tensor in place")
        return recording, (session.block_result(recording, value),)

    # places

    def _part(self, slot: Slot, path: Path) -> Value:
        """What is at a place before the loop."""
        owner, name = slot
        value = self.names[name] if owner is None else owner.attributes[name]
        for step in path:
            value = value[step]
        return value

    def _put(self, slot: Slot, path: Path, value: Value) -> None:
        owner, name = slot
        holder = self.names if owner is None else owner.attributes
        holder[name] = _replaced(holder[name], path, value)

    def _result(self, own: Mapping[str, Value], slot: Slot, path: Path, kind: TensorType) -> Value:
        """What the iteration leaves at a place."""
        owner, name = slot
        value = own[name] if owner is None else owner.attributes[name]
        for step in path:
            value = value[step]
        return value if not is_number(value) else self.session.as_tensor(value, kind)

    def _type(self, slot: Slot, path: Path) -> TensorType:
        value = self._part(slot, path)
        return TensorType(_KINDS[kind_of(value)], ()) if is_number(value) else self.session.kind(value)

    def _refuse(self, reason: str) -> NoReturn:
        self.session.note(
            _OP, f"data or a varying size decide how often a loop runs, and {reason}", self.session.here()
        )


_CLONE = "aten.clone.default"


def _replaced(value: Value, path: Path, part: Value) -> Value:
    """The value with another part at a place."""
    if not path:
        return part
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {key: _replaced(each, rest, part) if key == step else each for key, each in value.items()}
    items = [_replaced(each, rest, part) if at == step else each for at, each in enumerate(value)]
    if isinstance(value, NamedTuple):
        return NamedTuple.of(value.title, value.fields, tuple(items))
    return type(value)(items)
