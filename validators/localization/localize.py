"""Which ops are to blame: those of the target whose result is beyond its budget when they are given the source's
operands (forced.py), in topological order.

Its error must reach the nodes that read it, or an output that has no value of its own to compare: a node that our rules
fused may hold another stage of the computation than its name says; its readers then agree, and it is passed over. An op
that only moves elements may hold them in another order than the source does (flattened channels last, the first of two
halves), which its readers' weights account for: it is a culprit only if a reader is right when it is given the source's
value of it. Where all are wrong, too, the two values do not mean the same, and the readers are judged together with it.
Where the target's runner cannot run an op by itself, the first value beyond its budget is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isomorph.errors import IsomorphError, first_line
from isomorph.ir import Node
from isomorph.validators.compare import Comparison
from isomorph.validators.inputs import Case
from isomorph.validators.localization.forced import LIMIT, Piece, Teacher
from isomorph.validators.localization.layers import Layer, along_the_graph
from isomorph.validators.localization.taps import MOVES, NoTaps, Taps, compare_taps
from isomorph.validators.localization.whereabouts import provenance, whereabouts
from isomorph.validators.pairing import Pairing
from isomorph.validators.precision import Precision
from isomorph.validators.runner import Runner, Subject
from isomorph.validators.verdict import UNEQUAL

__all__ = ["Localization", "localize"]

_CURVES = (
    "Gelu",
    "Erf",
    "Tanh",
    "Sigmoid",
    "Swish",
    "Silu",
    "Mish",
    "Softplus",
    "Selu",
    "Elu",
    "HardSwish",
    "QuickGelu",
)


@dataclass(frozen=True, slots=True)
class Localization:
    """The culprit, or in `note` why none is named.

    op, target, source   the op's kind, its name in the target, the name of the same value in the source
    path, cls            module that it belongs to; file, line, code: where the user wrote it
    ratio                its error over its budget
    checked              number of values that were compared
    others               the further culprits, in topological order, each as described here
    propagated           number of values that are wrong only because what they are made of is
    piece                the culprit by itself, with its operands; not part of the report
    layers               the error of every value that was compared; the report has them apart
    """

    op: str = ""
    target: str = ""
    source: str = ""
    path: str = ""
    cls: str = ""
    file: str = ""
    line: int = 0
    code: str = ""
    where: str = ""
    ratio: float = 0.0
    got: float = 0.0
    expected: float = 0.0
    index: tuple[int, ...] = ()
    checked: int = 0
    note: str = ""
    others: tuple[Localization, ...] = ()
    propagated: int = 0
    piece: Piece | None = None
    layers: tuple[Layer, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        plain = {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in self.__slots__
            if name not in ("others", "piece", "layers")
        }
        return {**plain, "others": [other.as_dict() for other in self.others]}


def localize(
    target: Subject,
    left: Runner,
    right: Runner,
    cases: Sequence[Case],
    pairing: Pairing,
    *,
    declared: Precision | None = None,
) -> Localization:
    """The culprits on the first case, and those that the others show besides: what one hardly depends on may be plain
    in another. A model that cannot be localized is no error: `note` says why."""
    found, *further = (_on_case(target, left, right, case, pairing, declared=declared) for case in cases)
    for more in further:
        found = _joined(found, more)
    return found


def _joined(found: Localization, more: Localization) -> Localization:
    """The culprits of two cases, each once, in topological order; what was compared is that of the first case."""
    if found.piece is None or more.piece is None:
        return found
    known = [found, *found.others]
    names = {each.target for each in known}
    new = [each for each in (more, *more.others) if each.target not in names and each.piece is not None]
    place = {layer.target: index for index, layer in enumerate(found.layers)}
    ordered = sorted([*known, *new], key=lambda each: place.get(each.target, len(place)))
    states = {each.target: "culprit" for each in new}
    layers = tuple(replace(layer, state=states.get(layer.target, layer.state)) for layer in found.layers)
    rest = tuple(replace(each, others=(), propagated=0, layers=()) for each in ordered[1:])
    return replace(ordered[0], others=rest, propagated=found.propagated, layers=layers)


def _on_case(
    target: Subject, left: Runner, right: Runner, case: Case, pairing: Pairing, *, declared: Precision | None
) -> Localization:
    try:
        taps = compare_taps(target, left, right, case, pairing, whole=True, declared=declared)
    except NoTaps as reason:
        return Localization(note=f"not localized: {reason.what}")
    suspects = _suspects(taps)
    if not suspects:
        note = "not localized: every intermediate value that could be compared is within its budget"
        return Localization(checked=len(taps.results), note=note, layers=along_the_graph(taps))
    feeds = {p.target: p.to_target(case.inputs[p.source]) for p in pairing.inputs}
    try:
        teacher = Teacher(taps, left, right, case, feeds)
        pieces = _together_with_moves(teacher, taps, teacher.judge(suspects))
    except (IsomorphError, NotImplementedError) as error:
        pieces, why = {}, f"the ops could not be judged by themselves ({first_line(error)})"
    else:
        why = "" if pieces else f"no op could be judged by itself ({teacher.refusal}): the first wrong value is named"
    layers = along_the_graph(taps, pieces)
    guilty = [node for node in suspects[:LIMIT] if (piece := pieces.get(node)) is not None and piece.guilty]
    if not guilty:
        first = _describe(suspects[0], taps, None)
        return replace(first, note=why or _PROPAGATED, layers=layers)
    culprits = [_describe(node, taps, pieces[node]) for node in guilty]
    propagated = sum(not piece.guilty for piece in pieces.values())
    return replace(culprits[0], others=tuple(culprits[1:]), propagated=propagated, layers=layers)


_NOT_COMPARED = Comparison({"rms": math.inf}, 0.0, math.inf, 0.0, (), math.nan, math.nan)
_PROPAGATED = "the first wrong value; each op that could be judged by itself is right when it is given right operands"


def _suspects(taps: Taps) -> list[Node]:
    """The ops whose result is beyond its budget, of other sizes, or NaN or infinite elsewhere, in topological order."""
    users = taps.model.graph.users()
    suspects = []
    for node in taps.names:
        result = taps.result(node)
        if taps.names[node] in taps.misshapen:
            suspects.append(node)
            continue
        if result is None or result.severity < (False, UNEQUAL):
            continue
        readers, open_end = taps.readers(node, users)
        if open_end or any(found is not None and found.doubtful for found in map(taps.result, readers)):
            suspects.append(node)
    return suspects


def _together_with_moves(teacher: Teacher, taps: Taps, pieces: Mapping[Node, Piece]) -> dict[Node, Piece]:
    """The pieces without those of moves whose value does not mean the same on both sides; their readers' reach back
    beyond them."""
    users = taps.model.graph.users()
    settled = dict(pieces)
    beyond: set[Node] = set()
    for node, piece in pieces.items():
        if type(node.op).__name__ not in MOVES or not piece.guilty:
            continue
        readers = [each for each in taps.readers(node, users)[0] if each in settled]
        if readers and all(settled[each].guilty for each in readers):
            beyond.add(node)
            del settled[node]
            settled |= teacher.judge(readers, beyond=beyond)
    return settled


def _describe(node: Node, taps: Taps, piece: Piece | None) -> Localization:
    name = taps.names[node]
    comparison = taps.results[name].comparison if name in taps.results else _NOT_COMPARED
    scope, origin = provenance(node, taps)
    op = type(node.op).__name__
    small = comparison.error < 1e-2 and op in _CURVES
    note = f"looks like an approximation of {op}" if small else ""
    if name in taps.misshapen:
        have, due = taps.misshapen[name]
        note = f"it has the shape {list(have)} where the source has {list(due)}"
    return Localization(
        **whereabouts(node, taps),
        where=origin.describe(scope),
        ratio=comparison.worst if piece is None else piece.ratio,
        got=comparison.got,
        expected=comparison.expected,
        index=comparison.index,
        checked=len(taps.results),
        note=note,
        piece=piece,
    )
