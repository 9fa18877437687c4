"""The registry of Keras rules. A family file holds the import rules first and the export rules below them.

An import rule is named by Keras' own class name of a layer or operation and is called as

    rule(layer: Layer, *inputs: Value) -> Value | Sequence[Value]

`layer` (see layer.py) gives the configuration, the weights by name, and `emit`; scope and origin are already set.
What cannot be expressed is refused with `layer.unsupported(reason)`, which returns the error to raise.

An export rule is registered for an op class and is called as

    rule(out: LayerWriter, node: Node) -> None

`out` (see writer.py) maps the operands of the node to Keras tensors and takes the layers that stand for the node.
A node is only given to its rule if `refuse(node)` of the writer found nothing against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from isomorph.converters.rules import Rules
from isomorph.ir import Value

__all__ = ["ExportRule", "ImportRule", "rules"]

ImportRule: TypeAlias = Callable[..., Value | Sequence[Value]]
ExportRule: TypeAlias = Callable[..., Any]

rules: Rules[ImportRule, ExportRule] = Rules("keras")
