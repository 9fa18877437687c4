"""Sampling at places that are data, and folding, in ONNX."""

from __future__ import annotations

from typing import Any

from isomorph.converters.onnx.conv import flat_pads
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops

_MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""What opset 16 called them."""


@rules.imports("GridSample")
def read_grid_sample(node: OnnxNode) -> Value:
    mode: Any = node.attribute("mode", "linear" if node.opset >= 20 else "bilinear")
    padding: Any = node.attribute("padding_mode", "zeros")
    op = ops.GridSample(_MODES.get(mode, mode), padding, bool(node.attribute("align_corners", 0)))
    return node.emit(op, node.value(0), node.value(1))


@rules.imports("AffineGrid")
def read_affine_grid(node: OnnxNode) -> Value:
    size = node.sizes(1)
    if size is None:
        node.refuse("no size")
    return node.emit(ops.AffineGrid(tuple(size[2:]), bool(node.attribute("align_corners", 0))), node.value(0))


@rules.imports("Col2Im")
def read_col2im(node: OnnxNode) -> Value:
    image, block = node.sizes(1), node.ints(2, "block_shape")
    if image is None or block is None:
        node.refuse("no shape of the image or of the block")
    rank = len(image)
    ones, pads = [1] * rank, node.attribute("pads", [0] * 2 * rank)
    op = ops.Col2Im(
        tuple(image),
        block,
        tuple(node.attribute("strides", ones)),
        tuple(zip(pads[:rank], pads[rank:], strict=True)),
        tuple(node.attribute("dilations", ones)),
    )
    return node.emit(op, node.value(0))


@rules.exports(ops.GridSample)
def write_grid_sample(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.GridSample)
    older = {new: old for old, new in _MODES.items()}
    mode = op.mode if export.opset >= 20 else older.get(op.mode, op.mode)
    export.replace("GridSample", node, mode=mode, padding_mode=op.padding_mode, align_corners=int(op.align_corners))


@rules.exports(ops.AffineGrid)
def write_affine_grid(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.AffineGrid)
    (theta,) = node.operands()
    size = export.sizes([theta.shape[0], 1, *op.size], "size")
    export.replace("AffineGrid", node, inputs=[theta, size], align_corners=int(op.align_corners))


@rules.exports(ops.Col2Im)
def write_col2im(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Col2Im)
    export.replace(
        "Col2Im",
        node,
        inputs=[node.inputs[0], export.sizes(op.image_shape, "image"), export.ints(op.block_shape, "block")],
        dilations=op.dilations,
        pads=flat_pads(op.pads),
        strides=op.strides,
    )
