"""What differs between paired nodes: ops, attributes, operands, and the types of what they compute."""

from __future__ import annotations

from collections.abc import Iterator

from isomorph.ir.diff.colours import COMMUTATIVE, Dialect, Plan, Source
from isomorph.ir.diff.difference import NodeDifference, Operand, Pairing, ValueDifference
from isomorph.ir.diff.match import Matching
from isomorph.ir.diff.regions import GraphPair
from isomorph.ir.graph import Node

__all__ = ["lone_node", "node_difference", "operand_pairs", "title", "value_differences"]


def title(node: Node) -> str:
    """The op as its users know it."""
    return str(getattr(node.op, "title", node.op.name))


def node_difference(pair: GraphPair, i: int, j: int) -> NodeDifference | None:
    """How node j of b differs from node i of a, None if it does not. Weights are compared elsewhere."""
    matching = pair.matching
    node, other = matching.a.nodes[i], matching.b.nodes[j]
    attributes = {} if matching.alike(i, j) else _attributes(pair.dialects, node, other)
    op = Pairing(title(node), title(other))
    operands = tuple(
        Operand(position, _operand_name(matching.a, source), _operand_name(matching.b, twin))
        for position, source, twin in operand_pairs(matching, i, j)
        if not _agree(matching, source, twin)
    )
    given = any((each.a is None) != (each.b is None) for each in operands)
    changed = op.a != op.b or attributes or given
    if not changed and not operands:
        return None
    names = Pairing(node.name, other.name)
    change = "changed" if changed else "rewired"
    return NodeDifference(change, names, op, node.describe(), attributes, operands, pair.region)


def lone_node(node: Node, change: str, region: str) -> Iterator[NodeDifference]:
    """A node without a partner ("added" or "removed"), and those in its regions."""
    removed = change == "removed"
    names = Pairing(node.name, None) if removed else Pairing(None, node.name)
    op = Pairing(title(node), None) if removed else Pairing(None, title(node))
    yield NodeDifference(change, names, op, node.describe(), region=region)
    for inner in node.regions:
        inside = f"{region} > {node.name}.{inner.name}" if region else f"{node.name}.{inner.name}"
        for each in inner.nodes:
            yield from lone_node(each, change, inside)


def value_differences(pair: GraphPair) -> Iterator[ValueDifference]:
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


def operand_pairs(matching: Matching, i: int, j: int) -> list[tuple[int, Source | None, Source | None]]:
    """The operands of a pair side by side; of a commutative op, crossed if more of them agree then."""
    sources, twins = matching.a.sources[i], matching.b.sources[j]
    count = max(len(sources), len(twins))
    sources, twins = [*sources, *[None] * (count - len(sources))], [*twins, *[None] * (count - len(twins))]
    if matching.a.nodes[i].op.name in COMMUTATIVE and count == 2:
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
