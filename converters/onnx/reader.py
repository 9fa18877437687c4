"""Reads ONNX files: protobuf in, IR out; weights stay where they are, external ones are memory-mapped.

Opsets 7 to the newest. What another operator set version says differently is settled in the import rules of the family
files. Sizes that follow from shapes become attributes (see sizes.py). Nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

import isomorph.converters.onnx.families  # noqa: F401  (registers the rules)
from isomorph.converters.onnx.codec import dtype_of, tensor_source
from isomorph.converters.onnx.reading import Graph, OnnxNode, attributes, parse_json
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.sizes import evaluate_sizes, size_dtype
from isomorph.errors import GraphError, MalformedError, ModelError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import Builder, Dim, DimRange, DType, Model, Origin, Parameter, Scope, ScopeEntry, Shape, Sym, Value
from isomorph.ir.shapes import parse_dim

__all__ = ["OLDEST_OPSET", "read"]

OLDEST_OPSET = 7
_LARGEST_FILE = (1 << 31) - 1
Inputs = Mapping[str, tuple[Shape, DType | None]]


def read(path: Path, *, inputs: Inputs | None = None) -> Model:
    """The model in an ONNX file.

    inputs  shape and element type by input name, instead of what the file states (None keeps the type)
    Raises MalformedError, UnsafeError, UnsupportedError (listing every node that cannot be expressed), UsageError.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise MalformedError(
            "a protobuf file ends at 2 GiB", at=str(path), because=f"it has {path.stat().st_size} bytes"
        )
    try:
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except (DecodeError, RecursionError, ValueError) as error:
        raise MalformedError(
            "not an ONNX file: the protobuf message is damaged", at=str(path), because=str(error)
        ) from None
    if not proto.HasField("graph"):
        raise MalformedError("the ONNX file has no graph", at=str(path))
    try:
        return _Reading(proto, path, inputs or {}).model()
    except GraphError as error:
        raise MalformedError(
            f"the graph contradicts itself: {error.what}", at=error.at or str(path), because=error.because
        ) from None


