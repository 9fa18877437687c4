"""Float64 kernels for ops that `onnx.reference` computes element by element in Python, or not at all.

A window op is a loop over kernel offsets (a few dozen) whose body is a strided view and one BLAS call or one ufunc:

    y[n, o, p] = b[o] + sum_k sum_c w[o, c, k] * x_padded[n, c, p * stride + k * dilation]

ResNet-50 at (2, 3, 224, 224) takes seconds instead of many minutes. Layout is ONNX's: x (N, C, *D), w (O, C / group,
*K).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import TypeProto, helper
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_loop

__all__ = ["KERNELS"]


class _Window(OpRun):
    """What the window ops share: their attributes, with the defaults of the specification."""

    op_domain = ""

    def _ints(self, name: str, default: Sequence[int]) -> list[int]:
        value = getattr(self, name, None)
        return [int(item) for item in value] if value is not None and len(value) else list(default)

    def _flag(self, name: str, default: int = 0) -> int:
        value = getattr(self, name, None)
        return default if value is None else int(value)

    def _pads(
        self, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> list[tuple[int, int]]:
        auto = getattr(self, "auto_pad", None) or "NOTSET"
        auto = auto.decode() if isinstance(auto, bytes) else auto
        rank = len(sizes)
        if auto in ("NOTSET", "VALID"):
            flat = self._ints("pads", [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
            return list(zip(flat[:rank], flat[rank:], strict=True))
        pads = []
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
            small = total // 2
            pads.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
        return pads


class Conv(_Window):
    """ONNX Conv: cross-correlation, grouped, dilated."""

    def _run(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, **_: Any) -> tuple[np.ndarray]:
        kernel = w.shape[2:]
        ones = [1] * len(kernel)
        strides, dilations = self._ints("strides", ones), self._ints("dilations", ones)
        pads = self._pads(x.shape[2:], kernel, strides, dilations)
        groups = self._flag("group", 1)
        x = np.pad(x, [(0, 0), (0, 0), *pads])
        sizes = [
            (d - (k - 1) * e - 1) // s + 1 for d, k, s, e in zip(x.shape[2:], kernel, strides, dilations, strict=True)
        ]
        y = np.zeros((x.shape[0], groups, w.shape[0] // groups, int(np.prod(sizes))))
        weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        for offset in itertools.product(*map(range, kernel)):
            view = x[_steps(offset, sizes, strides, dilations)]
            columns = view.reshape(x.shape[0], groups, w.shape[1], -1)
            taps = weights[_last(offset)]
            y += taps[None] * columns if w.shape[1] == 1 else np.matmul(taps[None], columns)
        y = y.reshape(x.shape[0], w.shape[0], *sizes)
        return (y if b is None else y + b.reshape(-1, *ones),)


class ConvTranspose(_Window):
    """ONNX ConvTranspose: the adjoint of Conv; w (C, O / group, *K)."""

    def _run(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, **_: Any) -> tuple[np.ndarray]:
        kernel, rank = w.shape[2:], w.ndim - 2
        ones = [1] * rank
        strides, dilations = self._ints("strides", ones), self._ints("dilations", ones)
        extra = self._ints("output_padding", [0] * rank)
        groups = self._flag("group", 1)
        full = [
            (d - 1) * s + (k - 1) * e + 1 for d, k, s, e in zip(x.shape[2:], kernel, strides, dilations, strict=True)
        ]
        pads = self._output_pads(x.shape[2:], full, strides, extra)
        channels = w.shape[1] * groups
        y = np.zeros((x.shape[0], channels, *(f + o for f, o in zip(full, extra, strict=True))))
        columns = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        weights = w.reshape(groups, x.shape[1] // groups, *w.shape[1:])
        for offset in itertools.product(*map(range, kernel)):
            part = np.matmul(weights[_last(offset)].swapaxes(1, 2)[None], columns)
            y[_steps(offset, x.shape[2:], strides, dilations)] += part.reshape(x.shape[0], channels, *x.shape[2:])
        y = y[_last([slice(begin, size - end) for (begin, end), size in zip(pads, y.shape[2:], strict=True)])]
        return (y if b is None else y + b.reshape(-1, *ones),)

    def _output_pads(
        self, sizes: Sequence[int], full: Sequence[int], strides: Sequence[int], extra: Sequence[int]
    ) -> list[tuple[int, int]]:
        auto = getattr(self, "auto_pad", None) or "NOTSET"
        shape = self._ints("output_shape", [])
        if not shape and auto in ("SAME_UPPER", "SAME_LOWER"):
            shape = [size * stride for size, stride in zip(sizes, strides, strict=True)]
        if not shape:
            rank = len(sizes)
            flat = self._ints("pads", [0] * (2 * rank))
            return list(zip(flat[:rank], flat[rank:], strict=True))
        totals = [f + o - wanted for f, o, wanted in zip(full, extra, shape[-len(full) :], strict=True)]
        return [(t - t // 2, t // 2) if auto != "SAME_UPPER" else (t // 2, t - t // 2) for t in totals]


class _Pool(_Window):
    def _views(self, x: np.ndarray, fill: float) -> tuple[list[int], Iterator[np.ndarray]]:
        """Sizes of the output, and the view of each kernel offset into x padded with `fill`."""
        kernel = self._ints("kernel_shape", ())
        ones = [1] * len(kernel)
        strides, dilations = self._ints("strides", ones), self._ints("dilations", ones)
        pads = self._pads(x.shape[2:], kernel, strides, dilations)
        sizes, overhang = [], []
        for size, k, s, e, (begin, end) in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True):
            span = size + begin + end - (k - 1) * e - 1
            count = (-(-span // s) if self._flag("ceil_mode") else span // s) + 1
            if self._flag("ceil_mode") and (count - 1) * s >= size + begin:
                count -= 1  # a window that begins in the padding at the end is dropped
            sizes.append(count)
            overhang.append(max(0, (count - 1) * s + (k - 1) * e + 1 - size - begin))
        widths = [(begin, over) for (begin, _), over in zip(pads, overhang, strict=True)]
        padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
        offsets = itertools.product(*map(range, kernel))
        return sizes, (padded[_steps(offset, sizes, strides, dilations)] for offset in offsets)


class MaxPool(_Pool):
    """ONNX MaxPool without its optional indices."""

    def _run(self, x: np.ndarray, **_: Any) -> tuple[np.ndarray]:
        if len(self.onnx_node.output) > 1:
            raise NotImplementedError("no float64 reference for MaxPool with indices")
        views = self._views(x, -np.inf)[1]
        y = next(views).copy()
        for view in views:
            np.maximum(y, view, out=y)
        return (y,)


class AveragePool(_Pool):
    """ONNX AveragePool: divides by the elements inside x, or inside x and its declared pads (count_include_pad)."""

    def _run(self, x: np.ndarray, **_: Any) -> tuple[np.ndarray]:
        sizes, views = self._views(x, 0.0)
        total = np.zeros((*x.shape[:2], *sizes))
        for view in views:
            total += view
        return (total / self._divisor(x.shape[2:], sizes),)

    def _divisor(self, spatial: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
        kernel = self._ints("kernel_shape", ())
        ones = [1] * len(kernel)
        strides, dilations = self._ints("strides", ones), self._ints("dilations", ones)
        pads = self._pads(spatial, kernel, strides, dilations)
        divisor: np.ndarray = np.ones(())
        for size, count, k, s, e, (begin, end) in zip(spatial, sizes, kernel, strides, dilations, pads, strict=True):
            index = np.arange(count)[:, None] * s - begin + np.arange(k)[None] * e
            low, high = (-begin, size + end) if self._flag("count_include_pad") else (0, size)
            inside = ((index >= low) & (index < high)).sum(axis=1)
            divisor = divisor[..., None] * inside
        return divisor


class GlobalAveragePool(_Window):
    """ONNX GlobalAveragePool."""

    def _run(self, x: np.ndarray, **_: Any) -> tuple[np.ndarray]:
        return (x.mean(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GlobalMaxPool(_Window):
    """ONNX GlobalMaxPool of any rank: `onnx.reference` takes the wrong axes of an x that is not 4-d."""

    def _run(self, x: np.ndarray, **_: Any) -> tuple[np.ndarray]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GatherElements(OpRun):
    """ONNX GatherElements: `onnx.reference` fails where indices are fewer than 64 and positions more."""

    op_domain = ""

    def _run(self, data: np.ndarray, indices: np.ndarray, axis: int | None = None) -> tuple[np.ndarray]:
        along = (axis or 0) % data.ndim
        part = data[tuple(slice(None) if each == along else slice(size) for each, size in enumerate(indices.shape))]
        return (np.take_along_axis(part, indices, along),)


class DequantizeLinear(OpRun):
    """ONNX DequantizeLinear: y = (x - zero_point) * scale in the type of the scale. `onnx.reference` has none before
    opset 19, and subtracts in float32, which a quantized bias of 32 bits may exceed.

    scale, zero_point: scalars, vectors along `axis`, or blocks of `block_size` along it (opset 21)
    """

    op_domain = ""

    def _run(
        self, x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None, **_: Any
    ) -> tuple[np.ndarray]:
        axis, block = getattr(self, "axis", None), int(getattr(self, "block_size", None) or 0)
        along = (1 if axis is None else int(axis)) % x.ndim if x.ndim and scale.size > 1 else 0

        def spread(each: np.ndarray) -> np.ndarray:
            if block:
                return np.repeat(each, block, along)[tuple(map(slice, x.shape))]
            return each.reshape([-1 if a == along else 1 for a in range(x.ndim)]) if each.size > 1 else each.reshape(())

        wide = x.astype(np.float64)
        if zero_point is not None:
            wide = wide - spread(zero_point).astype(np.float64)
        return (np.asarray(wide * spread(scale), scale.dtype),)


class Loop(op_loop.Loop):
    """ONNX Loop: `onnx.reference` joins what turns give along the first axis instead of stacking it along a new one.

    A loop of no turns gives stacks of no elements, of the shape that the body declares.
    """

    op_domain = ""

    def _run(
        self,
        trips: np.ndarray | None,
        going: np.ndarray | None,
        *states: Any,
        context: dict[str, Any] | None = None,
        **linked: Any,
    ) -> tuple[Any, ...]:
        turn, condition, *names = self.body.input_names
        carried, given = list(states), []
        count, goes_on = 0, going is None or bool(going)
        while goes_on and (trips is None or count < int(trips)):
            now = {**(context or {}), turn: np.asarray(count, np.int64), condition: np.asarray(goes_on)}
            now.update(zip(names, carried, strict=True))
            after, *results = self._run_body(now, attributes=linked.get("attributes"), bindings=linked.get("bindings"))
            carried, goes_on = results[: len(names)], bool(after)
            given.append(results[len(names) :])
            count += 1
        if not given:
            stacks = [_none_of(value.type) for value in self.body.proto_.output[1 + len(names) :]]
        else:
            stacks = [np.stack(each) for each in zip(*given, strict=True)]
        return (*carried, *stacks)


def _none_of(declared: TypeProto) -> np.ndarray:
    """No elements (0, *shape) of the shape that a value is declared with."""
    tensor = declared.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise NotImplementedError("a Loop of no turns that does not declare the shape of what it stacks")
    shape = [dim.dim_value for dim in tensor.shape.dim]
    return np.empty((0, *shape), helper.tensor_dtype_to_np_dtype(tensor.elem_type))


def _last(index: Sequence[Any]) -> Any:
    """An index of the last axes."""
    return (..., *index)


def _steps(offset: Sequence[int], sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """The positions that the kernel element at `offset` touches: an index with one slice for each spatial axis."""
    starts = [k * dilation for k, dilation in zip(offset, dilations, strict=True)]
    return _last([slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, sizes, strides, strict=True)])


KERNELS: list[type[OpRun]] = [
    Conv,
    ConvTranspose,
    MaxPool,
    AveragePool,
    GlobalAveragePool,
    GlobalMaxPool,
    GatherElements,
    DequantizeLinear,
    Loop,
]
