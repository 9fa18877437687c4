"""Intermediate values of both sides, paired by what our writers record and held to the budget of compare.py.

Each node of a target that isomorph wrote carries the name that its value had in the source (`isomorph.origin`). Both
sides are asked for these values, a chunk at a time.

The axis order of an intermediate is not recorded (layouts.py). Intermediate values never turn a verdict to DIFFERENT;
they name culprits, and they are asked for more where an output alone says too little (witness.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from isomorph.converters.formats import by_name
from isomorph.errors import IsomorphError, RunnerError, first_line
from isomorph.ir import DType, Model, Node, Value
from isomorph.validators.compare import Comparison, compare_exact, compare_float, unit_roundoff
from isomorph.validators.inputs import Case
from isomorph.validators.localization.layouts import ORDERS, settle_orders
from isomorph.validators.localization.named import NamedSource, own_names
from isomorph.validators.monte_carlo import NoisySource
from isomorph.validators.pairing import Pairing
from isomorph.validators.precision import Precision
from isomorph.validators.runner import FLOAT64, LINEAR, Arrays, Capture, Runner, Subject
from isomorph.validators.verdict import UNEQUAL, CaseResult, signal

__all__ = ["MOVES", "NoTaps", "Taps", "compare_taps"]

CHUNK = 32
"""Values asked for in one run: bounds the memory of a deep network's intermediates."""
MOVES = frozenset(
    ("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze")
) | {"Transpose", "Unsqueeze"}
"""Ops that only move elements: their value may be another arrangement than the source's of the same name (flattened
channels last, the second of two halves), which the readers' weights account for."""


