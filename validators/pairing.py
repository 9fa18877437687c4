"""Which input of the target is which input of the source, and in which axis order. Nothing is permuted or matched
silently.

In this order: a pairing that the caller gives; the pairing that our writers record in the target (metadata
`isomorph.pairing`); equal names; position. What was done is stated in the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.converters.archive import Archive, parse_json
from isomorph.errors import MalformedError, UsageError
from isomorph.validators.runner import Capture, ModelFile, Signature, Subject, TensorSpec

__all__ = ["Pair", "Pairing", "pair", "recorded"]

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


def pair(source: Signature, target: Signature, given: Mapping[str, Any] | None, subject: Subject | None) -> Pairing:
    """Pair two signatures. Raises UsageError if a given pairing names what does not exist."""
    record, how = (given, "given") if given else (recorded(subject), "recorded")
    problems: list[str] = []
    sides = []
    for what in ("inputs", "outputs"):
        pairs = _pair_side(getattr(source, what), getattr(target, what), (record or {}).get(what), how, what)
        pairs, wrong = _check(pairs, getattr(source, what), getattr(target, what), what[:-1])
        problems += wrong
        sides.append(tuple(pairs))
    return Pairing(sides[0], sides[1], tuple(problems), tuple(_notes(sides[0], sides[1])))


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
        import onnx

        try:
            proto = onnx.load(str(path), load_external_data=False)
        except Exception as error:  # protobuf's own exception types differ between its implementations
            raise ValueError(f"not an ONNX file: {error}") from error
        return next((entry.value for entry in proto.metadata_props if entry.key == "isomorph.pairing"), None)
    if subject.format == "keras":
        with Archive(path) as archive:
            if "isomorph.json" not in archive.names():
                return None
            content = parse_json(archive.read("isomorph.json", limit=_RECORD_LIMIT), "isomorph.json")
            record = content.get("pairing")
            return record if isinstance(record, str) else json.dumps(record)
    return None


def _pair_side(
    sources: Sequence[TensorSpec], targets: Sequence[TensorSpec], record: Any, how: str, what: str
) -> list[Pair]:
    names = {spec.name for spec in sources}, {spec.name for spec in targets}
    if record:
        pairs = [Pair(e["source"], e["target"], tuple(e["perm"]) if e.get("perm") else None, how) for e in record]
        if {p.source for p in pairs} == names[0] and {p.target for p in pairs} == names[1]:
            return pairs
        if how == "given":
            raise UsageError(
                f"the pairing of {what} does not name every tensor",
                because=f"{sorted(names[0])} and {sorted(names[1])}",
            )
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


def _check(
    pairs: list[Pair], sources: Sequence[TensorSpec], targets: Sequence[TensorSpec], what: str
) -> tuple[list[Pair], list[str]]:
    problems = []
    if len(sources) != len(targets):
        problems.append(f"the source has {len(sources)} {what}s, the target {len(targets)}")
    by_source, by_target = {s.name: s for s in sources}, {t.name: t for t in targets}
    if pairs and [p.target for p in pairs if p.target in by_target] != [t.name for t in targets][: len(pairs)]:
        problems.append(f"the target has its {what}s in another order: {[t.name for t in targets]}")
    for p in pairs:
        s, t = by_source[p.source], by_target[p.target]
        if s.dtype != t.dtype:
            problems.append(f"{what} `{p.source}` is {s.dtype}, `{p.target}` of the target is {t.dtype}")
        shape = s.shape if p.perm is None else tuple(s.shape[axis] for axis in p.perm)
        fits = len(shape) == len(t.shape) and all(
            isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(shape, t.shape, strict=True)
        )
        if not fits:
            problems.append(f"{what} `{p.source}` has shape {list(shape)}, `{p.target}` of the target {list(t.shape)}")
    return pairs, problems


def _notes(inputs: Sequence[Pair], outputs: Sequence[Pair]) -> list[str]:
    notes = []
    for what, pairs in (("input", inputs), ("output", outputs)):
        for p in pairs:
            if p.perm:
                notes.append(f"{what} `{p.target}` is `{p.source}` with axes {list(p.perm)} ({p.how})")
            elif p.source != p.target:
                notes.append(f"{what} `{p.target}` is paired with `{p.source}` ({p.how})")
    return notes
