"""The operators of torchvision: boxes, regions of interest, deformable convolutions."""

# ruff: noqa: PLR0917 (the parameters are those of the operators' schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops

_UNBOUNDED = 2**31 - 1


@rules.imports("torchvision.nms.default")
def nms(b: Lowering, dets: Value, scores: Value, iou_threshold: float) -> Value:
    """nms(Tensor dets, Tensor scores, float iou_threshold): which boxes stay, by falling scores"""
    kind = b.recorded[0]
    if kind is None or kind.rank != 1:
        raise b.refusal("the number of boxes that stay is not known")
    bound = np.float32(iou_threshold)
    if float(bound) > iou_threshold:  # overlaps are compared in float32: the next bound below says the same
        bound = np.nextafter(bound, np.float32(-np.inf))
    op = ops.NonMaxSuppression(kind.shape[0], _UNBOUNDED, float(bound))
    boxes, marks = b.emit(ops.Unsqueeze((0,)), dets), b.emit(ops.Unsqueeze((0, 1)), scores)
    chosen = b.emit(op, boxes, marks)
    return b.emit(ops.Gather(1), chosen, b.number(2, DType.INT64))


def _regions(b: Lowering, boxes: Value) -> tuple[Value, Value]:
    """The corners of boxes (R, 5) and the index of the image of each."""
    places, corners = b.emit_many(ops.Split(1, (1, 4)), boxes)
    return corners, b.cast(b.reshape(places, (boxes.shape[0],)), DType.INT64)


@rules.imports("torchvision.roi_align.default")
def roi_align(
    b: Lowering,
    input: Value,
    rois: Value,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Value:
    """roi_align(Tensor input, Tensor rois, float spatial_scale, …): rois (R, 5), (image, x1, y1, x2, y2)"""
    coordinates = "half_pixel" if aligned else "output_half_pixel"
    size = (b.static(pooled_height, "the height"), b.static(pooled_width, "the width"))
    op = ops.RoiAlign(size, max(sampling_ratio, 0), spatial_scale, "avg", coordinates)  # type: ignore[arg-type]
    return b.emit(op, input, *_regions(b, rois))


@rules.imports("torchvision.roi_pool.default")
def roi_pool(
    b: Lowering, input: Value, rois: Value, spatial_scale: float, pooled_height: int, pooled_width: int
) -> Sequence[Value | None]:
    """roi_pool(Tensor input, Tensor rois, float spatial_scale, …) -> (Tensor, Tensor argmax); no argmax"""
    size = (b.static(pooled_height, "the height"), b.static(pooled_width, "the width"))
    return b.emit(ops.MaxRoiPool(size, spatial_scale), input, rois), None


@rules.imports("torchvision.ps_roi_align.default")
def ps_roi_align(
    b: Lowering,
    input: Value,
    rois: Value,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> Sequence[Value | None]:
    """ps_roi_align(…) -> (Tensor, Tensor channels): each cell of a region is read from a channel of its own

    input (N, C * h * w, H, W), y (R, C, h, w): of all channels aligned, those whose cell is their own are kept.
    """
    b.require(sampling_ratio > 0, "as many samples as input cells")
    cells = pooled_height * pooled_width
    op = ops.RoiAlign((pooled_height, pooled_width), sampling_ratio, spatial_scale, "avg", "half_pixel")
    every = b.emit(op, input, *_regions(b, rois))
    count, channels = every.shape[0], b.static(input.shape[1], "the number of channels") // cells
    square = b.reshape(every, (count, channels, cells * cells))
    own = b.emit(ops.Slice((2,), (0,), (None,), (cells + 1,)), square)
    return b.reshape(own, (count, channels, pooled_height, pooled_width)), None


@rules.imports("torchvision.deform_conv2d.default")
def deform_conv2d(
    b: Lowering,
    input: Value,
    weight: Value,
    offset: Value,
    mask: Value,
    bias: Value,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Value:
    """deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, …, bool use_mask)"""
    op = ops.DeformConv(
        (stride_h, stride_w), ((pad_h, pad_h), (pad_w, pad_w)), (dilation_h, dilation_w), groups, offset_groups
    )
    return b.emit(op, input, weight, offset, bias, mask if use_mask else None)
