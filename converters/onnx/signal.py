"""Fourier transforms in ONNX. DFT has its axis as an operand, and undoes the one-sided transform, from opset 20 on."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, Node, Sym, Value, ops
from isomorph.ir.op import normalize_axis

__all__ = ["refuse_dft", "refuse_stft"]

_SHORT = 512
"""Up to this many points a product with a constant matrix is as fast as onnxruntime's kernel for powers of two."""
_LARGEST_MATRIX = 2**24


@rules.imports("DFT")
def read_dft(node: OnnxNode) -> Value:
    x = node.value(0)
    length = _size(node, 1)
    given = node.constant(2) if node.opset >= 20 else None
    default = -2 if node.opset >= 20 else 1
    axis = int(given.ravel()[0]) if given is not None else int(node.attribute("axis", default))
    inverse, onesided = bool(node.attribute("inverse", 0)), bool(node.attribute("onesided", 0))
    if inverse and onesided and x.shape[-1] == 1:
        node.refuse("the inverse of a one-sided transform of real numbers")
    where = normalize_axis(axis, x.rank)
    if onesided and not inverse and x.shape[-1] == 2:
        node.refuse("a one-sided transform of complex numbers")
    return node.emit(ops.DFT(where, inverse, onesided, length), x)


@rules.imports("STFT")
def read_stft(node: OnnxNode) -> Value:
    x, step, window = node.value(0), _size(node, 1), node.optional(2)
    length = _size(node, 3)
    if length is None:
        length = x.shape[1] if window is None else window.shape[0]
    if isinstance(step, Sym) or step is None or isinstance(length, Sym):
        node.refuse("frames whose step or length depends on the shape of the input")
    if window is not None and window.shape != (length,):
        node.refuse(f"a window of another length than the frames' {length}")
    onesided = bool(node.attribute("onesided", 1)) and x.shape[2] == 1
    return node.emit(ops.STFT(int(step), int(length), onesided), x, window)


def _size(node: OnnxNode, position: int) -> Dim | None:
    given = node.sizes(position)
    return given[0] if given else None


@rules.exports(ops.DFT)
def write_dft(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.DFT)
    length = "" if op.length is None else _scalar(export, op.length)
    axis = export.constant(np.asarray(op.axis, np.int64), "axis")
    export.replace(
        "DFT", node, inputs=[node.inputs[0], length, axis], inverse=int(op.inverse), onesided=int(op.onesided)
    )


def _scalar(export: Export, dim: Dim) -> str:
    if not isinstance(dim, Sym):
        return export.constant(np.asarray(dim, np.int64), "length")
    return export.emit("Squeeze", [export.size(dim)])


@rules.exports(ops.STFT)
def write_stft(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.STFT)
    step = export.constant(np.asarray(op.frame_step, np.int64), "frame_step")
    length = export.constant(np.asarray(op.frame_length, np.int64), "frame_length")
    window = node.inputs[1] if len(node.inputs) > 1 else None
    export.replace("STFT", node, inputs=[node.inputs[0], step, window, length], onesided=int(op.onesided))


def refuse_dft(node: Node, opset: int) -> str | None:
    """Short transforms, and those that onnxruntime does not compute exactly, are products with a constant matrix.

    onnxruntime 1.32, float32, 400 points: its kernel for other sizes than powers of two is off by 3e-4 of the RMS of
    the spectrum, the product by 3e-6, in a fiftieth of the time.
    """
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.DFT) and x is not None
    size = x.shape[op.axis]
    count = op.points(size)
    known = not isinstance(size, Sym) and not isinstance(count, Sym)
    if opset < 20:
        return f"opset {opset} has no axis as an operand"
    if known and _is_better_as_matrix(int(count), int(size) * int(count) * 4):  # type: ignore[arg-type]
        return "a product with a constant matrix is faster or closer"
    return None


def refuse_stft(node: Node, opset: int) -> str | None:
    """As for DFT, where the product is a convolution."""
    op = node.op
    assert isinstance(op, ops.STFT)
    if opset < 17 or _is_better_as_matrix(op.frame_length, op.frame_length * op.bins * 4):
        return "a convolution with a constant matrix is faster or closer"
    return None


def _is_better_as_matrix(points: int, elements: int) -> bool:
    power = points & (points - 1) == 0
    return elements <= _LARGEST_MATRIX and (points <= _SHORT or not power)
