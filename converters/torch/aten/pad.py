"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.shapes import elements

Sizes = Sequence[Dim]


_MODES: dict[str, Literal["constant", "reflect", "edge", "wrap"]] = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


@rules.imports("aten.pad.default")
def pad(b: Lowering, self: Value, pad: Sizes, mode: str = "constant", value: float | None = None) -> Value:
    """pad(Tensor self, SymInt[] pad, str mode='constant', float? value=None): pairs from the last axis backwards"""
    pairs = [(0, 0)] * self.rank
    for position in range(len(pad) // 2):
        pairs[self.rank - 1 - position] = (pad[2 * position], pad[2 * position + 1])  # type: ignore[assignment]
    if not any(begin != 0 or end != 0 for begin, end in pairs):
        return self
    filled: float | int = 0 if value is None else value
    number = filled if self.dtype.is_float else bool(filled) if self.dtype is DType.BOOL else int(filled)
    shape = tuple(dim + begin + end for dim, (begin, end) in zip(self.shape, pairs, strict=True))
    if elements(shape) == 0 and mode != "constant":
        return b.emit(ops.ConstantOfShape(shape, 0, self.dtype))
    cut = any(isinstance(size, int) and size < 0 for pair in pairs for size in pair)
    if cut and mode != "constant":
        return _cut_and_padded(b, self, pairs, _MODES[mode])
    return b.emit(ops.Pad(tuple(pairs), _MODES[mode], number), self)


def _cut_and_padded(b: Lowering, x: Value, pairs: Sequence[tuple[Dim, Dim]], mode: Any) -> Value:
    """Cells repeat those that are cut off elsewhere; only what is circular goes around what is left."""
    grown = tuple(tuple(max(b.static(size, "a pad"), 0) for size in pair) for pair in pairs)
    cuts = [(max(-begin, 0), max(-end, 0)) for begin, end in pairs]  # type: ignore[type-var]
    axes = tuple(axis for axis, pair in enumerate(cuts) if any(pair))
    op = ops.Slice(
        axes, tuple(cuts[axis][0] for axis in axes), tuple(-cuts[axis][1] or None for axis in axes), (1,) * len(axes)
    )
    steps = [ops.Pad(grown, mode), op]  # type: ignore[arg-type]
    for step in reversed(steps) if mode == "wrap" else steps:
        x = b.emit(step, x)
    return x


@rules.imports("aten._pad_circular.default")
def circular_pad(b: Lowering, self: Value, pad: Sizes) -> Value:
    """_pad_circular(Tensor self, SymInt[] pad)"""
    return _pad(b, self, pad, "circular")


@rules.imports("aten.constant_pad_nd.default")
def constant_pad(b: Lowering, self: Value, pad: Sizes, value: float = 0) -> Value:
    """constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0)"""
    return _pad(b, self, pad, "constant", value)


@rules.imports("aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
def reflection_pad(b: Lowering, self: Value, padding: Sizes) -> Value:
    """reflection_pad2d(Tensor self, SymInt[4] padding)"""
    return _pad(b, self, padding, "reflect")


@rules.imports("aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default")
def replication_pad(b: Lowering, self: Value, padding: Sizes) -> Value:
    """replication_pad2d(Tensor self, SymInt[4] padding)"""
    return _pad(b, self, padding, "replicate")


_pad = pad
