"""Writes ONNX files: deterministic bytes, readable names, provenance as structured metadata.

Node metadata `isomorph.scope` is a JSON list of [path, class, call], `isomorph.origin` a JSON object; the metadata of
the model keeps what the source carried.
A tensor that the model keeps from run to run (`Model.state`) is an input with an initializer of the same name, its
default, and an output; `isomorph.state` in the metadata of the model says which output is which input's next value.

See: onnx.proto (NodeProto.metadata_props, since IR version 10).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import helper

import isomorph.converters.onnx.families  # registers the rules
import isomorph.converters.onnx.reference  # noqa: F401  (computes what is preserved)
from isomorph import __version__
from isomorph.converters.onnx.codec import STATE, value_info
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.form import OnnxForm
from isomorph.converters.onnx.local_functions import take_out
from isomorph.converters.onnx.opsets import (
    DEFAULT_OPSET,
    NEWEST_OPSET,
    OLDEST_OPSET,
    all_nodes,
    checked,
    opset_for,
)
from isomorph.converters.onnx.qoperator_form import in_qoperator_form
from isomorph.converters.onnx.refusals import refuse
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.weights import lie_beside, sources_of, write_alone, write_with_data
from isomorph.converters.rules import Target
from isomorph.ir import Layout, Model, TensorSource, ops

__all__ = ["DEFAULT_OPSET", "NEWEST_OPSET", "OLDEST_OPSET", "opset_for", "target", "write"]

_OLDEST_IR_VERSION = 10
"""The first IR version with metadata on nodes and tensors."""


def target(opset: int | None = None) -> Target:
    """What ONNX of this opset can take. Raises UsageError for an opset that cannot be written."""
    chosen = checked(opset)
    return Target("onnx", Layout.CHANNELS_FIRST, lambda node: refuse(node, chosen))


def write(model: Model, path: Path, *, opset: int | None = None, form: OnnxForm | None = None) -> list[str]:
    """Write a prepared model to `path`, and weights of more than 1 GB in all to `path` + ".data" beside it.

    Returns what the file could not keep: nothing.
    """
    chosen, form = checked(opset), form or OnnxForm()
    if form.quantized == "qoperator":
        model = in_qoperator_form(model, chosen)
    export = Export(model, chosen)
    for node in model.graph.nodes:
        rule = rules.exporter(type(node.op))
        assert rule is not None, node.op
        export.begin(node)
        rule(export, node)
    sources = sources_of(export)
    functions = _functions(export, sources) if form.functions == "kept" else []
    proto = _model(export, functions)
    beside = lie_beside(sources.values(), form.external_data)
    (write_with_data if beside else write_alone)(proto, sources, export, path)
    return []


def _functions(export: Export, sources: dict[str, TensorSource]) -> list[onnx.FunctionProto]:
    """The modules of the graph as functions: calls take the place of their nodes, and constants move into them."""
    constants = set(export.constants)
    for value in export.weights:
        if value.parameter is not None and value.parameter.role == "constant":
            constants.add(export.name(value))
    least = 1 if export.model.source[0] == "onnx" else 2
    outputs = {export.name(value) for value in export.outputs} | set(export.model.graph.outputs)
    constants &= sources.keys()
    opsets = _opsets(export)
    found = take_out(export.nodes, outputs, sources=sources, constants=constants, opsets=opsets, least=least)
    export.nodes = found.nodes
    for name in found.inside:
        del sources[name]
    return found.made


def _opsets(export: Export) -> list[onnx.OperatorSetIdProto]:
    kept = sorted(_domains(export.model).items())
    return [helper.make_opsetid("", export.opset), *(helper.make_opsetid(*each) for each in kept)]


def _model(export: Export, functions: Sequence[onnx.FunctionProto]) -> onnx.ModelProto:
    """The file without its weights."""
    model = export.model
    graph, opsets = _graph(export), _opsets(export)
    ir_version = max(_OLDEST_IR_VERSION, helper.find_min_ir_version_for(opsets[:1]))
    own = sorted({function.domain for function in functions})
    opsets += [helper.make_opsetid(domain, 1) for domain in own]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=functions)
    proto.producer_name, proto.producer_version = "isomorph", __version__
    for key in sorted(model.metadata):
        proto.metadata_props.add(key=key, value=model.metadata[key])
    if model.state:
        states = {name: state.output for name, state in model.state.items()}
        proto.metadata_props.add(key=STATE, value=json.dumps(states))
    return proto


def _domains(model: Model) -> dict[str, int]:
    """The versions of the domains, other than ONNX's own, whose operators the model keeps."""
    found: dict[str, int] = {}
    for node in all_nodes(model.graph):
        if isinstance(node.op, ops.Preserved):
            for domain, version in ((node.op.domain, node.op.version), *node.op.imports):
                found[domain] = max(version, found.get(domain, 0))
    return {domain: version for domain, version in found.items() if domain}


def _graph(export: Export) -> onnx.GraphProto:
    model = export.model
    inputs = [value_info(value.name, value.type) for value in model.graph.inputs]
    outputs, seen = [], set()
    for name, value in model.graph.outputs.items():
        if export.name(value) != name:
            export.nodes.append(
                helper.make_node("Identity", [export.name(value)], [name], name=export.fresh(f"{name}.identity"))
            )
        outputs.append(value_info(name, value.type))
        seen.add(name)
    made = {name for node in export.nodes for name in node.output}
    infos = [
        value_info(export.name(value), value.type)
        for node in model.graph.nodes
        for value in node.outputs
        if export.name(value) in made and export.name(value) not in seen
    ]
    return helper.make_graph(export.nodes, model.name or "model", inputs, outputs, value_info=infos)
