"""Where the channel axis of an op's data lies, and the permutations between the two conventions.

Kernels have one layout everywhere, O-I-spatial; only data has a layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias, TypeVar

__all__ = ["Layout", "LayoutRule", "Perm", "compose", "inverse", "to_channels_first", "to_channels_last"]

Perm: TypeAlias = tuple[int, ...]
T = TypeVar("T")


class Layout(Enum):
    """CHANNELS_FIRST is (N, C, *spatial), CHANNELS_LAST is (N, *spatial, C)."""

    CHANNELS_FIRST = "channels_first"
    CHANNELS_LAST = "channels_last"

    def channel_axis(self, rank: int) -> int:
        """Index of the channel axis of data of this rank."""
        return 1 if self is Layout.CHANNELS_FIRST else rank - 1

    def spatial_axes(self, rank: int) -> range:
        """Indices of the spatial axes of data of this rank."""
        return range(2, rank) if self is Layout.CHANNELS_FIRST else range(1, rank - 1)

    def split(self, shape: Sequence[T]) -> tuple[T, T, tuple[T, ...]]:
        """(batch, channels, spatial) of a data shape in this layout."""
        channel = self.channel_axis(len(shape))
        return shape[0], shape[channel], tuple(shape[axis] for axis in self.spatial_axes(len(shape)))

    def join(self, batch: T, channels: T, spatial: Sequence[T]) -> tuple[T, ...]:
        """The data shape in this layout."""
        if self is Layout.CHANNELS_FIRST:
            return (batch, channels, *spatial)
        return (batch, *spatial, channels)

    def after(self, perm: Perm) -> Layout | None:
        """The layout of data in this layout after numpy.transpose by `perm`, None if it is neither."""
        if self is Layout.CHANNELS_FIRST and perm == to_channels_last(len(perm)):
            return Layout.CHANNELS_LAST
        if self is Layout.CHANNELS_LAST and perm == to_channels_first(len(perm)):
            return Layout.CHANNELS_FIRST
        return None

    def __str__(self) -> str:
        return self.value


class LayoutRule(Enum):
    """How an op behaves when the axes of its data are permuted (see passes/layout.py).

    BOUND        has a `layout` attribute: works in either layout, the target chooses
    ELEMENTWISE  computes element by element with NumPy broadcasting: any permutation, inputs and outputs alike
    AXES         names axes in its attributes: any permutation, through `Op.permuted`
    FIXED        needs the axis order that it was built with
    """

    BOUND = "bound"
    ELEMENTWISE = "elementwise"
    AXES = "axes"
    FIXED = "fixed"


def to_channels_last(rank: int) -> Perm:
    """(N, C, *D) -> (N, *D, C), as a numpy.transpose permutation."""
    return (0, *range(2, rank), 1)


def to_channels_first(rank: int) -> Perm:
    """(N, *D, C) -> (N, C, *D), as a numpy.transpose permutation."""
    return (0, rank - 1, *range(1, rank - 1))


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    result = [0] * len(perm)
    for position, axis in enumerate(perm):
        result[axis] = position
    return tuple(result)


def compose(first: Perm, second: Perm) -> Perm:
    """One permutation that does `first`, then `second`."""
    return tuple(first[axis] for axis in second)
