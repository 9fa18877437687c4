"""The history of the standard domain: in which opsets an operator was defined anew, and what changed."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

__all__ = ["same_definition", "same_form"]


@cache
def _history() -> dict[str, list[tuple[int, object]]]:
    """The opsets in which each operator of the standard domain was defined anew, and the form that it has since."""
    found: dict[str, dict[int, object]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, {})[schema.since_version] = _form(schema)
    return {name: sorted(listed.items(), key=lambda item: item[0]) for name, listed in found.items()}


def _form(schema: Any) -> object:
    """What a node depends on: operands, results, attributes and their defaults. Types only ever become more."""
    attributes = sorted(
        (name, int(item.type.value), item.required, item.default_value.SerializeToString())
        for name, item in schema.attributes.items()
    )
    formal = ([(each.name, each.option.name) for each in listed] for listed in (schema.inputs, schema.outputs))
    return schema.deprecated, attributes, *formal


def same_definition(kind: str, opset: int, other: int) -> bool:
    """Whether two opsets of the standard domain have one definition of an operator."""
    return not any(min(opset, other) < since <= max(opset, other) for since, _ in _history().get(kind, []))


def same_form(kind: str, opset: int) -> tuple[int, int]:
    """The opsets around this one in which an operator has the definition of this opset, or newer ones of its form."""
    listed = _history().get(kind, [])
    since, form = max((item for item in listed if item[0] <= opset), default=(opset, None), key=lambda item: item[0])
    ends = [number - 1 for number, other in listed if number > opset and other != form]
    return since, min(ends, default=onnx.defs.onnx_opset_version())
