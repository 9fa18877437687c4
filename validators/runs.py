"""The runs of a trial: both sides on every case, the source in float64 and on moved inputs besides.

What the runs alone decide is said here: a case that the source refuses, an output of another shape or type, sizes that
rounding chooses, a side that answers the same question in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from isomorph.errors import RunnerError
from isomorph.ir import DType
from isomorph.validators.compare import unit_roundoff
from isomorph.validators.distribution import rounding
from isomorph.validators.inputs import Case
from isomorph.validators.monte_carlo import NoisySource
from isomorph.validators.pairing import Pairing
from isomorph.validators.precision import Precision
from isomorph.validators.runner import FLOAT64, Arrays, Runner

__all__ = ["Progress", "Run", "Sides", "finest_unit"]

Progress: TypeAlias = Callable[[str], None]

PERTURBED_RUNS = (3, 3, 1)
"""K of the first case, of the second, of all others: runs of the source on inputs moved by an ulp."""


@dataclass(slots=True)
class Run:
    """One case on all sides; arrays by the source's output names, in the source's axis order."""

    case: Case
    plain: dict[str, np.ndarray]
    moved: list[dict[str, np.ndarray]]
    target: dict[str, np.ndarray]
    reference: dict[str, np.ndarray] | None
    shapes: list[str] = field(default_factory=list)
    sizes: dict[str, str] = field(default_factory=dict)


class Sides:
    """The source and the target of a trial, asked case by case.

    allowed    the class whose types the target's outputs may have; None: only the source's
    drawn      outputs of the source that depend on random numbers
    no_double  why the source has no float64 run; None where it has one
    blockers   why nothing can be proven equal; `notes`, what the reader of the report should know
    """

    def __init__(
        self,
        left: Runner,
        right: Runner,
        pairing: Pairing,
        noisy: NoisySource,
        say: Progress,
        *,
        allowed: Precision | None,
    ) -> None:
        self.left = left
        self.right = right
        self.pairing = pairing
        self.noisy = noisy
        self.say = say
        self.allowed = allowed
        self.drawn: set[str] = set()
        self.no_double: str | None = None
        self.blockers: list[str] = []
        self.notes: list[str] = []

    def run(self, cases: Sequence[Case], seed: int) -> list[Run]:
        runs: list[Run] = []
        failure: RunnerError | None = None
        refused: list[str] = []
        for index, case in enumerate(cases):
            self.say(f"running case {index + 1} of {len(cases)}: {case.describe()}")
            try:
                plain = dict(self.left.run(case.inputs).outputs)
            except RunnerError as error:
                if error.fatal:
                    raise
                failure = failure or error
                refused.append(f"{case.describe()} ({_short(error.because or error.what)})")
                continue
            run = self._run_target(case, plain)
            if not runs:
                self._run_again(run)
            rng = np.random.default_rng([seed, index, 1])
            moves = PERTURBED_RUNS[min(len(runs), len(PERTURBED_RUNS) - 1)]
            run.moved = [dict(self.left.run(case.perturbed(rng, 1.0)).outputs) for _ in range(moves)]
            run.reference = self._reference(case)
            self._settle_sizes(run)
            runs.append(run)
        if not runs and failure is not None:
            raise failure
        if refused:
            more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            self.notes.append(f"the source refuses {len(refused)} of {len(cases)} cases: {refused[0]}{more}")
        return runs

    def _run_target(self, case: Case, plain: dict[str, np.ndarray]) -> Run:
        feeds = {p.target: p.to_target(case.inputs[p.source]) for p in self.pairing.inputs}
        answer = self.right.run(feeds).outputs
        run = Run(case, plain, [], {}, None)
        for p in self.pairing.outputs:
            value = answer[p.target]
            if p.perm is not None and value.ndim != len(p.perm):
                run.shapes.append(f"output `{p.target}` has {value.ndim} axes where its permutation has {len(p.perm)}")
                continue
            value = p.to_source(value)
            wanted = plain[p.source]
            if value.shape != wanted.shape or not self._fits(wanted.dtype, value.dtype):
                have = f"{value.dtype} {list(value.shape)}"
                due = f"{wanted.dtype} {list(wanted.shape)}"
                problem = f"output `{p.target}` is {have}, the source's is {due} ({case.describe()})"
                if value.ndim == wanted.ndim and self._fits(wanted.dtype, value.dtype):
                    run.sizes[p.source] = problem
                else:
                    run.shapes.append(problem)
                continue
            run.target[p.source] = value
        return run

    def _fits(self, source: np.dtype, target: np.dtype) -> bool:
        """Whether an output of the target may have this type."""
        if source == target or self.allowed is None:
            return source == target
        return self.allowed.lowers(DType.of(source).value, DType.of(target).value)

    def _settle_sizes(self, run: Run) -> None:
        """Sizes that data decide (how many boxes are kept) may be rounding's choice: then the case says nothing."""
        for name, problem in run.sizes.items():
            if self._wavers(run, name):
                self.notes.append(f"{problem}; the source itself gives either: rounding decides it")
            else:
                run.shapes.append(problem)

    def _wavers(self, run: Run, name: str) -> bool:
        """Whether the sizes of an output change under rounding."""
        if run.reference is None:
            return False
        runs = [run.plain, run.reference, *run.moved]
        if len({each[name].shape for each in runs}) == 1:
            runs += [each.outputs for each in self.noisy.runs(run.case, finest_unit(run.plain.values()))]
        return len({each[name].shape for each in runs}) > 1

    def _run_again(self, run: Run) -> None:
        """A side that answers the same question twice in two ways proves nothing value by value. Outputs of the source
        that differ by more than rounding are `drawn`."""
        again = self.left.run(run.case.inputs).outputs
        unlike = [name for name in again if not _same(run.plain[name], again[name])]
        self.drawn = {name for name in unlike if not _alike(run.plain[name], again[name])}
        if len(self.drawn) < len(unlike):
            self.blockers.append("the source's last bits are not the same when it is run again: it has no fixed order")
        twice = self._run_target(run.case, run.plain)
        paired = [name for name in run.target if name in twice.target and name not in self.drawn]
        if any(not _same(run.target[name], twice.target[name]) for name in paired):
            self.blockers.append(
                "the target gives two answers to the same input: a random op, or a layer in training mode"
            )

    def draw(self, case: Case, count: int) -> tuple[list[Arrays], list[Arrays]]:
        """`count` answers of each side to the same question: the `drawn` outputs, by the source's names and in its axis
        order."""
        feeds = {p.target: p.to_target(case.inputs[p.source]) for p in self.pairing.inputs}
        pairs = [p for p in self.pairing.outputs if p.source in self.drawn]
        mine: list[Arrays] = []
        theirs: list[Arrays] = []
        for _ in range(count):
            answer = self.left.run(case.inputs).outputs
            mine.append({p.source: answer[p.source] for p in pairs})
            answer = self.right.run(feeds).outputs
            theirs.append({p.source: p.to_source(answer[p.target]) for p in pairs})
        return mine, theirs

    def _reference(self, case: Case) -> dict[str, np.ndarray] | None:
        if self.no_double is not None:
            return None
        try:
            return dict(self.left.run(case.inputs, precision=FLOAT64).outputs)
        except (NotImplementedError, RunnerError) as error:
            if isinstance(error, RunnerError) and error.fatal:
                raise
            self.no_double = error.what if isinstance(error, RunnerError) else str(error)
            return None


def finest_unit(arrays: Iterable[np.ndarray]) -> float:
    """The unit roundoff of the finest float type among arrays; of float32 where there is none."""
    floats = [array.dtype for array in arrays if DType.of(array.dtype).is_float]
    return min((unit_roundoff(dtype) for dtype in floats), default=unit_roundoff(np.dtype(np.float32)))


def _short(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]} …"


def _alike(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether rounding may have made one of the other."""
    if left.shape != right.shape or not DType.of(left.dtype).is_float:
        return False
    wide, other = left.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(finite, np.isfinite(other)):
        return False
    wide, other = wide[finite], other[finite]
    apart = rounding(unit_roundoff(left.dtype))
    return bool(np.linalg.norm(wide - other) <= apart * np.linalg.norm(wide))


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
