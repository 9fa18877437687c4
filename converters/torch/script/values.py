"""What an expression of TorchScript is while it is inlined: known data, symbolic numbers, tensors of the program.

None, bool, int, float, complex, str   themselves
Sym                         an integer that depends on the sizes of inputs, or on data (a size named u0, u1, …)
Number                      a float or bool that the program computes
Ref                         a tensor of the program
SizeTensor                  a tensor of shape () whose element is a size, as traced code carries sizes around
Rows                        in a list: as many tensors as a tensor has rows, which may vary
list, dict, tuple           containers; lists and dicts are shared and mutable, as in TorchScript
NamedTuple, EnumValue, Object, Device, and the names that code refers to
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from isomorph.converters.torch.program import Computed, Ref
from isomorph.ir import Dim, DType, Sym

__all__ = [
    "SCALAR_TYPES", "UNINITIALIZED", "Device", "EnumValue", "Function", "Method", "NamedTuple", "Namespace", "Number",
    "Object", "Rows", "SizeTensor", "TypeName", "Value", "describe", "is_tensor",
]  # fmt: skip

Value: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Number:
    """A float or a bool that is computed from data or sizes. kind: float or bool."""

    kind: type
    computed: Computed


@dataclass(frozen=True, slots=True)
class SizeTensor:
    """An int64 tensor of shape () whose element is known as a dimension."""

    dim: Dim


@dataclass(frozen=True, slots=True)
class Rows:
    """Tensors in a list: tensor[0], tensor[1], …, tensor[count - 1]."""

    tensor: Ref
    count: Dim


@dataclass(frozen=True, slots=True)
class Device:
    """A device; where a tensor lies is no part of a model."""

    name: str
    index: int | None = None


class NamedTuple(tuple[Value, ...]):
    """A tuple with field names."""

    fields: tuple[str, ...]
    title: str

    @classmethod
    def of(cls, title: str, fields: tuple[str, ...], values: tuple[Value, ...]) -> NamedTuple:
        made = cls(values)
        made.title, made.fields = title, fields
        return made


@dataclass(frozen=True, slots=True)
class EnumValue:
    """A member of an enumeration."""

    title: str
    name: str
    value: Value


@dataclass(eq=False, slots=True)
class Object:
    """An instance of a class of the archive: a module, or a plain object.

    title       qualified name of its class
    attributes  by name, and `path` is where the module stands below the root ("" for the root and for plain objects)
    """

    title: str
    attributes: dict[str, Value] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of an object, or of what a built-in type has as one."""

    owner: Value
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function or class of the archive, by its qualified name."""

    title: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """A prefix of qualified names: `torch`, `ops.prim`, `__torch__.vad`."""

    title: str


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type where a value is expected (`annotate(List[int], …)`)."""

    text: str


class _Uninitialized:
    def __repr__(self) -> str:
        return "uninitialized"


UNINITIALIZED = _Uninitialized()
"""What `uninitialized(T)` gives: never read where the code is right."""

SCALAR_TYPES = {
    0: DType.UINT8, 1: DType.INT8, 2: DType.INT16, 3: DType.INT32, 4: DType.INT64, 5: DType.FLOAT16, 6: DType.FLOAT32,
    7: DType.FLOAT64, 9: DType.COMPLEX64, 10: DType.COMPLEX128, 11: DType.BOOL, 15: DType.BFLOAT16,
    23: DType.FLOAT8_E5M2, 24: DType.FLOAT8_E4M3FN, 25: DType.FLOAT8_E5M2FNUZ, 26: DType.FLOAT8_E4M3FNUZ,
    27: DType.UINT16, 28: DType.UINT32, 29: DType.UINT64,
}  # fmt: skip
"""c10::ScalarType, by which TorchScript writes element types as ints; source: c10/core/ScalarType.h."""


def is_tensor(value: Value) -> bool:
    """Whether the value is a tensor of any kind."""
    return isinstance(value, Ref | SizeTensor)


def describe(value: Value) -> str:
    """The kind of a value, for an error."""
    if isinstance(value, Object | NamedTuple):
        return value.title
    if isinstance(value, Ref | SizeTensor):
        return "a tensor"
    if isinstance(value, Sym):
        return f"the size {value}"
    if isinstance(value, Number):
        return f"a computed {value.kind.__name__}"
    if isinstance(value, Function | Namespace):
        return value.title
    return "None" if value is None else f"a {type(value).__name__}"
