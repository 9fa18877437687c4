"""The error of each value along the graph, for reports: what localization and witnesses saw anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isomorph.ir import Node
from isomorph.validators.localization.forced import Piece
from isomorph.validators.localization.taps import Taps
from isomorph.validators.localization.whereabouts import whereabouts
from isomorph.validators.verdict import UNEQUAL

__all__ = ["Layer", "along_the_graph"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One value that both sides have, in topological order of the target.

    op, target, source       the op's kind, its name in the target, the name of the same value in the source
    path, cls                module that it belongs to; file, line, code: where the user wrote it
    ratio                    its error over its budget, as the model runs
    error, source_error      relative RMS error of the target's value and of the source's, against the float64 run
    generated                its error over its budget when it is given the source's operands; None if nobody asked
    state                    "right", also of a move that arranges the same elements in another way; "culprit": this op
                             makes an error; "carried": its operands make it wrong; "wrong": nobody could ask which
    """

    op: str
    target: str
    source: str
    path: str
    cls: str
    file: str
    line: int
    code: str
    ratio: float
    error: float
    source_error: float
    generated: float | None
    state: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def along_the_graph(taps: Taps, pieces: Mapping[Node, Piece] | None = None) -> tuple[Layer, ...]:
    """Every value that was compared. `pieces` are the ops that were judged by themselves (forced.py)."""
    judged = pieces or {}
    doubtful = set(taps.doubtful())
    found = []
    for node, name in taps.names.items():
        result = taps.results.get(name)
        if result is None:
            continue
        piece, ratio = judged.get(node), result.comparison.worst
        found.append(
            Layer(
                **whereabouts(node, taps),
                ratio=ratio,
                error=result.comparison.error,
                source_error=result.comparison.accuracy,
                generated=None if piece is None else piece.ratio,
                state=_state(ratio if name in doubtful else 0.0, piece),
            )
        )
    return tuple(found)


def _state(ratio: float, piece: Piece | None) -> str:
    if piece is not None:
        return "culprit" if piece.guilty else "carried"
    return "wrong" if ratio >= UNEQUAL else "right"
