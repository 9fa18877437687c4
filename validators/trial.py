"""The trial: start both sides, feed both the same inputs, compare against the float64 run, decide, find the culprit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from isomorph.errors import UsageError
from isomorph.ir import DType
from isomorph.validators.certificates.certificate import write_certificate
from isomorph.validators.certificates.record import Recorder
from isomorph.validators.drawn import RANDOM, described
from isomorph.validators.inputs import Case, Data, data_cases, further, plan
from isomorph.validators.localization.layers import along_the_graph
from isomorph.validators.localization.localize import Localization, localize
from isomorph.validators.localization.named import NamedSource
from isomorph.validators.localization.reduce import check_reducible, write_reduced
from isomorph.validators.localization.taps import NoTaps, compare_taps
from isomorph.validators.localization.witness import call_witnesses
from isomorph.validators.lowered import CastInputs, input_ranges, shown_precision
from isomorph.validators.monte_carlo import NoisySource
from isomorph.validators.outputs import Outputs
from isomorph.validators.pairing import Map, Pairing, common_sizes, missing_sizes, pair, parse_map
from isomorph.validators.precision import Precision
from isomorph.validators.ranges import Ranges
from isomorph.validators.report import Report, Tried
from isomorph.validators.runner import ModelFile, Runner, RunnerChoice, Signature, Subject
from isomorph.validators.runs import Progress, Run, Sides, finest_unit
from isomorph.validators.strict import inside
from isomorph.validators.suggest import suggest_maps
from isomorph.validators.training.trial import check_trainable, judge_training
from isomorph.validators.verdict import OutputVerdict, Verdict, overall
from isomorph.validators.workers.process import TIMEOUT, Worker

__all__ = ["Progress", "judge", "validate"]

ENOUGH = 1024
"""Elements of an output of whole numbers: a fault that changes one decision in a hundred is missed with e^-10."""


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
    reduce    where to write the culprit's piece of an ONNX or Keras target (localization/reduce.py)
    certificate  where to write a certificate (certificates/certificate.py); the source then runs more often
    strict    EQUIVALENT only if every intermediate value that both sides have is within its budget, too
    train     steps of training that are compared besides (training/trial.py); 0 for none
    precision  the class that the target is declared to compute in (precision.py); by default the source's own

    Raises RunnerError if a side cannot be run at all, UsageError if data or pairing do not fit.
    """
    begun = time.perf_counter()
    wanted = [parse_map(text) for text in maps]
    if reduce is not None:
        check_reducible(target, reduce, runners[1])
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
            cases = plan(common_sizes(*report.signatures, report.pairing), seed)
            report.add_training(judge_training(left, right, target, report.pairing, cases, steps=train, seed=seed))
        reduced = None if reduce is None else _reduced(reduce, target, report, right)
    if certificate is not None and isinstance(asked, Recorder):
        if any(output.draws for output in report.outputs):
            what = "a certificate holds the source's answers value by value, and this model's are drawn at random"
            raise UsageError(what, advice="leave out --certificate")
        write_certificate(certificate, report, asked, maps=maps, choice=runners[1])
    if reduced is not None:
        report.notes.append(reduced)
    report.seconds = time.perf_counter() - begun
    return report


def _reduced(path: Path, target: Subject, report: Report, runner: Runner) -> str:
    piece = report.culprit.piece if report.culprit is not None else None
    if piece is None or not piece.guilty or not isinstance(target, ModelFile):
        return "--reduce: nothing was written, for no op is wrong by itself"
    return write_reduced(path, target, piece, runner)


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


