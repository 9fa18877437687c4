"""Faults of windowed ops: padding, strides, dilation, groups, pools, resizing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from judge.faults.edits import Edit, Site, fault

__all__: list[str] = []

_POOLS = ("AveragePool", "MaxPool", "LpPool")


def _pads(edit: Edit, node: NodeProto) -> list[int]:
    return list(edit.attribute(node, "pads", []))


@fault("windows")
def pad_side_begin_for_end(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Conv", *_POOLS):
        pads = _pads(edit, node)
        half = len(pads) // 2
        if pads and pads[:half] != pads[half:]:
            yield Site(node, lambda node=node, pads=pads, half=half: edit.set(node, pads=pads[half:] + pads[:half]))
    for node in edit.nodes("Pad"):
        pads = edit.weight(node, 1)
        if pads is not None and not np.array_equal(pads, np.roll(pads, pads.size // 2)):
            yield Site(node, lambda node=node, pads=pads: edit.store(node, 1, np.roll(pads, pads.size // 2)))


@fault("windows")
def window_shifted_by_one(edit: Edit) -> Iterator[Site]:
    """SAME padding of another framework: one more at the end, one less at the beginning."""
    for node in edit.nodes("Conv", *_POOLS):
        pads = _pads(edit, node)
        half = len(pads) // 2
        if pads and min(pads[:half]) > 0:
            moved = [p - 1 for p in pads[:half]] + [p + 1 for p in pads[half:]]
            yield Site(node, lambda node=node, moved=moved: edit.set(node, pads=moved))


@fault("windows")
def padding_lost_and_centered_later(edit: Edit) -> Iterator[Site]:
    """A stride that starts one cell late."""
    for node in edit.nodes("Conv"):
        pads, strides = _pads(edit, node), list(edit.attribute(node, "strides", []))
        half = len(pads) // 2
        if pads and strides and strides[-1] > 1 and pads[half - 1] > 0:
            moved = [*pads[: half - 1], pads[half - 1] - 1, *pads[half:-1], pads[-1] + 1]
            yield Site(node, lambda node=node, moved=moved: edit.set(node, pads=moved))


@fault("windows")
def dilation_lost(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Conv"):
        dilations, kernel = list(edit.attribute(node, "dilations", [])), edit.weight(node, 1)
        pads = _pads(edit, node) or [0] * 2 * len(dilations)
        if dilations and max(dilations) > 1 and kernel is not None:
            lost = [(d - 1) * (k - 1) for d, k in zip(dilations, kernel.shape[2:], strict=True)]
            half = len(lost)
            less = [p - (x + 1) // 2 for p, x in zip(pads[:half], lost, strict=True)]
            less += [p - x // 2 for p, x in zip(pads[half:], lost, strict=True)]
            if min(less) >= 0:
                ones = [1] * half
                yield Site(node, lambda node=node, less=less, ones=ones: edit.set(node, pads=less, dilations=ones))


@fault("windows")
def groups_interleaved(edit: Edit) -> Iterator[Site]:
    """Output channels of a grouped convolution in the order of another framework."""
    for node in edit.nodes("Conv"):
        group, kernel = edit.attribute(node, "group", 1), edit.weight(node, 1)
        if kernel is None or group < 2 or kernel.shape[0] // group < 2:
            continue
        order = np.arange(kernel.shape[0]).reshape(group, -1).T.reshape(-1)
        yield Site(node, lambda node=node, kernel=kernel, order=order: edit.store(node, 1, kernel[order]))


@fault("windows")
def depthwise_kernels_rolled(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Conv"):
        group, kernel = edit.attribute(node, "group", 1), edit.weight(node, 1)
        if kernel is not None and group == kernel.shape[0] > 1:
            yield Site(node, lambda node=node, kernel=kernel: edit.store(node, 1, np.roll(kernel, 1, 0)))


@fault("windows")
def padding_counted_in_average(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("AveragePool"):
        flag = edit.attribute(node, "count_include_pad", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, count_include_pad=1 - flag))


@fault("windows")
def ceil_mode_flipped(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes(*_POOLS):
        flag = edit.attribute(node, "ceil_mode", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, ceil_mode=1 - flag))


@fault("windows")
def pool_of_the_other_kind(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("AveragePool", "MaxPool"):
        if len(node.output) > 1:
            continue

        def change(node: NodeProto = node) -> None:
            node.op_type = "MaxPool" if node.op_type == "AveragePool" else "AveragePool"
            edit.set(node, count_include_pad=None, storage_order=None)

        yield Site(node, change)


@fault("windows")
def maximum_with_zero_padding(edit: Edit) -> Iterator[Site]:
    """Padding of a max pool by zeros, where the framework pads by -inf."""
    for node in edit.nodes("MaxPool"):
        pads = _pads(edit, node)
        if any(pads):
            half = len(pads) // 2
            wide = [0, 0, *pads[:half], 0, 0, *pads[half:]]

            def change(node: NodeProto = node, wide: list[int] = wide, pads: list[int] = pads) -> None:
                edit.set(node, pads=[0] * len(pads))
                edit.before(node, 0, "Pad", edit.constant(wide, np.int64))

            yield Site(node, change)


@fault("windows")
def global_pool_over_one_axis_less(edit: Edit) -> Iterator[Site]:
    """The last column is left out of a global average."""
    for node in edit.nodes("GlobalAveragePool"):
        shape = edit.shape(node.input[0])
        if shape is not None and shape[-1] > 1:

            def change(node: NodeProto = node) -> None:
                names = [edit.constant([value], np.int64) for value in (0, -1, -1)]
                edit.before(node, 0, "Slice", *names)

            yield Site(node, change)


@fault("windows")
def pad_mode_of_another_framework(edit: Edit) -> Iterator[Site]:
    following = {"reflect": "edge", "edge": "reflect", "wrap": "reflect", "constant": "edge"}
    for node in edit.nodes("Pad"):
        mode = edit.attribute(node, "mode", "constant")
        yield Site(node, lambda node=node, mode=mode: edit.set(node, mode=following[mode]))


@fault("windows")
def pad_value_lost(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Pad"):
        value = edit.weight(node, 2)
        if value is not None and value.dtype.kind == "f":
            yield Site(node, lambda node=node, value=value: edit.store(node, 2, value + 1 if value == 0 else value * 0))


@fault("windows")
def corners_aligned(edit: Edit) -> Iterator[Site]:
    following = {"align_corners": "half_pixel"}
    for node in edit.nodes("Resize"):
        mode = edit.attribute(node, "coordinate_transformation_mode", "half_pixel")
        new = following.get(mode, "align_corners")
        yield Site(node, lambda node=node, new=new: edit.set(node, coordinate_transformation_mode=new))


@fault("windows")
def pixel_centers_lost(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Resize"):
        mode = edit.attribute(node, "coordinate_transformation_mode", "half_pixel")
        new = "half_pixel" if mode == "asymmetric" else "asymmetric"
        yield Site(node, lambda node=node, new=new: edit.set(node, coordinate_transformation_mode=new))


@fault("windows")
def resize_mode_of_another_framework(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Resize"):
        mode = edit.attribute(node, "mode", "nearest")
        new = "nearest" if mode == "linear" else "linear"
        yield Site(node, lambda node=node, new=new: edit.set(node, mode=new, nearest_mode=None, antialias=None))


@fault("windows")
def nearest_rounded_another_way(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Resize"):
        if edit.attribute(node, "mode", "nearest") == "nearest":
            old = edit.attribute(node, "nearest_mode", "round_prefer_floor")
            new = "ceil" if old == "floor" else "floor"
            yield Site(node, lambda node=node, new=new: edit.set(node, nearest_mode=new))


@fault("windows")
def cubic_coefficient_of_another_framework(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Resize"):
        if edit.attribute(node, "mode", "nearest") == "cubic":
            old = edit.attribute(node, "cubic_coeff_a", -0.75)
            new = -0.75 if abs(old + 0.5) < 1e-6 else -0.5
            yield Site(node, lambda node=node, new=new: edit.set(node, cubic_coeff_a=new))


@fault("windows")
def transposed_window_shifted(edit: Edit) -> Iterator[Site]:
    """The extra row of a transposed convolution on the other side."""
    for node in edit.nodes("ConvTranspose"):
        pads = _pads(edit, node)
        half = len(pads) // 2
        if pads and min(pads[half:]) > 0:
            moved = [p + 1 for p in pads[:half]] + [p - 1 for p in pads[half:]]
            yield Site(node, lambda node=node, moved=moved: edit.set(node, pads=moved))


@fault("windows")
def border_left_out(edit: Edit) -> Iterator[Site]:
    """The first row of an image is zero after a convolution."""
    for node in edit.nodes("Conv"):
        shape = edit.shape(node.output[0])
        if shape is not None and len(shape) == 4 and shape[2] > 4:
            mask = np.ones((1, 1, shape[2], 1))
            mask[:, :, 0] = 0
            yield Site(node, lambda node=node, mask=mask: edit.after(node, "Mul", edit.constant(mask)))
