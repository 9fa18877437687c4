"""Where two models differ as they are paired: would they agree if they were paired otherwise?

Tried are other inputs of the same type in another order, other axis orders of an input, and for the outputs the same.
A pairing is suggested if every output is then within EQUAL of its budget in two cases, and one of them would show a
difference there. It is never used: the report says which `--map` to try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, permutations, product

import numpy as np

from isomorph.errors import IsomorphError, RunnerError
from isomorph.validators.compare import compare_exact, compare_float, unit_roundoff
from isomorph.validators.inputs import Case
from isomorph.validators.pairing import Map, Pair, Pairing, fits
from isomorph.validators.runner import FLOAT64, Runner, Signature, TensorSpec
from isomorph.validators.verdict import CaseResult, signal

__all__ = ["suggest_maps"]

_CANDIDATES = 48
"""Pairings of the inputs that are tried, those with the fewest changes first."""
_WIDEST = 5
"""Axes of a tensor whose orders are tried."""
_CASES = 2

Plan = Callable[[Pairing], Sequence[Case]]


def suggest_maps(
    left: Runner, right: Runner, signatures: tuple[Signature, Signature], current: Pairing, plan: Plan
) -> list[Map]:
    """The maps under which the models agree, beyond what `current` does; none where nothing helps.

    plan  the cases for a pairing, sizes narrowed to what both sides take; the same objects for the same sizes
    """
    mine, theirs = signatures
    if len(mine.inputs) != len(theirs.inputs) or len(mine.outputs) != len(theirs.outputs):
        return []
    known: dict[int, _Answers] = {}
    for inputs in islice(_pairings(mine.inputs, theirs.inputs, current.inputs), _CANDIDATES):
        try:
            answers = []
            for case in plan(Pairing(inputs, ()))[:_CASES]:
                if id(case) not in known:
                    known[id(case)] = _Answers(left, case)
                answers.append(known[id(case)])
            outputs = _agreeing(right, inputs, answers, signatures, current.outputs)
        except (IsomorphError, NotImplementedError) as error:
            if isinstance(error, RunnerError) and error.fatal:
                return []
            continue
        if outputs is not None:
            return _spelled(_changes(inputs, outputs, current), signatures)
    return []


class _Answers:
    """What the source says in one case."""

    def __init__(self, left: Runner, case: Case) -> None:
        self.case = case
        self.plain = left.run(case.inputs).outputs
        self.reference: Mapping[str, np.ndarray] = left.run(case.inputs, precision=FLOAT64).outputs


_Option = tuple[str, tuple[int, ...] | None]


def _agreeing(
    right: Runner,
    inputs: Sequence[Pair],
    answers: Sequence[_Answers],
    signatures: tuple[Signature, Signature],
    current: Sequence[Pair],
) -> tuple[Pair, ...] | None:
    """A pairing of the outputs under which all of them agree in every case; None if there is none."""
    sources, targets = signatures[0].outputs, signatures[1].outputs
    now = {p.source: (p.target, p.perm) for p in current}
    options: dict[str, list[_Option]] = {
        s.name: sorted(
            ((t.name, perm) for t in targets for perm in _axis_orders(s, t)), key=lambda o: o != now.get(s.name)
        )
        for s in sources
    }
    strengths = {s.name: _strengths(s.name, answers) for s in sources}
    shown: set[str] = set()
    for index, answer in enumerate(answers):
        values = right.run({p.target: p.to_target(answer.case.inputs[p.source]) for p in inputs}).outputs
        for name, possible in options.items():
            strength = strengths[name][index]
            results = [(each, _compare(Pair(name, *each), answer, values[each[0]], strength)) for each in possible]
            agreeing = [(each, result) for each, result in results if result is not None and not result.doubtful]
            options[name] = [each for each, _ in agreeing]
            if any(result.informative for _, result in agreeing):
                shown.add(name)
        if not all(options.values()):
            return None
    return _distinct(options) if shown else None


def _distinct(options: Mapping[str, Sequence[_Option]]) -> tuple[Pair, ...] | None:
    """One option for each source, no target twice."""
    names = list(options)

    def chosen(index: int, taken: frozenset[str]) -> tuple[Pair, ...] | None:
        if index == len(names):
            return ()
        for target, perm in options[names[index]]:
            rest = None if target in taken else chosen(index + 1, taken | {target})
            if rest is not None:
                return (Pair(names[index], target, perm, "suggested"), *rest)
        return None

    return chosen(0, frozenset())


def _strengths(name: str, answers: Sequence[_Answers]) -> list[float]:
    whole = all(answer.plain[name].dtype.kind in "biu" for answer in answers)
    references = [answer.reference[name] for answer in answers]
    return signal(references, [answer.case.batch for answer in answers], exact=whole)


def _compare(p: Pair, answers: _Answers, value: np.ndarray, strength: float) -> CaseResult | None:
    plain, reference = answers.plain[p.source], answers.reference[p.source]
    if p.perm is not None and value.ndim != len(p.perm):
        return None
    value = p.to_source(value)
    if value.shape != plain.shape or value.dtype != plain.dtype:
        return None
    whole = plain.dtype.kind in "biu"
    unit = 0.0 if whole else unit_roundoff(plain.dtype)
    compared = compare_exact(reference, [plain], value) if whole else compare_float(reference, [plain], value, unit)
    return CaseResult(answers.case.describe(), compared, strength, unit)


def _pairings(
    sources: Sequence[TensorSpec], targets: Sequence[TensorSpec], current: Sequence[Pair]
) -> Iterator[tuple[Pair, ...]]:
    """Every way to pair these whose types and shapes fit: the current one first, then by the number of changes."""
    now = {p.source: (p.target, p.perm) for p in current}
    orders = list(islice(permutations(targets), 120)) if len(targets) <= 5 else [tuple(targets)]
    found = []
    for order in orders:
        axes = [_axis_orders(s, t) for s, t in zip(sources, order, strict=True)]
        for perms in islice(product(*axes), 20_000):
            chosen = zip(sources, order, perms, strict=True)
            found.append(tuple(Pair(s.name, t.name, perm, "suggested") for s, t, perm in chosen))
    yield from sorted(found, key=lambda pairs: sum(now.get(p.source) != (p.target, p.perm) for p in pairs))


def _axis_orders(source: TensorSpec, target: TensorSpec) -> list[tuple[int, ...] | None]:
    rank = len(source.shape)
    if source.dtype != target.dtype or rank != len(target.shape):
        return []
    natural: list[tuple[int, ...] | None] = [None] if fits(source, target, None) else []
    if rank > _WIDEST:
        return natural
    others = [perm for perm in permutations(range(rank)) if perm != tuple(range(rank)) and fits(source, target, perm)]
    return [*natural, *others]


def _changes(inputs: Sequence[Pair], outputs: Sequence[Pair], current: Pairing) -> list[tuple[str, Pair]]:
    """The pairs that are not the current ones; where there are none but the order is wrong, all of them: stating a
    pairing makes its order known."""
    now = {("input", p.source): (p.target, p.perm) for p in current.inputs}
    now.update({("output", p.source): (p.target, p.perm) for p in current.outputs})
    pairs = [*(("input", p) for p in inputs), *(("output", p) for p in outputs)]
    moved = [(what, p) for what, p in pairs if now.get((what, p.source)) != (p.target, p.perm)]
    return moved or (pairs if current.problems else [])


def _spelled(pairs: Sequence[tuple[str, Pair]], signatures: tuple[Signature, Signature]) -> list[Map]:
    """As maps, with "input:" or "output:" where the names alone would not say."""
    names = [{spec.name for spec in s.inputs} & {spec.name for spec in s.outputs} for s in signatures]
    return [
        Map(p.source, p.target, p.perm, what if p.source in names[0] and p.target in names[1] else "")
        for what, p in pairs
    ]
