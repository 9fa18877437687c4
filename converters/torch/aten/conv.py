"""Convolutions."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Value, ops
from isomorph.ir.ops.conv import Pads

__all__ = ["batched", "per_axis"]

Ints = Sequence[int]
T = TypeVar("T")


def per_axis(values: Sequence[T], rank: int) -> tuple[T, ...]:
    """One entry for each spatial axis; a single one counts for all."""
    listed = tuple(values) if isinstance(values, tuple | list) else (values,)
    return listed * rank if len(listed) == 1 else listed


def batched(b: Lowering, x: Value, rank: int, compute: Callable[[Value], Value]) -> Value:
    """compute(x) for x (N, C, *D) of `rank` spatial axes; x without the batch axis gets one for the time being."""
    b.require(x.rank in (rank + 1, rank + 2), f"data of rank {rank + 1} or {rank + 2} is needed, not {x.type}")
    if x.rank == rank + 2:
        return compute(x)
    return b.emit(ops.Squeeze((0,)), compute(b.emit(ops.Unsqueeze((0,)), x)))


def _conv(
    b: Lowering, x: Value, w: Value, bias: Value | None, stride: Ints, padding: Ints | str, dilation: Ints, groups: int
) -> Value:
    rank = w.rank - 2
    dilations = per_axis(dilation, rank)
    pads: Pads
    if padding == "same":
        # the odd cell goes to the end, at stride 1 (torch allows no other)
        sizes = [step * (size - 1) for step, size in zip(dilations, w.shape[2:], strict=True)]
        totals = [size for size in sizes if isinstance(size, int)]
        pads = tuple((size // 2, size - size // 2) for size in totals) if totals == sizes else "same_upper"
    elif isinstance(padding, str):
        b.require(padding == "valid", f"the padding {padding!r}")
        pads = ((0, 0),) * rank
    else:
        pads = tuple((size, size) for size in per_axis(padding, rank))
    op = ops.Conv(per_axis(stride, rank), pads, dilations, groups)
    return batched(b, x, rank, lambda data: b.emit(op, data, w, bias))


@rules.imports(
    "aten.conv1d.default",
    "aten.conv2d.default",
    "aten.conv3d.default",
    "aten.conv1d.padding",
    "aten.conv2d.padding",
    "aten.conv3d.padding",
)
def conv(
    b: Lowering,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = (1,),
    padding: Ints | str = (0,),
    dilation: Ints = (1,),
    groups: int = 1,
) -> Value:
    """conv2d(Tensor input, Tensor weight, Tensor? bias, stride=1, padding=0 or a name, dilation=1, groups=1)"""
    return _conv(b, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    b: Lowering,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> Value:
    rank = w.rank - 2
    strides, more = per_axis(stride, rank), per_axis(output_padding, rank)
    ends, beyond = list(per_axis(padding, rank)), [0] * rank
    for axis, (step, extra) in enumerate(zip(strides, more, strict=True)):
        if extra >= step:  # runtimes refuse that: the cells are there with less padding at the end, or are 0 behind it
            beyond[axis] = max(extra - ends[axis], 0)
            ends[axis] = max(ends[axis] - extra, 0)
    more = tuple(0 if extra >= step else extra for step, extra in zip(strides, more, strict=True))
    pads = tuple(zip(per_axis(padding, rank), ends, strict=True))
    op = ops.ConvTranspose(strides, pads, per_axis(dilation, rank), more, groups)
    if any(beyond):
        grown = ((0, 0), (0, 0), *((0, size) for size in beyond))
        wide = batched(b, x, rank, lambda data: b.emit(ops.Pad(grown, "constant", 0), b.emit(op, data, w)))
        return wide if bias is None else b.emit(ops.Add(), wide, b.reshape(bias, (bias.shape[0], *(1,) * rank)))
    return batched(b, x, rank, lambda data: b.emit(op, data, w, bias))


@rules.imports("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    b: Lowering,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = (1,),
    padding: Ints = (0,),
    output_padding: Ints = (0,),
    groups: int = 1,
    dilation: Ints = (1,),
) -> Value:
    """conv_transpose2d.input(input, weight, bias?, stride, padding, output_padding, groups, dilation)"""
    return _conv_transpose(b, input, weight, bias, stride, padding, output_padding, dilation, groups)


@rules.imports("aten._convolution_mode.default")
def convolution_mode(
    b: Lowering,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: str,
    dilation: Ints,
    groups: int,
) -> Value:
    """_convolution_mode(input, weight, bias?, stride, str padding, dilation, groups)"""
    return _conv(b, input, weight, bias, stride, padding, dilation, groups)


@rules.imports("aten.conv_tbc.default")
def conv_tbc(b: Lowering, self: Value, weight: Value, bias: Value, pad: int = 0) -> Value:
    """conv_tbc(Tensor self, Tensor weight, Tensor bias, int pad=0): self (T, N, C), weight (K, C, O)"""
    x = b.emit(ops.Transpose((1, 2, 0)), self)
    w = b.emit(ops.Transpose((2, 1, 0)), weight)
    y = b.emit(ops.Conv((1,), ((pad, pad),), (1,), 1), x, w, bias)
    return b.emit(ops.Transpose((2, 0, 1)), y)


@rules.imports("aten.convolution.default", "aten._convolution.default", "aten._convolution.deprecated")
def convolution(
    b: Lowering,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    benchmark: bool = False,
    deterministic: bool = False,
    cudnn_enabled: bool = False,
    allow_tf32: bool = False,
) -> Value:
    """convolution(input, weight, bias?, stride, padding, dilation, transposed, output_padding, groups)"""
    if transposed:
        return _conv_transpose(b, input, weight, bias, stride, padding, output_padding, dilation, groups)
    return _conv(b, input, weight, bias, stride, padding, dilation, groups)
