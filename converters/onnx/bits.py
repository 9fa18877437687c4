"""Ops on the bits of numbers in ONNX."""

from __future__ import annotations

from typing import Any

from isomorph.converters.onnx.codec import dtype_of, element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops


@rules.imports("BitShift")
def read_bit_shift(node: OnnxNode) -> Value:
    direction: Any = str(node.attribute("direction", "")).lower()
    return node.emit(ops.BitShift(direction), node.value(0), node.value(1))


@rules.imports("BitCast")
def read_bit_cast(node: OnnxNode) -> Value:
    return node.emit(ops.BitCast(dtype_of(int(node.attribute("to")), node.where)), node.value(0))


@rules.exports(ops.BitShift)
def write_bit_shift(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.BitShift)
    export.replace("BitShift", node, direction=node.op.direction.upper())


@rules.exports(ops.BitCast)
def write_bit_cast(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.BitCast)
    export.replace("BitCast", node, to=element_type(node.op.to))
