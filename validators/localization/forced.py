"""Teacher-forced judgment: each op of the target is given the *source's* operands, and its result held to its budget.

An error that is still there was made by this op (*generated*); one that is gone was made before it (*propagated*). So
every culprit is found, not the first, and a fault behind a fault is seen. The operands are the float64 values of the
source, rounded to the type that they have there; an op's piece of the target reaches back to the nearest values that
both sides have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isomorph.errors import RunnerError
from isomorph.ir import Node
from isomorph.validators.compare import compare_exact, compare_float, unit_roundoff
from isomorph.validators.inputs import Case
from isomorph.validators.localization.layouts import ORDERS
from isomorph.validators.localization.piece import PieceRunner
from isomorph.validators.localization.taps import Taps
from isomorph.validators.runner import FLOAT64, Arrays, Runner
from isomorph.validators.verdict import UNEQUAL

__all__ = ["LIMIT", "Piece", "Teacher"]

CHUNK = 16
LIMIT = 96
"""Ops that are judged by themselves; a fault at the front of a deep network makes everything behind it wrong."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An op by itself: values of the target from which it follows, what the source says it gives, and its error.

    ratio  its error over the budget; beyond UNEQUAL the op is a culprit
    """

    name: str
    feeds: Mapping[str, np.ndarray]
    expected: np.ndarray
    ratio: float

    @property
    def guilty(self) -> bool:
        return self.ratio >= UNEQUAL


class Teacher:
    """Judges ops of the target by themselves on one case; `inputs` are the target's own. `refusal` says why the last
    op that could not be judged was not."""

    def __init__(self, taps: Taps, left: Runner, right: Runner, case: Case, inputs: Arrays) -> None:
        self._taps = taps
        self._left = left
        self._right = right
        self._case = case
        self._inputs = inputs
        self.refusal = "the target's runner cannot run a piece of a model"

    def judge(self, suspects: Sequence[Node], *, beyond: Collection[Node] = ()) -> dict[Node, Piece]:
        """The suspects that could be judged, LIMIT at most. Empty if the target's runner cannot run pieces. A piece
        reaches back beyond the nodes of `beyond`."""
        found: dict[Node, Piece] = {}
        chosen = suspects[:LIMIT] if isinstance(self._right, PieceRunner) else ()
        for start in range(0, len(chosen), CHUNK):
            chunk = chosen[start : start + CHUNK]
            borders = {node: _border(node, self._taps, beyond) for node in chunk}
            names = {self._taps.names[node] for node in chunk} | {name for each in borders.values() for name in each}
            origins = sorted({self._taps.origins[name] for name in names})
            reference = self._left.run(self._case.inputs, taps=origins, precision=FLOAT64).taps
            plain = self._left.run(self._case.inputs, taps=origins).taps
            for node in chunk:
                piece = self._tried(self._taps.names[node], borders[node], reference, plain)
                if piece is not None:
                    found[node] = piece
            if not found:
                break
        return found

    def _tried(self, name: str, border: Sequence[str], reference: Arrays, plain: Arrays) -> Piece | None:
        try:
            return self._judge(name, border, reference, plain)
        except NotImplementedError as error:
            self.refusal = str(error)
            return None
        except RunnerError as error:
            if error.fatal:
                raise
            self.refusal = error.what
            return None

    def _judge(self, name: str, border: Sequence[str], reference: Arrays, plain: Arrays) -> Piece | None:
        taps, feeds = self._taps, dict(self._inputs)
        for each in border:
            origin = taps.origins[each]
            _, to_target = ORDERS[taps.orders[each]]
            feeds[each] = np.ascontiguousarray(to_target(reference[origin]).astype(plain[origin].dtype))
        if not isinstance(self._right, PieceRunner):
            return None
        value = self._right.run_piece(feeds, [name])[name]
        origin = taps.origins[name]
        to_source, to_target = ORDERS[taps.orders[name]]
        expected = np.ascontiguousarray(to_target(reference[origin]))
        if value.ndim != reference[origin].ndim or to_source(value).shape != reference[origin].shape:
            self.refusal = f"`{name}` has another shape than `{origin}` when it is given the source's operands"
            return Piece(name, feeds, expected, float("inf")) if name in taps.misshapen else None
        if plain[origin].dtype.kind in "biu":
            compared = compare_exact(reference[origin], [plain[origin]], to_source(value))
        else:
            unit = unit_roundoff(plain[origin].dtype)
            compared = compare_float(reference[origin], [plain[origin]], to_source(value), unit)
        ratio = float("inf") if compared.mask is not None else compared.worst
        return Piece(name, feeds, expected, ratio)


def _border(node: Node, taps: Taps, beyond: Collection[Node]) -> list[str]:
    """Names of the nearest values before this op that both sides have, of one kind and rank, and not in `beyond`."""
    border: dict[str, None] = {}
    pending, seen = [value.producer for value in node.operands()], {node}
    while pending:
        maker = pending.pop()
        if maker is None or maker in seen:
            continue
        seen.add(maker)
        if taps.is_known(maker) and maker not in beyond:
            border[taps.names[maker]] = None
        else:
            pending.extend(value.producer for value in maker.operands())
    return list(border)
