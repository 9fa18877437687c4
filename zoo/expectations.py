"""What a known answer expects of one output: `Peak`, `Values`, `Same` or `Labels`.

Each reduces the output by a recipe (mostly empty) and compares. Shapes are compared exactly: nothing is squeezed,
permuted or cut to make it fit, and a NaN never passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isomorph.zoo.recipes import Array, Recipe, evaluate, recorded
from isomorph.zoo.tables import Table

__all__ = ["Expectation", "Finding", "Labels", "Peak", "Same", "Values", "read_expectation"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How far an output is from what is expected.

    error  largest absolute difference, infinite if the arrays cannot be compared
    """

    expected: str
    received: str
    error: float
    passed: bool


class Expectation(Protocol):
    """Judges one output: `output` names it, `reduce` is applied to it first, `meaning` is for the reader."""

    @property
    def output(self) -> str: ...
    @property
    def reduce(self) -> Recipe: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def meaning(self) -> str: ...
    def judge(self, array: Array) -> Finding: ...


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest element of the reduced output is at `index` and is `value` within `tolerance`."""

    output: str
    reduce: Recipe
    meaning: str
    tolerance: float
    index: tuple[int, ...]
    value: float

    def judge(self, array: Array) -> Finding:
        expected = f"{self.value:.7g} at {_place(self.index)}"
        array = _reduced(self.reduce, array)
        if array.ndim != len(self.index) or array.size == 0:
            return Finding(expected, _shape(array), float("inf"), False)
        place = tuple(int(axis) for axis in np.unravel_index(int(np.argmax(array)), array.shape))
        value = float(array[place])
        error = abs(value - self.value)
        passed = place == self.index and error <= self.tolerance
        return Finding(expected, f"{value:.7g} at {_place(place)}", error, passed)


@dataclass(frozen=True, slots=True)
class Values:
    """The reduced output is the vector `values` within `tolerance`, element by element."""

    output: str
    reduce: Recipe
    meaning: str
    tolerance: float
    values: tuple[float, ...]

    def judge(self, array: Array) -> Finding:
        return _compare(np.array(self.values), _reduced(self.reduce, array), self.tolerance)


@dataclass(frozen=True, slots=True)
class Same:
    """The reduced output is the recorded array `key` of `file` within `tolerance`, element by element."""

    output: str
    reduce: Recipe
    meaning: str
    tolerance: float
    file: str
    key: str

    def judge(self, array: Array) -> Finding:
        return _compare(recorded(self.file, self.key), _reduced(self.reduce, array), self.tolerance)


@dataclass(frozen=True, slots=True)
class Labels:
    """The index of the largest element on the last axis is the recorded array `key` of `file`, exactly."""

    output: str
    reduce: Recipe
    meaning: str
    tolerance: float
    file: str
    key: str

    def judge(self, array: Array) -> Finding:
        labels = recorded(self.file, self.key)
        array = _reduced(self.reduce, array)
        expected = f"{labels.size} labels"
        if array.shape[:-1] != labels.shape or array.shape[-1:] == (0,) or np.isnan(array).any():
            return Finding(expected, _shape(array), float("inf"), False)
        wrong = int((array.argmax(-1) != labels).sum())
        return Finding(expected, f"{labels.size - wrong} of them", float(wrong), wrong == 0)


def read_expectation(table: Table, reduce: Recipe) -> Expectation:
    """The expectation that a table describes; its keys tell which kind it is."""
    output, meaning, tolerance = table.text("output"), table.text("meaning"), table.number("tolerance")
    if not 0 <= tolerance < 1:
        raise table.error(f"`tolerance` is {tolerance}, not in 0..1")
    head = (output, reduce, meaning, tolerance)
    if table.has("peak"):
        return Peak(*head, table.integers("peak"), table.number("value"))
    if table.has("values"):
        return Values(*head, table.numbers("values"))
    if table.choice("kind", {"same": True, "labels": False}):
        return Same(*head, table.text("file"), table.text("key"))
    return Labels(*head, table.text("file"), table.text("key"))


def _reduced(reduce: Recipe, array: Array) -> Array:
    return evaluate(reduce, array.astype(np.float64))


def _compare(expected: Array, received: Array, tolerance: float) -> Finding:
    if expected.shape != received.shape:
        return Finding(_shape(expected), _shape(received), float("inf"), False)
    errors = np.abs(received - expected)
    worst = tuple(int(axis) for axis in np.unravel_index(int(np.argmax(errors)), errors.shape))
    error = float(errors[worst])
    place = f" at {_place(worst)}" if worst else ""
    return Finding(f"{expected[worst]:.7g}{place}", f"{received[worst]:.7g}", error, error <= tolerance)


def _shape(array: Array) -> str:
    return f"an array of shape {array.shape}"


def _place(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)
