"""Which input of the target is which input of the source, and in which axis order. Nothing is permuted or matched
silently.

In this order: what the caller gives (`--map`); the pairing that our writers record in the target (metadata
`isomorph.pairing`); equal names; position. What was done is stated in the report.

A map is `SOURCE=TARGET` or `SOURCE=TARGET[permutation]`, target = numpy.transpose(source, permutation):
`x=serving_default_x[0,2,3,1]`. It names an input or an output; where both sides have an input and an output of these
names, `input:` or `output:` before it says which. The number that TensorFlow puts behind a name (`x:0`) may be left
out. What is not mapped is paired as it would be without the mapped ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.converters.archive import Archive, parse_json
from isomorph.errors import MalformedError, UsageError
from isomorph.validators.precision import Precision
from isomorph.validators.runner import Capture, ModelFile, Signature, Subject, TensorSpec

__all__ = ["Map", "Pair", "Pairing", "common_sizes", "fits", "missing_sizes", "pair", "parse_map", "recorded"]

_RECORD_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class Pair:
    """One tensor on both sides: target = numpy.transpose(source, perm). `how`: "given", "recorded", "name" or
    "position"."""

    source: str
    target: str
    perm: tuple[int, ...] | None = None
    how: str = "name"

    def to_target(self, array: np.ndarray) -> np.ndarray:
        return array if self.perm is None else np.ascontiguousarray(array.transpose(self.perm))

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return array if self.perm is None else np.ascontiguousarray(array.transpose(np.argsort(self.perm)))

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "target": self.target,
            "perm": list(self.perm) if self.perm else None,
            "how": self.how,
        }


@dataclass(frozen=True, slots=True)
class Pairing:
    """Pairs of inputs and outputs, and in words what does not fit (`problems`): each is a difference between the
    models."""

    inputs: tuple[Pair, ...]
    outputs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Map:
    """One `--map`: `what` is "input", "output", or "" where the names tell."""

    source: str
    target: str
    perm: tuple[int, ...] | None = None
    what: str = ""

    def __str__(self) -> str:
        axes = f"[{','.join(map(str, self.perm))}]" if self.perm else ""
        return f"{self.what}:{self.source}={self.target}{axes}" if self.what else f"{self.source}={self.target}{axes}"


_MAP = re.compile(r"(?:(?P<what>input|output):)?(?P<source>[^=]+)=(?P<target>.+?)(?:\[(?P<perm>[\d,\s]+)\])?")


def parse_map(text: str) -> Map:
    """Read the value of `--map`. Raises UsageError that quotes what is wrong."""
    match = _MAP.fullmatch(text.strip())
    example = "write it as SOURCE=TARGET or SOURCE=TARGET[permutation], for example x=serving_default_x[0,2,3,1]"
    if match is None:
        raise UsageError(f"cannot read --map {text!r}", advice=example)
    perm = None
    if match["perm"] is not None:
        try:
            perm = tuple(int(axis) for axis in match["perm"].split(","))
        except ValueError:
            raise UsageError(f"cannot read --map {text!r}: [{match['perm']}] lists no axes", advice=example) from None
        if sorted(perm) != list(range(len(perm))):
            raise UsageError(f"cannot read --map {text!r}: {list(perm)} is no permutation", advice=example)
    return Map(match["source"], match["target"], perm, match["what"] or "")


def pair(
    source: Signature,
    target: Signature,
    maps: Sequence[Map],
    subject: Subject | None,
    declared: Precision | None = None,
) -> Pairing:
    """Pair two signatures. A target of a `declared` class may have inputs and outputs of its type. Raises UsageError if
    a map names what does not exist."""
    record = recorded(subject) or {}
    problems: list[str] = []
    sides = []
    given = _assigned(maps, source, target)
    for what in ("inputs", "outputs"):
        mine, theirs = getattr(source, what), getattr(target, what)
        fixed = given[what]
        rest = [s for s in mine if s.name not in {p.source for p in fixed}]
        left = [t for t in theirs if t.name not in {p.target for p in fixed}]
        pairs = _pair_side(rest, left, None if fixed else record.get(what))
        if source.ordered and target.ordered:
            problems += _order_problems(pairs, left, what[:-1])
        order = {spec.name: index for index, spec in enumerate(mine)}
        pairs = sorted([*fixed, *pairs], key=lambda p: order[p.source])
        problems += _problems(pairs, mine, theirs, what[:-1], declared)
        sides.append(tuple(pairs))
    return Pairing(sides[0], sides[1], tuple(problems), tuple(_notes(sides[0], sides[1])))


def _assigned(maps: Sequence[Map], source: Signature, target: Signature) -> dict[str, list[Pair]]:
    """The maps as pairs of inputs and of outputs."""
    given: dict[str, list[Pair]] = {"inputs": [], "outputs": []}
    for each in maps:
        fitting = []
        for what in given:
            mine = {spec.name: spec for spec in getattr(source, what)}
            theirs = {spec.name for spec in getattr(target, what)}
            name = next((n for n in (each.target, f"{each.target}:0") if n in theirs), None)
            if each.what in ("", what[:-1]) and each.source in mine and name is not None:
                fitting.append((what, mine[each.source], name))
        if len(fitting) != 1:
            raise _misnamed(each, source, target) if not fitting else _ambiguous(each)
        what, spec, name = fitting[0]
        if each.perm is not None and len(each.perm) != len(spec.shape):
            raise UsageError(f"--map {each}: `{spec.name}` has {len(spec.shape)} axes, {list(spec.shape)}")
        if any(p.source == spec.name or p.target == name for p in given[what]):
            raise UsageError(f"--map {each}: one of the two is mapped already")
        given[what].append(Pair(spec.name, name, each.perm, "given"))
    return given


def _misnamed(each: Map, source: Signature, target: Signature) -> UsageError:
    def listed(signature: Signature) -> str:
        inputs, outputs = ([spec.name for spec in specs] for specs in (signature.inputs, signature.outputs))
        return f"inputs {', '.join(inputs)}; outputs {', '.join(outputs)}"

    because = f"the source has {listed(source)}; the target has {listed(target)}"
    return UsageError(f"--map {each} names no input of both sides and no output of both sides", because=because)


def _ambiguous(each: Map) -> UsageError:
    return UsageError(f"--map {each} may mean inputs or outputs", advice=f"--map input:{each} or --map output:{each}")


def recorded(subject: Subject | None) -> Mapping[str, Any] | None:
    """What our writers recorded in the target, or None. Read as data; a file that says something else is ignored."""
    if subject is None or isinstance(subject, Capture):
        return None
    try:
        text = _record_of(subject)
        record = json.loads(text) if text else None
    except (OSError, ValueError, KeyError, AttributeError, RecursionError, MalformedError):
        return None
    return record if isinstance(record, dict) else None


def _record_of(subject: ModelFile) -> str | None:
    path = Path(subject.path)
    if subject.format == "onnx":
        from isomorph.validators.localization.onnx_metadata import read_metadata

        return read_metadata(path).get("isomorph.pairing")
    if subject.format == "keras":
        with Archive(path) as archive:
            if "isomorph.json" not in archive.names():
                return None
            content = parse_json(archive.read("isomorph.json", limit=_RECORD_LIMIT), "isomorph.json")
            record = content.get("pairing")
            return record if isinstance(record, str) else json.dumps(record)
    return None


def _pair_side(sources: Sequence[TensorSpec], targets: Sequence[TensorSpec], record: Any) -> list[Pair]:
    names = {spec.name for spec in sources}, {spec.name for spec in targets}
    if record:
        pairs = [
            Pair(e["source"], e["target"], tuple(e["perm"]) if e.get("perm") else None, "recorded") for e in record
        ]
        if {p.source for p in pairs} == names[0] and {p.target for p in pairs} == names[1]:
            return pairs
        if (
            len(pairs) == len(sources) == len(targets)
        ):  # runtimes may rename; the record's order is the order of both signatures
            return [
                Pair(s.name, t.name, p.perm, "recorded, by position")
                for s, t, p in zip(sources, targets, pairs, strict=True)
            ]
    if names[0] == names[1]:
        return [Pair(name.name, name.name, None, "name") for name in sources]
    return [Pair(s.name, t.name, None, "position") for s, t in zip(sources, targets, strict=False)]


def _order_problems(pairs: Sequence[Pair], targets: Sequence[TensorSpec], what: str) -> list[str]:
    """The order of what no map names must be the source's."""
    names = [t.name for t in targets]
    if pairs and [p.target for p in pairs if p.target in names] != names[: len(pairs)]:
        return [f"the target has its {what}s in another order: {names}"]
    return []


