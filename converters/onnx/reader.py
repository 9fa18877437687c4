"""Reads ONNX files: protobuf in, IR out; weights stay in the mapped file (see wire.py), external ones in theirs.

Opsets 1 to the newest. What another operator set version says differently is settled in the import rules of the family
files. Sizes that follow from shapes become attributes (see sizes.py). Nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import isomorph.converters.onnx.families  # registers the rules
import isomorph.converters.onnx.reference  # noqa: F401  (computes what is preserved)
from isomorph.converters.onnx.codec import STATE, dtype_of, value_type
from isomorph.converters.onnx.definitions import same_definition
from isomorph.converters.onnx.functions import (
    branch_nodes,
    function_nodes,
    inline_calls,
    inlined_count,
    names_read,
    specified_body,
)
from isomorph.converters.onnx.preserved import fits, in_newer_words, keep
from isomorph.converters.onnx.reading import Attributes, Body, Graph, OnnxNode, parse_json, parse_size
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.signature import check_signature, check_text
from isomorph.converters.onnx.sizes import check_size, evaluate_sizes, size_dtype
from isomorph.converters.onnx.sparse import dense_source
from isomorph.converters.onnx.stream import LARGEST_FILE
from isomorph.converters.onnx.tensors import tensor_source
from isomorph.converters.onnx.wire import Bytes, read_model
from isomorph.errors import GraphError, MalformedError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import (
    ArrayTensor,
    Builder,
    Dim,
    DimRange,
    DType,
    Model,
    OpaqueType,
    Origin,
    Parameter,
    Scope,
    ScopeEntry,
    Shape,
    State,
    Sym,
    TensorSource,
    TensorType,
    Value,
)  # fmt: skip
from isomorph.ir.passes.canonicalize import prune

__all__ = ["OLDEST_OPSET", "read"]

OLDEST_OPSET = 1
_OLDEST_RULES = 6
"""What an older opset says otherwise than this one is read in the words of OLDEST_WRITTEN."""
OLDEST_WRITTEN = 13
_NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), 28)
_MOST_INLINED = 1 << 17
"""Nodes that come from functions and branches; more is an attack."""
_DEEPEST = 64
Inputs = Mapping[str, tuple[Shape, DType | None]]


def read(path: Path, *, inputs: Inputs | None = None) -> Model:
    """The model in an ONNX file.

    inputs  shape and element type by input name, instead of what the file states (None keeps the type)
    Raises MalformedError, UnsafeError, UnsupportedError (listing every node that cannot be expressed), UsageError.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise MalformedError(
            "a protobuf file ends at 2 GiB", at=str(path), because=f"it has {path.stat().st_size} bytes"
        )
    proto, mapped = read_model(path)
    if not proto.HasField("graph"):
        raise MalformedError("the ONNX file has no graph", at=str(path))
    check_text(proto)
    try:
        return _Reading(proto, path, inputs or {}, mapped).model()
    except GraphError as error:
        raise MalformedError(
            f"the graph contradicts itself: {error.what}", at=error.at or str(path), because=error.because
        ) from None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where nodes are read: the graph, or the body of a function or branch in it."""

    opsets: dict[str, int]
    prefix: str = ""
    scope: Scope | None = None
    origin: Origin | None = None
    depth: int = 0
    keeps: bool = True  # whether operators that no rule reads are kept as they are

    def inside(self, opsets: dict[str, int], scope: Scope, origin: Origin | None = None) -> _Place:
        """The place in a function's body; what it does not say of opsets is as outside."""
        return replace(self, opsets={**self.opsets, **opsets}, scope=scope, origin=origin or self.origin)

    def strict(self) -> _Place:
        """The place where everything must be understood."""
        return replace(self, keeps=False)

    def named(self, prefix: str) -> _Place:
        """One level deeper, with this prefix to the names of nodes."""
        return replace(self, prefix=prefix, depth=self.depth + 1)


