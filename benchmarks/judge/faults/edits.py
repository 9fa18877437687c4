"""Edits of an ONNX file, and where in it a kind of fault can be made.

A fault is a function that yields its sites in a graph: `Site(node, change)`, where `change` makes the edit in place
and `node` is the op that is then wrong. Which values a graph has in one run (`values`) tells shapes and constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

__all__ = ["FAULTS", "Edit", "Fault", "Site", "fault"]


@dataclass(frozen=True, slots=True)
class Site:
    """A node that the change makes wrong; `others` are as guilty, where a fault lies between two."""

    node: NodeProto
    change: Callable[[], None]
    others: tuple[NodeProto, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: `sites` yields where it can be made."""

    name: str
    family: str
    sites: Callable[[Edit], Iterator[Site]]


FAULTS: dict[str, Fault] = {}


def fault(family: str) -> Callable[[Callable[[Edit], Iterator[Site]]], Callable[[Edit], Iterator[Site]]]:
    """Register a kind of fault under its function's name."""

    def register(function: Callable[[Edit], Iterator[Site]]) -> Callable[[Edit], Iterator[Site]]:
        if function.__name__ in FAULTS:
            raise ValueError(f"two faults are named {function.__name__}")
        FAULTS[function.__name__] = Fault(function.__name__, family, function)
        return function

    return register


class Edit:
    """One file that is being edited: `values` are all values of one run of the clean model, by name."""

    def __init__(self, proto: ModelProto, values: Mapping[str, np.ndarray]) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.values = values
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
        self._fresh = 0

    def nodes(self, *ops: str) -> Iterator[NodeProto]:
        """The nodes of these operators, in order; all without any."""
        return (node for node in list(self.graph.node) if not ops or node.op_type in ops)

    def users(self, name: str) -> list[NodeProto]:
        return [node for node in self.graph.node if name in node.input]

    def maker(self, name: str) -> NodeProto | None:
        return next((node for node in self.graph.node if name in node.output), None)

    def weight(self, node: NodeProto, position: int) -> np.ndarray | None:
        """The constant at an input, or None."""
        if position >= len(node.input) or node.input[position] not in self.weights:
            return None
        return numpy_helper.to_array(self.weights[node.input[position]])

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape that a value has in the run."""
        if name in self.values:
            return tuple(self.values[name].shape)
        return tuple(self.weights[name].dims) if name in self.weights else None

    def is_float(self, name: str) -> bool:
        found = self.values.get(name)
        if found is None and name in self.weights:
            found = numpy_helper.to_array(self.weights[name])
        return found is not None and found.dtype.kind == "f"

    def store(self, node: NodeProto, position: int, values: np.ndarray) -> None:
        """Other elements for the constant at an input of this node; other readers keep the old ones."""
        old = self.weights[node.input[position]]
        dtype = numpy_helper.to_array(old).dtype
        fresh = numpy_helper.from_array(np.ascontiguousarray(values).astype(dtype), old.name)
        if len(self.users(old.name)) > 1:
            fresh.name = self.name(old.name)
            self.graph.initializer.append(fresh)
            self.weights[fresh.name] = self.graph.initializer[-1]
            node.input[position] = fresh.name
        else:
            old.CopyFrom(fresh)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        tensor = numpy_helper.from_array(np.asarray(values, dtype), self.name("constant"))
        self.graph.initializer.append(tensor)
        self.weights[tensor.name] = self.graph.initializer[-1]
        return str(tensor.name)

    def name(self, stem: str) -> str:
        self._fresh += 1
        return f"{stem}_fault_{self._fresh}"

    def attribute(self, node: NodeProto, name: str, default: Any = None) -> Any:
        for entry in node.attribute:
            if entry.name == name:
                value = helper.get_attribute_value(entry)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def set(self, node: NodeProto, **values: Any) -> None:
        """Set attributes; None removes one."""
        kept = [entry for entry in node.attribute if entry.name not in values]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items() if value is not None)

    def become(self, node: NodeProto, op: str, inputs: list[str] | None = None, **attributes: Any) -> None:
        """Another operator in its place, with the same outputs and name."""
        node.op_type, node.domain = op, ""
        del node.attribute[:]
        self.set(node, **attributes)
        if inputs is not None:
            del node.input[:]
            node.input.extend(inputs)

    def before(self, node: NodeProto, position: int, op: str, *more: str, **attributes: Any) -> None:
        """Put an operator between an input of this node and the node."""
        output = self.name(node.input[position])
        fresh = helper.make_node(op, [node.input[position], *more], [output], name=output, **attributes)
        place = next(index for index, each in enumerate(self.graph.node) if each is node or each == node)
        node.input[position] = output
        self.graph.node.insert(place, fresh)

    def after(self, node: NodeProto, op: str, *more: str, position: int = 0, **attributes: Any) -> None:
        """Put an operator behind an output of this node; its readers see what the new one gives, under the old name."""
        old, inner = node.output[position], self.name(node.output[position])
        place = next(index for index, each in enumerate(self.graph.node) if each == node)
        node.output[position] = inner
        fresh = helper.make_node(op, [inner, *more], [old], name=self.name(old), **attributes)
        fresh.metadata_props.extend(node.metadata_props)  # what the writer says of the value holds for the last one
        self.graph.node.insert(place + 1, fresh)
