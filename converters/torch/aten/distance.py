"""Distances and similarities of vectors."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import numpy as np

from isomorph.converters.torch.aten.reduce import vector_norm
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Value, ops
from isomorph.ir.op import broadcast


@rules.imports("aten.cosine_similarity.default")
def cosine_similarity(b: Lowering, x1: Value, x2: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-08)

    Both broadcast to one shape; the sum of x1 / max(|x1|, eps) times x2 / max(|x2|, eps).
    """
    left, right = b.promoted(b.floating(x1), b.floating(x2))
    if not left.rank and not right.rank:
        return b.reshape(cosine_similarity(b, b.lined(left), b.lined(right), 0, eps), ())
    shape = broadcast(left.shape, right.shape)
    left, right = (x if x.shape == shape else b.emit(ops.Expand(shape), x) for x in (left, right))
    axis = axis_of(dim, left)

    def unit(x: Value) -> Value:
        length = vector_norm(b, x, 2, axis, keepdim=True)
        return b.emit(ops.Div(), x, b.emit(ops.Max(), length, b.number(eps, x.dtype)))

    return b.emit(ops.ReduceSum((axis,), keepdims=False), b.emit(ops.Mul(), unit(left), unit(right)))


@rules.imports("aten.pairwise_distance.default")
def pairwise_distance(
    b: Lowering, x1: Value, x2: Value, p: float = 2, eps: float = 1e-6, keepdim: bool = False
) -> Value:
    """pairwise_distance(Tensor x1, Tensor x2, float p=2, float eps=1e-06, bool keepdim=False): |x1 - x2 + eps|_p"""
    left, right = b.promoted(x1, x2)
    difference = b.emit(ops.Sub(), left, right)
    return vector_norm(b, b.emit(ops.Add(), difference, b.number(eps, difference.dtype)), p, -1, keepdim)


@rules.imports("aten.cdist.default", "aten._cdist_forward.default")
def cdist(b: Lowering, x1: Value, x2: Value, p: float = 2, compute_mode: int | None = None) -> Value:
    """cdist(Tensor x1, Tensor x2, float p=2, int? compute_mode=None): |x1[..., i, :] - x2[..., j, :]|_p"""
    left = b.emit(ops.Unsqueeze((x1.rank - 1,)), x1)
    right = b.emit(ops.Unsqueeze((x2.rank - 2,)), x2)
    return vector_norm(b, b.emit(ops.Sub(), *b.promoted(left, right)), p, -1)


@rules.imports("aten.pdist.default", "aten._pdist_forward.default")
def pdist(b: Lowering, self: Value, p: float = 2) -> Value:
    """pdist(Tensor self, float p=2): |x[i] - x[j]|_p of all pairs of rows i < j"""
    count = b.static(self.shape[0], "the number of rows")
    first, second = (b.constant(places.astype(np.int64), "rows") for places in np.triu_indices(count, 1))
    left, right = (b.emit(ops.Gather(0), self, places) for places in (first, second))
    return vector_norm(b, b.emit(ops.Sub(), left, right), p, -1)


@rules.imports("aten.dist.default")
def dist(b: Lowering, self: Value, other: Value, p: float = 2) -> Value:
    """dist(Tensor self, Tensor other, Scalar p=2): |x - y|_p of all elements"""
    return vector_norm(b, b.emit(ops.Sub(), *b.promoted(self, other)), p)
