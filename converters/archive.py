"""Zip archives and JSON from strangers: read members by name, extract nothing, allocate nothing that was not checked.

What is refused, all before any member is read:

    MalformedError  damaged or truncated zip, trailing or leading bytes, duplicate names, a local header unlike the
                    central record, overlapping members, a compression other than stored and deflated
    UnsafeError     absolute paths, `..`, backslashes, links, encryption
"""

from __future__ import annotations

import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

import numpy as np

from isomorph.errors import MalformedError, UnsafeError, UsageError

__all__ = ["Archive", "Window", "parse_json"]

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_END_RECORD = struct.Struct("<4s4H2IH")
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_SIZES_FOLLOW = 0x8
_MOST_MEMBERS = 1 << 20
_READ_LIMIT = 256 << 20
_BUDGET = 4 << 30
_INFLATED = 16 << 20
_RATIO = 100
"""A member larger than _INFLATED bytes may be at most _RATIO times as large as it is compressed."""


class Archive:
    """A zip file, checked when it is opened. A context manager.

        with Archive(path) as archive:
            config = parse_json(archive.read("config.json"), "config.json")
            offset, size = archive.span("data/weights/weight_0")

    path    the file; `budget` bounds the bytes that all `read`s together may return
    within  (offset, size) of the archive in the file, where it is a member of another archive: `outer.span(name)`
    Raises  UsageError (no such file), MalformedError, UnsafeError; see the module's docstring.
    """

    def __init__(self, path: Path, *, budget: int = _BUDGET, within: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        self._left = budget
        self._offset = within[0] if within else 0
        if not self.path.is_file():
            raise UsageError(f"no such file: {path}")
        self._file: BinaryIO = self.path.open("rb")
        if within:
            self._file = BufferedReader(Window(self._file, *within))
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._members = self._index()
            self._data = self._check_extents()
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError, EOFError) as error:
            self._file.close()
            raise MalformedError("the zip archive is damaged", at=str(path), because=str(error)) from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def names(self) -> list[str]:
        """Names of the members, in the order of the directory."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member, decompressed, as the directory states it."""
        return self._member(name).file_size

    def read(self, name: str, *, limit: int = _READ_LIMIT) -> bytes:
        """The content of a member, checksum verified. Raises MalformedError beyond `limit` bytes or the budget."""
        member = self._member(name)
        if member.file_size > limit:
            self._fail(f"{name} has {member.file_size} bytes, more than the {limit} that are read")
        if member.file_size > self._left:
            self._fail(
                f"{name} would exceed the archive's budget", because=f"{member.file_size} bytes, {self._left} left"
            )
        if member.file_size > max(_INFLATED, _RATIO * member.compress_size):
            self._fail(f"{name} is a bomb", because=f"{member.compress_size} bytes become {member.file_size}")
        self._left -= member.file_size
        try:
            with self._zip.open(member) as file:
                data = file.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            self._fail(f"{name} is damaged", because=str(error))
        if len(data) != member.file_size:
            self._fail(f"{name} has {len(data)} bytes", because=f"the directory says {member.file_size}")
        return data

    def span(self, name: str) -> tuple[int, int]:
        """(offset, size) in the file of a stored member's bytes. Raises MalformedError for a compressed one."""
        member = self._member(name)
        if member.compress_type != zipfile.ZIP_STORED:
            self._fail(f"{name} is compressed, and has to be stored")
        return self._offset + self._data[name], member.file_size

    def _member(self, name: str) -> zipfile.ZipInfo:
        member = self._members.get(name)
        if member is None:
            self._fail(f"the archive has no member {name}")
        return member

    def _fail(self, what: str, because: str | None = None) -> NoReturn:
        raise MalformedError(what, at=str(self.path), because=because)

    def _index(self) -> dict[str, zipfile.ZipInfo]:
        """The members by name, after the checks that need only the central directory."""
        self._check_end()
        infos = self._zip.infolist()
        if len(infos) > _MOST_MEMBERS:
            self._fail(f"the archive has {len(infos)} members, more than {_MOST_MEMBERS}")
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.orig_filename in members:
                self._fail(f"two members are named {info.orig_filename!r}")
            self._check_name(info)
            if info.flag_bits & _ENCRYPTED:
                raise UnsafeError(f"the member {info.filename!r} is encrypted", at=str(self.path))
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                self._fail(
                    f"{info.filename!r} has the compression method {info.compress_type}",
                    because="stored and deflated are read",
                )
            if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
                self._fail(
                    f"{info.filename!r} is stored in {info.compress_size} bytes",
                    because=f"its size is {info.file_size}",
                )
            members[info.orig_filename] = info
        return members

    def _check_end(self) -> None:
        """The archive ends with its end record: nothing follows that another reader could take for the end."""
        self._file.seek(0, 2)
        size = self._file.tell()
        self._file.seek(max(size - _END_RECORD.size, 0))
        if self._file.read(4) != b"PK\x05\x06" or self._zip.comment:
            self._fail("bytes follow the end of the archive")

    def _check_name(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        path = PurePosixPath(name)
        bad = (
            not name
            or name.startswith("/")
            or ".." in path.parts
            or "\\" in name
            or "\0" in name
            or re.match(r"[A-Za-z]:", name)
        )
        if bad or stat.S_ISLNK(info.external_attr >> 16):
            raise UnsafeError(
                f"the member {name!r} leads out of the archive",
                at=str(self.path),
                because="a link or a path with .. or a root",
            )

    def _check_extents(self) -> dict[str, int]:
        """Offsets of the members' bytes: every local header agrees with the directory, no two members overlap."""
        offsets: dict[str, int] = {}
        end = 0
        for name, info in sorted(self._members.items(), key=lambda item: item[1].header_offset):
            if info.header_offset < end or (end == 0 and info.header_offset != 0):
                self._fail(f"{name!r} overlaps another member" if end else "bytes precede the first member")
            offsets[name] = self._check_local_header(info)
            end = offsets[name] + info.compress_size
        if end > self._zip.start_dir:
            self._fail("a member reaches into the directory")
        return offsets

    def _check_local_header(self, info: zipfile.ZipInfo) -> int:
        """The offset of the member's bytes."""
        self._file.seek(info.header_offset)
        fields = _LOCAL_HEADER.unpack(self._file.read(_LOCAL_HEADER.size))
        magic, _, flags, method, _, _, checksum, packed, unpacked, name_length, extra_length = fields
        name = self._file.read(name_length).decode("utf-8" if flags & 0x800 else "cp437")
        sizes = self._local_sizes(packed, unpacked, self._file.read(extra_length))
        stated = (checksum, *sizes)
        known = (info.CRC, info.file_size, info.compress_size)
        same = stated == known or (flags & _SIZES_FOLLOW and stated == (0, 0, 0))
        if magic != b"PK\x03\x04" or name != info.orig_filename or method != info.compress_type or not same:
            self._fail(f"the local header of {info.orig_filename!r} does not match the directory")
        return int(info.header_offset + _LOCAL_HEADER.size + name_length + extra_length)

    def _local_sizes(self, packed: int, unpacked: int, extra: bytes) -> tuple[int, int]:
        """(size, compressed size) of a local header, from its zip64 field where the 32-bit ones are full."""
        if packed != 0xFFFFFFFF and unpacked != 0xFFFFFFFF:
            return unpacked, packed
        while len(extra) >= 4:
            kind, length = struct.unpack_from("<HH", extra)
            if kind == 1 and length >= 16 and len(extra) >= 20:
                large = struct.unpack_from("<QQ", extra, 4)
                return int(large[0]), int(large[1])
            extra = extra[4 + length :]
        return self._fail("a member's zip64 sizes are missing")


class Window(RawIOBase):
    """A part of a file as a file of its own, which it closes."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence]
        if self._at < 0:
            raise ValueError(f"a seek to {self._at}")
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer)[: max(0, self._size - self._at)]
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(wanted) if len(wanted) else 0  # type: ignore[attr-defined]
        self._at += count
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NESTING = np.zeros(256, np.int32)
_NESTING[list(b"[{")] = 1
_NESTING[list(b"]}")] = -1


def parse_json(data: bytes, what: str, *, depth: int = 128, allow_nan: bool = False) -> Any:
    """The value of a JSON document in UTF-8.

    Raises MalformedError, naming `what`, for anything that is not JSON, nested deeper than `depth`, with a key twice in
    one object, or (unless `allow_nan`) with NaN or Infinity.
    """
    brackets = np.frombuffer(_STRING.sub(b"", data), np.uint8)
    if brackets.size and int(np.cumsum(_NESTING[brackets], dtype=np.int64).max()) > depth:
        raise MalformedError(f"{what} is nested deeper than {depth}")

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=None if allow_nan else refuse)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{what} is not valid JSON", because=str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {double!r} is given twice")
    return made
