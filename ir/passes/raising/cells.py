"""One step of a recurrent layer as sources spell it, read backwards from the state that it leaves.

    LSTM  c' = f * c + i * g,  h' = o * tanh(c')             i, f, o sigmoids and g a tanh of gates
    GRU   h' = (1 - z) * n + z * h, or z * (h - n) + n       z, q sigmoids, n = tanh(x's gate + q * h's gate)
    RNN   h' = tanh(gate)

Other functions may stand in place of the sigmoids, and of each tanh (bends.py).

A gate is a run of columns of one sum: products with weights of the data, or rows that hold them already, products of h,
and vectors. All gates are runs of the same products, in any order, which is the order of the layer's gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isomorph.ir.graph import Value
from isomorph.ir.ops.elementwise import Add, Mul, Sub
from isomorph.ir.ops.recurrent import GRU, LSTM, RNN, Recurrent
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of
from isomorph.ir.passes.raising.bends import Bend, Function, read_bend
from isomorph.ir.passes.raising.gates import (
    Product,
    Summand,
    Term,
    columns_of,
    gemm_of,
    piece_of,
    product_of,
    products_of,
    runs_of,
    terms_of,
    undivided,
)  # fmt: skip
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.records import record

__all__ = ["Cell", "read_cell"]


@record
class Cell:
    """A step: states before and after, and what the gates are made of.

    products  of the data and of h: which is which, the layer around the step says
    peepholes what the gates i, o and f of an LSTM add of the cell state: one vector (3 * H,), or one each
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
    peepholes: tuple[Value, ...] = ()

    @property
    def weights(self) -> frozenset[Value | None]:
        """What identifies the layer of which this is a step."""
        return frozenset(product.weight for product in self.products)


def read_cell(value: Value) -> Cell | None:
    """The step whose next h a value is."""
    if value.rank not in (2, 3) or not isinstance(value.shape[-1], int) or not value.dtype.is_float:
        return None
    return _lstm(value) or _gru(value) or _rnn(value)


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
                    looks, rests = _peepholes((i.inner, o.inner, f.inner), (c, ends.inner, c))
                    gates = dict(zip("iof", rests, strict=True)) | {"c": g.inner}
                    found = runs_of(gates, int(h_next.shape[-1])) if i[1] == f[1] == o[1] else None  # type: ignore[arg-type]
                    if found is not None:
                        products, vectors = products_of(found[0])
                        functions = (i.function, g.function, ends.function)
                        return Cell(
                            LSTM, h_next, products, found[1], None, c, ends.inner,
                            vectors=vectors, functions=functions, peepholes=looks,
                        )  # fmt: skip
    return None


def _peepholes(gates: Sequence[Value], cells: Sequence[Value]) -> tuple[tuple[Value, ...], Sequence[Value]]:
    """(vectors that multiply the cell states, what else the gates add up), no vectors if not all gates have one."""
    looks, rests = list[Value](), list[Value]()
    for gate, cell in zip(gates, cells, strict=True):
        ways = ((rest, vector, other) for rest, look in both_ways(gate, Add) for vector, other in both_ways(look, Mul))
        found = next(((rest, vector) for rest, vector, other in ways if other is cell and vector.rank == 1), None)
        if found is None:
            return (), gates
        rests.append(found[0])
        looks.append(found[1])
    pieces, width = [piece_of(look, 0) for look in looks], looks[0].shape[0]
    whole = pieces[0][0] if pieces[0] is not None else None
    if whole is not None and whole.shape == (3 * width,) and pieces == [(whole, at * width, width) for at in range(3)]:
        return (whole,), rests
    return tuple(looks), rests


