"""Which op is to blame: intermediate values of the target against the float64 values of the source, in topological order.

Our writers record in each node of the target the name that its value had in the source (`isomorph.origin`). Both sides
are asked for these values, a chunk at a time; each is held to the budget of compare.py. The culprit is the first node
whose value is beyond it and whose error reaches the nodes that read it (a node that our rules fused may hold another
stage of the computation than its name says; its readers then agree and it is passed over).

The axis order of an intermediate is not recorded: of the orders channels-first and channels-last that fit the shape, the one
with the smaller error is taken. No verdict rests on that: localization starts when the verdict has fallen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.converters.formats import by_name
from isomorph.errors import IsomorphError, RunnerError
from isomorph.ir import DType, Model, Node, Value
from isomorph.validators.compare import Comparison, compare_float, unit_roundoff
from isomorph.validators.inputs import Case
from isomorph.validators.pairing import Pairing
from isomorph.validators.runner import FLOAT64, Capture, Runner, Subject
from isomorph.validators.verdict import EQUAL, UNEQUAL

__all__ = ["Localization", "localize"]

CHUNK = 32
"""Values asked for in one run: bounds the memory of a deep network's intermediates."""
_CURVES = ("Gelu", "Erf", "Tanh", "Sigmoid", "Swish", "Silu", "Mish", "Softplus", "Selu", "Elu", "HardSwish", "QuickGelu")


@dataclass(frozen=True, slots=True)
class Localization:
    """The culprit, or in `note` why none is named.

    op, target, source   the op's kind, its name in the target, the name of the same value in the source
    path, cls            module that it belongs to; file, line, code: where the user wrote it
    ratio                its error over its budget
    checked              number of values that were compared
    """

    op: str = ""
    target: str = ""
    source: str = ""
    path: str = ""
    cls: str = ""
    file: str = ""
    line: int = 0
    code: str = ""
    where: str = ""
    ratio: float = 0.0
    got: float = 0.0
    expected: float = 0.0
    index: tuple[int, ...] = ()
    checked: int = 0
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in self.__slots__}


def localize(source: Subject, target: Subject, left: Runner, right: Runner, case: Case, pairing: Pairing) -> Localization:
    """The first culprit on this case. Never raises for a model that cannot be localized: says so in `note`."""
    if isinstance(target, Capture):
        return Localization(note="not localized: the target is not a file")
    try:
        model = by_name(target.format).load_reader()(Path(target.path))
    except (IsomorphError, ImportError) as error:
        return Localization(note=f"not localized: the target cannot be read ({error})".splitlines()[0])
    named = list(_named(model, target.format))
    feeds = {p.target: p.to_target(case.inputs[p.source]) for p in pairing.inputs}
    judged: dict[str, Comparison] = {}
    try:
        for start in range(0, len(named), CHUNK):
            judged.update(_judge_chunk(named[start : start + CHUNK], left, right, case.inputs, feeds))
    except (RunnerError, NotImplementedError) as error:
        return Localization(note=f"not localized: intermediate values cannot be had ({error})".splitlines()[0])
    if not judged:
        return Localization(note="not localized: no value of the target is recorded as a value of the source")
    guilty = _first_guilty(model, {name: node for node, name, _ in named}, judged)
    if guilty is None:
        return Localization(checked=len(judged), note="not localized: every intermediate value that could be compared is within its budget")
    node, name, origin = next(entry for entry in named if entry[1] == guilty)
    return _describe(node, name, origin, judged[guilty], len(judged))


def _named(model: Model, format: str) -> Iterator[tuple[Node, str, str]]:
    """Node, name of its value in the target, name of the same value in the source; of nodes with one origin, the last."""
    last: dict[str, Node] = {}
    for node in model.graph.nodes:
        if node.origin.name:
            last[node.origin.name] = node
    for node in model.graph.nodes:
        if last.get(node.origin.name) is node:
            yield node, (node.outputs[0].name if format == "onnx" else node.name), node.origin.name


def _judge_chunk(
    chunk: Sequence[tuple[Node, str, str]], left: Runner, right: Runner, inputs: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Comparison]]:
    here, there = [name for _, name, _ in chunk], [origin for _, _, origin in chunk]
    reference = left.run(inputs, taps=there, precision=FLOAT64).taps
    if not reference:
        return
    plain = left.run(inputs, taps=there).taps
    target = right.run(feeds, taps=here).taps
    for name, origin in zip(here, there, strict=True):
        if name not in target or origin not in reference or origin not in plain:
            continue
        comparison = _compare(reference[origin], plain[origin], target[name])
        if comparison is not None:
            yield name, comparison


def _compare(reference: np.ndarray, plain: np.ndarray, target: np.ndarray) -> Comparison | None:
    """None where the two are not the same kind of thing (integers, shapes that no axis order explains)."""
    if not (DType.of(plain.dtype).is_float and DType.of(target.dtype).is_float) or not reference.size:
        return None
    unit = unit_roundoff(plain.dtype)
    orders = [view for view in _orders(target) if view.shape == reference.shape]
    return min((compare_float(reference, [plain], view, unit) for view in orders), key=lambda c: c.worst, default=None)


def _orders(array: np.ndarray) -> Iterator[np.ndarray]:
    yield array
    if array.ndim >= 3:
        yield np.moveaxis(array, -1, 1)
        yield np.moveaxis(array, 1, -1)


def _first_guilty(model: Model, nodes: Mapping[str, Node], judged: Mapping[str, Comparison]) -> str | None:
    names = {node: name for name, node in nodes.items()}
    users = model.graph.users()
    for name, node in nodes.items():
        if name not in judged or judged[name].worst < UNEQUAL:
            continue
        readers = _judged_readers(node, users, names, judged)
        if not readers or any(judged[reader].worst > EQUAL for reader in readers):
            return name
    return None


def _judged_readers(
    node: Node, users: Mapping[Value, list[Node]], names: Mapping[Node, str], judged: Mapping[str, Comparison]
) -> list[str]:
    """The nearest nodes downstream whose values were compared."""
    found: list[str] = []
    pending, seen = [node], {node}
    while pending:
        for output in pending.pop().outputs:
            for user in users.get(output, ()):
                if user in seen:
                    continue
                seen.add(user)
                if names.get(user) in judged:
                    found.append(names[user])
                else:
                    pending.append(user)
    return found


def _describe(node: Node, name: str, origin: str, comparison: Comparison, checked: int) -> Localization:
    op = type(node.op).__name__
    small = comparison.error < 1e-2 and op in _CURVES
    return Localization(
        op=op,
        target=name,
        source=origin,
        path=node.scope.path,
        cls=node.scope.cls,
        file=node.origin.file,
        line=node.origin.line,
        code=node.origin.code,
        where=node.describe(),
        ratio=comparison.worst,
        got=comparison.got,
        expected=comparison.expected,
        index=comparison.index,
        checked=checked,
        note=f"looks like an approximation of {op}" if small else "",
    )
