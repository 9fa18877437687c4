"""Constant folding: nodes whose operands are all literals of the graph become literals themselves.

Add(constant 2, constant 3)      ->  constant 5
Range(0, 1, 4, int64)            ->  constant [0, 1, 2, 3]
Gather(Dims((N, 768)), 1)        ->  as it is: N is not known
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from isomorph.ir.builder import Rewriter
from isomorph.ir.dtypes import DType
from isomorph.ir.evaluate import evaluate_op
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.quant import DequantizeLinear
from isomorph.ir.passes.views import MOVES
from isomorph.ir.shapes import Sym

__all__ = ["BUDGET", "fold"]

Array = npt.NDArray[Any]
GraphT = TypeVar("GraphT", bound=Graph)

BUDGET = 2**20
"""The most elements of a folded tensor, unless the caller says otherwise: 4 MiB of float32."""


def fold(model: Model, budget: int = BUDGET, roles: Collection[str] = ("constant",)) -> Model:
    """The model with constant subgraphs evaluated.

    Only parameters whose role is in `roles` count as constant: weights and buffers stay what the source stated. A node
    that only moves the elements of a weight stays, so that the weight keeps its name, and so does one that dequantizes
    a weight, which is small because of it. So does one with an output of more than `budget` elements, known from its
    type before anything is computed, and one whose evaluation fails (an index out of range, say): that is for the
    runtime to report.
    """
    graph = _fold_graph(model.graph, budget, roles)
    return model if graph is model.graph else model.with_graph(graph)


def _fold_graph(graph: GraphT, budget: int, roles: Collection[str]) -> GraphT:
    folded = _folded(graph, budget, roles)
    if not folded and not any(node.regions for node in graph.nodes):
        return graph
    rewriter = Rewriter(graph)
    rewriter.copy_inputs()
    needed = set(graph.outputs.values())
    needed.update(value for node in graph.nodes if node not in folded for value in node.operands())
    for node in graph.nodes:
        if node not in folded:
            rewriter.copy(node, regions=[_fold_graph(region, budget, roles) for region in node.regions])
            continue
        for value, array in zip(node.outputs, folded[node], strict=True):
            if value in needed:
                rewriter.mapping[value] = rewriter.keep(rewriter.constant(array, value.name), value.name)
    rewriter.copy_outputs()
    return rewriter.graph  # type: ignore[return-value]


def _folded(graph: Graph, budget: int, roles: Collection[str]) -> dict[Node, tuple[Array, ...]]:
    """The nodes that can be folded and their outputs."""
    constant = {value for value in graph.parameters if value.parameter is not None and value.parameter.role in roles}
    known: dict[Value, Array] = {}
    folded: dict[Node, tuple[Array, ...]] = {}
    moved = {value for value in constant if value.parameter is not None and value.parameter.role != "constant"}
    for node in graph.nodes:
        if not all(value in constant or value in known for value in node.operands()) or not _may_fold(node, budget):
            continue
        if isinstance(node.op, DequantizeLinear) and node.inputs[0] in moved:
            continue
        for value in node.operands():
            if value not in known and value.parameter is not None:
                known[value] = value.parameter.data.numpy()
        results = _results(node, known)
        if results is None:
            continue
        known.update(zip(node.outputs, results, strict=True))
        if isinstance(node.op, MOVES) and moved.issuperset(node.operands()):
            moved.update(node.outputs)
        else:
            folded[node] = results
    return folded


def _may_fold(node: Node, budget: int) -> bool:
    op = node.op
    if not op.can_evaluate() or op.has_side_state or op.is_random or node.regions or op.defines() or _is_symbolic(op):
        return False
    for value in node.outputs:
        size = value.type.size
        if isinstance(size, Sym) or size > budget or value.dtype is DType.STRING:
            return False
    return all(value.dtype is not DType.STRING for value in node.operands())


def _is_symbolic(op: Op) -> bool:
    def has_symbol(attribute: Any) -> bool:
        return isinstance(attribute, Sym) or (isinstance(attribute, tuple) and any(map(has_symbol, attribute)))

    return has_symbol(tuple(op.attributes().values()))


def _results(node: Node, known: dict[Value, Array]) -> tuple[Array, ...] | None:
    """The outputs in their own memory, or None where the evaluation fails or does not give the recorded types."""
    try:
        results = evaluate_op(node.op, *(None if value is None else known[value] for value in node.inputs))
    except (IndexError, ValueError, ZeroDivisionError):
        return None
    for value, array in zip(node.outputs, results, strict=True):
        if array.shape != value.shape or array.dtype != value.dtype.numpy:
            return None
    return tuple(np.ascontiguousarray(array).reshape(array.shape) for array in results)
