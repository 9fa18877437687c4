"""Whether the target trains as the source does (`--train`): loss, gradients, updated weights, running statistics.

Both sides do the same k steps (exercise.py) from the weights in their files; R is the source in float64, S_0 the source
as it is, S_1 … on inputs moved by an ulp, T the target. Every quantity is held to the budget of compare.py, and, where
it is beyond EQUAL, to that of the second opinion (monte_carlo.py), exactly as outputs are:

    loss          (k,), before each step
    gradient      of each parameter at the first and at the last step; the last has the updates of all others in it
    change        p_k - p_0 of each weight: parameters, frozen ones (0), running statistics

The rate is a power of two near STEP·rms(p)/rms(g), over all trainable parameters, of the float64 run: a step that moves
the weights enough to show in the next gradients, and not so far that rounding is magnified.

A quantity that is zero but for rounding (a bias before batch normalization) has no relative error: it agrees if the
target's is as small as the source's. Such a quantity proves nothing; a quarter of the gradients must be more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isomorph.errors import RunnerError, UsageError
from isomorph.ir import DType
from isomorph.validators.compare import NOISE_ULPS, Comparison, chaos, compare_float, unit_roundoff
from isomorph.validators.inputs import Case
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.pairing import Pairing
from isomorph.validators.runner import FLOAT64, RunnerChoice, Subject, runner_name
from isomorph.validators.training.exercise import Exercise, Trained
from isomorph.validators.training.statistics import explain_statistics
from isomorph.validators.training.weights import (
    WeightPair,
    WeightPairing,
    names_of,
    pair_weights,
    recorded_weights,
    sums,
)
from isomorph.validators.verdict import EQUAL, INFORMATIVE_SHARE, UNEQUAL, Verdict
from isomorph.validators.workers.process import Worker

__all__ = ["STEPS", "Quantity", "Training", "check_trainable", "judge_training"]

STEPS = 3
MOMENTUM = 0.9
STEP = 2.0**-5
MOVED_RUNS = 3
NOISY_RUNS = 4
CASES = 2
_UNSETTLED = 2.0**-5
"""Noise within the bound of an implementation moves the quantity by more: a threshold is near."""
_TRAINS = ("torch", "keras")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One compared thing. `what` is "loss", "gradient, step 1", "change"; names are the weight's, "" for the loss."""

    what: str
    source: str
    target: str
    case: str
    verdict: Verdict
    comparison: Comparison
    informative: bool
    explanation: str = ""

    def __str__(self) -> str:
        name = self.source if self.source == self.target else f"{self.source} -> {self.target}"
        label = f"{self.what} of {name}" if name else self.what
        said = f"{label}: error {self.comparison.error:.1e}, {self.comparison.worst:.3g} times the budget ({self.case})"
        return f"{said}; {self.explanation}" if self.explanation else said

    def as_dict(self) -> dict[str, Any]:
        c = self.comparison
        return {
            "what": self.what, "source": self.source, "target": self.target, "case": self.case,
            "verdict": self.verdict.value, "ratio": c.worst, "error": c.error, "source_error": c.accuracy,
            "informative": self.informative, "index": list(c.index), "got": c.got, "expected": c.expected,
            "explanation": self.explanation,
        }  # fmt: skip