def _problems(
    pairs: Sequence[Pair],
    sources: Sequence[TensorSpec],
    targets: Sequence[TensorSpec],
    what: str,
    declared: Precision | None,
) -> list[str]:
    problems = []
    if len(sources) != len(targets):
        problems.append(f"the source has {len(sources)} {what}s, the target {len(targets)}")
    by_source, by_target = {s.name: s for s in sources}, {t.name: t for t in targets}
    for p in pairs:
        s, t = by_source[p.source], by_target[p.target]
        if s.dtype != t.dtype and not (declared is not None and declared.lowers(s.dtype, t.dtype)):
            problems.append(f"{what} `{p.source}` is {s.dtype}, `{p.target}` of the target is {t.dtype}")
        if not fits(s, t, p.perm):
            shape = s.shape if p.perm is None else tuple(s.shape[axis] for axis in p.perm)
            problems.append(f"{what} `{p.source}` has shape {list(shape)}, `{p.target}` of the target {list(t.shape)}")
    return problems


def fits(source: TensorSpec, target: TensorSpec, perm: tuple[int, ...] | None) -> bool:
    """Whether the target's shape can be the source's in this axis order; a symbolic size can be any."""
    shape = source.shape if perm is None else tuple(source.shape[axis] for axis in perm)
    return len(shape) == len(target.shape) and all(
        isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(shape, target.shape, strict=True)
    )