def _gru(h_next: Value) -> Cell | None:
    width = int(h_next.shape[-1])  # type: ignore[arg-type]
    for z, n, h in _mixed(h_next):
        bent = read_bend(n) if h.type == h_next.type else None
        gemm = None if bent is None else gemm_of(bent.inner)
        pairs: list[tuple[Value, Summand]] = [*both_ways(bent and bent.inner, Add)]
        for of_x, of_h in pairs if gemm is None else [(gemm[1], gemm[0])]:
            for reset, again, before in _again(of_h, h, width):
                q = read_bend(reset)
                if bent is None or q is None or q.function != z.function:
                    continue
                found = _runs_of_gru({"z": z.inner, "r": q.inner, "h": of_x}, again, width)
                if found is not None:
                    products, vectors = products_of(found[0])
                    once, functions = replace(product_of(again[0]), data=h), (z.function, bent.function)
                    return Cell(
                        GRU, h_next, products, found[1], h,
                        again=once, vectors=vectors, functions=functions, before=before,
                    )  # fmt: skip
    return None


def _again(value: Summand, h: Value, width: int) -> list[tuple[Value, Term, bool]]:
    """(reset gate, run of the product of h, whether h is reset after it) for a part of the gate of n."""
    found: list[tuple[Value, Term, bool]] = []
    for reset, part in both_ways(value, Mul) if isinstance(value, Value) else ():
        terms = terms_of(part, None, width)
        product = product_of(terms[0][0])
        vectors = [term for term in terms[1:] if isinstance(term[0], Value) and term[0].rank == 1]
        if product.data is h and product.weight is not None and product.bias is None and len(terms) == 2 and vectors:
            biased = replace(product, bias=vectors[0][0])  # type: ignore[arg-type]
            found.append((reset, (biased, terms[0][1]), True))
        elif product.data is h and product.weight is not None and len(terms) == 1:
            found.append((reset, terms[0], True))
    divided = undivided(product_of(value), None, width)
    for reset, state in both_ways(divided[0].data, Mul) if divided is not None else ():  # type: ignore[union-attr]
        if state is h and divided is not None:
            found.append((reset, (replace(product_of(divided[0]), data=h), divided[1]), False))
    return found


def _runs_of_gru(gates: Mapping[str, Value], again: Term, width: int) -> tuple[list[Summand], str] | None:
    """As `_runs`; the product of h is a summand of the gates z and r, and its run for n stands apart."""
    apart, place = again
    fresh = terms_of(gates["h"], None, width)
    shared = {letter: _joined(terms_of(gates[letter], None, width), apart) for letter in "zr"}
    runs = {"h": place, **{letter: run for letter, listed in shared.items() for value, run in listed if value == apart}}
    if len(runs) != 3 or sorted(run for run in runs.values() if run is not None) != [0, 1, 2]:
        return None
    values = [value for value, _ in fresh]
    for letter, listed in (("h", fresh), *shared.items()):
        if {term for term in listed if term[0] != apart} != {(value, runs[letter]) for value in values}:
            return None
    wide = all(columns_of(value) == 3 * width for value in (*values, apart))
    return (values, "".join(sorted(runs, key=lambda letter: runs[letter] or 0))) if wide else None


def _joined(terms: list[Term], apart: Summand) -> list[Term]:
    """The summands with the product of h as one with its bias, if `apart` is that."""
    if not isinstance(apart, Product) or apart.bias is None:
        return terms
    bare = replace(apart, bias=None)
    places = {place for term, place in terms if product_of(term) == bare}
    vector = [(term, place) for term, place in terms if term is apart.bias and place in places]
    if len(places) != 1 or not vector:
        return terms
    kept = [term for term in terms if term not in vector and product_of(term[0]) != bare]
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
    found = None if bent is None else runs_of({"i": bent.inner}, int(h_next.shape[-1]))  # type: ignore[arg-type]
    if bent is None or found is None:
        return None
    products, vectors = products_of(found[0])
    if len(products) != 2 or not any(each.weight is not None and each.data.type == h_next.type for each in products):
        return None
    return Cell(RNN, h_next, products, "i", vectors=vectors, functions=(bent.function,))
