"""Writing files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isomorph.errors import TargetExistsError, UsageError

__all__ = ["atomic_path", "check_target"]


def check_target(path: Path, *, force: bool) -> None:
    """Raise unless `path` can be written: its folder exists, and it is absent or `force` is given."""
    if not path.parent.is_dir():
        raise UsageError(f"the folder of the target does not exist: {path.parent}", advice=f"mkdir -p {path.parent}")
    if path.is_dir():
        raise UsageError(f"the target is a folder: {path}")
    if path.exists() and not force:
        raise TargetExistsError(
            f"the target exists: {path}", advice="pass --force to replace it, or choose another name"
        )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved over it when the block succeeds and removed when it does not.

    Temporary file in the same folder -> fsync -> rename -> fsync of the folder.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a write to a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows has no handle to a folder, and renames durably without
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
