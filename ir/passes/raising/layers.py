"""Recurrent layers put together again from their steps (cells.py), whatever stands around these: a loop, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from isomorph.ir.builder import Rewriter
from isomorph.ir.graph import Value
from isomorph.ir.ops.elementwise import Add
from isomorph.ir.ops.linear import Linear, MatMul
from isomorph.ir.ops.recurrent import GRU, Recurrent
from isomorph.ir.ops.shape import Concat, Transpose
from isomorph.ir.passes.raising.arithmetic import made_of
from isomorph.ir.passes.raising.bends import attributes_of
from isomorph.ir.passes.raising.cells import Cell
from isomorph.ir.passes.raising.gates import Product
from isomorph.records import record

__all__ = ["Layer", "layer_of", "made"]

Carry = Callable[[Value], Value]
"""The value outside for one in the body of a loop, and the new one for an old one."""


@record
class Layer:
    """A layer without its data: its op, and the products of data and of h that a step adds up."""

    op: Recurrent
    inside: Product
    back: Product
    vectors: tuple[Value, ...]
    peepholes: tuple[Value, ...] = ()


def layer_of(cell: Cell, h: Value) -> Layer | None:
    """The layer of which a cell is a step that h goes into; None if it has not one product of data and one of h."""
    backs = [product for product in cell.products if product.data is h and product.weight is not None]
    if cell.again is not None:
        backs = [cell.again] if cell.h is h else []
    inside = [product for product in cell.products if product not in backs]
    if len(backs) != 1 or len(inside) != 1:
        return None
    gates = "" if cell.gates == cell.kind.GATES else cell.gates
    op: Recurrent = GRU(linear_before_reset=cell.before) if cell.kind is GRU else cell.kind()
    op = replace(op, gates=gates, **attributes_of(cell.functions, cell.kind.FUNCTIONS))  # type: ignore[arg-type]
    return Layer(op, inside[0], backs[0], cell.vectors, cell.peepholes)


def rows_of(value: Value) -> tuple[Product, tuple[Value, ...]] | None:
    """(product, vectors) of what data of all steps add to the gates: data @ weight^T + bias + vectors."""
    node = value.producer
    pair = made_of(value, Add)
    for rows, vector in (pair, pair[::-1]) if pair is not None else ():
        found = rows_of(rows) if vector.is_parameter and vector.rank == 1 else None
        if found is not None:
            return found[0], (*found[1], vector)
    if node is None or not isinstance(node.op, Linear | MatMul):
        return None
    data, weight, bias = (*node.inputs, None)[:3]
    if data is None or weight is None or weight.rank != 2:
        return None
    return Product(data, weight, bias, isinstance(node.op, MatMul)), ()


def made(
    b: Rewriter,
    layer: Layer,
    x: Value,
    states: Sequence[Value],
    carry: Carry | None = None,
    *,
    lengths: Value | None = None,
    **attributes: bool | str,
) -> tuple[Value, ...] | None:
    """y and the last states of the layer, from states (1, N, H).

    x  all data, new; of a layer whose steps take rows, the rows of the source graph
    None if operands do not fit the layer, or rows are no product of data.
    """
    carry = carry or b.new
    product, vectors = layer.inside, [carry(each) for each in layer.vectors]
    if product.weight is None:
        found = rows_of(x)
        if found is None:
            return None
        product, more = found
        vectors += [b.new(each) for each in more]
        data, weight, bias = (each and b.new(each) for each in (product.data, product.weight, product.bias))
    else:
        data = x
        weight, bias = (each and carry(each) for each in (product.weight, product.bias))
    back, back_bias = (each and carry(each) for each in (layer.back.weight, layer.back.bias))
    if data is None or weight is None or back is None or data.rank != 3:
        return None
    for vector in vectors:
        if bias is None:
            bias = vector
        elif back_bias is None and not isinstance(layer.op, GRU):
            back_bias = vector
        else:
            bias = b.emit(Add(), bias, vector)
    looks = [carry(each) for each in layer.peepholes]
    operands = {
        "x": data,
        "w": _upright(b, weight, product.transposed),
        "r": _upright(b, back, layer.back.transposed),
        "b": bias,
        "rb": back_bias,
        "lengths": lengths,
        "p": b.emit(Concat(0), *looks) if len(looks) > 1 else (*looks, None)[0],
        **dict(zip(layer.op.STATES, states, strict=True)),
    }
    op = replace(layer.op, **attributes)  # type: ignore[arg-type]
    given = [operands.get(name.rstrip("?")) for name in op.inputs]
    fits = all(each is None or each.rank == 1 for each in (bias, back_bias)) and _is_square(op, operands)
    return b.emit_many(op, *given) if fits else None


def _upright(b: Rewriter, weight: Value, transposed: bool) -> Value:
    return b.emit(Transpose((1, 0)), weight) if transposed else weight


def _is_square(op: Recurrent, operands: dict[str, Value | None]) -> bool:
    """Whether weights are (gates * H, I) and (gates * H, H), and there is a bias for each row."""
    x, w, r = operands["x"], operands["w"], operands["r"]
    assert x is not None and w is not None and r is not None
    rows = w.shape[0]
    square = isinstance(rows, int) and r.shape == (rows, rows // len(op.GATES)) and w.shape[1] == x.shape[2]
    return square and all(each is None or each.shape == (rows,) for each in (operands["b"], operands["rb"]))
