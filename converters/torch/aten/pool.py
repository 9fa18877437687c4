"""Pooling."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Callable, Sequence

from isomorph.converters.torch.aten.conv import batched, per_axis
from isomorph.converters.torch.aten.unpool import adaptive_places
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Op, Sym, Value, ops
from isomorph.ir.shapes import ceil_div, elements

Ints = Sequence[int]


def _pairs(padding: Ints, rank: int) -> tuple[tuple[int, int], ...]:
    return tuple((size, size) for size in per_axis(padding, rank))


def _register_max(rank: int) -> None:
    @rules.imports(f"aten.max_pool{rank}d.default")
    def max_pool(
        b: Lowering,
        self: Value,
        kernel_size: Ints,
        stride: Ints = (),
        padding: Ints = (0,),
        dilation: Ints = (1,),
        ceil_mode: bool = False,
    ) -> Value:
        kernel = per_axis(kernel_size, rank)
        strides = per_axis(stride, rank) if stride else kernel
        op = ops.MaxPool(kernel, strides, _pairs(padding, rank), per_axis(dilation, rank), ceil_mode)
        return batched(b, self, rank, lambda x: b.emit(op, x))

    @rules.imports(f"aten.max_pool{rank}d_with_indices.default")
    def with_indices(
        b: Lowering,
        self: Value,
        kernel_size: Ints,
        stride: Ints = (),
        padding: Ints = (0,),
        dilation: Ints = (1,),
        ceil_mode: bool = False,
    ) -> tuple[Value, Value | None]:
        kernel = per_axis(kernel_size, rank)
        strides = per_axis(stride, rank) if stride else kernel
        op = ops.MaxPoolWithIndices(kernel, strides, _pairs(padding, rank), per_axis(dilation, rank), ceil_mode)
        return indexed(b, self, rank, lambda x: _within_channels(b, x, *b.emit_many(op, x)))

    max_pool.__doc__ = (
        f"max_pool{rank}d(Tensor self, int[] kernel_size, stride=[], padding=0, dilation=1, bool ceil_mode=False)"
    )
    with_indices.__doc__ = f"max_pool{rank}d_with_indices(…) -> (Tensor, Tensor indices)"


def indexed(
    b: Lowering, x: Value, rank: int, compute: Callable[[Value], tuple[Value, Value | None]]
) -> tuple[Value, Value | None]:
    """`batched` for what gives values and indices."""
    if x.rank == rank + 2:
        return compute(x)
    values, indices = compute(b.emit(ops.Unsqueeze((0,)), x))
    return b.emit(ops.Squeeze((0,)), values), None if indices is None else b.emit(ops.Squeeze((0,)), indices)


def _within_channels(b: Lowering, x: Value, values: Value, places: Value) -> tuple[Value, Value | None]:
    """ONNX counts the elements of all data, torch those of a channel."""
    if x.shape[:2] == (1, 1):
        return values, places
    return values, b.emit(ops.Mod(), places, b.number(elements(x.shape[2:]), DType.INT64))


def _register_average(rank: int) -> None:
    @rules.imports(f"aten.avg_pool{rank}d.default")
    def avg_pool(
        b: Lowering,
        self: Value,
        kernel_size: Ints,
        stride: Ints = (),
        padding: Ints = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        b.require(self.dtype.is_float, f"averages of {self.dtype}, which torch truncates")
        kernel = per_axis(kernel_size, rank)
        strides = per_axis(stride, rank) if stride else kernel
        pads = _pairs(padding, rank)
        if divisor_override is not None:
            return batched(b, self, rank, lambda x: _sum_pool(b, x, kernel, strides, pads, ceil_mode, divisor_override))
        op = ops.AveragePool(
            kernel, strides, pads, (1,) * rank, ceil_mode, count_include_pad and any(begin for begin, _ in pads)
        )
        return batched(b, self, rank, lambda x: b.emit(op, x))

    avg_pool.__doc__ = (
        f"avg_pool{rank}d(Tensor self, int[] kernel_size, stride=[], padding=0, ceil_mode, count_include_pad, divisor)"
    )


def _sum_pool(
    b: Lowering, x: Value, kernel: Ints, strides: Ints, pads: tuple[tuple[int, int], ...], ceil_mode: bool, divisor: int
) -> Value:
    """The sum over each window by `divisor`: zeros are laid around the data, so that every window is full."""
    grown = []
    for size, window, stride, (begin, end) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        extra = 0
        if ceil_mode:
            static = b.static(size, "an axis that is pooled with ceil_mode and divisor_override")
            room = static + begin + end - window
            count = int(ceil_div(room, stride)) + 1  # type: ignore[arg-type]
            count -= (count - 1) * stride >= static + begin
            extra = max((count - 1) * stride - room, 0)
        grown.append((begin, end + extra))
    padded = b.emit(ops.Pad(((0, 0), (0, 0), *grown)), x) if any(map(any, grown)) else x
    area = 1
    for window in kernel:
        area *= window
    rank = len(kernel)
    mean = b.emit(ops.AveragePool(tuple(kernel), tuple(strides), ((0, 0),) * rank, (1,) * rank), padded)
    return b.emit(ops.Mul(), mean, b.number(area / divisor, x.dtype))


def _register_adaptive(rank: int) -> None:
    @rules.imports(f"aten.adaptive_avg_pool{rank}d.default", f"aten._adaptive_avg_pool{rank}d.default")
    def average(b: Lowering, self: Value, output_size: Sequence[int | None]) -> Value:
        return batched(b, self, rank, lambda x: _adaptive(b, x, per_axis(output_size, rank), average=True))

    @rules.imports(f"aten.adaptive_max_pool{rank}d.default")
    def maximum(b: Lowering, self: Value, output_size: Sequence[int | None]) -> tuple[Value, Value | None]:
        return indexed(b, self, rank, lambda x: _adaptive_maxima(b, x, per_axis(output_size, rank)))

    average.__doc__ = f"adaptive_avg_pool{rank}d(Tensor self, SymInt[] output_size)"
    maximum.__doc__ = f"adaptive_max_pool{rank}d(Tensor self, int[] output_size) -> (Tensor, Tensor indices)"


for _rank in (1, 2, 3):
    _register_max(_rank)
    _register_average(_rank)
    _register_adaptive(_rank)


def _adaptive(b: Lowering, x: Value, wanted: Sequence[int | None], *, average: bool) -> Value:
    """The plainest op that does the same: nothing, global pooling, equal windows, or the adaptive op itself."""
    sizes = x.shape[2:]
    targets = [size if target is None else target for size, target in zip(sizes, wanted, strict=True)]
    if all(size == target for size, target in zip(sizes, targets, strict=True)):
        return x
    if all(target == 1 for target in targets):
        return b.emit(ops.GlobalAveragePool() if average else ops.GlobalMaxPool(), x)
    windows = []
    for size, target in zip(sizes, targets, strict=True):
        if isinstance(size, int) and isinstance(target, int) and target > 0 and size % target == 0:
            windows.append(size // target)
    rank = len(sizes)
    op: Op
    if len(windows) == rank:
        kernel = tuple(windows)
        none = ((0, 0),) * rank
        op = (
            ops.AveragePool(kernel, kernel, none, (1,) * rank)
            if average
            else ops.MaxPool(kernel, kernel, none, (1,) * rank)
        )
    else:
        op = (ops.AdaptiveAveragePool if average else ops.AdaptiveMaxPool)(tuple(wanted))
    return b.emit(op, x)


def _adaptive_maxima(b: Lowering, x: Value, wanted: Sequence[int | None]) -> tuple[Value, Value | None]:
    """Maxima and where they lie: two computations, as mostly the first alone is asked for."""
    values = _adaptive(b, x, wanted, average=False)
    sizes = x.shape[2:]
    if any(isinstance(size, Sym) for size in sizes):
        return values, None
    targets = [int(size if target is None else target) for size, target in zip(sizes, wanted, strict=True)]  # type: ignore[arg-type]
    return values, adaptive_places(b, x, targets)
