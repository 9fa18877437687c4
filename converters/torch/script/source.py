"""The code of an archive: its classes and functions by qualified name, and where the user wrote them.

`__torch__.vad.model.Net` is the class Net in `code/__torch__/vad/model.py`. Beside each code file, `….py.debug_pkl`
maps offsets of the code to lines of the user's own files.
"""

from __future__ import annotations

import ast
import bisect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from isomorph.converters.frames import of_torch
from isomorph.converters.torch.script.syntax import parse, qualified_name
from isomorph.errors import MalformedError, ModelError

__all__ = ["ClassCode", "FunctionCode", "Library", "Position", "demangled"]

_STACK = re.compile(r"^(\S[^\n(]*)\((\d+)\): [^\n]+$", re.MULTILINE)
_MANGLED = re.compile(r"\.?___torch_mangle_\d+")


def demangled(title: str) -> str:
    """The name as the user's code has it: `torch.nn.modules.conv.Conv2d` of `__torch__.torch.nn.….Conv2d`."""
    return _MANGLED.sub("", title).removeprefix("__torch__.")


@dataclass(frozen=True, slots=True)
class Position:
    """A line of the user's code, or of the archive's where the user's is not recorded."""

    file: str
    line: int
    code: str = ""

    def frame(self) -> str:
        """The line as a Python traceback has it."""
        return f'File "{self.file}", line {self.line}\n    {self.code}'


@dataclass(eq=False, slots=True)
class FunctionCode:
    """A function or method: its syntax and the member that holds it."""

    title: str
    node: ast.FunctionDef
    member: str

    @property
    def parameters(self) -> list[ast.arg]:
        return self.node.args.args

    def default(self, index: int) -> ast.expr | None:
        """The default of a parameter by position."""
        defaults = self.node.args.defaults
        offset = index - (len(self.parameters) - len(defaults))
        return defaults[offset] if offset >= 0 else None


@dataclass(eq=False, slots=True)
class ClassCode:
    """A class: `kind` is "Module", "NamedTuple", "Enum", "Interface" or "" for a plain class.

    attributes  annotation by name, in order; None for a member of an Enum
    constants   expressions of attributes that the code itself gives (`Final`), and of an Enum's members
    """

    title: str
    kind: str
    member: str
    methods: dict[str, FunctionCode] = field(default_factory=dict)
    attributes: dict[str, ast.expr | None] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()


class Library:
    """All code of an archive. Files are parsed when something in them is asked for.

    members  the code files by name of the member below `code/`, and how to read one
    debug    reads the debug records of a member as plain data, or gives None
    """

    def __init__(self, members: Mapping[str, str], read: Callable[[str], bytes], debug: Callable[[str], Any]) -> None:
        self._members = members
        self._read = read
        self._debug = debug
        self._parsed: dict[str, dict[str, ClassCode | FunctionCode]] = {}
        self._lines: dict[str, _Lines] = {}

    def find(self, title: str) -> ClassCode | FunctionCode | None:
        """The class or function of a qualified name."""
        module, _, name = title.rpartition(".")
        return self._definitions(module).get(name) if self._member(module) else None

    def is_prefix(self, title: str) -> bool:
        """Whether qualified names may go on below this one."""
        folder = title.replace(".", "/")
        return any(member == f"{folder}.py" or member.startswith(f"{folder}/") for member in self._members)

    def class_of(self, title: str) -> ClassCode:
        """The class of a qualified name. Raises MalformedError if the archive has none."""
        found = self.find(title)
        if not isinstance(found, ClassCode):
            raise MalformedError(f"the archive has no code for the class {title}")
        return found

    def position(self, member: str, node: ast.AST) -> Position:
        """Where the user wrote the node."""
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        if member not in self._lines:
            self._lines[member] = _Lines(self._read(self._members[member]), self._records(member))
        return self._lines[member].position(member, line, column)

    def _records(self, member: str) -> Any:
        try:
            return self._debug(f"{self._members[member]}.debug_pkl")
        except ModelError:  # positions are for messages only: an archive without readable ones is as good
            return None

    def _member(self, module: str) -> str | None:
        member = module.replace(".", "/") + ".py"
        return member if member in self._members else None

    def _definitions(self, module: str) -> dict[str, ClassCode | FunctionCode]:
        if module not in self._parsed:
            member = self._member(module)
            path = self._members[member or ""]
            tree = parse(self._read(path), path)
            self._parsed[module] = dict(_definitions(tree, module, member or ""))
        return self._parsed[module]