class _Reading:
    def __init__(self, proto: onnx.ModelProto, path: Path, overrides: Inputs) -> None:
        self.proto = proto
        self.path = path
        self.overrides = overrides
        self.opsets = self._opsets()
        self.builder = Builder(proto.graph.name or path.stem)
        self.builder.reserve(name for node in proto.graph.node for name in node.output)
        self.graph = Graph(self.builder, self.opsets)
        self.functions = {(f.domain, f.name): f for f in proto.functions}
        self.refused: list[Unsupported] = []
        self.bindings: dict[str, Dim] = {}
        self.missing: set[str] = set()

    def model(self) -> Model:
        """Read the whole graph; all nodes that cannot be read are reported in one error."""
        self._initializers()
        self._inputs()
        for position, node in enumerate(self.proto.graph.node):
            self._node(node, position, "")
        if self.refused:
            raise UnsupportedError("read onnx", self.refused)
        self._outputs()
        metadata = {entry.key: entry.value for entry in self.proto.metadata_props}
        for key, text in (("onnx.producer", self.proto.producer_name), ("onnx.doc_string", self.proto.doc_string)):
            if text:
                metadata[key] = text
        dims = {
            name: DimRange()
            for value in self.builder.graph.inputs
            for dim in value.shape
            if isinstance(dim, Sym)
            for name in sorted(dim.names())
        }
        return self.builder.finish(dims=dims, metadata=metadata, source=("onnx", f"opset {self.opsets.get('', 0)}"))

    def _opsets(self) -> dict[str, int]:
        opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in self.proto.opset_import}
        if not opsets and self.proto.ir_version < 3:
            opsets = {"": 1}
        version = opsets.get("")
        if version is not None and version < OLDEST_OPSET:
            raise UnsupportedError(
                "read onnx",
                [Unsupported(f"opset {version}", f"isomorph reads opset {OLDEST_OPSET} and newer", str(self.path))],
            )
        return opsets

    def _initializers(self) -> None:
        if self.proto.graph.sparse_initializer:
            items = [
                Unsupported("sparse_initializer", "sparse weights", entry.values.name)
                for entry in self.proto.graph.sparse_initializer
            ]
            raise UnsupportedError("read onnx", items)
        for tensor in self.proto.graph.initializer:
            if tensor.name in self.graph.constants:
                raise MalformedError(f"two initializers are named {tensor.name!r}", at=str(self.path))
            notes = {entry.key: entry.value for entry in tensor.metadata_props}
            source = tensor_source(tensor, self.path.parent)
            stored = parse_json(notes.get("isomorph.perm", ""))
            if isinstance(stored, list) and sorted(map(str, stored)) == sorted(map(str, range(len(source.shape)))):
                perm = tuple(int(axis) for axis in stored)
                self.graph.perms[tensor.name] = perm
                source = source.permuted([perm.index(axis) for axis in range(len(perm))])
            role = notes.get("isomorph.role", "weight")
            trainable = role == "weight" and notes.get("isomorph.trainable") != "false"
            self.graph.constants[tensor.name] = Parameter(tensor.name, source, trainable, role)

    def _inputs(self) -> None:
        declared = [item for item in self.proto.graph.input if item.name not in self.graph.constants]
        names = [item.name for item in declared]
        for name in self.overrides:
            if name not in names:
                raise UsageError(f"the model has no input {name!r}", advice=f"its inputs: {', '.join(names)}")
        for item in declared:
            if item.type.WhichOneof("value") != "tensor_type":
                raise UnsupportedError(
                    "read onnx", [Unsupported("input", "sequences, maps and optionals as inputs", item.name)]
                )
            if item.name in self.graph.values:
                raise MalformedError(f"two inputs are named {item.name!r}", at=str(self.path))
            given_shape, given_dtype = self.overrides.get(item.name, (None, None))
            shape = self._stated_shape(item)
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
            self.graph.values[item.name] = self.builder.input(item.name, dtype, shape)

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

    def _stated_shape(self, item: onnx.ValueInfoProto) -> Shape | None:
        kind = item.type.tensor_type
        if not kind.HasField("shape"):
            return None
        dims: list[Dim] = []
        for axis, dim in enumerate(kind.shape.dim):
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0:
                dims.append(dim.dim_value)
            elif dim.dim_param:
                dims.append(_dim_param(dim.dim_param))
            else:
                plain = re.sub(r"\W", "_", item.name) or "x"
                dims.append(Sym("N" if axis == 0 else f"{plain}_{axis}"))
        return tuple(dims)

    def _node(self, proto: onnx.NodeProto, position: int, prefix: str) -> None:
        where = f"{prefix}{proto.name or f'node {position}'}"
        node = OnnxNode(
            self.graph,
            proto.op_type,
            proto.name,
            tuple(proto.input),
            tuple(proto.output),
            attributes(proto, where),
            self.opsets.get("" if proto.domain == "ai.onnx" else proto.domain, 0),
            where,
        )
        if any(name in self.missing for name in node.inputs):
            self.missing.update(node.outputs)
            return
        for name in node.inputs:
            if name and not self.graph.knows(name):
                raise MalformedError(f"{proto.op_type} reads {name!r}, which nothing before produces", at=where)
        for name in node.outputs:
            if name and self.graph.knows(name):
                raise MalformedError(f"two nodes produce {name!r}", at=where)
        try:
            self._import(proto, node)
        except UnsupportedError as error:
            self.refused += [Unsupported(item.op, item.reason, item.where or where) for item in error.items]
            self.missing.update(node.outputs)
        except GraphError as error:
            raise MalformedError(
                f"{proto.op_type} does not fit its operands: {error.what}", at=where, because=error.because
            ) from None
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            raise MalformedError(
                f"{proto.op_type} has unusable attributes", at=where, because=f"{type(error).__name__}: {error}"
            ) from None

    def _import(self, proto: onnx.NodeProto, node: OnnxNode) -> None:
        function = self.functions.get((proto.domain, proto.op_type))
        if function is not None:
            raise UnsupportedError(
                "read onnx", [Unsupported(f"{proto.domain}.{proto.op_type}", "model-local functions", node.where)]
            )
        if proto.domain not in ("", "ai.onnx"):
            raise UnsupportedError(
                "read onnx",
                [Unsupported(f"{proto.domain}.{proto.op_type}", "an operator of another domain", node.where)],
            )
        if proto.op_type == "Constant":
            self._constant(node)
            return
        known = evaluate_sizes(node)
        if known is not None:
            self.graph.sizes[node.outputs[0]] = known
            self.graph.size_dtypes[node.outputs[0]] = size_dtype(node)
            return
        rule = rules.importer(proto.op_type)
        if rule is None:
            raise UnsupportedError("read onnx", [Unsupported(proto.op_type, "there is no rule for it yet", node.where)])
        before = len(self.builder.graph.nodes)
        with self.builder.at(*_provenance(proto, node)):
            made = rule(node)
        self._name(node, [made] if isinstance(made, Value) else list(made), before)

    def _name(self, node: OnnxNode, made: list[Value], before: int) -> None:
        """Give the results their names in the file."""
        fresh = {value for added in self.builder.graph.nodes[before:] for value in added.outputs}
        for name, value in zip(node.outputs, made, strict=False):
            if not name:
                continue
            self.graph.values[name] = value
            if value in fresh:
                fresh.discard(value)
                self.builder.keep(value, name)
                if value.producer is not None and node.name:
                    value.producer.name = node.name
        for name in node.outputs[len(made) :]:
            if name:
                self.missing.add(name)

    def _constant(self, node: OnnxNode) -> None:
        import numpy as np

        from isomorph.ir import ArrayTensor, TensorSource

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
        if not isinstance(source, TensorSource):
            node.refuse(f"a constant given as {', '.join(given) or 'nothing'}")
        name = node.outputs[0]
        self.graph.constants[name] = Parameter(name, source, trainable=False, role="constant")

    def _outputs(self) -> None:
        scope, origin = Scope(), Origin("onnx", "output")
        for item in self.proto.graph.output:
            if not self.graph.knows(item.name):
                missing = item.name in self.missing
                reason = "an optional result that isomorph does not compute" if missing else "nothing produces it"
                if missing:
                    raise UnsupportedError("read onnx", [Unsupported("output", reason, item.name)])
                raise MalformedError(f"nothing produces the output {item.name!r}", at=str(self.path))
            with self.builder.at(scope, origin):
                value = self.graph.value(item.name)
            self.builder.output(item.name, value)
        if not self.proto.graph.output:
            raise MalformedError("the graph has no outputs", at=str(self.path))


