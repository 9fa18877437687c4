"""Where the maxima of adaptive windows lie, and maxima put back where they were."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.shapes import elements

__all__ = ["adaptive_places"]


@rules.imports("aten.max_unpool2d.default", "aten.max_unpool3d.default")
def max_unpool(
    b: Lowering,
    self: Value,
    indices: Value,
    output_size: Sequence[Dim],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (),
) -> Value:
    """max_unpool2d(Tensor self, Tensor indices, SymInt[2] output_size): each element at its index of a channel"""
    rank = len(output_size)
    lead = self.shape[: self.rank - rank]
    cells, count = elements(output_size), elements(self.shape[self.rank - rank :])
    empty = b.emit(ops.ConstantOfShape((*lead, cells), 0, self.dtype))
    places, values = (b.reshape(each, (*lead, count)) for each in (indices, self))
    filled = b.emit(ops.ScatterElements(len(lead)), empty, places, values)
    return b.reshape(filled, (*lead, *output_size))


def adaptive_places(b: Lowering, x: Value, targets: Sequence[int]) -> Value:
    """Where, in a channel of x (N, C, *D), the maximum of each adaptive window lies: (N, C, *targets), int64."""
    sizes = [b.static(size, "an axis that is pooled adaptively, with indices,") for size in x.shape[2:]]
    rank = len(sizes)
    lead = x.shape[:2]
    if all(target == 1 for target in targets):
        found = b.emit(ops.ArgMax(2, keepdims=False), b.reshape(x, (*lead, elements(sizes))))
        return b.reshape(found, (*lead, *targets))
    places = [_window_cells(size, target) for size, target in zip(sizes, targets, strict=True)]
    for axis, cells in enumerate(places):
        x = b.emit(ops.Gather(2 + 2 * axis), x, b.constant(cells, "cells"))
    order = (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
    area = int(np.prod([cells.shape[1] for cells in places]))
    windows = b.reshape(b.emit(ops.Transpose(order), x), (*lead, *targets, area))
    best = b.emit(ops.ArgMax(2 + rank, keepdims=False), windows)
    table = np.zeros((), np.int64)
    for size, cells in zip(sizes, places, strict=True):
        table = table[..., None, None] * size + cells  # (*(out, cells) for each axis)
    pairs = tuple(range(0, 2 * rank, 2)), tuple(range(1, 2 * rank, 2))
    flat = table.transpose((*pairs[0], *pairs[1])).reshape(-1)
    begin = b.constant(np.arange(flat.size // area).reshape(tuple(targets)) * area, "windows")
    return b.emit(ops.Gather(0), b.constant(flat, "places"), b.emit(ops.Add(), best, b.cast(begin, DType.INT64)))


def _window_cells(size: int, count: int) -> np.ndarray[Any, Any]:
    """The cells of each window of an axis, the last one repeated in windows that are shorter than others."""
    index = np.arange(count)
    begin, end = index * size // count, -(-(index + 1) * size // count)
    longest = int((end - begin).max())
    cells: np.ndarray[Any, Any] = np.minimum(begin[:, None] + np.arange(longest), end[:, None] - 1)
    return cells.astype(np.int64)
