"""What tensors contain: hashes, and where two tensors differ. Read in blocks: nothing is copied whole.

Two digests are equal exactly if element type, shape and every bit of every element are (sha256). A mix does not know
the order of the elements: it finds tensors that may be each other's transposes, which is then decided exactly.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from isomorph.ir.diff.difference import Numbers
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import Perm
from isomorph.ir.tensors import TensorSource

__all__ = ["compare_elements", "content_digest", "find_permutation", "is_reshaped", "order_free_mix"]

Array: TypeAlias = npt.NDArray[Any]

BLOCK = 1 << 20
"""Elements that are looked at together."""
_MOST_AXES = 6
"""Permutations are tried of tensors with at most this many axes."""
_SAMPLE = 64
"""Elements that are compared before all are."""
_PACKED = ("int2", "int4", "uint2", "uint4")
"""Types whose elements fill a part of a byte."""


def content_digest(data: TensorSource) -> str:
    """sha256 of element type, shape, and the elements in C order, in hex."""
    digest = hashlib.sha256(f"{data.dtype} {list(data.shape)} ".encode())
    for (block,) in _blocks(data.numpy()):
        digest.update(_bits(block, data.dtype))
    return digest.hexdigest()


def order_free_mix(data: TensorSource) -> int:
    """A number that depends on the elements' bits and not on their order: a sum of scrambled bits modulo 2**64."""
    total = 0
    with np.errstate(over="ignore"):
        for (block,) in _blocks(data.numpy()):
            total = (total + int(_scrambled(_integers(block, data.dtype)).sum(dtype=np.uint64))) % 2**64
    return total


def find_permutation(a: TensorSource, b: TensorSource) -> Perm | None:
    """The axes of which b is numpy.transpose(a, axes), bit by bit, or None. Not the identity."""
    rank = len(a.shape)
    if a.dtype is not b.dtype or rank > _MOST_AXES or sorted(a.shape) != sorted(b.shape) or a.size < 2:
        return None
    first, second = a.numpy(), b.numpy()
    places = np.random.default_rng(0).integers(0, np.array(b.shape)[:, None], (rank, _SAMPLE))
    sample = _bits(second[tuple(places)], b.dtype)
    for axes in itertools.permutations(range(rank)):
        if axes == tuple(range(rank)) or tuple(a.shape[axis] for axis in axes) != b.shape:
            continue
        if _bits(first.transpose(axes)[tuple(places)], a.dtype) == sample and all(
            _bits(x, a.dtype) == _bits(y, a.dtype) for x, y in _blocks(first.transpose(axes), second)
        ):
            return axes
    return None


def is_reshaped(a: TensorSource, b: TensorSource) -> bool:
    """Whether b has the bits of a, in C order, under another shape."""
    if a.dtype is not b.dtype or a.size != b.size or a.shape == b.shape:
        return False
    first, second = a.numpy().flat, b.numpy().flat
    pieces = (slice(start, start + BLOCK) for start in range(0, a.size, BLOCK))
    return all(_bits(first[piece], a.dtype) == _bits(second[piece], b.dtype) for piece in pieces)


def compare_elements(a: TensorSource, b: TensorSource, axes: Perm | None = None) -> Numbers | None:
    """How the elements of b differ from those of a (of numpy.transpose(a, axes), if given).

    None if the shapes differ or the elements are text of which there is no distance; see `Numbers`.
    """
    first, second = a.numpy(), b.numpy()
    if axes is not None:
        first = first.transpose(axes)
    if first.shape != second.shape:
        return None
    tally = _Tally()
    for x, y in _blocks(first, second):
        tally.add(x, y, a.dtype, b.dtype)
    return Numbers(tally.differing, a.size, tally.absolute, tally.relative, tally.nan[0], tally.nan[1])


