"""Two models side by side: their graphs are matched, region by region, then every pair is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from isomorph.ir.diff.colours import COMMUTATIVE, Colours, Dialect, Level, Palette, Plan, Source
from isomorph.ir.diff.difference import (
    Difference,
    NodeDifference,
    OpCount,
    Operand,
    Pairing,
    Side,
    ValueDifference,
)
from isomorph.ir.diff.match import Matching
from isomorph.ir.diff.parameters import ParameterPairs
from isomorph.ir.diff.signature import (
    Named,
    dimension_differences,
    interface_differences,
    pair_values,
    same_dimensions,
    unify,
)
from isomorph.ir.graph import Graph, Model, Node
from isomorph.ir.op import TensorType
from isomorph.ir.params import Parameter

__all__ = ["diff_models"]


def diff_models(
    a: Model, b: Model, *, labels: tuple[str, str] = ("a", "b"), form: str = "written", single: bool = False
) -> Difference:
    """How model b differs from model a. Weights are hashed and compared in blocks; nothing is run.

    single  compare float attributes as float32, which some formats store them as
    """
    return _Comparison(a, b, single).difference(labels, form)


@dataclass(slots=True)
class _Pair:
    """A graph of each model, matched. `region` says where it is."""

    region: str
    matching: Matching
    dialects: tuple[Dialect, Dialect]
    outputs: list[tuple[int, int]]
    rewired: list[tuple[int, int]] = field(default_factory=list)


class _Comparison:
    def __init__(self, a: Model, b: Model, single: bool) -> None:
        self.a, self.b = a, b
        self._single = single
        self._palette = Palette()
        self._graphs: list[_Pair] = []
        self._same: Counter[str] = Counter()
        self._changed: Counter[str] = Counter()
        self.inputs = pair_values(_inputs(a.graph), _inputs(b.graph))
        self._match(a.graph, b.graph, self.inputs, "")
        self.outputs = self._graphs[0].outputs
        self.dims = same_dimensions(self._interface_types())
        self.parameters = ParameterPairs(_parameters(a), _parameters(b), self._votes(), self._palette)

    def difference(self, labels: tuple[str, str], form: str) -> Difference:
        nodes = tuple(each for pair in self._graphs for each in self._nodes(pair))
        return Difference(
            _side(labels[0], self.a),
            _side(labels[1], self.b),
            form,
            self._ops(),
            sum(self._same.values()),
            self.parameters.same,
            tuple(self._interface()),
            nodes,
            tuple(each for pair in self._graphs for each in self._values(pair)),
            tuple(self.parameters.differences()),
            tuple(self.parameters.ties()),
            tuple(self._renames()),
            self._metadata(),
        )

    def _match(
        self,
        a: Graph,
        b: Graph,
        inputs: list[tuple[int, int]],
        region: str,
        bindings: tuple[Dialect, Dialect] | None = None,
    ) -> None:
        """Match two graphs, then the regions of paired nodes."""
        known = tuple({} if bindings is None else dict(each.bindings) for each in bindings or (None, None))  # type: ignore[union-attr]
        types = [(a.inputs[i].type, b.inputs[j].type) for i, j in inputs]
        unify(types, (known[0], known[1]))
        dialects = (Dialect(known[0], single=self._single), Dialect(known[1], single=self._single))
        plans = Plan(a), Plan(b)
        input_marks = _marks(len(a.inputs), len(b.inputs), inputs)
        outputs = self._pair_outputs(plans, dialects, input_marks)
        output_marks = _marks(len(a.outputs), len(b.outputs), outputs)
        colours = [
            Colours(plan, self._palette, dialect, (input_marks[side], output_marks[side]))
            for side, (plan, dialect) in enumerate(zip(plans, dialects, strict=True))
        ]
        matching = Matching(colours[0], colours[1], inputs, outputs)
        self._graphs.append(_Pair(region, matching, dialects, outputs))
        for i, j in matching.pairs():
            node, other = a.nodes[i], b.nodes[j]
            for each, twin in zip(node.regions, other.regions, strict=False):
                inside = f"{region} > {node.name}.{each.name}" if region else f"{node.name}.{each.name}"
                self._match(each, twin, _pair_region_inputs(each, twin), inside, dialects)

    def _pair_outputs(
        self, plans: tuple[Plan, Plan], dialects: tuple[Dialect, Dialect], marks: tuple[list[int], list[int]]
    ) -> list[tuple[int, int]]:
        """Outputs of one name; then those that are computed alike; then by type."""
        named = [[(name, value.type) for name, value in plan.graph.outputs.items()] for plan in plans]
        if [name for name, _ in named[0]] == [name for name, _ in named[1]]:
            return [(k, k) for k in range(len(named[0]))]
        results = []
        for plan, dialect, mark in zip(plans, dialects, marks, strict=True):
            past = Colours(plan, self._palette, dialect, (mark, ())).past(Level.EXACT)
            results.append([(past[each.number], each.output) if each.kind == "node" else None for each in plan.outputs])
        return pair_values(
            named[0], named[1], lambda i, j: results[0][i] is not None and results[0][i] == results[1][j]
        )

    def _interface_types(self) -> list[tuple[TensorType, TensorType]]:
        a, b = self.a.graph, self.b.graph
        inputs = [(a.inputs[i].type, b.inputs[j].type) for i, j in self.inputs]
        shown, others = list(a.outputs.values()), list(b.outputs.values())
        return [*inputs, *((shown[i].type, others[j].type) for i, j in self.outputs)]

    def _votes(self) -> Counter[tuple[Parameter, Parameter]]:
        """How often each pair of parameters is read at the same place."""
        votes: Counter[tuple[Parameter, Parameter]] = Counter()
        for pair in self._graphs:
            plan, other = pair.matching.a, pair.matching.b
            places = [each for i, j in pair.matching.pairs() for each in _operands(pair.matching, i, j)]
            places += [(0, plan.outputs[i], other.outputs[j]) for i, j in pair.outputs]
            for _, source, twin in places:
                if source and twin and source.kind == twin.kind == "parameter":
                    votes[plan.parameters[source.number], other.parameters[twin.number]] += 1
        for name, state in self.a.state.items():
            twin_state = self.b.state.get(self._input_names().get(name, ""))
            if state.initial and twin_state and twin_state.initial:
                votes[state.initial, twin_state.initial] += 1
        return votes

    def _input_names(self) -> dict[str, str]:
        return {self.a.graph.inputs[i].name: self.b.graph.inputs[j].name for i, j in self.inputs}

    def _nodes(self, pair: _Pair) -> Iterator[NodeDifference]:
        matching = pair.matching
        for i, node in enumerate(matching.a.nodes):
            j = matching.to_b[i]
            if j is None:
                yield from _alone(node, "removed", pair.region)
                continue
            found = self._compare(pair, i, j)
            title = _title(node)
            if found is None:
                self._same[title] += 1
            else:
                self._changed[title] += found.op.a == found.op.b
                yield found
        for j, node in enumerate(matching.b.nodes):
            if matching.to_a[j] is None:
                yield from _alone(node, "added", pair.region)

    def _compare(self, pair: _Pair, i: int, j: int) -> NodeDifference | None:
        matching = pair.matching
        node, other = matching.a.nodes[i], matching.b.nodes[j]
        attributes = {} if matching.alike(i, j) else _attributes(pair.dialects, node, other)
        op = Pairing(_title(node), _title(other))
        operands = tuple(
            Operand(position, _operand_name(matching.a, source), _operand_name(matching.b, twin))
            for position, source, twin in _operands(matching, i, j)
            if not _agree(matching, source, twin)
        )
        given = any((each.a is None) != (each.b is None) for each in operands)
        changed = op.a != op.b or attributes or given
        if not changed and not operands:
            return None
        names = Pairing(node.name, other.name)
        return NodeDifference(
            "changed" if changed else "rewired", names, op, node.describe(), attributes, operands, pair.region
        )

    def _values(self, pair: _Pair) -> Iterator[ValueDifference]:
        """Types of what paired nodes compute; outputs of the graph that come from elsewhere."""
        matching = pair.matching
        first, second = pair.dialects
        for i, j in matching.pairs():
            for value, other in zip(matching.a.nodes[i].outputs, matching.b.nodes[j].outputs, strict=False):
                if first.type(value.type) != second.type(other.type):
                    names = Pairing(value.name, other.name)
                    yield ValueDifference("value", "changed", names, str(value.type), str(other.type))
        shown, others = list(matching.a.graph.outputs), list(matching.b.graph.outputs)
        for i, j in pair.outputs:
            source, twin = matching.a.outputs[i], matching.b.outputs[j]
            if not _agree(matching, source, twin):
                texts = _operand_name(matching.a, source), _operand_name(matching.b, twin)
                yield ValueDifference("output", "rewired", Pairing(shown[i], others[j]), *texts)

    def _interface(self) -> Iterator[ValueDifference]:
        a, b = self.a, self.b
        yield from interface_differences("input", _inputs(a.graph), _inputs(b.graph), self.inputs, self.dims)
        yield from interface_differences("output", _outputs(a.graph), _outputs(b.graph), self.outputs, self.dims)
        yield from dimension_differences(a, b, self.dims)
        inputs, outputs = self._input_names(), dict(self._output_names())
        states = {inputs.get(name, name): (name, outputs.get(state.output, "")) for name, state in a.state.items()}
        for name in dict.fromkeys((*states, *b.state)):
            mine, theirs = states.get(name), b.state.get(name)
            if mine is None and theirs is not None:
                yield ValueDifference("state", "added", Pairing(None, name), None, theirs.output)
            elif mine is not None and theirs is None:
                yield ValueDifference("state", "removed", Pairing(mine[0], None), mine[1], None)
            elif mine is not None and theirs is not None and mine[1] != theirs.output:
                yield ValueDifference("state", "changed", Pairing(mine[0], name), mine[1], theirs.output)

    def _output_names(self) -> Iterator[tuple[str, str]]:
        shown, others = list(self.a.graph.outputs), list(self.b.graph.outputs)
        return ((shown[i], others[j]) for i, j in self.outputs)

    def _renames(self) -> Iterator[ValueDifference]:
        """Names of the model, dimensions, nodes, values and modules: each pair once."""
        found: dict[ValueDifference, None] = {}

        def note(what: str, name: str, other: str) -> None:
            if name != other:
                found[ValueDifference(what, "renamed", Pairing(name, other))] = None

        note("model", self.a.name, self.b.name)
        for other, name in self.dims.items():
            note("dimension", name, other)
        for pair in self._graphs:
            for i, j in pair.matching.pairs():
                node, twin = pair.matching.a.nodes[i], pair.matching.b.nodes[j]
                note("node", node.name, twin.name)
                note("module", node.scope.path, twin.scope.path)
                for value, other_value in zip(node.outputs, twin.outputs, strict=False):
                    if (value.name, other_value.name) != (node.name, twin.name):
                        note("value", value.name, other_value.name)
        yield from found

    def _metadata(self) -> dict[str, tuple[str | None, str | None]]:
        first, second = self.a.metadata, self.b.metadata
        keys = dict.fromkeys((*first, *second))
        return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}

    def _ops(self) -> tuple[OpCount, ...]:
        first, second = (Counter(map(_title, model.nodes())) for model in (self.a, self.b))
        names = sorted({*first, *second}, key=lambda name: (-max(first[name], second[name]), name))
        return tuple(OpCount(name, first[name], second[name], self._same[name], self._changed[name]) for name in names)


def _operands(matching: Matching, i: int, j: int) -> list[tuple[int, Source | None, Source | None]]:
    """The operands of a pair side by side; of a commutative op, those that agree first."""
    sources, twins = matching.a.sources[i], matching.b.sources[j]
    count = max(len(sources), len(twins))
    sources, twins = [*sources, *[None] * (count - len(sources))], [*twins, *[None] * (count - len(twins))]
    crossed = matching.a.nodes[i].op.name in COMMUTATIVE and count == 2
    if crossed:
        straight, across = (
            sum(_agree(matching, *pair) for pair in zip(sources, order, strict=True)) for order in (twins, twins[::-1])
        )
        if across > straight:
            twins.reverse()
    return list(zip(range(count), sources, twins, strict=True))


def _agree(matching: Matching, source: Source | None, twin: Source | None) -> bool:
    """Whether two operands are each other's. Two parameters always are: how they differ is said of them."""
    if source is None or twin is None:
        return source is twin
    if source.kind == twin.kind == "parameter":
        return True
    return matching.image(source) == twin


