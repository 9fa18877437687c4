"""safetensors files: 8 bytes of header size, a JSON header, and the elements behind it.

    {"conv.weight": {"dtype": "F32", "shape": [8, 3, 3, 3], "data_offsets": [0, 864]}, "__metadata__": {"format": "pt"}}

Offsets count from the end of the header. What the format asks for is checked: tensors neither overlap nor leave gaps,
each has as many bytes as its shape says, and the last one ends with the file. Source: the format's description in the
safetensors project. Elements are mapped, when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from isomorph.converters.archive import parse_json
from isomorph.errors import MalformedError
from isomorph.ir import DType, MappedTensor

__all__ = ["Slice", "read_header"]

_HEADER_LIMIT = 100_000_000

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F16": 16,
    "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

_DTYPES = {
    "BOOL": DType.BOOL, "U8": DType.UINT8, "I8": DType.INT8, "U16": DType.UINT16, "I16": DType.INT16,
    "U32": DType.UINT32, "I32": DType.INT32, "U64": DType.UINT64, "I64": DType.INT64, "F16": DType.FLOAT16,
    "BF16": DType.BFLOAT16, "F32": DType.FLOAT32, "F64": DType.FLOAT64, "C64": DType.COMPLEX64,
    "F8_E4M3": DType.FLOAT8_E4M3FN, "F8_E5M2": DType.FLOAT8_E5M2, "F8_E4M3FNUZ": DType.FLOAT8_E4M3FNUZ,
    "F8_E5M2FNUZ": DType.FLOAT8_E5M2FNUZ,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slice:
    """One tensor of the file: `code` as the format spells its type, `offset` from the start of the file."""

    path: Path
    code: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def dtype(self) -> DType | None:
        """The element type, None where it has no counterpart (4 and 6 bits, F8_E8M0)."""
        return _DTYPES.get(self.code)

    def tensor(self, dtype: DType) -> MappedTensor:
        return MappedTensor(self.path, self.offset, dtype, self.shape)


def read_header(path: Path) -> tuple[dict[str, Slice], dict[str, str]]:
    """(tensors by name in the order of the header, metadata). Raises MalformedError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8 or length > _HEADER_LIMIT:
            raise MalformedError(
                f"{path.name} has no safetensors header",
                at=str(path),
                because=f"it announces {length} bytes of header, the file has {size}",
            )
        header = file.read(length)
    if header[:1] != b"{":
        raise MalformedError(f"the header of {path.name} does not begin with {{", at=f"{path}, byte 8")
    document = parse_json(header, f"the header of {path.name}")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedError(f"the metadata of {path.name} are not texts", at=str(path))
    slices = {name: _slice(path, name, entry, 8 + length) for name, entry in document.items()}
    _check_layout(path, slices, 8 + length, size)
    return slices, metadata


def _slice(path: Path, name: str, entry: Any, start: int) -> Slice:
    def fail(reason: str) -> NoReturn:
        raise MalformedError(f"the entry of {name[:200]!r} is not a tensor's", at=str(path), because=reason)

    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        fail("it has other fields than dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _BITS:
        fail(f"its dtype is {str(code)[:40]!r}")
    if not _naturals(shape) or len(shape) > 64 or not _naturals(offsets) or len(offsets) != 2:
        fail("its shape or its offsets are not natural numbers")
    begin, end = offsets
    if end < begin or math.prod(shape) * _BITS[code] != (end - begin) * 8:
        fail(f"{code}{shape} does not take {end - begin} bytes")
    return Slice(path, code, tuple(shape), start + begin, end - begin)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 for value in values
    )


def _check_layout(path: Path, slices: Mapping[str, Slice], start: int, size: int) -> None:
    """No gaps, no overlaps, nothing behind the last tensor."""
    at = start
    for name, part in sorted(slices.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if part.offset != at:
            kind = "overlaps another tensor" if part.offset < at else "leaves a gap before it"
            raise MalformedError(f"{name[:200]!r} {kind}", at=f"{path}, byte {min(part.offset, at)}")
        at += part.nbytes
    if at != size:
        reason = f"the tensors end at byte {at}, the file at {size}"
        raise MalformedError(f"{path.name} is truncated or has bytes behind its tensors", at=str(path), because=reason)
