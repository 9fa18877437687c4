"""From numbers to a word: EQUIVALENT, DIFFERENT or INCONCLUSIVE.

Thresholds on the ratios of compare.py (observed error of T over the budget that S's own error and the floor give):

    EQUAL = 32       up to here: equivalent. Two correct float32 implementations differ by their order of summation: n
                     terms one after another in L lanes err by about sqrt(n) / L * u, added pairwise by about u. The
                     longest sums of vision networks are global pools of 112 x 112 to 128 x 128 cells, n = 2^14; with
                     the 4 lanes of the narrowest SIMD that is sqrt(2^14) / 4 = 32. Measured for n = 112^2:
                     onnxruntime's GlobalAveragePool errs by 26 u, PyTorch's by 0.94 u, a ratio of 28
    UNEQUAL = 128    from here: different. Four times more than the above: no order of summation explains it. Between
                     the two the verdict is INCONCLUSIVE. The mildest injected fault, weights that went through float16,
                     is at 343.
    CHAOS            when S itself is worse than this against R (relative RMS), rounding decides the output, not the
                     model: a case in which nothing can be proven. 2^-7 for float32 and float64, 2^-3 for 16-bit floats
                     (their u is 2^-11, 2^-8)
    RESOLUTION       the tolerance EQUAL·budget must be at most this share of the signal, the RMS by which R changes
                     with the input; else the case cannot tell models apart (a constant, saturated or all-zero output).
                     2^-5, or 2^-1 for 16-bit. Within a declared class (precision.py) EQUAL / UNEQUAL: a model
                     that answers something else is off by the signal, and that must be a difference
    at least a quarter of the cases must be informative in this sense, else INCONCLUSIVE

Integers and bools must be equal except where S itself wavers (ties). A case in which more than TIES = 2 % waver says
nothing, and a quarter of the cases must say something, as for floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from isomorph.validators.compare import NOISE_ULPS, TIES, Comparison, chaos, is_narrow
from isomorph.validators.distribution import Distribution
from isomorph.validators.histogram import Spread

__all__ = ["EQUAL", "UNEQUAL", "CaseResult", "OutputVerdict", "Verdict", "decide", "overall", "signal", "worse"]

EQUAL = NOISE_ULPS
UNEQUAL = 128.0
_RESOLUTION = 2.0**-5
_RESOLUTION_16 = 2.0**-1
_RESOLUTION_DECLARED = EQUAL / UNEQUAL
INFORMATIVE_SHARE = 0.25
_EMPTY = "the output is empty in every case: no element was compared"


class Verdict(StrEnum):
    """What is proven. The value is the word in reports."""

    EQUIVALENT = "EQUIVALENT"
    DIFFERENT = "DIFFERENT"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        return {"EQUIVALENT": 0, "DIFFERENT": 1, "INCONCLUSIVE": 3}[self.value]


def worse(one: Verdict, other: Verdict) -> Verdict:
    """Of two verdicts on one pair of models the one that stands: DIFFERENT before INCONCLUSIVE before EQUIVALENT."""
    return max(one, other, key=[Verdict.EQUIVALENT, Verdict.INCONCLUSIVE, Verdict.DIFFERENT].index)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One output in one case: the comparison, the signal (see `signal`) that it is measured against, and for reports
    how the errors of a float output are spread. Within a `declared` class `unit` is the class's."""

    case: str
    comparison: Comparison
    signal: float
    unit: float
    spread: Spread | None = None
    declared: bool = False

    @property
    def resolution(self) -> float:
        """The largest share of the signal that the tolerance of an informative case may be."""
        if not is_narrow(self.unit):
            return _RESOLUTION
        return _RESOLUTION_DECLARED if self.declared else _RESOLUTION_16

    @property
    def chaotic(self) -> bool:
        return self.comparison.accuracy > chaos(self.unit)

    @property
    def informative(self) -> bool:
        """True if a different model would show here."""
        measurable = self.signal > 0 and EQUAL * self.comparison.tolerance <= self.resolution * self.signal
        return self.comparison.finite and not self.chaotic and measurable

    @property
    def unsettled(self) -> bool:
        """True if implementations within the bound differ by more than could be told apart: a threshold inside the
        model is near, and on which side of it the target is says nothing."""
        return self.comparison.noise > self.resolution

    @property
    def severity(self) -> tuple[bool, float]:
        """How much it speaks against the target: an unexplained mask before any ratio."""
        return (self.comparison.mask is not None and not self.comparison.mask_explained, self.comparison.worst)

    @property
    def doubtful(self) -> bool:
        """Whether it keeps the verdict from EQUIVALENT by itself."""
        return self.severity > (False, EQUAL)

    @property
    def damning(self) -> bool:
        """Whether it makes the verdict DIFFERENT by itself."""
        masked, ratio = self.severity
        return masked or (ratio >= UNEQUAL and not self.chaotic)


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """The verdict on one output and the case that decided it; of an output that is drawn at random, what the `draws`
    show."""

    source: str
    target: str
    verdict: Verdict
    reasons: tuple[str, ...]
    worst: CaseResult | None
    results: tuple[CaseResult, ...] = field(default=())
    draws: tuple[Distribution, ...] = field(default=())

    @property
    def mute(self) -> bool:
        """True if nothing speaks against equivalence but that the output is uninformative, or has too many ties; some
        element was compared, and agrees; a case in which nothing could be compared says nothing."""
        if self.verdict is not Verdict.INCONCLUSIVE or not self.results:
            return False
        compared = [r for r in self.results if r.comparison.ratios and r.comparison.finite]
        clean = all(r.comparison.worst <= EQUAL and r.comparison.mask is None for r in self.results)
        tied = all("mismatches" in r.comparison.ratios and r.comparison.tolerance == 1 for r in self.results)
        return clean and not tied and not all(r.comparison.empty for r in compared)