def _attributes(dialects: tuple[Dialect, Dialect], node: Node, other: Node) -> dict[str, tuple[str | None, str | None]]:
    """The attributes that differ, as text."""
    texts, others = dialects[0].attributes(node.op), dialects[1].attributes(other.op)
    names = dict.fromkeys((*texts, *others))
    return {name: (texts.get(name), others.get(name)) for name in names if texts.get(name) != others.get(name)}


def _operand_name(plan: Plan, source: Source | None) -> str | None:
    if source is None:
        return None
    if source.kind == "input":
        return plan.graph.inputs[source.number].name
    if source.kind == "parameter":
        return plan.parameters[source.number].name
    return plan.nodes[source.number].outputs[source.output].name


def _alone(node: Node, change: str, region: str) -> Iterator[NodeDifference]:
    """A node without a partner, and those in its regions."""
    title = _title(node)
    removed = change == "removed"
    names = Pairing(node.name, None) if removed else Pairing(None, node.name)
    op = Pairing(title, None) if removed else Pairing(None, title)
    yield NodeDifference(change, names, op, node.describe(), region=region)
    for inner in node.regions:
        inside = f"{region} > {node.name}.{inner.name}" if region else f"{node.name}.{inner.name}"
        for each in inner.nodes:
            yield from _alone(each, change, inside)