class _Trial:
    """One trial. `declared` is the class that the target is held to, the source's own where nobody declared one
    (`implied`); `allowed`, the class whose types it may have: only a declared one."""

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
        self.no_double: str | None = None
        self.drawn: set[str] = set()
        self.left = left
        self.named = NamedSource(left, source)
        self.say = say
        self.blockers: list[str] = []
        self.notes: list[str] = []
        own = self._of_the_source(source)
        self.implied = own is not None and (declared is None or declared.unit <= own.unit)
        declared = own if self.implied else declared
        self.data: Data | None = None
        shown = shown_precision(target)
        if declared is not None and declared.bits and shown is not None and shown.bits:
            declared = shown
        if declared is not None and not self.implied and declared.unit <= _unit_of(left.signature()):
            declared = None  # the source's own precision is no finer
        self.shown = shown
        self.declared = declared
        self.allowed = None if self.implied else declared
        self.right = right if self.allowed is None else CastInputs(right)

    def _of_the_source(self, source: Subject | None) -> Precision | None:
        """The class of a source in float16 or bfloat16, as its inputs and outputs or its weights show; else None."""
        coarse = _HALVES.get(_unit_of(self.left.signature()))
        own = shown_precision(source) if coarse is None else Precision.of(coarse)
        if own is None or own.bits:
            return None
        evidence = own.evidence if coarse is None else "its inputs and outputs are"
        self.notes.append(f"the source itself is {own.name} ({evidence}): the target is held to that")
        return own

    def run(self, data: Data | None, seed: int, maps: Sequence[Map]) -> Report:
        mine, theirs = self.left.signature(), self.right.signature()
        pairing = pair(mine, theirs, maps, self.subjects[1], self.allowed)
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
            report.culprit = Localization(note="not looked for: the signatures differ")
            return report
        ranges = self._ranges(pairing)
        narrowed = common_sizes(mine, theirs, pairing)
        self.notes += missing_sizes(mine, narrowed)
        cases = self._cases(narrowed, ranges, seed)
        noisy = self._noisy(cases, ranges)
        report.precision = self.declared
        sides = Sides(self.left, self.right, pairing, noisy, self.say, allowed=self.allowed)
        runs = sides.run(cases, seed)
        outputs = Outputs(sides, runs, seed)
        report.outputs = [outputs.judge(each) for each in pairing.outputs]
        if self._decided_by_few(report.outputs, runs):
            more, _ = ranges.keep(further(narrowed, seed))
            runs += sides.run(more, seed)
            report.outputs = [outputs.judge(each) for each in pairing.outputs]
        if isinstance(self.left, Recorder):
            self.say("completing the record of the source")
            outputs.complete(self.left)
        self.no_double = sides.no_double
        self.drawn = sides.drawn
        self.blockers += sides.blockers
        self.notes += sides.notes
        self._call_witnesses(report, runs)
        if self.strict and overall(report.outputs, self.blockers) is Verdict.EQUIVALENT:
            self._look_closer(report, runs, outputs)
        self._conclude(report, runs)
        if report.verdict is Verdict.DIFFERENT:
            report.counterexample = _counterexample(report, runs)
        if report.verdict is Verdict.DIFFERENT and self.explain:
            report.maps = self._suggest(report)
            if not report.maps:
                report.culprit = self._find_culprit(report, runs)
                report.layers = report.culprit.layers or report.layers
        return report

    def _decided_by_few(self, outputs: Sequence[OutputVerdict], runs: Sequence[Run]) -> bool:
        """Whether an output of whole numbers, of whatever type, agrees in so few elements that most faults would not
        show. A record is made for other targets, too, which may agree."""
        for output in outputs:
            values = [run.plain[output.source] for run in runs if output.source in run.target]
            few = sum(value.size for value in values) < ENOUGH and all(map(_is_whole, values))
            agrees = output.verdict is Verdict.EQUIVALENT or isinstance(self.left, Recorder)
            if values and few and agrees and not output.draws:
                return True
        return False

    def _noisy(self, cases: Sequence[Case], ranges: Ranges) -> NoisySource:
        """The source with noise. Where nobody declared its own class, and its runner cannot round as that does, it is
        judged by what it shows without."""
        noisy = NoisySource(self.left, self.declared, ranges.stretch)
        if self.implied and not any(noisy.runs(case, 0.0, draws=1) for case in cases[:1]):
            self.declared, noisy = None, NoisySource(self.left)
        return noisy

    def _ranges(self, pairing: Pairing) -> Ranges:
        stated = input_ranges(self.subjects[1]) if self.declared is not None and self.declared.bits else {}
        return Ranges(self.declared, {p.source: stated[p.target] for p in pairing.inputs if p.target in stated})

    def _cases(self, signature: Signature, ranges: Ranges, seed: int) -> list[Case]:
        """The generated cases, then the user's, then those that imitate them."""
        cases, left_out = ranges.keep(plan(signature, seed))
        self.notes += left_out
        if self.data is not None:
            more, notes = data_cases(self.data, signature, seed)
            imitated, left_out = ranges.keep(more[-1:])
            cases += [*more[:-1], *imitated]
            self.notes += [*left_out, *notes]
            if isinstance(self.left, Recorder):
                self.left.data = [case.inputs for case in more[:-1]]
        return cases

    def _suggest(self, report: Report) -> list[str]:
        """The `--map`s under which the two would agree. A pairing that our writers recorded is not doubted; within a
        declared class, and where values are drawn at random, none is tried."""
        if (
            self.drawn
            or self.allowed is not None
            or all(p.how == "recorded" for p in (*report.pairing.inputs, *report.pairing.outputs))
        ):
            return []
        self.say("trying other pairings")
        planned: dict[tuple[tuple[str, tuple[int, int | None]], ...], list[Case]] = {}

        def cases(pairing: Pairing) -> list[Case]:
            narrowed = common_sizes(*report.signatures, pairing)
            key = tuple(sorted(narrowed.dims.items()))
            if key not in planned:
                given = [] if self.data is None else data_cases(self.data, narrowed, report.seed)[0]
                planned[key] = [*given, *plan(narrowed, report.seed)][:2]
            return planned[key]

        return [str(each) for each in suggest_maps(self.left, self.right, report.signatures, report.pairing, cases)]

    def _conclude(self, report: Report, runs: Sequence[Run]) -> None:
        if self.no_double is not None and any(not output.draws for output in report.outputs):
            self.blockers.append(
                f"the source has no float64 run ({self.no_double}): without a reference nothing is proven equal"
            )
        shapes = sorted({problem for run in runs for problem in run.shapes})
        report.cases = [run.case.describe() for run in runs]
        report.tried = [Tried.of(run.case) for run in runs]
        report.verdict = Verdict.DIFFERENT if shapes else overall(report.outputs, self.blockers)
        reasons = [f"output `{output.source}`: {reason}" for output in report.outputs for reason in output.reasons]
        self.notes += [f"output `{o.source}` is {said}" for o in report.outputs if (said := described(o.draws))]
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

    def _call_witnesses(self, report: Report, runs: Sequence[Run]) -> None:
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

    def _look_closer(self, report: Report, runs: Sequence[Run], outputs: Outputs) -> None:
        """--strict (strict.py)."""
        if self.drawn:
            self.blockers.append(f"--strict: {RANDOM}")
            return
        self.say("comparing intermediate values")
        cases = [run.case for run in runs]
        objection, layers = inside(
            self.subjects[1], self.named, self.right, cases, report.pairing, declared=self.declared
        )
        report.layers = layers if objection else report.layers or layers
        objections = [*(outputs.at_thresholds(pair_.source) for pair_ in report.pairing.outputs), objection]
        self.blockers += [each for each in objections if each is not None][:1]

    def _find_culprit(self, report: Report, runs: Sequence[Run]) -> Localization:
        target = self.subjects[1]
        guilty = next((output for output in report.outputs if output.verdict is Verdict.DIFFERENT), None)
        if self.drawn:
            return Localization(note="not looked for: values that are drawn at random cannot be compared one by one")
        if target is None:
            return Localization(note="not looked for: the target is not a file")
        if self.no_double is not None:
            return Localization(note="not looked for: the source has no float64 run")
        misshapen = next((run for run in runs if run.shapes), None)
        if misshapen is None and (guilty is None or guilty.worst is None):
            return Localization(note="not looked for: an output has another type")
        self.say("looking for the culprit")
        worst = guilty.worst.case if guilty is not None and guilty.worst is not None else None
        run = misshapen or next(run for run in runs if run.case.describe() == worst)
        other = [each.case for each in runs if each.case.family != run.case.family and not each.shapes][:1]
        return localize(target, self.named, self.right, [run.case, *other], report.pairing, declared=self.declared)


def _counterexample(report: Report, runs: Sequence[Run]) -> Case | None:
    """The case that speaks most against the target: a wrong shape, else the worst of the guiltiest output."""
    misshapen = next((run.case for run in runs if run.shapes), None)
    worst = [output.worst for output in report.outputs if output.verdict is Verdict.DIFFERENT and output.worst]
    if misshapen is not None or not worst:
        return misshapen
    name = max(worst, key=lambda result: result.severity).case
    return next(run.case for run in runs if run.case.describe() == name)


def _is_whole(array: np.ndarray) -> bool:
    if array.dtype.kind in "biu":
        return True
    return DType.of(array.dtype).is_float and bool((array == np.rint(array)).all())


_HALVES = {2.0**-11: "fp16", 2.0**-8: "bf16"}


def _unit_of(signature: Signature) -> float:
    """The unit roundoff of a source: of the finest float type among its inputs and outputs."""
    types = [DType.of(spec.dtype) for spec in (*signature.inputs, *signature.outputs)]
    return finest_unit(np.empty(0, dtype.numpy) for dtype in types if dtype is not DType.STRING)
