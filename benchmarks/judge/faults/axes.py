"""Faults of axes, orders and indices: what is concatenated, permuted, reduced, gathered, broadcast, added."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from judge.faults.edits import Edit, Site, fault

__all__: list[str] = []


@fault("axes")
def concat_order_reversed(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Concat"):
        if len(set(node.input)) > 1 and edit.is_float(node.output[0]):

            def change(node: NodeProto = node) -> None:
                turned = list(reversed(node.input))
                del node.input[:]
                node.input.extend(turned)

            yield Site(node, change)


@fault("axes")
def concat_axis_off_by_one(edit: Edit) -> Iterator[Site]:
    """Where the result is reshaped: the same elements in another order."""
    for node in edit.nodes("Concat"):
        shapes = [edit.shape(name) for name in node.input]
        known = [shape for shape in shapes if shape is not None]
        if len(known) < len(shapes) or len({*known}) != 1 or not edit.is_float(node.output[0]) or len(known[0]) < 2:
            continue
        rank, axis = len(known[0]), edit.attribute(node, "axis") % len(known[0])
        other = axis - 1 if axis else axis + 1
        total = list(known[0])
        total[axis] *= len(shapes)

        def change(node: NodeProto = node, other: int = other, total: list[int] = total, rank: int = rank) -> None:
            edit.set(node, axis=other)
            edit.after(
                node, "Reshape", edit.constant([0 if total[0] and not other else total[0], *total[1:]], np.int64)
            )

        if axis and other:
            total[0] = 0
            yield Site(node, change)


@fault("axes")
def permutation_of_equal_axes(edit: Edit) -> Iterator[Site]:
    """A transposition that leaves the shape as it is: two axes of equal length, or those before a reshape."""
    for node in edit.nodes("Transpose"):
        shape = edit.shape(node.output[0])
        perm = list(edit.attribute(node, "perm", []))
        if shape is None or not perm:
            continue
        for a in range(1, len(perm)):
            for b in range(a + 1, len(perm)):
                if shape[a] == shape[b] > 1:
                    other = perm.copy()
                    other[a], other[b] = perm[b], perm[a]
                    yield Site(node, lambda node=node, other=other: edit.set(node, perm=other))


@fault("axes")
def reshape_without_transposition(edit: Edit) -> Iterator[Site]:
    """Layout permuted: the transposition before a reshape or a matrix product is replaced by a reshape."""
    for node in edit.nodes("Transpose"):
        shape, perm = edit.shape(node.output[0]), list(edit.attribute(node, "perm", []))
        before = edit.shape(node.input[0])
        if shape is None or before is None or not perm or perm[0] != 0 or not edit.is_float(node.input[0]):
            continue
        moved = [p for p in perm if before[p] > 1]
        if moved != sorted(moved):
            target = [0, *shape[1:]]
            yield Site(
                node,
                lambda node=node, target=target: edit.become(
                    node, "Reshape", [node.input[0], edit.constant(target, np.int64)]
                ),
            )


@fault("axes")
def image_transposed(edit: Edit) -> Iterator[Site]:
    """Height and width of a square feature map exchanged."""
    for node in edit.nodes("Conv"):
        shape = edit.shape(node.input[0])
        if shape is not None and len(shape) == 4 and shape[2] == shape[3] > 1:
            yield Site(node, lambda node=node: edit.before(node, 0, "Transpose", perm=[0, 1, 3, 2]))


def _activations(edit: Edit, node: NodeProto) -> bool:
    return edit.is_float(node.output[0]) and not any(name in edit.weights for name in node.input)


@fault("axes")
def residual_dropped(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Add"):
        shapes = [edit.shape(name) for name in node.input]
        if shapes[0] == shapes[1] and _activations(edit, node):
            yield Site(node, lambda node=node: edit.become(node, "Identity", [node.input[1]]))


@fault("axes")
def residual_taken_before(edit: Edit) -> Iterator[Site]:
    """The shortcut begins one op too early or too late: x + f(x) becomes f(x) + f(x)."""
    for node in edit.nodes("Add"):
        shapes = [edit.shape(name) for name in node.input]
        if shapes[0] == shapes[1] and _activations(edit, node):
            yield Site(node, lambda node=node: edit.become(node, "Add", [node.input[1], node.input[1]]))


@fault("axes")
def operands_exchanged(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Sub", "Div", "Pow", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        shapes = [edit.shape(name) for name in node.input]
        if shapes[0] is not None and node.input[0] != node.input[1]:

            def change(node: NodeProto = node) -> None:
                node.input[0], node.input[1] = node.input[1], node.input[0]

            yield Site(node, change)


@fault("axes")
def matrix_operand_transposed(edit: Edit) -> Iterator[Site]:
    """A square operand of a product of two activations."""
    for node in edit.nodes("MatMul"):
        shape = edit.shape(node.input[1])
        if shape is not None and node.input[1] not in edit.weights and len(shape) > 1 and shape[-1] == shape[-2] > 1:
            perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            yield Site(node, lambda node=node, perm=perm: edit.before(node, 1, "Transpose", perm=perm))


@fault("axes")
def broadcast_along_another_axis(edit: Edit) -> Iterator[Site]:
    """A vector that is added or multiplied along the wrong one of two equal axes."""
    for node in edit.nodes("Add", "Mul", "Sub"):
        for position in (0, 1):
            vector, shape = edit.weight(node, position), edit.shape(node.output[0])
            if vector is None or shape is None or vector.size < 2 or max(vector.shape) != vector.size:
                continue
            axis = len(shape) - vector.ndim + int(np.argmax(vector.shape))
            others = [each for each in range(1, len(shape)) if each != axis and shape[each] == vector.size]
            if others and vector.dtype.kind == "f":
                form = [1] * len(shape)
                form[others[0]] = vector.size

                def change(
                    node: NodeProto = node, at: int = position, v: np.ndarray = vector, form: list[int] = form
                ) -> None:
                    node.input[at] = edit.constant(v.reshape(form), v.dtype)

                yield Site(node, change)


@fault("axes")
def reduced_over_another_axis(edit: Edit) -> Iterator[Site]:
    """An axis off by one, where the shapes still fit."""
    for node in edit.nodes("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"):
        axes, shape = edit.weight(node, 1), edit.shape(node.input[0])
        if axes is None or shape is None or axes.size != 1:
            continue
        axis = int(axes.reshape(-1)[0]) % len(shape)
        others = [each for each in range(1, len(shape)) if each != axis and shape[each] == shape[axis]]
        if others:
            yield Site(node, lambda node=node, other=others[0]: edit.store(node, 1, np.array([other])))


@fault("axes")
def mean_for_sum(edit: Edit) -> Iterator[Site]:
    other = {"ReduceMean": "ReduceSum", "ReduceSum": "ReduceMean", "GlobalAveragePool": "GlobalMaxPool"}
    other |= {"GlobalMaxPool": "GlobalAveragePool", "ReduceMax": "ReduceMin"}
    for node in edit.nodes(*other):
        if not edit.is_float(node.input[0]):
            continue

        def change(node: NodeProto = node) -> None:
            node.op_type = other[node.op_type]

        yield Site(node, change)


@fault("axes")
def index_off_by_one(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Gather", "GatherND"):
        index, shape = edit.weight(node, 1), edit.shape(node.input[0])
        if index is None or shape is None or index.dtype.kind not in "iu":
            continue
        axis = edit.attribute(node, "axis", 0)
        moved = (index + 1) % shape[axis]
        if shape[axis] > 1 and not np.array_equal(moved, index) and edit.is_float(node.input[0]):
            yield Site(node, lambda node=node, moved=moved: edit.store(node, 1, moved))


@fault("axes")
def positions_off_by_one(edit: Edit) -> Iterator[Site]:
    """Position ids that begin at one."""
    for node in edit.nodes("Gather", "GatherElements"):
        table, ids = edit.shape(node.input[0]), edit.shape(node.input[1])
        if table is None or ids is None or node.input[1] in edit.weights or edit.attribute(node, "axis", 0):
            continue
        values = edit.values.get(node.input[1])
        if values is not None and values.dtype.kind in "iu" and values.size and values.max() + 1 < table[0]:

            def change(node: NodeProto = node, dtype: np.dtype = values.dtype) -> None:
                edit.before(node, 1, "Add", edit.constant(1, dtype))
                edit.before(node, 1, "Min", edit.constant((edit.shape(node.input[0]) or (1,))[0] - 1, dtype))

            yield Site(node, change)


@fault("axes")
def slice_off_by_one(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Slice"):
        starts, ends, shape = edit.weight(node, 1), edit.weight(node, 2), edit.shape(node.input[0])
        axes = edit.weight(node, 3)
        if starts is None or ends is None or axes is None or shape is None or starts.size != 1:
            continue
        length, start, end = shape[int(axes.reshape(-1)[0])], int(starts.reshape(-1)[0]), int(ends.reshape(-1)[0])
        end = end if end < 0 else min(end, length)
        step = 1 if start >= 0 and 0 < end < length else -1
        if start + step >= 0 and end > 0 and edit.is_float(node.input[0]):

            def change(node: NodeProto = node, start: int = start, end: int = end, step: int = step) -> None:
                edit.store(node, 1, np.array([start + step]))
                edit.store(node, 2, np.array([end + step]))

            yield Site(node, change)


@fault("axes")
def split_order_reversed(edit: Edit) -> Iterator[Site]:
    """q, k, v in another order."""
    for node in edit.nodes("Split"):
        shapes = {edit.shape(name) for name in node.output}
        if len(node.output) > 1 and len(shapes) == 1:

            def change(node: NodeProto = node) -> None:
                node.output[0], node.output[-1] = node.output[-1], node.output[0]

            yield Site(node, change)


@fault("axes")
def pixels_shuffled_another_way(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("DepthToSpace"):
        new = "DCR" if edit.attribute(node, "mode", "DCR") == "CRD" else "CRD"
        yield Site(node, lambda node=node, new=new: edit.set(node, mode=new))


@fault("axes")
def scatter_overwrites(edit: Edit) -> Iterator[Site]:
    """Sums at repeated indices lost."""
    for node in edit.nodes("ScatterND", "ScatterElements"):
        if edit.attribute(node, "reduction", "none") == "add":
            yield Site(node, lambda node=node: edit.set(node, reduction="none"))


@fault("axes")
def result_rolled(edit: Edit) -> Iterator[Site]:
    """Channels of an inner value in another order than its reader's weights expect."""
    for node in edit.nodes("Conv", "MatMul", "Gemm"):
        shape = edit.shape(node.input[0])
        axis = 1 if node.op_type == "Conv" else -1
        if shape is not None and len(shape) > 1 and shape[axis] > 1 and edit.maker(node.input[0]) is not None:
            order = np.roll(np.arange(shape[axis]), 1)
            yield Site(
                node,
                lambda node=node, order=order, axis=axis: edit.before(
                    node, 0, "Gather", edit.constant(order, np.int64), axis=axis
                ),
            )
