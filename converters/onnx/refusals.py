"""What ONNX of an opset cannot take: each refusal is a reason, and the op is put together from others instead.

What has no decomposition is reported with its reason (see ir/passes/legalize.py), which says what can express it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx

from isomorph.converters.onnx.attention import refuse_attention
from isomorph.converters.onnx.definitions import TYPE_NAMES, history
from isomorph.converters.onnx.norm import smallest_epsilon
from isomorph.converters.onnx.pool import refuse_average, refuse_ceil, refuse_global, refuse_indices, refuse_lp_pool
from isomorph.converters.onnx.preserved import versions
from isomorph.converters.onnx.quant import refuse_quantization
from isomorph.converters.onnx.random import refuse_random
from isomorph.converters.onnx.resize import scales_give_sizes
from isomorph.converters.onnx.rotary import refuse_rotary
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.signal import refuse_dft, refuse_stft
from isomorph.ir import DType, Layout, Node, Op, ops

__all__ = ["ONNX_NAMES", "SINCE", "is_younger", "refuse", "refuse_types", "takes"]

SINCE: dict[type[Op], int] = {
    ops.LayerNormalization: 17,
    ops.GroupNormalization: 21,
    ops.RMSNormalization: 23,
    ops.Gelu: 20,
    ops.HardSwish: 14,
    ops.Mish: 18,
    ops.Swish: 24,
    ops.Trilu: 14,
    ops.GridSample: 16,
    ops.AffineGrid: 20,
    ops.Col2Im: 18,
    ops.DeformConv: 19,
    ops.BitwiseAnd: 18,
    ops.BitwiseOr: 18,
    ops.BitwiseXor: 18,
    ops.BitwiseNot: 18,
    ops.TensorScatter: 24,
    ops.BitCast: 26,
    ops.CumProd: 26,
    ops.MultiHeadAttention: 23,
    ops.ScaledDotProductAttention: 23,
    ops.RotaryEmbedding: 23,
}
"""The opset that introduced an op in the form that the IR follows. See: the operator changelog of ONNX."""


@cache
def is_younger(name: str, since: int, opset: int) -> bool:
    """Whether a newer opset introduced an operator of the name, or the form of it that the IR follows (`since`)."""
    if opset < since or not onnx.defs.has(name):
        return opset < since
    try:
        onnx.defs.get_schema(name, opset)
    except onnx.defs.SchemaError:
        return True
    return False


def refuse(node: Node, opset: int) -> str | None:
    op = node.op
    if rules.exporter(type(op)) is None:
        return "ONNX has no such operator"
    if opset < SINCE.get(type(op), 0):
        return f"opset {opset} has it only from {SINCE[type(op)]} on"
    if getattr(op, "layout", Layout.CHANNELS_FIRST) is not Layout.CHANNELS_FIRST:
        return "ONNX has windowed operators for channels-first data only"
    if (
        isinstance(
            op,
            ops.BatchNormalization
            | ops.InstanceNormalization
            | ops.GroupNormalization
            | ops.LocalResponseNormalization,
        )
        and op.axis != 1
    ):
        return f"ONNX has it for channels on axis 1, not {op.axis}"
    check = _CHECKS.get(type(op))
    reason = check(node, opset) if check is not None else None
    return reason if reason is not None else refuse_types(node, opset)


def refuse_types(node: Node, opset: int) -> str | None:
    """The element types of operands and results against the operator's schema, where the IR's operands are ONNX's."""
    if isinstance(node.op, ops.OneHot | ops.Embedding | ops.Recurrent | ops.Preserved) or node.regions:
        return None
    name = ONNX_NAMES.get(type(node.op), node.op.name)
    for values, outputs in ((node.inputs, False), (node.outputs, True)):
        for position, value in enumerate(values):
            if value is not None and not takes(name, opset, value.dtype, position, outputs):
                return (
                    f"opset {opset} has it not for {value.dtype}, {_since_when(name, value.dtype, position, outputs)}"
                )
    return None


@cache
def _since_when(name: str, dtype: DType, position: int, outputs: bool) -> str:
    """Since when an operator takes the element type."""
    since = [
        schema.since_version
        for schema in history(name)
        if not schema.deprecated and takes(name, schema.since_version, dtype, position, outputs)
    ]
    return f"only from {min(since)} on" if since else "no opset has"


