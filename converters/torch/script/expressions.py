"""Values of expressions: names, attributes, literals, calls of operators, functions and methods."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Any

from isomorph.converters.torch.script import operations
from isomorph.converters.torch.script.annotations import is_instance
from isomorph.converters.torch.script.branches import UNDECIDED, Undecided
from isomorph.converters.torch.script.containers import CHANGING
from isomorph.converters.torch.script.source import ClassCode, FunctionCode
from isomorph.converters.torch.script.values import (
    UNINITIALIZED,
    Device,
    EnumValue,
    Function,
    Method,
    NamedTuple,
    Namespace,
    Number,
    Object,
    TypeName,
    Value,
    describe,
    is_tensor,
)
from isomorph.converters.torch.script.walk import Walk
from isomorph.errors import MalformedError
from isomorph.ir import Scope, Sym

__all__ = ["Expressions"]

_DEEPEST_EXPRESSION = 24_000


class Expressions(Walk):
    """The part of the walk that has values."""

    def _value(self, node: ast.expr, names: dict[str, Value]) -> Value:
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is None:
            raise MalformedError(f"{type(node).__name__} is not TorchScript")
        self._depth += 1
        if self._depth > _DEEPEST_EXPRESSION:
            raise MalformedError("expressions are nested too deep")
        value = evaluate(self, node, names)
        self._depth -= 1
        return value

    def _literal(self, node: ast.Constant, names: dict[str, Value]) -> Value:
        if node.value is None or isinstance(node.value, bool | int | float | complex | str):
            return node.value
        raise MalformedError(f"a literal {node.value!r}"[:100])

    def _name(self, node: ast.Name, names: dict[str, Value]) -> Value:
        if node.id in names:
            value = names[node.id]
            if isinstance(value, Undecided):
                self.session.note("prim.If" if value is UNDECIDED else "prim.Loop", value.why, self._here())
            return value
        if node.id in _NAMES:
            return _NAMES[node.id]
        raise MalformedError(f"the name {node.id} is read before it is assigned")

    def _attribute(self, node: ast.Attribute, names: dict[str, Value]) -> Value:
        return self._get(self._value(node.value, names), node.attr)

    def _get(self, owner: Value, name: str) -> Value:
        """getattr(owner, name)"""
        if isinstance(owner, Namespace):
            return self._qualified(f"{owner.title}.{name}")
        if isinstance(owner, Object):
            return self._member(owner, name)
        if isinstance(owner, NamedTuple) and name in owner.fields:
            return owner[owner.fields.index(name)]
        if isinstance(owner, EnumValue) and name in ("name", "value"):
            return owner.name if name == "name" else owner.value
        if isinstance(owner, Device):
            return owner.name if name == "type" else owner.index if name == "index" else Method(owner, name)
        if isinstance(owner, Function):
            return self._static(owner, name)
        return Method(owner, name)

    def _member(self, owner: Object, name: str) -> Value:
        if name in owner.attributes:
            return owner.attributes[name]
        code = self.library.class_of(owner.title)
        if name in code.methods:
            return Method(owner, name)
        if name in code.constants:
            owner.attributes[name] = self._value(code.constants[name], {})
            return owner.attributes[name]
        raise MalformedError(f"{owner.title} has no attribute {name}")

    def _static(self, owner: Function, name: str) -> Value:
        """A member of an Enum, or `__new__` of a class."""
        code = self.library.find(owner.title)
        if name == "__new__":
            return Method(owner, name)
        if isinstance(code, ClassCode) and name in code.constants:
            return EnumValue(owner.title, name, self._value(code.constants[name], {}))
        raise MalformedError(f"{owner.title} has no {name}")

    def _qualified(self, title: str) -> Value:
        if title.startswith("CONSTANTS.c"):
            index = title.removeprefix("CONSTANTS.c")
            if not index.isdecimal() or int(index) >= len(self.constants):
                raise MalformedError(f"the archive has no constant {title}")
            return self.constants[int(index)]
        if not title.startswith("__torch__."):
            return Namespace(title)
        if self.library.find(title) is not None:
            return Function(title)
        if self.library.is_prefix(title):
            return Namespace(title)
        raise MalformedError(f"the archive has no code for {title}")

    def _subscript(self, node: ast.Subscript, names: dict[str, Value]) -> Value:
        owner, index = self._value(node.value, names), self._value(node.slice, names)
        return operations.call(self.session, "__getitem__", [owner, index], {})

    def _list(self, node: ast.List, names: dict[str, Value]) -> Value:
        return [self._value(item, names) for item in node.elts]

    def _tuple(self, node: ast.Tuple, names: dict[str, Value]) -> Value:
        return tuple(self._value(item, names) for item in node.elts)

    def _dict(self, node: ast.Dict, names: dict[str, Value]) -> Value:
        made: dict[Value, Value] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise MalformedError("a dict is unpacked")
            operations.call(self.session, "_set_item", [made, self._value(key, names), self._value(value, names)], {})
        return made

    def _condition(self, test: ast.expr, names: dict[str, Value]) -> Value:
        """The value of a condition: a bool, or a Number that the program computes."""
        value = self._value(test, names)
        if is_tensor(value):
            value = self.session.item(value, bool)
        if isinstance(value, bool | Number):
            return value
        if isinstance(value, int | float | str):
            return bool(value)
        if isinstance(value, Sym):
            return operations.call(self.session, "ne", [value, 0], {})
        raise MalformedError(f"{describe(value)} is no condition")

    def _unary(self, node: ast.UnaryOp, names: dict[str, Value]) -> Value:
        value = self._value(node.operand, names)
        return operations.call(self.session, "neg" if isinstance(node.op, ast.USub) else "__not__", [value], {})

    def _choice(self, node: ast.IfExp, names: dict[str, Value]) -> Value:
        condition = self._condition(node.test, names)
        if isinstance(condition, Number):
            self.session.note("prim.If", "which value is taken depends on data", self._here())
        return self._value(node.body if condition else node.orelse, names)

    def _call(self, node: ast.Call, names: dict[str, Value]) -> Value:
        self._step(node)
        if isinstance(node.func, ast.Name) and node.func.id in _FORMS and node.func.id not in names:
            return self._form(node.func.id, node.args, names)
        callee = self._value(node.func, names)
        args = [self._value(arg, names) for arg in node.args]
        keywords = {keyword.arg or "": self._value(keyword.value, names) for keyword in node.keywords}
        self._step(node)
        return self._apply(callee, args, keywords)

    def _apply(self, callee: Value, args: list[Value], keywords: Mapping[str, Value]) -> Value:
        if isinstance(callee, Namespace):
            return self._operator(callee.title, args, keywords)
        if isinstance(callee, Method):
            if isinstance(callee.owner, Object):
                return self._invoke(callee.owner, callee.name, args, keywords)
            if isinstance(callee.owner, Function):
                return Object(callee.owner.title)  # T.__new__(T); its __init__ is called next
            return self._operator(f"torch.{callee.name}", [callee.owner, *args], keywords)
        if isinstance(callee, Object):
            return self._invoke(callee, "__call__" if self._has(callee, "__call__") else "forward", args, keywords)
        code = self.library.find(callee.title) if isinstance(callee, Function) else None
        if isinstance(code, FunctionCode):
            return self._enter(code, args, keywords)
        if isinstance(code, ClassCode):
            return self._construct(code.title, code, args, keywords)
        raise MalformedError(f"{describe(callee)} is called")

    def _has(self, owner: Object, method: str) -> bool:
        return method in self.library.class_of(owner.title).methods

    def _operator(self, title: str, args: list[Value], keywords: Mapping[str, Value]) -> Value:
        space, _, name = title.removeprefix("ops.").rpartition(".")
        prefix = "" if space in ("torch", "aten") else f"{space}::"
        self.session.where = (Scope(tuple(self._scopes)), self._trace())
        if any(value is UNINITIALIZED for value in args):
            raise MalformedError(f"`{name}` reads a value that was never assigned")
        if args and name in CHANGING:
            for changes in self._changes:
                changes.container(args[0])
        return operations.call(self.session, prefix + name, args, keywords)

    def _annotated(self, kind: ast.expr, value: Value) -> Value:
        """A value of the type that is stated: a tensor for a number is its element (aten::IntImplicit and the like)."""
        number = _IMPLICIT.get(kind.id) if isinstance(kind, ast.Name) else None
        return self.session.item(value, number) if number is not None and is_tensor(value) else value

    def _form(self, form: str, args: Sequence[ast.expr], names: dict[str, Value]) -> Value:
        """The forms of the language that look like functions."""
        if form == "uninitialized":
            return UNINITIALIZED
        if form in ("annotate", "unchecked_cast") and len(args) == 2:
            return self._annotated(args[0], self._value(args[1], names))
        if form == "isinstance" and len(args) == 2:
            return is_instance(self._value(args[0], names), args[1])
        values = [self._value(arg, names) for arg in args]
        if form == "getattr" and len(values) >= 2 and isinstance(values[1], str):
            return self._get(values[0], values[1])
        if form == "fork" and values:
            return self._apply(values[0], values[1:], {})
        self.session.where = (Scope(tuple(self._scopes)), self._trace())
        name = {"int": "Int", "float": "Float", "bool": "Bool", "str": "str", "wait": "wait"}.get(form)
        if name == "str" and len(values) == 1:
            return str(values[0])[:1000]
        if name is None or len(values) != 1:
            raise MalformedError(f"`{form}` with {len(values)} arguments")
        return operations.call(self.session, name, values, {})


_IMPLICIT = {"int": int, "float": float, "bool": bool}
_FORMS = frozenset(
    {
        "annotate",
        "unchecked_cast",
        "uninitialized",
        "isinstance",
        "getattr",
        "int",
        "float",
        "bool",
        "str",
        "fork",
        "wait",
    }
)
_NAMES: dict[str, Value] = {
    "torch": Namespace("torch"),
    "ops": Namespace("ops"),
    "CONSTANTS": Namespace("CONSTANTS"),
    "__torch__": Namespace("__torch__"),
    "inf": math.inf,
    "nan": math.nan,
    "True": True,
    "False": False,
    "None": None,
    **{name: TypeName(name) for name in ("Tensor", "List", "Dict", "Tuple", "Optional", "Any")},
}
_EXPRESSIONS: dict[type, Any] = {
    ast.Constant: Expressions._literal,
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.Subscript: Expressions._subscript,
    ast.List: Expressions._list,
    ast.Tuple: Expressions._tuple,
    ast.Dict: Expressions._dict,
    ast.UnaryOp: Expressions._unary,
    ast.IfExp: Expressions._choice,
    ast.Call: Expressions._call,
}
