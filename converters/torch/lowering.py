"""The builder that ATen rules emit through: `Builder`, and what PyTorch's conventions need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from isomorph.converters.torch.promotion import Number, Operand, result_type
from isomorph.ir import Builder, Dim, DType, Graph, Op, Parameter, Region, Shape, Sym, TensorType, Value, ops
from isomorph.ir.op import normalize_axis
from isomorph.ir.shapes import elements
from isomorph.ir.tensors import DerivedTensor

__all__ = ["Lowering", "Refusal", "axes_of", "axis_of"]

_OVERFLOWING = (DType.FLOAT8_E5M2, DType.FLOAT8_E4M3FNUZ, DType.FLOAT8_E5M2FNUZ)
"""Where PyTorch gives infinity or NaN for what is too large; it gives the largest number of float8_e4m3fn."""


class Refusal(Exception):
    """What the current node asks for cannot be expressed; the text is the reason."""


class Lowering(Builder):
    """Builds the graph of one program. `current` is the name of the program node that is being lowered.

    `reserved` names belong to tensors of the program: what a rule emits on the way is called `<current>.<op>`.
    `recorded` has the types that torch recorded for the outputs of the current node, where known. `bound` has the
    named dimensions whose sizes are known so far: those of the inputs, and those that the data decided.
    """

    def __init__(self, name: str, reserved: Collection[str], *, graph: Graph | None = None) -> None:
        super().__init__(name, graph=graph)
        self.reserve(reserved)
        self._numbers: dict[tuple[DType, str], Value] = {}
        self._reshaped: dict[tuple[Parameter, Shape], Parameter] = {}
        self._converted: dict[tuple[Parameter, DType], Parameter] = {}
        self.bound: set[str] = set()
        self.current = ""
        self.recorded: list[TensorType | None] = []

    def is_taken(self, name: str) -> bool:
        return name in self._reserved or super().is_taken(name)

    def claim(self, value: Value, name: str) -> None:
        """Give the value the name of a tensor of the program, which is reserved for it."""
        self._names.discard(value.name)
        self._names.add(name)
        value.name = name
        if value.producer is not None and value.producer.outputs[0] is value:
            value.producer.name = name

    def region(self, name: str) -> Lowering:
        """A builder of a region of the node to come; weights made from others are the same in it."""
        inner = Lowering(name, self._reserved, graph=Region(name))
        inner._scope, inner._origin = self._scope, self._origin
        inner._reshaped, inner._converted = self._reshaped, self._converted
        inner.bound, inner.current = set(self.bound), self.current
        return inner

    def _default_name(self, op: Op) -> str:
        return f"{self.current}.{op.name}"

    def bind(self, dim: Sym, value: Value) -> None:
        """Let a named dimension have the value of an integer of shape () from here on."""
        self.emit(ops.BindDim(dim), self.cast(value, DType.INT64))
        self.bound |= dim.names()

    def refusal(self, reason: str) -> Refusal:
        """The error to raise where the current node cannot be expressed."""
        return Refusal(reason)

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the current node unless the condition holds."""
        if not condition:
            raise Refusal(reason)

    def number(self, value: Number, dtype: DType) -> Value:
        """A number as a tensor of shape (); equal numbers are one constant."""
        if isinstance(value, Sym):
            return self.cast(self.emit(ops.Dims((value,), scalar=True)), dtype)
        key = (dtype, repr(value))
        if key not in self._numbers:
            array = np.asarray(value)
            if array.dtype == object:  # np.bool(Value) would be True
                raise TypeError(f"a {type(value).__name__} stands where a number is expected")
            self._numbers[key] = self.constant(array.astype(dtype.numpy), "scalar")
        return self._numbers[key]

    def cast(self, value: Value, dtype: DType) -> Value:
        """The value in this element type; itself if it has it."""
        return value if value.dtype is dtype else self.emit(ops.Cast(dtype, dtype not in _OVERFLOWING), value)

    def operand(self, value: Operand, dtype: DType) -> Value:
        """A tensor or a number as a tensor of this element type."""
        return self.cast(value, dtype) if isinstance(value, Value) else self.number(value, dtype)

    def promoted(self, *operands: Operand) -> tuple[Value, ...]:
        """All operands in their common element type, of shapes that broadcast."""
        dtype = result_type(*operands)
        return self.aligned(*(self.operand(operand, dtype) for operand in operands))

    def aligned(self, *values: Value) -> tuple[Value, ...]:
        """The values, reshaped where torch took two expressions for one size: (N - 3) // 4 and (N - 1) // 4, say.

        torch has seen to it that they are equal; the Reshape fails where they are not.
        """
        known: dict[int, Sym] = {}
        made = []
        for value in values:
            shape = list(value.shape)
            for place, dim in enumerate(reversed(value.shape), start=1):
                if isinstance(dim, Sym):
                    shape[-place] = known.setdefault(place, dim)
            made.append(self.reshape(value, shape))
        return tuple(made)

    def floating(self, value: Value) -> Value:
        """The value as torch's floating-point functions take it: integers and bools become float32."""
        return value if value.dtype.is_float or value.dtype.is_complex else self.cast(value, DType.FLOAT32)

    def lined(self, value: Value) -> Value:
        """The value with at least one axis: a scalar as a vector of one element."""
        return value if value.rank else self.reshape(value, (1,))

    def reshape(self, value: Value, shape: Iterable[Dim]) -> Value:
        """The value under another shape; a weight of the model is viewed, not computed."""
        target = tuple(shape)
        if target == value.shape:
            return value
        if value.parameter is not None and all(isinstance(dim, int) for dim in target):
            return self.parameter(self._view(value.parameter, target))
        return self.emit(ops.Reshape(target), value)

    def _view(self, parameter: Parameter, shape: Shape) -> Parameter:
        key = (parameter, shape)
        if key not in self._reshaped:
            data = parameter.data.reshaped([int(dim) for dim in shape if isinstance(dim, int)])
            self._reshaped[key] = Parameter(parameter.name, data, parameter.trainable, parameter.role)
        return self._reshaped[key]

    def converted(self, value: Value, dtype: DType) -> Value:
        """As `cast`; a tensor that the model stores is stored in this type."""
        stored = value.parameter
        if stored is None or value.dtype is dtype:
            return self.cast(value, dtype)
        key = (stored, dtype)
        if key not in self._converted:
            source = stored.data
            data = DerivedTensor(dtype, source.shape, (source,), lambda array: array.astype(dtype.numpy))
            self._converted[key] = Parameter(stored.name, data, stored.trainable, stored.role)
        return self.parameter(self._converted[key])

    def size(self, sizes: Sequence[Dim], source: Shape) -> Shape:
        """A target shape with -1 resolved against the elements of `source`."""
        if -1 not in sizes:
            return tuple(sizes)
        rest = elements(size for size in sizes if size != -1)
        missing = elements(source) // rest if rest != 0 else 0
        return tuple(missing if size == -1 else size for size in sizes)

    def static(self, dim: Dim, what: str) -> int:
        """The dimension as an int; refuses a symbolic one."""
        if isinstance(dim, Sym):
            raise Refusal(f"{what} is the symbolic size {dim}; a static one is needed")
        return dim


def axis_of(dim: int, value: Value) -> int:
    """A nonnegative axis; 0 and -1 are allowed for a scalar, as in PyTorch."""
    return normalize_axis(dim, max(value.rank, 1), "dim")


def axes_of(dims: Sequence[int] | int | None, value: Value) -> tuple[int, ...]:
    """Sorted nonnegative axes; None and an empty list mean all."""
    if dims is None or dims == ():
        return tuple(range(value.rank))
    listed = (dims,) if isinstance(dims, int) else dims
    return tuple(sorted({axis_of(dim, value) for dim in listed})) if value.rank else ()
