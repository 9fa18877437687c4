"""Tensor data that is read when it is needed: slices of mapped files, arrays, permuted and reshaped views.

A `TensorSource` is never copied to be looked at. `numpy()` of a mapped source is a read-only view of the page cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isomorph.errors import MalformedError, ShapeError
from isomorph.ir.dtypes import DType

__all__ = ["ArrayTensor", "DerivedTensor", "MappedTensor", "TensorSource"]

Array = npt.NDArray[np.generic]


class TensorSource:
    """A tensor with a known dtype and a static shape whose elements are fetched on demand.

    Subclasses set `dtype` and `shape` and implement `_fetch`, which returns an array of just that dtype and shape.
    """

    __slots__ = ("dtype", "shape")
    dtype: DType
    shape: tuple[int, ...]

    def __init__(self, dtype: DType, shape: Sequence[int]) -> None:
        self.dtype = dtype
        self.shape = tuple(int(size) for size in shape)

    def _fetch(self) -> Array:
        raise TypeError(f"{type(self).__name__} does not implement _fetch")  # pragma: no cover

    def numpy(self) -> Array:
        """The elements: C-contiguous or a strided view, not to be written to."""
        array = self._fetch()
        if array.shape != self.shape or array.dtype != self.dtype.numpy:
            raise MalformedError(
                f"tensor data does not match its description: {array.dtype}{list(array.shape)} for {self}",
            )
        return array

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def permuted(self, perm: Sequence[int]) -> TensorSource:
        """The view with axes in the order `perm` (as numpy.transpose)."""
        if sorted(perm) != list(range(len(self.shape))):
            raise ShapeError(f"{tuple(perm)} does not permute the axes of {list(self.shape)}")
        if list(perm) == list(range(len(self.shape))):
            return self
        axes = tuple(perm)
        return DerivedTensor(
            self.dtype, [self.shape[axis] for axis in axes], (self,), lambda array: array.transpose(axes)
        )

    def reshaped(self, shape: Sequence[int]) -> TensorSource:
        """The same elements in C order under another shape."""
        target = tuple(int(size) for size in shape)
        if math.prod(target) != self.size:
            raise ShapeError(f"cannot reshape {list(self.shape)} to {list(target)}")
        if target == self.shape:
            return self
        return DerivedTensor(self.dtype, target, (self,), lambda array: array.reshape(target))

    def digest(self) -> str:
        """sha256 of the elements in C order, little-endian, in hex."""
        from hashlib import sha256  # OpenSSL, which a conversion does not need

        return sha256(np.ascontiguousarray(self.numpy()).tobytes()).hexdigest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype}{list(self.shape)})"


class ArrayTensor(TensorSource):
    """An array that is in memory."""

    __slots__ = ("_array",)

    def __init__(self, array: npt.ArrayLike) -> None:
        self._array = np.asarray(array)
        super().__init__(DType.of(self._array.dtype), self._array.shape)

    def _fetch(self) -> Array:
        return self._array


class MappedTensor(TensorSource):
    """A slice of a file: `offset` bytes in, little-endian, with optional element strides (C order without).

    The file is mapped when the tensor is read, never before; the slice is checked against the file's size then. A file
    that was replaced or changed since the tensor was made is refused: its bytes are not the model's.
    """

    __slots__ = ("_stamp", "_strides", "offset", "path")

    def __init__(
        self, path: Path, offset: int, dtype: DType, shape: Sequence[int], strides: Sequence[int] | None = None
    ) -> None:
        super().__init__(dtype, shape)
        self.path = path
        self.offset = offset
        self._stamp = _stamp(path)
        self._strides = None if strides is None else tuple(strides)

    def _fetch(self) -> Array:
        if self.size == 0:
            return np.empty(self.shape, self.dtype.numpy)
        extent = self.size
        if self._strides is not None:
            extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self._strides, strict=True))
        end = self.offset + extent * self.dtype.itemsize
        if _stamp(self.path) != self._stamp:
            raise MalformedError(
                "the file of the weights has changed since the model was read",
                at=str(self.path),
                advice="load the model again",
            )
        available = self.path.stat().st_size
        if self.offset < 0 or end > available or any(stride < 0 for stride in self._strides or ()):
            raise MalformedError(
                f"tensor data lies outside of its file: bytes {self.offset} to {end} of {available}", at=str(self.path)
            )
        flat = np.memmap(self.path, dtype=np.uint8, mode="r", offset=self.offset, shape=(end - self.offset,))
        typed = flat.view(np.ndarray).view(self.dtype.numpy)
        if self._strides is None:
            return typed.reshape(self.shape)
        steps = tuple(stride * self.dtype.itemsize for stride in self._strides)
        return np.lib.stride_tricks.as_strided(typed, self.shape, steps, writeable=False)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells one state of a file from another: inode, size and time of change; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class DerivedTensor(TensorSource):
    """The result of a function of other sources, computed each time it is asked for."""

    __slots__ = ("_compute", "_sources")

    def __init__(
        self, dtype: DType, shape: Sequence[int], sources: Sequence[TensorSource], compute: Callable[..., Array]
    ) -> None:
        super().__init__(dtype, shape)
        self._sources = tuple(sources)
        self._compute = compute

    def _fetch(self) -> Array:
        return self._compute(*(source.numpy() for source in self._sources))