class _Tally:
    """Sums up differences block by block."""

    def __init__(self) -> None:
        self.differing = 0
        self.absolute = 0.0
        self.relative = 0.0
        self.nan = [0, 0]

    def add(self, x: Array, y: Array, dtype: DType, other: DType) -> None:
        if DType.STRING in (dtype, other):
            pairs = zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True)
            self.differing += sum(p != q for p, q in pairs)
            return
        unequal = _unequal(x, y, dtype, other)
        self.differing += int(np.count_nonzero(unequal))
        self.nan[0] += _nans(x, dtype)
        self.nan[1] += _nans(y, other)
        if unequal.any():
            self._measure(x[unequal], y[unequal], dtype, other)

    def _measure(self, x: Array, y: Array, dtype: DType, other: DType) -> None:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            p, q = _wide(x, dtype), _wide(y, other)
            apart = np.abs(q - p) if dtype is not other or not dtype.is_integer else _apart(x, y, dtype)
            finite = np.isfinite(p) & np.isfinite(q)
            apart = np.where(finite | (p != q), apart, 0.0)
            scale = np.maximum(np.abs(p), np.abs(q))
            ratio = np.where(finite, apart / np.where(scale == 0, 1, scale), np.inf)
        known = ~(np.isnan(p) | np.isnan(q))
        if known.any():
            self.absolute = max(self.absolute, float(apart[known].max()))
            self.relative = max(self.relative, float(ratio[known].max()))


def _unequal(x: Array, y: Array, dtype: DType, other: DType) -> npt.NDArray[np.bool_]:
    """Where the bits differ; of two element types, where the values do."""
    if dtype is other:
        if dtype.is_complex:
            pairs = zip((x.real, x.imag), (y.real, y.imag), strict=True)
            part = DType.FLOAT32 if dtype is DType.COMPLEX64 else DType.FLOAT64
            return np.logical_or(*(_unequal(p, q, part, part) for p, q in pairs))
        return np.asarray(_integers(x, dtype) != _integers(y, dtype)).reshape(x.shape)
    p, q = _wide(x, dtype), _wide(y, other)
    return np.asarray((p != q) & ~(np.isnan(p) & np.isnan(q)))


def _apart(x: Array, y: Array, dtype: DType) -> Array:
    """|y - x| of integers of one type, without overflow."""
    wide = np.uint64 if dtype is DType.UINT64 else np.int64
    p, q = x.astype(wide), y.astype(wide)
    high, low = np.maximum(p, q), np.minimum(p, q)
    return (high.view(np.uint64) - low.view(np.uint64)).astype(np.float64)


def _wide(x: Array, dtype: DType) -> Array:
    return x.astype(np.complex128 if dtype.is_complex else np.float64)


def _nans(x: Array, dtype: DType) -> int:
    if not (dtype.is_float or dtype.is_complex):
        return 0
    return int(np.count_nonzero(np.isnan(x if dtype.itemsize >= 4 else x.astype(np.float32))))


def _integers(block: Array, dtype: DType) -> Array:
    """The bits of each element as an unsigned integer (a complex number: as one of its two words each)."""
    if dtype is DType.STRING:
        texts = (hashlib.sha256(json.dumps(_text(item)).encode()).digest()[:8] for item in block.reshape(-1).tolist())
        return np.array([int.from_bytes(text, "little") for text in texts], np.uint64)
    if dtype.value in _PACKED:
        return block.astype(np.int8).view(np.uint8)
    size = min(dtype.itemsize, 8)
    return np.ascontiguousarray(block).reshape(-1).view(f"u{size}")


def _scrambled(bits: Array) -> Array:
    """splitmix64 of each element."""
    z = bits.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _bits(block: Array, dtype: DType) -> bytes | memoryview:
    if dtype is DType.STRING:
        return "\n".join(json.dumps(_text(item)) for item in block.reshape(-1).tolist()).encode() + b"\n"
    if dtype.value in _PACKED:
        return block.astype(np.int8).tobytes()
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8).data


def _text(item: object) -> str:
    return item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else str(item)


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The arrays, which have one shape, in equal pieces of at most about BLOCK elements, in C order."""
    shape = arrays[0].shape
    if math.prod(shape) == 0:
        return
    for index in _pieces(shape):
        yield tuple(array[index] if index else array.reshape(1) for array in arrays)


def _pieces(shape: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Index expressions of consecutive pieces of an array of this shape."""
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner > BLOCK:
        for position in range(shape[0]):
            for rest in _pieces(shape[1:]):
                yield (position, *rest)
        return
    step = max(1, BLOCK // max(inner, 1))
    for start in range(0, shape[0], step):
        yield (slice(start, start + step),)
