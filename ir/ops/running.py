"""The running product, which needs a loop where a target has it not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.ir.op import TensorType, operation
from isomorph.ir.ops.control import Scan
from isomorph.ir.ops.elementwise import Mul
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.reduce import _Running
from isomorph.ir.ops.shape import ConstantOfShape

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["CumProd"]


@operation
class CumProd(_Running):
    """y = running product of x along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end.

    Differs from ONNX CumProd-26: the axis is an attribute.
    """

    first: ClassVar[int] = 1

    def _accumulated(self, x: Array) -> Array:
        return np.cumprod(x, self.axis, dtype=x.dtype)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """A Scan along the axis, one product a step: with the same roundings."""
        axis = self.axis % x.rank
        rest = (*x.shape[:axis], *x.shape[axis + 1 :])
        body = b.region("product")
        before, step = body.input("before", x.dtype, rest), body.input("step", x.dtype, rest)
        after = body.emit(Mul(), before, step)
        for name, value in (("after", after), ("y", before if self.exclusive else after)):
            body.output(name, value)
        one = b.emit(ConstantOfShape(rest, 1, x.dtype))
        way = (self.reverse,)
        op = Scan((TensorType(x.dtype, rest), x.type), 1, 1, (axis,), (axis,), way, way)
        return b.emit_many(op, one, x, regions=(body.graph,))[1]  # type: ignore[arg-type]
