"""Complex numbers as pairs of real ones. The IR, like the runtimes it is written for, has none.

A complex tensor of shape (…) is a `Complex`: a real tensor (…, 2) whose last axis has the real and the imaginary parts,
or two real tensors (…). Operations with a complex operand or result have rules of their own, in a second registry,
`complex_rules` (complex_*.py); the importer dispatches by what the operands are and by the type that torch recorded for
the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import promote_types
from isomorph.ir import DType, Parameter, Shape, Sym, TensorType, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.tensors import DerivedTensor

__all__ = [
    "PARTS", "WHOLES", "AnyNumber", "AnyOperand", "Complex", "as_complex", "constant", "in_pairs", "is_real",
    "pairs_of", "real_dtype", "recorded_parts",
]  # fmt: skip

PARTS = {DType.COMPLEX64: DType.FLOAT32, DType.COMPLEX128: DType.FLOAT64}
"""The type of the real and imaginary parts, by complex type."""
WHOLES = {part: whole for whole, part in PARTS.items()}


class Complex:
    """A complex tensor of the program. Made from one form, it has the other one made where that is first asked for.

    pair     (…, 2): real parts, imaginary parts
    parts    real (…), imaginary (…)
    factors  (…, 1) and (…, 2): c and (-d, d) of w = c + di, such that x w = x c + swap(x) (-d, d) in pairs
    """

    __slots__ = ("_factors", "_pair", "_parts", "type")

    def __init__(self, pair: Value | None, parts: tuple[Value, Value] | None = None) -> None:
        self._pair = pair
        self._parts = parts
        self._factors: tuple[Value, Value] | None = None
        kind = pair.type if pair is not None else parts[0].type  # type: ignore[index]
        self.type = TensorType(WHOLES[kind.dtype], kind.shape[:-1] if pair is not None else kind.shape)

    @classmethod
    def of_parts(cls, b: Lowering, real: Value, imaginary: Value) -> Complex:
        """From two tensors, broadcast."""
        shape = broadcast(real.shape, imaginary.shape)
        return cls(None, (_expanded(b, real, shape), _expanded(b, imaginary, shape)))

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def value(self) -> Value | None:
        """The tensor of pairs, if it was made."""
        return self._pair

    def pair(self, b: Lowering) -> Value:
        if self._pair is None:
            assert self._parts is not None
            axis = (self.rank,)
            self._pair = b.emit(ops.Concat(self.rank), *(b.emit(ops.Unsqueeze(axis), part) for part in self._parts))
        return self._pair

    def parts(self, b: Lowering) -> tuple[Value, Value]:
        if self._parts is None:
            assert self._pair is not None
            places = (b.number(place, DType.INT64) for place in (0, 1))
            real, imaginary = (b.emit(ops.Gather(self.rank), self._pair, place) for place in places)
            self._parts = real, imaginary
        return self._parts

    def factors(self, b: Lowering) -> tuple[Value, Value]:
        if self._factors is None:
            if self._parts is not None:
                real, imaginary = (b.emit(ops.Unsqueeze((self.rank,)), part) for part in self._parts)
            else:
                real, imaginary = (
                    b.emit(ops.Slice((self.rank,), (place,), (place + 1,), (1,)), self.pair(b)) for place in (0, 1)
                )
            self._factors = real, b.emit(ops.Mul(), imaginary, constant(b, (-1, 1), imaginary.dtype))
        return self._factors

    def each(self, b: Lowering, change: Callable[[Value], Value]) -> Complex:
        """The same elementwise change of the real and of the imaginary parts."""
        if self._pair is not None:
            return Complex(change(self._pair))
        real, imaginary = self.parts(b)
        return Complex(None, (change(real), change(imaginary)))


AnyNumber: TypeAlias = bool | int | float | complex | Sym
AnyOperand: TypeAlias = Complex | Value | AnyNumber


def pairs_of(parameter: Parameter) -> Parameter:
    """A complex parameter (…) as one of pairs (…, 2), of the same name: a view of the same bytes."""
    data = parameter.data
    part = PARTS[data.dtype]
    shape = (*data.shape, 2)
    view = DerivedTensor(
        part, shape, (data,), lambda array: np.ascontiguousarray(array).view(part.numpy).reshape(shape)
    )
    return Parameter(parameter.name, view, parameter.trainable, parameter.role)


@contextmanager
def recorded_parts(b: Lowering, *last: int) -> Iterator[None]:
    """Inside, the results of the current node count as recorded with real elements and, in pairs, with axes `last`."""
    saved = b.recorded
    b.recorded = [kind and TensorType(PARTS.get(kind.dtype, kind.dtype), (*kind.shape, *last)) for kind in saved]
    try:
        yield
    finally:
        b.recorded = saved


def constant(b: Lowering, values: tuple[float, float], dtype: DType) -> Value:
    """A vector of numbers; equal ones are one constant."""
    return b.number(values, dtype)  # type: ignore[arg-type]


def _expanded(b: Lowering, x: Value, shape: Shape) -> Value:
    return x if x.shape == shape else b.emit(ops.Expand(shape), x)


def _part(dtype: DType) -> DType:
    """The type of the parts of a complex type, of the number itself for a real one."""
    return PARTS.get(dtype, dtype if dtype.is_float else DType.FLOAT32)


def real_dtype(b: Lowering, *operands: AnyOperand) -> DType:
    """The type of the parts of the result: as torch recorded it, else that of the widest operand."""
    known = b.recorded[0] if b.recorded else None
    if known is not None and (known.dtype.is_complex or known.dtype.is_float):
        return _part(known.dtype)
    kinds = [_part(each.dtype) for each in operands if isinstance(each, Complex | Value)]
    result = kinds[0]
    for kind in kinds[1:]:
        result = promote_types(result, kind)
    return result


def _cast(b: Lowering, z: Complex, part: DType) -> Complex:
    return z if PARTS[z.dtype] is part else z.each(b, lambda x: b.cast(x, part))


def as_complex(b: Lowering, x: AnyOperand, part: DType) -> Complex:
    """Any operand as a complex tensor with parts of this type."""
    if isinstance(x, Complex):
        return _cast(b, x, part)
    if isinstance(x, complex):
        return Complex(constant(b, (x.real, x.imag), part))
    if isinstance(x, Value):
        real = b.cast(x, part)
        return Complex(None, (real, _expanded(b, b.number(0, part), real.shape)))
    return Complex.of_parts(b, b.number(x, part), b.number(0, part))


def in_pairs(b: Lowering, x: Value | AnyNumber, part: DType) -> Value:
    """A real operand such that it multiplies or divides pairs."""
    value = b.operand(x, part)  # type: ignore[arg-type]
    return b.emit(ops.Unsqueeze((value.rank,)), value) if value.rank else value


def is_real(x: AnyOperand) -> bool:
    return not isinstance(x, Complex | complex)
