"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops

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
    return b.emit(ops.Pad(tuple(pairs), _MODES[mode], number), self)


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
