"""Monte Carlo arithmetic: the float64 run of the source with every operation off by as much as a good target may be.

S and its moved inputs (compare.py) show what rounding does on the few paths that they take. Where a model has a
threshold inside (a saturated gate, a sort, a suppressed box), few paths say too little: a gate whose argument is a sum
of 1e8 that happens to be near 0 is open on one path and shut on the next, and no sample of S need show it. So where a
target seems to be off, the source is asked again, in float64 with noise (Parker 1997, *Monte Carlo arithmetic*; Denis,
de Oliveira Castro & Petit 2016, *Verificarlo*):

    Q_k = R with each operation o(a, b, …) replaced by  o(a(1 + δ), b(1 + δ), …)(1 + δ) + η,  |δ| <= EQUAL·u
    E'  = max_k |Q_k - R| / EQUAL                                                             k = 1 … DRAWS

The bound is the one of the verdict. EQUAL = 32 says how far two correct implementations of an operation may differ in
units of roundoff, and T is held to EQUAL·E': the set of all results that implementations within that bound can give.
Where the model is smooth, E' is the first-order effect of one unit of roundoff, which S measures too, and the budget
hardly moves; where it jumps, the jump is in E', the tolerance is as large as the jump, and the case says nothing (it is
not *informative*), neither for nor against.

**Which operation gets which noise.** Copies, selections and comparisons are exact. Elementwise arithmetic rounds its
result: no δ on the operands, so that x - x stays 0. All other operations (products, sums, pools, normalizations) get
both: the noise on operands is what makes a sum that cancels err by the size of its terms.

**η.** Some functions are computed as a sum that cancels, c + g(x) where the result is near 0: their error is a unit of
roundoff of c, not of the result. It is a function of x, alike for like x, and does not average out: one draw for a
tensor, |η| <= EQUAL·u·c. Measured on 200,000 points (largest error, in units u = 2^-24, absolute and relative):

    function       c                points         onnxruntime 1.32       PyTorch 2.14
    sigmoid        1                [-20, -12]     2.3 u, 1.1e8 u         1e-5 u, 2.4 u
    elu, selu      alpha            [-1, 1]        1.1 u, 6.4e4 u         0.5 u, 1.0 u
    gelu           |x|              [-6, -1]       1.4 u, 1.7e7 u         17 u, 1.7e7 u
    tanh, erf, exp, softplus, mish, sin, cos (relative, everywhere)     <= 8.2 u               <= 4.4 u

silu, hardswish, hardsigmoid and logsigmoid are made of these.

**Fourier transforms** of a length n that is no power of two go through chirps exp(iπk²/n) (Bluestein 1970). In float32
an angle up to πn is rounded to πn·u, so the result errs by about πn·u/√3 of its RMS, white over the spectrum. Measured,
RMS error over RMS, of 64 transforms of normal numbers; onnxruntime 1.32 uses chirps, PyTorch mixed radices:

    n                    12      37     100     257     400    1000      1024
    onnxruntime          30 u    67 u   172 u   493 u   698 u  1,972 u   8.0 u
    PyTorch              0.8 u   1.3 u  1.6 u   3.3 u   2.3 u  2.1 u     1.9 u
    πn/√3                22      67     181     466     726    1,814

The noise there is 4πn·u (not times EQUAL: it is an error of the whole transform, not of one operation in it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isomorph.errors import RunnerError
from isomorph.validators.compare import NOISE_ULPS
from isomorph.validators.precision import Precision

if TYPE_CHECKING:
    from isomorph.validators.inputs import Case
    from isomorph.validators.runner import Result, Runner
    from isomorph.validators.verdict import CaseResult

__all__ = ["BASE", "DRAWS", "DRAWS_DECLARED", "Noise", "NoisySource", "reconsider"]

DRAWS = 6
"""Runs with noise. What half of the paths do, one of six shows with probability 1 - 2^-6."""
DRAWS_DECLARED = 24
"""Runs within a declared class before a case speaks against the target: what a fifth of the paths do, one of them shows
with probability 1 - 0.5 %."""
BASE = NOISE_ULPS * 2.0**-24
"""The noise of float32 operations, where a declared class rounds less than every result."""
_SPELLED = "monte-carlo"


@dataclass(frozen=True, slots=True)
class Noise:
    """The largest relative error δ of an operation, and the seed of one run. With a declared class (precision.py) the
    amplitude counts the class's own roundings. `str` and `parse` are inverse: a runner is asked for the `precision`
    "monte-carlo AMPLITUDE SEED" or "monte-carlo AMPLITUDE SEED CLASS"."""

    amplitude: float
    seed: int
    precision: Precision | None = None

    def __str__(self) -> str:
        spelled = f"{_SPELLED} {self.amplitude!r} {self.seed}"
        return spelled if self.precision is None else f"{spelled} {self.precision}"

    @classmethod
    def parse(cls, precision: str) -> Noise | None:
        """None for any other precision."""
        kind, _, rest = precision.partition(" ")
        if kind != _SPELLED:
            return None
        amplitude, seed, *declared = rest.split(" ")
        return cls(float(amplitude), int(seed), Precision.parse(declared[0]) if declared else None)


class NoisySource:
    """The source with noise: its runs on each case, made once; with a declared class, of its rounding. `refusal` says
    why there are none."""

    def __init__(
        self, source: Runner, declared: Precision | None = None, stretch: Callable[[Case], float] = lambda _case: 1.0
    ) -> None:
        self._source = source
        self._stretch = stretch
        self.declared = declared
        self._runs: dict[tuple[int, float, tuple[str, ...]], list[Result]] = {}
        self.refusal: str | None = None

    def runs(self, case: Case, unit: float, taps: Sequence[str] = (), *, draws: int = DRAWS) -> list[Result]:
        """So many runs with noise of NOISE_ULPS·unit, or of the declared class; none where the runner has no
        Monte Carlo arithmetic."""
        unit = unit if self.declared is None else 0.0
        known = self._runs.setdefault((id(case), unit, tuple(taps)), [])
        if len(known) < draws and self.refusal is None:
            try:
                for seed in range(len(known), draws):
                    spelled = str(self._noise(case, unit, seed))
                    known.append(self._source.run(case.inputs, taps=taps, precision=spelled))
            except (NotImplementedError, RunnerError) as error:
                self.refusal = error.what if isinstance(error, RunnerError) else str(error)
        return known

    def _noise(self, case: Case, unit: float, seed: int) -> Noise:
        if self.declared is None:
            return Noise(NOISE_ULPS * unit, seed)
        return Noise(self.declared.allowance * self._stretch(case), seed, self.declared)


def reconsider(results: Sequence[CaseResult], again: Callable[[int], CaseResult]) -> list[CaseResult]:
    """Ask for a second opinion (`again`) on each case that speaks against the target, the worst first, until one of
    them stands: then the verdict is DIFFERENT whatever the others say."""
    opinions = list(results)
    doubtful = [index for index, result in enumerate(results) if result.doubtful]
    for index in sorted(doubtful, key=lambda place: results[place].severity, reverse=True):
        opinions[index] = again(index)
        if opinions[index].damning:
            break
    return opinions
