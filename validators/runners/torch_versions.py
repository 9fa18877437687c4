"""`.pt2` files of torch 2.5 for the torch that is installed, which refuses their version and not their content.

Schema 7.3 differs from 8.0 in nothing that `torch.export.load` reads; the copy in memory says 8.0. What torch then
still cannot load (blocks under `torch.no_grad()`, which have other outputs there) stays an error of the runtime.
"""

from __future__ import annotations

import io
import json
import zipfile

__all__ = ["loadable"]

_PROGRAM = "serialized_exported_program.json"
_VERSION = "version"


def loadable(path: str) -> str | io.BytesIO:
    """The path itself, or a copy of the file in memory under a version that torch accepts."""
    try:
        with zipfile.ZipFile(path) as archive:
            if _VERSION not in archive.namelist() or not archive.read(_VERSION).startswith(b"7."):
                return path
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return path  # torch says what is wrong with it
    document = json.loads(members[_PROGRAM])
    document["schema_version"] = {"major": 8, "minor": 0}
    members[_PROGRAM] = json.dumps(document).encode()
    members[_VERSION] = b"8.0"
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    copy.seek(0)
    return copy
