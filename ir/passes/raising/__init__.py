"""Raises computations that a source spells out to the op that says them.

A pass takes `refuse`, the reason of a target not to take a node: what it would have to spell out again stays as the
source spells it, unless our spelling has fewer nodes.
"""

from __future__ import annotations

from collections.abc import Callable

from isomorph.ir.graph import Node, Value

__all__ = ["Refuse", "refuses", "take_all"]

Refuse = Callable[[Node], str | None]
"""Why a target does not take a node, None if it does."""


def take_all(node: Node) -> str | None:
    """The target that takes every node."""
    return None


def refuses(refuse: Refuse, value: Value) -> bool:
    """Whether the node that makes the value is refused."""
    return value.producer is not None and refuse(value.producer) is not None
