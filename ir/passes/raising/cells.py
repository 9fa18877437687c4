"""One step of a recurrent layer as sources spell it, read backwards from the state that it leaves.

    LSTM  c' = f * c + i * g,  h' = o * tanh(c')             i, f, o sigmoids and g a tanh of gates
    GRU   h' = (1 - z) * n + z * h, or z * (h - n) + n       z, q sigmoids, n = tanh(x's gate + q * h's gate)
    RNN   h' = tanh(gate), or relu(gate)

A gate is a run of columns of one sum: products with weights of the data, or rows that hold them already, products of h,
and vectors. All gates are runs of the same products, in any order, which is the order of the layer's gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from isomorph.ir.graph import Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Relu, Sigmoid, Tanh
from isomorph.ir.ops.elementwise import Add, Mul, Sub
from isomorph.ir.ops.linear import Linear, MatMul
from isomorph.ir.ops.recurrent import GRU, LSTM, RNN, Recurrent
from isomorph.ir.ops.shape import Slice, Split
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of, operand
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.ir.shapes import Dim

__all__ = ["Cell", "Product", "read_cell"]


@dataclass(frozen=True, slots=True)
class Product:
    """data @ weight^T + bias; `weight` is (rows, columns), or (columns, rows) if `transposed`.

    Without a weight, data are rows (…, gates * H) that hold such a product already.
    """

    data: Value
    weight: Value | None = None
    bias: Value | None = None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A step: states before and after, and what the gates are made of.

    products  of the data and of h: which is which, the layer around the step says
    again     the product of h of a GRU, which its reset gate multiplies (`before`: h is multiplied first, then reset)
    """

    kind: type[Recurrent]
    h_next: Value
    products: tuple[Product, ...]
    gates: str
    h: Value | None = None
    c: Value | None = None
    c_next: Value | None = None
    again: Product | None = None
    vectors: tuple[Value, ...] = ()
    function: str = ""
    before: bool = False

    @property
    def weights(self) -> frozenset[Value | None]:
        """What identifies the layer of which this is a step."""
        return frozenset(product.weight for product in self.products)


def read_cell(value: Value) -> Cell | None:
    """The step whose next h a value is."""
    if value.rank not in (2, 3) or not isinstance(value.shape[-1], int) or not value.dtype.is_float:
        return None
    return _lstm(value) or _gru(value) or _rnn(value)


Summand = Value | Product
Term = tuple[Summand, int | None]
"""A summand of a gate: what it is a run of columns of, and which, None if it is as wide as the gate."""


def _terms(value: Value, place: int | None, width: int) -> list[Term]:
    """The summands of a gate of this width."""
    run = _run(value, width) if place is None else None
    if run is not None:
        return _terms(run[0], run[1], width)
    pair = made_of(value, Add)
    if pair is not None and all(each.rank > 0 and each.shape[-1] == value.shape[-1] for each in pair):
        return [*_terms(pair[0], place, width), *_terms(pair[1], place, width)]
    divided = _divided_product(value, width) if place is None else None
    return [(value, place) if divided is None else divided]


def _divided_product(value: Value, width: int) -> tuple[Product, int] | None:
    """(product, k) of a value that is a product with the k-th run of rows of a weight."""
    product = _product(value)
    run = None if product.weight is None or product.transposed else _run(product.weight, width, 0)
    if run is None:
        return None
    bias = None if product.bias is None else _run(product.bias, width)
    fits = product.bias is None or (bias is not None and bias[1] == run[1])
    return (Product(product.data, run[0], bias and bias[0]), run[1]) if fits else None


