"""Reads nodes, one after the other: by a rule, by a body that the file or the specification gives, or as they stand.

    function of the file      ->  its body, inlined
    If that is decided        ->  the branch
    arithmetic with sizes     ->  sizes (see sizes.py)
    a rule's operator         ->  what the rule emits
    a composite of ONNX       ->  its specified body, where no rule reads it and the body can be read in full
    anything else             ->  kept (see preserved.py), or refused with the reason

A node that is refused does not end the reading: all of them are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import onnx

import isomorph.converters.onnx.families  # registers the rules
import isomorph.converters.onnx.reference  # noqa: F401  (computes what is preserved)
from isomorph.converters.onnx.definitions import same_definition
from isomorph.converters.onnx.functions import (
    branch_nodes,
    function_nodes,
    inline_calls,
    inlined_count,
    names_read,
    specified_body,
)
from isomorph.converters.onnx.initializers import Initializers, read_constant
from isomorph.converters.onnx.order import in_order
from isomorph.converters.onnx.place import Place, is_standard, opset_of, opsets_of, provenance
from isomorph.converters.onnx.preserved import fits, in_newer_words, keep
from isomorph.converters.onnx.reading import Attributes, Body, Graph, OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.signature import check_signature
from isomorph.converters.onnx.sizes import check_size, evaluate_sizes, size_dtype
from isomorph.errors import GraphError, MalformedError, Unsupported, UnsupportedError
from isomorph.ir import OpaqueType, Scope, ScopeEntry, Sym, TensorType, Value

__all__ = ["Nodes"]

_OLDEST_RULES = 6
"""What an older opset says otherwise than this one is read in the words of _OLDEST_WRITTEN."""
_OLDEST_WRITTEN = 13
_MOST_INLINED = 1 << 17
"""Nodes that come from functions and branches; more is an attack."""
_DEEPEST = 64


class Nodes:
    """The nodes of a model on their way into the IR.

    graph         what is known where nodes are read now: the graph, or a subgraph's while it is read
    initializers  reads those of subgraphs
    refused       every node that cannot be expressed, and why
    missing       names of results that are not there because of it
    """

    def __init__(self, model: onnx.ModelProto, graph: Graph, initializers: Initializers, where: str) -> None:
        self.graph = graph
        self.builder = graph.builder
        self.initializers = initializers
        self.where = where
        self.functions = _functions(model, where)
        self.declared = {item.name: item.type for item in (*model.graph.value_info, *model.graph.output)}
        self.refused: list[Unsupported] = []
        self.missing: set[str] = set()
        self.prefixes: set[str] = set()
        self.count = 0
        self.most = _MOST_INLINED + len(model.graph.node)
        inlined = inlined_count(model.graph.node, self.functions)
        if inlined is None or inlined > self.most:
            raise MalformedError("functions call each other without end", at=where)

    def read(self, nodes: Sequence[onnx.NodeProto], results: Sequence[str], place: Place) -> None:
        """Read nodes in an order in which they can be. Optional outputs that nothing reads count as left out."""
        self.count += len(nodes)
        if self.count > self.most or place.depth > _DEEPEST:
            raise MalformedError("functions and branches call each other without end", at=self.where)
        read = names_read(nodes) | set(results)
        for position, node in enumerate(in_order(nodes)):
            self._node(node, position, place, read)

    def _node(self, proto: onnx.NodeProto, position: int, place: Place, read: set[str]) -> None:
        where = f"{place.prefix}{proto.name or f'node {position}'}"
        node = OnnxNode(
            self.graph,
            proto.op_type,
            f"{place.prefix}{proto.name}" if proto.name else "",
            tuple(proto.input),
            tuple(name if index == 0 or name in read else "" for index, name in enumerate(proto.output)),
            Attributes(proto, where),
            opset_of(proto, place),
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
        if is_standard(proto):
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

    def _import(self, proto: onnx.NodeProto, node: OnnxNode, place: Place) -> None:
        function = self.functions.get((proto.domain, proto.op_type, proto.overload))
        if function is not None:
            scope, _ = provenance(proto, node, place)
            entry = ScopeEntry(node.name or node.outputs[0], f"{function.domain}.{function.name}")
            self._call(function, proto, place.inside(opsets_of(function.opset_import), Scope((*scope.entries, entry))))
            return
        if is_standard(proto) and proto.op_type == "Constant":
            read_constant(proto, node)
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

    def _keep(self, proto: onnx.NodeProto, node: OnnxNode, place: Place, error: UnsupportedError, refused: int) -> None:
        """Keep a node that is refused as it stands in the file, for the reason of its refusal."""
        reasons = [*self.refused[refused:], *error.items]
        del self.refused[refused:]
        self._forget(node)
        if self.functions:
            for item in proto.attribute:
                if item.type == onnx.AttributeProto.GRAPH:
                    inline_calls(item.g, self.functions, self._prefix)
        newer = in_newer_words(proto) if is_standard(proto) and node.opset < _OLDEST_WRITTEN else None
        if newer is not None:
            inside = replace(place, opsets={**place.opsets, "": _OLDEST_WRITTEN})
            self.read([newer], list(newer.output), inside.named(place.prefix))
            return
        before = len(self.builder.graph.nodes)
        try:
            with self.builder.at(*provenance(proto, node, place)):
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

    def _understood(self, proto: onnx.NodeProto, node: OnnxNode, place: Place) -> None:
        """Read a node by a rule, or by the body that the specification gives it. Raises UnsupportedError."""
        if not is_standard(proto):
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
            with self.builder.at(*provenance(proto, node, place)):
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
            if not is_standard(proto) or not self._as_specified(proto, node, place):
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

    def _call(self, function: onnx.FunctionProto, proto: onnx.NodeProto, place: Place) -> None:
        """Read a function's body in place of the call."""
        nodes = function_nodes(function, proto, self._prefix(proto))
        self.read(nodes, list(proto.output), place.named(f"{place.prefix}{proto.name or proto.op_type}/"))

    def _as_specified(self, proto: onnx.NodeProto, node: OnnxNode, place: Place) -> bool:
        """Read the body that the specification gives for an operator; False if there is none that can be read."""
        with self.builder.at(*provenance(proto, node, place)):
            types = [self.graph.value(name).type if name else None for name in node.inputs]
        body = specified_body(proto, node.opset, types)
        if body is None:
            return False
        scope, origin = provenance(proto, node, place)
        refused = len(self.refused)
        try:
            self._call(body, proto, place.strict().inside(opsets_of(body.opset_import), scope, origin))
            readable = len(self.refused) == refused
        except MalformedError:  # operands that the operator takes and a part of its body does not
            readable = False
        del self.refused[refused:]
        return readable

    def _body(
        self, proto: onnx.NodeProto, place: Place, node: OnnxNode, attribute: str, types: Sequence[TensorType]
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

    def _read_body(self, proto: onnx.GraphProto, body: Body, types: Sequence[TensorType], place: Place) -> None:
        results = [item.name for item in proto.output]
        for item, kind in zip(proto.input, types, strict=True):
            if self.graph.knows(item.name):
                raise MalformedError(f"the input {item.name!r} of a subgraph hides another value", at=place.prefix)
            value = body.builder.input_of(item.name, kind)
            self.graph.values[item.name] = body.builder.keep(value, item.name)
        self.initializers.read(proto, self.graph)
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
        self.read(proto.node, results, place)
        for position, name in enumerate(results):
            if name in self.missing:
                reason = "a result of its body cannot be computed"
                raise UnsupportedError("read onnx", [Unsupported(proto.name or "subgraph", reason, place.prefix)])
            if not self.graph.knows(name):
                raise MalformedError(f"nothing produces the result {name!r} of a subgraph", at=place.prefix)
            body.builder.output(f"result_{position}", self.graph.value(name))

    def _branch(self, proto: onnx.NodeProto, node: OnnxNode, place: Place) -> bool:
        """Read the branch of an If whose condition is known; False where it depends on data."""
        condition = node.graph.known(node.inputs[0]) if node.has(0) else None
        if condition is None or condition.size != 1 or isinstance(condition.item(), Sym):
            return False
        branch = node.attribute("then_branch" if condition.item() else "else_branch")
        if not isinstance(branch, onnx.GraphProto) or len(branch.output) != len(proto.output):
            raise MalformedError("If needs two branches with its outputs", at=node.where)
        nodes, renamed = branch_nodes(branch, proto.output, self._prefix(proto))
        self.initializers.read(branch, self.graph, renamed)
        self.read(nodes, list(proto.output), place.named(f"{place.prefix}{proto.name or proto.op_type}/"))
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


def _functions(model: onnx.ModelProto, where: str) -> Mapping[tuple[str, str, str], onnx.FunctionProto]:
    """The functions of the file by domain, name and overload."""
    functions = {(each.domain, each.name, each.overload): each for each in model.functions}
    if len(functions) != len(model.functions):
        raise MalformedError("two functions have one name", at=where)
    return functions
