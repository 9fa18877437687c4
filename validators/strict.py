"""What --strict asks beyond outputs that agree: nothing inside may differ, and nothing at a threshold.

    inside      every intermediate value that both sides have is within EQUAL times its budget, in every case, but for
                a move (localization/taps.py) whose readers all agree: the same elements in another order
    thresholds  every output is within its budget when S on moved inputs is left out of it

The second: an input that lies exactly on a threshold of the model (`x >= 0.5` at 0.5, a half that is rounded) is on its
other side once it is moved by a unit in the last place. A target that takes the other side there gives the exact answer
for an input that rounding could have made of the given one (backward stability), and is EQUIVALENT without --strict.
With it the budget is what S itself and noise on every operation (monte_carlo.py) make of the inputs as they are.

An objection makes the verdict INCONCLUSIVE, never DIFFERENT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isomorph.validators.inputs import Case
from isomorph.validators.localization.layers import Layer, along_the_graph
from isomorph.validators.localization.taps import NoTaps, compare_taps
from isomorph.validators.pairing import Pairing
from isomorph.validators.precision import Precision
from isomorph.validators.runner import Runner, Subject
from isomorph.validators.verdict import CaseResult

__all__ = ["at_thresholds", "inside"]


def inside(
    target: Subject | None,
    left: Runner,
    right: Runner,
    cases: Sequence[Case],
    pairing: Pairing,
    *,
    declared: Precision | None = None,
) -> tuple[str | None, tuple[Layer, ...]]:
    """The objection of the intermediate values, and what was compared."""
    if target is None:
        return "--strict: the target is not a file, its intermediate values cannot be compared", ()
    layers: tuple[Layer, ...] = ()
    for case in cases:
        try:
            taps = compare_taps(target, left, right, case, pairing, declared=declared)
        except NoTaps as reason:
            return f"--strict: no intermediate value could be compared: {reason.what}", layers
        beyond = taps.doubtful()
        if beyond:
            ratio = taps.results[beyond[0]].comparison.worst
            said = f"the intermediate value `{beyond[0]}` is at {ratio:.3g} times its budget ({case.describe()})"
            return f"--strict: the outputs agree, {said}", along_the_graph(taps)
        layers = layers or along_the_graph(taps)
    return None, layers


def at_thresholds(name: str, count: int, compare: Callable[[int, bool], CaseResult]) -> str | None:
    """The objection of one output. `compare(index, again)` compares it in a case without S on moved inputs, `again`
    with the runs with noise."""
    for index in range(count):
        found = compare(index, False)
        found = compare(index, True) if found.doubtful else found
        if _objects(found):
            return (
                f"--strict: output `{name}` agrees only if the inputs are moved by a unit in the last place, as where"
                f" one lies on a threshold of the model ({found.case})"
            )
    return None


def _objects(found: CaseResult) -> bool:
    return found.doubtful and not found.unsettled and not found.chaotic