def _run(value: Value, width: int, axis: int = -1) -> tuple[Value, int] | None:
    """(x, k) of a value that is the k-th run of this many columns of x, or of elements along another axis."""
    node = value.producer
    x = node.inputs[0] if node is not None and isinstance(node.op, Split | Slice) else None
    if node is None or x is None or x.rank == 0 or not isinstance(x.shape[axis], int) or x.shape[axis] == width:
        return None
    if isinstance(node.op, Split):
        place = next(at for at, each in enumerate(node.outputs) if each is value)
        same = node.op.axis % x.rank == axis % x.rank and set(node.op.sizes) == {width}
        return (x, place) if same else None
    assert isinstance(node.op, Slice)
    if [each % x.rank for each in node.op.axes] != [axis % x.rank] or node.op.steps != (1,):
        return None
    start, end = node.op.starts[0], node.op.ends[0]
    if not isinstance(start, int | None) or not isinstance(end, int | None):
        return None
    found = range(*slice(start, end).indices(int(x.shape[axis])))  # type: ignore[arg-type]
    return (x, found.start // width) if len(found) == width and found.start % width == 0 else None


def _runs(gates: Mapping[str, Value], width: int) -> tuple[list[Summand], str] | None:
    """(values, order) of gates that all are runs of columns of the same values, in this order."""
    found = {letter: _terms(value, None, width) for letter, value in gates.items()}
    values = [value for value, _ in next(iter(found.values()))]
    order = [""] * len(gates)
    for letter, listed in found.items():
        places = {place for _, place in listed}
        place = places.pop()
        if {value for value, _ in listed} != set(values) or len(listed) != len(values) or places:
            return None
        if place is None and len(gates) > 1:
            return None
        order[(place or 0) % len(gates)] += letter
    if any(len(letters) != 1 for letters in order) or len(set(values)) != len(values):
        return None
    wide = all(_columns(value) == len(gates) * width for value in values)
    return (values, "".join(order)) if wide else None


def _columns(value: Summand) -> Dim:
    if isinstance(value, Value):
        return value.shape[-1] if value.rank else 1
    return value.weight.shape[0] if value.weight is not None else 0


def _products(values: list[Summand]) -> tuple[tuple[Product, ...], tuple[Value, ...]]:
    """(products, vectors) of the summands of all gates."""
    vectors = tuple(value for value in values if isinstance(value, Value) and value.is_parameter and value.rank == 1)
    return tuple(_product(value) for value in values if value not in vectors), vectors


def _product(value: Summand) -> Product:
    if isinstance(value, Product):
        return value
    node = value.producer
    data, weight, bias = (*node.inputs, None, None)[:3] if node is not None and node.inputs else (None, None, None)
    if node is None or data is None or weight is None or weight.rank != 2 or not isinstance(node.op, Linear | MatMul):
        return Product(value)
    return Product(data, weight, bias, isinstance(node.op, MatMul))


def _lstm(h_next: Value) -> Cell | None:
    for gate_o, bent in both_ways(h_next, Mul):
        o, c_next = operand(gate_o, Sigmoid), operand(bent, Tanh)
        for kept, fresh in both_ways(c_next, Add) if o is not None else ():
            for gate_i, gate_g in both_ways(fresh, Mul):
                i, g = operand(gate_i, Sigmoid), operand(gate_g, Tanh)
                for gate_f, c in both_ways(kept, Mul) if i is not None and g is not None else ():
                    f = operand(gate_f, Sigmoid)
                    if f is None or i is None or g is None or o is None or c.type != h_next.type:
                        continue
                    found = _runs({"i": i, "f": f, "o": o, "c": g}, int(h_next.shape[-1]))  # type: ignore[arg-type]
                    if found is not None:
                        products, vectors = _products(found[0])
                        return Cell(LSTM, h_next, products, found[1], c=c, c_next=c_next, vectors=vectors)
    return None


def _gru(h_next: Value) -> Cell | None:
    width = int(h_next.shape[-1])  # type: ignore[arg-type]
    for z, n, h in _mixed(h_next):
        for of_x, of_h in both_ways(operand(n, Tanh), Add) if h.type == h_next.type else ():
            for reset, again, before in _again(of_h, h, width):
                q = operand(reset, Sigmoid)
                found = None if q is None else _runs_of_gru({"z": z, "r": q, "h": of_x}, again, width)
                if found is not None:
                    products, vectors = _products(found[0])
                    once = replace(_product(again[0]), data=h)
                    return Cell(GRU, h_next, products, found[1], h, again=once, vectors=vectors, before=before)
    return None


def _again(value: Value, h: Value, width: int) -> list[tuple[Value, Term, bool]]:
    """(reset gate, run of the product of h, whether h is reset after it) for a part of the gate of n."""
    found: list[tuple[Value, Term, bool]] = []
    for reset, part in both_ways(value, Mul):
        run = _run(part, width)
        if run is not None and _product(run[0]).data is h and _product(run[0]).weight is not None:
            found.append((reset, run, True))
    divided = _divided_product(value, width)
    for reset, state in both_ways(divided[0].data, Mul) if divided is not None else ():
        if state is h and divided is not None:
            found.append((reset, (replace(divided[0], data=h), divided[1]), False))
    return found


def _runs_of_gru(gates: Mapping[str, Value], again: Term, width: int) -> tuple[list[Summand], str] | None:
    """As `_runs`; the product of h is a summand of the gates z and r, and its run for n stands apart."""
    apart, place = again
    fresh = _terms(gates["h"], None, width)
    shared = {letter: _terms(gates[letter], None, width) for letter in "zr"}
    runs = {"h": place, **{letter: run for letter, listed in shared.items() for value, run in listed if value == apart}}
    if len(runs) != 3 or sorted(run for run in runs.values() if run is not None) != [0, 1, 2]:
        return None
    values = [value for value, _ in fresh]
    for letter, listed in (("h", fresh), *shared.items()):
        if {term for term in listed if term[0] != apart} != {(value, runs[letter]) for value in values}:
            return None
    wide = all(_columns(value) == 3 * width for value in (*values, apart))
    return (values, "".join(sorted(runs, key=lambda letter: runs[letter] or 0))) if wide else None


def _mixed(h_next: Value) -> list[tuple[Value, Value, Value]]:
    """(gate z, n, h) for each way to read a value as (1 - z) * n + z * h."""
    found = []
    for one, other in both_ways(h_next, Add):
        for difference, gate in both_ways(one, Mul):  # z * (h - n) + n
            pair, z = made_of(difference, Sub), operand(gate, Sigmoid)
            if pair is not None and z is not None and pair[1] is other:
                found.append((z, other, pair[0]))
        for rest, n in both_ways(one, Mul):  # (1 - z) * n + z * h
            pair = made_of(rest, Sub)
            gate_z = pair[1] if pair is not None and constant_number(pair[0]) == 1 else None
            z = operand(gate_z, Sigmoid)
            found += [(z, n, h) for gate, h in both_ways(other, Mul) if gate is gate_z and z is not None]
    return found


_BENT: Mapping[type[Op], str] = {Tanh: "Tanh", Relu: "Relu"}


def _rnn(h_next: Value) -> Cell | None:
    op = h_next.producer.op if h_next.producer is not None else None
    gate = operand(h_next, Tanh, Relu)
    if gate is None or op is None:
        return None
    found = _runs({"i": gate}, int(h_next.shape[-1]))  # type: ignore[arg-type]
    if found is None:
        return None
    products, vectors = _products(found[0])
    if not any(product.weight is not None and product.data.type == h_next.type for product in products):
        return None
    return Cell(RNN, h_next, products, "i", vectors=vectors, function=_BENT[type(op)]) if len(products) == 2 else None
