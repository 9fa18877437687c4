"""What `torch.save` wrote, as data: the pickle's value, and where the bytes of every storage lie in the file.

    zip      torch 1.6 and later: ROOT/data.pkl, and one stored member ROOT/data/KEY for each storage
    legacy   before (and on request): the pickles of a magic number, a version, the machine's properties, the value and
             the storages' keys, one behind another, then for each key its number of elements and their bytes
    pickle   a bare pickle without storages, whose arrays are NumPy's

Source: torch/serialization.py. Elements are not read but mapped, when they are asked for.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isomorph.converters.archive import Archive
from isomorph.converters.torch.files.pickle import parse_pickle
from isomorph.converters.torch.files.rebuild import (
    ArrayRecord,
    NotInert,
    Storage,
    TensorRecord,
    element_type,
    itemsize,
    storage_of,
)
from isomorph.errors import MalformedError, Unsupported, UnsupportedError
from isomorph.ir import ArrayTensor, MappedTensor, TensorSource

__all__ = ["Saved", "c_order", "read_saved"]

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_PICKLE_LIMIT = 1 << 30
_MOST_STORAGES = 1 << 20


@dataclass(slots=True)
class Saved:
    """A parsed file.

    value    plain data and the records of rebuild.py
    layout   "zip", "legacy" or "pickle"
    spans    (offset, bytes) of each storage in the file, by key
    """

    path: Path
    value: Any
    layout: str
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    def tensor(self, record: TensorRecord, title: str) -> TensorSource:
        """The elements of a tensor, mapped. Raises MalformedError beyond the stored bytes, UnsupportedError for
        element types without a counterpart."""
        dtype = element_type(record.dtype)
        if dtype is None or record.quantizer is not None or record.storage is None:
            why = "it is on the meta device" if record.storage is None else f"its elements are {record.dtype}"
            raise UnsupportedError(f"read {self.path.name}", [Unsupported(title, f"{why}, which has no counterpart")])
        if isinstance(record.storage, ArrayRecord):
            return self.array(record.storage, title)
        start = self._start(record, title) + record.offset * dtype.itemsize
        plain = record.count == 0 or all(
            size == 1 or step == wanted
            for size, step, wanted in zip(record.size, record.stride, c_order(record.size), strict=True)
        )
        return MappedTensor(self.path, start, dtype, record.size, None if plain else record.stride)

    def array(self, record: ArrayRecord, title: str) -> TensorSource:
        """The elements of a NumPy array. Raises MalformedError, UnsupportedError."""
        try:
            array = record.numpy()
        except NotInert as error:
            raise MalformedError(f"{title} is not an array", at=str(self.path), because=str(error)) from None
        if array.dtype.kind not in "biufc":
            raise UnsupportedError(f"read {self.path.name}", [Unsupported(title, f"its elements are {array.dtype}")])
        return ArrayTensor(array.astype(array.dtype.newbyteorder("="), copy=False))

    def _start(self, record: TensorRecord, title: str) -> int:
        """The offset in the file of the tensor's storage."""
        storage = record.storage
        span = self.spans.get(storage.key) if isinstance(storage, Storage) else None
        if not isinstance(storage, Storage) or span is None:
            raise MalformedError(f"the file has no data for {title}", at=str(self.path))
        extent = 1 + sum((size - 1) * step for size, step in zip(record.size, record.stride, strict=True))
        needed = (record.offset + extent) * itemsize(record.dtype) if record.count else 0
        if storage.start + max(storage.nbytes, needed) > span[1]:
            raise MalformedError(
                f"{title} reaches beyond its data",
                at=str(self.path),
                because=f"{storage.start + max(storage.nbytes, needed)} bytes are announced, {span[1]} stored",
            )
        return span[0] + storage.start


def read_saved(path: Path, *, within: tuple[int, int] | None = None) -> Saved:
    """What `torch.save` wrote into a file, or into a part of one: `within` is its (offset, size).

    Raises MalformedError, UnsafeError, UnsupportedError (tar archives of torch 0.1, big-endian files, TorchScript).
    """
    with path.open("rb") as file:
        offset, size = within or (0, path.stat().st_size)
        file.seek(offset)
        head = file.read(min(512, size))
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path, within)
        if head[257:262] == b"ustar" or head.startswith(b"sys_info\0"):
            raise _unsupported(
                path, "tar archive", "it was written by torch 0.1", "save it again with torch 0.4 to 2.0"
            )
        if not size:
            raise MalformedError("the file is empty", at=str(path))
        return _read_legacy(path, file, offset, size)


def _unsupported(path: Path, what: str, reason: str, advice: str) -> UnsupportedError:
    return UnsupportedError(f"read {path.name}", [Unsupported(what, reason)], advice=advice)


