"""Faults of weights: elements changed, rounded, permuted, exchanged, lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
from onnx import NodeProto

from judge.faults.edits import Edit, Site, fault

__all__: list[str] = []

_KERNELS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
_BIASES = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "Add": 1, "LayerNormalization": 2, "BatchNormalization": 2}
Change = Callable[[np.ndarray], "np.ndarray | None"]


def _each(edit: Edit, places: dict[str, int], change: Change) -> Iterator[Site]:
    """A site for every weight at these inputs that `change` changes."""
    for node in edit.nodes(*places):
        position = places[node.op_type]
        old = edit.weight(node, position)
        if old is None or old.dtype.kind != "f" or old.size < 2:
            continue
        new = change(old.copy())
        if new is not None and not np.array_equal(new, old):
            yield Site(node, _store(edit, node, position, new))


def _store(edit: Edit, node: NodeProto, position: int, new: np.ndarray) -> Callable[[], None]:
    return lambda: edit.store(node, position, new)


def _outputs(edit: Edit, change: Change) -> Iterator[Site]:
    """`change` sees kernels with the output channels in front."""
    dense = {op: place for op, place in _KERNELS.items() if op in ("Conv",)}
    yield from _each(edit, dense, change)
    for node in edit.nodes("MatMul", "Gemm"):
        old = edit.weight(node, 1)
        if old is None or old.ndim != 2:
            continue
        turned = bool(edit.attribute(node, "transB", 0))
        new = change((old if turned else old.T).copy())
        if new is not None:
            yield Site(node, _store(edit, node, 1, new if turned else new.T))


@fault("weights")
def one_element_negated(edit: Edit) -> Iterator[Site]:
    def change(w: np.ndarray) -> np.ndarray:
        flat = w.reshape(-1)
        place = int(np.argsort(np.abs(flat))[flat.size // 2])
        flat[place] = -flat[place]
        return w

    yield from _each(edit, _KERNELS, change)


@fault("weights")
def weights_through_float16(edit: Edit) -> Iterator[Site]:
    yield from _each(edit, _KERNELS, lambda w: w.astype(np.float16).astype(w.dtype))


@fault("weights")
def weights_through_bfloat16(edit: Edit) -> Iterator[Site]:
    yield from _each(edit, _KERNELS, lambda w: w.astype(ml_dtypes.bfloat16).astype(w.dtype))


@fault("weights")
def weights_through_int8(edit: Edit) -> Iterator[Site]:
    def change(w: np.ndarray) -> np.ndarray:
        scale = max(float(np.abs(w).max()), 1e-30) / 127
        return np.asarray(np.round(w / scale) * scale)

    yield from _each(edit, _KERNELS, change)


@fault("weights")
def last_percent_zeroed(edit: Edit) -> Iterator[Site]:
    def change(w: np.ndarray) -> np.ndarray:
        w.reshape(-1)[-max(1, w.size // 100) :] = 0
        return w

    yield from _each(edit, _KERNELS, change)


@fault("weights")
def one_channel_negated(edit: Edit) -> Iterator[Site]:
    def change(w: np.ndarray) -> np.ndarray:
        w[w.shape[0] // 2] *= -1
        return w

    yield from _outputs(edit, change)


@fault("weights")
def one_channel_scaled_by_a_percent(edit: Edit) -> Iterator[Site]:
    def change(w: np.ndarray) -> np.ndarray:
        w[w.shape[0] // 2] *= 1.01
        return w

    yield from _outputs(edit, change)


@fault("weights")
def channels_rolled(edit: Edit) -> Iterator[Site]:
    yield from _outputs(edit, lambda w: np.roll(w, 1, axis=0) if w.shape[0] > 1 else None)


@fault("weights")
def input_channels_reversed(edit: Edit) -> Iterator[Site]:
    """RGB taken for BGR."""
    yield from _outputs(edit, lambda w: w[:, ::-1].copy() if w.ndim > 1 and 1 < w.shape[1] <= 4 else None)


@fault("weights")
def square_weight_transposed(edit: Edit) -> Iterator[Site]:
    places = {"Gemm": 1, "MatMul": 1, "Conv": 1}
    square: Change = lambda w: w.swapaxes(0, 1).copy() if w.ndim >= 2 and w.shape[0] == w.shape[1] else None  # noqa: E731
    yield from _each(edit, places, square)


@fault("weights")
def kernel_height_and_width_swapped(edit: Edit) -> Iterator[Site]:
    square: Change = lambda w: w.swapaxes(2, 3).copy() if w.ndim == 4 and w.shape[2] == w.shape[3] else None  # noqa: E731
    yield from _each(edit, {"Conv": 1, "ConvTranspose": 1}, square)


@fault("weights")
def kernel_flipped(edit: Edit) -> Iterator[Site]:
    """Convolution for correlation."""
    yield from _each(
        edit, {"Conv": 1, "ConvTranspose": 1}, lambda w: np.flip(w, tuple(range(2, w.ndim))).copy() if w.ndim > 2 else w
    )


@fault("weights")
def same_shape_weights_exchanged(edit: Edit) -> Iterator[Site]:
    yield from _exchanged(edit, _KERNELS)


@fault("weights")
def same_shape_biases_exchanged(edit: Edit) -> Iterator[Site]:
    yield from _exchanged(edit, _BIASES)


def _exchanged(edit: Edit, places: dict[str, int]) -> Iterator[Site]:
    seen: dict[tuple[int, ...], NodeProto] = {}
    for node in edit.nodes(*places):
        position = places[node.op_type]
        here = edit.weight(node, position)
        if here is None or here.dtype.kind != "f" or here.size < 2:
            continue
        other = seen.get(here.shape)
        seen[here.shape] = node
        if other is None:
            continue
        there = edit.weight(other, places[other.op_type])
        if there is not None and there.shape == here.shape and not np.array_equal(here, there):

            def change(node: NodeProto = node, other: NodeProto = other) -> None:
                a, b = places[node.op_type], places[other.op_type]
                node.input[a], other.input[b] = other.input[b], node.input[a]

            yield Site(other, change, (node,))


@fault("weights")
def bias_dropped(edit: Edit) -> Iterator[Site]:
    yield from _each(edit, _BIASES, np.zeros_like)


@fault("weights")
def bias_of_one_channel_dropped(edit: Edit) -> Iterator[Site]:
    def change(b: np.ndarray) -> np.ndarray:
        flat = b.reshape(-1)
        flat[flat.size // 2] = 0
        return b

    yield from _each(edit, _BIASES, change)


@fault("weights")
def bias_rolled(edit: Edit) -> Iterator[Site]:
    yield from _each(edit, _BIASES, lambda b: np.roll(b, 1, axis=-1))


@fault("weights")
def flattened_in_another_layout(edit: Edit) -> Iterator[Site]:
    """Channels last taken for channels first before a dense layer."""
    for node in edit.nodes("Gemm", "MatMul"):
        old, maker = edit.weight(node, 1), edit.maker(node.input[0])
        if old is None or maker is None or maker.op_type not in ("Flatten", "Reshape"):
            continue
        shape = edit.shape(maker.input[0])
        turned = bool(edit.attribute(node, "transB", 0))
        w = old if turned else old.T
        if shape is None or len(shape) < 3 or np.prod(shape[1:]) != w.shape[1] or w.shape[1] in shape[1:]:
            continue
        moved = np.moveaxis(w.reshape(-1, *shape[1:]), 1, -1).reshape(w.shape)
        yield Site(node, _store(edit, node, 1, moved if turned else moved.T), (maker,))


@fault("weights")
def tied_weight_untied(edit: Edit) -> Iterator[Site]:
    """A second reader of a weight gets a copy of its own, made before the last update (here: without the last row)."""
    for name in edit.weights:
        readers = [node for node in edit.users(name) if edit.is_float(name)]
        if len(readers) > 1 and np.prod(edit.weights[name].dims) > 8:
            node = readers[-1]
            position = list(node.input).index(name)
            new = np.array(edit.weight(node, position))
            new[-1] = new[0]
            yield Site(node, _store(edit, node, position, new))


@fault("weights")
def table_off_by_one_row(edit: Edit) -> Iterator[Site]:
    """Padding or special tokens counted twice: every row of an embedding moves by one."""
    for node in edit.nodes("Gather"):
        table = edit.weight(node, 0)
        if table is not None and table.dtype.kind == "f" and table.ndim == 2 and not edit.attribute(node, "axis", 0):
            yield Site(node, _store(edit, node, 0, np.roll(table, 1, axis=0)))
