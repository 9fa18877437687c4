"""Inlines the code of an archive into one program: calls are entered, known branches taken, known loops unrolled.

The walk is bounded: by its steps, the depth of calls, the length of lists and strings, the number of operations.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isomorph.converters.torch.program import short_class
from isomorph.converters.torch.script import operations
from isomorph.converters.torch.script.branches import UNDECIDED, Changes, branch
from isomorph.converters.torch.script.containers import CHANGING
from isomorph.converters.torch.script.operations import Raised
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.source import ClassCode, FunctionCode, Library, Position, demangled
from isomorph.converters.torch.script.syntax import qualified_name
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
from isomorph.errors import IsomorphError, MalformedError, UsageError
from isomorph.ir import Scope, ScopeEntry, Sym

__all__ = ["MAX_STEPS", "Inliner"]

MAX_STEPS = 1_000_000
_DEEPEST_CALL = 120
_DEEPEST_EXPRESSION = 200


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


class Inliner:
    """Walks code over values; what is to be computed goes to the session.

    changed  attributes of modules that the code assigned, (object, name) in order
    """

    def __init__(self, library: Library, constants: Sequence[Value], session: Session) -> None:
        self.library = library
        self.constants = constants
        self.session = session
        self.changed: dict[tuple[Object, str], None] = {}
        self.steps = 0
        self._frames: list[tuple[FunctionCode, ast.AST]] = []
        self._scopes: list[ScopeEntry] = []
        self._calls: dict[str, int] = {}
        self._positions: dict[tuple[str, int, int], Position] = {}
        self._depth = 0
        self._changes: list[Changes] = []

    def run(self, root: Object, method: str, args: Sequence[Value]) -> Value:
        """The result of a method of the root. Raises UsageError if the code raises an exception."""
        try:
            return self._invoke(root, method, list(args), {})
        except Raised as raised:
            raise UsageError(
                "the model refuses these inputs", at=self._here().strip() or None, because=str(raised)
            ) from None
        except IsomorphError as error:
            error.at = error.at or self._here().strip() or None
            raise
        except RecursionError:
            raise MalformedError("the code is nested too deep", at=self._here().strip()) from None

    def value_of(self, node: ast.expr) -> Value:
        """The value of an expression that reads no names: a default."""
        return self._value(node, {})

    # where we are

    def _position(self, code: FunctionCode, node: ast.AST) -> Position:
        key = (code.member, getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        if key not in self._positions:
            self._positions[key] = self.library.position(code.member, node)
        return self._positions[key]

    def _trace(self) -> str:
        return "\n".join(self._position(code, node).frame() for code, node in self._frames[-12:])

    def _here(self) -> str:
        """The innermost line, for an error."""
        if not self._frames:
            return ""
        position = self._position(*self._frames[-1])
        path = self._scopes[-1].path if self._scopes else ""
        code = f"  `{position.code}`" if position.code else ""
        return f"{path}  {position.file}:{position.line}{code}".strip()

    def _step(self, node: ast.AST) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise MalformedError(
                f"the code takes more than {MAX_STEPS} steps", because="a loop does not end, or is very long"
            )
        if self._frames:
            self._frames[-1] = (self._frames[-1][0], node)

    # calls

    def _invoke(self, owner: Object, name: str, args: list[Value], keywords: Mapping[str, Value]) -> Value:
        code = self.library.class_of(owner.title)
        method = code.methods.get(name)
        if method is None:
            raise MalformedError(f"the class {owner.title} has no method {name}")
        enters = (
            code.kind == "Module" and bool(owner.path) and not (self._scopes and self._scopes[-1].path == owner.path)
        )
        if enters:
            call = self._calls.get(owner.path, 0)
            self._calls[owner.path] = call + 1
            self._scopes.append(ScopeEntry(owner.path, short_class(demangled(owner.title)), call))
        result = self._enter(method, [owner, *args], keywords)
        if enters:
            self._scopes.pop()
        return result

    def _enter(self, code: FunctionCode, args: list[Value], keywords: Mapping[str, Value]) -> Value:
        if len(self._frames) >= _DEEPEST_CALL:
            raise MalformedError(
                f"calls are nested deeper than {_DEEPEST_CALL}", because=f"the innermost is {code.title}"
            )
        names: dict[str, Value] = {}
        self._frames.append((code, code.node))
        for index, parameter in enumerate(code.parameters):
            default = code.default(index)
            if index < len(args):
                names[parameter.arg] = args[index]
            elif parameter.arg in keywords:
                names[parameter.arg] = keywords[parameter.arg]
            elif default is not None:
                names[parameter.arg] = self._value(default, {})
            else:
                raise MalformedError(f"{code.title} is called without {parameter.arg}")
        if len(args) > len(code.parameters) or not keywords.keys() <= names.keys():
            raise MalformedError(f"{code.title} is called with too many arguments")
        result: Value = None
        try:
            self._block(code.node.body, names)
        except _Return as returned:
            result = returned.value
        self._frames.pop()
        return result

    def _construct(self, title: str, code: ClassCode, args: list[Value], keywords: Mapping[str, Value]) -> Value:
        if code.kind == "NamedTuple":
            values = [*args, *(keywords[name] for name in list(code.attributes)[len(args) :] if name in keywords)]
            if len(values) != len(code.attributes):
                raise MalformedError(f"{title} is made of {len(values)} values, it has {len(code.attributes)} fields")
            return NamedTuple.of(title, tuple(code.attributes), tuple(values))
        made = Object(title)
        if "__init__" in code.methods:
            self._invoke(made, "__init__", args, keywords)
        return made

    # statements

    def _block(self, body: Sequence[ast.stmt], names: dict[str, Value]) -> None:
        for statement in body:
            self._step(statement)
            run = _STATEMENTS.get(type(statement))
            if run is None:
                raise MalformedError(f"{type(statement).__name__} is not TorchScript")
            run(self, statement, names)

    def _assign(self, statement: Any, names: dict[str, Value]) -> None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if statement.value is None:
            return
        value = self._value(statement.value, names)
        for target in targets:
            self._bind(target, value, names)

    def _bind(self, target: ast.expr, value: Value, names: dict[str, Value]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            if not isinstance(value, tuple | list) or len(value) != len(target.elts):
                raise MalformedError(f"{describe(value)} is unpacked into {len(target.elts)} names")
            for part, item in zip(target.elts, value, strict=True):
                self._bind(part, item, names)
        elif isinstance(target, ast.Attribute):
            owner = self._value(target.value, names)
            if not isinstance(owner, Object):
                raise MalformedError(f"an attribute of {describe(owner)} is assigned")
            for changes in self._changes:
                changes.attribute(owner, target.attr)
            owner.attributes[target.attr] = value
            self.changed[owner, target.attr] = None
        elif isinstance(target, ast.Subscript):
            owner, index = self._value(target.value, names), self._value(target.slice, names)
            for changes in self._changes:
                changes.container(owner)
            operations.call(self.session, "_set_item", [owner, index, value], {})
        else:
            raise MalformedError(f"{type(target).__name__} is assigned")

    def _return(self, statement: ast.Return, names: dict[str, Value]) -> None:
        raise _Return(None if statement.value is None else self._value(statement.value, names))

    def _expression(self, statement: ast.Expr, names: dict[str, Value]) -> None:
        self._value(statement.value, names)

    def _if(self, statement: ast.If, names: dict[str, Value]) -> None:
        condition = self._condition(statement.test, names)
        if isinstance(condition, Number):
            self._undecided(statement, condition, names)
        else:
            self._block(statement.body if condition else statement.orelse, names)

    def _condition(self, test: ast.expr, names: dict[str, Value]) -> Value:
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

    def _undecided(self, statement: ast.If, condition: Number, names: dict[str, Value]) -> None:
        """A branch that the data decide. One that only raises an exception is a check: a model has none."""
        checks = [_raises(statement.body), _raises(statement.orelse)]
        if checks == [True, False]:
            self._block(statement.orelse, names)
        elif checks == [False, True]:
            self._block(statement.body, names)
        else:
            self.session.where = (Scope(tuple(self._scopes)), self._trace())
            follow = [self._follower(body) for body in (statement.body, statement.orelse)]
            branch(self.session, condition, names, self._containers(names), *follow)

    def _follower(self, body: Sequence[ast.stmt]) -> Callable[[dict[str, Value], Changes], None]:
        """Runs a branch on variables of its own; what else it changes is noted."""

        def follow(names: dict[str, Value], changes: Changes) -> None:
            self._changes.append(changes)
            try:
                self._block(body, names)
            except _Return:
                self.session.note("prim.If", "a branch that data or a varying size decides returns", self._here())
            self._changes.pop()

        return follow

    def _containers(self, names: Mapping[str, Value]) -> dict[int, Value]:
        """All lists and dicts that the code can reach from here, by identity."""
        found: dict[int, Value] = {}
        seen: set[int] = set()
        pending = list(names.values())
        while pending:
            value = pending.pop()
            if isinstance(value, Object):
                if id(value) not in seen:
                    seen.add(id(value))
                    pending.extend(value.attributes.values())
            elif isinstance(value, list | dict):
                if id(value) not in found:
                    found[id(value)] = value
                    pending.extend(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, tuple):
                pending.extend(value)
        return found

    def _for(self, statement: ast.For, names: dict[str, Value]) -> None:
        for item in self._items(statement.iter, names):
            self._step(statement)
            self._bind(statement.target, item, names)
            self._block(statement.body, names)

    def _items(self, node: ast.expr, names: dict[str, Value]) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            limits = [self._value(arg, names) for arg in node.args]
            if not all(isinstance(limit, int) for limit in limits) or not 1 <= len(limits) <= 3:
                self.session.note("prim.Loop", f"how often a loop runs is {limits[-1]}", self._here())
            if len(limits) == 3 and limits[2] == 0:
                raise MalformedError("a range has the step 0")
            return range(*limits)
        value = self._value(node, names)
        if isinstance(value, list | tuple | str | dict):
            return list(value)
        raise MalformedError(f"a loop over {describe(value)}")

    def _while(self, statement: ast.While, names: dict[str, Value]) -> None:
        while True:
            self._step(statement)
            condition = self._condition(statement.test, names)
            if isinstance(condition, Number):
                self.session.note("prim.Loop", "whether a loop goes on depends on data", self._here())
            if not condition:
                return
            self._block(statement.body, names)

    def _with(self, statement: ast.With, names: dict[str, Value]) -> None:
        managers = [self._value(item.context_expr, names) for item in statement.items]
        for item, manager in zip(statement.items, managers, strict=True):
            entered = self._invoke(manager, "__enter__", [], {}) if isinstance(manager, Object) else manager
            if item.optional_vars is not None:
                self._bind(item.optional_vars, entered, names)
        self._block(statement.body, names)
        for manager in reversed(managers):
            if isinstance(manager, Object):
                self._invoke(manager, "__exit__", [None, None, None], {})

    def _pass(self, statement: ast.stmt, names: dict[str, Value]) -> None:
        pass

    def _assert(self, statement: ast.Assert, names: dict[str, Value]) -> None:
        if self._condition(statement.test, names) is False:
            raise Raised("AssertionError: " + (str(self._value(statement.msg, names)) if statement.msg else ""))

    # expressions

    def _value(self, node: ast.expr, names: dict[str, Value]) -> Value:
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is None:
            raise MalformedError(f"{type(node).__name__} is not TorchScript")
        self._depth += 1
        if self._depth > _DEEPEST_EXPRESSION * _DEEPEST_CALL:
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
            if names[node.id] is UNDECIDED:
                reason = "a variable is of another kind after one branch than after the other"
                self.session.note("prim.If", reason, self._here())
            return names[node.id]
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

    def _form(self, form: str, args: Sequence[ast.expr], names: dict[str, Value]) -> Value:
        """The forms of the language that look like functions."""
        if form == "uninitialized":
            return UNINITIALIZED
        if form in ("annotate", "unchecked_cast") and len(args) == 2:
            return self._value(args[1], names)
        if form == "isinstance" and len(args) == 2:
            return self._is_instance(self._value(args[0], names), args[1])
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

    def _is_instance(self, value: Value, kind: ast.expr) -> bool:
        options = kind.elts if isinstance(kind, ast.List | ast.Tuple) else [kind]
        return any(self._matches(value, option) for option in options)

    def _matches(self, value: Value, kind: ast.expr) -> bool:
        """Whether a value has a type that is written as an expression."""
        if isinstance(kind, ast.Constant) and kind.value is None:
            return value is None
        title = qualified_name(kind.value if isinstance(kind, ast.Subscript) else kind) or ""
        inner = kind.slice if isinstance(kind, ast.Subscript) else None
        items = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner] if inner is not None else []
        if title == "Optional":
            return value is None or self._matches(value, items[0])
        if title == "Union":
            return any(self._matches(value, item) for item in items)
        if title == "List":
            return isinstance(value, list) and all(self._matches(each, items[0]) for each in value)
        if title == "Dict":
            return isinstance(value, dict) and all(self._matches(each, items[1]) for each in value.values())
        if title == "Tuple":
            fits = isinstance(value, tuple) and len(value) == len(items)
            return fits and all(self._matches(each, item) for each, item in zip(value, items, strict=True))
        if title in _TYPES:
            return bool(_TYPES[title](value))
        return isinstance(value, Object | NamedTuple | EnumValue) and value.title == title


def _raises(body: Sequence[ast.stmt]) -> bool:
    """Whether a branch ends in an exception."""
    return any(
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and qualified_name(statement.value.func) == "ops.prim.RaiseException"
        for statement in body
    )


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
_STATEMENTS: dict[type, Any] = {
    ast.Assign: Inliner._assign,
    ast.AnnAssign: Inliner._assign,
    ast.Return: Inliner._return,
    ast.Expr: Inliner._expression,
    ast.If: Inliner._if,
    ast.For: Inliner._for,
    ast.While: Inliner._while,
    ast.With: Inliner._with,
    ast.Pass: Inliner._pass,
    ast.Assert: Inliner._assert,
}
_EXPRESSIONS: dict[type, Any] = {
    ast.Constant: Inliner._literal,
    ast.Name: Inliner._name,
    ast.Attribute: Inliner._attribute,
    ast.Subscript: Inliner._subscript,
    ast.List: Inliner._list,
    ast.Tuple: Inliner._tuple,
    ast.Dict: Inliner._dict,
    ast.UnaryOp: Inliner._unary,
    ast.IfExp: Inliner._choice,
    ast.Call: Inliner._call,
}