def _read_zip(path: Path, within: tuple[int, int] | None) -> Saved:
    with Archive(path, within=within) as archive:
        found = [name for name in archive if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(found) != 1 or found[0].count("/") > 1:
            raise MalformedError(
                "the archive was not written by torch.save",
                at=str(path),
                because=f"it has {len(found)} members data.pkl",
            )
        root = found[0].removesuffix("data.pkl")
        if any(name.startswith(f"{root}code/") for name in archive) or f"{root}constants.pkl" in archive:
            raise _unsupported(path, "TorchScript", "it is a program, not a checkpoint", "convert it as it is")
        order = f"{root}byteorder"
        if order in archive and archive.read(order, limit=64).strip() != b"little":
            raise _unsupported(path, "byteorder", "the elements are big-endian", "save it on a little-endian machine")
        value = parse_pickle(archive.read(found[0], limit=_PICKLE_LIMIT), found[0]).value
        folder = f"{root}data/"
        spans = {name.removeprefix(folder): archive.span(name) for name in archive if name.startswith(folder)}
    return Saved(path, value, "zip", spans)


def _read_legacy(path: Path, file: BinaryIO, offset: int, size: int) -> Saved:
    data: bytes | mmap.mmap
    if offset:
        file.seek(offset)
        data = file.read(min(size, _PICKLE_LIMIT))
    else:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    storages: dict[str, Storage] = {}
    try:
        saved = _parse_legacy(path, data, offset, _collecting(storages))
        if saved.layout == "legacy":
            saved.spans = _locate(path, data, offset, saved.spans.pop("")[0], storages)
        return saved
    finally:
        if isinstance(data, mmap.mmap):
            data.close()


def _collecting(storages: dict[str, Storage]) -> Callable[[Any], Any]:
    """torch's persistent ids; the storages that they name are kept by key."""

    def storage(identity: Any) -> Any:
        made = storage_of(identity)
        if isinstance(made, Storage):
            first = storages.setdefault(made.key, made)
            if (first.dtype, first.numel) != (made.dtype, made.numel):
                raise NotInert(f"the storage {made.key} is given with two types or sizes")
        return made

    return storage


def _parse_legacy(path: Path, data: bytes | mmap.mmap, offset: int, persistent: Callable[[Any], Any]) -> Saved:
    """The value; where the storages begin is left in the span of ""."""
    first = parse_pickle(data, path.name, whole=False, persistent=persistent)
    if first.value != _MAGIC:
        if first.end != len(data):
            raise MalformedError(f"{path.name} was not written by torch.save", because="bytes follow its pickle")
        return Saved(path, first.value, "pickle")
    version = parse_pickle(data, path.name, start=first.end, whole=False)
    if version.value != _VERSION:
        raise MalformedError(f"{path.name} has another protocol than {_VERSION}", at=f"byte {first.end}")
    machine = parse_pickle(data, path.name, start=version.end, whole=False)
    if not isinstance(machine.value, dict) or machine.value.get("little_endian") is not True:
        raise _unsupported(path, "byteorder", "the elements are not little-endian", "save it on such a machine")
    value = parse_pickle(data, path.name, start=machine.end, whole=False, persistent=persistent)
    return Saved(path, value.value, "legacy", {"": (value.end, 0)})


def _locate(
    path: Path, data: bytes | mmap.mmap, offset: int, start: int, storages: dict[str, Storage]
) -> dict[str, tuple[int, int]]:
    """(offset in the file, bytes) of each storage: the list of keys, then numel and elements of each."""
    listed = parse_pickle(data, path.name, start=start, whole=False)
    keys = listed.value
    if not isinstance(keys, list) or len(keys) > _MOST_STORAGES or not all(isinstance(key, str) for key in keys):
        raise MalformedError(f"{path.name} has no list of storages", at=f"byte {start}")
    spans: dict[str, tuple[int, int]] = {}
    at = listed.end
    for key in keys:
        storage = storages.get(key)
        if storage is None or key in spans:
            raise MalformedError(f"{path.name} lists a storage that no tensor has, or lists it twice", at=f"byte {at}")
        numel = int.from_bytes(bytes(data[at : at + 8]), "little", signed=True)
        size = storage.numel * itemsize(storage.dtype)
        if numel != storage.numel or at + 8 + size > len(data):
            raise MalformedError(
                f"{path.name} is truncated or inconsistent",
                at=f"byte {at}",
                because=f"a storage of {storage.numel} elements has {numel}, {len(data) - at} bytes are left",
            )
        spans[key] = (offset + at + 8, size)
        at += 8 + size
    return spans


def c_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a contiguous tensor."""
    return tuple(int(np.prod(shape[axis + 1 :], dtype=object)) for axis in range(len(shape)))
