"""Outputs that are drawn at random, compared by their distribution.

Of such an output no two runs are equal, so its values prove nothing. Both sides are asked n times with the same input,
and the question becomes whether the 2n answers, each a vector of E elements, come from one distribution. It is answered
by permutation tests: if they do, the labels "source" and "target" may be dealt anew, and every statistic of the true
labels is a draw from that of dealt ones (Fisher 1935; Pitman 1937). This holds for any dependence between the elements,
any number of ties (what dropout zeroes), and any tails.

Each element is replaced by its rank among its 2n values, u in (0, 1), ties by their mean. Floats that rounding could
make of one another are ties: neighbours no further apart than `rounding` times the RMS of the output, in groups that
span at most SPAN times that. F_S and F_T are the empirical distribution functions of the two sides, z the distance of a
statistic from its mean over the dealt labels in their standard deviations:

    element   max over elements and levels of |F_S - F_T| (Smirnov 1939): one element is off
    overall   max over levels of |mean over elements of (F_S - F_T)|: all are off a little, as where one unit in
              a hundred more is dropped
    joint     the same as `element` of the means over 1, 2, 4, … blocks of neighbours, and the energy distance
              2 E|s - t| - E|s - s'| - E|t - t'| of the vectors u (Székely & Rizzo 2004): elements that fall together on
              one side and alone on the other; shifts of both signs

z >= DIFFER proves a difference, z <= AGREE in every statistic is agreement, as far as n draws tell; between the two n
is doubled. What they would have told is the `resolution`: the least |F_S - F_T| that would have been a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["AGREE", "DIFFER", "Distribution", "compare_draws", "rounding"]

AGREE = 6.0
DIFFER = 12.0
"""The energy distance of a single element has the longest tail under equality, about that of a squared Gaussian:
z = (g^2 - 1) / sqrt(2) is beyond 12 with probability 2e-5, beyond 6 with 2e-3."""
DEALS = 400
"""Labels dealt anew; they give mean and deviation of each statistic, not its tail."""
ELEMENTS = 512
"""At most so many elements of an output are looked at, spread evenly over it."""
LEVELS = np.array([1 / 256, 1 / 64, *(np.arange(1, 16) / 16), 63 / 64, 255 / 256])
BLOCKS = (1, 2, 4, 8, 16, 32)
SPAN = 8.0
_COARSE = 2.0**-20


@dataclass(frozen=True, slots=True)
class Distribution:
    """What the draws of one output in one case show.

    z           statistic -> its distance from what equal distributions give, in standard deviations
    resolution  "element" and "overall" -> the distance of two distribution functions that would have been a difference
    constant    the side ("source" or "target") that gives the same values each time, or ""
    """

    case: str
    draws: int
    z: Mapping[str, float] = field(default_factory=dict)
    resolution: Mapping[str, float] = field(default_factory=dict)
    constant: str = ""

    @property
    def worst(self) -> tuple[str, float]:
        """The statistic that speaks most against equality; ("", 0) where nothing was drawn."""
        return max(self.z.items(), key=lambda item: item[1], default=("", 0.0))

    def as_dict(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "draws": self.draws,
            "z": dict(self.z),
            "resolution": dict(self.resolution),
            "constant": self.constant or None,
        }


def rounding(unit: float) -> float:
    """The distance, relative to the output's RMS, that rounding may put between two equal draws: 512 u, as where
    UNEQUAL times four units prove a difference between values; 16 u of types so coarse that this would hide the
    output."""
    return (512.0 if unit < _COARSE else 16.0) * unit


def compare_draws(
    case: str, source: np.ndarray, target: np.ndarray, *, unit: float = 0.0, seed: int = 0
) -> Distribution:
    """Whether two samples (n, *shape) of numbers or truth values, NaN and infinities among them, are of one
    distribution. `unit` is the unit roundoff of floats, 0 for integers."""
    n = len(source)
    ranks = _ranks(np.concatenate([_elements(source), _elements(target)]), rounding(unit))
    ranks = ranks[:, (ranks != ranks[:1]).any(0)]
    if not ranks.shape[1]:
        return Distribution(case, n)
    deals = _deals(n, np.random.default_rng([seed, n]))
    shares = _indicators(ranks)
    profile = shares.mean(2)
    blocks = _indicators(_ranks(_block_means(ranks), 0.0))
    found = {
        "element": np.abs(_dealt(deals, shares)).max((1, 2)),
        "overall": np.abs(deals @ profile).max(1),
        "joint": np.abs(_dealt(deals, blocks)).max((1, 2)),
        "energy": -np.einsum("pi,pi->p", deals @ _distances(ranks), deals),
    }
    scales = {name: (float(values[1:].mean()), float(values[1:].std())) for name, values in found.items()}
    z = {name: (float(values[0]) - scales[name][0]) / max(scales[name][1], 1e-12) for name, values in found.items()}
    z["joint"] = max(z["joint"], z.pop("energy"))
    resolution = {name: min(1.0, mean + DIFFER * scale) for name, (mean, scale) in scales.items() if name in _NAMED}
    still = [name for name, own in (("source", ranks[:n]), ("target", ranks[n:])) if (own == own[:1]).all()]
    return Distribution(case, n, z, resolution, still[0] if len(still) == 1 else "")


_NAMED = ("element", "overall")


def _elements(sample: np.ndarray) -> np.ndarray:
    """(n, E) in float64; of NaN all are equal and greatest."""
    flat = sample.reshape(len(sample), -1)
    count = flat.shape[1]
    chosen = np.unique(np.linspace(0, count - 1, min(count, ELEMENTS)).astype(int)) if count else np.empty(0, int)
    wide = flat[:, chosen].astype(np.float64)
    return np.where(np.isnan(wide), np.inf, wide)


def _ranks(values: np.ndarray, near: float) -> np.ndarray:
    """(2n, E): the mean rank of each value among those of its column, over 2n; in (0, 1). Values `near` one another,
    relative to the RMS of all, are ties."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, 0)
    finite = values[np.isfinite(values)]
    distance = near * math.sqrt(float(np.mean(finite**2))) if finite.size else 0.0
    ranks = np.empty(values.shape)
    for column in range(values.shape[1]):
        groups = _groups(ordered[:, column], distance)
        counts = np.bincount(groups)
        ranks[order[:, column], column] = (np.cumsum(counts) - counts / 2)[groups]
    return ranks / len(values)


