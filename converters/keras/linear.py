"""Dense layers, table look-ups, matrix products and einsum."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from isomorph.converters.keras.activation import activate
from isomorph.converters.keras.elementwise import pair
from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import DType, Node, Value, ops
from isomorph.ir.evaluate import evaluate_op
from isomorph.ir.op import normalize_axes


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
    return _looked_up(layer, x)


def _looked_up(layer: Layer, x: Value) -> Value:
    if layer.flag("mask_zero", False):
        raise layer.unsupported("mask_zero: a mask that later layers would read")
    places = _known_places(x)
    if places is not None and np.array_equal(places.reshape(-1), np.arange(layer.integer("input_dim"))):
        shape = (*places.shape, layer.integer("output_dim"))
        return layer.weight("embeddings", lambda source: source.reshaped(shape))
    table = layer.weight("embeddings")
    return layer.emit(ops.Embedding(), x if x.dtype.is_integer else layer.emit(ops.Cast(DType.INT32), x), table)


@rules.imports("ReversibleEmbedding")
def _reversible_embedding(layer: Layer, x: Value, reverse: object = False) -> Value:
    """Embedding, or in reverse y = x Wᵀ with its table W (V, D) or, untied, the matrix (D, V) of the reverse.

    See: keras/src/layers/core/reversible_embedding.py.
    """
    if not layer.kwargs.get("reverse", reverse):
        return _looked_up(layer, x)
    kind = layer.config.get("reverse_dtype")
    dtype = None if kind is None else DType.of(kind)
    if layer.flag("tie_weights", True):
        w = layer.weight("embeddings", dtype=dtype)
    else:
        w = layer.weight("reverse_embeddings", lambda source: source.permuted((1, 0)), dtype=dtype)
    made = layer.emit(ops.Linear(), layer.cast(x, w.dtype), w)
    if layer.config.get("logit_soft_cap") is None:
        return made
    cap = layer.constant(layer.number("logit_soft_cap"), made, "soft_cap")
    return layer.emit(ops.Mul(), layer.emit(ops.Tanh(), layer.emit(ops.Div(), made, cap)), cap)


def _known_places(x: Value) -> Any:
    """The indices, where they do not depend on an input's elements: zeros in its form plus a literal; else None.

    All rows of a table in order are a free parameter (see docs/decisions/0006-parameters-without-a-layer.md).
    """
    if x.parameter is not None and x.parameter.role == "constant":
        return x.parameter.data.numpy()
    node = x.producer
    if node is None or not isinstance(node.op, (ops.ConstantOfShape, ops.Add)) or not node.output.type.is_static:
        return None
    operands = [_known_places(value) for value in node.operands()]
    return None if any(array is None for array in operands) else evaluate_op(node.op, *operands)[0]


@rules.imports("ops.Matmul", "tf.linalg.matmul")
def _matmul(layer: Layer, a: Value, b: object = None) -> Value:
    if any(
        layer.kwargs.get(key)
        for key in ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse")
    ):
        raise layer.unsupported("a transposed or sparse operand")
    return layer.emit(ops.MatMul(), *pair(layer, a, layer.kwargs.get("b") if b is None else b))


@rules.imports("ops.Dot", "ops.Tensordot")
def _tensor_dot(layer: Layer, a: Any, b: Any) -> Value:
    """Sums over pairs of axes; `dot` sums over the last axis of a and the last but one of b."""
    left, right = pair(layer, a, b)
    if 0 in (left.rank, right.rank):
        return layer.emit(ops.Mul(), left, right)
    stated = layer.config.get("axes", 2)
    if layer.cls == "ops.Dot":
        pairs: Any = ([-1], [-1 if right.rank == 1 else -2])
    elif type(stated) is int:
        pairs = (range(left.rank - stated, left.rank), range(stated))
    else:
        pairs = [list(side) if isinstance(side, (list, tuple)) else [side] for side in stated]
    first, second = (normalize_axes(axes, value.rank) for axes, value in zip(pairs, (left, right), strict=True))
    if first == (left.rank - 1,) and second == (0,) and right.rank == 2 and left.rank >= 2:
        return layer.emit(ops.MatMul(), left, right)
    if left.rank + right.rank > 26 or len(first) != len(second):
        raise layer.malformed(f"axes {stated!r} for operands of rank {left.rank} and {right.rank}")
    ours, theirs = (
        [chr(97 + axis) for axis in range(left.rank)],
        [chr(97 + left.rank + axis) for axis in range(right.rank)],
    )
    for mine, other in zip(first, second, strict=True):
        theirs[other] = ours[mine]
    summed = {ours[axis] for axis in first}
    kept = "".join(letter for letter in (*ours, *theirs) if letter not in summed)
    return layer.emit(ops.Einsum(f"{''.join(ours)},{''.join(theirs)}->{kept}"), left, right)


@rules.imports("ops.Einsum")
def _einsum(layer: Layer, *operands: Any) -> Value:
    subscripts = str(layer.config.get("subscripts", "")).replace(" ", "")
    if "->" not in subscripts:
        raise layer.unsupported("an implicit einsum")
    if len(operands) == 2:
        return layer.emit(ops.Einsum(subscripts), *pair(layer, *operands))
    if not all(isinstance(value, Value) for value in operands):
        raise layer.unsupported("an einsum of other things than two tensors")
    return layer.emit(ops.Einsum(subscripts), *operands)


@refuses(ops.Linear)
def _linear_refusal(node: Node) -> str | None:
    x, *rest = node.inputs
    assert x is not None
    if x.rank < 2 or not isinstance(x.shape[-1], int):
        return f"a Dense layer on {x.type}"
    return "a weight that is computed" if any(value is not None and not value.is_parameter for value in rest) else None


@refuses(ops.Gemm)
def _gemm_refusal(node: Node) -> str | None:
    op, (_, w, c) = node.op, (*node.inputs, None)[:3]
    assert isinstance(op, ops.Gemm) and w is not None
    width = w.shape[0] if op.trans_b else w.shape[1]
    dense = op.alpha == 1.0 and op.beta == 1.0 and not op.trans_a and w.is_parameter
    biased = c is None or (c.is_parameter and c.shape == (width,))
    return None if dense and biased else "a product that is no Dense layer"


@rules.exports(ops.Linear, ops.Gemm)
def _dense_layer(out: Emitter, node: Node) -> Tensor:
    """Kernels (O, I) are stored as (I, O). The table of an embedding stays in its layer, a bias beside it."""
    x, w, bias = (*node.inputs, None)[:3]
    assert w is not None and w.parameter is not None
    rows_first = not isinstance(node.op, ops.Gemm) or node.op.trans_b
    stored = w.parameter.data.permuted((1, 0)) if rows_first else w.parameter.data
    if rows_first and w.parameter in out.reversible:
        made = _reversed(out, node, w)
        return made if bias is None else out.operation(node, "Add", {}, made, out.tensor(bias), suffix="bias")
    config = {"units": stored.shape[1], "use_bias": bias is not None}
    return out.layer(node, "Dense", config, out.tensor(x), weights=[out.held(w, stored), out.held(bias)])


@rules.exports(ops.MatMul)
def _product(out: Emitter, node: Node) -> Tensor:
    """A Dense layer where the right factor is a weight of rank 2, else an operation."""
    a, b = node.inputs
    assert a is not None and b is not None
    if b.is_parameter and b.rank == 2 and a.rank >= 2 and b.dtype.is_float and isinstance(a.shape[-1], int):
        return out.layer(node, "Dense", {"units": b.shape[1], "use_bias": False}, out.tensor(a), weights=[out.held(b)])
    return out.operation(node, "Matmul", {}, *out.arguments(node))


@rules.exports(ops.Einsum)
def _einsum_operation(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Einsum)
    return out.operation(node, "Einsum", {"subscripts": node.op.equation}, *out.arguments(node))


@refuses(ops.Embedding)
def _embedding_refusal(node: Node) -> str | None:
    _, table = node.inputs
    assert table is not None
    return None if table.is_parameter and table.dtype.is_float else "a table that is computed"


@rules.exports(ops.Embedding)
def _embedding_layer(out: Emitter, node: Node) -> Tensor:
    indices, table = node.inputs
    assert table is not None
    config = {"input_dim": table.shape[0], "output_dim": table.shape[1]}
    cls = "ReversibleEmbedding" if table.parameter in out.reversible else "Embedding"
    return out.layer(node, cls, config, out.tensor(indices), weights=[out.held(table)])


def _reversed(out: Emitter, node: Node, table: Value) -> Tensor:
    """x Wᵀ by the layer that has W as its table."""
    config = {"input_dim": table.shape[0], "output_dim": table.shape[1]}
    x, types = out.tensor(node.inputs[0]), [node.outputs[0].type]
    weights = [out.held(table)]
    return out.layers(node, "ReversibleEmbedding", config, x, types=types, weights=weights, reverse=True)[0]
