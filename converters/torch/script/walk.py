"""Where the walk through the code stands: calls, modules, lines; its steps and its depth are bounded."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from isomorph.converters.torch.program import short_class
from isomorph.converters.torch.script.branches import Changes
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.source import ClassCode, FunctionCode, Library, Position, demangled
from isomorph.converters.torch.script.values import (
    NamedTuple,
    Object,
    Value,
)
from isomorph.errors import MalformedError
from isomorph.ir import ScopeEntry

__all__ = ["MAX_STEPS", "Return", "Walk"]

MAX_STEPS = 1_000_000
_DEEPEST_CALL = 120


class Return(Exception):
    """The code returns a value."""

    def __init__(self, value: Value) -> None:
        self.value = value


class Walk:
    """Enters functions and methods of an archive.

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

    def _block(self, body: Sequence[ast.stmt], names: dict[str, Value]) -> None:
        """Run statements on variables."""
        raise NotImplementedError

    def _value(self, node: ast.expr, names: dict[str, Value]) -> Value:
        """The value of an expression."""
        raise NotImplementedError

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
        except Return as returned:
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
