"""A graph as numbers: each node's own signature, and colours that say what it computes and what is made of it.

The *own* signature of a node is its op, its attributes and its weights, at a level: EXACT compares weights by
content, SHAPE by type, OP looks at the op alone. The *past* colour of a node is its own signature with the past
colours of its operands (Merkle): equal pasts compute the same. The *future* colour is its own signature with the
future colours of its users: equal futures make the same of it. Signatures and colours are interned numbers, equal if
and only if what they stand for is; a `Palette` is shared by both graphs. Linear in the size of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np

from isomorph.ir.diff.content import content_digest
from isomorph.ir.graph import Graph, Node, Value
from isomorph.ir.op import Op, OpaqueType, TensorType
from isomorph.ir.params import Parameter
from isomorph.ir.shapes import Dim, Shape, Sym, format_shape

__all__ = ["COMMUTATIVE", "Colours", "Dialect", "Level", "Palette", "Plan", "Source", "Use", "groups"]

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
"""Ops whose two operands may change places: the result is the same, bit by bit."""
T = TypeVar("T")
_OPEN = "?"


class Level(IntEnum):
    """What of a node its own signature looks at."""

    EXACT = 0
    SHAPE = 1
    OP = 2


class Source(NamedTuple):
    """Where an operand comes from: a "node" (which `output` of it), "input" or "parameter" of the plan, by index."""

    kind: str
    number: int
    output: int = 0


class Use(NamedTuple):
    """A user of a value: the index of the node, the operand position (0 if the op is commutative), the output used."""

    node: int
    position: int
    output: int


class Palette:
    """Numbers for whatever is hashable; and the content of parameters, hashed once."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._digests: dict[Parameter, str] = {}

    def number(self, *key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def digest(self, parameter: Parameter) -> str:
        if parameter not in self._digests:
            self._digests[parameter] = content_digest(parameter.data)
        return self._digests[parameter]


class Dialect:
    """How a model writes its attributes: the sizes that its named dimensions stand for in the comparison.

    bindings  named dimension -> size in common terms; every other name is open and compares equal to any open one
    single    whether numbers are compared as float32, which some formats store them as
    """

    def __init__(self, bindings: Mapping[str, Dim] | None = None, *, single: bool = False) -> None:
        self.bindings: dict[str, Dim] = dict(bindings or {})
        self.single = single
        self._types: dict[TensorType, str] = {}

    def dim(self, dim: Dim) -> Dim:
        if not isinstance(dim, Sym):
            return dim
        return dim.substitute({name: self.bindings.get(name, Sym(_OPEN)) for name in dim.names()})

    def shape(self, shape: Shape) -> str:
        return format_shape(tuple(map(self.dim, shape)))

    def type(self, kind: TensorType) -> str:
        if kind not in self._types:
            self._types[kind] = self._describe(kind)
        return self._types[kind]

    def _describe(self, kind: TensorType) -> str:
        if isinstance(kind, OpaqueType):
            inside = [str(kind.key or ""), "" if kind.element is None else self.type(kind.element)]
            return f"{kind.form}({', '.join(filter(None, inside)) or kind.dtype})"
        return f"{kind.dtype}{self.shape(kind.shape)}"

    def text(self, value: Any, defined: frozenset[str] = frozenset()) -> str:
        """An attribute's value as text; `defined` are names of dimensions that the op itself decides."""
        if isinstance(value, Sym):
            return str(self.dim(value))
        if isinstance(value, bool) or value is None:
            return str(value)
        if isinstance(value, float):
            return repr(float(np.float32(value)) if self.single and abs(value) < 3e38 else float(value))
        if isinstance(value, str):
            return str(self.bindings.get(value, _OPEN)) if value in defined else repr(value)
        if isinstance(value, TensorType):
            return self.type(value)
        if isinstance(value, tuple):
            return "(" + ", ".join(self.text(item, defined) for item in value) + ")"
        return str(value)

    def attributes(self, op: Op) -> dict[str, str]:
        defined = op.defines()
        return {name: self.text(value, defined) for name, value in op.attributes().items()}


class Plan:
    """The connections of a graph, by index: operands of each node, users of each, and outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = graph.nodes
        self.parameters: list[Parameter] = []
        places: dict[Value, Source] = {value: Source("input", k) for k, value in enumerate(graph.inputs)}
        for value in graph.parameters:
            if value.parameter is not None:
                places[value] = Source("parameter", len(self.parameters))
                self.parameters.append(value.parameter)
        self.sources: list[list[Source | None]] = []
        self.users: list[list[Use]] = [[] for _ in self.nodes]
        self.input_users: list[list[Use]] = [[] for _ in graph.inputs]
        for index, node in enumerate(self.nodes):
            sources = [None if value is None else places[value] for value in node.inputs]
            while sources and sources[-1] is None:
                sources.pop()
            self.sources.append(sources)
            for position, source in enumerate(sources):
                self._use(source, index, 0 if node.op.name in COMMUTATIVE else position)
            places.update({value: Source("node", index, k) for k, value in enumerate(node.outputs)})
        self.outputs: list[Source] = [places[value] for value in graph.outputs.values()]

    def _use(self, source: Source | None, index: int, position: int) -> None:
        if source is not None and source.kind == "node":
            self.users[source.number].append(Use(index, position, source.output))
        elif source is not None and source.kind == "input":
            self.input_users[source.number].append(Use(index, position, 0))

    def weights(self, index: int) -> tuple[Parameter, ...]:
        """The parameters that a node reads, by position."""
        return tuple(self.parameters[each.number] for each in self.sources[index] if each and each.kind == "parameter")


class Colours:
    """Signatures and colours of a plan, computed when they are asked for.

    marks   what stands for each input and for each output: equal marks are the same one in both graphs
    """

    def __init__(
        self, plan: Plan, palette: Palette, dialect: Dialect, marks: tuple[Sequence[int], Sequence[int]]
    ) -> None:
        self.plan = plan
        self._palette = palette
        self._dialect = dialect
        self._marks = marks
        self._own: dict[Level, list[int]] = {}

    def own(self, level: Level) -> list[int]:
        """The own signature of each node."""
        if level not in self._own:
            self._own[level] = [self._signature(index, level) for index in range(len(self.plan.nodes))]
        return self._own[level]

    def past(self, level: Level) -> list[int]:
        """The colour of what each node computes."""
        number = self._palette.number
        own = self.own(level)
        colours: list[int] = []
        for index, sources in enumerate(self.plan.sources):
            operands = [self._past_of(source, colours) for source in sources]
            if self.plan.nodes[index].op.name in COMMUTATIVE:
                operands.sort()
            colours.append(number("past", own[index], tuple(operands)))
        return colours

    def _past_of(self, source: Source | None, colours: Sequence[int]) -> int:
        if source is None or source.kind == "parameter":
            return -1
        if source.kind == "input":
            return self._palette.number("input", self._marks[0][source.number])
        return self._palette.number("result", colours[source.number], source.output)

    def future(self, level: Level) -> list[int]:
        """The colour of what is made of each node."""
        number = self._palette.number
        own = self.own(level)
        shown: list[list[int]] = [[] for _ in own]
        for position, source in enumerate(self.plan.outputs):
            if source.kind == "node":
                shown[source.number].append(number("output", self._marks[1][position], source.output))
        colours = [0] * len(own)
        for index in reversed(range(len(own))):
            uses = [number("use", colours[use.node], use.position, use.output) for use in self.plan.users[index]]
            colours[index] = number("future", own[index], tuple(sorted(uses)), tuple(sorted(shown[index])))
        return colours

    def _signature(self, index: int, level: Level) -> int:
        node = self.plan.nodes[index]
        title = str(getattr(node.op, "title", node.op.name))
        if level is Level.OP:
            return self._palette.number(title)
        tokens = [self._token(source, level) for source in self.plan.sources[index]]
        if node.op.name in COMMUTATIVE:
            tokens.sort()
        bodies = tuple(self._body(region, level) for region in node.regions)
        attributes = tuple(self._dialect.attributes(node.op).values())
        return self._palette.number(title, attributes, tuple(tokens), bodies)

    def _token(self, source: Source | None, level: Level) -> int:
        """What an operand contributes to its user's own signature: whether it is there, and what weight it is."""
        if source is None:
            return -1
        if source.kind != "parameter":
            return -2
        parameter = self.plan.parameters[source.number]
        if level is Level.EXACT:
            return self._palette.number("content", self._palette.digest(parameter))
        return self._palette.number("type", parameter.data.dtype, parameter.data.shape)

    def _body(self, region: Graph, level: Level) -> int:
        """A region by itself: its inputs and outputs are their positions."""
        plan = Plan(region)
        marks = (range(len(region.inputs)), range(len(region.outputs)))
        inner = Colours(plan, self._palette, self._dialect, marks)
        colours = inner.past(level)
        results = []
        for source in plan.outputs:
            if source.kind == "parameter":
                results.append(inner._token(source, level))
            else:
                results.append(inner._past_of(source, colours))
        return self._palette.number("body", len(region.inputs), tuple(results), tuple(sorted(colours)))


def groups(key: Callable[[T], Hashable], items: Iterable[T]) -> dict[Hashable, list[T]]:
    """The items by their keys, in order."""
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
