"""What a TorchScript method takes and returns: inputs from the user's shapes, names for the results.

The archive says of a tensor argument only that it is one. Shapes and element types come from the user:

    Tensor           x=1,3,224,224 or x=N,3,H,W:float16; float32 where no type is given
    List[Tensor]     one input an element: xs_0=…, xs_1=…; Tuple of tensors the same
    Dict[str, Tensor]  one input an entry: xs_KEY=…
    int, float, bool   a number that is fixed: sr=16000; or an input of shape (): sr=:int64
    List[int]        numbers that are fixed: size=4,5
    an attribute of the root module that the code changes: its number, or the shape in which it is carried as an input
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isomorph.converters.torch.script.source import FunctionCode
from isomorph.converters.torch.script.syntax import qualified_name
from isomorph.converters.torch.script.values import NamedTuple, Object, Value
from isomorph.errors import UsageError
from isomorph.ir import DimRange, DType, Parameter, Shape, Sym, TensorType

__all__ = ["Given", "Signature", "leaves"]

Inputs = Mapping[str, tuple[Shape, DType | None]]


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor input that stands for an argument, or for the number in it where `number` is set."""

    name: str
    number: type | None = None


@dataclass(slots=True)
class Signature:
    """How a method is called.

    tensors    the inputs, in order
    arguments  the arguments by position; `Given` where an input stands
    numbers    what the user fixed, by the name of the argument or attribute
    states     attributes of the root that are carried as inputs and outputs
    """

    tensors: list[tuple[str, TensorType]] = field(default_factory=list)
    arguments: list[Value] = field(default_factory=list)
    numbers: dict[str, Value] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)

    @property
    def dims(self) -> dict[str, DimRange]:
        names = {name for _, kind in self.tensors for dim in kind.shape if isinstance(dim, Sym) for name in dim.names()}
        return {name: DimRange() for name in sorted(names)}

    @classmethod
    def of(cls, method: FunctionCode, root: Object, inputs: Inputs) -> Signature:
        """The signature for what the user says. Raises UsageError that lists all that is missing or unknown."""
        made = cls()
        left = dict(inputs)
        missing = []
        for index, parameter in enumerate(method.parameters[1:], 1):
            kind = _Kind.of(parameter.annotation)
            taken = {name: left.pop(name) for name in list(left) if kind.owns(parameter.arg, name)}
            default = method.default(index)
            if taken:
                made.arguments.append(made._argument(parameter.arg, kind, taken))
            elif default is not None:
                made.arguments.append(default)
            elif kind.optional:
                made.arguments.append(None)
            else:
                missing.append((parameter.arg, kind))
        for name in list(left):
            if name in root.attributes:
                made._state(name, root.attributes[name], left.pop(name))
        _complain(method, missing, left)
        return made

    def _argument(self, name: str, kind: _Kind, taken: Mapping[str, tuple[Shape, DType | None]]) -> Value:
        if kind.container:
            parts = {title: self._tensor(title, *given) for title, given in taken.items()}
            if kind.container == "Dict":
                return {title[len(name) + 1 :]: part for title, part in parts.items()}
            ordered = [parts[title] for title in sorted(parts, key=lambda title: int(title[len(name) + 1 :]))]
            return tuple(ordered) if kind.container == "Tuple" else ordered
        shape, dtype = taken[name]
        if kind.base == "Tensor":
            return self._tensor(name, shape, dtype)
        if kind.base == "List[int]":
            self.numbers[name] = [_fixed(name, dim) for dim in shape]
            return self.numbers[name]
        return self._number(name, kind.base, shape, dtype)

    def _tensor(self, name: str, shape: Shape, dtype: DType | None, number: type | None = None) -> Given:
        self.tensors.append((name, TensorType(dtype or DType.FLOAT32, shape)))
        return Given(name, number)

    def _number(self, name: str, base: str, shape: Shape, dtype: DType | None) -> Value:
        kind = {"int": int, "float": float, "bool": bool, "number": float}.get(base)
        if kind is None:
            raise UsageError(f"the argument {name} is of the type {base}, for which no value can be given")
        if dtype is not None and not shape:
            return self._tensor(name, shape, dtype, kind)
        if dtype is not None or len(shape) != 1:
            raise UsageError(
                f"the argument {name} is one {base}", advice=f"write {name}=3 to fix it, or {name}=:int64 for an input"
            )
        self.numbers[name] = kind(_fixed(name, shape[0]))
        return self.numbers[name]

    def _state(self, name: str, value: Value, given: tuple[Shape, DType | None]) -> None:
        shape, dtype = given
        if isinstance(value, Parameter):
            self.tensors.append((name, TensorType(dtype or value.data.dtype, shape)))
            self.states.append(name)
        elif isinstance(value, bool | int | float) and len(shape) == 1 and dtype is None:
            self.numbers[name] = type(value)(_fixed(name, shape[0]))
        else:
            raise UsageError(f"the attribute {name} is neither a tensor nor a number that can be given")


