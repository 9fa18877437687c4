"""In words: how the running statistics of a target differ from the source's (trial.py).

After k steps on one batch a running statistic r has moved from r_0 to r_0 + A (s - r_0), s that of the batch, A = 1 -
m^k with the share m kept in each step (Keras' momentum; 1 - PyTorch's). For two sides of different conventions

    r' - r_0 = a (r - r_0) + b r_0

with a = A'/A, b = 0 for another momentum; and where the source's variance is the unbiased one, n/(n - 1) times the
biased, and the target's is not, a = (n - 1)/n and b = A (a - 1).
"""

from __future__ import annotations

import numpy as np

__all__ = ["explain_statistics"]

_EXACT = 1e-4
_FEW = 3


def explain_statistics(begun: np.ndarray, expected: np.ndarray, got: np.ndarray) -> str:
    """The convention that explains the difference of two changes, "" if none does."""
    r, t, start = (np.asarray(each, np.float64).reshape(-1) for each in (expected, got, begun))
    size = float(np.linalg.norm(t))
    if not np.linalg.norm(r):
        return ""
    if not size:
        return "the target does not update it at all"
    factor = float(r @ t / (r @ r))
    basis = np.stack([r, start], axis=1)
    (a, b), *_ = np.linalg.lstsq(basis, t, rcond=None)
    alone, both = (float(np.linalg.norm(t - each)) for each in (factor * r, basis @ (a, b)))
    if alone <= _EXACT * size and (r.size < _FEW or both > alone / 8):
        return f"the target's moves {factor:.4g} times as far: another momentum"
    if r.size < _FEW or both > _EXACT * size or a == 1:
        return ""
    count = 1 / (1 - a)
    if 0 < a < 1 and abs(count - round(count)) < 0.01 * count and 0 < b / (a - 1) <= 1.001:
        return f"the target averages the biased variance of n = {round(count)} values, the source n/(n - 1) times that"
    return "another momentum, and the biased variance of the batch for the unbiased one" if a > 0 else ""
