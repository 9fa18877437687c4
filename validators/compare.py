"""The numbers of one comparison: errors of S and T against the float64 reference R, and the budget they are held to.

Notation, for one output in one case: R is the source framework in float64, S_0 the source in its own precision, S_k
(k = 1..K) the source on inputs moved by one unit in the last place, T the target, u the unit roundoff of the output's
dtype.

    E_k = S_k - R     what rounding does to this model on this input, K + 1 samples: e_S
    e   = T - R       what is to be judged: e_T

**Why samples of S are the budget.** Rounding of a sum of n products errs by about sqrt(n)·u·sum|a||b| (Higham & Mary
2019; Ipsen & Zhou 2020); through a network the constants are unknown, but S *is* a draw from that distribution, with
this model's weights, depth and conditioning. The moved inputs give further draws along other rounding paths, and
include the model's own amplification of an input's last bit. A correct T is one more draw, with another order of
summation.

**The floor.** S may be luckier than rounding theory lets T be: a copy, a power of two, a correctly rounded last
operation. An implementation is allowed `FLOOR_ULPS` = 4 units of roundoff of the local magnitude: one each for the
rounding of the result and of the last operation, two for the few-ulp functions (exp, tanh, erf) of today's runtimes.
Magnitude is the RMS of R in the group (a channel, a border), plus 2^-10 of the RMS of the whole tensor, which covers
values that should be zero (a ReLU at its kink) without letting a large channel excuse a small one: an error of
64·4·u·2^-10 of the tensor is the least that a group of zeros can hide.

**The ratios.** Each is observed error over budget, so that 1 means "as good as S":

    rms      rms(e) / b,  b = max(rms(E), floor)                                 over the whole tensor
    extreme  max|e| / max(max|E|, z(n)·b),  z(n) = sqrt(2 ln 2n) + 1             Gaussian maximum of n draws, plus one
    group    rms_g(e) / b_g,  b_g = max(rms_g(E), rho·rms_g(R), floor_g)         each slice along each axis: a channel,
             a border rho = rms(E) / rms(R): the error that the tensor's accuracy predicts for the slice

A few draws estimate a scale badly: rms(E) of v draws is multiplied by the inflation q(v) = t_v(1 - 1e-6) / z(1 - 1e-6)
of Student's t (table below), at most `MOST_INFLATION`: an output of one element keeps a bounded tolerance. Draws that
are zero or negligible tell nothing (a channel that a ReLU has all but silenced), so v is the effective number
v = min(n, 3 (sum E^2)^2 / sum E^4): n for Gaussian errors, 3 for a single spike. A slice with fewer than `FEW_DRAWS` is
held to the error of the whole tensor; where there is a single run of S (intermediate values), one with fewer than
`FEW_DRAWS_OF_ONE_RUN`, as neighbours err together. The floor is not inflated: it is not estimated.

**Jumps.** Where an output is a sorted list, a near tie changes two rows, and the error of S there is the difference of
the rows. Elements at which a sample of S is off by more than CHAOS times the magnitude of the tensor are left out, as
ties of integers are, if they are at most TIES of all; the others are held to the budget that they make.

Rows of near ties (ties.py) at which T is off by as much are left out, too; if that makes more than TIES, rounding
decides the output and the case says nothing.

**A second opinion.** Where a ratio is beyond EQUAL, the trial asks for Q_k, the float64 run with noise of EQUAL·u on
every operation (monte_carlo.py). Then each budget is at least the largest of what the Q_k make of it, over EQUAL: of
rms(Q_k - R), of max|Q_k - R|, of rms_g(Q_k - R).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from isomorph.ir import DType
from isomorph.validators.precision import Precision

__all__ = [
    "NOISE_ULPS", "TIES", "Comparison", "chaos", "compare_exact", "compare_float", "is_narrow", "undecidable",
    "unit_roundoff",
]  # fmt: skip

FLOOR_ULPS = 4.0
TENSOR_SHARE = 2.0**-10
_TINY = float(np.finfo(np.float64).tiny)
MOST_INFLATION = 32.0
FEW_DRAWS = 4.0
FEW_DRAWS_OF_ONE_RUN = 32.0
NOISE_ULPS = 32.0
"""The noise of the Monte Carlo runs in units of roundoff: as much as the verdict allows a target to be off (EQUAL)."""
TIES = 0.02
"""At most this share of the elements of an output may be left to rounding; they are not compared."""
WAVERING = 2.0
"""How many more integers than the worst run of S with noise a target may have different."""
_CHAOS = 2.0**-7
_CHAOS_16 = 2.0**-3
_NARROW_UNIT = 2.0**-12
GROUP_LIMIT = 4096
"""An axis with more slices than this is not looked at slice by slice (they would be single elements)."""

# t_v(1 - 1e-6) / 4.753 for v = 1, 2, 4, 8, 16, 32, 64, 128; linear in log2 v between, 1 beyond.
_INFLATION = (66964.0, 148.8, 8.75, 2.55, 1.52, 1.22, 1.10, 1.05, 1.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output in one case. `index` is where |T - R| is worst; `group` names the worst slice ("axis 1, slice 17").

    ratios     "rms", "extreme", "group" (floats), or "mismatches" (integers and bools)
    accuracy   rms(e_S) / rms(R): how exact the source itself is; `error` is the same for the target
    tolerance  the budget in absolute terms (RMS); for integers the share of elements that are ties
    mask       a sentence if the NaN or Inf patterns differ, else None
    undecided  elements that S itself does not keep under its perturbations; they are not compared
    finite     some element is a number on all sides
    empty      there is no element at all
    noise      what noise within the bound makes of the output: max_k rms(Q_k - R) / rms(R); 0 if nobody asked
    """

    ratios: dict[str, float]
    accuracy: float
    error: float
    tolerance: float
    index: tuple[int, ...]
    got: float
    expected: float
    group: str | None = None
    mask: str | None = None
    mask_explained: bool = False
    undecided: int = 0
    finite: bool = True
    empty: bool = False
    noise: float = 0.0

    @property
    def worst(self) -> float:
        return max(self.ratios.values(), default=0.0)


