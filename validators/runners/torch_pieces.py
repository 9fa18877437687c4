"""Pieces of fx graphs: the nodes between some values, which are given, and another value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["gives_first_alone", "run_piece"]


def run_piece(
    module: torch.fx.GraphModule,
    feeds: Mapping[str, np.ndarray],
    wanted: Sequence[str],
    tensor: Callable[[np.ndarray], torch.Tensor],
) -> dict[str, np.ndarray]:
    """The values of the nodes `wanted`, computed from those of the nodes `feeds` and the module's weights. `tensor`
    puts an array where the module is.

    Raises NotImplementedError for a node that is not known, that follows from inputs that are not fed, or before which
    an op writes into a tensor: what else reads that tensor is no part of the piece.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    unknown = [name for name in wanted if name not in nodes]
    if unknown:
        raise NotImplementedError(f"the value `{unknown[0]}` is not known")
    needed = _needed([nodes[name] for name in wanted], set(feeds))
    interpreter = torch.fx.Interpreter(module, garbage_collect_values=False)
    for name, array in feeds.items():
        if name in nodes:
            value = tensor(array)
            interpreter.env[nodes[name]] = (value,) if gives_first_alone(nodes[name]) else value
    with torch.no_grad():
        for node in module.graph.nodes:
            if node in needed:
                _check(node, feeds)
                interpreter.env[node] = interpreter.run_node(node)
    found = {name: interpreter.env[nodes[name]] for name in wanted}
    found = {name: value[0] if gives_first_alone(nodes[name]) else value for name, value in found.items()}
    other = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise NotImplementedError(f"`{other[0]}` is no tensor")
    return {name: np.array(value.detach().cpu().numpy()) for name, value in found.items()}


def gives_first_alone(node: torch.fx.Node) -> bool:
    """Whether an op has several results of which the first alone is used: an LSTM's sequence, say."""
    used = [user for user in node.users if user.users]
    return bool(used) and all(user.target is operator.getitem and user.args[1] == 0 for user in used)


def _needed(ends: Sequence[torch.fx.Node], fed: set[str]) -> set[torch.fx.Node]:
    """The ends and what they are made from, up to what is fed."""
    found: set[torch.fx.Node] = set()
    pending = list(ends)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += [each for each in node.all_input_nodes if each.name not in fed]
    return found


def _check(node: torch.fx.Node, feeds: Mapping[str, np.ndarray]) -> None:
    if node.target is operator.getitem and node.args[1] != 0 and str(node.args[0]) in feeds:
        raise NotImplementedError(f"`{node.name}` is not the first result of `{node.args[0]}`, which alone is fed")
    if node.op == "placeholder":
        raise NotImplementedError(f"it follows from the input `{node.name}`, which is not fed")
    schema: Any = getattr(node.target, "_schema", None)
    if schema is not None and schema.is_mutable:
        raise NotImplementedError(f"`{node.name}` writes into a tensor ({node.target})")
