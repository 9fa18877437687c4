"""Where the tensors of a `.pt2` file are.

    torch 2.9 and later   raw bytes in members of their own, described by JSON; tensor subclasses as `torch.save` wrote
                          them, one member each
    torch 2.8             two dicts as `torch.save` wrote them, `data/weights/model.pt` and `data/constants/model.pt`
    torch 2.5 to 2.7      the same as `serialized_state_dict.pt` and `serialized_constants.pt`

Source: torch/export/pt2_archive/_package.py of 2.8 and later; torch/export/__init__.py of 2.7.
Elements are mapped, never unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from isomorph.converters.archive import Archive, parse_json
from isomorph.converters.torch.arguments import DTYPES, integer, text_of
from isomorph.converters.torch.files.rebuild import Storage, TensorRecord
from isomorph.converters.torch.files.serialization import Saved, c_order, read_saved
from isomorph.errors import MalformedError, Unsupported, UnsupportedError
from isomorph.ir import MappedTensor, TensorSource

__all__ = ["Payload", "RawPayload", "SavedPayload", "Stored", "payload_of"]

_STRIDED = 7
_CONFIGURATION_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the file. `identity` is equal for tensors with the same bytes under the same strides."""

    data: TensorSource
    identity: Any
    trainable: bool


class Payload(Protocol):
    """The tensors of a program by name."""

    def find(self, title: str) -> Stored:
        """Raises MalformedError where there is none or it lies outside of its data, UnsupportedError."""


def payload_of(archive: Archive, root: str, model: str) -> Payload:
    """The tensors of one program of an archive of torch 2.8 and later. Raises UnsupportedError for big-endian ones."""
    order = f"{root}/byteorder"
    if order in archive and archive.read(order, limit=64).strip() != b"little":
        raise UnsupportedError(f"read {archive.path.name}", [Unsupported("byteorder", "the weights are big-endian")])
    saved = [f"{root}/data/{folder}/{model}.pt" for folder in ("weights", "constants")]
    if any(member in archive for member in saved):
        return SavedPayload(archive, saved)
    return RawPayload(archive, root, model)


class RawPayload:
    """The tensors below ROOT/data of an archive of torch 2.9 and later."""

    def __init__(self, archive: Archive, root: str, model: str) -> None:
        self.archive = archive
        self.root = root
        self.folders = {
            folder: self._configuration(f"{root}/data/{folder}/{model}_{folder}_config.json")
            for folder in ("weights", "constants")
        }

    def _configuration(self, member: str) -> Mapping[str, Any]:
        if member not in self.archive:
            return {}
        configuration = parse_json(self.archive.read(member, limit=_CONFIGURATION_LIMIT), member)["config"]
        if not isinstance(configuration, dict):
            raise MalformedError(f"{member} has no table of tensors", at=str(self.archive.path))
        return configuration

    def find(self, title: str) -> Stored:
        for folder, table in self.folders.items():
            if title in table:
                return self._stored(title, folder, table[title])
        raise MalformedError(f"the archive has no data for {title}", at=str(self.archive.path))

    def _stored(self, title: str, folder: str, entry: Any) -> Stored:
        member = f"{self.root}/data/{folder}/{text_of(entry['path_name'])}"
        if entry["use_pickle"]:
            saved = read_saved(self.archive.path, within=self.archive.span(member))
            return _stored(saved, saved.value, title)
        meta = entry["tensor_meta"]
        dtype = DTYPES.get(meta["dtype"])
        if dtype is None or meta["layout"] != _STRIDED:
            item = Unsupported(
                title, f"its element type (code {meta['dtype']}) or layout (code {meta['layout']}) has no counterpart"
            )
            raise UnsupportedError(f"read {self.archive.path.name}", [item])
        shape = [integer(size["as_int"]) for size in meta["sizes"]]
        strides = [integer(stride["as_int"]) for stride in meta["strides"]]
        start = integer(meta["storage_offset"]["as_int"])
        offset, available = self.archive.span(member)
        if len(strides) != len(shape) or min([*shape, *strides, start], default=0) < 0:
            raise MalformedError(f"{title} has sizes {shape} and strides {strides}", at=member)
        count = math.prod(shape)
        extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
        if max(count, start + extent) * dtype.itemsize > available:
            raise MalformedError(
                f"{title} reaches beyond its data",
                at=member,
                because=f"{dtype}{shape}, strides {strides}, from element {start}: the member has {available} bytes",
            )
        plain = count == 0 or all(
            size == 1 or stride == wanted
            for size, stride, wanted in zip(shape, strides, c_order(tuple(shape)), strict=True)
        )
        data = MappedTensor(
            self.archive.path, offset + start * dtype.itemsize, dtype, shape, None if plain else strides
        )
        identity = (member, start, dtype, tuple(shape), tuple(strides)) if count else (title,)
        return Stored(data, identity, bool(meta["requires_grad"]))


class SavedPayload:
    """The dicts in `members` of an archive of torch 2.5 to 2.8."""

    def __init__(self, archive: Archive, members: Sequence[str]) -> None:
        self.path = archive.path
        self.parts: list[Saved] = []
        for member in members:
            if member not in archive or not archive.size(member):
                continue
            saved = read_saved(archive.path, within=archive.span(member))
            if not isinstance(saved.value, dict):
                raise MalformedError(f"{member} is not a dict of tensors", at=str(archive.path))
            self.parts.append(saved)

    def find(self, title: str) -> Stored:
        for saved in self.parts:
            if title in saved.value:
                return _stored(saved, saved.value[title], title)
        raise MalformedError(f"the archive has no data for {title}", at=str(self.path))


def _stored(saved: Saved, record: Any, title: str) -> Stored:
    """A tensor that torch.save wrote."""
    if not isinstance(record, TensorRecord):
        reason = f"it is a {type(record).__name__}" if record is None else f"it is {record!r}"[:120]
        raise UnsupportedError(f"read {saved.path.name}", [Unsupported(title, f"{reason}, not a strided tensor")])
    place = saved.spans.get(record.storage.key) if isinstance(record.storage, Storage) else None
    identity = (place, record.offset, record.dtype, record.size, record.stride) if record.count else (title,)
    return Stored(saved.tensor(record, title), identity, record.requires_grad)