def unit_roundoff(dtype: np.dtype) -> float:
    """Half the distance from 1 to the next number: 2^-24 for float32, 2^-11 for float16, 2^-8 for bfloat16."""
    return float(ml_dtypes.finfo(dtype).eps) / 2


def is_narrow(unit: float) -> bool:
    """Whether this is the unit roundoff of a 16-bit float."""
    return unit > _NARROW_UNIT


def chaos(unit: float) -> float:
    """The relative error beyond which rounding decides a value, not the model: 2^-7; 2^-3 for 16-bit floats, whose u is
    2^-11 or 2^-8."""
    return _CHAOS_16 if is_narrow(unit) else _CHAOS


def compare_float(
    reference: np.ndarray,
    samples: Sequence[np.ndarray],
    target: np.ndarray,
    unit: float,
    noisy: Sequence[np.ndarray] = (),
    *,
    tied: np.ndarray | None = None,
    declared: Precision | None = None,
) -> Comparison:
    """Compare a float output. Shapes are equal (the caller checked). `samples` is S_0, S_1, …; it may be empty: then
    only the floor counts. `noisy` is Q_1, Q_2, … of monte_carlo.py, whose noise is NOISE_ULPS·u; `tied` the elements in
    rows that may change places. With a `declared` class the Q_k are its runs (precision.py), and E_k = (Q_k - R)/EQUAL
    take the place of S_k - R, which are the least that a budget can be."""
    r, t = _wide(reference), _wide(target)
    coarse = unit if declared is None else max(unit, declared.unit)
    s, q = [_wide(sample) for sample in samples], [_wide(sample) for sample in noisy]
    mask, explained = _compare_masks(r, s, t, q)
    usable = np.logical_and.reduce([np.isfinite(x) for x in (r, t, *s, *q)])
    jumps = _jumps(r, [*s, *q], usable, coarse)
    swapped = np.zeros(r.shape, bool) if tied is None else tied & usable & ~jumps & _far(t, r, usable, coarse)
    lost = int(swapped.sum()) + int(jumps.sum()) > TIES * usable.sum() if swapped.any() else False
    jumps |= swapped
    usable &= ~jumps
    if not usable.any():
        nothing = Comparison({}, 0.0, 0.0, 0.0, (), math.nan, math.nan, finite=False, empty=not r.size)
        return replace(nothing, mask=mask, mask_explained=explained)
    with np.errstate(invalid="ignore"):  # inf - inf, which `usable` leaves out
        errors = np.stack([np.where(usable, x - r, 0.0) for x in s]) if s else np.zeros((1, *r.shape))
        e = np.where(usable, t - r, 0.0)
        stirred = [np.where(usable, x - r, 0.0) / NOISE_ULPS for x in q]
    least = FLOOR_ULPS * unit
    if declared is not None and stirred:
        drawn = unit >= declared.unit  # the source computes in this class: its own error is one draw of it
        errors, stirred = np.stack(stirred), [] if drawn or not s else list(errors)
        rounded = declared.allowance * declared.lowest / NOISE_ULPS
        least = rounded if drawn else max(least, rounded)
    margin = math.inf if declared is None else declared.allowance
    measured = _measure(
        np.where(usable, r, 0.0), errors, e, stirred, count=int(usable.sum()), least=least, margin=margin
    )
    if declared is not None:
        spread, own = NOISE_ULPS * measured.accuracy, measured.noise / NOISE_ULPS
        measured = replace(measured, accuracy=max(spread / declared.allowance, own), noise=max(spread, own))
    index = measured.index
    return replace(
        measured,
        accuracy=max(measured.accuracy, 1.0) if lost else measured.accuracy,
        got=float(t[index]),
        expected=float(r[index]),
        mask=mask,
        mask_explained=explained,
        undecided=int(jumps.sum()),
    )


