"""How the errors of an output are spread, counted against the budget: evidence for reports, never part of a verdict.

For one output in one case, with R the float64 run, S the source, T the target and b the budget of the tensor
(`tolerance` of compare.py; EQUAL = 2^5 and UNEQUAL = 2^7 are multiples of it), each element is counted in one bin:

    bin 0       |x - R| = 0
    bin 1       0 < |x - R| / b < EDGES[1]
    bin k       EDGES[k - 1] <= |x - R| / b < EDGES[k], the last without an upper edge

EDGES = 0, 2^-9, 2^-7, …, 2^25.

Elements that are NaN or infinite on a side are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EDGES", "Spread", "spread"]

EDGES = (0.0, *(2.0**exponent for exponent in range(-9, 26, 2)))
"""Lower edges of the bins after the first, in budgets."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Errors of the target and of the source against the float64 run.

    elements         how many were counted
    largest, mean    max |T - R| and mean(T - R), which is the bias; 0 where nothing was counted
    source_largest   max |S - R|
    target, source   elements in each bin of the module's docstring
    """

    elements: int
    largest: float
    mean: float
    source_largest: float
    target: tuple[int, ...]
    source: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "elements": self.elements,
            "largest": self.largest,
            "mean": self.mean,
            "source_largest": self.source_largest,
            "histogram": list(self.target),
            "source_histogram": list(self.source),
        }


def spread(reference: np.ndarray, source: np.ndarray, target: np.ndarray, budget: float) -> Spread:
    """Count the errors of one output; arrays of one shape, floats or complex. `budget` is b, 0 where there is none."""
    wide = np.complex128 if any(x.dtype.kind == "c" for x in (reference, source, target)) else np.float64
    r, s, t = (np.asarray(x).astype(wide) for x in (reference, source, target))
    counted = np.isfinite(r) & np.isfinite(s) & np.isfinite(t)
    theirs, mine = t[counted] - r[counted], s[counted] - r[counted]
    bias = complex(theirs.mean()) if theirs.size else 0j
    return Spread(
        elements=int(counted.sum()),
        largest=float(np.abs(theirs).max(initial=0.0)),
        mean=bias.real if math.isfinite(bias.real) else 0.0,
        source_largest=float(np.abs(mine).max(initial=0.0)),
        target=_counts(np.abs(theirs), budget),
        source=_counts(np.abs(mine), budget),
    )


def _counts(errors: np.ndarray, budget: float) -> tuple[int, ...]:
    counts = np.zeros(len(EDGES) + 1, np.int64)
    wrong = errors[errors > 0]
    counts[0] = errors.size - wrong.size
    if wrong.size:
        with np.errstate(over="ignore", divide="ignore"):
            ratio = wrong / budget if budget else np.full(wrong.shape, np.inf)
        bins, found = np.unique(np.searchsorted(EDGES, ratio, side="right"), return_counts=True)
        counts[bins] = found
    return tuple(int(count) for count in counts)
