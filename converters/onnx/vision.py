"""Detection in ONNX."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.conv import explicit_pads, flat_pads
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Value, ops


@rules.imports("NonMaxSuppression")
def read_non_max_suppression(node: OnnxNode) -> Value:
    most, overlap, score = node.constant(2), node.constant(3), node.constant(4)
    op = ops.NonMaxSuppression(
        node.graph.new_dim("selected"),
        0 if most is None else int(most.ravel()[0]),
        0.0 if overlap is None else float(overlap.ravel()[0]),
        None if score is None else float(score.ravel()[0]),
        bool(node.attribute("center_point_box", 0)),
    )
    return node.emit(op, node.value(0), node.value(1))


@rules.imports("RoiAlign")
def read_roi_align(node: OnnxNode) -> Value:
    op = ops.RoiAlign(
        (int(node.attribute("output_height", 1)), int(node.attribute("output_width", 1))),
        int(node.attribute("sampling_ratio", 0)),
        float(node.attribute("spatial_scale", 1.0)),
        node.attribute("mode", "avg"),
        node.attribute("coordinate_transformation_mode", "half_pixel" if node.opset >= 16 else "output_half_pixel"),
    )
    return node.emit(op, node.value(0), node.value(1), node.value(2))


@rules.imports("MaxRoiPool")
def read_max_roi_pool(node: OnnxNode) -> Value:
    height, width = node.attribute("pooled_shape")
    op = ops.MaxRoiPool((int(height), int(width)), float(node.attribute("spatial_scale", 1.0)))
    return node.emit(op, node.value(0), node.value(1))


@rules.imports("DeformConv")
def read_deform_conv(node: OnnxNode) -> Value:
    w = node.value(1)
    if w.rank != 4:
        node.refuse(f"kernels {w.type}: only images are expressed")
    pads = explicit_pads(node, 2)
    assert not isinstance(pads, str), "the operator has no auto_pad"
    stated = tuple(node.attribute("kernel_shape", w.shape[2:]))
    if stated != w.shape[2:]:
        node.refuse(f"a kernel_shape of {stated} for kernels {w.type}")
    op = ops.DeformConv(
        tuple(node.attribute("strides", (1, 1))),
        pads,
        tuple(node.attribute("dilations", (1, 1))),
        int(node.attribute("group", 1)),
        int(node.attribute("offset_group", 1)),
    )
    return node.emit(op, node.value(0), w, node.value(2), node.optional(3), node.optional(4))


@rules.exports(ops.NonMaxSuppression)
def write_non_max_suppression(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.NonMaxSuppression)
    bounds: list[str | None] = [
        export.ints([op.max_output_boxes], "max_output_boxes"),
        export.constant(np.asarray([op.iou_threshold], np.float32), "iou_threshold"),
        None
        if op.score_threshold is None
        else export.constant(np.asarray([op.score_threshold], np.float32), "score_threshold"),
    ]
    export.replace(
        "NonMaxSuppression", node, inputs=[*node.operands(), *bounds], center_point_box=int(op.center_point_box) or None
    )


@rules.exports(ops.RoiAlign)
def write_roi_align(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.RoiAlign)
    x, rois, places = node.operands()
    export.replace(
        "RoiAlign",
        node,
        inputs=[x, rois, places if places.dtype is DType.INT64 else export.cast(places, DType.INT64)],
        output_height=op.output_size[0],
        output_width=op.output_size[1],
        sampling_ratio=op.sampling_ratio,
        spatial_scale=op.spatial_scale,
        mode=op.mode,
        coordinate_transformation_mode=op.coordinates if export.opset >= 16 else None,
    )


@rules.exports(ops.MaxRoiPool)
def write_max_roi_pool(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.MaxRoiPool)
    export.replace("MaxRoiPool", node, pooled_shape=op.pooled_shape, spatial_scale=op.spatial_scale)


@rules.exports(ops.DeformConv)
def write_deform_conv(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.DeformConv)
    x, w = node.inputs[:2]
    assert x is not None and w is not None
    export.replace(
        "DeformConv",
        node,
        kernel_shape=[int(size) for size in w.shape[2:]],  # type: ignore[arg-type]
        strides=op.strides,
        pads=flat_pads(op.pads),
        dilations=op.dilations,
        group=op.group,
        offset_group=op.offset_group,
    )
