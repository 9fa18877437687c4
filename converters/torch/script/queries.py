"""Operators that have a value when converting: shapes and types of tensors, numbers, strings, equality, membership."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script import arithmetic, containers
from isomorph.converters.torch.script.emission import emit
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import (
    SCALAR_TYPES,
    Device,
    EnumValue,
    Number,
    Object,
    SizeTensor,
    Value,
    describe,
    is_tensor,
)
from isomorph.errors import MalformedError
from isomorph.ir import DType, Sym

__all__ = ["QUERIES", "Raised"]


class Raised(Exception):
    """The code raises an exception: its message."""


# what tensors are asked


def _size(session: Session, x: Value, dim: Value = None) -> Value:
    shape = session.kind(_tensor(x)).shape
    if dim is None:
        return list(shape)
    if not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        raise MalformedError(f"a tensor of {len(shape)} axes has no axis {dim}", at=session.here())
    return shape[dim]


def _tensor(value: Value) -> Ref | SizeTensor:
    if not isinstance(value, Ref | SizeTensor):
        raise MalformedError(f"{describe(value)} stands where a tensor is expected")
    return value


def _length(session: Session, value: Value) -> Value:
    if isinstance(value, list | tuple | dict | str):
        return len(value)
    shape = session.kind(_tensor(value)).shape
    if not shape:
        raise MalformedError("len() of a scalar tensor")
    return shape[0]


def _rank(session: Session, x: Value) -> Value:
    return session.kind(_tensor(x)).rank


def _numel(session: Session, x: Value) -> Value:
    return session.kind(_tensor(x)).size


def _code_of(dtype: DType) -> int:
    return next(code for code, known in SCALAR_TYPES.items() if known is dtype)


def _dtype(session: Session, x: Value) -> Value:
    return _code_of(session.kind(_tensor(x)).dtype)


def _to_number(kind: type) -> Callable[..., Value]:
    def convert(session: Session, value: Value) -> Value:
        if is_tensor(value):
            return session.item(value, kind)
        if isinstance(value, str):
            try:
                return kind(value)
            except ValueError as error:
                raise MalformedError(f"a string is not {kind.__name__}", because=str(error)) from None
        if not arithmetic.is_number(value):
            raise MalformedError(f"{describe(value)} is no number")
        try:
            return session.convert(value, kind)
        except (ValueError, OverflowError, TypeError) as error:
            raise MalformedError(f"{value} is not {kind.__name__}", because=str(error)) from None

    return convert


def _item(session: Session, x: Value) -> Value:
    if not is_tensor(x):
        return x
    dtype = session.kind(x).dtype
    return session.item(x, bool if dtype is DType.BOOL else float if dtype.is_float else int)


def _num_to_tensor(session: Session, value: Value) -> Value:
    if isinstance(value, int | Sym) and not isinstance(value, bool):
        return SizeTensor(value)
    return _new_tensor(session, value)


def _new_tensor(session: Session, data: Value, dtype: Value = None, **_: Value) -> Value:
    """torch.tensor(data): known numbers become a constant, others are stacked."""
    flat, shape = _flattened(data)
    target = SCALAR_TYPES[dtype] if isinstance(dtype, int) and dtype in SCALAR_TYPES else None
    if target is None:
        kinds = {arithmetic.kind_of(each) for each in flat}
        target = DType.FLOAT32 if float in kinds or not flat else DType.BOOL if kinds == {bool} else DType.INT64
    if not any(isinstance(each, Sym | Number) for each in flat):
        return session.constant(np.asarray(flat, dtype=object).astype(target.numpy).reshape(shape))
    parts = [session.node("aten.scalar_tensor.default", {"s": _given(each), "dtype": target}) for each in flat]
    if not shape:
        return parts[0]
    stacked = session.node("aten.stack.default", {"tensors": tuple(parts)})
    return stacked if len(shape) == 1 else session.node("aten.view.default", {"self": stacked, "size": tuple(shape)})


def _given(value: Value) -> Any:
    return value.computed if isinstance(value, Number) else value


def _flattened(data: Value) -> tuple[list[Value], list[int]]:
    if isinstance(data, list):
        parts = [_flattened(each) for each in data]
        shapes = [shape for _, shape in parts]
        if any(shape != shapes[0] for shape in shapes):
            raise MalformedError("a tensor is made of lists of different lengths")
        return [each for flat, _ in parts for each in flat], [len(data), *(shapes[0] if shapes else [])]
    if not arithmetic.is_number(data):
        raise MalformedError(f"a tensor is made of {describe(data)}")
    return [data], []


def _as_tensor(session: Session, data: Value, dtype: Value = None, **options: Value) -> Value:
    if not is_tensor(data):
        return _new_tensor(session, data, dtype)
    return data if dtype is None else emit(session, "to", (data, dtype), {})


def _to_list(session: Session, x: Value, *_: Value) -> Value:
    known = session.known(session.tensor(x))
    if known is None:
        session.note("prim.tolist", "the elements of a tensor are not known", session.here())
    return known.tolist()


# the rest of what is known when converting


def _raise(session: Session, *args: Value) -> Value:
    message = args[0] if args else ""
    kind = args[1] if len(args) > 1 else ""
    name = kind.rpartition(".")[2] if isinstance(kind, str) else ""
    raise Raised(f"{name}: {message}" if name else str(message))


_LONGEST_TEMPLATE = 1 << 16
_FIELD = re.compile(r"\{\{|\}\}|\{(\d*)(?::[^{}]*)?\}")


def _format(session: Session, template: Value, *args: Value) -> Value:
    if not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE:
        raise MalformedError("format() of something that is not a short string")
    count = iter(range(len(args)))

    def fill(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        index = int(match[1]) if match[1] else next(count, len(args))
        return str(args[index])[:1000] if index < len(args) else match[0]

    return _FIELD.sub(fill, template)[: containers.MAX_LENGTH]


def _range_length(session: Session, low: Value, high: Value, step: Value) -> Value:
    if step == 0:
        raise MalformedError("a range has the step 0")
    if all(isinstance(each, int) for each in (low, high, step)):
        return len(range(low, high, step))
    if not isinstance(step, int):
        raise MalformedError("a range has a step that is not known when converting")
    span = high - low if step > 0 else low - high
    length = (span + (abs(step) - 1)) // abs(step)
    if not isinstance(length, int) and arithmetic.bounds(span, session.dims)[0] < 0:
        return arithmetic.compute(session, "max", [length, 0])
    return length


def _derive_index(session: Session, index: Value, start: Value, step: Value) -> Value:
    return start + index * step


def _is(session: Session, left: Value, right: Value) -> Value:
    if left is None or right is None or isinstance(left, Object):
        return left is right
    return left == right


def _equal(negate: bool, name: str) -> Callable[..., Value]:
    def compare(session: Session, left: Value, right: Value) -> Value:
        others = (str, Device, EnumValue, type(None), Object)
        if isinstance(left, others) or isinstance(right, others):
            return (left == right) is not negate
        if isinstance(left, list | tuple) and isinstance(right, list | tuple):
            return _equal_lists(session, left, right) is not negate
        if arithmetic.is_number(left) and arithmetic.is_number(right):
            return arithmetic.compute(session, name, [left, right])
        return emit(session, name, (left, right), {})

    return compare


def _equal_lists(session: Session, left: Any, right: Any) -> bool:
    if len(left) != len(right):
        return False
    for one, other in zip(left, right, strict=True):
        if isinstance(one, Sym | int) and isinstance(other, Sym | int):
            same = arithmetic.compute(session, "eq", [one, other])
            if not isinstance(same, bool):
                raise MalformedError(f"whether {one} is {other} is not known when converting")
            if not same:
                return False
        elif one != other:
            return False
    return True


def _contains(session: Session, owner: Value, item: Value) -> Value:
    if isinstance(owner, dict | str):
        return item in owner
    if not isinstance(owner, list | tuple):
        raise MalformedError(f"whether {describe(owner)} contains something is not followed")
    decided = [
        arithmetic.compute(session, "eq", [each, item]) if arithmetic.is_number(each) else each == item
        for each in owner
    ]
    if any(result is True for result in decided):
        return True
    if all(result is False for result in decided):
        return False
    raise MalformedError(f"whether {item} is in {owner} is not known when converting")


def _extreme(name: str) -> Callable[..., Value]:
    def extreme(session: Session, *args: Value) -> Value:
        values = list(args[0]) if len(args) == 1 and isinstance(args[0], list) else list(args)
        if any(is_tensor(value) for value in values):
            return emit(session, name, args, {})
        if len(args) == 2 and isinstance(args[0], list):
            return (max if name == "max" else min)(args[0], args[1])
        if not values:
            raise MalformedError(f"{name}() of an empty list")
        result = values[0]
        for value in values[1:]:
            result = arithmetic.compute(session, name, [result, value])
        return result

    return extreme


def _sum(session: Session, values: Value, *args: Value, **keywords: Value) -> Value:
    if not isinstance(values, list):
        return emit(session, "sum", (values, *args), keywords)
    total: Value = 0
    for value in values:
        total = arithmetic.compute(session, "add", [total, value])
    return total


def _constant(value: Value) -> Callable[..., Value]:
    return lambda session, *args, **keywords: value


def _itself(session: Session, value: Value, *args: Value, **keywords: Value) -> Value:
    return value


def _is_floating(session: Session, x: Value) -> Value:
    return session.kind(_tensor(x)).dtype.is_float


def _is_complex(session: Session, x: Value) -> Value:
    return session.kind(_tensor(x)).dtype.is_complex


def _device(session: Session, *args: Value, **keywords: Value) -> Value:
    if args and isinstance(args[0], str):
        name, _, index = args[0].partition(":")
        given = args[1] if len(args) > 1 else int(index) if index.isdecimal() else None
        return Device(name, given if isinstance(given, int) else None)
    return Device("cpu")


QUERIES: dict[str, Callable[..., Value]] = {
    "size": _size, "prim::shape": _size, "dim": _rank, "len": _length, "numel": _numel,
    "prim::dtype": _dtype, "prim::device": _device, "device": _device, "prim::layout": _constant(0),
    "prim::itemsize": lambda s, x: s.kind(_tensor(x)).dtype.itemsize,
    "Int": _to_number(int), "Float": _to_number(float), "Bool": _to_number(bool), "IntImplicit": _to_number(int),
    "FloatImplicit": _to_number(float), "ScalarImplicit": _item, "item": _item,
    "prim::NumToTensor": _num_to_tensor, "tensor": _new_tensor, "as_tensor": _as_tensor, "prim::tolist": _to_list,
    "prim::RaiseException": _raise, "format": _format, "__range_length": _range_length,
    "__derive_index": _derive_index, "__is__": _is, "__isnot__": lambda s, x, y: not _is(s, x, y),
    "eq": _equal(False, "eq"), "ne": _equal(True, "ne"), "__contains__": _contains,
    "prim::max": _extreme("max"), "prim::min": _extreme("min"), "sum": _sum,
    "prim::unchecked_unwrap_optional": _itself, "_unwrap_optional": _itself, "prim::data": _itself,
    "prim::requires_grad": _constant(False), "prim::is_cuda": _constant(False), "prim::is_quantized": _constant(False),
    "prim::is_sparse": _constant(False), "prim::is_mkldnn": _constant(False), "prim::is_nested": _constant(False),
    "prim::is_mps": _constant(False), "prim::is_xpu": _constant(False), "prim::is_meta": _constant(False),
    "prim::is_ort": _constant(False), "prim::is_vulkan": _constant(False), "prim::is_cpu": _constant(True),
    "prim::name": _constant(None), "prim::grad": _constant(None), "prim::type": lambda s, d: d.name,
    "prim::index": lambda s, d: d.index,
    "is_floating_point": _is_floating, "is_complex": _is_complex, "is_grad_enabled": _constant(False),
    "set_grad_enabled": _constant(None), "is_autocast_enabled": _constant(False),
    "is_autocast_cpu_enabled": _constant(False), "warn": _constant(None), "prim::Print": _constant(None),
    "_no_grad_embedding_renorm_": _itself, "has_torch_function": _constant(False), "manual_seed": _constant(None),
    "is_scripting": _constant(True), "prim::is_scripting": _constant(True), "prim::is_tracing": _constant(False),
    "is_contiguous": _constant(True), "cpu": _itself, "cuda": _itself, "get_device": _constant(-1),
    "prim::profile": _itself, "wait": _itself, "prim::AutogradZero": _constant(None),
}  # fmt: skip
"""Operators by name that have a meaning of their own."""