@cache
def takes(name: str, opset: int, dtype: DType, position: int, outputs: bool) -> bool:
    """Whether the ONNX operator of this name, if there is one, takes (or gives) this element type there."""
    try:
        schema = onnx.defs.get_schema(name, opset)
    except onnx.defs.SchemaError:
        return True
    formal = schema.outputs if outputs else schema.inputs
    return not formal or TYPE_NAMES[dtype] in formal[min(position, len(formal) - 1)].types


ONNX_NAMES: dict[type[Op], str] = {
    ops.Linear: "Gemm",
    ops.LocalResponseNormalization: "LRN",
    ops.MaxPoolWithIndices: "MaxPool",
}


def _refuse_linear(node: Node, opset: int) -> str | None:
    x = node.inputs[0]
    return None if x is not None and x.rank == 2 else "Gemm takes matrices only"


def _refuse_lp(node: Node, opset: int) -> str | None:
    """ONNX gives 0 where the norm is 0; the IR does so with the smallest epsilon (see read_lp_normalization)."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.LpNormalization) and x is not None
    plain = len(op.axes) == 1 and op.epsilon == smallest_epsilon(x.dtype)
    return None if plain else "LpNormalization has one axis and no epsilon"


def _refuse_lrn(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.LocalResponseNormalization)
    return None if node.op.size % 2 else "runtimes take windows of odd sizes only"


def _refuse_group_norm(node: Node, opset: int) -> str | None:
    """onnxruntime runs the function body of ONNX, in which one size is left open: of nothing, it may be any."""
    return "onnxruntime cannot expand it over no elements" if 0 in node.output.shape else _refuse_double(node, opset)


def _refuse_double(node: Node, opset: int) -> str | None:
    x = node.inputs[0]
    return "ONNX takes the statistics in float32" if x is not None and x.dtype is DType.FLOAT64 else None


def _refuse_scatter(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.ScatterElements | ops.ScatterND)
    since = {"none": 0, "add": 16, "mul": 16}.get(node.op.reduction, 18)
    return f"opset {opset} has the reduction {node.op.reduction!r} only from {since} on" if opset < since else None


def _refuse_resize(node: Node, opset: int) -> str | None:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Resize) and x is not None
    known = x.type.is_static and node.output.type.is_static
    if known and x.dtype in (DType.BOOL, DType.INT16, DType.INT64, DType.FLOAT64):
        return f"onnxruntime has no kernel for {x.dtype}"
    if op.antialias and opset < 18:
        return f"opset {opset} has antialias only from 18 on"
    return None if scales_give_sizes(op, x.shape[2:]) else "ONNX computes other sizes from its scales"


_WITHOUT_KERNEL: dict[type[Op], frozenset[DType]] = {
    ops.Where: frozenset({DType.BOOL, DType.INT16}),
    ops.Trilu: frozenset({DType.UINT8, DType.INT8, DType.INT16}),
    ops.Pad: frozenset({DType.INT16}),
    ops.DepthToSpace: frozenset({DType.BOOL, DType.INT16, DType.INT32, DType.INT64}),
    ops.SpaceToDepth: frozenset({DType.BOOL, DType.INT16, DType.INT32, DType.INT64}),
    ops.OneHot: frozenset({DType.BOOL, DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.FLOAT64}),
}
"""Element types for which ONNX has an operator and onnxruntime 1.32 no kernel (on the CPU): the op is put together."""


def _refuse_kernel(node: Node, opset: int) -> str | None:
    lacking = _WITHOUT_KERNEL[type(node.op)]
    return f"onnxruntime has no kernel for {node.output.dtype}" if node.output.dtype in lacking else None


def _refuse_pad(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.Pad)
    if (reason := _refuse_kernel(node, opset)) is not None and all(
        isinstance(size, int) for pair in node.op.pads for size in pair
    ):
        return reason
    return f"opset {opset} has the mode 'wrap' only from 19 on" if node.op.mode == "wrap" and opset < 19 else None


def _refuse_reshape(node: Node, opset: int) -> str | None:
    """Before opset 14 a size of 0 means the operand's size on that axis."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Reshape) and x is not None
    copied = all(axis < x.rank and x.shape[axis] == 0 for axis, dim in enumerate(op.shape) if dim == 0)
    return None if copied or opset >= 14 else f"opset {opset} has sizes of 0 only from 14 on"