@dataclass(slots=True)
class Training:
    """What training showed. `quantities` has all of them, `worst` the one that decided."""

    steps: int
    verdict: Verdict = Verdict.INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quantities: list[Quantity] = field(default_factory=list)
    weights: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    moments: float = MOMENTUM

    @property
    def worst(self) -> Quantity | None:
        return max(self.quantities, key=lambda q: (_RANK[q.verdict], q.comparison.worst), default=None)

    def as_dict(self) -> dict[str, Any]:
        worst = self.worst
        return {
            "verdict": self.verdict.value, "reasons": list(self.reasons), "notes": list(self.notes),
            "steps": self.steps, "momentum": self.moments, "rates": list(self.rates), "weights": list(self.weights),
            "worst": worst.as_dict() if worst else None, "quantities": [q.as_dict() for q in self.quantities],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For a terminal."""
        agree = sum(q.verdict is Verdict.EQUIVALENT for q in self.quantities)
        head = f"training: {self.verdict.value}  {self.steps} steps, {agree} of {len(self.quantities)} quantities agree"
        worst = self.worst
        return [head, *([f"  worst: {worst}"] if worst else [])]


_RANK = {Verdict.EQUIVALENT: 0, Verdict.INCONCLUSIVE: 1, Verdict.DIFFERENT: 2}


def check_trainable(subjects: Sequence[Subject], choices: Sequence[RunnerChoice]) -> None:
    """Raise UsageError where a side has a runner that cannot train."""
    for subject, choice in zip(subjects, choices, strict=True):
        name = choice.name or runner_name(subject)
        script = getattr(subject, "format", "") == "torchscript"
        if name not in _TRAINS or script or choice.elsewhere:
            what = "TorchScript" if script else f"{name} in another interpreter" if choice.elsewhere else name
            raise UsageError(
                f"--train: {what} cannot train {subject}",
                advice="torch (.pt2, python:MODULE:CALLABLE, a checkpoint with --arch) and keras (.keras, .h5) can",
            )


def judge_training(
    left: Worker, right: Worker, target: Subject, pairing: Pairing, cases: Sequence[Case], *, steps: int, seed: int
) -> Training:
    """Train both sides on some of the cases and compare. Raises RunnerError if a process breaks."""
    training = Training(steps)
    chosen = sorted(cases, key=lambda case: case.batch < 2)[:CASES]
    try:
        for index, case in enumerate(chosen):
            _Lesson(left, right, pairing, case, training, [seed, index, 5]).judge(recorded_weights(target))
    except NotImplementedError as error:
        training.reasons.append(f"the source cannot be trained in float64: {error}")
    except RunnerError as error:
        if error.fatal:
            raise
        training.reasons.append(f"{error.what} (training)")
    _conclude(training)
    return training


class _Lesson:
    """One case."""

    def __init__(  # noqa: PLR0917 (one call)
        self, left: Worker, right: Worker, pairing: Pairing, case: Case, training: Training, seed: Sequence[int]
    ) -> None:
        self.left, self.right, self.pairing, self.case, self.training = left, right, pairing, case, training
        self.rng = np.random.default_rng(seed)
        self._noisy: list[Trained] | None = None
        self._still: tuple[Trained, Trained] | None = None

    def judge(self, record: dict[str, list[str]]) -> None:
        exercise = self._exercise()
        if exercise is None:
            return
        there = replace(exercise, cotangents=self._to_target(exercise.cotangents))
        feeds = {p.target: p.to_target(self.case.inputs[p.source]) for p in self.pairing.inputs}
        plain, got = self.left.train(self.case.inputs, exercise), self.right.train(feeds, there)
        for side, first, again in (
            ("source", plain, self.left.train(self.case.inputs, exercise)),
            ("target", got, self.right.train(feeds, there)),
        ):
            if not _same(first, again):
                self.training.reasons.append(f"the {side} trains in two ways on the same input: a random op")
                return
        exact = self.left.train(self.case.inputs, exercise, precision=FLOAT64)
        moved = [self.left.train(self.case.perturbed(self.rng, 1.0), exercise) for _ in range(MOVED_RUNS)]
        weights = pair_weights(plain, got, record)
        if not self.training.weights:
            _state_weights(self.training, weights)
            self.training.quantities += [_fact(*each) for each in sums(weights, plain, got)]
        self._compare_all(exercise, weights, exact, [plain, *moved], got)

    def _exercise(self) -> Exercise | None:
        """Cotangents from the seed, and a rate from the first gradients of the float64 run."""
        values = self.left.run(self.case.inputs, precision=FLOAT64).outputs
        floats = {name: v for name, v in values.items() if DType.of(v.dtype).is_float and v.size}
        paired = {p.source for p in self.pairing.outputs}
        cotangents = {
            name: self.rng.standard_normal(value.shape).astype(np.float32)
            for name, value in floats.items()
            if name in paired
        }
        if not cotangents:
            self.training.reasons.append("no output is a float: there is no loss")
            return None
        first = self.left.train(self.case.inputs, Exercise(1, 0.0, 0.0, cotangents), precision=FLOAT64)
        learned = [weight.name for weight in first.weights if weight.trainable]
        size = math.sqrt(sum(float((first.initial[name] ** 2).sum()) for name in learned))
        slope = math.sqrt(sum(float((first.gradients[0][name] ** 2).sum()) for name in learned))
        if not slope or not math.isfinite(slope):
            self.training.reasons.append(f"no gradient reaches a parameter of the source ({self.case.describe()})")
            return None
        rate = 2.0 ** round(math.log2(STEP * max(size, 1e-3) / slope))
        self.training.rates.append(rate)
        return Exercise(self.training.steps, rate, MOMENTUM, cotangents)

    def _to_target(self, cotangents: Any) -> dict[str, np.ndarray]:
        return {p.target: p.to_target(cotangents[p.source]) for p in self.pairing.outputs if p.source in cotangents}

    def _compare_all(
        self, exercise: Exercise, weights: WeightPairing, exact: Trained, samples: list[Trained], got: Trained
    ) -> None:
        unit = unit_roundoff(np.dtype(np.float32))
        add = self.training.quantities.append

        def judge(what: str, names: tuple[str, str], pick: Callable[[Trained], Any], found: Any) -> Quantity:
            compared = compare_float(pick(exact), [pick(each) for each in samples], found, unit)
            if compared.worst > EQUAL:
                noisy = [pick(each) for each in self._second_opinion(exercise, unit)]
                compared = compare_float(pick(exact), [pick(each) for each in samples], found, unit, noisy)
            verdict, informative = _decide(compared, float(np.sqrt(np.mean(np.square(pick(exact))))), unit)
            return Quantity(what, *names, self.case.describe(), verdict, compared, informative)

        add(judge("loss", ("", ""), lambda run: run.loss, got.loss))
        for pair in weights.pairs:
            name, names = pair.source.name, (pair.source.name, pair.target.name)
            if pair.source.trainable and pair.target.trainable:
                for step in sorted({0, exercise.steps - 1}):
                    found = pair.to_source(got.gradients[step][pair.target.name])
                    add(judge(f"gradient, step {step + 1}", names, _gradient(name, step), found))
            start, end = got.initial[pair.target.name], got.final[pair.target.name]
            change = pair.to_source(end.astype(np.float64) - start)
            quantity = judge("change", names, _change(name), change)
            if pair.source.kind == "buffer" and quantity.verdict is not Verdict.EQUIVALENT:
                quantity = replace(quantity, explanation=self._explain(exercise, pair, exact))
            add(quantity)

    def _explain(self, exercise: Exercise, pair: WeightPair, exact: Trained) -> str:
        """The convention behind running statistics that differ: with weights at rest the batch's stay the same."""
        if self._still is None:
            here = replace(exercise, rate=0.0)
            there = replace(here, cotangents=self._to_target(here.cotangents))
            feeds = {p.target: p.to_target(self.case.inputs[p.source]) for p in self.pairing.inputs}
            reference = self.left.train(self.case.inputs, here, precision=FLOAT64)
            self._still = reference, self.right.train(feeds, there)
        reference, got = self._still
        name = pair.source.name
        change = pair.to_source(got.final[pair.target.name].astype(np.float64) - got.initial[pair.target.name])
        return explain_statistics(np.asarray(exact.initial[name]), _change(name)(reference), change)

    def _second_opinion(self, exercise: Exercise, unit: float) -> list[Trained]:
        if self._noisy is None:
            try:
                self._noisy = [
                    self.left.train(self.case.inputs, exercise, precision=str(Noise(NOISE_ULPS * unit, seed)))
                    for seed in range(NOISY_RUNS)
                ]
            except NotImplementedError:
                self._noisy = []
        return self._noisy


def _gradient(name: str, step: int) -> Callable[[Trained], np.ndarray]:
    return lambda run: run.gradients[step][name]


def _change(name: str) -> Callable[[Trained], np.ndarray]:
    return lambda run: np.asarray(run.final[name].astype(np.float64) - run.initial[name])


def _decide(compared: Comparison, magnitude: float, unit: float) -> tuple[Verdict, bool]:
    """The verdict on one quantity, and whether it could have been another."""
    if compared.empty:
        return Verdict.EQUIVALENT, False
    if compared.mask is not None:
        return (Verdict.INCONCLUSIVE if compared.mask_explained else Verdict.DIFFERENT), False
    if compared.noise > _UNSETTLED and compared.worst < UNEQUAL:
        return Verdict.INCONCLUSIVE, False
    chaotic = compared.accuracy > chaos(unit)
    vanishing = compared.accuracy >= 1
    if compared.worst >= UNEQUAL and (vanishing or not chaotic):
        return Verdict.DIFFERENT, True
    if compared.worst > EQUAL:
        return Verdict.INCONCLUSIVE, False
    return Verdict.EQUIVALENT, not chaotic and magnitude > 0


def _state_weights(training: Training, pairing: WeightPairing) -> None:
    """What pairing alone shows: frozen on one side, without a counterpart, tied on one side only."""
    twice: dict[str, list[str]] = {}
    for pair in pairing.pairs:
        source, target = pair.source, pair.target
        twice.setdefault(source.name, []).append(target.name)
        training.weights.append({"source": source.name, "target": target.name, "how": pair.how})
        if source.trainable != target.trainable:
            states = ("trainable", "frozen") if source.trainable else ("frozen", "trainable")
            say = f"`{source.name}` is {states[0]} in the source, `{target.name}` {states[1]} in the target"
            training.quantities.append(_fact(source.name, target.name, say))
    for name, copies in twice.items():
        if len(copies) > 1:
            say = f"one weight of the source (`{name}`) is {len(copies)} in the target: {', '.join(copies)}"
            training.quantities.append(_fact(name, copies[0], say))
    for side, lost in (("source", pairing.only_source), ("target", pairing.only_target)):
        learned = [weight for weight in lost if weight.trainable]
        rest = [weight for weight in lost if not weight.trainable]
        if learned:
            training.reasons.append(f"trainable weights of the {side} have no counterpart: {names_of(learned)}")
        if rest:
            training.notes.append(f"weights of the {side} without a counterpart, not trained: {names_of(rest)}")
        training.weights += [{"source": None, "target": None, "how": "unpaired", side: w.name} for w in lost]


def _fact(source: str, target: str, say: str) -> Quantity:
    """A difference that needs no numbers."""
    nothing = Comparison({"mismatches": math.inf}, 0.0, math.inf, 0.0, (), math.nan, math.nan)
    return Quantity("weight", source, target, "", Verdict.DIFFERENT, nothing, True, say)


def _conclude(training: Training) -> None:
    by_verdict = {verdict: [q for q in training.quantities if q.verdict is verdict] for verdict in Verdict}
    different, open_ = by_verdict[Verdict.DIFFERENT], by_verdict[Verdict.INCONCLUSIVE]
    gradients = [q for q in training.quantities if q.what.startswith("gradient")]
    informative = sum(q.informative for q in gradients)
    if gradients and informative < max(1, math.ceil(INFORMATIVE_SHARE * len(gradients))):
        training.reasons.append(f"only {informative} of {len(gradients)} gradients are more than rounding")
    facts = [q.explanation for q in different if q.what == "weight"]
    order = sorted((q for q in different if q.what != "weight"), key=lambda q: (not q.explanation, -q.comparison.worst))
    order = list({(q.what, q.source, q.target): q for q in reversed(order)}.values())[
        ::-1
    ]  # of several cases the worst
    told = facts + [str(q) for q in order[:5]] + ([f"and {len(order) - 5} more"] if len(order) > 5 else [])
    told += [str(q) for q in open_[:3]] if not different else []
    training.reasons[:0] = told
    if different:
        training.verdict = Verdict.DIFFERENT
    elif training.reasons or not gradients:
        training.reasons += [] if training.reasons else ["nothing was trained"]
        training.verdict = Verdict.INCONCLUSIVE
    else:
        training.verdict = Verdict.EQUIVALENT


def _same(first: Trained, again: Trained) -> bool:
    mine, theirs = first.arrays(), again.arrays()
    return all(array.tobytes() == theirs[name].tobytes() for name, array in mine.items())
