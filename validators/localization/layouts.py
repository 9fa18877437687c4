"""The axis order of an intermediate value, which no file records: channels first or last.

Of the orders that fit the shape the one with the smaller error is taken. Where several fit (as many cells as channels)
and the value is wrong in all of them, its error says nothing: it has the order of its neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from isomorph.ir import Node

__all__ = ["ORDERS", "settle_orders"]

Move: TypeAlias = Callable[[np.ndarray], np.ndarray]
ORDERS: tuple[tuple[Move, Move], ...] = (
    (lambda array: array, lambda array: array),
    (lambda array: np.moveaxis(array, -1, 1), lambda array: np.moveaxis(array, 1, -1)),
    (lambda array: np.moveaxis(array, 1, -1), lambda array: np.moveaxis(array, -1, 1)),
)
"""(from the target's to the source's, back)."""


def settle_orders(
    names: Mapping[Node, str],
    orders: Mapping[str, int],
    ranks: Mapping[str, int],
    open_: Mapping[str, Mapping[int, object]],
) -> dict[str, int]:
    """The order of each value in `open_`, of several that fit: that of the nearest values of its rank that it is made
    from, else of most values of its rank, else that in `orders`.

    names   nodes of the target in topological order -> names of their values
    orders  name of a value -> the index in ORDERS of the order with the least error
    """
    settled: dict[str, int] = {}
    known = {name: order for name, order in orders.items() if name not in open_ and name in ranks}
    for node, name in names.items():
        if name not in open_:
            continue
        nearest = (known[each] for each in _before(node, names, known) if ranks[each] == ranks[name])
        common = Counter(order for each, order in known.items() if ranks[each] == ranks[name]).most_common()
        for order in (*nearest, *(order for order, _ in common)):
            if order in open_[name]:
                settled[name] = known[name] = order
                break
    return settled


def _before(node: Node, names: Mapping[Node, str], known: Mapping[str, int]) -> Iterator[str]:
    """Names of the nearest values before a node whose order is known."""
    pending, seen = [value.producer for value in node.operands()], {node}
    while pending:
        maker = pending.pop(0)
        if maker is None or maker in seen:
            continue
        seen.add(maker)
        name = names.get(maker)
        if name is not None and name in known:
            yield name
        else:
            pending += [value.producer for value in maker.operands()]
