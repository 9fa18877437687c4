"""A node against its operator's signature: how many operands and results it has, and of which kind its attributes are."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
from onnx import AttributeProto

from isomorph.errors import MalformedError

__all__ = ["check_signature"]


@cache
def _schema(kind: str, opset: int) -> Any:
    """The operator of the standard domain at this opset, the newest one if it is younger than the opset, or None."""
    for version in (opset, onnx.defs.onnx_opset_version()):
        try:
            return onnx.defs.get_schema(kind, version)
        except onnx.defs.SchemaError:
            continue
    return None


def check_signature(node: onnx.NodeProto, opset: int, where: str) -> None:
    """Raise MalformedError unless a node of the standard domain has the form that its operator states."""
    schema = _schema(node.op_type, opset)
    if schema is None:
        return
    for found, least, most, what in (
        (len(node.input), schema.min_input, schema.max_input, "operands"),
        (len(node.output), schema.min_output, schema.max_output, "results"),
    ):
        if not least <= found <= most:
            raise MalformedError(f"{node.op_type} has {found} {what}, not {least} to {most}", at=where)
    stated: set[str] = set()
    for item in node.attribute:
        if item.name in stated:
            raise MalformedError(f"{node.op_type} states its attribute {item.name!r} twice", at=where)
        stated.add(item.name)
        formal = schema.attributes.get(item.name)
        if formal is not None and int(formal.type.value) != item.type:
            kinds = [_kind(code) for code in (item.type, int(formal.type.value))]
            raise MalformedError(f"attribute {item.name!r} of {node.op_type} is {kinds[0]}, not {kinds[1]}", at=where)


def _kind(code: int) -> str:
    known = code in AttributeProto.AttributeType.values()
    return AttributeProto.AttributeType.Name(code) if known else f"of the kind {code}"