def _groups(ordered: np.ndarray, distance: float) -> np.ndarray:
    """The number of the group that each of these ascending values belongs to."""
    with np.errstate(invalid="ignore"):  # inf - inf
        apart = (ordered[1:] != ordered[:-1]) & ~(ordered[1:] - ordered[:-1] <= distance)
    starts = np.concatenate([[0], np.flatnonzero(apart) + 1])
    group = np.repeat(np.arange(len(starts)), np.diff([*starts, len(ordered)]))
    if not distance:
        return group
    first = ordered[starts][group]
    with np.errstate(invalid="ignore"):
        part = np.floor(np.where(np.isfinite(ordered), ordered - first, 0.0) / (SPAN * distance))
    return np.concatenate([[0], np.cumsum((np.diff(group) != 0) | (np.diff(part) != 0))])


def _deals(n: int, rng: np.random.Generator) -> np.ndarray:
    """(1 + DEALS, 2n): the true labels, then dealt ones; 1/n for the source, -1/n for the target."""
    true = np.repeat([1.0 / n, -1.0 / n], n)
    return np.stack([true, *(rng.permutation(true) for _ in range(DEALS))])


def _indicators(ranks: np.ndarray) -> np.ndarray:
    """(2n, LEVELS, E): whether a value is at most at each level of its column."""
    return (ranks[:, None, :] <= LEVELS[:, None]).astype(np.float32)


def _dealt(deals: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(1 + DEALS, LEVELS, E): F_S - F_T for each deal."""
    flat: np.ndarray = np.matmul(deals.astype(np.float32), shares.reshape(len(shares), -1))
    return flat.reshape(len(deals), *shares.shape[1:])


def _block_means(ranks: np.ndarray) -> np.ndarray:
    parts = [part.mean(1) for count in BLOCKS if count <= ranks.shape[1] for part in np.array_split(ranks, count, 1)]
    return np.stack(parts, 1)


def _distances(ranks: np.ndarray) -> np.ndarray:
    """(2n, 2n): Euclidean distances of the vectors."""
    squares = (ranks**2).sum(1)
    products: np.ndarray = ranks @ ranks.T
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0.0)))
