"""One step of a recurrent layer as sources spell it, read backwards from the state that it leaves.

    LSTM  c' = f * c + i * g,  h' = o * tanh(c')             i, f, o sigmoids and g a tanh of gates
    GRU   h' = (1 - z) * n + z * h, or z * (h - n) + n       z, q sigmoids, n = tanh(x's gate + q * h's gate)
    RNN   h' = tanh(gate)

Other functions may stand in place of the sigmoids, and of each tanh (bends.py).

A gate is a run of columns of one sum: products with weights of the data, or rows that hold them already, products of h,
and vectors. All gates are runs of the same products, in any order, which is the order of the layer's gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from isomorph.ir.graph import Value
from isomorph.ir.ops.elementwise import Add, Mul, Sub
from isomorph.ir.ops.linear import Gemm, Linear, MatMul
from isomorph.ir.ops.recurrent import GRU, LSTM, RNN, Recurrent
from isomorph.ir.ops.shape import Slice, Split
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of
from isomorph.ir.passes.raising.bends import Bend, Function, read_bend
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.ir.shapes import Dim
from isomorph.records import record

__all__ = ["Cell", "Product", "read_cell"]


@record
class Product:
    """data @ weight^T + bias; `weight` is (rows, columns), or (columns, rows) if `transposed`.

    Without a weight, data are rows (…, gates * H) that hold such a product already.
    """

    data: Value
    weight: Value | None = None
    bias: Value | None = None
    transposed: bool = False


@record
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
    functions: tuple[Function, ...] = ()
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
    product, added = _gemm(value) or (_product(value), None)
    more = [] if added is None else _terms(added, place, width)
    if product.weight is None:
        return [(value, place)]
    divided = _undivided(product, place, width)
    if divided is not None:
        return [divided, *more]
    return [(product if added is not None else value, place), *more]


def _gemm(value: Value) -> tuple[Product, Value] | None:
    """(product, what is added to it) of a Gemm."""
    node = value.producer
    a, weight, added = (*node.inputs, None, None)[:3] if node is not None and node.inputs else (None, None, None)
    op = node.op if node is not None else None
    if not isinstance(op, Gemm) or a is None or weight is None or added is None or op.trans_a:
        return None
    plain = op.alpha == op.beta == 1 and added.rank > 0 and added.shape[-1] == value.shape[-1]
    return (Product(a, weight, None, not op.trans_b), added) if plain else None


def _undivided(product: Product, place: int | None, width: int) -> Term | None:
    """A run of a product with runs of a weight as a run of the product with all of it."""
    if product.weight is None:
        return None
    run = _piece(product.weight, 1 if product.transposed else 0)
    if run is None or run[1] % width or run[2] % width or (place is None and run[2] != width):
        return None
    bias = None if product.bias is None else _piece(product.bias, 0)
    if product.bias is not None and (bias is None or bias[1:] != run[1:]):
        return None
    whole = Product(product.data, run[0], bias and bias[0], product.transposed)
    return whole, run[1] // width + (place or 0)


def _run(value: Value, width: int) -> tuple[Value, int] | None:
    """(x, k) of a value that is the k-th run of this many columns of x."""
    found = _piece(value, -1)
    if found is None or found[2] != width or found[1] % width or found[0].shape[-1] == width:
        return None
    return found[0], found[1] // width


def _piece(value: Value, axis: int) -> tuple[Value, int, int] | None:
    """(x, start, length) of the elements of x along an axis, and along no other one, that a value is."""
    node = value.producer
    x = node.inputs[0] if node is not None and isinstance(node.op, Split | Slice) else None
    if node is None or x is None or x.rank == 0 or not isinstance(size := x.shape[axis], int):
        return None
    if isinstance(node.op, Split):
        place = next(at for at, each in enumerate(node.outputs) if each is value)
        start, length = sum(node.op.sizes[:place]), node.op.sizes[place]
        along = node.op.axis % x.rank == axis % x.rank and isinstance(start, int) and isinstance(length, int)
        return (x, int(start), int(length)) if along else None  # type: ignore[arg-type]
    assert isinstance(node.op, Slice)
    found: range | None = None
    for each, first, last, step in zip(node.op.axes, node.op.starts, node.op.ends, node.op.steps, strict=True):
        if step != 1 or not isinstance(first, int | None) or not isinstance(last, int | None):
            return None
        if each % x.rank == axis % x.rank:
            found = range(*slice(first, last).indices(size))
        elif first not in (None, 0) or last is not None:
            return None
    return None if found is None else (x, found.start, len(found))


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
    return value.weight.shape[1 if value.transposed else 0] if value.weight is not None else 0


def _products(values: list[Summand]) -> tuple[tuple[Product, ...], tuple[Value, ...]]:
    """(products, vectors) of the summands of all gates."""
    vectors = tuple(value for value in values if isinstance(value, Value) and value.rank == 1)
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
        o, ends = read_bend(gate_o), read_bend(bent)
        for kept, fresh in both_ways(ends.inner, Add) if o is not None and ends is not None else ():
            for gate_i, gate_g in both_ways(fresh, Mul):
                i, g = read_bend(gate_i), read_bend(gate_g)
                for gate_f, c in both_ways(kept, Mul) if i is not None and g is not None else ():
                    f = read_bend(gate_f)
                    if f is None or i is None or g is None or o is None or ends is None or c.type != h_next.type:
                        continue
                    gates = {"i": i.inner, "f": f.inner, "o": o.inner, "c": g.inner}
                    found = _runs(gates, int(h_next.shape[-1])) if i[1] == f[1] == o[1] else None  # type: ignore[arg-type]
                    if found is not None:
                        products, vectors = _products(found[0])
                        functions = (i.function, g.function, ends.function)
                        return Cell(
                            LSTM, h_next, products, found[1], None, c, ends.inner, vectors=vectors, functions=functions
                        )
    return None


def _gru(h_next: Value) -> Cell | None:
    width = int(h_next.shape[-1])  # type: ignore[arg-type]
    for z, n, h in _mixed(h_next):
        bent = read_bend(n) if h.type == h_next.type else None
        gemm = None if bent is None else _gemm(bent.inner)
        pairs: list[tuple[Value, Summand]] = [*both_ways(bent and bent.inner, Add)]
        for of_x, of_h in pairs if gemm is None else [(gemm[1], gemm[0])]:
            for reset, again, before in _again(of_h, h, width):
                q = read_bend(reset)
                if bent is None or q is None or q.function != z.function:
                    continue
                found = _runs_of_gru({"z": z.inner, "r": q.inner, "h": of_x}, again, width)
                if found is not None:
                    products, vectors = _products(found[0])
                    once, functions = replace(_product(again[0]), data=h), (z.function, bent.function)
                    return Cell(
                        GRU, h_next, products, found[1], h,
                        again=once, vectors=vectors, functions=functions, before=before,
                    )  # fmt: skip
    return None


def _again(value: Summand, h: Value, width: int) -> list[tuple[Value, Term, bool]]:
    """(reset gate, run of the product of h, whether h is reset after it) for a part of the gate of n."""
    found: list[tuple[Value, Term, bool]] = []
    for reset, part in both_ways(value, Mul) if isinstance(value, Value) else ():
        terms = _terms(part, None, width)
        product = _product(terms[0][0])
        vectors = [term for term in terms[1:] if isinstance(term[0], Value) and term[0].rank == 1]
        if product.data is h and product.weight is not None and product.bias is None and len(terms) == 2 and vectors:
            biased = replace(product, bias=vectors[0][0])  # type: ignore[arg-type]
            found.append((reset, (biased, terms[0][1]), True))
        elif product.data is h and product.weight is not None and len(terms) == 1:
            found.append((reset, terms[0], True))
    divided = _undivided(_product(value), None, width)
    for reset, state in both_ways(divided[0].data, Mul) if divided is not None else ():  # type: ignore[union-attr]
        if state is h and divided is not None:
            found.append((reset, (replace(_product(divided[0]), data=h), divided[1]), False))
    return found


def _runs_of_gru(gates: Mapping[str, Value], again: Term, width: int) -> tuple[list[Summand], str] | None:
    """As `_runs`; the product of h is a summand of the gates z and r, and its run for n stands apart."""
    apart, place = again
    fresh = _terms(gates["h"], None, width)
    shared = {letter: _joined(_terms(gates[letter], None, width), apart) for letter in "zr"}
    runs = {"h": place, **{letter: run for letter, listed in shared.items() for value, run in listed if value == apart}}
    if len(runs) != 3 or sorted(run for run in runs.values() if run is not None) != [0, 1, 2]:
        return None
    values = [value for value, _ in fresh]
    for letter, listed in (("h", fresh), *shared.items()):
        if {term for term in listed if term[0] != apart} != {(value, runs[letter]) for value in values}:
            return None
    wide = all(_columns(value) == 3 * width for value in (*values, apart))
    return (values, "".join(sorted(runs, key=lambda letter: runs[letter] or 0))) if wide else None


def _joined(terms: list[Term], apart: Summand) -> list[Term]:
    """The summands with the product of h as one with its bias, if `apart` is that."""
    if not isinstance(apart, Product) or apart.bias is None:
        return terms
    bare = replace(apart, bias=None)
    places = {place for term, place in terms if _product(term) == bare}
    vector = [(term, place) for term, place in terms if term is apart.bias and place in places]
    if len(places) != 1 or not vector:
        return terms
    kept = [term for term in terms if term not in vector and _product(term[0]) != bare]
    return [*kept, (apart, places.pop())]


def _mixed(h_next: Value) -> list[tuple[Bend, Value, Value]]:
    """(gate z, n, h) for each way to read a value as (1 - z) * n + z * h."""
    found = []
    for one, other in both_ways(h_next, Add):
        for difference, gate in both_ways(one, Mul):  # z * (h - n) + n
            pair = made_of(difference, Sub)
            z = read_bend(gate) if pair is not None and pair[1] is other else None
            if pair is not None and z is not None:
                found.append((z, other, pair[0]))
        for rest, n in both_ways(one, Mul):  # (1 - z) * n + z * h
            pair = made_of(rest, Sub)
            gate_z = pair[1] if pair is not None and constant_number(pair[0]) == 1 else None
            z = read_bend(gate_z)
            found += [(z, n, h) for gate, h in both_ways(other, Mul) if gate is gate_z and z is not None]
    return found


def _rnn(h_next: Value) -> Cell | None:
    bent = read_bend(h_next)
    found = None if bent is None else _runs({"i": bent.inner}, int(h_next.shape[-1]))  # type: ignore[arg-type]
    if bent is None or found is None:
        return None
    products, vectors = _products(found[0])
    if len(products) != 2 or not any(each.weight is not None and each.data.type == h_next.type for each in products):
        return None
    return Cell(RNN, h_next, products, "i", vectors=vectors, functions=(bent.function,))
