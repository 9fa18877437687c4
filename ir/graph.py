"""Model, Graph, Node, Value: what a network *is*. Built with `Builder`, checked by `verify`, printed by `text`.

A graph is in static single assignment form and in topological order. A value is an input, a parameter, or an output
of a node. Passes do not mutate: they build a new graph (see `Rewriter` in builder.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType
from isomorph.ir.origin import Origin, Scope
from isomorph.ir.params import Parameter
from isomorph.ir.shapes import DimRange, Shape

__all__ = ["Graph", "Model", "Node", "Region", "Value"]


@dataclass(eq=False, slots=True)
class Value:
    """One tensor of the graph. `parameter` is set for a parameter, `producer` for the output of a node."""

    name: str
    type: TensorType
    producer: Node | None = None
    parameter: Parameter | None = None

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def is_parameter(self) -> bool:
        return self.parameter is not None

    @property
    def is_input(self) -> bool:
        return self.producer is None and self.parameter is None

    def __str__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(eq=False, slots=True)
class Node:
    """One application of an op. An absent optional operand is None."""

    name: str
    op: Op
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    scope: Scope
    origin: Origin
    regions: tuple[Region, ...] = ()

    @property
    def output(self) -> Value:
        """The only output."""
        (value,) = self.outputs
        return value

    def operands(self) -> Iterator[Value]:
        """The operands that are present."""
        return (value for value in self.inputs if value is not None)

    def describe(self) -> str:
        """Where the user wrote it, for an error."""
        return self.origin.describe(self.scope)


@dataclass(eq=False, slots=True)
class Graph:
    """Nodes in topological order. `outputs` maps the name of each output to its value (which may be an input)."""

    name: str
    inputs: list[Value] = field(default_factory=list)
    outputs: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    parameters: list[Value] = field(default_factory=list)

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, a node once for each operand position."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.operands():
                users.setdefault(value, []).append(node)
        return users

    def values(self) -> Iterator[Value]:
        """All values: inputs, parameters, outputs of nodes."""
        yield from self.inputs
        yield from self.parameters
        for node in self.nodes:
            yield from node.outputs


@dataclass(eq=False, slots=True)
class Region(Graph):
    """The body of a control-flow op. It reads nothing from outside: captured values are explicit operands."""


@dataclass(eq=False, slots=True)
class Model:
    """A graph and what is true of it as a whole.

    dims       the named dimensions and their ranges
    metadata   key-value pairs that the source carried and the target may keep
    source     format and version that the model was read from ("onnx", "opset 17"), for reports
    """

    graph: Graph
    dims: dict[str, DimRange] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    source: tuple[str, str] = ("", "")

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def inputs(self) -> dict[str, TensorType]:
        """Types of the inputs by name."""
        return {value.name: value.type for value in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """Types of the outputs by name."""
        return {name: value.type for name, value in self.graph.outputs.items()}

    def parameters(self) -> Mapping[str, Parameter]:
        """Parameters by name, constants included."""
        return {value.parameter.name: value.parameter for value in self.graph.parameters if value.parameter}

    def __str__(self) -> str:
        from isomorph.ir.text import print_model

        return print_model(self)
