"""Checkpoints: weights without a program, by name, whatever file they are in. Parsed as data, without torch.

    .pth .pt .bin .ckpt    what torch.save wrote (serialization.py): state dicts, nested in other dicts or not, and
                           whole pickled modules, of which the tensors are read
    .safetensors           safetensors.py
    *.index.json           a checkpoint in several files of either kind: {"weight_map": {name: file}}

Names are the keys, joined by dots: {"state_dict": {"conv.weight": …}, "epoch": 3} has `state_dict.conv.weight`.
`select` finds the names of a module among them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from isomorph.converters.archive import parse_json
from isomorph.converters.torch.files.rebuild import ArrayRecord, Attributed, Called, NotInert, TensorRecord, itemsize
from isomorph.converters.torch.files.safetensors import Slice, read_header
from isomorph.converters.torch.files.serialization import Saved, read_saved
from isomorph.errors import MalformedError, UnsafeError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import TensorSource

__all__ = ["Checkpoint", "Entry", "Selection", "read_checkpoint", "select"]

_INDEX_LIMIT = 256 << 20
_MOST_SHARDS = 4096
_LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a checkpoint.

    dtype      as its format names it: float32, F32 is float32 as well, qint8, F4
    container  the dict that holds it, by its name; "" for the outermost
    identity   equal for tensors that share their elements (tied weights)
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    container: str
    identity: Any
    fetch: Callable[[], TensorSource] = field(repr=False)

    def data(self) -> TensorSource:
        """The elements, mapped. Raises MalformedError, UnsupportedError (quantized and packed types)."""
        return self.fetch()


@dataclass(slots=True)
class Checkpoint:
    """The tensors of a checkpoint by name.

    layout    "zip", "legacy", "pickle", "safetensors"; "… in N files"
    others    what is no tensor (epochs, names of classes, settings), by name, as short text
    versions  `_metadata` of state dicts by the container's name: {module: {"version": 2}}
    """

    path: Path
    layout: str
    entries: dict[str, Entry] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, those that share their elements once."""
        return sum({entry.identity: entry.nbytes for entry in self.entries.values()}.values())


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a checkpoint. Nothing of the file is run; weights are mapped when they are asked for.

    Raises UsageError (no such file), MalformedError, UnsafeError, UnsupportedError.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{" and not head.startswith(b"PK"):
        return _read_safetensors(path)
    saved = read_saved(path)
    made = Checkpoint(path, saved.layout)
    _Walk(saved, made).visit(saved.value, "", "")
    return made


def _read_safetensors(path: Path) -> Checkpoint:
    slices, metadata = read_header(path)
    made = Checkpoint(path, "safetensors", others=dict(metadata))
    for name, part in slices.items():
        made.entries[name] = _entry_of_slice(name, part)
    return made


def _entry_of_slice(name: str, part: Slice) -> Entry:
    dtype = part.dtype

    def fetch() -> TensorSource:
        if dtype is None:
            raise _no_counterpart(part.path, name, part.code)
        return part.tensor(dtype)

    identity = (part.path, part.offset, name)
    return Entry(name, str(dtype or part.code), part.shape, part.nbytes, "", identity, fetch)


def _no_counterpart(path: Path, name: str, dtype: str) -> UnsupportedError:
    return UnsupportedError(f"read {path.name}", [Unsupported(name, f"its elements are {dtype}, without counterpart")])


class _Walk:
    """Collects the tensors of a parsed value. It is a tree of bounded depth: parse_pickle saw to that."""

    def __init__(self, saved: Saved, made: Checkpoint) -> None:
        self.saved = saved
        self.made = made

    def visit(self, value: Any, name: str, container: str) -> None:
        if isinstance(value, TensorRecord):
            self.add_tensor(value, name, container)
        elif isinstance(value, ArrayRecord):
            self.add_array(value, name, container)
        elif isinstance(value, dict):
            if isinstance(value, Attributed) and isinstance(value.state, dict):
                versions = value.state.get("_metadata")
                if isinstance(versions, dict):
                    self.made.versions[name] = versions
            for key, each in value.items():
                self.visit(each, _joined(name, key), name)
        elif isinstance(value, list | tuple) and any(isinstance(each, _HOLDERS) for each in value):
            for index, each in enumerate(value):
                self.visit(each, _joined(name, index), name)
        elif isinstance(value, Called) and self.is_module(value):
            self.visit_module(value.state, name, container=name)
        elif name:
            self.made.others[name] = _short(value)
        if isinstance(value, Called) and not self.is_module(value):
            self.visit_object(value, name)

    def visit_object(self, value: Called, name: str) -> None:
        """Any other object: its attributes, and its items if it is a kind of dict or list."""
        for key, each in (*value.pairs, *enumerate(value.items), *_items(value.state)):
            if isinstance(each, _HOLDERS):
                self.visit(each, _joined(name, key), name)

    @staticmethod
    def is_module(value: Called) -> bool:
        return isinstance(value.state, dict) and "_parameters" in value.state

    def visit_module(self, state: Mapping[Any, Any], name: str, container: str) -> None:
        """A pickled torch.nn.Module: its parameters, buffers and modules."""
        for kind in ("_parameters", "_buffers"):
            for key, value in _items(state.get(kind)):
                if isinstance(value, TensorRecord):
                    self.add_tensor(value, _joined(name, key), container)
        for key, value in _items(state.get("_modules")):
            if isinstance(value, Called) and isinstance(value.state, dict):
                self.visit_module(value.state, _joined(name, key), container)

    def add_tensor(self, record: TensorRecord, name: str, container: str) -> None:
        identity = (record.storage, record.offset, record.size, record.stride, record.dtype)
        size = record.count * itemsize(record.dtype)
        fetch = lambda: self.saved.tensor(record, name)  # noqa: E731
        self.add(Entry(name, record.dtype, record.size, size, container, identity, fetch))

    def add_array(self, record: ArrayRecord, name: str, container: str) -> None:
        try:
            kind = None if record.dtype is None else record.dtype.numpy()
        except NotInert:
            kind = None
        if kind is None or kind.kind not in "biufc":
            self.made.others[name] = "an array of objects or text"
            return
        fetch = lambda: self.saved.array(record, name)  # noqa: E731
        size = math.prod(record.shape) * kind.itemsize
        self.add(Entry(name, kind.name, record.shape, size, container, id(record), fetch))

    def add(self, entry: Entry) -> None:
        if entry.name in self.made.entries:
            raise MalformedError(f"two tensors are named {entry.name[:200]!r}", at=str(self.made.path))
        self.made.entries[entry.name] = entry


_HOLDERS = (TensorRecord, ArrayRecord, dict, list, tuple, Called)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()


def _joined(name: str, key: Any) -> str:
    text = key if isinstance(key, str) else str(key) if isinstance(key, int) else type(key).__name__
    return f"{name}.{text}" if name else text


def _short(value: Any) -> str:
    if isinstance(value, str | int | float | None):
        text = repr(value[: _LONGEST_VALUE + 1] if isinstance(value, str) else value)
        return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
    if isinstance(value, Called):
        return f"{value.callable}, not called"[:_LONGEST_VALUE]
    size = f" of {len(value)}" if isinstance(value, list | tuple | dict | set | frozenset | bytes) else ""
    return f"{type(value).__name__}{size}"


def _read_shards(path: Path) -> Checkpoint:
    """The tensors that an index names, each read from its file."""
    if path.stat().st_size > _INDEX_LIMIT:
        raise MalformedError(f"{path.name} is larger than {_INDEX_LIMIT} bytes", at=str(path))
    document = parse_json(path.read_bytes(), path.name)
    table = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise MalformedError(f"{path.name} has no weight_map from names to files", at=str(path))
    files = sorted(set(table.values()))
    if len(files) > _MOST_SHARDS:
        raise MalformedError(f"{path.name} names {len(files)} files, more than {_MOST_SHARDS}", at=str(path))
    shards = {name: read_checkpoint(_shard(path, name)) for name in files}
    made = Checkpoint(path, "")
    for name, file in table.items():
        entry = shards[file].entries.get(name)
        if entry is None:
            raise MalformedError(f"{file} has no tensor {name[:200]!r}", at=str(path))
        made.entries[name] = entry
    layouts = ", ".join(sorted({shard.layout for shard in shards.values()}))
    made.layout = f"{layouts} in {len(files)} files"
    return made


def _shard(index: Path, name: str) -> Path:
    """A file beside the index. A link is followed only as the index itself is one, into the same folder."""
    plain = name not in ("", ".", "..") and "\\" not in name and "\0" not in name and PurePosixPath(name).name == name
    if not plain or name.endswith(".index.json"):
        raise UnsafeError(f"the index names the file {name[:200]!r}", at=str(index), because="it is not one beside it")
    path = index.parent / name
    if path.is_symlink() and path.resolve().parent not in (index.parent.resolve(), index.resolve().parent):
        raise UnsafeError(f"{name} is a link that leads elsewhere", at=str(index))
    if not path.is_file():
        raise UsageError(f"{index.name} names {name}, which is not beside it", advice="fetch all files of the model")
    return path


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a checkpoint that belongs to a module.

    prefix    what stands before the module's names in the checkpoint: "", "state_dict.", "model.module." …
    entries   by the module's names: the prefix removed; what else lies beside them under this prefix is among them
    versions  `_metadata` of the state dict, {} without
    """

    prefix: str
    entries: dict[str, Entry]
    versions: Mapping[str, Any]


def select(checkpoint: Checkpoint, wanted: Collection[str], *, prefix: str | None = None) -> Selection:
    """The state dict in a checkpoint that has the names `wanted`.

    Names as they are come first; else the one prefix under which most of them are found. `prefix` names it instead.
    Raises UsageError where no name fits, or where two prefixes fit equally well.
    """
    names = frozenset(wanted)
    counts: Counter[str] = Counter()
    for name in checkpoint.entries:
        for start in _starts(name):
            if name[start:] in names:
                counts[name[:start]] += 1
    if prefix is not None:
        prefix = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        if not counts[prefix]:
            _refuse(checkpoint, names, f"no tensor of the module is below {prefix!r}")
        return _selection(checkpoint, names, prefix)
    if not counts:
        _refuse(checkpoint, names, "the names have nothing in common")
    most = max(counts.values())
    best = sorted(each for each, count in counts.items() if count == most)
    if len(best) > 1 and "" not in best:
        raise UsageError(
            f"{checkpoint.path.name} holds the module's weights {len(best)} times",
            because=f"below {', '.join(best[:6])}",
            advice=f"choose with --prefix {best[0].removesuffix('.')}",
        )
    return _selection(checkpoint, names, "" if "" in best else best[0])


def _starts(name: str) -> Iterator[int]:
    yield 0
    at = name.find(".")
    while at >= 0:
        yield at + 1
        at = name.find(".", at + 1)


def _selection(checkpoint: Checkpoint, names: frozenset[str], prefix: str) -> Selection:
    containers = {
        entry.container
        for name, entry in checkpoint.entries.items()
        if name.startswith(prefix) and name.removeprefix(prefix) in names
    }
    entries = {
        name.removeprefix(prefix): entry
        for name, entry in checkpoint.entries.items()
        if name.startswith(prefix) and entry.container in containers
    }
    versions = next((checkpoint.versions[each] for each in containers if each in checkpoint.versions), {})
    return Selection(prefix, entries, versions)


def _refuse(checkpoint: Checkpoint, names: frozenset[str], reason: str) -> None:
    have, want = ", ".join(list(checkpoint.entries)[:3]) or "no tensor", ", ".join(sorted(names)[:3])
    raise UsageError(
        f"{checkpoint.path.name} does not hold this module's weights",
        because=f"{reason}: the checkpoint has {have} …, the module {want} …",
        advice=f"`isomorph inspect {checkpoint.path.name}` lists its tensors",
    )