def decide(source: str, target: str, results: Sequence[CaseResult], *, exact: bool) -> OutputVerdict:
    """Judge one output from all its cases."""
    worst = max(results, key=lambda result: result.severity, default=None)
    if worst is None:
        return OutputVerdict(source, target, Verdict.INCONCLUSIVE, ("no case could be run",), None)
    verdict, reasons = _decide_exact(results) if exact else _decide_float(results, worst)
    return OutputVerdict(source, target, verdict, tuple(reasons), worst, tuple(results))


def overall(outputs: Sequence[OutputVerdict], blockers: Sequence[str]) -> Verdict:
    """DIFFERENT if any output is; else INCONCLUSIVE if any output is or something blocks a proof; else EQUIVALENT."""
    verdicts = {output.verdict for output in outputs}
    if Verdict.DIFFERENT in verdicts:
        return Verdict.DIFFERENT
    if blockers or not outputs or Verdict.INCONCLUSIVE in verdicts:
        return Verdict.INCONCLUSIVE
    return Verdict.EQUIVALENT


def signal(references: Sequence[np.ndarray], batches: Sequence[int], *, exact: bool = False) -> list[float]:
    """For each case, the RMS by which R changes with the input.

    A sample is a slice along axis 0 where its length is the batch of the case, else the whole array. With several
    samples: their standard deviation, averaged over elements. With one: the distance to the nearest sample of another
    case that has its shape, or, where there is none, the variation inside the sample. Of integers (`exact`), which have
    few values, to the farthest: a counter that is 0 in some cases and 1 in the others does depend on the inputs.
    """
    split = [_samples(r, batch) for r, batch in zip(references, batches, strict=True)]
    strengths = []
    for index, samples in enumerate(split):
        if len(samples) > 1:
            strengths.append(math.sqrt(float(np.mean(np.var(np.stack(samples), axis=0, ddof=1)))))
            continue
        others = [other for place, group in enumerate(split) if place != index for other in group]
        strengths.append(min((_distance(sample, others, max if exact else min) for sample in samples), default=0.0))
    return strengths


