"""The outputs of a trial, judged one by one from the runs of both sides (runs.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isomorph.ir import DType
from isomorph.validators.certificates.record import Recorder
from isomorph.validators.compare import compare_exact, compare_float, undecidable, unit_roundoff
from isomorph.validators.drawn import Drawn
from isomorph.validators.histogram import spread
from isomorph.validators.monte_carlo import DRAWS, DRAWS_DECLARED, reconsider
from isomorph.validators.pairing import Pair
from isomorph.validators.report import describe_array
from isomorph.validators.runs import Run, Sides, finest_unit
from isomorph.validators.strict import at_thresholds
from isomorph.validators.ties import contested
from isomorph.validators.verdict import CaseResult, OutputVerdict, Verdict, decide, signal

__all__ = ["Outputs"]

TIE_RUNS = 6
UNANCHORED = 16.0
"""Without a float64 run S stands in for R, and its own rounding is unknown: the floor is widened by this factor. Such a
trial can end as DIFFERENT (relative errors above 128·4·16·u = 5e-4 in float32) or INCONCLUSIVE, never as EQUIVALENT."""
TIE_ULPS = 32.0
"""How far the inputs are moved to find ties of integer outputs: as many ulps as EQUAL allows a target to be off."""


class Outputs:
    """Judges the outputs of these runs. The source is asked again, and with noise, where a case is in doubt; both sides
    are, many times, for an output that is drawn at random."""

    def __init__(self, sides: Sides, runs: Sequence[Run], seed: int) -> None:
        self._sides = sides
        self._noisy = sides.noisy
        self._runs = runs
        self._drawn = Drawn(sides, runs, seed)

    def judge(self, pair: Pair) -> OutputVerdict:
        """The verdict on one output from all its cases."""
        name = pair.source
        if name in self._sides.drawn:
            return self._drawn.judge(pair)
        usable = [run for run in self._runs if name in run.target]
        references = [run.plain[name] if run.reference is None else run.reference[name] for run in usable]
        whole = all(reference.dtype.kind in "biu" for reference in references)
        signals = signal(references, [run.case.batch for run in usable], exact=whole)

        def compare(index: int, *, again: bool) -> CaseResult:
            return self._compare(usable[index], name, references[index], signals[index], again=again)

        results = [compare(index, again=False) for index in range(len(usable))]
        if self._noisy.declared is not None and self._noisy.refusal is not None:
            why = f"the source's runner cannot round as {self._noisy.declared.name} does ({self._noisy.refusal})"
            return OutputVerdict(name, pair.target, Verdict.INCONCLUSIVE, (why,), None)
        results = reconsider(results, lambda index: compare(index, again=True))
        return decide(name, pair.target, results, exact=whole)

    def _compare(self, run: Run, name: str, reference: np.ndarray, strength: float, *, again: bool) -> CaseResult:
        """One output in one case; `again` with a second opinion, from runs of the source with noise."""
        plain, target, declared = run.plain[name], run.target[name], self._noisy.declared
        samples = [plain, *(moved[name] for moved in run.moved)]
        whole = plain.dtype.kind in "biu"
        unit = 0.0 if whole else unit_roundoff(plain.dtype)
        if {reference.shape, *(each.shape for each in samples)} != {target.shape}:
            return CaseResult(run.case.describe(), undecidable(), strength, unit)
        noisy, tied = [], None
        if (again or declared is not None) and run.reference is not None:
            draws = self._draws if again else DRAWS
            runs = self._noisy.runs(run.case, unit or finest_unit(run.plain.values()), draws=draws)
            noisy = [each.outputs[name] for each in runs if each.outputs[name].shape == target.shape]
            tied = contested(name, run.reference, [each.outputs for each in runs])
        if whole:
            ties = self._ties(run, name) if again and not noisy else []
            comparison = compare_exact(reference, [*samples, *ties, *noisy], target, tied=tied)
        else:
            unit *= 1.0 if run.reference is not None else UNANCHORED
            comparison = compare_float(reference, samples, target, unit, noisy, tied=tied, declared=declared)
            unit = unit if declared is None else max(unit, declared.unit)
        spread_ = None if whole else spread(reference, plain, target, comparison.tolerance)
        return CaseResult(run.case.describe(), comparison, strength, unit, spread_, declared is not None)

    def complete(self, recorder: Recorder) -> None:
        """Ask for the second opinions that this target did not need but another may, and end the record."""
        for run in self._runs:
            floats = {unit_roundoff(x.dtype) for x in run.plain.values() if DType.of(x.dtype).is_float}
            for unit in sorted({*floats, finest_unit(run.plain.values())} if run.reference is not None else ()):
                self._noisy.runs(run.case, unit, draws=self._draws)
            for name in sorted(name for name, value in run.plain.items() if value.dtype.kind in "biu"):
                self._ties(run, name)
            recorder.target.append({name: describe_array(name, x)["sha256"] for name, x in sorted(run.target.items())})
        recorder.stop()

    @property
    def _draws(self) -> int:
        """Runs with noise before a case speaks against the target."""
        return DRAWS if self._noisy.declared is None else DRAWS_DECLARED

    def _ties(self, run: Run, name: str) -> list[np.ndarray]:
        """More runs of S on inputs moved as far as a good target may be off: where they flip, rounding decides."""
        rng = np.random.default_rng([7, len(name)])
        return [self._sides.left.run(run.case.perturbed(rng, TIE_ULPS)).outputs[name] for _ in range(TIE_RUNS)]

    def at_thresholds(self, name: str) -> str | None:
        """The objection of `--strict` to an output: it is right only by what S on moved inputs allows (strict.py)."""
        usable = [run for run in self._runs if name in run.target and run.reference is not None]

        def compare(index: int, again: bool) -> CaseResult:
            run = replace(usable[index], moved=[])
            return self._compare(run, name, (run.reference or run.plain)[name], 0.0, again=again)

        if not usable or not self._noisy.runs(usable[0].case, finest_unit(usable[0].plain.values())):
            return None
        return at_thresholds(name, len(usable), compare)
