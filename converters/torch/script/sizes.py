"""Arithmetic on sizes that traced code carries in tensors: `NumToTensor(x.size(0))`, divided, multiplied, taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script import arithmetic
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import SizeTensor, Value
from isomorph.ir import DType, Sym

__all__ = ["of_sizes"]


def of_sizes(session: Session, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value | None:
    """An operation on tensors whose elements are sizes, on the sizes; None where it is not that."""
    operation = _SIZE_ARITHMETIC.get(name)
    if operation is None or not any(isinstance(each, SizeTensor) for each in args):
        return None
    extra = dict(keywords)
    rounding = extra.pop("rounding_mode", None)
    alpha = args[2] if len(args) == 3 else extra.pop("alpha", 1)
    if extra or alpha != 1 or (name == "div" and rounding not in ("floor", "trunc")):
        return None
    dims = [_size_of(session, each) for each in args[:2]]
    if any(dim is None for dim in dims):
        return None
    if rounding == "trunc" and not all(arithmetic.bounds(dim, session.dims)[0] >= 0 for dim in dims if dim is not None):
        return None
    result = arithmetic.compute(session, operation, dims[::-1] if name == "rsub" else dims)
    return SizeTensor(result) if isinstance(result, int | Sym) and not isinstance(result, bool) else None


def _size_of(session: Session, value: Value) -> Any:
    """The integer that a value is: of a SizeTensor, a number, or a known int64 constant of one element."""
    if isinstance(value, SizeTensor):
        return value.dim
    if isinstance(value, Ref):
        kind = session.kind(value)
        known = session.known(value) if kind.dtype is DType.INT64 and kind.shape == () else None
        return None if known is None else int(known)
    return value if isinstance(value, int | Sym) and not isinstance(value, bool) else None


_SIZE_ARITHMETIC = {
    "add": "add", "sub": "sub", "rsub": "sub", "mul": "mul", "floor_divide": "floordiv", "div": "floordiv",
    "remainder": "remainder", "neg": "neg",
}  # fmt: skip
