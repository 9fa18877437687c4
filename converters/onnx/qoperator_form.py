"""The QOperator form of a model in the QDQ form: operators on quantized tensors instead of float ones between
DequantizeLinear and QuantizeLinear.

    QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(b)))  ->  QLinearConv(x, w, b)
    QuantizeLinear(MaxPool(DequantizeLinear(x))), one scale and zero point               ->  MaxPool(x)

What is replaced computes the same up to the rounding of halves, in whole numbers. It has to be all of the pattern: one
scale for the data (a kernel may have one for each output channel), a bias in steps of both scales, a float result that
nothing else reads. An activation in between goes where the range of the quantized result implies it. What is not
replaced stays in the QDQ form. Operators that ONNX lacks are those of com.microsoft that onnxruntime's own quantizer
writes. Reading gives the QDQ form again, see qoperator.py and contrib_quant.py.
See: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "ONNX quantization representation".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from isomorph.converters.onnx.conv import pad_attributes
from isomorph.converters.onnx.pool import window_attributes
from isomorph.ir import DType, Model, Node, Op, Value, ops
from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.ops.preserved import Stated
from isomorph.ir.ops.quant import integer_range
from isomorph.ir.passes.canonicalize import prune

__all__ = ["in_qoperator_form"]

_BYTES = (DType.UINT8, DType.INT8)
_MICROSOFT = ("com.microsoft", 1)


class _Quantized(NamedTuple):
    """A tensor as whole numbers: value = (data - zero_point) * scale; the scale is (), or (D,) along `axis`."""

    data: Value
    scale: Value
    zero_point: Value | None
    axis: int

    @property
    def is_whole(self) -> bool:
        """Whether one scale is for all of it."""
        return self.scale.rank == 0


class _Site(NamedTuple):
    """What stands between the DequantizeLinear of its operands and the QuantizeLinear of its result."""

    b: Rewriter
    node: Node
    result: _Quantized
    opset: int

    def operand(self, position: int) -> _Quantized | None:
        """An operand that is dequantized from 8 bits, in float32."""
        found = _dequantized(self.node.inputs[position]) if position < len(self.node.inputs) else None
        return found if found is not None and found.data.dtype in _BYTES else None

    def data(self, position: int) -> _Quantized | None:
        """The same with one scale for all of it, and of the type of the result."""
        found = self.operand(position)
        return found if found is not None and found.is_whole and found.data.dtype is self.result.data.dtype else None

    def emit(self, kind: str, operands: Sequence[Value | None], library: tuple[str, int], **attributes: Any) -> Value:
        """An operator of this kind; values are of the graph as it was. Attributes that are None are left out."""
        domain, version = library
        stated = tuple(
            Stated(name, _KINDS[type(value)], tuple(value) if isinstance(value, list) else value)
            for name, value in attributes.items()
            if value is not None
        )
        absent = tuple(position for position, value in enumerate(operands) if value is None)
        given = [self.b.new(value) for value in operands if value is not None]
        result = self.result.data.type
        op = ops.Preserved(kind, domain, version, (result,), stated, absent, reason="the QOperator form")
        return self.b.emit(op, *given)

    def zero(self, quantized: _Quantized) -> Value:
        """The zero point, 0 where none is stated."""
        stated = quantized.zero_point
        if stated is not None:
            return stated
        zeros = np.zeros([int(dim) for dim in quantized.scale.shape], quantized.data.dtype.numpy)  # type: ignore[arg-type]
        made = self.b.constant(zeros, "zero_point")
        self.b.mapping[made] = made
        return made

    def triple(self, quantized: _Quantized) -> list[Value | None]:
        return [quantized.data, quantized.scale, self.zero(quantized)]


_KINDS = {int: "int", float: "float", str: "string", list: "ints"}


def in_qoperator_form(model: Model, opset: int) -> Model:
    """The model with an operator on quantized tensors in the place of each pattern that one can take exactly."""

    users, shown = model.graph.users(), set(model.graph.outputs.values())
    alone = {value for value, readers in users.items() if len(readers) == 1} - shown

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        site = _site(b, node, alone, opset)
        rule = _RULES.get(type(site.node.op)) if site is not None else None
        value = rule(site) if rule is not None and site is not None else None
        return None if value is None else (value,)

    return prune(rewrite(model, "qoperator", change))


def _site(b: Rewriter, node: Node, alone: set[Value], opset: int) -> _Site | None:
    """What a QuantizeLinear quantizes and alone reads; activations that the quantized range implies are skipped."""
    op = node.op
    if not isinstance(op, ops.QuantizeLinear) or op.dtype not in _BYTES or op.block_size:
        return None
    x, scale, zero_point = (*node.inputs, None)[:3]
    if x is None or scale is None or scale.rank or scale.dtype is not DType.FLOAT32:
        return None
    result = _Quantized(node.output, scale, zero_point, 0)
    while True:
        inner = x.producer
        if inner is None or x not in alone or len(inner.outputs) != 1:
            return None
        if not isinstance(inner.op, ops.Relu | ops.Clip) or not _implied(inner.op, result):
            return _Site(b, inner, result, opset)
        x = inner.inputs[0]
        assert x is not None


def _implied(op: Op, result: _Quantized) -> bool:
    """Whether the bounds of an activation are at, or beyond, the ends of what the result can hold."""
    scale, zero = _known(result.scale), _zero_of(result)
    if scale is None or zero is None:
        return False
    low, high = (op.min, op.max) if isinstance(op, ops.Clip) else (0.0, None)
    ends = integer_range(result.data.dtype)
    step = float(scale)
    below = low is None or np.rint(np.float32(low) / np.float32(step)) + int(zero) <= ends[0]
    above = high is None or np.rint(np.float32(high) / np.float32(step)) + int(zero) >= ends[1]
    return bool(below and above)


def _dequantized(value: Value | None) -> _Quantized | None:
    node = None if value is None else value.producer
    if node is None or not isinstance(node.op, ops.DequantizeLinear) or node.op.block_size:
        return None
    data, scale, zero_point = (*node.inputs, None)[:3]
    if data is None or scale is None or scale.rank > 1 or node.op.dtype is not DType.FLOAT32:
        return None
    return _Quantized(data, scale, zero_point, node.op.axis % max(data.rank, 1))


def _known(value: Value | None) -> np.ndarray | None:
    """The elements of a parameter, or of a product or reshape of some; None where they are not known."""
    if value is None or value.parameter is not None:
        return None if value is None or value.parameter is None else value.parameter.data.numpy()
    node = value.producer
    if node is None or not isinstance(node.op, ops.Mul | ops.Reshape) or not value.type.is_static:
        return None
    parts = [part for operand in node.operands() if (part := _known(operand)) is not None]
    if len(parts) != len(node.inputs):
        return None
    if isinstance(node.op, ops.Mul):
        return np.asarray(parts[0] * parts[1])
    return parts[0].reshape([dim for dim in value.shape if isinstance(dim, int)])


def _zero_of(quantized: _Quantized) -> np.ndarray | None:
    return np.zeros((), np.int64) if quantized.zero_point is None else _known(quantized.zero_point)


def _kernel(site: _Site, position: int, axis: int) -> _Quantized | None:
    """A kernel with one scale, or one for each index of this axis and the same zero point for all."""
    found = site.operand(position)
    if found is None or (site.result.data.dtype is DType.INT8 and found.data.dtype is DType.UINT8):
        return None
    if found.is_whole:
        return found
    zeros = _zero_of(found)
    alike = zeros is not None and zeros.size > 0 and bool((zeros == zeros.flat[0]).all())
    return found if alike and found.axis == axis else None


def _bias(site: _Site, position: int, x: _Quantized, w: _Quantized) -> tuple[bool, Value | None]:
    """(whether the bias can be taken, the bias): absent, or whole numbers in steps of scale(x) * scale(w)."""
    stated = site.node.inputs[position] if position < len(site.node.inputs) else None
    if stated is None:
        return True, None
    bias = _dequantized(stated)
    if bias is None or bias.data.dtype is not DType.INT32 or bias.data.rank != 1:
        return False, None
    zeros, steps = _zero_of(bias), _known(bias.scale)
    left, right = _known(x.scale), _known(w.scale)
    if zeros is None or zeros.any() or steps is None or left is None or right is None:
        return False, None
    product = left * right
    if product.size not in (1, bias.data.shape[0]) or steps.size not in (1, bias.data.shape[0]):
        return False, None
    return bool((steps.reshape(-1) == product.reshape(-1)).all()), bias.data


def _conv(site: _Site) -> Value | None:
    op = site.node.op
    assert isinstance(op, ops.Conv)
    x, w = site.data(0), _kernel(site, 1, 0)
    if x is None or w is None:
        return None
    fits, bias = _bias(site, 2, x, w)
    if not fits:
        return None
    kernel = w.data.shape[2:]
    pads = pad_attributes(op.pads, x.data.shape[2:], kernel, op.strides, op.dilations)
    operands = [*site.triple(x), *site.triple(w), site.result.scale, site.zero(site.result)]
    return site.emit(
        "QLinearConv",
        [*operands, bias] if bias is not None else operands,
        ("", site.opset),
        strides=list(op.strides),
        dilations=list(op.dilations),
        group=op.group,
        **pads,
    )


def _matmul(site: _Site) -> Value | None:
    right = site.node.inputs[1]
    assert right is not None
    a, w = site.data(0), _kernel(site, 1, right.rank - 1)
    if a is None or w is None or min(a.data.rank, w.data.rank) < 2 or (not w.is_whole and w.data.rank != 2):
        return None
    operands = [*site.triple(a), *site.triple(w), site.result.scale, site.zero(site.result)]
    return site.emit("QLinearMatMul", operands, ("", site.opset))


def _gemm(site: _Site) -> Value | None:
    op = site.node.op
    gemm = ops.Gemm(trans_b=True) if isinstance(op, ops.Linear) else op
    assert isinstance(gemm, ops.Gemm)
    a, w = site.data(0), _kernel(site, 1, 0 if gemm.trans_b else 1)
    if a is None or w is None or a.data.rank != 2 or gemm.alpha != 1.0:
        return None
    fits, bias = _bias(site, 2, a, w)
    if not fits or (bias is not None and gemm.beta != 1.0):
        return None
    operands = [*site.triple(a), *site.triple(w), bias, site.result.scale, site.zero(site.result)]
    return site.emit("QGemm", operands, _MICROSOFT, alpha=1.0, transA=int(gemm.trans_a), transB=int(gemm.trans_b))


def _binary(site: _Site) -> Value | None:
    left, right = site.data(0), site.data(1)
    if left is None or right is None:
        return None
    operands = [*site.triple(left), *site.triple(right), site.result.scale, site.zero(site.result)]
    return site.emit(f"QLinear{site.node.op.name}", operands, _MICROSOFT)


def _unary(site: _Site) -> Value | None:
    op, x = site.node.op, site.data(0)
    if x is None:
        return None
    attributes: dict[str, Any] = {}
    if isinstance(op, ops.LeakyRelu):
        attributes = {"alpha": float(op.alpha)}
    elif isinstance(op, ops.AveragePool):
        windows = window_attributes(op, x.data.shape[2:], site.opset)
        if windows is None or any(step != 1 for step in op.dilations):
            return None
        attributes = {"kernel_shape": list(op.kernel_shape), "strides": list(op.strides), **windows}
        attributes["count_include_pad"] = int(op.count_include_pad)
    elif isinstance(op, ops.GlobalAveragePool) and not op.keepdims:
        return None
    operands = [*site.triple(x), site.result.scale, site.zero(site.result)]
    return site.emit(f"QLinear{op.name}", operands, _MICROSOFT, **attributes)


def _concat(site: _Site) -> Value | None:
    op = site.node.op
    assert isinstance(op, ops.Concat)
    operands: list[Value | None] = [site.result.scale, site.zero(site.result)]
    for position in range(len(site.node.inputs)):
        part = site.data(position)
        if part is None:
            return None
        operands += site.triple(part)
    return site.emit("QLinearConcat", operands, _MICROSOFT, axis=op.axis)


def _moved(site: _Site) -> Value | None:
    """What moves numbers, or picks some, moves them as whole numbers where they keep scale and zero point."""
    x = site.data(0)
    if x is None:
        return None
    scales, zeros = (_known(x.scale), _known(site.result.scale)), (_zero_of(x), _zero_of(site.result))
    if scales[0] is None or scales[1] is None or zeros[0] is None or zeros[1] is None:
        return None
    normal = bool(np.finfo(np.float32).tiny <= scales[0] <= np.finfo(np.float32).max / 256)
    if not normal or scales[0] != scales[1] or zeros[0] != zeros[1]:
        return None
    rest = [None if value is None else site.b.new(value) for value in site.node.inputs[1:]]
    return site.b.emit(site.node.op, site.b.new(x.data), *rest)


_Rule = Callable[[_Site], Value | None]
_RULES: dict[type[Op], _Rule] = {
    ops.Conv: _conv,
    ops.MatMul: _matmul,
    ops.Gemm: _gemm,
    ops.Linear: _gemm,
    ops.Concat: _concat,
    **dict.fromkeys((ops.Add, ops.Mul), _binary),
    **dict.fromkeys((ops.Sigmoid, ops.LeakyRelu, ops.AveragePool, ops.GlobalAveragePool), _unary),
    **dict.fromkeys((ops.MaxPool, ops.Reshape, ops.Flatten, ops.Transpose, ops.Squeeze, ops.Unsqueeze), _moved),
}
