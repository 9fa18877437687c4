"""The same computation in fewer nodes, and what each step of it did.

Between formats every model is simplified; within a format on request. Layers, parameters, names and scopes stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from isomorph.ir import Model
from isomorph.ir.passes.counting import drop_counting
from isomorph.ir.passes.identities import drop_identities
from isomorph.ir.passes.movement import join_slices, shorten_moves, sink_moves
from isomorph.ir.passes.padding import merge_padding
from isomorph.ir.passes.raising import Refuse, take_all
from isomorph.ir.passes.raising.activations import raise_activations
from isomorph.ir.passes.raising.attention import raise_attention
from isomorph.ir.passes.raising.gelu import raise_gelu
from isomorph.ir.passes.raising.heads import pack_heads
from isomorph.ir.passes.raising.norm import raise_norms
from isomorph.ir.passes.raising.rotary import raise_rotary
from isomorph.ir.passes.raising.softmax import raise_softmax
from isomorph.ir.passes.rows import merge_rows
from isomorph.ir.passes.share import share
from isomorph.ir.passes.states import drop_zero_states
from isomorph.records import record

__all__ = ["STEPS", "Change", "changed", "simplify"]

Pass = Callable[[Model, Refuse], Model]


def _anywhere(run: Callable[[Model], Model]) -> Pass:
    """A pass that makes nothing that a target may lack."""
    return lambda model, refuse: run(model)


_SHARE, _SINK, _JOIN, _SHORTEN = map(_anywhere, (share, sink_moves, join_slices, shorten_moves))
STEPS: Sequence[tuple[str, Sequence[Pass]]] = (
    ("operations that change nothing", tuple(map(_anywhere, (drop_identities, drop_counting, drop_zero_states)))),
    ("computations that are made twice", (_SHARE,)),
    ("zeros around the data of convolutions", (_anywhere(merge_padding),)),
    ("normalization that is spelled out", (raise_norms,)),
    ("activations that are spelled out", (raise_gelu, raise_activations)),
    ("softmax that is spelled out", (raise_softmax,)),
    ("rotary embedding that is spelled out", (raise_rotary,)),
    ("attention that is spelled out", (raise_attention,)),
    ("products of rows on several axes", (_anywhere(merge_rows),)),
    ("heads that are split and joined", (_SINK, pack_heads)),
    ("slices that are parts of one axis", (_JOIN, _SHARE)),
    ("chains of moves", (_SINK, _SHORTEN)),
)
"""What `simplify` does, in this order."""


@record
class Change:
    """What a step did to the nodes: `gone` and `new` count operators."""

    step: str
    before: int
    after: int
    gone: dict[str, int]
    new: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; the keys are stable."""
        return {"step": self.step, "before": self.before, "after": self.after, "gone": self.gone, "new": self.new}


def simplify(model: Model, changes: list[Change] | None = None, refuse: Refuse = take_all) -> Model:
    """The same computation in fewer nodes; `changes` gets an entry for each step that changed something.

    refuse   why the target does not take a node: what it lacks is not raised
    """
    for step, passes in STEPS:
        before = model
        for run in passes:
            model = run(model, refuse)
        if changes is not None and model is not before:
            changes += changed(step, before, model)
    return model


def changed(step: str, before: Model, after: Model) -> list[Change]:
    """[what a step did], or [] if it left every operator as it was."""
    counts = [Counter(node.op.name for node in model.nodes()) for model in (before, after)]
    gone, new = counts[0] - counts[1], counts[1] - counts[0]
    if not gone and not new:
        return []
    return [Change(step, counts[0].total(), counts[1].total(), dict(gone.most_common()), dict(new.most_common()))]
