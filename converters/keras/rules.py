"""The registry of Keras rules. A family file holds the import rules first and the export rules below them.

An import rule is named by Keras' own class name of a layer or operation and is called as

    rule(layer: Layer, *inputs: Value) -> Value | Sequence[Value]

`layer` (see layer.py) gives the configuration, the weights by name, and `emit`; scope and origin are already set.
What cannot be expressed is refused with `layer.unsupported(reason)`, which returns the error to raise.

An export rule is registered for an op class and is called as

    rule(out: Emitter, node: Node) -> Tensor | Sequence[Tensor]

`out` (see emitter.py) gives the Keras tensors of the node's operands and takes the layers that stand for the node; the
rule returns the Keras tensors of the node's outputs. Where an op is not always writable, a function registered with
`refuses` says why a node is not: the reason is then reported, or the node is decomposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from isomorph.converters.rules import Rules
from isomorph.ir import Node, Op, Value

__all__ = ["ExportRule", "ImportRule", "Refusal", "refusals", "refuses", "rules"]

ImportRule: TypeAlias = Callable[..., Value | Sequence[Value]]
ExportRule: TypeAlias = Callable[..., Any]

rules: Rules[ImportRule, ExportRule] = Rules("keras")

Refusal: TypeAlias = Callable[[Node], str | None]
refusals: dict[type[Op], Refusal] = {}


def refuses(*kinds: type[Op]) -> Callable[[Refusal], Refusal]:
    """Register why nodes of these ops cannot be written as they are (None: they can)."""

    def register(refusal: Refusal) -> Refusal:
        for kind in kinds:
            if kind in refusals:
                raise ValueError(f"two refusals for keras {kind.__name__}")
            refusals[kind] = refusal
        return refusal

    return register
