"""Initializers and constants: dense, sparse, mapped; what their metadata say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from isomorph.converters.onnx.reading import Graph, OnnxNode, parse_json
from isomorph.converters.onnx.sparse import dense_source
from isomorph.converters.onnx.tensors import tensor_source
from isomorph.converters.onnx.wire import Bytes
from isomorph.errors import MalformedError
from isomorph.ir import ArrayTensor, Parameter, TensorSource
from isomorph.records import record

__all__ = ["Initializers", "read_constant"]


def _as_stated(name: str) -> str:
    return name


@record
class Initializers:
    """Reads those of the graph and of subgraphs.

    path   the file; external data lie below its folder
    ours   whether isomorph wrote it: it states the roles of scalars
    """

    path: Path
    ours: bool

    def read(
        self,
        proto: onnx.GraphProto,
        graph: Graph,
        renamed: Callable[[str], str] = _as_stated,
        mapped: Mapping[int, Bytes] | None = None,
    ) -> None:
        """Note the initializers of a graph, by name; `mapped` has the data that stay in the file, by position."""
        mapped = mapped or {}
        for position, tensor in enumerate(proto.initializer):
            source = tensor_source(tensor, self.path.parent, mapped.get(position))
            self._note(graph, renamed(tensor.name), source, tensor)
        for sparse in proto.sparse_initializer:
            source = dense_source(sparse, self.path.parent)
            self._note(graph, renamed(sparse.values.name), source, sparse.values)

    def _note(self, graph: Graph, name: str, source: TensorSource, tensor: onnx.TensorProto) -> None:
        """Note an initializer and what its metadata say of it."""
        if graph.knows(name):
            raise MalformedError(f"two initializers are named {name!r}", at=str(self.path))
        notes = {entry.key: entry.value for entry in tensor.metadata_props}
        if "isomorph.parts" in notes:
            graph.notes[name] = notes
        stored = parse_json(notes.get("isomorph.perm", ""))
        if isinstance(stored, list) and sorted(map(str, stored)) == sorted(map(str, range(len(source.shape)))):
            perm = tuple(int(axis) for axis in stored)
            graph.perms[name] = perm
            source = source.permuted([perm.index(axis) for axis in range(len(perm))])
        number = not source.shape and not self.ours  # exporters leave literals as initializers
        role = notes.get("isomorph.role", "constant" if number else "weight")
        if role not in ("weight", "buffer", "constant"):
            role = "weight"
        trainable = role == "weight" and notes.get("isomorph.trainable") != "false"
        graph.constants[name] = Parameter(name, source, trainable, role)


def read_constant(proto: onnx.NodeProto, node: OnnxNode) -> None:
    """Note the value of a Constant node."""
    given = node.attributes
    source: Any = given.get("value")
    if not isinstance(source, TensorSource):
        for key, dtype in (
            ("value_int", "int64"),
            ("value_ints", "int64"),
            ("value_float", "float32"),
            ("value_floats", "float32"),
        ):
            if key in given:
                source = ArrayTensor(np.asarray(given[key], dtype))
    for item in proto.attribute:
        if item.name == "sparse_value":
            source = dense_source(item.sparse_tensor, None)
        elif item.name in ("value_string", "value_strings"):
            texts = item.s if item.name == "value_string" else list(item.strings)
            source = ArrayTensor(np.asarray(texts, object))
    if not isinstance(source, TensorSource):
        node.refuse(f"a constant given as {', '.join(given) or 'nothing'}")
    name = node.outputs[0]
    node.graph.constants[name] = Parameter(name, source, trainable=False, role="constant")
