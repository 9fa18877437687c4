"""Where an output alone proves nothing: its intermediate values are called as witnesses.

A network with untrained weights often answers every input with the same softmax: the output is within its budget, and
would be with other weights too. And of an output that is sorted by values with many near ties only some rows are
certain. The model is then judged one step earlier. An output is EQUIVALENT by witnesses if

    it is within its budget in every case (as always),
    every intermediate value that both sides have is within EQUAL times its own budget (taps.py), and
    walking up from the output, each path meets an informative value (one that changes with the input by far more than
    its tolerance) before it meets a weight: what is left unproven in between has no parameters.
"""

from __future__ import annotations

from isomorph.ir import Node, Value
from isomorph.validators.localization.taps import Taps
from isomorph.validators.verdict import EQUAL

__all__ = ["Testimony", "call_witnesses"]


class Testimony:
    """What the witnesses say of one output: `holds`, the names of the nearest informative values, or the objection."""

    def __init__(self, witnesses: tuple[str, ...], objection: str = "") -> None:
        self.witnesses = witnesses
        self.objection = objection

    @property
    def holds(self) -> bool:
        return not self.objection

    def __str__(self) -> str:
        if not self.holds:
            return self.objection
        shown = ", ".join(f"`{name}`" for name in self.witnesses[:3])
        return f"{shown} and {len(self.witnesses) - 3} more" if len(self.witnesses) > 3 else shown


def call_witnesses(taps: Taps, position: int) -> Testimony:
    """The testimony on the target's output at this position."""
    beyond = taps.doubtful()
    if beyond:
        return Testimony((), f"the intermediate value `{beyond[0]}` is beyond its budget")
    start = list(taps.model.graph.outputs.values())[position]
    witnesses: list[str] = []
    pending: list[Value] = [start]
    seen: set[Node] = set()
    while pending:
        value = pending.pop()
        node = value.producer
        if node is None:
            if value.is_input:
                return Testimony((), "no informative intermediate value stands between an input and this output")
            if value.parameter is not None and value.parameter.role != "constant":
                return Testimony((), f"nothing informative follows the weight `{value.parameter.name}`")
            continue
        if node in seen:
            continue
        seen.add(node)
        result = taps.result(node)
        if result is not None and result.informative and result.comparison.worst <= EQUAL:
            witnesses.append(taps.origins[taps.names[node]])
        else:
            pending.extend(node.operands())
    return Testimony(tuple(witnesses)) if witnesses else Testimony((), "no intermediate value is informative")
