"""TorchScript code as a syntax tree.

The code of an archive is a subset of Python's grammar, so Python's own parser reads it; parsing runs nothing. What the
parser could choke on is checked first, and every kind of node that TorchScript does not write is refused.
"""

from __future__ import annotations

import ast
import re

from isomorph.errors import MalformedError

__all__ = ["parse", "qualified_name"]

_LONGEST = 64 << 20
_DEEPEST_BRACKETS = 150
_DEEPEST_BLOCKS = 80
_INDENTED = re.compile(r"^( *)\S", re.MULTILINE)
_LITERAL = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|#[^\n]*")
_BRACKETS = re.compile(r"[()\[\]{}]")
_UNARY_RUN = re.compile(r"(?:[-+~]\s*|\bnot\s+){64}")

_NODES = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AnnAssign, ast.For,
    ast.While, ast.If, ast.With, ast.withitem, ast.Expr, ast.Pass, ast.Assert, ast.Call, ast.keyword, ast.Constant,
    ast.Attribute, ast.Subscript, ast.Slice, ast.Name, ast.List, ast.Tuple, ast.Dict, ast.Load, ast.Store, ast.UnaryOp,
    ast.USub, ast.Not, ast.BoolOp, ast.And, ast.Or, ast.BinOp, ast.Compare, ast.IfExp, ast.operator, ast.cmpop,
    ast.Break, ast.Continue, ast.Delete, ast.Del, ast.Raise,
)  # fmt: skip


def parse(code: bytes, member: str) -> ast.Module:
    """The syntax tree of one code file. Raises MalformedError, naming the member, for everything but TorchScript."""
    try:
        text = code.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("the code is not UTF-8", at=member, because=str(error)) from None
    _check_nesting(text, member)
    try:
        tree = ast.parse(text, member)
        for node in ast.walk(tree):
            if not isinstance(node, _NODES):
                raise MalformedError(
                    f"{type(node).__name__} is not TorchScript", at=f"{member}:{getattr(node, 'lineno', 0)}"
                )
    except SyntaxError as error:
        raise MalformedError("the code cannot be parsed", at=f"{member}:{error.lineno}", because=error.msg) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise MalformedError("the code cannot be parsed", at=member, because=type(error).__name__) from None
    return tree


def _check_nesting(text: str, member: str) -> None:
    """Refuse what would exhaust a recursive parser: size, depth of brackets and blocks, runs of unary operators."""
    if len(text) > _LONGEST:
        raise MalformedError(f"the code has {len(text)} characters, more than {_LONGEST}", at=member)
    deepest = max((len(match[1]) for match in _INDENTED.finditer(text)), default=0)
    if deepest > 2 * _DEEPEST_BLOCKS:
        raise MalformedError(f"blocks are nested deeper than {_DEEPEST_BLOCKS}", at=member)
    bare = _LITERAL.sub("", text)
    depth = 0
    for match in _BRACKETS.finditer(bare):
        depth += 1 if match[0] in "([{" else -1
        if depth > _DEEPEST_BRACKETS:
            raise MalformedError(f"brackets are nested deeper than {_DEEPEST_BRACKETS}", at=member)
    if _UNARY_RUN.search(bare):
        raise MalformedError("unary operators are nested deeper than 64", at=member)


def qualified_name(node: ast.expr) -> str | None:
    """`a.b.c` of a chain of attributes, None of anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))
