"""Dense layers, table look-ups, matrix products and einsum."""

from __future__ import annotations

import re

from isomorph.converters.keras.activation import activate
from isomorph.converters.keras.elementwise import pair
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import DType, Value, ops


@rules.imports("Dense")
def _dense(layer: Layer, x: Value) -> Value:
    """y = x kernel + bias, the kernel (I, O) seen as (O, I). Integers are cast first."""
    w = layer.weight("kernel", lambda source: source.permuted((1, 0)))
    return activate(layer, layer.emit(ops.Linear(), layer.cast(x, w.dtype), w, layer.optional("bias")))


@rules.imports("EinsumDense")
def _einsum_dense(layer: Layer, x: Value) -> Value:
    """y = einsum(equation, x, kernel) + bias, the bias shaped to stand on its axes."""
    equation = str(layer.config.get("equation", "")).replace(" ", "")
    if not re.fullmatch(r"[A-Za-z.]+,[A-Za-z]+->[A-Za-z.]+", equation):
        raise layer.malformed(f"the equation {equation!r}")
    made = layer.emit(ops.Einsum(equation), x, layer.weight("kernel"))
    if layer.has("bias"):
        made = layer.emit(ops.Add(), made, layer.weight("bias"))
    return activate(layer, made)


@rules.imports("Embedding")
def _embedding(layer: Layer, x: Value) -> Value:
    if layer.flag("mask_zero", False):
        raise layer.unsupported("mask_zero: a mask that later layers would read")
    table = layer.weight("embeddings")
    return layer.emit(ops.Embedding(), x if x.dtype.is_integer else layer.emit(ops.Cast(DType.INT32), x), table)


@rules.imports("ops.Matmul", "tf.linalg.matmul")
def _matmul(layer: Layer, a: Value, b: object = None) -> Value:
    if any(
        layer.kwargs.get(key)
        for key in ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse")
    ):
        raise layer.unsupported("a transposed or sparse operand")
    return layer.emit(ops.MatMul(), *pair(layer, a, layer.kwargs.get("b") if b is None else b))


@rules.imports("ops.Einsum")
def _einsum(layer: Layer, *operands: Value) -> Value:
    subscripts = str(layer.config.get("subscripts", "")).replace(" ", "")
    if "->" not in subscripts:
        raise layer.unsupported("an implicit einsum")
    return layer.emit(ops.Einsum(subscripts), *operands)