def _measure(
    r: np.ndarray,
    errors: np.ndarray,
    e: np.ndarray,
    stirred: Sequence[np.ndarray],
    *,
    count: int,
    least: float,
    margin: float,
) -> Comparison:
    """The ratios of the module's docstring; elements that do not count are zero everywhere. `least` is the floor,
    relative to the magnitude; `margin` how many standard deviations EQUAL budgets of a single draw are."""
    scale, spread = _rms(r, count), _rms(errors, count * len(errors))
    factor = float(_inflation(_draws(errors)))
    noise = max((_rms(x, count) for x in stirred), default=0.0)
    budget = max(spread * factor, least * scale, noise, _TINY)
    gaussian = _gaussian(count) * budget
    index = tuple(int(i) for i in np.unravel_index(int(np.abs(e).argmax()), e.shape))
    farthest = max((float(np.abs(x).max()) for x in stirred), default=0.0)
    highest = max(float(np.abs(errors).max()) * factor, gaussian, farthest)
    relative = spread / scale if scale else 0.0
    worst_group, group = _worst_group(r, errors, e, least, relative, stirred=stirred, margin=margin)
    return Comparison(
        {"rms": _rms(e, count) / budget, "extreme": float(np.abs(e[index])) / highest, "group": worst_group},
        accuracy=relative,
        error=_rms(e, count) / scale if scale else (math.inf if e.any() else 0.0),
        tolerance=budget,
        index=index,
        got=math.nan,
        expected=math.nan,
        group=group,
        noise=NOISE_ULPS * noise / scale if scale else 0.0,
    )


def _gaussian(count: int) -> float:
    """z(n): the largest of n draws in standard deviations, plus one."""
    return math.sqrt(2 * math.log(2 * count)) + 1


def _jumps(r: np.ndarray, samples: Sequence[np.ndarray], usable: np.ndarray, unit: float) -> np.ndarray:
    """Elements that rounding decides (rows of a sorted list that change places): some sample is further from R than
    `chaos` allows a whole tensor to be. None if they are more than TIES of all."""
    none = np.zeros(r.shape, bool)
    jumps = usable & np.logical_or.reduce([none, *(_far(x, r, usable, unit) for x in samples)])
    return jumps if jumps.sum() <= TIES * usable.sum() else none


def _far(x: np.ndarray, r: np.ndarray, usable: np.ndarray, unit: float) -> np.ndarray:
    """Where x is further from R than `chaos` allows a whole tensor to be."""
    count = int(usable.sum())
    limit = chaos(unit) * _rms(np.where(usable, r, 0.0), count) if count else 0.0
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(x - r) > limit)


def compare_exact(
    reference: np.ndarray, samples: Sequence[np.ndarray], target: np.ndarray, *, tied: np.ndarray | None = None
) -> Comparison:
    """Compare integers, bools: equal, except where some sample of S differs from R (a tie: rounding decides there) and
    where rows may change places (`tied`). If the worst sample differs from R in a share w of the elements, T may in at
    most `WAVERING`·w, wherever they are: one box that is suppressed or not moves all rows behind it."""
    undecided = np.zeros(reference.shape, bool) if tied is None else tied.copy()
    differs, wavering = target != reference, 0.0
    for sample in samples:
        undecided |= sample != reference
        wavering = max(wavering, float(np.mean(sample != reference)) if sample.size else 0.0)
    if differs.any() and float(differs.mean()) <= WAVERING * wavering:
        undecided |= differs
    wrong = differs & ~undecided
    index = np.unravel_index(int(wrong.argmax()), wrong.shape) if wrong.size else ()
    share = float(wrong.mean()) if wrong.size else 0.0
    got, expected = (float(target[index]), float(reference[index])) if wrong.size else (0.0, 0.0)
    place = tuple(int(i) for i in index)
    ratios = {"mismatches": math.inf if share else 0.0}
    ties = float(undecided.mean()) if undecided.size else 0.0
    found = Comparison(ratios, 0.0, share, ties, place, got, expected)
    return replace(found, undecided=int(undecided.sum()), empty=not reference.size)


