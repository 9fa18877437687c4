"""Sequences side by side: the longest chain of pairs in order, and the longest common subsequence."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["common_subsequence", "longest_chain"]

_MOST_CELLS = 4_000_000
"""The largest table of a longest common subsequence; above it, equal items are paired in order."""


def longest_chain(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence of pairs (i, j), whose i increase, in which j increases too. O(n log n)."""
    tails: list[int] = []  # the least last j of a chain of each length
    ends: list[int] = []  # where in `given` that chain ends
    given = list(pairs)
    before: list[int] = []
    for index, (_, j) in enumerate(given):
        length = bisect_left(tails, j)
        before.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [j]
        ends[length : length + 1] = [index]
    chain: list[tuple[int, int]] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chain.append(given[at])
        at = before[at]
    return chain[::-1]


def common_subsequence(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of a longest common subsequence, the earliest one. Of very long sequences, a common subsequence."""
    if len(a) * len(b) > _MOST_CELLS:
        return _in_order(a, b)
    table = np.zeros((len(a) + 1, len(b) + 1), np.int32)
    other = np.asarray(b)
    for i in range(len(a) - 1, -1, -1):
        step = np.where(other == a[i], table[i + 1, 1:] + 1, table[i + 1, :-1])
        table[i, :-1] = np.maximum.accumulate(step[::-1])[::-1]
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif table[i + 1, j] >= table[i, j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _in_order(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Each item of a with the next equal one of b, as a chain."""
    places: dict[int, list[int]] = {}
    for j, item in enumerate(b):
        places.setdefault(item, []).append(j)
    counts: dict[int, int] = {}
    pairs = []
    for i, item in enumerate(a):
        count = counts.get(item, 0)
        if count < len(places.get(item, ())):
            pairs.append((i, places[item][count]))
            counts[item] = count + 1
    return longest_chain(pairs)
