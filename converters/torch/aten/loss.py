"""Loss functions, each of which `torch.export` leaves whole. Reductions are 0 (none), 1 (mean) and 2 (sum)."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math

from isomorph.converters.torch.aten.distance import pairwise_distance
from isomorph.converters.torch.aten.elementwise import add, clamp_min, div, mul, sub
from isomorph.converters.torch.aten.reduce import mean, total
from isomorph.converters.torch.aten.special import log1p, xlogy
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Value, ops

__all__ = ["reduced"]


def reduced(b: Lowering, loss: Value, reduction: int) -> Value:
    """The losses of all elements, or their mean or sum."""
    return loss if reduction == 0 else mean(b, loss) if reduction == 1 else total(b, loss)


def _square(b: Lowering, x: Value) -> Value:
    return b.emit(ops.Mul(), x, x)


def _distance(b: Lowering, self: Value, target: Value) -> Value:
    return b.emit(ops.Abs(), sub(b, self, target))


def _zero_unless(b: Lowering, condition: Value, x: Value) -> Value:
    return b.emit(ops.Where(), condition, x, b.number(0, x.dtype))


@rules.imports("aten.mse_loss.default")
def mse_loss(b: Lowering, self: Value, target: Value, reduction: int = 1) -> Value:
    """mse_loss(Tensor self, Tensor target, int reduction=Mean): (x - t)^2"""
    return reduced(b, _square(b, sub(b, self, target)), reduction)


@rules.imports("aten.l1_loss.default")
def l1_loss(b: Lowering, self: Value, target: Value, reduction: int = 1) -> Value:
    """l1_loss(Tensor self, Tensor target, int reduction=Mean): |x - t|"""
    return reduced(b, _distance(b, self, target), reduction)


@rules.imports("aten.smooth_l1_loss.default")
def smooth_l1_loss(b: Lowering, self: Value, target: Value, reduction: int = 1, beta: float = 1.0) -> Value:
    """smooth_l1_loss(Tensor self, Tensor target, int reduction=Mean, float beta=1.0), d = |x - t|

    d^2 / (2 beta) where d < beta, else d - beta / 2.
    """
    if beta == 0:
        return l1_loss(b, self, target, reduction)
    d = _distance(b, self, target)
    near = b.emit(ops.Less(), d, b.number(beta, d.dtype))
    small = div(b, mul(b, _square(b, d), 0.5), float(beta))
    return reduced(b, b.emit(ops.Where(), near, small, sub(b, d, 0.5 * beta)), reduction)


@rules.imports("aten.huber_loss.default")
def huber_loss(b: Lowering, self: Value, target: Value, reduction: int = 1, delta: float = 1.0) -> Value:
    """huber_loss(Tensor self, Tensor target, int reduction=Mean, float delta=1.0), d = |x - t|

    d^2 / 2 where d < delta, else delta * (d - delta / 2).
    """
    d = _distance(b, self, target)
    near = b.emit(ops.Less(), d, b.number(delta, d.dtype))
    small, large = mul(b, _square(b, d), 0.5), mul(b, sub(b, d, 0.5 * delta), float(delta))
    return reduced(b, b.emit(ops.Where(), near, small, large), reduction)


@rules.imports("aten.soft_margin_loss.default")
def soft_margin_loss(b: Lowering, self: Value, target: Value, reduction: int = 1) -> Value:
    """soft_margin_loss(Tensor self, Tensor target, int reduction=Mean): log(1 + exp(-t x))"""
    return reduced(b, log1p(b, b.emit(ops.Exp(), mul(b, b.emit(ops.Neg(), target), self))), reduction)


@rules.imports("aten.binary_cross_entropy.default")
def binary_cross_entropy(
    b: Lowering, self: Value, target: Value, weight: Value | None = None, reduction: int = 1
) -> Value:
    """binary_cross_entropy(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean)

    -w (t log(x) + (1 - t) log(1 - x)), the logarithms at least -100.
    """
    yes = clamp_min(b, b.emit(ops.Log(), self), -100)
    no = clamp_min(b, log1p(b, b.emit(ops.Neg(), self)), -100)
    loss = sub(b, mul(b, sub(b, target, 1), no), mul(b, target, yes))
    return reduced(b, loss if weight is None else mul(b, loss, weight), reduction)


@rules.imports("aten.binary_cross_entropy_with_logits.default")
def binary_cross_entropy_with_logits(
    b: Lowering,
    self: Value,
    target: Value,
    weight: Value | None = None,
    pos_weight: Value | None = None,
    reduction: int = 1,
) -> Value:
    """binary_cross_entropy_with_logits(self, target, weight?, pos_weight?, int reduction=Mean)

    w ((1 - t) x - (1 + (pos_weight - 1) t) log(sigmoid(x))).
    """
    likely = b.emit(ops.LogSigmoid(), self)
    if pos_weight is not None:
        likely = mul(b, add(b, mul(b, sub(b, pos_weight, 1), target), 1), likely)
    loss = sub(b, mul(b, sub(b, b.number(1, target.dtype), target), self), likely)
    return reduced(b, loss if weight is None else mul(b, loss, weight), reduction)


@rules.imports("aten.kl_div.default")
def kl_div(b: Lowering, self: Value, target: Value, reduction: int = 1, log_target: bool = False) -> Value:
    """kl_div(Tensor self, Tensor target, int reduction=Mean, *, bool log_target=False): t (log(t) - x)"""
    if log_target:
        return reduced(b, mul(b, b.emit(ops.Exp(), target), sub(b, target, self)), reduction)
    return reduced(b, sub(b, xlogy(b, target, target), mul(b, target, self)), reduction)


@rules.imports("aten.poisson_nll_loss.default")
def poisson_nll_loss(
    b: Lowering, input: Value, target: Value, log_input: bool, full: bool, eps: float, reduction: int
) -> Value:
    """poisson_nll_loss(Tensor input, Tensor target, bool log_input, bool full, float eps, int reduction)

    exp(x) - t x, or x - t log(x + eps) without `log_input`; with `full` plus Stirling's log(t!) where t > 1.
    """
    if log_input:
        loss = sub(b, b.emit(ops.Exp(), b.floating(input)), mul(b, target, input))
    else:
        loss = sub(b, input, mul(b, target, b.emit(ops.Log(), add(b, b.floating(input), float(eps)))))
    if full:
        t = b.floating(target)
        whole = sub(b, mul(b, b.emit(ops.Log(), t), t), t)
        stirling = add(b, whole, mul(b, b.emit(ops.Log(), mul(b, t, 2 * math.pi)), 0.5))
        loss = add(b, loss, _zero_unless(b, b.emit(ops.Greater(), t, b.number(1, t.dtype)), stirling))
    return reduced(b, loss, reduction)


@rules.imports("aten.hinge_embedding_loss.default")
def hinge_embedding_loss(b: Lowering, self: Value, target: Value, margin: float = 1.0, reduction: int = 1) -> Value:
    """hinge_embedding_loss(Tensor self, Tensor target, float margin=1.0, int reduction=Mean)

    x where t = 1, max(0, margin - x) where t = -1 (their sum where t is neither).
    """
    apart = clamp_min(b, sub(b, b.number(margin, self.dtype), self), 0)
    one = b.number(1, target.dtype)
    away = _zero_unless(b, b.emit(ops.Not(), b.emit(ops.Equal(), target, one)), apart)
    minus = b.number(-1, target.dtype)
    close = _zero_unless(b, b.emit(ops.Not(), b.emit(ops.Equal(), target, minus)), self)
    return reduced(b, add(b, away, close), reduction)


@rules.imports("aten.margin_ranking_loss.default")
def margin_ranking_loss(
    b: Lowering, input1: Value, input2: Value, target: Value, margin: float = 0.0, reduction: int = 1
) -> Value:
    """margin_ranking_loss(input1, input2, target, float margin=0.0, int reduction=Mean): max(0, margin - t (x - y))"""
    step = mul(b, b.emit(ops.Neg(), target), sub(b, input1, input2))
    return reduced(b, clamp_min(b, add(b, step, margin), 0), reduction)


@rules.imports("aten.cosine_embedding_loss.default")
def cosine_embedding_loss(
    b: Lowering, input1: Value, input2: Value, target: Value, margin: float = 0.0, reduction: int = 1
) -> Value:
    """cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, int reduction=Mean)

    1 - cos where t = 1, max(0, cos - margin) where t = -1; cos = xy / sqrt((xx + 1e-12) (yy + 1e-12)).
    """
    axis = target.rank
    along = total(b, mul(b, input1, input2), axis)
    left = add(b, total(b, mul(b, input1, input1), axis), 1e-12)
    right = add(b, total(b, mul(b, input2, input2), axis), 1e-12)
    cosine = div(b, along, b.emit(ops.Sqrt(), b.floating(mul(b, left, right))))
    same = sub(b, b.number(1, cosine.dtype), cosine)
    other = clamp_min(b, sub(b, cosine, margin), 0)
    positive = _zero_unless(b, b.emit(ops.Equal(), target, b.number(1, target.dtype)), same)
    negative = _zero_unless(b, b.emit(ops.Equal(), target, b.number(-1, target.dtype)), other)
    return reduced(b, add(b, positive, negative), reduction)


@rules.imports("aten.triplet_margin_loss.default")
def triplet_margin_loss(
    b: Lowering,
    anchor: Value,
    positive: Value,
    negative: Value,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 1,
) -> Value:
    """triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-06, swap=False, reduction=Mean)

    max(0, margin + d(a, p) - d(a, n)); with `swap` the smaller of d(a, n) and d(p, n).
    """
    near = pairwise_distance(b, anchor, positive, p, eps)
    far = pairwise_distance(b, anchor, negative, p, eps)
    if swap:
        far = b.emit(ops.Min(), *b.promoted(far, pairwise_distance(b, positive, negative, p, eps)))
    return reduced(b, clamp_min(b, sub(b, add(b, near, float(margin)), far), 0), reduction)


@rules.imports("aten.log_sigmoid_forward.default")
def log_sigmoid_forward(b: Lowering, self: Value) -> tuple[Value | None, ...]:
    """log_sigmoid_forward(Tensor self) -> (output, buffer); the buffer serves gradients and differs by device"""
    return b.emit(ops.LogSigmoid(), self), None
