"""The history of the standard domain: in which opsets an operator was defined anew, and whether that changed a node.

Two definitions that follow each other mean the same by a node if they differ in element types alone, or if what the
newer one adds (attributes with defaults, optional operands) is what `_ALIKE` says leaves the node as it was. Then the
node may stand in a file of either, as far as the definition takes the types of its operands.
See: the operator changelog of ONNX, https://github.com/onnx/onnx/blob/main/docs/Changelog.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto, helper

from isomorph.converters.onnx.codec import ELEMENT_TYPES
from isomorph.ir import DType, OpaqueType, TensorType
from isomorph.records import record

__all__ = ["TYPE_NAMES", "Use", "history", "known_attributes", "opsets_for", "same_definition"]

TYPE_NAMES = {dtype: f"tensor({TensorProto.DataType.Name(code).lower()})" for dtype, code in ELEMENT_TYPES.items()}
"""Element types as the definitions of operators spell them."""


@record
class Use:
    """A node of the standard domain, as far as a definition of its operator has a say.

    attributes       by name, in Python's types
    inputs, outputs  names of operands and results, "" for one that is left out
    types            of those whose type is known; for others, only definitions that take the same types will do
    """

    kind: str
    attributes: Mapping[str, Any]
    inputs: Sequence[str]
    outputs: Sequence[str]
    types: Mapping[str, TensorType]


@cache
def _history() -> dict[str, list[Any]]:
    """The definitions of each operator of the standard domain, oldest first."""
    found: dict[str, dict[int, Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, {})[schema.since_version] = schema
    return {name: [listed[since] for since in sorted(listed)] for name, listed in found.items()}


def history(kind: str) -> Sequence[Any]:
    """The definitions of an operator of the standard domain, oldest first."""
    return _history().get(kind, [])


def same_definition(kind: str, opset: int, other: int) -> bool:
    """Whether two opsets of the standard domain have one definition of an operator."""
    low, high = sorted((opset, other))
    return not any(low < schema.since_version <= high for schema in history(kind))


def opsets_for(use: Use, opset: int) -> tuple[int, int]:
    """The opsets around this one, oldest and newest, at which a node that this one defines means the same."""
    listed = history(use.kind)
    place = max((index for index, schema in enumerate(listed) if schema.since_version <= opset), default=None)
    if place is None:
        return opset, onnx.defs.onnx_opset_version()
    first = last = place
    while listed[first].since_version > _FIRST_WRITTEN and first and _same_below(use, listed[first - 1], listed[first]):
        first -= 1
    while last + 1 < len(listed) and _same_above(use, listed[last], listed[last + 1]):
        last += 1
    newest = listed[last + 1].since_version - 1 if last + 1 < len(listed) else onnx.defs.onnx_opset_version()
    return int(listed[first].since_version), int(newest)


def known_attributes(kind: str, opset: int) -> frozenset[str] | None:
    """Names of the attributes that an operator has at this opset; None if it has no such operator."""
    if not onnx.defs.has(kind):
        return None
    try:
        return frozenset(onnx.defs.get_schema(kind, opset).attributes)
    except onnx.defs.SchemaError:
        return None


def _same_above(use: Use, older: Any, newer: Any) -> bool:
    """Whether the newer definition says of the node what the older one does. Types only ever become more."""
    return not newer.deprecated and _grown(older, newer) and _alike(use, older, newer)


def _same_below(use: Use, older: Any, newer: Any) -> bool:
    """Whether the older definition has all that the node states, for its types, and says the same of it."""
    if older.deprecated or not _grown(older, newer) or not _alike(use, older, newer):
        return False
    added = (name for name in use.attributes if name not in older.attributes)
    if any(name not in newer.attributes or use.attributes[name] != _default(newer.attributes[name]) for name in added):
        return False
    return _takes(older.inputs, newer.inputs, use.inputs, use) and _takes(
        older.outputs, newer.outputs, use.outputs, use
    )


def _grown(older: Any, newer: Any) -> bool:
    """Whether the newer definition has all attributes with their defaults and all operands, and adds optional ones."""
    kept = all(
        name in newer.attributes and _same(item, newer.attributes[name]) for name, item in older.attributes.items()
    )
    added = [item for name, item in newer.attributes.items() if name not in older.attributes]
    if not kept or any(item.required for item in added):
        return False
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    for before, after in ((older.inputs, newer.inputs), (older.outputs, newer.outputs)):
        pairs = list(zip(before, after, strict=False))
        if any(b.option not in (a.option, optional) for a, b in pairs):
            return False
        if len(after) < len(before) or any(each.option != optional for each in after[len(before) :]):
            return False
    return True


def _same(item: Any, other: Any) -> bool:
    return bool(item.type == other.type and item.required == other.required and _default(item) == _default(other))


def _default(item: Any) -> Any:
    """The default of an attribute as Python's value, None if it has none."""
    if item.default_value.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = helper.get_attribute_value(item.default_value)
    return value.decode() if isinstance(value, bytes) else value


