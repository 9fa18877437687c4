"""The one way this package reads HDF5: groups, attributes and datasets by name, nothing else that a file may ask for.

Refused, because a stranger's file could reach outside of itself or past its own size: external and soft links, external
storage, virtual datasets, filters other than those built into HDF5, element types that are not plain numbers, and
datasets that claim more elements than their storage can hold. A contiguous dataset is mapped where it lies, also inside
a stored zip member; a chunked one is read when it is asked for.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from isomorph.errors import MalformedError, UnsafeError, UnsupportedError
from isomorph.errors import Unsupported as Case
from isomorph.ir import ArrayTensor, DerivedTensor, DType, MappedTensor, TensorSource

__all__ = ["Hdf5File", "Hdf5Group"]

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_LZF: "lzf",
}
_LARGEST_EXPANSION = 1100  # deflate expands a byte to at most 1032
_LARGEST_ATTRIBUTE = 256 << 20


class _Span(io.RawIOBase):
    """Bytes [offset, offset + size) of a file as a read-only file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + position, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(min(len(view), self._size - self._at), 0)
        self._file.seek(self._offset + self._at)
        done = self._file.readinto(view[:count])
        self._at += done
        return done

    def close(self) -> None:
        self._file.close()
        super().close()


class Hdf5File:
    """An HDF5 file: a whole file, a span of one (`offset`, `size`), or bytes in memory (`data`).

    Used as a context manager; `root` is the root group. Raises MalformedError if it is no HDF5.
    """

    def __init__(
        self, path: Path, *, offset: int = 0, size: int | None = None, data: bytes | None = None, label: str = ""
    ) -> None:
        self.path, self.offset, self.data = path, offset, data
        self.size = len(data) if data is not None else path.stat().st_size - offset if size is None else size
        self.label = label or str(path)
        self._handle: Any = None
        self._stream: io.IOBase | None = None

    def __enter__(self) -> Hdf5File:
        self._handle, self._stream = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()
        if self._stream is not None:
            self._stream.close()

    def _open(self) -> tuple[Any, io.IOBase | None]:
        stream: io.IOBase | None = None
        if self.data is not None:
            stream = io.BytesIO(self.data)
        elif self.offset or self.size != self.path.stat().st_size:
            stream = _Span(self.path, self.offset, self.size)
        try:
            return h5py.File(self.path if stream is None else stream, "r"), stream
        except (OSError, RuntimeError, ValueError) as error:
            raise MalformedError("not a readable HDF5 file", at=self.label, because=str(error)) from None

    @property
    def root(self) -> Hdf5Group:
        return Hdf5Group(self, self._handle, "")

    def fetch(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """All elements of the dataset at `name`, from a file opened anew (so that it works after `close`)."""
        handle, stream = self._open()
        try:
            with reading(self.label, name):
                return np.asarray(handle[name][()])
        finally:
            handle.close()
            if stream is not None:
                stream.close()


@contextmanager
def reading(label: str, name: str) -> Iterator[None]:
    """Errors of the HDF5 library become MalformedError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, UnicodeDecodeError) as error:
        raise MalformedError(f"cannot read {name or '/'!r} of the HDF5 file", at=label, because=str(error)) from None


class Hdf5Group:
    """A group of an HDF5 file, reached by hard links alone."""

    def __init__(self, file: Hdf5File, handle: Any, name: str) -> None:
        self.file, self.name = file, name
        self._handle = handle

    def names(self) -> list[str]:
        """Names of the members."""
        with reading(self.file.label, self.name):
            return [str(name) for name in self._handle]

    def __contains__(self, path: str) -> bool:
        group: Any = self._handle
        for part in path.split("/"):
            if not isinstance(group, h5py.Group) or not self._exists(group, part, path):
                return False
            group = self._step(group, part, path)
        return True

    def group(self, path: str) -> Hdf5Group:
        """The group at a relative path. Raises MalformedError if it is absent or no group."""
        found = self._find(path)
        if not isinstance(found, h5py.Group):
            raise MalformedError(f"{self._join(path)!r} is not a group", at=self.file.label)
        return Hdf5Group(self.file, found, self._join(path))

    def tensor(self, path: str) -> TensorSource:
        """The dataset at a relative path, mapped or read on demand.

        Raises UnsafeError, MalformedError, UnsupportedError.
        """
        found = self._find(path)
        name = self._join(path)
        if not isinstance(found, h5py.Dataset):
            raise MalformedError(f"{name!r} is not a dataset", at=self.file.label)
        with reading(self.file.label, name):
            return self._source(found, name)

    def text(self, key: str) -> str | None:
        """The attribute `key` as text, None if it is absent."""
        value = self._attribute(key)
        if value is None:
            return None
        return _text(value, key, self.file.label)

    def texts(self, key: str) -> list[str] | None:
        """The attribute `key`, an array of text; None if absent. Keras splits a long one into `key0`, `key1`, …"""
        value = self._attribute(key)
        if value is not None:
            return [_text(item, key, self.file.label) for item in np.atleast_1d(value).reshape(-1).tolist()]
        parts: list[str] = []
        index = 0
        while (chunk := self._attribute(f"{key}{index}")) is not None:
            parts += [_text(item, key, self.file.label) for item in np.atleast_1d(chunk).reshape(-1).tolist()]
            index += 1
        return parts if index else None

    def _attribute(self, key: str) -> Any:
        with reading(self.file.label, f"{self.name}@{key}"):
            if key not in self._handle.attrs:
                return None
            described = self._handle.attrs.get_id(key)
            claimed = math.prod(described.shape) * described.dtype.itemsize
            if described.dtype.kind not in "SOifuU" or claimed > min(_LARGEST_ATTRIBUTE, max(self.file.size, 1) * 16):
                raise MalformedError(f"attribute {key!r} is not text of a sensible size", at=self.file.label)
            return self._handle.attrs[key]

    def _join(self, path: str) -> str:
        return f"{self.name}/{path}" if self.name else path

    def _find(self, path: str) -> Any:
        found: Any = self._handle
        for part in path.split("/"):
            if not isinstance(found, h5py.Group):
                raise MalformedError(f"{self._join(path)!r} is not in the HDF5 file", at=self.file.label)
            found = self._step(found, part, path)
        return found

    def _exists(self, group: Any, part: str, path: str) -> bool:
        """Whether there is a link of this name, without following it."""
        with reading(self.file.label, self._join(path)):
            return bool(group.id.links.exists(part.encode()))

    def _step(self, group: Any, part: str, path: str) -> Any:
        """The member `part` of a group, if a hard link leads to it; the kind of link is asked before it is followed."""
        name = self._join(path)
        if not self._exists(group, part, path):
            raise MalformedError(f"{name!r} is not in the HDF5 file", at=self.file.label)
        with reading(self.file.label, name):
            kind = group.id.links.get_info(part.encode()).type
            if kind == h5py.h5l.TYPE_HARD:
                return group[part]
            target = group.id.links.get_val(part.encode())
        link = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}.get(
            kind, "a link of a user"
        )
        raise UnsafeError(f"{name!r} is {link}", at=self.file.label, because=f"it points to {target!r}")

    def _source(self, dataset: Any, name: str) -> TensorSource:
        label = self.file.label
        if dataset.is_virtual:
            raise UnsafeError(f"{name!r} is a virtual dataset", at=label, because="its elements lie in other files")
        if dataset.external:
            raise UnsafeError(
                f"{name!r} has external storage", at=label, because=f"its elements lie in {dataset.external[0][0]!r}"
            )
        opaque = dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2 and self._is_bfloat16(dataset)
        numbers = dataset.dtype.kind in "fiub" or opaque
        if dataset.shape is None or not numbers or dataset.dtype.fields is not None:
            raise MalformedError(f"{name!r} holds {dataset.dtype}, not numbers", at=label)
        self._check_filters(dataset, name)
        stored, claimed = int(dataset.id.get_storage_size()), math.prod(dataset.shape) * dataset.dtype.itemsize
        expansion = 1 if dataset.chunks is None else _LARGEST_EXPANSION
        if claimed > stored * expansion or (dataset.chunks is None and stored > self.file.size):
            because = f"{claimed} bytes are claimed, {stored} are stored"
            raise MalformedError(f"{name!r} is larger than its storage", at=label, because=because)
        return self._located(dataset, name)

    def _check_filters(self, dataset: Any, name: str) -> None:
        plist = dataset.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            code = plist.get_filter(index)[0]
            if code not in _FILTERS:
                case = Case(f"HDF5 filter {code}", "only gzip, shuffle, fletcher32 and lzf are read", name)
                raise UnsupportedError("read HDF5", [case], advice="save the model without compression")

    def _is_bfloat16(self, dataset: Any) -> bool:
        """Keras marks bfloat16, which HDF5 has no name for: it is stored as two opaque bytes."""
        return _text(dataset.attrs.get("dtype", ""), "dtype", self.file.label) == "bfloat16"

    def _located(self, dataset: Any, name: str) -> TensorSource:
        opaque, shape = dataset.dtype.kind == "V", dataset.shape
        kind = DType.BFLOAT16 if opaque else DType.of(dataset.dtype.newbyteorder("="))
        convert: Callable[[Any], Any] = lambda array: (  # noqa: E731
            np.asarray(array).view(kind.numpy) if opaque else np.asarray(array, kind.numpy)
        )
        start = dataset.id.get_offset() if dataset.chunks is None else None
        if kind is not DType.BFLOAT16 and self._is_bfloat16(dataset):
            kind = DType.BFLOAT16
        elif start is not None and dataset.dtype.isnative and dataset.dtype.kind != "b":
            if start + math.prod(shape) * kind.itemsize > self.file.size:
                raise MalformedError(f"{name!r} lies outside of the file", at=self.file.label)
            if self.file.data is None:
                return MappedTensor(self.file.path, self.file.offset + start, kind, shape)
            flat = np.frombuffer(self.file.data, kind.numpy, math.prod(shape), start)
            return ArrayTensor(flat.reshape(shape))
        file, size = self.file, math.prod(shape)
        if size == 0:
            return ArrayTensor(np.empty(shape, kind.numpy))
        return DerivedTensor(kind, shape, (), lambda: convert(file.fetch(name)))


def _text(value: Any, key: str, label: str) -> str:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.item() if value.size == 1 else value.tolist()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError(f"attribute {key!r} is not UTF-8", at=label, because=str(error)) from None
    if isinstance(value, str):
        return value
    raise MalformedError(f"attribute {key!r} is not text", at=label)