def _samples(reference: np.ndarray, batch: int) -> list[np.ndarray]:
    wide = reference.astype(np.float64)
    samples = [*wide] if batch and wide.ndim and wide.shape[0] == batch else [wide]
    return [sample for sample in samples if sample.size and np.isfinite(sample).all()]


def _distance(sample: np.ndarray, others: Sequence[np.ndarray], which: Callable[..., float]) -> float:
    comparable = [other for other in others if other.shape == sample.shape]
    return which(
        (math.sqrt(float(np.mean((sample - other) ** 2))) for other in comparable), default=float(np.std(sample))
    )


def _decide_float(results: Sequence[CaseResult], worst: CaseResult) -> tuple[Verdict, list[str]]:
    masked = [result for result in results if result.comparison.mask]
    if any(not result.comparison.mask_explained for result in masked):
        broken = next(result for result in masked if not result.comparison.mask_explained)
        return Verdict.DIFFERENT, [f"{broken.comparison.mask} ({broken.case})"]
    different = [result for result in results if result.comparison.worst >= UNEQUAL and not result.chaotic]
    if different:
        top = max(different, key=lambda result: result.severity)
        over = f"the target's error is {top.comparison.worst:.3g} times the budget ({top.case})"
        return Verdict.DIFFERENT, [f"{over}; {UNEQUAL:g} proves a difference"]
    reasons = [f"{result.comparison.mask}, as in the float64 run ({result.case})" for result in masked]
    settled = [result for result in results if not result.unsettled or result.comparison.worst >= UNEQUAL]
    worst = max(settled, key=lambda result: result.severity, default=worst)
    if worst.comparison.worst > EQUAL and settled:
        over = f"the target's error is {worst.comparison.worst:.3g} times the budget ({worst.case})"
        reasons.append(f"{over}; up to {EQUAL:g} is rounding, from {UNEQUAL:g} a difference")
    informative = sum(result.informative for result in results)
    if informative < max(1, math.ceil(INFORMATIVE_SHARE * len(results))):
        reasons.append(_why_uninformative(results))
    return (Verdict.INCONCLUSIVE if reasons else Verdict.EQUIVALENT), reasons


def _why_uninformative(results: Sequence[CaseResult]) -> str:
    if not any(result.comparison.finite for result in results):
        empty = all(result.comparison.empty for result in results)
        return _EMPTY if empty else "the output is NaN or infinite everywhere"
    if all(result.chaotic or not result.comparison.finite for result in results):
        accuracy = max(result.comparison.accuracy for result in results)
        return (
            f"the source itself is only accurate to {accuracy:.1%} here: rounding, not the model, decides this output"
        )
    if not any(result.signal for result in results):
        return "the output does not depend on the inputs (constant or all zero)"
    return "the output hardly changes with the inputs: less than rounding could hide"


def _decide_exact(results: Sequence[CaseResult]) -> tuple[Verdict, list[str]]:
    wrong = [result for result in results if result.comparison.worst > 0]
    if wrong:
        top = max(wrong, key=lambda result: result.comparison.error)
        return Verdict.DIFFERENT, [
            f"{top.comparison.error:.2%} of the elements differ where the source is certain ({top.case})"
        ]
    tied = [result for result in results if result.comparison.tolerance > TIES]
    telling = sum(result.signal > 0 for result in results if result not in tied)
    if tied and telling < max(1, math.ceil(INFORMATIVE_SHARE * len(results))):
        undecided, case = tied[0].comparison.undecided, tied[0].case
        return Verdict.INCONCLUSIVE, [f"{undecided} elements are ties that rounding decides ({case})"]
    if not any(result.signal for result in results):
        empty = all(result.comparison.empty for result in results)
        return Verdict.INCONCLUSIVE, [_EMPTY if empty else "the output does not depend on the inputs (constant)"]
    return Verdict.EQUIVALENT, []