def _takes(older: Sequence[Any], newer: Sequence[Any], names: Sequence[str], use: Use) -> bool:
    """Whether the older definition has these operands (or results) and takes their types; untold ones as the newer."""
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    for position, name in enumerate(names):
        if not name:
            continue
        if position >= len(older) and (not older or older[-1].option != variadic):
            return False
        before, after = (listed[min(position, len(listed) - 1)] for listed in (older, newer))
        taken = {_type_name(use.types[name])} if name in use.types else set(after.types)
        if not taken <= set(before.types):
            return False
    return True


def _type_name(kind: TensorType) -> str:
    if not isinstance(kind, OpaqueType) or kind.element is None:
        return TYPE_NAMES[kind.dtype]
    if kind.key is not None:
        return f"map({TYPE_NAMES[kind.key][len('tensor(') : -1]}, {_type_name(kind.element)})"
    return f"{'seq' if kind.form == 'sequence' else kind.form}({_type_name(kind.element)})"


Condition = Callable[[Use], bool]


def _always(use: Use) -> bool:
    return True


def _whole_windows(use: Use) -> bool:
    """Which windows at the end count where sizes are rounded up is said anew."""
    return not use.attributes.get("ceil_mode", 0)


def _at_inference(use: Use) -> bool:
    return len(use.outputs) == 1 and not use.attributes.get("training_mode", 0)


def _fmod_or_integers(use: Use) -> bool:
    kind = use.types.get(use.inputs[0])
    return bool(use.attributes.get("fmod", 0)) or (kind is not None and not kind.dtype.is_float)


def _not_half(use: Use) -> bool:
    """What half precision is computed in is said anew."""
    kind = use.types.get(use.inputs[0])
    return kind is not None and kind.dtype not in (DType.FLOAT16, DType.BFLOAT16)


def _without(name: str, *values: str) -> Condition:
    """The attribute says none of these, which the older definition has not."""
    return lambda use: use.attributes.get(name) not in values


def _with_operands(count: int) -> Condition:
    return lambda use: len(use.inputs) >= count and all(use.inputs[:count])


def _of(kinds: str, **conditions: Condition) -> dict[str, dict[int, Condition]]:
    return {kind: {int(since[1:]): condition for since, condition in conditions.items()} for kind in kinds.split()}


_ALIKE: dict[str, dict[int, Condition]] = {
    **_of("Add Sub Mul Div GRU RNN Reshape", v14=_always),
    **_of("Cast CastLike", v19=_always, v24=_always),
    **_of("Dropout EyeLike", v22=_always),
    **_of("Squeeze Unsqueeze", v23=_always),
    **_of("ReduceMax ReduceMin", v20=_always),
    **_of("OptionalGetElement OptionalHasElement", v18=_with_operands(1)),
    **_of("ScatterElements ScatterND", v16=_always, v18=_without("reduction", "max", "min")),
    "Attention": {25: _always},
    "AveragePool": {19: _whole_windows, 22: _whole_windows},
    "BatchNormalization": {14: _at_inference, 15: _always},
    "BitShift": {28: _always},
    "DequantizeLinear": {19: _always, 21: _always, 23: _always},
    "Loop": {16: _always},
    "LSTM": {14: _always, 22: _always},
    "LpPool": {18: _whole_windows},
    "MaxPool": {22: _whole_windows},
    "Mod": {28: _fmod_or_integers},
    "Pad": {18: _always, 19: _without("mode", "wrap")},
    "QuantizeLinear": dict.fromkeys((19, 21, 23, 24, 25, 28), _always),
    "Range": {27: _not_half},
    "Resize": {18: _always, 19: _without("coordinate_transformation_mode", "half_pixel_symmetric")},
    "Shape": {15: _always},
    "SpaceToDepth": {28: _always},
    "Split": {18: _with_operands(2)},
    "Transpose": {21: _always, 25: _always},
}
"""Definitions in other words or with more to say, and for which nodes they mean what the one before them does. Each
was compared with the one before it; what is not listed and reads otherwise is taken for another operator.
"""


_FIRST_WRITTEN = 13
"""Up to this opset what grew says nothing else of a node that was valid before; nothing older is written."""


def _alike(use: Use, older: Any, newer: Any) -> bool:
    if newer.since_version <= _FIRST_WRITTEN:
        return True
    condition = _ALIKE.get(use.kind, {}).get(newer.since_version)
    return _text(older) == _text(newer) if condition is None else condition(use)


def _text(schema: Any) -> tuple[Any, ...]:
    """All that a definition says, but for the element types that it takes."""
    attributes = sorted((name, _words(item.description), item.required) for name, item in schema.attributes.items())
    formal = (
        [(_words(each.description), each.option.name) for each in part] for part in (schema.inputs, schema.outputs)
    )
    return _words(schema.doc), attributes, *formal


def _words(text: str | None) -> str:
    return " ".join((text or "").split())
