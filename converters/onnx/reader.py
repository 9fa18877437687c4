"""Reads ONNX files: protobuf in, IR out; weights stay in the mapped file (see wire.py), external ones in theirs.

Opsets 1 to the newest. What another operator set version says differently is settled in the import rules of the family
files. Sizes that follow from shapes become attributes (see sizes.py). Nothing is executed.

    wire.py -> initializers.py, interface.py -> nodes.py (rules of the families, functions, subgraphs) -> the model
"""

from __future__ import annotations

from pathlib import Path

import onnx

from isomorph.converters.onnx.codec import STATE
from isomorph.converters.onnx.initializers import Initializers
from isomorph.converters.onnx.interface import Inputs, Interface, states_of
from isomorph.converters.onnx.nodes import Nodes
from isomorph.converters.onnx.place import Place, is_standard, opsets_of
from isomorph.converters.onnx.reading import Graph
from isomorph.converters.onnx.signature import check_text
from isomorph.converters.onnx.stream import LARGEST_FILE
from isomorph.converters.onnx.wire import Bytes, read_model
from isomorph.errors import GraphError, MalformedError, Unsupported, UnsupportedError
from isomorph.ir import Builder, DimRange, Model, State, Sym
from isomorph.ir.passes.canonicalize import prune

__all__ = ["OLDEST_OPSET", "Inputs", "read"]

OLDEST_OPSET = 1
_NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), 28)


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
        return _model(proto, path, inputs or {}, mapped)
    except GraphError as error:
        raise MalformedError(
            f"the graph contradicts itself: {error.what}", at=error.at or str(path), because=error.because
        ) from None


def _model(proto: onnx.ModelProto, path: Path, overrides: Inputs, mapped: dict[int, Bytes]) -> Model:
    """Read the whole graph; all nodes that cannot be read are reported in one error."""
    opsets = _checked_opsets(proto, path)
    builder = Builder(proto.graph.name or path.stem)
    builder.reserve(name for node in proto.graph.node for name in node.output)
    graph = Graph(builder, opsets)
    initializers = Initializers(path, proto.producer_name == "isomorph")
    interface = Interface(proto.graph, graph, str(path), overrides, states_of(proto))
    nodes = Nodes(proto, graph, initializers, str(path))
    initializers.read(proto.graph, graph, mapped=mapped)
    interface.read_inputs()
    nodes.read(proto.graph.node, [item.name for item in proto.graph.output], Place(opsets))
    if nodes.refused:
        raise UnsupportedError("read onnx", nodes.refused)
    interface.read_outputs(nodes.missing)
    dims = {
        name: DimRange()
        for value in builder.graph.inputs
        for dim in value.shape
        if isinstance(dim, Sym)
        for name in sorted(dim.names())
    }
    source = ("onnx", f"opset {opsets.get('', 0)}")
    states = {name: State(output, interface.initial.get(name)) for name, output in interface.states.items()}
    return prune(builder.finish(dims=dims, metadata=_metadata(proto), source=source, state=states))


def _metadata(proto: onnx.ModelProto) -> dict[str, str]:
    """The key-value pairs of the file, its producer and its text; what a file before this one said of these stays."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props if entry.key != STATE}
    for key, text in (("onnx.producer", proto.producer_name), ("onnx.doc_string", proto.doc_string)):
        if text:
            metadata.setdefault(key, text)
    return metadata


def _checked_opsets(proto: onnx.ModelProto, path: Path) -> dict[str, int]:
    """The versions of the file's operator sets. Raises MalformedError, UnsupportedError."""
    opsets = opsets_of(proto.opset_import)
    if not opsets and proto.ir_version < 3:
        opsets = {"": 1}
    version = opsets.get("")
    if version is None and any(is_standard(node) for node in proto.graph.node):
        raise MalformedError("the file does not say which opset its operators are of", at=str(path))
    if version is not None and not OLDEST_OPSET <= version <= _NEWEST_OPSET:
        reason = f"isomorph reads opset {OLDEST_OPSET} to {_NEWEST_OPSET}"
        raise UnsupportedError("read onnx", [Unsupported(f"opset {version}", reason, str(path))])
    return opsets
