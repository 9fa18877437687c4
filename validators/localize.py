"""Which op is to blame: the first value of the target, in topological order, that is beyond its budget.

Its error must reach the nodes that read it: a node that our rules fused may hold another stage of the computation than
its name says; its readers then agree, and it is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isomorph.ir import Node, Value
from isomorph.validators.inputs import Case
from isomorph.validators.pairing import Pairing
from isomorph.validators.runner import Runner, Subject
from isomorph.validators.taps import NoTaps, Taps, compare_taps
from isomorph.validators.verdict import EQUAL, UNEQUAL, CaseResult

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

    def as_dict(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in self.__slots__
        }


def localize(target: Subject, left: Runner, right: Runner, case: Case, pairing: Pairing) -> Localization:
    """The first culprit on this case. A model that cannot be localized is no error: `note` says why."""
    try:
        taps = compare_taps(target, left, right, case, pairing)
    except NoTaps as reason:
        return Localization(note=f"not localized: {reason.what}")
    guilty = _first_guilty(taps)
    if guilty is None:
        note = "not localized: every intermediate value that could be compared is within its budget"
        return Localization(checked=len(taps.results), note=note)
    return _describe(guilty, taps)


def _first_guilty(taps: Taps) -> Node | None:
    users = taps.model.graph.users()
    for node in taps.names:
        result = taps.result(node)
        if result is None or result.comparison.worst < UNEQUAL:
            continue
        readers = _compared_readers(node, users, taps)
        if not readers or any(reader.comparison.worst > EQUAL for reader in readers):
            return node
    return None


def _compared_readers(node: Node, users: Mapping[Value, list[Node]], taps: Taps) -> list[CaseResult]:
    """The results of the nearest nodes downstream that were compared."""
    found: list[CaseResult] = []
    pending, seen = [node], {node}
    while pending:
        for output in pending.pop().outputs:
            for user in users.get(output, ()):
                if user in seen:
                    continue
                seen.add(user)
                result = taps.result(user)
                if result is not None:
                    found.append(result)
                else:
                    pending.append(user)
    return found


def _describe(node: Node, taps: Taps) -> Localization:
    name = taps.names[node]
    comparison = taps.results[name].comparison
    op = type(node.op).__name__
    small = comparison.error < 1e-2 and op in _CURVES
    return Localization(
        op=op,
        target=name,
        source=taps.origins[name],
        path=node.scope.path,
        cls=node.scope.cls,
        file=node.origin.file,
        line=node.origin.line,
        code=node.origin.code,
        where=node.describe(),
        ratio=comparison.worst,
        got=comparison.got,
        expected=comparison.expected,
        index=comparison.index,
        checked=len(taps.results),
        note=f"looks like an approximation of {op}" if small else "",
    )
