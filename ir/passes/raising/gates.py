"""The gates of a recurrent layer, read as sums: each is a run of columns of one sum of products and vectors."""

from __future__ import annotations

from collections.abc import Mapping

from isomorph.ir.graph import Value
from isomorph.ir.ops.elementwise import Add
from isomorph.ir.ops.linear import Gemm, Linear, MatMul
from isomorph.ir.ops.shape import Slice, Split
from isomorph.ir.passes.raising.arithmetic import made_of
from isomorph.ir.shapes import Dim
from isomorph.records import record

__all__ = [
    "Product", "Summand", "Term", "columns_of", "gemm_of", "piece_of", "product_of", "products_of", "runs_of",
    "terms_of", "undivided",
]  # fmt: skip


@record
class Product:
    """data @ weight^T + bias; `weight` is (rows, columns), or (columns, rows) if `transposed`.

    Without a weight, data are rows (…, gates * H) that hold such a product already.
    """

    data: Value
    weight: Value | None = None
    bias: Value | None = None
    transposed: bool = False


Summand = Value | Product
Term = tuple[Summand, int | None]
"""A summand of a gate: what it is a run of columns of, and which, None if it is as wide as the gate."""


def terms_of(value: Value, place: int | None, width: int) -> list[Term]:
    """The summands of a gate of this width."""
    run = run_of(value, width) if place is None else None
    if run is not None:
        return terms_of(run[0], run[1], width)
    pair = made_of(value, Add)
    if pair is not None and all(each.rank > 0 and each.shape[-1] == value.shape[-1] for each in pair):
        return [*terms_of(pair[0], place, width), *terms_of(pair[1], place, width)]
    product, added = gemm_of(value) or (product_of(value), None)
    more = [] if added is None else terms_of(added, place, width)
    if product.weight is None:
        return [(value, place)]
    divided = undivided(product, place, width)
    if divided is not None:
        return [divided, *more]
    return [(product if added is not None else value, place), *more]


def gemm_of(value: Value) -> tuple[Product, Value] | None:
    """(product, what is added to it) of a Gemm."""
    node = value.producer
    a, weight, added = (*node.inputs, None, None)[:3] if node is not None and node.inputs else (None, None, None)
    op = node.op if node is not None else None
    if not isinstance(op, Gemm) or a is None or weight is None or added is None or op.trans_a:
        return None
    plain = op.alpha == op.beta == 1 and added.rank > 0 and added.shape[-1] == value.shape[-1]
    return (Product(a, weight, None, not op.trans_b), added) if plain else None


def undivided(product: Product, place: int | None, width: int) -> Term | None:
    """A run of a product with runs of a weight as a run of the product with all of it."""
    if product.weight is None:
        return None
    run = piece_of(product.weight, 1 if product.transposed else 0)
    if run is None or run[1] % width or run[2] % width or (place is None and run[2] != width):
        return None
    bias = None if product.bias is None else piece_of(product.bias, 0)
    if product.bias is not None and (bias is None or bias[1:] != run[1:]):
        return None
    whole = Product(product.data, run[0], bias and bias[0], product.transposed)
    return whole, run[1] // width + (place or 0)


def run_of(value: Value, width: int) -> tuple[Value, int] | None:
    """(x, k) of a value that is the k-th run of this many columns of x."""
    found = piece_of(value, -1)
    if found is None or found[2] != width or found[1] % width or found[0].shape[-1] == width:
        return None
    return found[0], found[1] // width


def piece_of(value: Value, axis: int) -> tuple[Value, int, int] | None:
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


def runs_of(gates: Mapping[str, Value], width: int) -> tuple[list[Summand], str] | None:
    """(values, order) of gates that all are runs of columns of the same values, in this order."""
    found = {letter: terms_of(value, None, width) for letter, value in gates.items()}
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
    wide = all(columns_of(value) == len(gates) * width for value in values)
    return (values, "".join(order)) if wide else None


def columns_of(value: Summand) -> Dim:
    if isinstance(value, Value):
        return value.shape[-1] if value.rank else 1
    return value.weight.shape[1 if value.transposed else 0] if value.weight is not None else 0


def products_of(values: list[Summand]) -> tuple[tuple[Product, ...], tuple[Value, ...]]:
    """(products, vectors) of the summands of all gates."""
    vectors = tuple(value for value in values if isinstance(value, Value) and value.rank == 1)
    return tuple(product_of(value) for value in values if value not in vectors), vectors


def product_of(value: Summand) -> Product:
    if isinstance(value, Product):
        return value
    node = value.producer
    data, weight, bias = (*node.inputs, None, None)[:3] if node is not None and node.inputs else (None, None, None)
    if node is None or data is None or weight is None or weight.rank != 2 or not isinstance(node.op, Linear | MatMul):
        return Product(value)
    return Product(data, weight, bias, isinstance(node.op, MatMul))
