"""Inlines the code of an archive into one program: calls are entered, known branches taken, known loops unrolled.

The walk is bounded: by its steps, the depth of calls, the length of lists and strings, the number of operations.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from isomorph.converters.torch.script import operations
from isomorph.converters.torch.script.branches import Changes, branch, reachable
from isomorph.converters.torch.script.expressions import Expressions
from isomorph.converters.torch.script.loops import repeat
from isomorph.converters.torch.script.queries import Raised
from isomorph.converters.torch.script.rows import Steps
from isomorph.converters.torch.script.syntax import qualified_name
from isomorph.converters.torch.script.values import (
    Number,
    Object,
    Rows,
    Value,
    describe,
)
from isomorph.converters.torch.script.walk import Return
from isomorph.errors import IsomorphError, MalformedError, UsageError
from isomorph.ir import Dim, Scope, Sym

__all__ = ["Inliner"]


class Inliner(Expressions):
    """Walks code over values; what is to be computed goes to the session."""

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
        raise Return(None if statement.value is None else self._value(statement.value, names))

    def _expression(self, statement: ast.Expr, names: dict[str, Value]) -> None:
        self._value(statement.value, names)

    def _if(self, statement: ast.If, names: dict[str, Value]) -> None:
        condition = self._condition(statement.test, names)
        if isinstance(condition, Number):
            self._undecided(statement, condition, names)
        else:
            self._block(statement.body if condition else statement.orelse, names)

    def _undecided(self, statement: ast.If, condition: Number, names: dict[str, Value]) -> None:
        """A branch that the data decide. One that only raises an exception is a check: a model has none."""
        checks = [_raises(statement.body), _raises(statement.orelse)]
        if checks == [True, False]:
            self._block(statement.orelse, names)
        elif checks == [False, True]:
            self._block(statement.body, names)
        else:
            self._mark()
            follow = [self._follower(body) for body in (statement.body, statement.orelse)]
            branch(self.session, condition, names, reachable(names), *follow)

    def _follower(self, body: Sequence[ast.stmt]) -> Callable[[dict[str, Value], Changes], None]:
        """Runs a branch on variables of its own; what else it changes is noted."""

        def follow(names: dict[str, Value], changes: Changes) -> None:
            frames, scopes, depth = len(self._frames), len(self._scopes), self._depth
            self._changes.append(changes)
            try:
                self._block(body, names)
            except Return:
                self.session.note("prim.If", "a branch that data or a varying size decides returns", self._here())
            except Raised:
                del self._frames[frames:], self._scopes[scopes:]
                self._depth = depth
                raise
            finally:
                self._changes.pop()

        return follow

    def _for(self, statement: ast.For, names: dict[str, Value]) -> None:
        for item in self._items(statement.iter, names):
            self._step(statement)
            if isinstance(item, Rows | Steps):
                self._repeated(statement, item, names)
            else:
                self._bind(statement.target, item, names)
                self._block(statement.body, names)

    def _items(self, node: ast.expr, names: dict[str, Value]) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            limits = [self._value(arg, names) for arg in node.args]
            if not all(isinstance(limit, int | Sym) for limit in limits) or not 1 <= len(limits) <= 3:
                self.session.note("prim.Loop", f"how often a loop runs is {limits[-1]}", self._here())
            if len(limits) == 3 and limits[2] == 0:
                raise MalformedError("a range has the step 0")
            return range(*limits) if all(isinstance(limit, int) for limit in limits) else [Steps.of(*limits)]
        value = self._value(node, names)
        if id(value) in self.session.growing:
            self.session.note("prim.Loop", "a list that a loop appends to is read in it", self._here())
        if isinstance(value, list | tuple | str | dict):
            return list(value)
        raise MalformedError(f"a loop over {describe(value)}")

    def _repeated(self, statement: ast.For, items: Rows | Steps, names: dict[str, Value]) -> None:
        """A loop over as many items as the data or a varying size decide."""
        follow = self._follower(statement.body)

        def body(own: dict[str, Value], changes: Changes, number: Dim) -> None:
            if isinstance(items, Steps):
                item: Value = items.start + number * items.step
            else:
                item = operations.call(self.session, "select", [items.tensor, 0, number], {})
            self._bind(statement.target, item, own)
            follow(own, changes)

        trips = items.count if isinstance(items, Rows) else items.trips(self.session.dims)
        self._mark()
        repeat(self.session, names, reachable(names), body, trips=trips)

    def _while(self, statement: ast.While, names: dict[str, Value]) -> None:
        while True:
            self._step(statement)
            condition = self._condition(statement.test, names)
            if isinstance(condition, Number):
                break
            if not condition:
                return
            self._block(statement.body, names)
        follow = self._follower(statement.body)

        def body(own: dict[str, Value], changes: Changes, number: Dim) -> None:
            follow(own, changes)

        self._mark()
        test = lambda own: self._condition(statement.test, own)  # noqa: E731
        repeat(self.session, names, reachable(names), body, test=test)

    def _mark(self) -> None:
        """Let the session know where the code is."""
        self.session.where = (Scope(tuple(self._scopes)), self._trace())

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


def _raises(body: Sequence[ast.stmt]) -> bool:
    """Whether a branch ends in an exception."""
    return any(
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and qualified_name(statement.value.func) == "ops.prim.RaiseException"
        for statement in body
    )


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
