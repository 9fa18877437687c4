"""Operators of ONNX that are combinations of the IR's ops: EyeLike, CenterCropPad, MelWeightMatrix."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.codec import dtype_of
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.op import normalize_axes
from isomorph.ir.shapes import dim_max


@rules.imports("EyeLike")
def read_eye_like(node: OnnxNode) -> Value:
    """1 where column - row = k, of the shape of the operand."""
    x = node.value(0)
    code, k = node.attribute("dtype"), int(node.attribute("k", 0))
    dtype = x.dtype if code is None else dtype_of(int(code), node.where)
    if x.rank != 2:
        node.refuse(f"a matrix is needed, not {x.type}")
    rows = node.emit(ops.Unsqueeze((1,)), node.emit(ops.Range(k, 1, x.shape[0], DType.INT64)))
    columns = node.emit(ops.Range(0, 1, x.shape[1], DType.INT64))
    return node.emit(ops.Cast(dtype), node.emit(ops.Equal(), columns, rows))


@rules.imports("CenterCropPad")
def read_center_crop_pad(node: OnnxNode) -> Value:
    """Cut, or filled with 0, on both sides alike; an odd cell at the end."""
    x, sizes = node.value(0), node.sizes(1)
    axes = normalize_axes(node.attribute("axes", range(x.rank)), x.rank)
    if sizes is None or len(sizes) != len(axes):
        node.refuse("no size for each axis")
    pads: list[tuple[Dim, Dim]] = [(0, 0)] * x.rank
    starts: list[Dim] = []
    ends: list[Dim] = []
    for axis, wanted in zip(axes, sizes, strict=True):
        missing, cut = dim_max(wanted - x.shape[axis], 0), dim_max(x.shape[axis] - wanted, 0)
        pads[axis] = (missing // 2, missing - missing // 2)
        starts.append(cut // 2)
        ends.append(cut // 2 + wanted)
    y = x
    if any(start != 0 for start in starts) or any(end != x.shape[axis] for axis, end in zip(axes, ends, strict=True)):
        y = node.emit(ops.Slice(axes, tuple(starts), tuple(ends), (1,) * len(axes)), x)
    if any(pair != (0, 0) for pair in pads):
        y = node.emit(ops.Pad(tuple(pads)), y)
    return node.emit(ops.Identity(), x) if y is x else y


@rules.imports("MelWeightMatrix")
def read_mel_weight_matrix(node: OnnxNode) -> Value:
    """The matrix (dft_length // 2 + 1, bins) of triangles over the mel scale, of constant operands.

    Corner i of bins + 2 lies at the frequency whose mel value, 2595 log10(1 + f / 700), is the i-th of evenly spaced
    ones from the lower edge's on. See: ONNX MelWeightMatrix-17, and its reference implementation for the rounding.
    """
    bins, length, rate, low, high = (node.constant(position) for position in range(5))
    if bins is None or length is None or rate is None or low is None or high is None:
        node.refuse("needs five operands")
    code = int(node.attribute("output_datatype", 1))
    count, size = int(bins.item()), int(length.item())
    if not 0 < count * (size // 2 + 1) <= _LARGEST_MATRIX:
        node.refuse(f"a matrix of {size // 2 + 1} x {count}")
    edges = [2595 * np.log1p(float(edge.item()) / 700) / np.log(10) for edge in (low, high)]
    mels = np.arange(count + 2) * ((edges[1] - edges[0]) / (count + 2)) + edges[0]
    hertz = 700 * np.expm1(mels / 2595 * np.log(10))
    corners = ((size + 1) * hertz // int(rate.item())).astype(np.int64)
    matrix = np.zeros((size // 2 + 1, count))
    for index, (left, center, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        if left == center:
            matrix[center, index] = 1
        rising, falling = np.arange(left, center + 1), np.arange(center, right)
        if left < center:
            matrix[rising, index] = (rising - left) / (center - left)
        if center < right:
            matrix[falling, index] = (right - falling) / (right - center)
    made = matrix.astype(dtype_of(code, node.where).numpy)
    return node.graph.builder.constant(made, node.outputs[0])


_LARGEST_MATRIX = 1 << 24