def _definitions(tree: ast.Module, module: str, member: str) -> Iterator[tuple[str, ClassCode | FunctionCode]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name, _class(node, f"{module}.{node.name}", member)
        elif isinstance(node, ast.FunctionDef):
            yield node.name, FunctionCode(f"{module}.{node.name}", node, member)
        elif not isinstance(node, ast.Assign | ast.Expr):
            raise MalformedError("only classes and functions stand in a code file", at=f"{member}:{node.lineno}")


def _class(node: ast.ClassDef, title: str, member: str) -> ClassCode:
    bases = [qualified_name(base) or "" for base in node.bases]
    made = ClassCode(title, bases[0] if bases else "", member)
    for part in node.body:
        if isinstance(part, ast.FunctionDef):
            made.methods[part.name] = FunctionCode(f"{title}.{part.name}", part, member)
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            made.attributes[part.target.id] = part.annotation
            if part.value is not None:
                made.constants[part.target.id] = part.value
        elif isinstance(part, ast.Assign) and len(part.targets) == 1:
            _assigned(made, part.targets[0], part.value)
        elif not isinstance(part, ast.Pass):
            raise MalformedError(f"the class {title} holds a statement", at=f"{member}:{part.lineno}")
    return made


def _assigned(made: ClassCode, target: ast.expr, value: ast.expr) -> None:
    """`__parameters__ = ["weight", ]`, `__annotations__["0"] = T`, or a member of an Enum."""
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        made.attributes[str(target.slice.value)] = value
    elif isinstance(target, ast.Name) and target.id in ("__parameters__", "__buffers__"):
        names = value.elts if isinstance(value, ast.List) else []
        listed = tuple(str(item.value) for item in names if isinstance(item, ast.Constant))
        if target.id == "__parameters__":
            made.parameters = listed
        else:
            made.buffers = listed
    elif isinstance(target, ast.Name):
        made.attributes.setdefault(target.id, None)
        made.constants[target.id] = value


class _Lines:
    """Offsets of a code file to lines of the user's files, by the debug records beside it.

    The records: ("FORMAT_WITH_STRING_TABLE", texts, [(offset, (source, start, end), tag), …]) with source =
    (indices into texts, index of the file name, first line), or, before torch 1.10, the list alone, sources in full.
    See torch/csrc/jit/serialization/source_range_serialization.cpp.
    """

    def __init__(self, code: bytes, records: Any) -> None:
        self._starts = [0]
        for line in code.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._texts: list[Any] = []
        self._records: list[Any] = []
        self._joined: dict[Any, str] = {}
        tabled = isinstance(records, tuple) and len(records) == 3 and records[0] == "FORMAT_WITH_STRING_TABLE"
        if tabled:
            self._texts = list(records[1])
        listed = records[2] if tabled else records
        if isinstance(listed, list | tuple):
            self._records = [each for each in listed if isinstance(each, tuple) and isinstance(each[0], int)]
        self._offsets = [each[0] for each in self._records]
        if self._offsets != sorted(self._offsets):
            self._records, self._offsets = [], []

    def position(self, member: str, line: int, column: int) -> Position:
        offset = self._starts[min(line - 1, len(self._starts) - 1)] + column if line else 0
        found = bisect.bisect_right(self._offsets, offset) - 1
        try:
            recorded = self._recorded(self._records[found]) if found >= 0 else None
        except (TypeError, ValueError, LookupError):
            recorded = None
        return recorded or Position(f"code/{member}", line)

    def _recorded(self, record: Any) -> Position | None:
        source, start, _ = record[1]
        pieces, name, first = source
        if isinstance(pieces, str):
            text, file = pieces, name
        else:
            key = tuple(pieces)
            if key not in self._joined:
                self._joined[key] = "".join(str(self._texts[index]) for index in pieces)
            text, file = self._joined[key], self._texts[name]
        if not isinstance(file, str) or not file:
            return None
        stack = _STACK.findall(text)
        if stack:  # traced code: the text is the stack of calls, innermost first
            name, line = next((frame for frame in stack if not of_torch(frame[0])), stack[0])
            return Position(name, int(line))
        at = text.count("\n", 0, start)
        lines = text.split("\n")
        return Position(file, int(first) + at, lines[at].strip() if at < len(lines) else "")