class _Reading:
    def __init__(self, proto: onnx.ModelProto, path: Path, overrides: Inputs, mapped: dict[int, Bytes]) -> None:
        self.proto = proto
        self.mapped = mapped
        self.path = path
        self.overrides = overrides
        self.opsets = self._opsets()
        self.builder = Builder(proto.graph.name or path.stem)
        self.builder.reserve(name for node in proto.graph.node for name in node.output)
        self.graph = Graph(self.builder, self.opsets)
        self.functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
        if len(self.functions) != len(proto.functions):
            raise MalformedError("two functions have one name", at=str(path))
        self.refused: list[Unsupported] = []
        self.bindings: dict[str, Dim] = {}
        self.missing: set[str] = set()
        self.count = 0
        self.prefixes: set[str] = set()
        self.state = set(self._states())
        self.initial: dict[str, Parameter] = {}
        self.declared = {item.name: item.type for item in (*proto.graph.value_info, *proto.graph.output)}

    def model(self) -> Model:
        """Read the whole graph; all nodes that cannot be read are reported in one error."""
        inlined = inlined_count(self.proto.graph.node, self.functions)
        if inlined is None or inlined > _MOST_INLINED + len(self.proto.graph.node):
            raise MalformedError("functions call each other without end", at=str(self.path))
        self._initializers()
        self._inputs()
        self._nodes(self.proto.graph.node, [item.name for item in self.proto.graph.output], _Place(self.opsets))
        if self.refused:
            raise UnsupportedError("read onnx", self.refused)
        self._outputs()
        metadata = {entry.key: entry.value for entry in self.proto.metadata_props if entry.key != STATE}
        for key, text in (("onnx.producer", self.proto.producer_name), ("onnx.doc_string", self.proto.doc_string)):
            if text:  # what a file before this one said of it stays
                metadata.setdefault(key, text)
        dims = {
            name: DimRange()
            for value in self.builder.graph.inputs
            for dim in value.shape
            if isinstance(dim, Sym)
            for name in sorted(dim.names())
        }
        source = ("onnx", f"opset {self.opsets.get('', 0)}")
        states = {name: State(output, self.initial.get(name)) for name, output in self._states().items()}
        return prune(self.builder.finish(dims=dims, metadata=metadata, source=source, state=states))

    def _states(self) -> dict[str, str]:
        """The outputs that are the next values of inputs, by input, as far as the file has both."""
        noted = next((parse_json(entry.value) for entry in self.proto.metadata_props if entry.key == STATE), None)
        inputs, outputs = ({item.name for item in items} for items in (self.proto.graph.input, self.proto.graph.output))
        pairs = noted.items() if isinstance(noted, dict) else ()
        return {
            name: output for name, output in pairs if name in inputs and isinstance(output, str) and output in outputs
        }

    def _opsets(self) -> dict[str, int]:
        opsets = _opsets(self.proto.opset_import)
        if not opsets and self.proto.ir_version < 3:
            opsets = {"": 1}
        version = opsets.get("")
        if version is None and any(node.domain in ("", "ai.onnx") for node in self.proto.graph.node):
            raise MalformedError("the file does not say which opset its operators are of", at=str(self.path))
        if version is not None and not OLDEST_OPSET <= version <= _NEWEST_OPSET:
            reason = f"isomorph reads opset {OLDEST_OPSET} to {_NEWEST_OPSET}"
            raise UnsupportedError("read onnx", [Unsupported(f"opset {version}", reason, str(self.path))])
        return opsets

    def _initializers(self) -> None:
        for position, tensor in enumerate(self.proto.graph.initializer):
            self._initializer(tensor, tensor.name, self.mapped.get(position))
        for sparse in self.proto.graph.sparse_initializer:
            self._sparse(sparse, sparse.values.name)

    def _initializer(self, tensor: onnx.TensorProto, name: str, mapped: Bytes | None = None) -> None:
        self._weight(name, tensor_source(tensor, self.path.parent, mapped), tensor)

    def _sparse(self, sparse: onnx.SparseTensorProto, name: str) -> None:
        self._weight(name, dense_source(sparse, self.path.parent), sparse.values)

    def _weight(self, name: str, source: TensorSource, tensor: onnx.TensorProto) -> None:
        """Note an initializer and what its metadata say of it."""
        if self.graph.knows(name):
            raise MalformedError(f"two initializers are named {name!r}", at=str(self.path))
        notes = {entry.key: entry.value for entry in tensor.metadata_props}
        if "isomorph.parts" in notes:
            self.graph.notes[name] = notes
        stored = parse_json(notes.get("isomorph.perm", ""))
        if isinstance(stored, list) and sorted(map(str, stored)) == sorted(map(str, range(len(source.shape)))):
            perm = tuple(int(axis) for axis in stored)
            self.graph.perms[name] = perm
            source = source.permuted([perm.index(axis) for axis in range(len(perm))])
        number = not source.shape and self.proto.producer_name != "isomorph"  # exporters leave literals as initializers
        role = notes.get("isomorph.role", "constant" if number else "weight")
        if role not in ("weight", "buffer", "constant"):
            role = "weight"
        trainable = role == "weight" and notes.get("isomorph.trainable") != "false"
        self.graph.constants[name] = Parameter(name, source, trainable, role)

    def _inputs(self) -> None:
        for name in self.state & self.graph.constants.keys():
            initial = self.graph.constants.pop(name)
            self.initial[name] = replace(initial, role="buffer", trainable=False)
        declared = [item for item in self.proto.graph.input if item.name not in self.graph.constants]
        names = [item.name for item in declared]
        for name in self.overrides:
            if name not in names:
                raise UsageError(f"the model has no input {name!r}", advice=f"its inputs: {', '.join(names)}")
        for item in declared:
            if item.name in self.graph.values:
                raise MalformedError(f"two inputs are named {item.name!r}", at=str(self.path))
            if item.type.WhichOneof("value") != "tensor_type":
                self.graph.values[item.name] = self._opaque_input(item)
                continue
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

    def _opaque_input(self, item: onnx.ValueInfoProto) -> Value:
        """An input that is a sequence, an optional or a map."""
        kind = value_type(item.type, item.name, lambda dim: dim.dim_value if dim.dim_value > 0 else Sym("any"))
        if kind is None:
            raise MalformedError(f"the input {item.name!r} has no type", at=str(self.path))
        if item.name in self.overrides:
            raise UsageError(f"the input {item.name!r} is {kind}, which has no shape", advice="leave out its --input")
        return self.builder.input_of(item.name, kind)

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
                dims.append(parse_size(dim.dim_param))
            else:
                plain = re.sub(r"\W", "_", item.name) or "x"
                dims.append(Sym("N" if axis == 0 else f"{plain}_{axis}"))
        return tuple(dims)

    def _nodes(self, nodes: Sequence[onnx.NodeProto], results: Sequence[str], place: _Place) -> None:
        """Read nodes in order. Optional outputs that nothing reads count as left out."""
        self.count += len(nodes)
        if self.count > _MOST_INLINED + len(self.proto.graph.node) or place.depth > _DEEPEST:
            raise MalformedError("functions and branches call each other without end", at=str(self.path))
        read = names_read(nodes) | set(results)
        for position, node in enumerate(nodes):
            self._node(node, position, place, read)

    def _node(self, proto: onnx.NodeProto, position: int, place: _Place, read: set[str]) -> None:
        where = f"{place.prefix}{proto.name or f'node {position}'}"
        node = OnnxNode(
            self.graph,
            proto.op_type,
            f"{place.prefix}{proto.name}" if proto.name else "",
            tuple(proto.input),
            tuple(name if index == 0 or name in read else "" for index, name in enumerate(proto.output)),
            Attributes(proto, where),
            _opset(proto, place),
            where,
            partial(self._body, proto, place),
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
        if _is_standard(proto):
            check_signature(proto, node.opset, where)
        try:
            self._import(proto, node, place)
        except UnsupportedError as error:
            self.refused += [Unsupported(item.op, item.reason, item.where or where) for item in error.items]
            self.missing.update(node.outputs)
        except GraphError as error:
            raise MalformedError(
                f"{proto.op_type} does not fit its operands: {error.what}", at=where, because=error.because
            ) from None
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
            raise MalformedError(
                f"{proto.op_type} has unusable attributes", at=where, because=f"{type(error).__name__}: {error}"
            ) from None

    def _import(self, proto: onnx.NodeProto, node: OnnxNode, place: _Place) -> None:
        function = self.functions.get((proto.domain, proto.op_type, proto.overload))
        if function is not None:
            scope, _ = _provenance(proto, node, place)
            entry = ScopeEntry(node.name or node.outputs[0], f"{function.domain}.{function.name}")
            self._call(function, proto, place.inside(_opsets(function.opset_import), Scope((*scope.entries, entry))))
            return
        if _is_standard(proto) and proto.op_type == "Constant":
            self._constant(proto, node)
            return
        if not place.keeps:
            self._understood(proto, node, place)
            return
        refused = len(self.refused)
        try:
            self._understood(proto, node, place)
        except UnsupportedError as error:
            self._keep(proto, node, place, error, refused)
        except GraphError as error:
            if not fits(node, proto):
                raise
            item = Unsupported(node.kind, f"it cannot be told whether {error.what}", node.where)
            self._keep(proto, node, place, UnsupportedError("read onnx", [item]), refused)

    def _keep(
        self, proto: onnx.NodeProto, node: OnnxNode, place: _Place, error: UnsupportedError, refused: int
    ) -> None:
        """Keep a node that is refused as it stands in the file, for the reason of its refusal."""
        reasons = [*self.refused[refused:], *error.items]
        del self.refused[refused:]
        self._forget(node)
        if self.functions:
            for item in proto.attribute:
                if item.type == onnx.AttributeProto.GRAPH:
                    inline_calls(item.g, self.functions, self._prefix)
        newer = in_newer_words(proto) if _is_standard(proto) and node.opset < OLDEST_WRITTEN else None
        if newer is not None:
            inside = replace(place, opsets={**place.opsets, "": OLDEST_WRITTEN})
            self._nodes([newer], list(newer.output), inside.named(place.prefix))
            return
        before = len(self.builder.graph.nodes)
        try:
            with self.builder.at(*_provenance(proto, node, place)):
                made = keep(node, proto, reasons[0].reason, self.declared)
        except UnsupportedError as unkept:
            raise UnsupportedError("read onnx", unkept.items) from None
        self._name(replace(node, outputs=tuple(proto.output)), made, before)

    def _forget(self, node: OnnxNode) -> None:
        """Take back what an attempt to read the node has noted of its results."""
        for name in filter(None, node.outputs):
            value = self.graph.values.pop(name, None)
            if value is not None and value.producer is not None and value.name == name:
                self.builder.release(value)
            for noted in (self.graph.sizes, self.graph.size_dtypes, self.graph.constants, self.graph.perms):
                noted.pop(name, None)
            self.missing.discard(name)

    def _understood(self, proto: onnx.NodeProto, node: OnnxNode, place: _Place) -> None:
        """Read a node by a rule, or by the body that the specification gives it. Raises UnsupportedError."""
        if not _is_standard(proto):
            node = replace(node, kind=f"{proto.domain}.{proto.op_type}")
            if rules.importer(node.kind) is None:
                node.refuse("an operator of another domain")
        if node.opset < _OLDEST_RULES and not same_definition(node.kind, node.opset, _OLDEST_RULES):
            node.refuse(f"opset {node.opset} defines it otherwise than opset {_OLDEST_RULES}")
        for position, name in enumerate(node.inputs if node.kind != "SequenceAt" else ()):
            if name in self.graph.values and isinstance(self.graph.values[name].type, OpaqueType):
                node.refuse(f"operand {position} is {self.graph.values[name].type}")
        if proto.op_type == "If" and self._branch(proto, node, place):
            return
        known = evaluate_sizes(node)
        if known is not None:
            self.graph.sizes[node.outputs[0]] = known
            self.graph.size_dtypes[node.outputs[0]] = size_dtype(node)
            return
        before = len(self.builder.graph.nodes)
        try:
            with self.builder.at(*_provenance(proto, node, place)):
                rule = rules.importer(node.kind)
                if rule is None:
                    node.refuse("there is no rule for it yet")
                made = rule(node)
                made = [made] if isinstance(made, Value) else list(made)
                ignored = node.attributes.ignored(node.kind, node.opset)
                if ignored:
                    node.refuse(f"`{ignored[0]}` = {node.attributes[ignored[0]]}")
                if any(node.outputs[len(made) :]):
                    node.refuse(f"its result {len(made)} is not computed")
        except UnsupportedError:
            if not _is_standard(proto) or not self._as_specified(proto, node, place):
                raise
            return
        self._name(node, made, before)

    def _prefix(self, call: onnx.NodeProto) -> str:
        """What the names of values in a body begin with: `y/` for y = f(x), and more where y is an inner call's too."""
        prefix = f"{call.output[0]}/"
        while prefix in self.prefixes:
            prefix += f"{call.op_type}/"
        self.prefixes.add(prefix)
        return prefix

    def _call(self, function: onnx.FunctionProto, proto: onnx.NodeProto, place: _Place) -> None:
        """Read a function's body in place of the call."""
        nodes = function_nodes(function, proto, self._prefix(proto))
        self._nodes(nodes, list(proto.output), place.named(f"{place.prefix}{proto.name or proto.op_type}/"))

    def _as_specified(self, proto: onnx.NodeProto, node: OnnxNode, place: _Place) -> bool:
        """Read the body that the specification gives for an operator; False if there is none that can be read."""
        with self.builder.at(*_provenance(proto, node, place)):
            types = [self.graph.value(name).type if name else None for name in node.inputs]
        body = specified_body(proto, node.opset, types)
        if body is None:
            return False
        scope, origin = _provenance(proto, node, place)
        refused = len(self.refused)
        try:
            self._call(body, proto, place.strict().inside(_opsets(body.opset_import), scope, origin))
            readable = len(self.refused) == refused
        except MalformedError:  # operands that the operator takes and a part of its body does not
            readable = False
        del self.refused[refused:]
        return readable

    def _body(
        self, proto: onnx.NodeProto, place: _Place, node: OnnxNode, attribute: str, types: Sequence[TensorType]
    ) -> Body:
        """Read a subgraph as a region; what it reads from around it becomes inputs behind its own."""
        proto_graph = node.attribute(attribute)
        if not isinstance(proto_graph, onnx.GraphProto) or len(proto_graph.input) != len(types):
            raise MalformedError(f"`{attribute}` of {node.kind} is no graph of {len(types)} inputs", at=node.where)
        refused, missing = len(self.refused), set(self.missing)

        def forget() -> None:
            del self.refused[refused:]
            self.missing = missing

        outer = self.graph, self.builder
        inner = self.builder.region(attribute.removesuffix("_branch"))
        inner.reserve(name for each in proto_graph.node for name in each.output)
        body = Body(inner.graph, inner, len(types), {}, forget)  # type: ignore[arg-type]
        self.graph, self.builder = self.graph.body(inner), inner
        try:
            self._read_body(proto_graph, body, types, place.named(f"{place.prefix}{proto.name or proto.op_type}/"))
        finally:
            self.graph, self.builder = outer
        return body

    def _read_body(self, proto: onnx.GraphProto, body: Body, types: Sequence[TensorType], place: _Place) -> None:
        results = [item.name for item in proto.output]
        for item, kind in zip(proto.input, types, strict=True):
            if self.graph.knows(item.name):
                raise MalformedError(f"the input {item.name!r} of a subgraph hides another value", at=place.prefix)
            value = body.builder.input_of(item.name, kind)
            self.graph.values[item.name] = body.builder.keep(value, item.name)
        for tensor in proto.initializer:
            self._initializer(tensor, tensor.name)
        for sparse in proto.sparse_initializer:
            self._sparse(sparse, sparse.values.name)
        around = self.graph.around
        assert around is not None
        for name in sorted((names_read(proto.node) | set(results)) & around.values.keys()):
            if not self.graph.knows(name):
                known = around.known(name)
                if known is not None:
                    self.graph.sizes[name] = known
                    self.graph.size_dtypes[name] = around.values[name].dtype
                else:
                    self.graph.values[name] = body.capture(around.values[name])
        self._nodes(proto.node, results, place)
        for position, name in enumerate(results):
            if name in self.missing:
                reason = "a result of its body cannot be computed"
                raise UnsupportedError("read onnx", [Unsupported(proto.name or "subgraph", reason, place.prefix)])
            if not self.graph.knows(name):
                raise MalformedError(f"nothing produces the result {name!r} of a subgraph", at=place.prefix)
            body.builder.output(f"result_{position}", self.graph.value(name))

    def _branch(self, proto: onnx.NodeProto, node: OnnxNode, place: _Place) -> bool:
        """Read the branch of an If whose condition is known; False where it depends on data."""
        condition = node.graph.known(node.inputs[0]) if node.has(0) else None
        if condition is None or condition.size != 1 or isinstance(condition.item(), Sym):
            return False
        branch = node.attribute("then_branch" if condition.item() else "else_branch")
        if not isinstance(branch, onnx.GraphProto) or len(branch.output) != len(proto.output):
            raise MalformedError("If needs two branches with its outputs", at=node.where)
        nodes, renamed = branch_nodes(branch, proto.output, self._prefix(proto))
        for tensor in branch.initializer:
            self._initializer(tensor, renamed(tensor.name))
        for sparse in branch.sparse_initializer:
            self._sparse(sparse, renamed(sparse.values.name))
        self._nodes(nodes, list(proto.output), place.named(f"{place.prefix}{proto.name or proto.op_type}/"))
        return True

    def _name(self, node: OnnxNode, made: Sequence[Value | None], before: int) -> None:
        """Give the results their names in the file."""
        fresh = {value for added in self.builder.graph.nodes[before:] for value in added.outputs}
        for name, value in zip(node.outputs, made, strict=False):
            if not name or value is None:
                continue
            check_size(value, node.where)
            self.graph.values[name] = value
            if value in fresh:
                fresh.discard(value)
                self.builder.keep(value, name)
                if value.producer is not None and node.name:
                    value.producer.name = node.name

    def _constant(self, proto: onnx.NodeProto, node: OnnxNode) -> None:
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


def _is_standard(proto: onnx.NodeProto) -> bool:
    return proto.domain in ("", "ai.onnx")


def _opset(proto: onnx.NodeProto, place: _Place) -> int:
    """The opset whose definition a node follows.

    PyTorch before 1.0 wrote Upsample with the attribute of opset 7 into files of opset 9, which made it an operand.
    """
    stated = place.opsets.get("" if proto.domain == "ai.onnx" else proto.domain, 0)
    if proto.op_type == "Upsample" and stated > 7 and len(proto.input) == 1 and _is_standard(proto):
        return 7
    return stated


def _opsets(entries: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in entries}


def _provenance(proto: onnx.NodeProto, node: OnnxNode, place: _Place) -> tuple[Scope, Origin]:
    """Scope and origin as isomorph or torch.onnx recorded them, else from slashes in the node's name.

    In a function they are the call's, unless the body states its own.
    """
    notes = {entry.key: entry.value for entry in proto.metadata_props}
    stated_here = any(key in notes for key in ("isomorph.scope", "pkg.torch.onnx.name_scopes"))
    if place.scope is not None and not stated_here:
        name = node.outputs[0] if node.outputs else node.name
        return place.scope, place.origin or Origin("onnx", node.kind, name)
    origin = Origin("onnx", node.kind, node.outputs[0] if node.outputs else node.name)
    stated = parse_json(notes.get("isomorph.origin", ""))
    if isinstance(stated, dict):
        framework, op, name, file, code = (
            str(stated.get(key) or "") for key in ("framework", "op", "name", "file", "code")
        )
        line = stated.get("line")
        origin = Origin(framework, op, name, file=file, line=line if type(line) is int else 0, code=code)
    entries = parse_json(notes.get("isomorph.scope", ""))
    if isinstance(entries, list) and all(isinstance(entry, list) and len(entry) == 3 for entry in entries):
        return Scope(
            tuple(ScopeEntry(str(path), str(cls), call if type(call) is int else 0) for path, cls, call in entries)
        ), origin
    return _foreign_scope(notes, node.name), origin


def _foreign_scope(notes: dict[str, str], name: str) -> Scope:
    """The module path in the lists that torch.onnx writes, or the folders of a name such as `/layer1/conv/Conv`."""
    scopes, classes = (
        re.findall(r"'([^']*)'", notes.get(f"pkg.torch.onnx.{key}", "")) for key in ("name_scopes", "class_hierarchy")
    )
    if scopes:
        return Scope(tuple(ScopeEntry(path, cls) for path, cls in zip(scopes, classes, strict=False) if path))
    parts = [part for part in name.split("/")[:-1] if part]
    return Scope(tuple(ScopeEntry(".".join(parts[: end + 1])) for end in range(len(parts))))
