"""What can be known of an operation's results: constants' elements, how many tensors, shapes that the data decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from isomorph.converters.torch.program import Ref
from isomorph.ir import Dim, DType, Sym, TensorType
from isomorph.ir import Value as IRValue
from isomorph.ir.evaluate import evaluate_op
from isomorph.ir.ops.shape import Dims

__all__ = ["count_of", "decided_types", "evaluated"]

TypeOf = Callable[[Any], TensorType]

_KNOWN_BUDGET = 1 << 16
_KNOWN_DEPTH = 64


def evaluated(value: IRValue, done: dict[IRValue, np.ndarray | None], depth: int) -> np.ndarray | None:
    """The elements of a value that is computed from small constants."""
    if value not in done:
        done[value] = None
        size = value.type.size
        small = isinstance(size, int) and size <= _KNOWN_BUDGET
        if value.parameter is not None and value.parameter.role == "constant" and small:
            done[value] = np.asarray(value.parameter.data.numpy())
        elif value.producer is not None and small and depth < _KNOWN_DEPTH and len(done) < 4 * _KNOWN_DEPTH:
            node = value.producer
            pure = not (node.regions or node.op.has_side_state or node.op.is_random or node.op.defines())
            if not pure or not node.op.can_evaluate() or (isinstance(node.op, Dims) and _has_symbols(node.op.dims)):
                return None
            operands = [None if each is None else evaluated(each, done, depth + 1) for each in node.inputs]
            if all(each is None or got is not None for each, got in zip(node.inputs, operands, strict=True)):
                results = evaluate_op(node.op, *operands)
                done.update(zip(node.outputs, results, strict=True))
    return done[value]


def _has_symbols(shape: Sequence[Dim]) -> bool:
    """Whether a size is symbolic."""
    return any(isinstance(dim, Sym) for dim in shape)


def count_of(target: str, args: Mapping[str, Any], kind: TypeOf) -> int | None:
    """How many tensors an operation returns as a list; None if that is not known."""
    name = target.split(".")[1]
    if name in ("meshgrid", "broadcast_tensors"):
        return len(args["tensors"])
    source = args.get("self", args.get("tensor", args.get("condition")))
    if not isinstance(source, Ref):
        return None
    shape = kind(source).shape
    if name == "where":
        return len(shape)
    axis = args.get("dim", 0)
    size = shape[axis] if isinstance(axis, int) and -len(shape) <= axis < len(shape) else None
    if name == "unbind":
        return size if isinstance(size, int) else None
    if name == "split_with_sizes" or target == "aten.split.sizes":
        return len(args.get("split_sizes", args.get("split_size", ())))
    given = args.get("chunks", args.get("split_size", args.get("sections", args.get("indices"))))
    if isinstance(given, tuple):
        return len(given) + 1
    if name == "tensor_split":
        return given if isinstance(given, int) else None
    if not isinstance(given, int) or not isinstance(size, int) or given <= 0:
        return None
    step = given if name == "split" else -(-size // given)
    return max(-(-size // step), 1) if step > 0 else given if name == "chunk" else 1


def decided_types(
    target: str, args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]
) -> list[TensorType] | None:
    """The types of the results of an operation whose sizes the data decide, with a new size; None if they decide none.

    An operation on several outputs that are not all asked for gives empty ones in their place.
    """
    rule = _DECIDED.get(target)
    return None if rule is None else rule(args, kind, new_size)


Rule = Callable[[Mapping[str, Any], TypeOf, Callable[[], Dim]], "list[TensorType] | None"]


def _places(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """nonzero, argwhere: (count, rank)"""
    return [TensorType(DType.INT64, (new_size(), kind(args["self"]).rank))]


def _along_each_axis(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """where(condition): (count,) for each axis"""
    given = kind(args.get("condition", args.get("self")))
    return [TensorType(DType.INT64, (new_size(),))] * given.rank


def _kept(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """torchvision.nms: positions of the boxes that are kept"""
    return [TensorType(DType.INT64, (new_size(),))]


def _selected(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    return [TensorType(kind(args["self"]).dtype, (new_size(),))]


def _indexed(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType] | None:
    """x[mask], with other axes left whole"""
    types = [None if each is None else kind(each) for each in args["indices"]]
    masks = [at for at, each in enumerate(types) if each is not None and each.dtype in (DType.BOOL, DType.UINT8)]
    if len(masks) != 1 or sum(each is not None for each in types) != 1:
        return None
    (at,), source = masks, kind(args["self"])
    behind = source.shape[at + kind(args["indices"][at]).rank :]
    return [TensorType(source.dtype, (*source.shape[:at], new_size(), *behind))]


def _different(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """_unique2, unique_consecutive: (values, inverse, counts), of all elements or of slices along an axis"""
    source, size, axis = kind(args["self"]), new_size(), args.get("dim")
    values: tuple[Dim, ...] = (size,)
    inverse = source.shape
    if axis is not None:
        axis %= max(source.rank, 1)
        values = (*source.shape[:axis], size, *source.shape[axis + 1 :])
        inverse = source.shape[axis : axis + 1]
    return [
        TensorType(source.dtype, values),
        TensorType(DType.INT64, inverse if args.get("return_inverse") else (0,)),
        TensorType(DType.INT64, (size,) if args.get("return_counts") else (0,)),
    ]


def _different_slices(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """unique_dim: (values, inverse, counts), all of them always"""
    return _different({**args, "return_inverse": True, "return_counts": True}, kind, new_size)


def _counted(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """bincount: as many as the largest number, and one more; weights give their type, or float64"""
    weights = None if args.get("weights") is None else kind(args["weights"]).dtype
    dtype = DType.INT64 if weights is None else weights if weights is DType.FLOAT32 else DType.FLOAT64
    return [TensorType(dtype, (new_size(),))]


def _repeated(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    """repeat_interleave(self, repeats, dim): elements or slices, each as often as its number says"""
    source, axis = kind(args["self"]), args.get("dim")
    if axis is None:
        return [TensorType(source.dtype, (new_size(),))]
    axis %= max(source.rank, 1)
    return [TensorType(source.dtype, (*source.shape[:axis], new_size(), *source.shape[axis + 1 :]))]


def _repeated_places(args: Mapping[str, Any], kind: TypeOf, new_size: Callable[[], Dim]) -> list[TensorType]:
    return [TensorType(kind(args["repeats"]).dtype, (new_size(),))]


_DECIDED: dict[str, Rule] = {
    "aten.nonzero.default": _places,
    "aten.argwhere.default": _places,
    "aten.where.default": _along_each_axis,
    "torchvision.nms.default": _kept,
    "aten.masked_select.default": _selected,
    "aten.index.Tensor": _indexed,
    "aten._unique.default": lambda args, kind, new_size: _different(args, kind, new_size)[:2],
    "aten._unique2.default": _different,
    "aten.unique_consecutive.default": _different,
    "aten.unique_dim.default": _different_slices,
    "aten.bincount.default": _counted,
    "aten.repeat_interleave.self_Tensor": _repeated,
    "aten.repeat_interleave.Tensor": _repeated_places,
}
