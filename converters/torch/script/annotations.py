"""Whether a value has a type that the code writes: `isinstance(x, Optional[List[Tensor]])`."""

from __future__ import annotations

import ast
from typing import Any

from isomorph.converters.torch.script.syntax import qualified_name
from isomorph.converters.torch.script.values import Device, EnumValue, NamedTuple, Number, Object, Value, is_tensor
from isomorph.ir import Sym

__all__ = ["is_instance"]


def is_instance(value: Value, kind: ast.expr) -> bool:
    options = kind.elts if isinstance(kind, ast.List | ast.Tuple) else [kind]
    return any(_matches(value, option) for option in options)


def _matches(value: Value, kind: ast.expr) -> bool:
    """Whether a value has a type that is written as an expression."""
    if isinstance(kind, ast.Constant) and kind.value is None:
        return value is None
    title = qualified_name(kind.value if isinstance(kind, ast.Subscript) else kind) or ""
    inner = kind.slice if isinstance(kind, ast.Subscript) else None
    items = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner] if inner is not None else []
    if title == "Optional":
        return value is None or _matches(value, items[0])
    if title == "Union":
        return any(_matches(value, item) for item in items)
    if title == "List":
        return isinstance(value, list) and all(_matches(each, items[0]) for each in value)
    if title == "Dict":
        return isinstance(value, dict) and all(_matches(each, items[1]) for each in value.values())
    if title == "Tuple":
        fits = isinstance(value, tuple) and len(value) == len(items)
        return fits and all(_matches(each, item) for each, item in zip(value, items, strict=True))
    if title in _TYPES:
        return bool(_TYPES[title](value))
    return isinstance(value, Object | NamedTuple | EnumValue) and value.title == title


def _is_of(*kinds: type) -> Any:
    return lambda value: type(value) in kinds


_TYPES: dict[str, Any] = {
    "Tensor": is_tensor,
    "int": lambda value: isinstance(value, Sym) or type(value) is int,
    "float": lambda value: type(value) is float or (isinstance(value, Number) and value.kind is float),
    "bool": lambda value: type(value) is bool or (isinstance(value, Number) and value.kind is bool),
    "str": _is_of(str),
    "complex": _is_of(complex),
    "NoneType": lambda value: value is None,
    "Device": _is_of(Device),
    "Any": lambda value: True,
    "list": _is_of(list),
    "tuple": lambda value: isinstance(value, tuple),
}
