"""Autocast: operations inside of `torch.autocast` take their operands in another floating-point type than they are in.

The program states no casts there, but the type of each result. What PyTorch's lists of operations would do is told from
the types: an operation that gives its operands' type gives another one only if they were cast to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isomorph.converters.torch.lowering import Lowering
from isomorph.ir import DType, TensorType, Value

__all__ = ["autocast"]

_HALVES = (DType.FLOAT16, DType.BFLOAT16)
_CAST_DOWN = frozenset(
    f"aten.{name}"
    for name in (
        "conv1d", "conv2d", "conv3d", "conv_tbc", "convolution", "_convolution", "conv_transpose1d", "conv_transpose2d",
        "conv_transpose3d", "linear", "matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "addmv", "einsum",
        "prelu", "scaled_dot_product_attention",
    )
)  # fmt: skip
"""What autocast runs in half precision, whatever mix of types the operands have. Source: ATen/autocast_mode.h."""


def autocast(b: Lowering, target: str, arguments: Mapping[str, Any], recorded: TensorType | None) -> Mapping[str, Any]:
    """The arguments as the operation takes them, given the type recorded for its result."""
    if recorded is None or recorded.dtype not in (*_HALVES, DType.FLOAT32):
        return arguments
    kinds = {value.dtype for value in _floats(tuple(arguments.values()))}
    if not kinds or kinds == {recorded.dtype}:
        return arguments
    if recorded.dtype is DType.FLOAT32:
        cast = all(kind in _HALVES for kind in kinds) and len(kinds) == 1
    else:
        cast = target.rpartition(".")[0] in _CAST_DOWN or kinds == {DType.FLOAT32}
    if not cast or "dtype" in arguments:
        return arguments
    return {name: _cast(b, value, recorded.dtype) for name, value in arguments.items()}


def _floats(value: Any) -> Iterator[Value]:
    """The floating-point tensors among the arguments."""
    if isinstance(value, Value):
        if value.dtype.is_float:
            yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _floats(each)


def _cast(b: Lowering, value: Any, dtype: DType) -> Any:
    if isinstance(value, tuple):
        return tuple(_cast(b, each, dtype) for each in value)
    return b.cast(value, dtype) if isinstance(value, Value) and value.dtype.is_float else value
