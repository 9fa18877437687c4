"""What `diff` answers: plain data, with a JSON form whose keys are stable.

The kinds of difference: what decides what is computed and how it is called counts, unless it is ignored; what does not,
only in strict comparisons.

    interface   inputs, outputs, state, ranges of named dimensions        counts
    network     ops, attributes, connections, types of values             counts
    weights     elements, types and shapes of parameters                  counts
    names       of nodes, inner values and parameters, scopes             strict
    training    which parameters train, their roles, which are tied       strict
    metadata    key-value pairs of the file                               strict
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, field
from typing import Any

from isomorph.records import record

__all__ = [
    "KINDS",
    "LENIENT",
    "SCHEMA",
    "Difference",
    "NodeDifference",
    "Numbers",
    "OpCount",
    "Operand",
    "Pairing",
    "ParameterDifference",
    "Side",
    "Tie",
    "ValueDifference",
]  # fmt: skip

SCHEMA = 1
"""Version of the JSON form."""
KINDS = ("interface", "network", "weights", "names", "training", "metadata")
LENIENT = frozenset({"names", "training", "metadata"})
"""Kinds that do not count unless the comparison is strict."""


@record
class Side:
    """One of the two models.

    label       as the caller named it
    format      format and version that it was read from
    nodes, ops  number of nodes, of all ops and of each, those in regions included
    parameters  number of tensors, `elements` of theirs
    """

    label: str
    name: str
    format: tuple[str, str]
    nodes: int
    parameters: int
    elements: int


@record
class OpCount:
    """How often an op occurs in each model, how many of them are the same, and how many are paired and changed."""

    op: str
    a: int
    b: int
    same: int
    changed: int


@record
class Pairing:
    """Two values of the two models, by name: None where there is none."""

    a: str | None
    b: str | None


@record
class ValueDifference:
    """An input, output, state or named dimension that differs; or the type of a value that a paired node computes.

    what    "input", "output", "state", "dimension", "value"
    change  "changed", "added", "removed", "renamed", "moved" (in order)
    a, b    the descriptions that differ: a type, a range, a position; None where there is none
    """

    what: str
    change: str
    names: Pairing
    a: str | None = None
    b: str | None = None


@record
class Operand:
    """An operand that comes from elsewhere: where it comes from in each model, None where it is absent."""

    position: int
    a: str | None
    b: str | None


@record
class NodeDifference:
    """A node that is in one model only, or that differs between the two.

    change      "added", "removed", "changed" (op, attributes or number of operands), "rewired" (operands only)
    op          the op's name in each model
    at          the layer and source line, as far as the file tells
    attributes  name -> the two values as text
    operands    those that come from elsewhere
    region      the control-flow node and region that it is in, "" at the top
    """

    change: str
    names: Pairing
    op: Pairing
    at: str = ""
    attributes: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    operands: tuple[Operand, ...] = ()
    region: str = ""


@record
class Numbers:
    """How the elements of two tensors of one shape differ.

    differing   elements whose bits differ; of two element types: whose values do
    absolute    the largest |b - a|, in float64; of numbers only, NaNs are counted apart
    relative    the largest |b - a| / max(|a|, |b|)
    nan_a/b     elements that are NaN
    """

    differing: int
    elements: int
    absolute: float
    relative: float
    nan_a: int
    nan_b: int


@record
class ParameterDifference:
    """A parameter that is in one model only, or that differs.

    change     "added", "removed", "changed" (elements, type or shape), "permuted" (the same elements in another order
               of axes: b = numpy.transpose(a, axes)), "reshaped" (the same elements in C order), "renamed", "training"
    a, b       type of each as text
    trainable  whether each trains; role likewise
    """

    change: str
    names: Pairing
    a: str | None
    b: str | None
    numbers: Numbers | None = None
    axes: tuple[int, ...] | None = None
    trainable: tuple[bool | None, bool | None] = (None, None)
    role: tuple[str | None, str | None] = (None, None)


@record
class Tie:
    """Weights that one model shares and the other keeps apart: parameters in the same places, by name.

    Where their elements differ, too, they are also among the parameters that changed.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]


@record
class Difference:
    """How model b differs from model a. Empty lists mean that nothing of the kind does.

    form        "written": both as they were read; "normal": both in the normal form that conversions use
    ops         for each op how many there are, in order of their number
    same_nodes, same_parameters  how many are the same in both
    nodes       nodes added, removed, changed, rewired; in the order of model a, then b
    parameters  parameters added, removed, changed, renamed; constants are listed where they differ, never as renamed
    interface   inputs, outputs, states and dimensions; values: types of what paired nodes compute
    renames     of nodes and of the values they compute
    metadata    key -> the two texts
    """

    a: Side
    b: Side
    form: str
    ops: tuple[OpCount, ...]
    same_nodes: int
    same_parameters: int
    interface: tuple[ValueDifference, ...] = ()
    nodes: tuple[NodeDifference, ...] = ()
    values: tuple[ValueDifference, ...] = ()
    parameters: tuple[ParameterDifference, ...] = ()
    ties: tuple[Tie, ...] = ()
    renames: tuple[ValueDifference, ...] = ()
    metadata: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of difference that there are, in the order of KINDS."""
        changes = {each.change for each in self.parameters}
        found = {
            "interface": bool(self.interface),
            "network": bool(self.nodes or self.values),
            "weights": bool(changes - {"renamed", "training"}),
            "names": bool(self.renames)
            or any(None not in _ab(each.names) and each.names.a != each.names.b for each in self.parameters),
            "training": bool(self.ties)
            or any(_differ(each.trainable) or _differ(each.role) for each in self.parameters),
            "metadata": bool(self.metadata),
        }
        return tuple(kind for kind in KINDS if found[kind])

    @property
    def identical(self) -> bool:
        """Whether nothing at all differs."""
        return not self.kinds

    def counting(self, ignore: Collection[str] = LENIENT) -> tuple[str, ...]:
        """The kinds of difference that are not ignored."""
        return tuple(kind for kind in self.kinds if kind not in ignore)

    @property
    def same(self) -> bool:
        """Whether both are called alike and compute the same with the same weights: no kind but those in LENIENT."""
        return not self.counting()

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; the keys are stable."""
        content = asdict(self)
        return {"schema": SCHEMA, "identical": self.identical, "same": self.same, "kinds": list(self.kinds), **content}


def _ab(names: Pairing) -> tuple[str | None, str | None]:
    return names.a, names.b


def _differ(pair: tuple[Any, Any]) -> bool:
    return None not in pair and pair[0] != pair[1]
