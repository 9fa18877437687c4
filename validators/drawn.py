"""Outputs that the source draws at random, judged by their distribution (distribution.py).

Three questions are asked: the first case, the same sizes with other values, and other sizes where the model takes them.
Each is asked n times of each side; n is doubled while the answers leave it open.

EQUIVALENT says that no statistic tells the two apart, *and* that the same statistics tell the source's own answers to
the first two questions apart: an output whose randomness hides what the model makes of its input proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.ir import DType
from isomorph.validators.compare import unit_roundoff
from isomorph.validators.distribution import AGREE, DIFFER, Distribution, compare_draws
from isomorph.validators.inputs import Case, estimate_work
from isomorph.validators.pairing import Pair
from isomorph.validators.runner import Arrays
from isomorph.validators.runs import Run, Sides
from isomorph.validators.verdict import OutputVerdict, Verdict

__all__ = ["RANDOM", "Drawn", "described"]

FEWEST, DRAWS, MOST = 64, 512, 2048
"""Draws of each side for a question: of a model that is slow, at first, and where that leaves it open."""
WORK = 10e9
"""Multiply-adds that the first draws of one side may take: about 3 s of one core."""
_WHY = {
    "element": "one of its elements has another distribution",
    "overall": "its elements have another distribution",
    "joint": "its elements, taken together, have another distribution",
}


RANDOM = "of what is drawn at random, draws can show a difference; they cannot prove that there is none"


class Drawn:
    """The draws of both sides, made once for all outputs that depend on random numbers."""

    def __init__(self, sides: Sides, runs: Sequence[Run], seed: int) -> None:
        self._sides = sides
        self._seed = seed
        self._questions = _questions([run.case for run in runs], np.random.default_rng([seed, 11]))
        work = max((estimate_work(sides.left.signature(), case) for case in self._questions), default=1.0)
        self._first = int(np.clip(WORK / (work * max(len(self._questions), 1)), FEWEST, DRAWS))
        self._answers: dict[int, tuple[list[Arrays], list[Arrays]]] = {}

    def judge(self, pair: Pair) -> OutputVerdict:
        """The verdict on one output."""
        name = pair.source
        found: list[Distribution] = []
        for index in range(len(self._questions)):
            compared = self._compare(index, name)
            if compared is None:
                return OutputVerdict(name, pair.target, Verdict.INCONCLUSIVE, (_SIZES,), None)
            found.append(compared)
            if compared.worst[1] >= DIFFER:
                break
        verdict, reasons = self._decide(name, found)
        return OutputVerdict(name, pair.target, verdict, reasons, None, draws=tuple(found))

    def _compare(self, index: int, name: str) -> Distribution | None:
        """None if the sizes of the output are random themselves."""
        count = self._first
        while True:
            mine, theirs = (_stacked(answers, name) for answers in self._asked(index, count))
            if mine is None or theirs is None or mine.shape != theirs.shape:
                return None
            case = self._questions[index].describe()
            found = compare_draws(case, mine, theirs, unit=self._unit(mine.dtype), seed=self._seed)
            if not AGREE < found.worst[1] < DIFFER or 2 * count > MOST:
                return found
            count *= 2

    def _asked(self, index: int, count: int) -> tuple[list[Arrays], list[Arrays]]:
        mine, theirs = self._answers.setdefault(index, ([], []))
        if len(mine) < count:
            self._sides.say(f"drawing {count} answers of each side: {self._questions[index].describe()}")
            more = self._sides.draw(self._questions[index], count - len(mine))
            mine += more[0]
            theirs += more[1]
        return mine[:count], theirs[:count]

    def _unit(self, dtype: np.dtype) -> float:
        if not DType.of(dtype).is_float:
            return 0.0
        declared = self._sides.noisy.declared
        return max(unit_roundoff(dtype), 0.0 if declared is None else declared.unit)

    def _decide(self, name: str, found: Sequence[Distribution]) -> tuple[Verdict, tuple[str, ...]]:
        worst = max(found, key=lambda each: each.worst[1])
        statistic, z = worst.worst
        if z >= DIFFER and worst.constant:
            other = {"source": "target", "target": "source"}[worst.constant]
            said = f"the {other} draws random numbers, the {worst.constant} gives the same each time"
            return Verdict.DIFFERENT, (f"{said} ({worst.case})",)
        said = f"{worst.draws} draws of each side are {z:.3g} standard deviations apart ({worst.case})"
        if z >= DIFFER:
            return Verdict.DIFFERENT, (f"{_WHY[statistic]}: {said}",)
        if z > AGREE:
            return Verdict.INCONCLUSIVE, (f"{said}; up to {AGREE:g} is chance, from {DIFFER:g} a difference",)
        return (Verdict.EQUIVALENT, ()) if self._telling(name) else (Verdict.INCONCLUSIVE, (_MUTE,))

    def _telling(self, name: str) -> bool:
        """Whether the source's own distribution shows what its input is; True of a model without inputs."""
        if len(self._questions) < 2:
            return True
        first, second = (_stacked(self._answers[index][0][: self._first], name) for index in (0, 1))
        if first is None or second is None or first.shape != second.shape:
            return False
        return compare_draws("", first, second, unit=self._unit(first.dtype), seed=self._seed).worst[1] >= DIFFER


_SIZES = "its sizes depend on random numbers: the draws cannot be compared"
_MUTE = "its randomness hides what the model makes of the input: other inputs give the same distribution"


def described(draws: Sequence[Distribution]) -> str:
    """What was compared, for the notes of a report; "" where nothing was."""
    if not draws:
        return ""
    asked = f"compared by its distribution over {min(each.draws for each in draws)} draws of each side"
    limits = [each.resolution for each in draws if each.resolution]
    if not limits:
        return f"drawn at random, and {asked}"
    one, all_ = (max(limit[name] for limit in limits) for name in ("element", "overall"))
    seen = f"distribution functions further apart than {one:.2g} (any element) or {all_:.2g} (all) would have been seen"
    return f"drawn at random, and {asked}: {seen}"


def _questions(cases: Sequence[Case], rng: np.random.Generator) -> list[Case]:
    """The first case; its values in another order; the first case of other sizes."""
    if not cases or not cases[0].inputs:
        return list(cases[:1])
    first = cases[0]
    mixed = {name: rng.permuted(array.reshape(-1)).reshape(array.shape) for name, array in first.inputs.items()}
    shapes = _shapes(first)
    other = [case for case in cases if _shapes(case) != shapes][:1]
    return [first, Case(f"{first.family} permuted", first.dims, mixed, first.batch), *other]


def _shapes(case: Case) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in case.inputs.items()}


def _stacked(answers: Sequence[Arrays], name: str) -> np.ndarray | None:
    """None where the shape is not the same in all."""
    arrays = [answer[name] for answer in answers]
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else None