class NoTaps(IsomorphError):
    """Intermediate values cannot be had or paired; `what` says why."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Taps:
    """The target's nodes that have a counterpart, and the result for each value that was compared.

    names    node -> name of its value in the target
    origins  name of the value in the target -> name in the source
    results  name of the value in the target -> its comparison, with the signal it is measured against
    orders   name of the value in the target -> which of ORDERS makes it the source's
    source   what the source's file says of its values
    misshapen  name of a float value in the target with another number of elements than the source's, on as many axes
             -> its shape and the source's, in the source's order; `orders` has them, too. Not of MOVES
    """

    model: Model
    names: Mapping[Node, str]
    origins: Mapping[str, str]
    results: Mapping[str, CaseResult]
    orders: Mapping[str, int]
    source: NamedSource | None = None
    misshapen: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)

    def result(self, node: Node | None) -> CaseResult | None:
        name = self.names.get(node) if node is not None else None
        return self.results.get(name) if name is not None else None

    def is_known(self, node: Node) -> bool:
        """Whether the source's value can stand for the target's: it was compared, or has other sizes."""
        return self.result(node) is not None or self.names.get(node) in self.misshapen

    def readers(self, node: Node, users: Mapping[Value, list[Node]]) -> tuple[list[Node], bool]:
        """The nearest nodes downstream that were compared, and whether an output of the model comes before any."""
        outputs = set(self.model.graph.outputs.values())
        found: list[Node] = []
        open_end = False
        pending, seen = [node], {node}
        while pending:
            for output in pending.pop().outputs:
                open_end |= output in outputs
                for user in users.get(output, ()):
                    if user in seen:
                        continue
                    seen.add(user)
                    (pending if self.result(user) is None else found).append(user)
        return found, open_end

    def doubtful(self) -> list[str]:
        """Names of the values that speak against the target: beyond their budget, though rounding does not decide them.
        Not those of MOVES whose readers all agree."""
        users = self.model.graph.users()
        found = []
        for node, name in self.names.items():
            result = self.results.get(name)
            if result is None or not result.doubtful or result.unsettled or result.chaotic:
                continue
            if type(node.op).__name__ in MOVES:
                readers, open_end = self.readers(node, users)
                agreed = [reader is not None and not reader.doubtful for reader in map(self.result, readers)]
                if agreed and all(agreed) and not open_end:
                    continue
            found.append(name)
        return found


def compare_taps(
    target: Subject,
    left: Runner,
    right: Runner,
    case: Case,
    pairing: Pairing,
    *,
    whole: bool = False,
    declared: Precision | None = None,
) -> Taps:
    """Compare every float value that both sides have on this case, with `whole` also integers and bools. A value beyond
    its budget gets a second opinion (monte_carlo.py); within a `declared` class each value is held to what the class
    makes of it. Raises NoTaps."""
    if isinstance(target, Capture):
        raise NoTaps("the target is not a file")
    try:
        model = by_name(target.format).load_reader()(Path(target.path))
    except (IsomorphError, ImportError) as error:
        raise NoTaps(f"the target cannot be read ({first_line(error)})") from error
    named = list(_named(model, own_names(target, model)))
    feeds = {p.target: p.to_target(case.inputs[p.source]) for p in pairing.inputs}
    results: dict[str, CaseResult] = {}
    orders: dict[str, int] = {}
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    choices: dict[str, Mapping[int, Comparison]] = {}
    ranks: dict[str, int] = {}
    noisy = NoisySource(left, declared)
    try:
        for start in range(0, len(named), CHUNK):
            chunk = _Chunk(named[start : start + CHUNK], left, right, case, feeds, whole=whole)
            results.update(chunk.compare(noisy))
            orders.update(chunk.orders)
            misshapen.update(chunk.misshapen)
            choices.update(chunk.choices)
            ranks.update(chunk.ranks)
    except (RunnerError, NotImplementedError) as error:
        raise NoTaps(f"intermediate values cannot be had ({first_line(error)})") from error
    if not results and not (whole and misshapen):
        raise NoTaps("no value of the target is recorded as a value of the source")
    names, origins = {node: name for node, name, _ in named}, {name: origin for _, name, origin in named}
    for name, order in settle_orders(names, orders, ranks, choices).items():
        orders[name], results[name] = order, replace(results[name], comparison=choices[name][order])
    moves = {name for node, name, _ in named if type(node.op).__name__ in MOVES}
    misshapen = {name: shapes for name, shapes in misshapen.items() if name not in moves}
    return Taps(model, names, origins, results, orders, left if isinstance(left, NamedSource) else None, misshapen)


def _named(model: Model, own: Mapping[str, str]) -> Iterator[tuple[Node, str, str]]:
    """Node, name of its value in the target, name of the same value in the source. `own`: names of nodes -> names of
    values in the target.

    Of several nodes with one origin the last has its value; the one that feeds it alone may be a layer before its
    activation.
    """
    last: dict[str, Node] = {}
    for node in model.graph.nodes:
        if node.origin.name:
            last[node.origin.name] = node
    feeders = {_only_feeder(node): node for node in last.values()}
    for node in model.graph.nodes:
        name = own.get(node.name)
        if name is None:
            continue
        if last.get(node.origin.name) is node:
            yield node, name, node.origin.name
        elif node in feeders and feeders[node].origin.name == node.origin.name:
            yield node, name, node.origin.name + LINEAR


def _only_feeder(node: Node) -> Node | None:
    producers = [value.producer for value in node.operands() if value.producer is not None]
    return producers[0] if len(producers) == 1 and not any(value.is_parameter for value in node.operands()) else None


class _Chunk:
    """Some of the values, on both sides and in float64."""

    def __init__(
        self,
        named: Sequence[tuple[Node, str, str]],
        left: Runner,
        right: Runner,
        case: Case,
        feeds: Arrays,
        *,
        whole: bool,
    ) -> None:
        self._whole = whole
        here, there = [name for _, name, _ in named], [origin for _, _, origin in named]
        self._case = case
        self.orders: dict[str, int] = {}
        self.misshapen: dict[str, tuple[Shape, Shape]] = {}
        self.choices: dict[str, Mapping[int, Comparison]] = {}
        self.ranks: dict[str, int] = {}
        self._reference = left.run(case.inputs, taps=there, precision=FLOAT64).taps
        self._plain = left.run(case.inputs, taps=there).taps if self._reference else {}
        self._target = right.run(feeds, taps=here).taps if self._reference else {}
        self._pairs = [
            (name, origin)
            for name, origin in zip(here, there, strict=True)
            if name in self._target and origin in self._reference and origin in self._plain
        ]

    def compare(self, source: NoisySource) -> dict[str, CaseResult]:
        """The result of each value of the target, by name."""
        results = {name: self._compare(name, origin, ()) for name, origin in self._pairs}
        every = source.declared is not None
        doubtful = [(n, o) for n, o in self._pairs if (found := results[n]) is not None and (every or found.doubtful)]
        if doubtful:
            floats = [x.dtype for _, origin in doubtful if DType.of((x := self._plain[origin]).dtype).is_float]
            unit = min((unit_roundoff(dtype) for dtype in floats), default=unit_roundoff(np.dtype(np.float32)))
            runs = source.runs(self._case, unit, [origin for _, origin in doubtful])
            for name, origin in doubtful:
                noisy = [run.taps[origin] for run in runs]
                results[name] = self._compare(name, origin, noisy, source.declared)
        return {name: result for name, result in results.items() if result is not None}

    def _compare(
        self, name: str, origin: str, noisy: Sequence[np.ndarray], declared: Precision | None = None
    ) -> CaseResult | None:
        """None where the two are not the same kind of thing (a float and an integer, shapes that no axis order
        explains), or rounding decides the size."""
        reference, plain, target = self._reference[origin], self._plain[origin], self._target[name]
        floats = DType.of(plain.dtype).is_float and DType.of(target.dtype).is_float
        if self._whole and plain.dtype.kind in "biu":
            return self._compare_exact(name, origin, noisy)
        if not floats or not reference.size or plain.shape != reference.shape:
            return None
        unit = unit_roundoff(plain.dtype)
        noisy = [each for each in noisy if each.shape == reference.shape]
        compared = {
            index: compare_float(reference, [plain], view, unit, noisy, declared=declared)
            for index, (to_source, _) in enumerate(ORDERS)
            if (index == 0 or target.ndim >= 3) and (view := to_source(target)).shape == reference.shape
        }
        if not compared:
            self._note_sizes(name, target, reference)
            return None
        self.orders[name] = min(compared, key=lambda index: compared[index].worst)
        self.ranks[name] = target.ndim
        if len(compared) > 1 and compared[self.orders[name]].worst >= UNEQUAL:
            self.choices[name] = compared
        (strength,) = signal([reference], [self._case.batch])
        unit = unit if declared is None else max(unit, declared.unit)
        named = self._case.describe()
        return CaseResult(named, compared[self.orders[name]], strength, unit, declared=declared is not None)

    def _note_sizes(self, name: str, target: np.ndarray, reference: np.ndarray) -> None:
        """Keep what has other sizes; its order is the one in which most axes agree."""
        if target.ndim != reference.ndim or target.size == reference.size:
            return
        shapes = [to_source(target).shape for to_source, _ in ORDERS[: None if target.ndim >= 3 else 1]]
        agree = [sum(a == b for a, b in zip(shape, reference.shape, strict=True)) for shape in shapes]
        self.orders[name] = agree.index(max(agree))
        self.misshapen[name] = (shapes[self.orders[name]], reference.shape)

    def _compare_exact(self, name: str, origin: str, noisy: Sequence[np.ndarray]) -> CaseResult | None:
        reference, plain, target = self._reference[origin], self._plain[origin], self._target[name]
        if plain.dtype.kind != target.dtype.kind or {reference.shape, plain.shape} != {target.shape}:
            return None
        samples = [plain, *(each for each in noisy if each.shape == reference.shape)]
        self.orders[name] = 0
        return CaseResult(self._case.describe(), compare_exact(reference, samples, target), 0.0, 0.0)


Shape: TypeAlias = tuple[int, ...]