def _dim_param(text: str) -> Dim:
    """A symbolic size: an expression if it reads as one, else a name made of the text."""
    try:
        return parse_dim(text)
    except ModelError:
        plain = re.sub(r"\W+", "_", text).strip("_") or "dim"
        return Sym(plain if not plain[0].isdigit() else f"d{plain}")


def _provenance(proto: onnx.NodeProto, node: OnnxNode) -> tuple[Scope, Origin]:
    """Scope and origin as isomorph or torch.onnx recorded them, else from slashes in the node's name."""
    notes = {entry.key: entry.value for entry in proto.metadata_props}
    origin = Origin("onnx", node.kind, node.outputs[0] if node.outputs else node.name)
    stated = parse_json(notes.get("isomorph.origin", ""))
    if isinstance(stated, dict):
        text = {key: str(stated.get(key) or "") for key in ("framework", "op", "name", "file", "code")}
        line = stated.get("line")
        origin = Origin(line=line if type(line) is int else 0, **text)
    entries = parse_json(notes.get("isomorph.scope", ""))
    if isinstance(entries, list) and all(isinstance(entry, list) and len(entry) == 3 for entry in entries):
        return Scope(
            tuple(ScopeEntry(str(path), str(cls), call if type(call) is int else 0) for path, cls, call in entries)
        ), origin
    return _foreign_scope(notes, node.name), origin


def _foreign_scope(notes: dict[str, str], name: str) -> Scope:
    """The module path in the lists that torch.onnx writes, or the folders of a node name such as `/layer1/conv/Conv`."""
    scopes, classes = (
        re.findall(r"'([^']*)'", notes.get(f"pkg.torch.onnx.{key}", "")) for key in ("name_scopes", "class_hierarchy")
    )
    if scopes:
        return Scope(tuple(ScopeEntry(path, cls) for path, cls in zip(scopes, classes, strict=False) if path))
    parts = [part for part in name.split("/")[:-1] if part]
    return Scope(tuple(ScopeEntry(".".join(parts[: end + 1])) for end in range(len(parts))))
