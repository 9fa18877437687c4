"""A node against its operator's signature: how many operands and results it has, of which kind its attributes are.

And text that is UTF-8, which protobuf does not check for ONNX: other bytes come as bytes where a str is expected.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto

from isomorph.errors import MalformedError

__all__ = ["check_signature", "check_text"]


def check_text(model: onnx.ModelProto) -> None:
    """Raise MalformedError if a name or other text anywhere in the file is no UTF-8."""
    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        for field, content in message.ListFields():
            inner, repeated = _field(field)
            if inner:
                pending.extend(content if repeated else (content,))
            elif inner is not None and not _TEXT.issuperset(map(type, content if repeated else (content,))):
                wrong = next(text for text in (content if repeated else (content,)) if not isinstance(text, str))
                raise MalformedError(f"a `{field.name}` in the file is no UTF-8", because=repr(wrong[:40]))


_TEXT = frozenset({str})


@cache
def _field(field: Any) -> tuple[bool | None, bool]:
    """(True for a field of messages, False for one of text, None for any other; whether it is repeated)."""
    kinds = {field.TYPE_MESSAGE: True, field.TYPE_STRING: False}
    return kinds.get(field.type), field.is_repeated


class _Signature(NamedTuple):
    """Least and most operands and results, the kinds of the attributes, and those that must be stated."""

    operands: tuple[int, int]
    results: tuple[int, int]
    kinds: dict[str, int]
    required: list[str]


@cache
def _signature(kind: str, opset: int) -> _Signature | None:
    """Of the operator of the standard domain at this opset, the newest one if it is younger than the opset, or None."""
    for version in (opset, onnx.defs.onnx_opset_version()):
        try:
            schema = onnx.defs.get_schema(kind, version)
        except onnx.defs.SchemaError:
            continue
        attributes = schema.attributes
        return _Signature(
            (schema.min_input, schema.max_input),
            (schema.min_output, schema.max_output),
            {name: int(formal.type.value) for name, formal in attributes.items()},
            [name for name, formal in attributes.items() if formal.required],
        )
    return None


def check_signature(node: onnx.NodeProto, opset: int, where: str) -> None:
    """Raise MalformedError unless a node of the standard domain has the form that its operator states."""
    named = [name for name in node.output if name]
    if len(set(named)) != len(named):
        raise MalformedError(f"{node.op_type} gives two results one name", at=where)
    signature = _signature(node.op_type, opset)
    if signature is None:
        return
    for found, (least, most), what in (
        (len(node.input), signature.operands, "operands"),
        (len(node.output), signature.results, "results"),
    ):
        if not least <= found <= most:
            raise MalformedError(f"{node.op_type} has {found} {what}, not {least} to {most}", at=where)
    stated: set[str] = set()
    for item in node.attribute:
        if item.name in stated:
            raise MalformedError(f"{node.op_type} states its attribute {item.name!r} twice", at=where)
        stated.add(item.name)
        formal = signature.kinds.get(item.name)
        if formal is not None and formal != item.type:
            kinds = [_kind(code) for code in (item.type, formal)]
            raise MalformedError(f"attribute {item.name!r} of {node.op_type} is {kinds[0]}, not {kinds[1]}", at=where)
    missing = [name for name in signature.required if name not in stated]
    if missing:
        raise MalformedError(f"{node.op_type} lacks its attribute {missing[0]!r}", at=where)


def _kind(code: int) -> str:
    known = code in AttributeProto.AttributeType.values()
    return AttributeProto.AttributeType.Name(code) if known else f"of the kind {code}"
