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
from isomorph.records import record

__all__ = ["Graph", "Model", "Node", "Region", "State", "Value"]


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

    def graphs(self) -> Iterator[Graph]:
        """This graph, and the regions of its nodes at any depth: each before those in it."""
        yield self
        for node in self.nodes:
            for region in node.regions:
                yield from region.graphs()


@dataclass(eq=False, slots=True)
class Region(Graph):
    """The body of a control-flow op. It reads no value from outside: captured ones are explicit operands.

    Weights are identities, not values: a region lists the parameters that it reads, as every graph does, and one
    `Parameter` in several graphs is one weight. Names of values are unique within a region. The named dimensions of
    the graph around it are known in it; those that only the shapes of its own inputs have belong to it.
    """


@record
class State:
    """What the model keeps from one run to the next under the name of an input (see `Model.state`).

    output   name of the output that is the next run's input
    initial  the tensor of the first run, None where the caller has to give it
    """

    output: str
    initial: Parameter | None = None


@dataclass(eq=False, slots=True)
class Model:
    """A graph and what is true of it as a whole.

    dims       the named dimensions and their ranges
    state      the inputs, by name, that carry what an earlier run left: buffers that the source changes in place
    metadata   key-value pairs that the source carried and the target may keep
    source     format and version that the model was read from ("onnx", "opset 17"), for reports
    """

    graph: Graph
    dims: dict[str, DimRange] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    source: tuple[str, str] = ("", "")
    state: dict[str, State] = field(default_factory=dict)

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
        """Parameters by name, constants and those of regions included."""
        listed = (value.parameter for graph in self.graph.graphs() for value in graph.parameters)
        return {parameter.name: parameter for parameter in listed if parameter}

    def nodes(self) -> Iterator[Node]:
        """All nodes, those in regions included, right behind the node that the regions belong to."""
        return (node for graph in self.graph.graphs() for node in graph.nodes)

    def with_graph(self, graph: Graph, metadata: Mapping[str, str] | None = None) -> Model:
        """The same model as another graph (and under other metadata, if given)."""
        kept = self.metadata if metadata is None else metadata
        return Model(graph, dict(self.dims), dict(kept), self.source, dict(self.state))

    def __str__(self) -> str:
        from isomorph.ir.text import print_model

        return print_model(self)
