"""Losses over classes: cross entropy, negative log likelihood and margins between classes."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from isomorph.converters.torch.aten.elementwise import add, clamp_min, div, mul, sub
from isomorph.converters.torch.aten.loss import reduced
from isomorph.converters.torch.aten.reduce import any_of, total
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.shapes import elements


class _Targets:
    """Class indices (N, *D) beside scores (N, C, *D), or () beside (C,); what bears `ignore_index` does not count."""

    def __init__(self, b: Lowering, target: Value, axis: int, weight: Value | None, ignore_index: int) -> None:
        self.axis = axis
        self.counted = b.emit(ops.Not(), b.emit(ops.Equal(), target, b.number(ignore_index, target.dtype)))
        self.index = b.emit(ops.Where(), self.counted, target, b.number(0, target.dtype))
        self.weights = None if weight is None else b.emit(ops.Gather(0), weight, self.index)

    def picked(self, b: Lowering, scores: Value) -> Value:
        """The score of each target's class."""
        if not self.index.rank:
            return b.emit(ops.Gather(0), scores, self.index)
        where = b.emit(ops.Unsqueeze((self.axis,)), b.cast(self.index, DType.INT64))
        return b.emit(ops.Squeeze((self.axis,)), b.emit(ops.GatherElements(self.axis), scores, where))

    def only(self, b: Lowering, x: Value) -> Value:
        """x where the target counts, else 0."""
        return b.emit(ops.Where(), self.counted, x, b.number(0, x.dtype))

    def weight(self, b: Lowering, dtype: DType) -> Value:
        """The sum of the weights of all targets that count."""
        each = b.cast(self.counted, dtype) if self.weights is None else self.only(b, self.weights)
        return total(b, each)


def _likelihood(b: Lowering, scores: Value, targets: _Targets, reduction: int) -> Value:
    loss = b.emit(ops.Neg(), targets.picked(b, scores))
    if targets.weights is not None:
        loss = b.emit(ops.Mul(), loss, targets.weights)
    loss = targets.only(b, loss)
    if reduction == 0:
        return loss
    summed = total(b, loss)
    return summed if reduction == 2 else b.emit(ops.Div(), summed, targets.weight(b, loss.dtype))


@rules.imports("aten.nll_loss.default", "aten.nll_loss_nd.default", "aten.nll_loss2d.default")
def nll_loss(
    b: Lowering,
    self: Value,
    target: Value,
    weight: Value | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
) -> Value:
    """nll_loss_nd(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean, SymInt ignore_index=-100)

    -weight[t] x[t]; the mean is over the weights.
    """
    return _likelihood(b, self, _Targets(b, target, min(1, self.rank - 1), weight, ignore_index), reduction)


@rules.imports("aten.nll_loss_forward.default", "aten.nll_loss2d_forward.default")
def nll_loss_forward(
    b: Lowering, self: Value, target: Value, weight: Value | None, reduction: int, ignore_index: int
) -> tuple[Value, ...]:
    """nll_loss_forward(…) -> (output, total_weight); the weight is 0 without a reduction"""
    targets = _Targets(b, target, min(1, self.rank - 1), weight, ignore_index)
    kept = b.emit(ops.Identity(), b.number(0, self.dtype)) if reduction == 0 else targets.weight(b, self.dtype)
    return _likelihood(b, self, targets, reduction), kept


