"""Two models side by side: their graphs are matched, region by region, then every pair is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from isomorph.ir.diff.colours import Dialect, Palette
from isomorph.ir.diff.difference import Difference, NodeDifference, OpCount, Pairing, Side, ValueDifference
from isomorph.ir.diff.nodes import lone_node, node_difference, operand_pairs, title, value_differences
from isomorph.ir.diff.parameters import ParameterPairs
from isomorph.ir.diff.regions import GraphPair, match_graphs, named_inputs, named_outputs
from isomorph.ir.diff.signature import dimension_differences, interface_differences, pair_values, same_dimensions
from isomorph.ir.graph import Model
from isomorph.ir.op import TensorType
from isomorph.ir.params import Parameter

__all__ = ["diff_models"]


def diff_models(
    a: Model, b: Model, *, labels: tuple[str, str] = ("a", "b"), form: str = "written", single: bool = False
) -> Difference:
    """How model b differs from model a. Weights are hashed and compared in blocks; nothing is run.

    single  compare what both formats can say: float attributes as float32, ranges of sizes where both state one
    """
    return _Comparison(a, b, single).difference(labels, form)


class _Comparison:
    def __init__(self, a: Model, b: Model, single: bool) -> None:
        self.a, self.b = a, b
        self._single = single
        self._palette = Palette()
        self._same: Counter[str] = Counter()
        self._changed: Counter[str] = Counter()
        self.inputs = pair_values(named_inputs(a.graph), named_inputs(b.graph))
        around = Dialect(single=single), Dialect(single=single)
        self._graphs = list(match_graphs((a.graph, b.graph), self.inputs, self._palette, around))
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
            tuple(each for pair in self._graphs for each in value_differences(pair)),
            tuple(self.parameters.differences()),
            tuple(self.parameters.ties()),
            tuple(self._renames()),
            self._metadata(),
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
            places = [each for i, j in pair.matching.pairs() for each in operand_pairs(pair.matching, i, j)]
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

    def _nodes(self, pair: GraphPair) -> Iterator[NodeDifference]:
        matching = pair.matching
        for i, node in enumerate(matching.a.nodes):
            j = matching.to_b[i]
            if j is None:
                yield from lone_node(node, "removed", pair.region)
                continue
            found = node_difference(pair, i, j)
            if found is None:
                self._same[title(node)] += 1
            else:
                self._changed[title(node)] += found.op.a == found.op.b
                yield found
        for j, node in enumerate(matching.b.nodes):
            if matching.to_a[j] is None:
                yield from lone_node(node, "added", pair.region)

    def _interface(self) -> Iterator[ValueDifference]:
        a, b = self.a, self.b
        yield from interface_differences("input", named_inputs(a.graph), named_inputs(b.graph), self.inputs, self.dims)
        yield from interface_differences(
            "output", named_outputs(a.graph), named_outputs(b.graph), self.outputs, self.dims
        )
        yield from dimension_differences(a, b, self.dims, stated=self._single)
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
        first, second = (Counter(map(title, model.nodes())) for model in (self.a, self.b))
        names = sorted({*first, *second}, key=lambda name: (-max(first[name], second[name]), name))
        return tuple(OpCount(name, first[name], second[name], self._same[name], self._changed[name]) for name in names)


def _parameters(model: Model) -> list[Parameter]:
    """All, by identity, initial values of states included."""
    listed = [value.parameter for graph in model.graph.graphs() for value in graph.parameters if value.parameter]
    initial = [state.initial for state in model.state.values() if state.initial]
    return list(dict.fromkeys((*listed, *initial)))


def _side(label: str, model: Model) -> Side:
    weights = [each for each in _parameters(model) if each.role != "constant"]
    nodes = sum(1 for _ in model.nodes())
    return Side(label, model.name, model.source, nodes, len(weights), sum(each.data.size for each in weights))
