"""Two graphs matched, and the regions of their paired nodes: one `GraphPair` each, the outermost first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from isomorph.ir.diff.colours import Colours, Dialect, Level, Palette, Plan
from isomorph.ir.diff.match import Matching
from isomorph.ir.diff.signature import Named, pair_values, unify
from isomorph.ir.graph import Graph

__all__ = ["GraphPair", "match_graphs", "named_inputs", "named_outputs"]

Pairs = list[tuple[int, int]]


@dataclass(slots=True)
class GraphPair:
    """A graph of each model, matched.

    region    the control-flow node and region that they are, "" at the top
    dialects  how each writes its sizes
    outputs   which output is which
    """

    region: str
    matching: Matching
    dialects: tuple[Dialect, Dialect]
    outputs: Pairs


def match_graphs(
    graphs: tuple[Graph, Graph], inputs: Pairs, palette: Palette, dialects: tuple[Dialect, Dialect], region: str = ""
) -> Iterator[GraphPair]:
    """Match two graphs whose inputs are paired, then the regions of paired nodes. `dialects` are those around them."""
    a, b = graphs
    bindings = dict(dialects[0].bindings), dict(dialects[1].bindings)
    unify([(a.inputs[i].type, b.inputs[j].type) for i, j in inputs], bindings)
    first, second = (Dialect(each, single=dialects[0].single) for each in bindings)
    plans = Plan(a), Plan(b)
    marks = _marks(len(a.inputs), len(b.inputs), inputs)
    outputs = _pair_outputs(plans, (first, second), marks, palette)
    shown = _marks(len(a.outputs), len(b.outputs), outputs)
    colours = [
        Colours(plan, palette, dialect, (marks[side], shown[side]))
        for side, (plan, dialect) in enumerate(zip(plans, (first, second), strict=True))
    ]
    matching = Matching(colours[0], colours[1], inputs, outputs)
    yield GraphPair(region, matching, (first, second), outputs)
    for i, j in matching.pairs():
        node, other = a.nodes[i], b.nodes[j]
        for each, twin in zip(node.regions, other.regions, strict=False):
            inside = f"{region} > {node.name}.{each.name}" if region else f"{node.name}.{each.name}"
            yield from match_graphs((each, twin), _pair_region_inputs(each, twin), palette, (first, second), inside)


def _pair_outputs(
    plans: tuple[Plan, Plan], dialects: tuple[Dialect, Dialect], marks: tuple[list[int], list[int]], palette: Palette
) -> Pairs:
    """Outputs of one name; then those that are computed alike; then by type."""
    first, second = (named_outputs(plan.graph) for plan in plans)
    if [name for name, _ in first] == [name for name, _ in second]:
        return [(k, k) for k in range(len(first))]
    results = []
    for plan, dialect, mark in zip(plans, dialects, marks, strict=True):
        past = Colours(plan, palette, dialect, (mark, ())).past(Level.EXACT)
        results.append([(past[each.number], each.output) if each.kind == "node" else None for each in plan.outputs])
    return pair_values(first, second, lambda i, j: results[0][i] is not None and results[0][i] == results[1][j])


def _pair_region_inputs(a: Graph, b: Graph) -> Pairs:
    if len(a.inputs) == len(b.inputs):
        return [(k, k) for k in range(len(a.inputs))]
    return pair_values(named_inputs(a), named_inputs(b))


def _marks(count_a: int, count_b: int, pairs: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """A number for each: equal for pairs, unlike any other for the rest."""
    first = list(range(count_a))
    second = [-1 - k for k in range(count_b)]
    for i, j in pairs:
        second[j] = first[i]
    return first, second


def named_inputs(graph: Graph) -> Named:
    """The inputs by name."""
    return [(value.name, value.type) for value in graph.inputs]


def named_outputs(graph: Graph) -> Named:
    """The outputs by name."""
    return [(name, value.type) for name, value in graph.outputs.items()]
