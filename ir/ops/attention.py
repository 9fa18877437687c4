"""Attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.bounds import bounds
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, broadcast, operation
from isomorph.ir.ops.activation import Softmax
from isomorph.ir.ops.elementwise import Add, Equal, GreaterOrEqual, Mul, Where, scalar
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.reduce import ReduceMax
from isomorph.ir.ops.shape import Expand, Range, Reshape, Transpose, Unsqueeze
from isomorph.ir.shapes import Shape, Sym, format_shape

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["MultiHeadAttention", "ScaledDotProductAttention", "leaves_a_key"]


def _check_mask(op: Op, mask: TensorType, dtype: DType, scores: Shape) -> None:
    """Raise DTypeError or ShapeError unless a mask has a type and a shape for scores of this shape."""
    if mask.dtype not in (DType.BOOL, dtype):
        raise DTypeError(f"{op.name}: a mask of bool or {dtype} is needed, not {mask.dtype}")
    together = broadcast(mask.shape, scores)
    grown = len(together) > len(scores) or any(
        isinstance(size, int) and isinstance(known, int) and size != known
        for size, known in zip(together, scores, strict=True)
    )
    op.require(not grown, f"a mask of {format_shape(mask.shape)} is more than scores of {format_shape(scores)} have")


def leaves_a_key(mask: Value) -> bool:
    """Whether every query may attend to some key: the mask is a literal that says so, or never adds -inf."""
    if mask.parameter is None or mask.parameter.role != "constant" or mask.rank == 0:
        return mask.dtype is not DType.BOOL and bounds(mask)[0] > -np.inf
    data = mask.parameter.data.numpy()
    allowed = data if mask.dtype is DType.BOOL else data.astype(np.float64) > -np.inf
    return bool(np.all(np.any(allowed, -1)))


@operation
class ScaledDotProductAttention(Op):
    """y = softmax(scale * q k^T + mask) v, the softmax over the keys.

    Shapes: q (..., L, E); k (..., S, E); v (..., S, V); mask broadcasts to (..., L, S); y (..., L, V).
    mask: bool (True takes part) or floating point (added). `causal` masks key s for query l where s > l.
    `scale` None means 1 / sqrt(E). Dropout is off. A query that may attend to no key gives 0.
    With a `group` of more than 1, axis -3 counts heads, and head h of the queries reads head h // group of the keys.
    See: ONNX Attention-24 (with the errata of onnx 1.23); torch.nn.functional.scaled_dot_product_attention.
    """

    causal: bool = False
    scale: float | None = None
    group: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("q", "k", "v", "mask?")

    def infer(  # type: ignore[override]
        self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        dtype = self.require_same_dtype(q, k, v)
        self.require(min(q.rank, k.rank, v.rank) >= 2, f"matrices are needed, not {q}, {k}, {v}")
        same = k.shape[-1] == q.shape[-1] or isinstance(k.shape[-1], Sym) or isinstance(q.shape[-1], Sym)
        self.require(same, f"queries {q} and keys {k} differ in width")
        same = k.shape[-2] == v.shape[-2] or isinstance(k.shape[-2], Sym) or isinstance(v.shape[-2], Sym)
        self.require(same, f"keys {k} and values {v} differ in number")
        batch = broadcast(q.shape[:-2], *(self._repeated(x).shape[:-2] for x in (k, v)))
        if mask is not None:
            _check_mask(self, mask, dtype, (*batch, q.shape[-2], k.shape[-2]))
        return (TensorType(dtype, (*batch, q.shape[-2], v.shape[-1])),)

    def _repeated(self, x: TensorType) -> TensorType:
        """The type of keys or values with a head for each head of the queries."""
        self.require(self.group == 1 or x.rank >= 3, f"keys {x} have no heads for queries to share")
        return TensorType(x.dtype, (*x.shape[:-3], *(size * self.group for size in x.shape[-3:-2]), *x.shape[-2:]))

    def _repeat(self, b: Builder, x: Value) -> Value:
        if self.group == 1:
            return x
        kept = x.shape[:-2]
        apart = b.emit(Expand((*kept, self.group, *x.shape[-2:])), b.emit(Unsqueeze((x.rank - 2,)), x))
        return b.emit(Reshape(self._repeated(x.type).shape), apart)

    def decompose(self, b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:  # type: ignore[override]
        width = q.shape[-1]
        self.require(
            self.scale is not None or isinstance(width, int), f"the default scale needs a static width, not {q.type}"
        )
        scale = self.scale if self.scale is not None else 1.0 / math.sqrt(int(width))  # type: ignore[arg-type]
        k, v = self._repeat(b, k), self._repeat(b, v)
        swap = (*range(k.rank - 2), k.rank - 1, k.rank - 2)
        kind = q.dtype.numpy
        scores = b.emit(
            MatMul(), b.emit(Mul(), q, b.constant(np.asarray(scale, kind), "scale")), b.emit(Transpose(swap), k)
        )
        low = np.asarray(-np.inf, kind)
        if self.causal:
            queries = b.emit(Unsqueeze((1,)), b.emit(Range(0, 1, q.shape[-2], DType.INT64)))
            keys = b.emit(Range(0, 1, k.shape[-2], DType.INT64))
            scores = b.emit(Where(), b.emit(GreaterOrEqual(), queries, keys), scores, b.constant(low, "minus_infinity"))
        if mask is not None and mask.dtype is DType.BOOL:
            scores = b.emit(Where(), mask, scores, b.constant(low, "minus_infinity"))
        elif mask is not None:
            scores = b.emit(Add(), scores, mask)
        weights = b.emit(Softmax(axis=scores.rank - 1), scores)
        if mask is not None and (self.causal or not leaves_a_key(mask)):
            top = b.emit(ReduceMax((scores.rank - 1,)), scores)
            none = b.emit(Equal(), top, b.constant(low, "minus_infinity"))
            weights = b.emit(Where(), none, scalar(b, 0.0, weights), weights)
        return b.emit(MatMul(), weights, v)

    def evaluate(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:  # type: ignore[override]
        added = None if mask is None else np.where(mask, 0.0, -np.inf).astype(q.dtype) if mask.dtype == bool else mask
        return in_single(self._attended, q, k, v, added)

    def _attended(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        if self.group != 1:
            k, v = np.repeat(k, self.group, -3), np.repeat(v, self.group, -3)
        scale = 1.0 / math.sqrt(q.shape[-1]) if self.scale is None else self.scale
        scores = (q * q.dtype.type(scale)) @ np.swapaxes(k, -1, -2)
        if self.causal:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, scores.dtype.type(-np.inf))
        if mask is not None:
            scores = scores + mask
        none = np.max(scores, -1, keepdims=True) == -np.inf
        return np.where(none, 0, Softmax(axis=-1).formula(scores)) @ v


@operation
class MultiHeadAttention(Op):
    """ScaledDotProductAttention of heads that stand side by side in the last axis; queries share heads of keys.

    Shapes: q (N, L, heads * E); k (N, S, kv_heads * E); v (N, S, kv_heads * V); mask broadcasts to (N, heads, L, S);
    y (N, L, heads * V). Heads h * heads / kv_heads and up read head h of the keys. `scale` None means 1 / sqrt(E).
    See: ONNX Attention-24 (with the errata of onnx 1.23), with operands of rank 3.
    """

    heads: int
    kv_heads: int
    causal: bool = False
    scale: float | None = None

    inputs: ClassVar[tuple[str, ...]] = ("q", "k", "v", "mask?")

    def infer(  # type: ignore[override]
        self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        dtype = self.require_same_dtype(q, k, v)
        self.require(q.rank == k.rank == v.rank == 3, f"operands of rank 3 are needed, not {q}, {k}, {v}")
        self.require(self.heads % self.kv_heads == 0, f"{self.heads} heads do not share {self.kv_heads} evenly")
        width = _width(self, q, self.heads)
        self.require(width == _width(self, k, self.kv_heads), f"the heads of queries {q} and keys {k} differ in width")
        if mask is not None:
            _check_mask(self, mask, dtype, (q.shape[0], self.heads, q.shape[1], k.shape[1]))
        return (TensorType(dtype, (*q.shape[:2], self.heads * _width(self, v, self.kv_heads))),)

    def _apart(self) -> ScaledDotProductAttention:
        """The same over heads on axis 1."""
        return ScaledDotProductAttention(self.causal, self.scale, self.heads // self.kv_heads)

    def decompose(self, b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:  # type: ignore[override]
        def split(x: Value, heads: int) -> Value:
            apart = b.emit(Reshape((*x.shape[:2], heads, _width(self, x.type, heads))), x)
            return b.emit(Transpose((0, 2, 1, 3)), apart)

        keys, values = (split(x, self.kv_heads) for x in (k, v))
        y = b.emit(self._apart(), split(q, self.heads), keys, values, mask)
        joined = b.emit(Transpose((0, 2, 1, 3)), y)
        return b.emit(Reshape((*q.shape[:2], self.heads * _width(self, v.type, self.kv_heads))), joined)

    def evaluate(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:  # type: ignore[override]
        def split(x: Array, heads: int) -> Array:
            return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)

        keys, values = (split(x, self.kv_heads) for x in (k, v))
        y = self._apart().evaluate(split(q, self.heads), keys, values, mask)
        return np.ascontiguousarray(np.swapaxes(y, 1, 2)).reshape(*q.shape[:2], -1)


def _width(op: Op, x: TensorType, heads: int) -> int:
    """The width of one head."""
    width = x.shape[-1]
    op.require(isinstance(width, int) and width % heads == 0, f"{x} does not hold {heads} heads")
    return int(width) // heads  # type: ignore[arg-type]
