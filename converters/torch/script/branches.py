"""Branches that the data decide: both are followed, what they leave different becomes the results of an `If`.

Each branch is recorded as an inner graph, the way torch.export has it for torch.cond, and imported as such. A variable
that both assign is a result if it is a tensor or a number; of tuples, lists and dicts, their parts. What cannot be a
result (a tensor here, None there) is refused if it is read afterwards. Lists, dicts and attributes that a branch
changes are put back before the other is followed, and merged in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script.arithmetic import is_number, kind_of
from isomorph.converters.torch.script.queries import Raised
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import UNINITIALIZED, NamedTuple, Number, Object, Value, is_tensor

__all__ = ["UNDECIDED", "Changes", "Undecided", "branch", "reachable", "same_value"]


@dataclass(frozen=True, slots=True)
class Undecided:
    """What a variable is that has no value in the program: reading it is refused, because of this."""

    why: str


UNDECIDED = Undecided("a variable is of another kind after one branch than after the other")
"""What a variable is whose values in two branches cannot be one result."""


@dataclass(slots=True)
class Changes:
    """What a branch changed outside of its variables, so that it can be undone: first values by identity."""

    containers: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    attributes: dict[tuple[Object, str], Value] = field(default_factory=dict)

    def container(self, owner: Value) -> None:
        """Note that a list or dict is about to change."""
        if isinstance(owner, list | dict):
            self.containers.setdefault(id(owner), (owner, owner.copy()))

    def attribute(self, owner: Object, name: str) -> None:
        """Note that an attribute is about to change."""
        self.attributes.setdefault((owner, name), owner.attributes.get(name, UNINITIALIZED))

    def undo(self) -> None:
        for owner, content in self.containers.values():
            _fill(owner, content)
        for (holder, name), value in self.attributes.items():
            holder.attributes[name] = value


@dataclass(slots=True)
class _Outcome:
    """What a branch left: variables, contents of containers, attributes; and its recorded nodes."""

    names: dict[str, Value]
    containers: dict[int, Any]
    attributes: dict[tuple[Object, str], Value]
    recording: Any


@dataclass(slots=True)
class _Merge:
    """Pairs of values that become results, and what they merge to once the results are there."""

    session: Session
    pairs: list[tuple[Value, Value]] = field(default_factory=list)

    def plan(self, left: Value, right: Value) -> Callable[[list[Value]], Value]:
        """A function from the results to the merged value."""
        if left is UNINITIALIZED or right is UNINITIALIZED:
            kept = right if left is UNINITIALIZED else left
            return lambda results: kept
        if left is right or same_value(left, right):
            return lambda results: left
        numbers = is_number(left) and is_number(right) and kind_of(left) is kind_of(right) is not complex
        if numbers or (is_tensor(left) and is_tensor(right)):
            self.pairs.append((left, right))
            place = len(self.pairs) - 1
            return lambda results: results[place]
        parts = self._parts(left, right)
        return (lambda results: UNDECIDED) if parts is None else parts

    def _parts(self, left: Value, right: Value) -> Callable[[list[Value]], Value] | None:
        if isinstance(left, dict) and isinstance(right, dict) and list(left) == list(right):
            entries = {key: self.plan(left[key], right[key]) for key in left}
            return lambda results: {key: each(results) for key, each in entries.items()}
        if not isinstance(left, list | tuple) or type(left) is not type(right) or len(left) != len(right):
            return None
        plans = [self.plan(one, other) for one, other in zip(left, right, strict=True)]
        if isinstance(left, NamedTuple):
            return lambda results: NamedTuple.of(left.title, left.fields, tuple(each(results) for each in plans))
        return lambda results: type(left)(each(results) for each in plans)


def branch(
    session: Session,
    condition: Number,
    names: dict[str, Value],
    reachable: Mapping[int, Any],
    *bodies: Callable[[dict[str, Value], Changes], None],
) -> None:
    """Follow both bodies on copies of the variables; `names` has the merged variables afterwards.

    Where one is sure to raise an exception, the other is taken. Raises Raised if both are.

    reachable  the lists and dicts that were there before, by identity
    """
    left, right = (_follow(session, body, names, reachable) for body in bodies)
    if left is None or right is None:
        bodies[1 if left is None else 0](names, Changes())
        return
    outcomes = [left, right]
    merge = _Merge(session)
    plans = {
        name: merge.plan(left.names[name], right.names[name])
        for name in left.names
        if name in right.names and (left.names[name] is not names.get(name) or right.names[name] is not names.get(name))
    }
    contents = {
        key: (owner, merge.plan(left.containers.get(key, owner), right.containers.get(key, owner)))
        for key, owner in reachable.items()
        if key in left.containers or key in right.containers
    }
    attributes = {
        (owner, name): merge.plan(
            *(each.attributes.get((owner, name), owner.attributes.get(name, UNINITIALIZED)) for each in outcomes)
        )
        for owner, name in {**left.attributes, **right.attributes}
    }
    results = _emit(session, condition, outcomes, merge.pairs)
    names.update({name: plan(results) for name, plan in plans.items()})
    for owner, plan in contents.values():
        made = plan(results)
        if made is UNDECIDED:
            session.note(
                "prim.If", "a list or dict has other lengths after one branch than after the other", session.here()
            )
        _fill(owner, made)
    for (owner, name), plan in attributes.items():
        owner.attributes[name] = plan(results)


def reachable(names: Mapping[str, Value]) -> dict[int, Value]:
    """All lists and dicts that the code can reach from here, by identity."""
    found: dict[int, Value] = {}
    seen: set[int] = set()
    pending = list(names.values())
    while pending:
        value = pending.pop()
        if isinstance(value, Object):
            if id(value) not in seen:
                seen.add(id(value))
                pending.extend(value.attributes.values())
        elif isinstance(value, list | dict):
            if id(value) not in found:
                found[id(value)] = value
                pending.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, tuple):
            pending.extend(value)
    return found


def _follow(
    session: Session, body: Callable[[dict[str, Value], Changes], None], names: dict[str, Value], reachable: Any
) -> _Outcome | None:
    """What a body leaves; None if it raises an exception."""
    own, changes = dict(names), Changes()
    session.begin_block()
    raises = False
    try:
        body(own, changes)
    except Raised:
        raises = True
    recording = session.end_block()
    if raises:
        changes.undo()
        return None
    known = set(reachable)

    def copied(value: Value, known: set[int] = known) -> Value:
        return _copied(value, known, lambda ref: session.original(recording, ref))

    outcome = _Outcome(
        {name: value if value is names.get(name) else copied(value) for name, value in own.items()},
        {key: copied(owner, known - {key}) for key, (owner, _) in changes.containers.items() if key in known},
        {(owner, name): copied(owner.attributes[name]) for owner, name in changes.attributes},
        recording,
    )
    changes.undo()
    return outcome


def _emit(
    session: Session, condition: Number, outcomes: list[_Outcome], pairs: list[tuple[Value, Value]]
) -> list[Value]:
    """The results of the node that chooses between two recorded branches."""
    changed = list(dict.fromkeys(name for each in outcomes for name in each.recording.changed))
    if not pairs and not changed:
        return []
    outputs: list[list[Any]] = [[], []]
    for pair in [*pairs, *((Ref(name), Ref(name)) for name in changed)]:
        for side, value in enumerate(pair):
            outputs[side].append(session.block_result(outcomes[side].recording, value))
    kinds = [None if is_tensor(left) else kind_of(left) for left, _ in pairs] + [None] * len(changed)
    blocks = [(each.recording, tuple(out)) for each, out in zip(outcomes, outputs, strict=True)]
    results = session.choose(condition.computed, blocks, kinds, changed)
    for name, result in zip(changed, results[len(pairs) :], strict=True):
        session.node("aten.copy_.default", {"self": Ref(name), "src": result})
    return results[: len(pairs)]


def same_value(left: Value, right: Value) -> bool:
    """Whether two values are known to be the same; True is not 1."""
    if isinstance(left, list | dict) or type(left) is not type(right):
        return False
    try:
        return bool(left == right)
    except RecursionError:
        return False


def _copied(value: Value, known: set[int], tensor: Callable[[Ref], Ref]) -> Value:
    """The value with containers copied that are not among the known ones, and `tensor` of its tensors."""
    if isinstance(value, Ref):
        return tensor(value)
    if isinstance(value, list):
        return value if id(value) in known else [_copied(each, known, tensor) for each in value]
    if isinstance(value, dict):
        return value if id(value) in known else {key: _copied(each, known, tensor) for key, each in value.items()}
    if isinstance(value, NamedTuple):
        return NamedTuple.of(value.title, value.fields, tuple(_copied(each, known, tensor) for each in value))
    return tuple(_copied(each, known, tensor) for each in value) if isinstance(value, tuple) else value


def _fill(owner: Any, content: Any) -> None:
    """Give a list or dict this content."""
    kept = content.copy()
    owner.clear()
    if isinstance(owner, list):
        owner.extend(kept)
    else:
        owner.update(kept)