def _pair_region_inputs(a: Graph, b: Graph) -> list[tuple[int, int]]:
    if len(a.inputs) == len(b.inputs):
        return [(k, k) for k in range(len(a.inputs))]
    return pair_values(_inputs(a), _inputs(b))


def _marks(count_a: int, count_b: int, pairs: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """A number for each: equal for pairs, unlike any other for the rest."""
    first = list(range(count_a))
    second = [-1 - k for k in range(count_b)]
    for i, j in pairs:
        second[j] = first[i]
    return first, second


def _title(node: Node) -> str:
    return str(getattr(node.op, "title", node.op.name))


def _inputs(graph: Graph) -> Named:
    return [(value.name, value.type) for value in graph.inputs]


def _outputs(graph: Graph) -> Named:
    return [(name, value.type) for name, value in graph.outputs.items()]


def _parameters(model: Model) -> list[Parameter]:
    """All, by identity, initial values of states included."""
    listed = [value.parameter for graph in model.graph.graphs() for value in graph.parameters if value.parameter]
    initial = [state.initial for state in model.state.values() if state.initial]
    return list(dict.fromkeys((*listed, *initial)))


def _side(label: str, model: Model) -> Side:
    weights = [each for each in _parameters(model) if each.role != "constant"]
    nodes = sum(1 for _ in model.nodes())
    return Side(label, model.name, model.source, nodes, len(weights), sum(each.data.size for each in weights))
