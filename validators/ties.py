"""Near ties in sorted outputs: rows that may change places between two correct implementations.

A detector gives boxes and labels in the order of their scores. Where two scores differ by less than rounding moves
them, their rows come in either order, and six runs with noise (monte_carlo.py) need not show each of a hundred such
pairs. But they show how far scores move: position by position the sorted scores are continuous even where rows swap.
With R the float64 run, Q_k the runs with noise and i a position of an output that R has sorted,

    radius_i   = max_k |Q_k[i] - R[i]|
    contested  = i, i + 1   where   |R[i] - R[i + 1]| <= radius_i + radius_{i+1}

Rows of other outputs at contested positions are undecided: they are ties of the order, not of the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isomorph.ir import DType

__all__ = ["contested"]


def contested(
    name: str, reference: Mapping[str, np.ndarray], noisy: Sequence[Mapping[str, np.ndarray]]
) -> np.ndarray | None:
    """Which elements of the output `name` stand in rows that may change places: bool of its shape; None if no other
    output orders it. An output orders another if it is of a float type, sorted along its last axis in R, and its shape
    is the first axes of the other's."""
    shape = reference[name].shape
    found = None
    for other, keys in reference.items():
        runs = [run[other] for run in noisy if other in run and run[other].shape == keys.shape]
        if other == name or not runs or not _orders(keys, shape):
            continue
        rows = _near_ties(keys.astype(np.float64), [run.astype(np.float64) for run in runs])
        wide = np.broadcast_to(rows.reshape(rows.shape + (1,) * (len(shape) - rows.ndim)), shape)
        found = wide if found is None else found | wide
    return found


def _orders(keys: np.ndarray, shape: tuple[int, ...]) -> bool:
    if not DType.of(keys.dtype).is_float or not 1 <= keys.ndim <= len(shape) or keys.shape != shape[: keys.ndim]:
        return False
    steps = np.diff(keys.astype(np.float64), axis=-1)
    return bool(steps.size) and (bool((steps <= 0).all()) or bool((steps >= 0).all())) and bool(steps.any())


def _near_ties(keys: np.ndarray, runs: Sequence[np.ndarray]) -> np.ndarray:
    radius = np.max([np.abs(run - keys) for run in runs], axis=0)
    close = np.abs(np.diff(keys, axis=-1)) <= radius[..., :-1] + radius[..., 1:]
    rows = np.zeros(keys.shape, bool)
    rows[..., :-1] |= close
    rows[..., 1:] |= close
    return rows
