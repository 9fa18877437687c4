"""The trial: start both sides, feed both the same inputs, compare against the float64 run, decide, find the culprit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from isomorph.errors import RunnerError, UsageError
from isomorph.ir import DType
from isomorph.validators.certificates.certificate import write_certificate
from isomorph.validators.certificates.record import Recorder
from isomorph.validators.compare import compare_exact, compare_float, undecidable, unit_roundoff
from isomorph.validators.histogram import spread
from isomorph.validators.inputs import WIDE, Case, Data, data_cases, plan
from isomorph.validators.localization.layers import along_the_graph
from isomorph.validators.localization.localize import Localization, localize
from isomorph.validators.localization.named import NamedSource
from isomorph.validators.localization.reduce import check_reducible, write_reduced
from isomorph.validators.localization.taps import NoTaps, compare_taps
from isomorph.validators.localization.witness import call_witnesses
from isomorph.validators.lowered import CastInputs, input_ranges, shown_precision
from isomorph.validators.monte_carlo import DRAWS, DRAWS_DECLARED, NoisySource, reconsider
from isomorph.validators.pairing import Map, Pairing, pair, parse_map
from isomorph.validators.precision import Precision
from isomorph.validators.report import Report, Tried, describe_array
from isomorph.validators.runner import FLOAT64, ModelFile, Runner, RunnerChoice, Signature, Subject
from isomorph.validators.strict import at_thresholds, inside
from isomorph.validators.suggest import suggest_maps
from isomorph.validators.ties import contested
from isomorph.validators.training.trial import check_trainable, judge_training
from isomorph.validators.verdict import CaseResult, OutputVerdict, Verdict, decide, overall, signal
from isomorph.validators.workers.process import TIMEOUT, Worker

__all__ = ["Progress", "judge", "validate"]

Progress = Callable[[str], None]

PERTURBED_RUNS = (3, 3, 1)
"""K of the first case, of the second, of all others: runs of the source on inputs moved by an ulp."""
TIE_RUNS = 6
UNANCHORED = 16.0
"""Without a float64 run S stands in for R, and its own rounding is unknown: the floor is widened by this factor. Such a
trial can end as DIFFERENT (relative errors above 128·4·16·u = 5e-4 in float32) or INCONCLUSIVE, never as EQUIVALENT."""
_DRAWN = "it depends on random numbers: no two runs give the same, so that values prove nothing"
TIE_ULPS = 32.0
"""How far the inputs are moved to find ties of integer outputs: as many ulps as EQUAL allows a target to be off."""


def validate(
    source: Subject,
    target: Subject,
    *,
    data: Data | None = None,
    seed: int = 0,
    maps: Sequence[str] = (),
    progress: Progress | None = None,
    runners: tuple[RunnerChoice, RunnerChoice] = (RunnerChoice(), RunnerChoice()),
    timeout: float = TIMEOUT,
    memory: int | None = None,
    reduce: Path | None = None,
    certificate: Path | None = None,
    strict: bool = False,
    train: int = 0,
    precision: str | None = None,
) -> Report:
    """Judge whether `target` computes what `source` computes. This runs both models, each in a process of its own.

    data      the user's inputs by the source's names, or several such sets, judged besides the seeded ones
    maps      pairs of inputs or outputs, "SOURCE=TARGET[permutation]" (pairing.py); what they leave is paired as always
    progress  called with the name of each step when it begins
    runners   of the source and of the target: which, in which interpreter, on which device
    timeout   seconds that one request to a runner may take
    memory    bytes that each runner may allocate; by default 80 % of the machine's memory
    reduce    where to write the culprit's piece of an ONNX target (localization/reduce.py)
    certificate  where to write a certificate (certificates/certificate.py); the source then runs more often
    strict    EQUIVALENT only if every intermediate value that both sides have is within its budget, too
    train     steps of training that are compared besides (training/trial.py); 0 for none
    precision  the class that the target is declared to compute in (precision.py); by default the source's own

    Raises RunnerError if a side cannot be run at all, UsageError if data or pairing do not fit.
    """
    begun = time.perf_counter()
    wanted = [parse_map(text) for text in maps]
    if reduce is not None:
        check_reducible(target, reduce)
    declared = None if precision is None else Precision.of(precision)
    if train:
        if declared is not None:
            raise UsageError("--train compares training in the source's own precision", advice="leave out --precision")
        check_trainable((source, target), runners)
    say = progress or (lambda step: None)
    say("starting the runtimes")
    with (
        Worker(source, role="reference", choice=runners[0], timeout=timeout, memory=memory) as left,
        Worker(target, role="target", choice=runners[1], timeout=timeout, memory=memory) as right,
    ):
        asked = Recorder(left) if certificate is not None else left
        trial = _Trial(source, target, asked, right, say, strict=strict, declared=declared)
        report = trial.run(data, seed, wanted)
        if train and not report.pairing.problems:
            say("training both sides")
            cases = plan(_narrow(*report.signatures, report.pairing), seed)
            report.add_training(judge_training(left, right, target, report.pairing, cases, steps=train, seed=seed))
    if certificate is not None and isinstance(asked, Recorder):
        write_certificate(certificate, report, asked, maps=maps, choice=runners[1])
    if reduce is not None:
        report.notes.append(_reduced(reduce, target, report))
    report.seconds = time.perf_counter() - begun
    return report


def _reduced(path: Path, target: Subject, report: Report) -> str:
    piece = report.culprit.piece if report.culprit is not None else None
    if piece is None or not piece.guilty or not isinstance(target, ModelFile):
        return "--reduce: nothing was written, for no op is wrong by itself"
    return f"reduced to {write_reduced(path, target, piece)}"


def judge(
    source: Runner,
    target: Runner,
    *,
    data: Data | None = None,
    seed: int = 0,
    maps: Sequence[str] = (),
    written: Subject | None = None,
    explain: bool = True,
    strict: bool = False,
    precision: str | None = None,
) -> Report:
    """Judge two runners of the caller's own, in this process.

    `written` is the file that `target` runs: with it the pairing that the writer recorded is used, intermediate values
    are called as witnesses, and a culprit is looked for, as `validate` does. Without `explain` the trial ends with the
    verdict: no other pairing is tried and no culprit is looked for. `strict` and `precision` as in `validate`.
    """
    declared = None if precision is None else Precision.of(precision)
    trial = _Trial(None, written, source, target, lambda step: None, explain=explain, strict=strict, declared=declared)
    return trial.run(data, seed, [parse_map(text) for text in maps])


@dataclass(slots=True)
class _Run:
    """One case on all sides; arrays by the source's output names, in the source's axis order."""

    case: Case
    plain: dict[str, np.ndarray]
    moved: list[dict[str, np.ndarray]]
    target: dict[str, np.ndarray]
    reference: dict[str, np.ndarray] | None
    shapes: list[str] = field(default_factory=list)
    sizes: dict[str, str] = field(default_factory=dict)


class _Trial:
    def __init__(
        self,
        source: Subject | None,
        target: Subject | None,
        left: Runner,
        right: Runner,
        say: Progress,
        *,
        explain: bool = True,
        strict: bool = False,
        declared: Precision | None = None,
    ) -> None:
        self.explain = explain
        self.strict = strict
        self.subjects = (source, target)
        self.left = left
        self.named = NamedSource(left, source)
        self.say = say
        self.blockers: list[str] = []
        self.notes: list[str] = []
        if declared is None:
            declared = self._of_the_source(source)
        self.right = right if declared is None else CastInputs(right)
        self.no_double: str | None = None
        self.drawn: set[str] = set()
        self.data: Data | None = None
        shown = shown_precision(target)
        if declared is not None and declared.bits and shown is not None and shown.bits:
            declared = shown
        if declared is not None and declared.unit <= _unit_of(left.signature()):
            declared = None  # the source's own precision is no finer
        self.shown = shown
        self.declared = declared
        self.ranges = input_ranges(target) if declared is not None and declared.bits else {}
        self.noisy = NoisySource(left, declared, self._stretch)

    def _of_the_source(self, source: Subject | None) -> Precision | None:
        """The class of a source that computes in float16 or bfloat16 between float32 inputs and outputs, from which
        its precision does not show; else None."""
        own = shown_precision(source)
        if own is None or own.bits or own.unit <= _unit_of(self.left.signature()):
            return None
        self.notes.append(f"the source itself is {own.name} ({own.evidence}): the target is held to that")
        return own

    def run(self, data: Data | None, seed: int, maps: Sequence[Map]) -> Report:
        mine, theirs = self.left.signature(), self.right.signature()
        pairing = pair(mine, theirs, maps, self.subjects[1], self.declared)
        self.data = data
        self.notes += (
            [f"source: {note}" for note in mine.notes]
            + [f"target: {note}" for note in theirs.notes]
            + list(pairing.notes)
        )
        report = Report(self.subjects, (mine, theirs), pairing, seed, precision=self.declared)
        if pairing.problems:
            report.verdict, report.reasons = Verdict.DIFFERENT, list(pairing.problems)
            self._hint(report)
            report.notes = self.notes
            report.maps = self._suggest(report)
            return report
        narrowed = _narrow(mine, theirs, pairing)
        self.ranges = {p.source: self.ranges[p.target] for p in pairing.inputs if p.target in self.ranges}
        cases = self._calibrated(plan(narrowed, seed))
        if data is not None:
            more, notes = data_cases(data, narrowed, seed)
            cases += [*more[:-1], *self._calibrated(more[-1:])]
            self.notes += notes
            if isinstance(self.left, Recorder):
                self.left.data = [case.inputs for case in more[:-1]]  # the last one imitates them
        runs = self._run_cases(cases, pairing, seed)
        report.outputs = [self._judge_output(index, runs, mine, pairing) for index in range(len(pairing.outputs))]
        if isinstance(self.left, Recorder):
            self._complete(self.left, runs)
        self._call_witnesses(report, runs)
        if self.strict and overall(report.outputs, self.blockers) is Verdict.EQUIVALENT:
            self._look_closer(report, runs)
        self._conclude(report, runs)
        if report.verdict is Verdict.DIFFERENT:
            report.counterexample = _counterexample(report, runs)
        if report.verdict is Verdict.DIFFERENT and self.explain:
            report.maps = self._suggest(report)
            if not report.maps:
                report.culprit = self._find_culprit(report, runs)
                report.layers = report.culprit.layers if report.culprit else report.layers
        return report

    def _calibrated(self, cases: list[Case]) -> list[Case]:
        """The generated cases without those that leave the range which an int8 target was calibrated for; where its
        file does not state that of the inputs, without the families of wide ranges."""
        if self.declared is None or not self.declared.bits or self.declared.scope != "tensors":
            return cases
        kept = [case for case in cases if self._in_range(case)]
        if len(kept) < len(cases):
            left_out = ", ".join(case.describe() for case in cases if not any(case is each for each in kept))
            self.notes.append(f"beyond the range that the target was calibrated for, and left out: {left_out}")
        return kept

    def _in_range(self, case: Case) -> bool:
        floats = {name: array for name, array in case.inputs.items() if DType.of(array.dtype).is_float}
        stated = all(_within(array, self.ranges[name]) for name, array in floats.items() if name in self.ranges)
        return stated and (set(floats) <= set(self.ranges) or case.family not in WIDE)

    def _stretch(self, case: Case) -> float:
        """How much coarser the target's grid of an input is than one of the case's own range; what follows inherits
        it."""
        spans = [(low, high, case.inputs[name]) for name, (low, high) in self.ranges.items()]
        return max((_coarser(low, high, array) for low, high, array in spans), default=1.0)

    def _complete(self, recorder: Recorder, runs: Sequence[_Run]) -> None:
        """Ask for the second opinions that this target did not need but another may, and end the record."""
        self.say("completing the record of the source")
        for run in runs:
            floats = {unit_roundoff(x.dtype) for x in run.plain.values() if DType.of(x.dtype).is_float}
            for unit in sorted({*floats, _finest_unit(run.plain.values())} if run.reference is not None else ()):
                self.noisy.runs(run.case, unit, draws=self._draws)
            for name in sorted(name for name, value in run.plain.items() if value.dtype.kind in "biu"):
                self._ties(run, name)
            recorder.target.append({name: describe_array(name, x)["sha256"] for name, x in sorted(run.target.items())})
        recorder.stop()

    def _suggest(self, report: Report) -> list[str]:
        """The `--map`s under which the two would agree. A pairing that our writers recorded is not doubted; within a
        declared class none is tried."""
        if self.declared is not None or all(
            p.how == "recorded" for p in (*report.pairing.inputs, *report.pairing.outputs)
        ):
            return []
        self.say("trying other pairings")
        planned: dict[tuple[tuple[str, tuple[int, int | None]], ...], list[Case]] = {}

        def cases(pairing: Pairing) -> list[Case]:
            narrowed = _narrow(*report.signatures, pairing)
            key = tuple(sorted(narrowed.dims.items()))
            if key not in planned:
                given = [] if self.data is None else data_cases(self.data, narrowed, report.seed)[0]
                planned[key] = [*given, *plan(narrowed, report.seed)][:2]
            return planned[key]

        return [str(each) for each in suggest_maps(self.left, self.right, report.signatures, report.pairing, cases)]

    def _conclude(self, report: Report, runs: Sequence[_Run]) -> None:
        if self.no_double is not None:
            self.blockers.append(
                f"the source has no float64 run ({self.no_double}): without a reference nothing is proven equal"
            )
        shapes = sorted({problem for run in runs for problem in run.shapes})
        report.cases = [run.case.describe() for run in runs]
        report.tried = [Tried.of(run.case) for run in runs]
        report.verdict = Verdict.DIFFERENT if shapes else overall(report.outputs, self.blockers)
        reasons = [f"output `{output.source}`: {reason}" for output in report.outputs for reason in output.reasons]
        report.reasons = shapes + self.blockers + reasons
        self._hint(report)
        report.notes = self.notes

    def _hint(self, report: Report) -> None:
        """Say which class the target looks like, where it was held to another; nothing is taken for granted."""
        masked = any(each.comparison.mask for output in report.outputs for each in output.results)
        if masked and self.declared is not None and self.declared.name == "fp16":
            self.notes.append("float16 ends at 65504: where the source goes on, infinities and NaN are a difference")
        if report.verdict is Verdict.EQUIVALENT or self.shown is None:
            return
        if self.declared is None or self.declared.name != self.shown.name:
            told = f"the target looks like {self.shown.name} ({self.shown.evidence})"
            self.notes.append(f"{told}: if it is meant to be, declare it with --precision {self.shown.name}")

    def _run_cases(self, cases: Sequence[Case], pairing: Pairing, seed: int) -> list[_Run]:
        runs: list[_Run] = []
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
            run = self._run_target(case, plain, pairing)
            if not runs:
                self._run_again(run, pairing)
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

    def _run_target(self, case: Case, plain: dict[str, np.ndarray], pairing: Pairing) -> _Run:
        feeds = {p.target: p.to_target(case.inputs[p.source]) for p in pairing.inputs}
        answer = self.right.run(feeds).outputs
        run = _Run(case, plain, [], {}, None)
        for p in pairing.outputs:
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
        if source == target or self.declared is None:
            return source == target
        return self.declared.lowers(DType.of(source).value, DType.of(target).value)

    def _settle_sizes(self, run: _Run) -> None:
        """Sizes that data decide (how many boxes are kept) may be rounding's choice: then the case says nothing."""
        for name, problem in run.sizes.items():
            if self._wavers(run, name):
                self.notes.append(f"{problem}; the source itself gives either: rounding decides it")
            else:
                run.shapes.append(problem)

    def _wavers(self, run: _Run, name: str) -> bool:
        """Whether the sizes of an output change under rounding."""
        if run.reference is None:
            return False
        runs = [run.plain, run.reference, *run.moved]
        if len({each[name].shape for each in runs}) == 1:
            runs += [each.outputs for each in self.noisy.runs(run.case, _finest_unit(run.plain.values()))]
        return len({each[name].shape for each in runs}) > 1

    def _run_again(self, run: _Run, pairing: Pairing) -> None:
        """A side that answers the same question twice in two ways (random ops, dropout in training mode) proves
        nothing."""
        again = self.left.run(run.case.inputs).outputs
        self.drawn = {name for name in again if not _same(run.plain[name], again[name])}
        if self.drawn:
            self.blockers.append(
                "the source gives two answers to the same input: a random op, or a layer in training mode"
            )
        twice = self._run_target(run.case, run.plain, pairing)
        if any(not _same(value, twice.target[name]) for name, value in run.target.items() if name in twice.target):
            self.blockers.append(
                "the target gives two answers to the same input: a random op, or a layer in training mode"
            )

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

    def _judge_output(self, index: int, runs: Sequence[_Run], mine: Signature, pairing: Pairing) -> OutputVerdict:
        pair_ = pairing.outputs[index]
        name = pair_.source
        if name in self.drawn:
            return OutputVerdict(name, pair_.target, Verdict.INCONCLUSIVE, (_DRAWN,), None)
        usable = [run for run in runs if name in run.target]
        references = [run.plain[name] if run.reference is None else run.reference[name] for run in usable]
        whole = all(reference.dtype.kind in "biu" for reference in references)
        signals = signal(references, [run.case.batch for run in usable], exact=whole)

        def compare(index: int, *, again: bool) -> CaseResult:
            return self._compare(usable[index], name, references[index], signals[index], again=again)

        results = [compare(index, again=False) for index in range(len(usable))]
        if self.declared is not None and self.noisy.refusal is not None:
            why = f"the source's runner cannot round as {self.declared.name} does ({self.noisy.refusal})"
            return OutputVerdict(name, pair_.target, Verdict.INCONCLUSIVE, (why,), None)
        results = reconsider(results, lambda index: compare(index, again=True))
        return decide(name, pair_.target, results, exact=whole)

    def _compare(self, run: _Run, name: str, reference: np.ndarray, strength: float, *, again: bool) -> CaseResult:
        """One output in one case; `again` with a second opinion, from runs of the source with noise."""
        plain, target = run.plain[name], run.target[name]
        samples = [plain, *(moved[name] for moved in run.moved)]
        whole = plain.dtype.kind in "biu"
        unit = 0.0 if whole else unit_roundoff(plain.dtype)
        if {reference.shape, *(each.shape for each in samples)} != {target.shape}:
            return CaseResult(run.case.describe(), undecidable(), strength, unit)
        noisy, tied = [], None
        if (again or self.declared is not None) and run.reference is not None:
            draws = self._draws if again else DRAWS
            runs = self.noisy.runs(run.case, unit or _finest_unit(run.plain.values()), draws=draws)
            noisy = [each.outputs[name] for each in runs if each.outputs[name].shape == target.shape]
            tied = contested(name, run.reference, [each.outputs for each in runs])
        if whole:
            ties = self._ties(run, name) if again and not noisy else []
            comparison = compare_exact(reference, [*samples, *ties, *noisy], target, tied=tied)
        else:
            unit *= 1.0 if run.reference is not None else UNANCHORED
            comparison = compare_float(reference, samples, target, unit, noisy, tied=tied, declared=self.declared)
            unit = unit if self.declared is None else max(unit, self.declared.unit)
        spread_ = None if whole else spread(reference, plain, target, comparison.tolerance)
        return CaseResult(run.case.describe(), comparison, strength, unit, spread_, self.declared is not None)

    @property
    def _draws(self) -> int:
        """Runs with noise before a case speaks against the target."""
        return DRAWS if self.declared is None else DRAWS_DECLARED

    def _ties(self, run: _Run, name: str) -> list[np.ndarray]:
        """More runs of S on inputs moved as far as a good target may be off: where they flip, rounding decides."""
        rng = np.random.default_rng([7, len(name)])
        return [self.left.run(run.case.perturbed(rng, TIE_ULPS)).outputs[name] for _ in range(TIE_RUNS)]

    def _call_witnesses(self, report: Report, runs: Sequence[_Run]) -> None:
        """An output that is within its budget but proves nothing may be proven by the values before it
        (localization/witness.py)."""
        target = self.subjects[1]
        mute = [i for i, output in enumerate(report.outputs) if output.mute]
        if not mute or target is None or self.no_double is not None or not runs:
            return
        self.say("calling intermediate values as witnesses")
        run = next((run for run in runs if run.case.batch > 1), runs[0])
        try:
            taps = compare_taps(target, self.named, self.right, run.case, report.pairing, declared=self.declared)
        except NoTaps as reason:
            self.notes.append(f"no intermediate value can bear witness: {reason.what}")
            return
        report.layers = along_the_graph(taps)
        for index in mute:
            output = report.outputs[index]
            testimony = call_witnesses(taps, index)
            if testimony.holds:
                report.outputs[index] = replace(output, verdict=Verdict.EQUIVALENT, reasons=())
                said = f"proven by {testimony}, of {len(taps.results)} values that agree"
                self.notes.append(f"output `{output.source}` hardly depends on the input: {said}")
            else:
                self.notes.append(f"output `{output.source}` has no witness: {testimony}")

    def _look_closer(self, report: Report, runs: Sequence[_Run]) -> None:
        """--strict (strict.py)."""
        self.say("comparing intermediate values")
        cases = [run.case for run in runs]
        objection, layers = inside(
            self.subjects[1], self.named, self.right, cases, report.pairing, declared=self.declared
        )
        report.layers = layers if objection else report.layers or layers
        objections = [*(self._at_thresholds(pair_.source, runs) for pair_ in report.pairing.outputs), objection]
        self.blockers += [each for each in objections if each is not None][:1]

    def _at_thresholds(self, name: str, runs: Sequence[_Run]) -> str | None:
        usable = [run for run in runs if name in run.target and run.reference is not None]

        def compare(index: int, again: bool) -> CaseResult:
            run = replace(usable[index], moved=[])
            return self._compare(run, name, (run.reference or run.plain)[name], 0.0, again=again)

        if not usable or not self.noisy.runs(usable[0].case, _finest_unit(usable[0].plain.values())):
            return None
        return at_thresholds(name, len(usable), compare)

    def _find_culprit(self, report: Report, runs: Sequence[_Run]) -> Localization | None:
        target = self.subjects[1]
        guilty = next((output for output in report.outputs if output.verdict is Verdict.DIFFERENT), None)
        if target is None or guilty is None or guilty.worst is None or self.no_double is not None:
            return None
        self.say("looking for the culprit")
        run = next(run for run in runs if run.case.describe() == guilty.worst.case)
        return localize(target, self.named, self.right, run.case, report.pairing, declared=self.declared)


