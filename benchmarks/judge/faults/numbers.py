"""Faults of numbers: rounding, remainders, comparisons, ties, special values, precision, quantization."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from judge.faults.edits import Edit, Site, fault

__all__: list[str] = []


@fault("numbers")
def halves_rounded_up(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Round"):

        def change(node: NodeProto = node) -> None:
            edit.become(node, "Floor")
            edit.before(node, 0, "Add", edit.constant(0.5))

        yield Site(node, change)


@fault("numbers")
def floor_for_truncation(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Floor"):
        yield Site(node, lambda node=node: edit.become(node, "Ceil"))
    for node in edit.nodes("Cast"):
        old, new = edit.values.get(node.input[0]), edit.values.get(node.output[0])
        if old is not None and new is not None and old.dtype.kind == "f" and new.dtype.kind in "iu":
            yield Site(node, lambda node=node: edit.before(node, 0, "Floor"))


@fault("numbers")
def remainder_with_the_other_sign(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Mod"):
        if edit.is_float(node.input[0]):
            yield Site(node, lambda node=node: edit.before(node, 0, "Abs"))
        else:
            flag = edit.attribute(node, "fmod", 0)
            yield Site(node, lambda node=node, flag=flag: edit.set(node, fmod=1 - flag))


@fault("numbers")
def integer_division_rounded_down(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Div"):
        values = edit.values.get(node.output[0])
        if values is not None and values.dtype.kind == "i":

            def change(node: NodeProto = node) -> None:
                edit.before(node, 0, "Sub", edit.constant(1, np.int64))

            yield Site(node, change)


@fault("numbers")
def comparison_strict(edit: Edit) -> Iterator[Site]:
    other = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less", "Greater": "GreaterOrEqual", "Less": "LessOrEqual"}
    for node in edit.nodes(*other):
        if edit.is_float(node.input[0]):

            def change(node: NodeProto = node) -> None:
                node.op_type = other[node.op_type]

            yield Site(node, change)


@fault("numbers")
def branches_exchanged(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Where"):
        if len(node.input) == 3:

            def change(node: NodeProto = node) -> None:
                node.input[1], node.input[2] = node.input[2], node.input[1]

            yield Site(node, change)


@fault("numbers")
def ties_to_the_last(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("ArgMax", "ArgMin"):
        flag = edit.attribute(node, "select_last_index", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, select_last_index=1 - flag))


@fault("numbers")
def order_of_the_smallest(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("TopK"):
        flag = edit.attribute(node, "largest", 1)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, largest=1 - flag))


@fault("numbers")
def argmax_axis_off(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("ArgMax", "ArgMin"):
        shape = edit.shape(node.input[0])
        if shape is not None and len(shape) > 1:
            yield Site(node, lambda node=node: edit.before(node, 0, "Neg"))


@fault("numbers")
def minimum_for_maximum(edit: Edit) -> Iterator[Site]:
    other = {"Max": "Min", "Min": "Max"}
    for node in edit.nodes(*other):

        def change(node: NodeProto = node) -> None:
            node.op_type = other[node.op_type]

        yield Site(node, change)


@fault("numbers")
def infinite_mask_made_finite(edit: Edit) -> Iterator[Site]:
    """-1 where a mask has -inf or the least number."""
    for node in edit.nodes("Where", "Mul", "Add"):
        for position in range(len(node.input)):
            value = edit.weight(node, position)
            if value is not None and value.dtype.kind == "f" and value.size == 1 and value.min() < -1e4:
                yield Site(node, lambda node=node, at=position, v=value: edit.store(node, at, np.full_like(v, -1.0)))


@fault("numbers")
def inner_value_in_fixed_point(edit: Edit) -> Iterator[Site]:
    """Rounded to ten binary places of its largest element."""
    for node in edit.nodes("Conv", "MatMul", "Gemm", "Add", "Mul"):
        value = edit.values.get(node.output[0])
        if value is not None and value.dtype.kind == "f" and value.size and np.isfinite(value).all() and value.any():
            unit = 2.0 ** (np.floor(np.log2(np.abs(value).max())) - 10)

            def change(node: NodeProto = node, unit: float = unit) -> None:
                edit.after(node, "Mul", edit.constant(unit))
                edit.after(node, "Round")
                edit.after(node, "Mul", edit.constant(1 / unit))

            yield Site(node, change)


@fault("numbers")
def constant_with_fewer_digits(edit: Edit) -> Iterator[Site]:
    """A scalar constant written with three digits."""
    for node in edit.nodes("Mul", "Div", "Add", "Sub", "Pow"):
        for position in (0, 1):
            value = edit.weight(node, position)
            if value is not None and value.dtype.kind == "f" and value.size == 1 and np.isfinite(value).all():
                short = np.asarray([float(f"{float(value.reshape(-1)[0]):.2e}")]).reshape(value.shape)
                if not np.array_equal(short.astype(value.dtype), value):
                    yield Site(node, lambda node=node, at=position, v=short: edit.store(node, at, v))


@fault("quantization")
def zero_point_off_by_one(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("QuantizeLinear", "DequantizeLinear"):
        zero = edit.weight(node, 2)
        if zero is not None and zero.size == 1:
            yield Site(node, lambda node=node, zero=zero: edit.store(node, 2, zero + 1))


@fault("quantization")
def scale_off_by_a_percent(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("QuantizeLinear", "DequantizeLinear"):
        scale = edit.weight(node, 1)
        if scale is not None:
            yield Site(node, lambda node=node, scale=scale: edit.store(node, 1, scale * 1.01))


@fault("quantization")
def scales_of_channels_rolled(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("DequantizeLinear"):
        scale = edit.weight(node, 1)
        if scale is not None and scale.size > 1:
            yield Site(node, lambda node=node, scale=scale: edit.store(node, 1, np.roll(scale, 1)))


@fault("quantization")
def scale_per_tensor(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("DequantizeLinear"):
        scale = edit.weight(node, 1)
        if scale is not None and scale.size > 1:
            yield Site(node, lambda node=node, scale=scale: edit.store(node, 1, np.full_like(scale, scale.max())))


@fault("quantization")
def quantization_dropped(edit: Edit) -> Iterator[Site]:
    """A quantize-dequantize pair replaced by the float value."""
    for node in edit.nodes("DequantizeLinear"):
        maker = edit.maker(node.input[0])
        if maker is not None and maker.op_type == "QuantizeLinear":
            yield Site(node, lambda node=node, maker=maker: edit.become(node, "Identity", [maker.input[0]]))


@fault("quantization")
def quantized_weight_off_by_one(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("DequantizeLinear"):
        weight = edit.weight(node, 0)
        if weight is not None and weight.dtype == np.int8:
            yield Site(node, lambda node=node, w=weight: edit.store(node, 0, np.clip(w.astype(int) + 1, -128, 127)))