def _refuse_swish(node: Node, opset: int) -> str | None:
    return "onnxruntime has no kernel for it, and its function body ends at opset 24" if opset > 24 else None


def _refuse_cast(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.Cast)
    if node.origin.framework == "onnx":
        return None
    text = node.op.to is DType.STRING or any(value.dtype is DType.STRING for value in node.operands())
    return "how numbers are spelled as text differs between runtimes" if text else None


def _refuse_recurrent(node: Node, opset: int) -> str | None:
    named = node.op.operands(node.inputs)  # type: ignore[attr-defined]
    x = node.inputs[0]
    if named.get("proj") is not None:
        return "ONNX has no projection of the state"
    if x is not None and x.dtype is DType.FLOAT64:
        return "onnxruntime has no kernel for float64"
    if x is not None and not takes(node.op.name, opset, x.dtype, 0, False):
        return f"opset {opset} has it not for {x.dtype}"
    return None


def _refuse_sampling(node: Node, opset: int) -> str | None:
    x = node.inputs[0]
    volume = x is not None and x.rank != 4 and opset < 20
    return f"opset {opset} samples images only" if volume else None


def _refuse_grid(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.AffineGrid)
    alone = node.op.align_corners and 1 in node.op.size
    return "the corners of a single cell are at -1 there, not at 0" if alone else None


def _refuse_regions(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.RoiAlign)
    older = opset < 16 and node.op.coordinates == "half_pixel"
    return f"opset {opset} has half_pixel only from 16 on" if older else None


def _refuse_dropout(node: Node, opset: int) -> str | None:
    """A file of ONNX is for inference; one that has Dropout keeps it."""
    return None if node.origin.framework == "onnx" else "it does nothing at inference"


def _refuse_preserved(node: Node, opset: int) -> str | None:
    op = node.op
    assert isinstance(op, ops.Preserved)
    if op.framework != "onnx":
        return f"it is an operator of {op.framework}"
    low, high = versions(node)
    if low <= opset <= high:
        return None
    written = f"opset {low} can" if low == high else f"opsets {low} to {high} can"
    return f"opset {opset} defines it otherwise than opset {op.version}; {written} say it"


def _refuse_mod(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.Mod)
    x = node.inputs[0]
    return (
        "Mod of floating-point numbers needs fmod" if x is not None and x.dtype.is_float and not node.op.fmod else None
    )


_CHECKS: dict[type[Op], Callable[[Node, int], str | None]] = {
    ops.Linear: _refuse_linear,
    ops.LpNormalization: _refuse_lp,
    ops.GlobalAveragePool: refuse_global,
    ops.GlobalMaxPool: refuse_global,
    ops.AveragePool: refuse_average,
    ops.MaxPool: refuse_ceil,
    ops.LpPool: refuse_lp_pool,
    ops.MaxPoolWithIndices: refuse_indices,
    ops.GridSample: _refuse_sampling,
    ops.RoiAlign: _refuse_regions,
    ops.AffineGrid: _refuse_grid,
    ops.Mod: _refuse_mod,
    ops.RNN: _refuse_recurrent,
    ops.GRU: _refuse_recurrent,
    ops.LSTM: _refuse_recurrent,
    ops.LocalResponseNormalization: _refuse_lrn,
    ops.LayerNormalization: _refuse_double,
    ops.GroupNormalization: _refuse_group_norm,
    ops.RMSNormalization: _refuse_double,
    ops.ScatterElements: _refuse_scatter,
    ops.ScatterND: _refuse_scatter,
    ops.Resize: _refuse_resize,
    **dict.fromkeys(_WITHOUT_KERNEL, _refuse_kernel),
    ops.Pad: _refuse_pad,
    ops.Reshape: _refuse_reshape,
    ops.Swish: _refuse_swish,
    ops.QuantizeLinear: refuse_quantization,
    ops.DequantizeLinear: refuse_quantization,
    ops.RandomNormal: refuse_random,
    ops.Bernoulli: refuse_random,
    ops.Multinomial: refuse_random,
    ops.DFT: refuse_dft,
    ops.STFT: refuse_stft,
    ops.Cast: _refuse_cast,
    ops.MultiHeadAttention: refuse_attention,
    ops.RotaryEmbedding: refuse_rotary,
    ops.ScaledDotProductAttention: refuse_attention,
    ops.Dropout: _refuse_dropout,
    ops.Preserved: _refuse_preserved,
}
