"""The opsets that are written, and which of them suits a model where none is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from isomorph.converters.onnx.preserved import versions
from isomorph.converters.onnx.refusals import ONNX_NAMES, SINCE, is_younger, refuse_types, takes
from isomorph.errors import UsageError
from isomorph.ir import Graph, Model, Node, Op, ops

__all__ = ["DEFAULT_OPSET", "NEWEST_OPSET", "OLDEST_OPSET", "all_nodes", "checked", "opset_for"]

OLDEST_OPSET = 13
NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), 28)
DEFAULT_OPSET = 24
"""The newest for which onnxruntime 1.32 runs every operator that is written: from 25 on it has neither a kernel nor a
function body for Swish, which is decomposed there. Measured with all rows of the op table at every opset from 13 to 28.
"""
_RUNS_UNTIL: dict[type[Op], int] = {
    ops.RoiAlign: 21,
    ops.MaxRoiPool: 21,
    ops.RandomNormal: 21,
    ops.RandomUniform: 21,
    ops.Bernoulli: 21,
    ops.Multinomial: 21,
}
"""The newest opset for whose definition of an operator onnxruntime 1.32 has a kernel, where that is not the default."""
_SLOW_FROM: dict[type[Op], int] = {ops.Swish: 24}
"""Operators that onnxruntime 1.32 expands, and the opset from which they are whole. EfficientNet-B0 takes 1.2 times as
long with Swish, which becomes Cast, Sigmoid and Mul, as with Sigmoid and Mul, which become one kernel. A file of ONNX
keeps them.
"""


def opset_for(model: Model) -> int:
    """The opset to write a model in where none is asked for: the default, or what onnxruntime runs all of it in.

    A file of ONNX keeps its own, so that what reads it reads the result; a newer one only where it has operators of
    other domains that the standard domain has from then on.
    """
    nodes = list(all_nodes(model.graph))
    newest = min((_RUNS_UNTIL.get(type(node.op), DEFAULT_OPSET) for node in nodes), default=DEFAULT_OPSET)
    if model.source[0] == "onnx":
        stated = int(model.source[1].rpartition(" ")[2] or 0)
        needed = max((min(SINCE.get(type(node.op), 0), DEFAULT_OPSET) for node in nodes), default=0)
        runs = min((_RUNS_UNTIL.get(type(node.op), NEWEST_OPSET) for node in nodes), default=NEWEST_OPSET)
        newest = min(runs, max(stated, needed)) if stated else newest
    else:
        newest = min([newest, *(_SLOW_FROM[type(node.op)] - 1 for node in nodes if type(node.op) in _SLOW_FROM)])
    kept = [versions(node) for node in nodes if isinstance(node.op, ops.Preserved)]
    oldest = max((low for low, _ in kept), default=OLDEST_OPSET)
    latest = min((high for _, high in kept), default=NEWEST_OPSET)
    chosen = max(OLDEST_OPSET, min(latest, max(oldest, newest)))
    return next((opset for opset in range(chosen, latest + 1) if _has_all(nodes, opset)), chosen)


def _has_all(nodes: Sequence[Node], opset: int) -> bool:
    """Whether ONNX of this opset has the element types, and for them the operators that cannot be put together."""
    dtypes = {value.dtype for node in nodes for value in (*node.operands(), *node.outputs)}
    return all(takes("Identity", opset, dtype, 0, False) for dtype in dtypes) and not any(
        refuse_types(node, opset) is not None
        or is_younger(ONNX_NAMES.get(type(node.op), node.op.name), SINCE.get(type(node.op), 0), opset)
        for node in nodes
        if not node.op.can_decompose()
    )


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of the regions in it."""
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from all_nodes(region)


def checked(opset: int | None) -> int:
    """The opset that is asked for, or the default. Raises UsageError for one that is not written."""
    chosen = DEFAULT_OPSET if opset is None else opset
    if not OLDEST_OPSET <= chosen <= NEWEST_OPSET:
        raise UsageError(f"cannot write opset {chosen}", advice=f"choose --opset {OLDEST_OPSET} to {NEWEST_OPSET}")
    return chosen
