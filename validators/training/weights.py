"""Which weight of the target is which weight of the source, and where its elements went.

In this order: what isomorph recorded in the target (isomorph.json: the parameters of each layer); equal names; values.
The arrangement is what makes the initial values equal bit for bit: the same axes, a permutation of them, another shape
with the same order, or, where all values differ, whatever order they stand in (gates of a recurrent layer). A weight
without a counterpart is reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isomorph.converters.archive import Archive, parse_json
from isomorph.errors import MalformedError
from isomorph.validators.runner import ModelFile, Subject
from isomorph.validators.training.exercise import Trained, Weight

__all__ = ["WeightPair", "WeightPairing", "names_of", "pair_weights", "recorded_weights", "sums"]

_RECORD_LIMIT = 64 << 20
_MOST_AXES = 6


@dataclass(frozen=True, slots=True)
class WeightPair:
    """One weight on both sides. `places` are the flat positions in the target of the source's elements; `how` is
    "recorded", "name" or "values"."""

    source: Weight
    target: Weight
    places: np.ndarray
    how: str

    def to_source(self, array: np.ndarray) -> np.ndarray:
        """A weight or gradient of the target in the source's shape."""
        return np.asarray(array.reshape(-1)[self.places])


@dataclass(frozen=True, slots=True)
class WeightPairing:
    """Pairs in the source's order, and what is left on each side. A source's weight stands in two pairs where the
    target has it twice."""

    pairs: tuple[WeightPair, ...]
    only_source: tuple[Weight, ...]
    only_target: tuple[Weight, ...]


def recorded_weights(subject: Subject | None) -> dict[str, list[str]]:
    """Names of the source's parameters in each layer of a `.keras` file, as our writer recorded them."""
    if not isinstance(subject, ModelFile) or subject.format != "keras":
        return {}
    try:
        with Archive(subject.path) as archive:
            if "isomorph.json" not in archive.names():
                return {}
            content: Any = parse_json(archive.read("isomorph.json", limit=_RECORD_LIMIT), "isomorph.json")
            layers = content["layers"]
            return {str(layer): [str(n) for n in note.get("parameters", ())] for layer, note in layers.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MalformedError):
        return {}


def pair_weights(source: Trained, target: Trained, record: Mapping[str, Sequence[str]]) -> WeightPairing:
    """Pair the weights of two models that hold the same numbers."""
    known = {name: weight for weight in source.weights for name in weight.names}
    free = dict.fromkeys(source.weights)
    pairs: list[WeightPair] = []
    lost: list[Weight] = []
    for weight in target.weights:
        for candidate, how in _candidates(weight, known, free, record):
            places = _arrangement(source.initial[candidate.name], target.initial[weight.name])
            if places is not None:
                pairs.append(WeightPair(candidate, weight, places, how))
                free.pop(candidate, None)
                break
        else:
            lost.append(weight)
    order = {weight: index for index, weight in enumerate(source.weights)}
    pairs.sort(key=lambda pair: order[pair.source])
    return WeightPairing(tuple(pairs), tuple(free), tuple(lost))


def _candidates(
    weight: Weight, known: Mapping[str, Weight], free: Mapping[Weight, None], record: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Weight, str]]:
    """The weights of the source that it may be, the likeliest first."""
    names = list(record.get(weight.layer, ()))
    at_its_place = names[weight.place : weight.place + 1]
    for name in [*at_its_place, *names]:
        if name in known:
            yield known[name], "recorded"
    for name in weight.names:
        if name in known:
            yield known[name], "name"
    yield from ((candidate, "values") for candidate in free if candidate.kind == weight.kind)


def _arrangement(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Flat positions in the target of the source's elements, in the source's shape; None if the values differ."""
    if source.size != target.size:
        return None
    bits, others = _bits(source), _bits(target)
    places = np.arange(target.size)
    if source.shape == target.shape and np.array_equal(bits, others):
        return places.reshape(source.shape)
    if source.ndim == target.ndim <= _MOST_AXES:
        for axes in itertools.permutations(range(source.ndim)):
            if tuple(target.shape[axis] for axis in axes) == source.shape and np.array_equal(
                bits, others.transpose(axes)
            ):
                return places.reshape(target.shape).transpose(axes)
    if np.array_equal(bits.reshape(-1), others.reshape(-1)):
        return places.reshape(source.shape)
    return _sorted_arrangement(bits, others)


def _sorted_arrangement(bits: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """The only order that makes them equal, where no value stands twice."""
    mine, theirs = np.argsort(bits, axis=None), np.argsort(others, axis=None)
    values = bits.reshape(-1)[mine]
    if not np.array_equal(values, others.reshape(-1)[theirs]) or (values[1:] == values[:-1]).any():
        return None
    places = np.empty(bits.size, np.int64)
    places[mine] = theirs
    return places.reshape(bits.shape)


def _bits(array: np.ndarray) -> np.ndarray:
    """The values as they are stored."""
    plain = np.ascontiguousarray(array)
    return plain.view(f"u{plain.dtype.itemsize}") if plain.ndim else plain.reshape(1).view(f"u{plain.dtype.itemsize}")


def names_of(weights: Sequence[Weight]) -> str:
    """For a sentence."""
    return ", ".join(f"`{weight.name}`" for weight in weights)


def sums(pairing: WeightPairing, source: Trained, target: Trained) -> list[tuple[str, str, str]]:
    """What the target has as one weight where the source adds two (the biases of a recurrent layer): in training the
    sum of the two moves twice as far. Names of the source's and of the target's weight, and the sentence."""
    said = []
    for weight in pairing.only_target:
        whole = target.initial[weight.name]
        for one, other in itertools.combinations(pairing.only_source, 2):
            first, second = source.initial[one.name], source.initial[other.name]
            if (
                first.shape == second.shape
                and first.size == whole.size
                and np.array_equal(np.sort(first + second, axis=None), np.sort(whole, axis=None))
            ):
                both = f"`{weight.name}` of the target is the sum of {names_of([one, other])}"
                sentence = f"{both}: one step moves the sum of the two twice as far as the one"
                said.append((one.name, weight.name, sentence))
    return said
