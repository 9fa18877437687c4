"""The table of formats, and how a file's format is known: by its content first, then by its suffix.

Strings only: nothing of a framework folder is imported until its reader or writer is asked for.
"""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from isomorph.errors import MalformedError, UnknownFormatError, UsageError
from isomorph.records import record

__all__ = ["FORMATS", "Format", "by_name", "by_suffix", "identify"]


@record
class Format:
    """One file format.

    name      as on the command line
    suffixes  lower case, with the dot; the first is the usual one
    reader    "module:function" that reads a file, "" if isomorph cannot read it
    writer    module with `write` and `target`, "" if isomorph cannot write it
    runner    the runtime that runs such a file for the judge
    extra     what to install for that runtime ("" for the base install)
    lacks     why such a file alone cannot be read, and what to do, where that is so
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    reader: str = ""
    writer: str = ""
    runner: str | None = None
    extra: str | None = None
    lacks: tuple[str, str] | None = None

    @property
    def reads(self) -> bool:
        return bool(self.reader)

    @property
    def writes(self) -> bool:
        return bool(self.writer)

    def load_reader(self) -> Any:
        """The function that reads a file of this format. Raises UsageError if there is none."""
        if self.lacks:
            raise UsageError(f"a file of the format {self.name} {self.lacks[0]}", advice=self.lacks[1])
        if not self.reader:
            raise UsageError(f"isomorph cannot read {self.title} yet", advice=_listing("reads"))
        module, _, function = self.reader.partition(":")
        return getattr(import_module(module), function)

    def load_writer(self) -> Any:
        """The module that writes this format. Raises UsageError if there is none."""
        if not self.writer:
            raise UsageError(f"isomorph cannot write {self.title} yet", advice=_listing("writes"))
        return import_module(self.writer)


_WEIGHTS_ONLY = (
    "holds weights, and not what is computed with them",
    "name your code that makes the module: --arch PACKAGE.MODULE:CALLABLE --input NAME=SHAPE",
)

FORMATS: tuple[Format, ...] = (
    Format(
        "onnx",
        "ONNX",
        (".onnx",),
        reader="isomorph.converters.onnx.reader:read",
        writer="isomorph.converters.onnx.writer",
        runner="onnxruntime",
        extra="",
    ),
    Format(
        "pt2",
        "PyTorch exported program",
        (".pt2",),
        reader="isomorph.converters.torch.reader:read",
        runner="torch",
        extra="torch",
    ),
    Format(
        "keras",
        "Keras 3",
        (".keras",),
        reader="isomorph.converters.keras.reader:read",
        writer="isomorph.converters.keras.writer",
        runner="keras",
        extra="keras",
    ),
    Format(
        "h5",
        "Keras HDF5 (Keras 1 to 3, tf.keras)",
        (".h5", ".hdf5"),
        reader="isomorph.converters.keras.reader:read",
        runner="keras",
        extra="keras",
    ),
    Format(
        "torchscript",
        "TorchScript",
        (".ptl",),
        reader="isomorph.converters.torch.script.reader:read",
        runner="torch",
        extra="torch",
    ),
    Format("torch-checkpoint", "PyTorch checkpoint", (".pth", ".pt", ".bin", ".ckpt"), lacks=_WEIGHTS_ONLY),
    Format("tflite", "TensorFlow Lite", (".tflite",), runner="litert", extra="tensorflow"),
    Format("saved-model", "TensorFlow graph or SavedModel", (".pb",), runner="tensorflow", extra="tensorflow"),
    Format("safetensors", "safetensors", (".safetensors",), lacks=_WEIGHTS_ONLY),
)


def by_name(name: str) -> Format:
    """The format of this name. Raises UsageError with the nearest names."""
    for format in FORMATS:
        if format.name == name:
            return format
    names = [format.name for format in FORMATS]
    close = difflib.get_close_matches(name, names, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(names)}"
    raise UsageError(f"no format is named {name!r}", advice=advice)


def by_suffix(path: Path) -> Format | None:
    """The format that a file's suffix names, or None."""
    suffix = path.suffix.lower()
    return next((format for format in FORMATS if suffix in format.suffixes), None)


def identify(path: Path) -> Format:
    """The format of an existing file: by its content, else by its suffix.

    Raises UsageError if there is no such file, UnknownFormatError if nothing names its format.
    """
    if not path.exists():
        raise UsageError(f"no such file: {path}", advice=_nearest(path))
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return by_name("saved-model")
        raise UnknownFormatError(f"a folder, not a model file: {path}")
    if path.name.endswith(".index.json"):  # a checkpoint in several files
        return by_name("safetensors" if "safetensors" in path.name else "torch-checkpoint")
    with path.open("rb") as file:
        name = _by_content(file)
    if name is not None:
        return by_name(name)
    named = by_suffix(path)
    if named is None:
        raise UnknownFormatError(
            f"cannot tell what format {path.name} has",
            because=f"neither its content nor the suffix {path.suffix!r} is known",
            advice="name it with --from; `isomorph formats` lists them",
        )
    return named


def _by_content(file: BinaryIO) -> str | None:
    head = file.read(16)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"PK\x03\x04"):
        return _by_members(file)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch-checkpoint"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    return "onnx" if _is_model_proto(file) else None


def _by_members(file: BinaryIO) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise MalformedError("the zip archive is damaged", because=str(error)) from None
    tails = {name.partition("/")[2] for name in names}
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    if any(tail.startswith("models/") for tail in tails) and "archive_version" in tails:
        return "pt2"
    if "serialized_exported_program.json" in names or any("data/aotinductor/" in name for name in names):
        return "pt2"
    if "constants.pkl" in tails and any(tail.startswith("code/") for tail in tails):
        return "torchscript"
    if "data.pkl" in tails:
        return "torch-checkpoint"
    return None


_MODEL_PROTO_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Wire types of ModelProto's fields by number; source: onnx.proto, message ModelProto."""


def _is_model_proto(file: BinaryIO) -> bool:
    """Whether the top level of a protobuf message has ModelProto's fields, a graph among them. Payloads are skipped."""
    size = file.seek(0, 2)
    position, graph, versions = 0, False, False
    for _ in range(4096):
        if position >= size:
            break
        file.seek(position)
        chunk = iter(file.read(24))
        tag, used = _varint(chunk)
        if tag is None or _MODEL_PROTO_FIELDS.get(tag >> 3) != tag & 7:
            return False
        value, more = _varint(chunk)
        if value is None:
            return False
        position += used + more + (value if tag & 7 == 2 else 0)
        graph |= tag >> 3 == 7
        versions |= tag >> 3 in (1, 8)
    return position == size and graph and versions


def _varint(data: Iterator[int]) -> tuple[int | None, int]:
    value = 0
    for count in range(10):
        byte = next(data, None)
        if byte is None:
            break
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, count + 1
    return None, 0


def _nearest(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(close[0])}?" if close else None


def _listing(direction: str) -> str:
    names = ", ".join(f"{format.name} ({format.suffixes[0]})" for format in FORMATS if getattr(format, direction))
    return f"isomorph {direction} {names}"
