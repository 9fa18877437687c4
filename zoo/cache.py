"""The cache of fetched files: content-addressed, checked at every use, safe for many processes without locks.

    ROOT/zoo/SHA256/NAME.SUFFIX

ROOT is `ISOMORPH_CACHE`, or the user's cache folder: `XDG_CACHE_HOME/isomorph` or `~/.cache/isomorph`;
`~/Library/Caches/isomorph` on macOS; `%LOCALAPPDATA%/isomorph/Cache` on Windows.

A file is written beside its place and renamed into it, so a reader sees all of it or nothing. Two processes that fetch
the same file write the same bytes; which of them comes last makes no difference, hence no locks (which some network
file systems do not keep).
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from isomorph.converters.files import atomic_path
from isomorph.errors import IntegrityError, ModelError

__all__ = ["cache_root", "check_bytes", "check_file", "is_intact", "place", "store"]

_CHUNK = 1 << 20
_intact: set[tuple[str, int, int, int, str]] = set()
"""Files found intact by this process: path, size, time of change, inode, checksum."""


def cache_root() -> Path:
    """Where fetched files are kept. Nothing is created."""
    if chosen := os.environ.get("ISOMORPH_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "isomorph" / "Cache"
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():  # the specification: a relative path is ignored
        return Path(shared) / "isomorph"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "isomorph"


def place(sha256: str, name: str) -> Path:
    """Where the file of this checksum lies, or would lie."""
    return cache_root() / "zoo" / sha256 / name


def is_intact(path: Path, size: int, sha256: str) -> bool:
    """Whether `path` is there and is the file that size and checksum describe."""
    try:
        check_file(path, size, sha256)
    except (IntegrityError, OSError):
        return False
    return True


def check_file(path: Path, size: int, sha256: str) -> None:
    """Raise IntegrityError unless the file has this size and checksum, FileNotFoundError if there is none.

    A file is hashed once in a process, and again when its size, time of change or inode differ.
    """
    status = path.stat()
    seen = (str(path), status.st_size, status.st_mtime_ns, status.st_ino, sha256)
    if seen in _intact:
        return
    if status.st_size != size:
        raise _damaged(path, f"{status.st_size:,} bytes", f"{size:,}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise _damaged(path, f"sha256 {digest.hexdigest()}", sha256)
    _intact.add(seen)


def check_bytes(data: bytes, size: int, sha256: str, what: str) -> None:
    """Raise IntegrityError unless the bytes have this size and checksum; `what` says where they came from."""
    if len(data) != size:
        raise _damaged(what, f"{len(data):,} bytes", f"{size:,}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise _damaged(what, f"sha256 {digest}", sha256)


def store(data: bytes, sha256: str, name: str) -> Path:
    """Put verified bytes into the cache; returns where. Raises ModelError if the cache cannot be written."""
    path = place(sha256, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        if is_intact(path, len(data), sha256):  # another process was faster; not every system replaces an open file
            return path
        raise ModelError(
            "the zoo's cache cannot be written",
            at=str(path.parent),
            because=error.strerror or str(error),
            advice="set ISOMORPH_CACHE to a folder that can be written",
        ) from error
    return path


def _damaged(what: Path | str, received: str, expected: str) -> IntegrityError:
    because = f"{received} instead of {expected}"
    return IntegrityError("a model of the zoo is not the one in the manifest", at=str(what), because=because)