def _fixed(name: str, dim: Any) -> int:
    if not isinstance(dim, int):
        raise UsageError(f"{name} needs a number, not {dim}")
    return dim


@dataclass(frozen=True, slots=True)
class _Kind:
    """The type of a parameter: `container` "List", "Tuple" or "Dict" of tensors, else `base` its name."""

    base: str
    container: str = ""
    optional: bool = False

    @classmethod
    def of(cls, annotation: ast.expr | None) -> _Kind:
        if annotation is None:
            return cls("Tensor")
        if not isinstance(annotation, ast.Subscript):
            return cls(qualified_name(annotation) or "?")
        title = qualified_name(annotation.value) or "?"
        if title in ("Optional", "Final"):
            inner = cls.of(annotation.slice)
            return cls(inner.base, inner.container, optional=title == "Optional" or inner.optional)
        text = ast.unparse(annotation)
        holds = text.replace("Dict[str, ", "[").removeprefix(title).strip("[]").replace(" ", "")
        tensors = bool(holds) and set(holds.split(",")) <= {"Tensor"}
        return cls(text, title if tensors and title in ("List", "Tuple", "Dict") else "")

    def owns(self, parameter: str, name: str) -> bool:
        """Whether the user's `name` gives (a part of) the parameter."""
        if not self.container:
            return name == parameter
        rest = name[len(parameter) + 1 :]
        return name.startswith(f"{parameter}_") and (self.container == "Dict" or rest.isdecimal())

    def example(self, name: str) -> str:
        if self.container:
            return f"--input {name}_{'KEY' if self.container == 'Dict' else 0}=SHAPE"
        if self.base == "Tensor":
            return f"--input {name}=1,3,224,224"
        return f"--input {name}=2,3" if self.base == "List[int]" else f"--input {name}=1"

    def __str__(self) -> str:
        return f"Optional[{self.base}]" if self.optional else self.base


def _complain(method: FunctionCode, missing: Sequence[tuple[str, _Kind]], unknown: Inputs) -> None:
    listed = ", ".join(f"{each.arg}: {_Kind.of(each.annotation)}" for each in method.parameters[1:])
    if unknown:
        advice = f"the inputs are {listed}" if listed else "it takes no inputs"
        raise UsageError(f"there is no input {', '.join(sorted(unknown))}", advice=advice)
    if missing:
        names = ", ".join(name for name, _ in missing)
        raise UsageError(
            f"the shapes of the inputs are not in a TorchScript file: give {names}",
            because=f"its {method.node.name} takes {listed}",
            advice=" ".join(kind.example(name) for name, kind in missing),
        )


def leaves(value: Value) -> list[tuple[str, Value]]:
    """(name, value) of the parts of a result: "output" for one, "output_0" … for a tuple, the keys of a dict.

    None is left out, and counts. The same names as those of exported programs (program.output_names).
    """
    found = list(_leaves(value, ()))
    named: list[tuple[str, Value]] = []
    taken: set[str] = set()
    for path, leaf in found:
        name = "_".join(path if path and not path[0].isdigit() else ("output", *path))
        while name in taken:
            name += "_"
        taken.add(name)
        if leaf is not None:
            named.append((name, leaf))
    return named


def _leaves(value: Value, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value]]:
    fields = getattr(value, "fields", None) or getattr(value, "_fields", None)
    if isinstance(value, tuple) and (isinstance(value, NamedTuple) or fields):
        for name, item in zip(fields or (), value, strict=True):
            yield from _leaves(item, (*path, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    elif isinstance(value, dict):
        for key, item in value.items():
            text = "".join(char if char.isalnum() or char == "_" else "_" for char in str(key))
            yield from _leaves(item, (*path, text))
    else:
        yield path, value