def undecidable() -> Comparison:
    """Of an output whose sizes rounding decides: no element has a counterpart."""
    return Comparison({}, 1.0, 0.0, 1.0, (), math.nan, math.nan, finite=False)


def _inflation(draws: np.ndarray) -> np.ndarray:
    """q(v) of the module's docstring, elementwise."""
    position = np.log2(np.maximum(draws, 1.0))
    steps = np.arange(len(_INFLATION))
    return np.asarray(np.minimum(np.exp(np.interp(position, steps, np.log(_INFLATION))), MOST_INFLATION))


def _draws(errors: np.ndarray, axis: tuple[int, ...] | None = None) -> np.ndarray:
    """The effective number of draws of a sample of errors over these axes; 1 where all are zero."""
    peak = float(np.abs(errors).max(initial=0.0))
    if not peak:
        return np.ones_like(np.abs(errors).sum(axis=axis))
    squares = np.abs(errors / peak) ** 2
    fourth = (squares**2).sum(axis=axis)
    total = squares.sum(axis=axis)
    count = errors.size / max(1, total.size)
    return np.asarray(np.minimum(count, np.where(fourth > 0, 3 * total**2 / np.where(fourth > 0, fourth, 1.0), 1.0)))


def _worst_group(
    r: np.ndarray,
    errors: np.ndarray,
    e: np.ndarray,
    floor_unit: float,
    relative: float,
    *,
    stirred: Sequence[np.ndarray],
    margin: float,
) -> tuple[float, str | None]:
    """The largest ratio among the slices along each axis, and its name. Errors of a slice may all be one draw (of the
    weights that they share): of so many slices the largest is then at `_gaussian` standard deviations."""
    lengths = [length for length in r.shape if 1 < length <= GROUP_LIMIT]
    crowd = max(1.0, _gaussian(sum(lengths)) / margin) if lengths else 1.0
    worst, name = 0.0, None
    scale = _rms(r, r.size)
    spread = relative * scale
    few = FEW_DRAWS if len(errors) > 1 else FEW_DRAWS_OF_ONE_RUN
    for axis in range(r.ndim):
        length = r.shape[axis]
        if r.ndim < 2 or length < 2 or length > GROUP_LIMIT or r.size == length:
            continue
        rest = tuple(a for a in range(r.ndim) if a != axis)
        magnitude = np.sqrt(np.mean(np.abs(r) ** 2, axis=rest))
        draws = _draws(errors, (0, *(a + 1 for a in rest)))
        drawn = np.sqrt(np.mean(np.abs(errors) ** 2, axis=(0, *(a + 1 for a in rest))))
        drawn = np.where(draws < few, np.maximum(drawn, spread), drawn * _inflation(draws))
        floor = floor_unit * (magnitude + TENSOR_SHARE * scale)
        budget = np.maximum(np.maximum(drawn, relative * magnitude), np.maximum(floor, _TINY))
        for each in stirred:
            budget = np.maximum(budget, np.sqrt(np.mean(np.abs(each) ** 2, axis=rest)))
        ratio = np.sqrt(np.mean(np.abs(e) ** 2, axis=rest)) / (crowd * budget)
        place = int(ratio.argmax())
        if ratio[place] > worst:
            worst, name = float(ratio[place]), f"axis {axis}, slice {place}"
    return worst, name


def _compare_masks(
    r: np.ndarray, s: Sequence[np.ndarray], t: np.ndarray, q: Sequence[np.ndarray]
) -> tuple[str | None, bool]:
    """A sentence if NaN or Inf patterns of T differ from S's, and whether R or wavering samples explain it."""
    anchor = s[0] if s else r
    for kind, test in (("NaN", np.isnan), ("+Inf", np.isposinf), ("-Inf", np.isneginf)):
        here, there = test(anchor), test(t)
        if (here != there).any():
            place = tuple(int(i) for i in np.argwhere(here != there)[0])
            side = "only the source" if here[place] else "only the target"
            as_reference = not (test(t) != test(r)).any()
            wavers = any((test(x) != here).any() for x in (*s, *q))
            return f"{side} has {kind} at {list(place)}", as_reference or wavers
    return None, True


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if DType.of(array.dtype).is_complex else np.float64)


def _rms(array: np.ndarray, count: int) -> float:
    """Root of the sum of squares over `count`, without overflow."""
    peak = float(np.abs(array).max(initial=0.0))
    return peak * math.sqrt(float((np.abs(array / peak) ** 2).sum()) / count) if peak else 0.0
