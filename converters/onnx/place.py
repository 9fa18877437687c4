"""Where nodes are read: the operator sets there, the names around them, the scope and origin that the file states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import onnx

from isomorph.converters.frames import user_frame
from isomorph.converters.onnx.reading import OnnxNode, parse_json
from isomorph.ir import Origin, Scope, ScopeEntry
from isomorph.records import record

__all__ = ["Place", "is_standard", "opset_of", "opsets_of", "provenance"]


@record
class Place:
    """Where nodes are read: the graph, or the body of a function or branch in it."""

    opsets: dict[str, int]
    prefix: str = ""
    scope: Scope | None = None
    origin: Origin | None = None
    depth: int = 0
    keeps: bool = True  # whether operators that no rule reads are kept as they are

    def inside(self, opsets: dict[str, int], scope: Scope, origin: Origin | None = None) -> Place:
        """The place in a function's body; what it does not say of opsets is as outside."""
        return replace(self, opsets={**self.opsets, **opsets}, scope=scope, origin=origin or self.origin)

    def strict(self) -> Place:
        """The place where everything must be understood."""
        return replace(self, keeps=False)

    def named(self, prefix: str) -> Place:
        """One level deeper, with this prefix to the names of nodes."""
        return replace(self, prefix=prefix, depth=self.depth + 1)


def is_standard(proto: onnx.NodeProto) -> bool:
    return proto.domain in ("", "ai.onnx")


def opset_of(proto: onnx.NodeProto, place: Place) -> int:
    """The opset whose definition a node follows.

    PyTorch before 1.0 wrote Upsample with the attribute of opset 7 into files of opset 9, which made it an operand.
    """
    stated = place.opsets.get("" if proto.domain == "ai.onnx" else proto.domain, 0)
    if proto.op_type == "Upsample" and stated > 7 and len(proto.input) == 1 and is_standard(proto):
        return 7
    return stated


def opsets_of(entries: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in entries}


def provenance(proto: onnx.NodeProto, node: OnnxNode, place: Place) -> tuple[Scope, Origin]:
    """Scope and origin as isomorph or torch.onnx recorded them, else from slashes in the node's name.

    In a function they are the call's, unless the body states its own.
    """
    notes = {entry.key: entry.value for entry in proto.metadata_props}
    stated_here = any(key in notes for key in ("isomorph.scope", "pkg.torch.onnx.name_scopes"))
    if place.scope is not None and not stated_here:
        name = node.outputs[0] if node.outputs else node.name
        return place.scope, place.origin or Origin("onnx", node.kind, name)
    frame = user_frame(notes.get("pkg.torch.onnx.stack_trace", ""))
    origin = Origin("onnx", node.kind, node.outputs[0] if node.outputs else node.name, *frame)
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
