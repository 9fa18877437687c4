"""Arrays in an .npz file whose bytes follow from the arrays alone: no dates, no order of a hash, any name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from isomorph.converters.files import atomic_path

__all__ = ["npz_bytes", "save_npz"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays in this order, compressed, as `numpy.load` reads them. dtypes of NumPy itself only."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return memory.getvalue()


def save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file; a reader sees the old one or the new one."""
    content = npz_bytes(arrays)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