@rules.imports("aten.cross_entropy_loss.default")
def cross_entropy_loss(
    b: Lowering,
    self: Value,
    target: Value,
    weight: Value | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Value:
    """cross_entropy_loss(self, target, weight?, reduction=Mean, ignore_index=-100, float label_smoothing=0.0)

    The targets are class indices, or probabilities of all classes in the shape of `self`.
    """
    axis = min(1, self.rank - 1)
    scores = b.emit(ops.LogSoftmax(axis), self)
    spread = None if weight is None else b.reshape(weight, (*weight.shape, *(1,) * (self.rank - axis - 1)))
    if target.dtype.is_float:
        return _soft_targets(b, scores, target, spread, reduction, label_smoothing)
    targets = _Targets(b, target, axis, weight, ignore_index)
    loss = _likelihood(b, scores, targets, reduction)
    if not label_smoothing:
        return loss
    every = b.emit(ops.Neg(), total(b, scores if spread is None else b.emit(ops.Mul(), scores, spread), axis))
    every = targets.only(b, every)
    if reduction != 0:
        every = total(b, every)
    if reduction == 1:
        every = b.emit(ops.Div(), every, targets.weight(b, every.dtype))
    classes = b.static(self.shape[axis], "the number of classes")
    return add(b, mul(b, loss, 1.0 - label_smoothing), mul(b, every, label_smoothing / classes))


def _soft_targets(
    b: Lowering, scores: Value, target: Value, weight: Value | None, reduction: int, smoothing: float
) -> Value:
    axis = min(1, scores.rank - 1)
    if smoothing:
        classes = b.static(scores.shape[axis], "the number of classes")
        target = add(b, mul(b, target, 1.0 - smoothing), smoothing / classes)
    loss = mul(b, scores, target)
    loss = b.emit(ops.Neg(), total(b, loss if weight is None else mul(b, loss, weight), axis))
    if reduction == 0:
        return loss
    summed = total(b, loss)
    return summed if reduction == 2 else div(b, summed, b.number(elements(loss.shape), summed.dtype))


@rules.imports("aten.multi_margin_loss.default")
def multi_margin_loss(
    b: Lowering,
    self: Value,
    target: Value,
    p: float = 1,
    margin: float = 1,
    weight: Value | None = None,
    reduction: int = 1,
) -> Value:
    """multi_margin_loss(self (N, C), target (N,), p=1, margin=1, weight?, reduction=Mean)

    sum over classes c != t of max(0, margin - x[t] + x[c])^p weight[t] / C.
    """
    b.require(p in (1, 2), f"p={p}")
    x = self if self.rank == 2 else b.reshape(self, (1, *(self.shape or (1,))))
    t = target if target.rank == 1 else b.reshape(target, (1,))
    column = b.emit(ops.Unsqueeze((1,)), b.cast(t, DType.INT64))
    own = b.emit(ops.GatherElements(1), x, column)
    gap = clamp_min(b, add(b, sub(b, b.number(margin, x.dtype), own), x), 0)
    gap = gap if p == 1 else b.emit(ops.Mul(), gap, gap)
    if weight is not None:
        gap = b.emit(ops.Mul(), gap, b.emit(ops.Gather(0), weight, column))
    classes = b.emit(ops.Range(0, 1, x.shape[1], DType.INT64))
    gap = b.emit(ops.Where(), b.emit(ops.Equal(), classes, column), b.number(0, gap.dtype), gap)
    loss = div(b, total(b, gap, 1), b.number(x.shape[1], gap.dtype))
    loss = loss if target.rank or reduction != 0 else b.reshape(loss, ())
    return reduced(b, loss, reduction)


@rules.imports("aten.multilabel_margin_loss.default")
def multilabel_margin_loss(b: Lowering, self: Value, target: Value, reduction: int = 1) -> Value:
    """multilabel_margin_loss(self (N, C), target (N, C), int reduction=Mean)

    sum over labels t (up to the first -1) and classes c that are none, of max(0, 1 - x[t] + x[c]) / C.
    """
    x, t = (each if each.rank == 2 else b.reshape(each, (1, *(each.shape or (1,)))) for each in (self, target))
    ended = b.cast(b.emit(ops.Less(), t, b.number(0, t.dtype)), DType.INT64)
    listed = b.emit(ops.Equal(), b.emit(ops.CumSum(1), ended), b.number(0, DType.INT64))
    index = b.emit(ops.Where(), listed, t, b.number(0, t.dtype))
    own = b.emit(ops.Unsqueeze((2,)), b.emit(ops.GatherElements(1), x, index))
    gap = clamp_min(b, add(b, sub(b, b.number(1, x.dtype), own), b.emit(ops.Unsqueeze((1,)), x)), 0)
    classes = b.emit(ops.Range(0, 1, x.shape[1], t.dtype))
    labels = b.emit(ops.Unsqueeze((2,)), listed)
    hit = b.emit(ops.And(), b.emit(ops.Equal(), b.emit(ops.Unsqueeze((2,)), index), classes), labels)
    free = b.emit(ops.Not(), any_of(b, hit, 1, keepdim=True))
    gap = b.emit(ops.Where(), b.emit(ops.And(), labels, free), gap, b.number(0, gap.dtype))
    loss = div(b, total(b, gap, (1, 2)), b.number(x.shape[1], gap.dtype))
    return reduced(b, loss if self.rank == 2 or reduction else b.reshape(loss, ()), reduction)