def _within(array: np.ndarray, ends: tuple[float, float]) -> bool:
    """Whether no element is further outside than half a step of 255."""
    step = (ends[1] - ends[0]) / 255
    return not array.size or bool(array.min() >= ends[0] - step / 2 and array.max() <= ends[1] + step / 2)


def _coarser(low: float, high: float, array: np.ndarray) -> float:
    reach = max(float(array.max(initial=0.0)), 0.0) - min(float(array.min(initial=0.0)), 0.0)
    return max(1.0, (high - low) / reach) if reach else 1.0


def _counterexample(report: Report, runs: Sequence[_Run]) -> Case | None:
    """The case that speaks most against the target: a wrong shape, else the worst of the guiltiest output."""
    misshapen = next((run.case for run in runs if run.shapes), None)
    worst = [output.worst for output in report.outputs if output.verdict is Verdict.DIFFERENT and output.worst]
    if misshapen is not None or not worst:
        return misshapen
    name = max(worst, key=lambda result: result.severity).case
    return next(run.case for run in runs if run.case.describe() == name)


def _finest_unit(arrays: Iterable[np.ndarray]) -> float:
    """The unit roundoff of the finest float type among arrays; of float32 where there is none."""
    floats = [array.dtype for array in arrays if DType.of(array.dtype).is_float]
    return min((unit_roundoff(dtype) for dtype in floats), default=unit_roundoff(np.dtype(np.float32)))


def _unit_of(signature: Signature) -> float:
    """The unit roundoff of a source: of the finest float type among its inputs and outputs."""
    types = [DType.of(spec.dtype) for spec in (*signature.inputs, *signature.outputs)]
    return _finest_unit(np.empty(0, dtype.numpy) for dtype in types if dtype is not DType.STRING)


def _narrow(mine: Signature, theirs: Signature, pairing: Pairing) -> Signature:
    """The source's signature with each named dimension that the target fixes or bounds held to that."""
    by_target = {spec.name: spec for spec in theirs.inputs}
    dims = dict(mine.dims)
    for p in pairing.inputs:
        spec = next(spec for spec in mine.inputs if spec.name == p.source)
        shape = spec.shape if p.perm is None else tuple(spec.shape[axis] for axis in p.perm)
        for size, there in zip(shape, by_target[p.target].shape, strict=True):
            if not isinstance(size, str) or size not in dims:
                continue
            low, high = (there, there) if isinstance(there, int) else theirs.dims.get(there, (1, None))
            mine_low, mine_high = dims[size]
            highest = min((bound for bound in (high, mine_high) if bound is not None), default=None)
            dims[size] = (max(low, mine_low), highest)
    return replace(mine, dims=dims)


def _short(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]} …"


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
