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

__all__ = ["SAME_TYPE", "count_of", "decided_shape", "evaluated"]

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


SAME_TYPE = frozenset({"aten.masked_select.default", "aten.index.Tensor"})


def decided_shape(target: str, args: Mapping[str, Any], kind: TypeOf) -> tuple[Dim | None, ...] | None:
    """The shape of what an operation returns, None for the size that the data decide; None if they decide nothing."""
    if target in ("torchvision.nms.default", "aten.masked_select.default", "aten.where.default"):
        return (None,)
    if target in ("aten.nonzero.default", "aten.argwhere.default"):
        return (None, kind(args["self"]).rank)
    if target == "aten.index.Tensor":
        types = [None if each is None else kind(each) for each in args["indices"]]
        masks = [at for at, each in enumerate(types) if each is not None and each.dtype in (DType.BOOL, DType.UINT8)]
        if len(masks) == 1 and sum(each is not None for each in types) == 1:
            (at,), source = masks, kind(args["self"]).shape
            return (*source[:at], None, *source[at + kind(args["indices"][at]).rank :])
    return None
