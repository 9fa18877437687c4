"""What goes into a graph and comes out of it: inputs under a user's sizes, outputs, states."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import onnx

from isomorph.converters.onnx.codec import STATE, dtype_of, value_type
from isomorph.converters.onnx.reading import Graph, parse_json, parse_size
from isomorph.errors import MalformedError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import Dim, DType, Origin, Parameter, Scope, Shape, Sym, Value

__all__ = ["Inputs", "Interface", "states_of"]

Inputs = Mapping[str, tuple[Shape, DType | None]]
"""Shapes (and element types) of inputs that a user chose, by name."""


def states_of(proto: onnx.ModelProto) -> dict[str, str]:
    """The outputs that are the next values of inputs, by input, as far as the file has both."""
    noted = next((parse_json(entry.value) for entry in proto.metadata_props if entry.key == STATE), None)
    inputs, outputs = ({item.name for item in items} for items in (proto.graph.input, proto.graph.output))
    pairs = noted.items() if isinstance(noted, dict) else ()
    return {name: output for name, output in pairs if name in inputs and isinstance(output, str) and output in outputs}


@dataclass(slots=True)
class Interface:
    """Reads the inputs and outputs of a graph.

    where      the file, for errors
    overrides  what a user chose instead of what the file states
    states     the outputs that are the next values of inputs, by input
    initial    the initializers of such inputs, once they are read
    bindings   sizes chosen for the names of symbolic ones
    """

    proto: onnx.GraphProto
    graph: Graph
    where: str
    overrides: Inputs
    states: dict[str, str]
    initial: dict[str, Parameter] = field(default_factory=dict)
    bindings: dict[str, Dim] = field(default_factory=dict)

    def read_inputs(self) -> None:
        """Make the graph's inputs; those of a state have their initializer as first value."""
        for name in self.states.keys() & self.graph.constants.keys():
            initial = self.graph.constants.pop(name)
            self.initial[name] = replace(initial, role="buffer", trainable=False)
        declared = [item for item in self.proto.input if item.name not in self.graph.constants]
        names = [item.name for item in declared]
        for name in self.overrides:
            if name not in names:
                raise UsageError(f"the model has no input {name!r}", advice=f"its inputs: {', '.join(names)}")
        for item in declared:
            if item.name in self.graph.values:
                raise MalformedError(f"two inputs are named {item.name!r}", at=self.where)
            if item.type.WhichOneof("value") != "tensor_type":
                self.graph.values[item.name] = self._opaque_input(item)
                continue
            given_shape, given_dtype = self.overrides.get(item.name, (None, None))
            shape = _stated_shape(item)
            if given_shape is not None:
                self._bind(item.name, shape, given_shape)
                shape = given_shape
            if shape is None:
                raise UsageError(
                    f"the file does not state the shape of input {item.name!r}",
                    advice=f"pass --input {item.name}=SHAPE",
                )
            shape = tuple(dim.substitute(self.bindings) if isinstance(dim, Sym) else dim for dim in shape)
            dtype = given_dtype or dtype_of(item.type.tensor_type.elem_type, item.name)
            self.graph.values[item.name] = self.graph.builder.input(item.name, dtype, shape)

    def _opaque_input(self, item: onnx.ValueInfoProto) -> Value:
        """An input that is a sequence, an optional or a map."""
        kind = value_type(item.type, item.name, lambda dim: dim.dim_value if dim.dim_value > 0 else Sym("any"))
        if kind is None:
            raise MalformedError(f"the input {item.name!r} has no type", at=self.where)
        if item.name in self.overrides:
            raise UsageError(f"the input {item.name!r} is {kind}, which has no shape", advice="leave out its --input")
        return self.graph.builder.input_of(item.name, kind)

    def _bind(self, name: str, stated: Shape | None, given: Shape) -> None:
        """Take a user's sizes for the file's symbolic ones."""
        if stated is None:
            return
        if len(stated) != len(given):
            raise UsageError(f"input {name!r} has {len(stated)} axes, {len(given)} sizes were given")
        for dim, chosen in zip(stated, given, strict=True):
            if isinstance(dim, Sym) and dim.name is not None:
                self.bindings.setdefault(dim.name, chosen)
            elif isinstance(dim, int) and dim != chosen:
                raise UsageError(
                    f"input {name!r} has the size {dim} where {chosen} was given",
                    advice="fixed sizes cannot be changed",
                )

    def read_outputs(self, missing: Collection[str]) -> None:
        """Make the graph's outputs, from nodes that were read; `missing` are results that could not be."""
        scope, origin = Scope(), Origin("onnx", "output")
        for item in self.proto.output:
            if not self.graph.knows(item.name):
                if item.name in missing:
                    reason = "an optional result that isomorph does not compute"
                    raise UnsupportedError("read onnx", [Unsupported("output", reason, item.name)])
                raise MalformedError(f"nothing produces the output {item.name!r}", at=self.where)
            with self.graph.builder.at(scope, origin):
                value = self.graph.value(item.name)
            self.graph.builder.output(item.name, value)
        if not self.proto.output:
            raise MalformedError("the graph has no outputs", at=self.where)


def _stated_shape(item: onnx.ValueInfoProto) -> Shape | None:
    kind = item.type.tensor_type
    if not kind.HasField("shape"):
        return None
    dims: list[Dim] = []
    for axis, dim in enumerate(kind.shape.dim):
        if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0:
            dims.append(dim.dim_value)
        elif dim.dim_param:
            dims.append(parse_size(dim.dim_param))
        else:
            plain = re.sub(r"\W", "_", item.name) or "x"
            dims.append(Sym("N" if axis == 0 else f"{plain}_{axis}"))
    return tuple(dims)
