"""The invariants of a model, checked. A pass that breaks one has a bug; a reader that breaks one has misread a file."""

from __future__ import annotations

from isomorph.errors import GraphError
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.op import OPS, Op, OpaqueType, TensorType
from isomorph.ir.origin import Origin, Scope
from isomorph.ir.shapes import Sym, names_in

__all__ = ["verify"]


def verify(model: Model) -> None:
    """Raise GraphError at the first invariant that does not hold.

    - Every value has one definition, before its uses, in this graph; names of values are unique and not empty.
    - Inputs have no producer and no parameter; parameters are listed once and their types are those of their data.
    - Every node has a registered op, a Scope, an Origin, and as many operands as its op names.
    - Only ops that take them have operands or results that are no tensors of known rank.
    - Types equal those that `infer` gives; a recorded size may be an int where a symbol is inferred.
    - Outputs are values of this graph.
    - Regions are graphs of this kind, too, and fit the op and the operands of their node.
    - Named dimensions occur in an input's shape or in `model.dims`, or an op before decides them.
    - States are inputs, of the types of their initial values and of the outputs that they come from.
    """
    _check_graph(model.graph)
    _check_dims(model.graph, frozenset(model.dims))
    _check_states(model)


def _check_graph(graph: Graph) -> None:
    defined = _check_sources(graph)
    for node in graph.nodes:
        _check_node(node, defined)
        for value in node.outputs:
            if value.producer is not node or value.parameter is not None:
                raise GraphError(
                    f"%{value.name} is an output of `{node.name}` and names another producer", at=node.describe()
                )
            defined.add(value)
    _check_names(graph)
    for name, value in graph.outputs.items():
        if value not in defined:
            raise GraphError(f"output {name!r} is %{value.name}, which is no value of this graph")


def _check_sources(graph: Graph) -> set[Value]:
    """The inputs and parameters, each checked."""
    defined: set[Value] = set()
    for value in graph.inputs:
        if not value.is_input:
            raise GraphError(f"input %{value.name} has a producer or a parameter")
        if value in defined:
            raise GraphError(f"input %{value.name} is listed twice")
        defined.add(value)
    identities = set()
    for value in graph.parameters:
        parameter = value.parameter
        if parameter is None or value.producer is not None:
            raise GraphError(f"%{value.name} is listed as a parameter and is none")
        if parameter in identities:
            raise GraphError(f"parameter {parameter.name!r} is listed twice: a tied parameter is one value")
        if TensorType(parameter.data.dtype, parameter.data.shape) != value.type:
            raise GraphError(f"{value} is not of its data's type", because=f"the data is {parameter.data}")
        identities.add(parameter)
        defined.add(value)
    return defined


def _check_node(node: Node, defined: set[Value]) -> None:
    if OPS.get(node.op.name) is not type(node.op):
        raise GraphError(f"`{node.op.name}` is no registered op")
    if not isinstance(node.scope, Scope) or not isinstance(node.origin, Origin) or not node.origin.framework:
        raise GraphError(f"`{node.op.name}` (%{node.name}) has no scope or no origin")
    for value in node.operands():
        if value not in defined:
            reason = "a parameter that the graph does not list" if value.parameter else "not defined before"
            raise GraphError(f"`{node.op.name}` reads %{value.name}, which is {reason}", at=node.describe())
    _check_operands(node)
    for region in node.regions:
        _check_graph(region)
    node.op.check_regions([None if value is None else value.type for value in node.inputs], node.regions)
    inferred = node.op.infer(*_padded(node.op, [None if value is None else value.type for value in node.inputs]))
    recorded = tuple(value.type for value in node.outputs)
    node.op.check_opaque([*(value.type for value in node.operands()), *recorded])
    if len(inferred) != len(recorded) or not all(map(_refines, recorded, inferred)):
        listed, wanted = (", ".join(map(str, types)) for types in (recorded, inferred))
        raise GraphError(
            f"`{node.op.name}` (%{node.name}) is recorded as {listed}",
            at=node.describe(),
            because=f"inferred is {wanted}",
        )


def _padded(op: Op, types: list[TensorType | None]) -> list[TensorType | None]:
    """Operand types with None for trailing operands that were left out."""
    if any(name.endswith("*") for name in op.inputs):
        return types
    return types + [None] * (len(op.inputs) - len(types))


def _check_operands(node: Node) -> None:
    names = node.op.inputs
    if names and names[-1].endswith("*"):
        if None in node.inputs:
            raise GraphError(
                f"`{node.op.name}` (%{node.name}) takes any number of operands, none absent", at=node.describe()
            )
        return
    if len(node.inputs) > len(names):
        raise GraphError(f"`{node.op.name}` has {len(node.inputs)} operands and takes {len(names)}", at=node.describe())
    for index, name in enumerate(names):
        if not name.endswith("?") and (index >= len(node.inputs) or node.inputs[index] is None):
            raise GraphError(f"`{node.op.name}` (%{node.name}) lacks its operand {name!r}", at=node.describe())


def _refines(recorded: TensorType, inferred: TensorType) -> bool:
    """Whether the recorded type is the inferred one, or has ints where that has symbols."""
    if recorded.dtype is not inferred.dtype or recorded.rank != inferred.rank:
        return False
    if isinstance(recorded, OpaqueType) or isinstance(inferred, OpaqueType):
        return recorded == inferred
    pairs = zip(recorded.shape, inferred.shape, strict=True)
    return all(known == wanted or (isinstance(known, int) and isinstance(wanted, Sym)) for known, wanted in pairs)


def _check_names(graph: Graph) -> None:
    names: set[str] = set()
    for value in graph.values():
        if not value.name or value.name in names:
            raise GraphError(f"two values are named {value.name!r}" if value.name else "a value has no name")
        names.add(value.name)


def _check_dims(graph: Graph, declared: frozenset[str]) -> None:
    known = set(declared) | set(names_in(value.shape for value in graph.inputs))
    for node in graph.nodes:
        known |= node.op.defines()
        used = {*names_in(value.shape for value in node.outputs), *names_in(node.op.attributes().values())}
        if not used <= known:
            names = ", ".join(sorted(used - known))
            raise GraphError(
                f"`{node.op.name}` (%{node.name}) has the unknown dimension {names}",
                at=node.describe(),
                because="it is in no input's shape and not declared in the model's dims",
            )
        for region in node.regions:
            _check_dims(region, frozenset(known))


def _check_states(model: Model) -> None:
    inputs, outputs = model.inputs, model.outputs
    for name, state in model.state.items():
        if name not in inputs or state.output not in outputs:
            raise GraphError(f"the state {name!r} is no input, or its output {state.output!r} is none of the model's")
        data = None if state.initial is None else state.initial.data
        kinds = [outputs[state.output], *([] if data is None else [TensorType(data.dtype, data.shape)])]
        for kind in kinds:
            if not (_refines(kind, inputs[name]) or _refines(inputs[name], kind)):
                raise GraphError(f"the state {name!r} is {inputs[name]}, its output or initial value is {kind}")