def common_sizes(mine: Signature, theirs: Signature, pairing: Pairing) -> Signature:
    """The source's signature with each named dimension that the target fixes or bounds held to that."""
    by_target = {spec.name: spec for spec in theirs.inputs}
    dims = dict(mine.dims)
    for p in pairing.inputs:
        spec = next(spec for spec in mine.inputs if spec.name == p.source)
        shape = spec.shape if p.perm is None else tuple(spec.shape[axis] for axis in p.perm)
        for size, there in zip(shape, by_target[p.target].shape, strict=True):
            if not isinstance(size, str) or size not in dims:
                continue
            low, high = (there, there) if isinstance(there, int) else theirs.dims.get(there, (1, None))
            mine_low, mine_high = dims[size]
            highest = min((bound for bound in (high, mine_high) if bound is not None), default=None)
            dims[size] = (max(low, mine_low), highest)
    return replace(mine, dims=dims)


def missing_sizes(mine: Signature, narrowed: Signature) -> list[str]:
    """What the target takes less of than the source, in words."""
    notes = []
    for name, (low, high) in narrowed.dims.items():
        if (low, high) != mine.dims[name]:
            span = f"{low} only" if low == high else f"from {low} to {high}" if high is not None else f"{low} and more"
            notes.append(f"the target takes `{name}` of {span}; nothing is said of other sizes")
    return notes


def _notes(inputs: Sequence[Pair], outputs: Sequence[Pair]) -> list[str]:
    notes = []
    for what, pairs in (("input", inputs), ("output", outputs)):
        for p in pairs:
            if p.perm:
                notes.append(f"{what} `{p.target}` is `{p.source}` with axes {list(p.perm)} ({p.how})")
            elif p.source != p.target:
                notes.append(f"{what} `{p.target}` is paired with `{p.source}` ({p.how})")
    return notes
