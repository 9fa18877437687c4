"""Nodes in an order in which each comes behind those whose results it reads.

ONNX asks for that order (onnx.proto, GraphProto.node). Not every tool keeps to it, onnxruntime's conversion to float16
appends its casts, and onnxruntime reads such files: as names are given once, there is one meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from onnx import AttributeProto, GraphProto, NodeProto

from isomorph.converters.onnx.functions import names_read

__all__ = ["in_order", "put_in_order"]


def in_order(nodes: Sequence[NodeProto]) -> Sequence[NodeProto]:
    """The nodes themselves if they are in order; else each as early as those before it in the file allow. Nodes that
    wait for each other stay where they are."""
    producers = {name: place for place, node in reversed(list(enumerate(nodes))) for name in node.output if name}
    reads = [
        {producers[name] for name in _read_by(node) if name in producers} - {place} for place, node in enumerate(nodes)
    ]
    if all(not places or max(places) < place for place, places in enumerate(reads)):
        return nodes
    readers: list[list[int]] = [[] for _ in nodes]
    waiting = [len(places) for places in reads]
    for place, places in enumerate(reads):
        for producer in places:
            readers[producer].append(place)
    ready = [place for place, count in enumerate(waiting) if not count]
    heapify(ready)
    ordered: list[NodeProto] = []
    while ready:
        place = heappop(ready)
        ordered.append(nodes[place])
        for reader in readers[place]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heappush(ready, reader)
    return ordered if len(ordered) == len(nodes) else nodes


def put_in_order(graph: GraphProto) -> None:
    """The same for a graph that another program is to read."""
    ordered = in_order(graph.node)
    if ordered is not graph.node:
        kept = GraphProto(node=ordered)
        del graph.node[:]
        graph.node.extend(kept.node)


def _read_by(node: NodeProto) -> Sequence[str] | set[str]:
    whole = any(item.type == AttributeProto.GRAPH for item in node.attribute)
    return names_read([node]) if whole else node.input
