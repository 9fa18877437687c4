"""The interfaces of two models side by side: which input is which, which named dimension is which size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

from isomorph.ir.diff.align import longest_chain
from isomorph.ir.diff.colours import Dialect
from isomorph.ir.diff.difference import Pairing, ValueDifference
from isomorph.ir.graph import Model
from isomorph.ir.op import TensorType
from isomorph.ir.shapes import Dim, DimRange, Sym, names_in

__all__ = ["Named", "interface_differences", "pair_values", "unify"]

Named = Sequence[tuple[str, TensorType]]
"""Values by name, in order."""
Bindings = dict[str, Dim]


def pair_values(a: Named, b: Named, alike: Callable[[int, int], bool] | None = None) -> list[tuple[int, int]]:
    """Which value of b each value of a is: of its name, else of its content (`alike`), else of its type, in order.

    What is left is paired where one is left on either side.
    """
    pairs: dict[int, int] = {}

    def settle(key_a: Callable[[int], Hashable], key_b: Callable[[int], Hashable]) -> None:
        taken = set(pairs.values())
        waiting: dict[Hashable, list[int]] = {}
        for j in range(len(b)):
            if j not in taken:
                waiting.setdefault(key_b(j), []).append(j)
        for i in range(len(a)):
            if i not in pairs and waiting.get(key_a(i)):
                pairs[i] = waiting[key_a(i)].pop(0)

    settle(lambda i: a[i][0], lambda j: b[j][0])
    if alike is not None:
        for i in range(len(a)):
            found = [j for j in range(len(b)) if i not in pairs and j not in pairs.values() and alike(i, j)]
            if found:
                pairs[i] = found[0]
    settle(lambda i: a[i][1], lambda j: b[j][1])
    settle(lambda i: (a[i][1].dtype, a[i][1].rank), lambda j: (b[j][1].dtype, b[j][1].rank))
    left = [i for i in range(len(a)) if i not in pairs], [j for j in range(len(b)) if j not in set(pairs.values())]
    if len(left[0]) == len(left[1]) == 1:
        pairs[left[0][0]] = left[1][0]
    return sorted(pairs.items())


def unify(types: Iterable[tuple[TensorType, TensorType]], bindings: tuple[Bindings, Bindings]) -> None:
    """Add to the bindings what makes pairs of shapes equal: a named dimension is the other model's size there."""
    for kind, other in types:
        if kind.rank != other.rank:
            continue
        for dim, dim_b in zip(kind.shape, other.shape, strict=True):
            name, name_b = (each.name if isinstance(each, Sym) else None for each in (dim, dim_b))
            if name is not None and name_b is not None:
                bindings[1].setdefault(name_b, bindings[0].setdefault(name, Sym(name)))
            elif name is not None and isinstance(dim_b, int):
                bindings[0].setdefault(name, dim_b)
            elif name_b is not None and isinstance(dim, int):
                bindings[1].setdefault(name_b, dim)
    for side, given in enumerate(bindings):
        for name in sorted(set(names_in(pair[side].shape for pair in types))):
            given.setdefault(name, Sym(name))


def interface_differences(
    what: str, a: Named, b: Named, pairs: Sequence[tuple[int, int]], names: Mapping[str, str]
) -> Iterator[ValueDifference]:
    """Inputs or outputs that were added, removed, renamed, changed or moved.

    names   dimension of b -> dimension of a: a size that is called otherwise is not a change
    """
    common = Dialect({name: Sym(other) for name, other in names.items()})
    plain = Dialect({name: Sym(name) for _, kind in a for name in names_in([kind.shape])})
    in_order = set(longest_chain(pairs))
    for i, j in pairs:
        (name, kind), (name_b, kind_b) = a[i], b[j]
        both = Pairing(name, name_b)
        if plain.type(kind) != common.type(kind_b):
            yield ValueDifference(what, "changed", both, str(kind), str(kind_b))
        elif name != name_b:
            yield ValueDifference(what, "renamed", both)
        if (i, j) not in in_order:
            yield ValueDifference(what, "moved", both, str(i), str(j))
    for i in sorted(set(range(len(a))) - {i for i, _ in pairs}):
        yield ValueDifference(what, "removed", Pairing(a[i][0], None), str(a[i][1]))
    for j in sorted(set(range(len(b))) - {j for _, j in pairs}):
        yield ValueDifference(what, "added", Pairing(None, b[j][0]), None, str(b[j][1]))


def same_dimensions(types: Iterable[tuple[TensorType, TensorType]]) -> dict[str, str]:
    """Dimension of b -> dimension of a, one to one, as they meet in pairs of shapes."""
    found: dict[str, str] = {}
    for kind, other in types:
        for dim, dim_b in zip(kind.shape, other.shape, strict=False):
            name, name_b = (each.name if isinstance(each, Sym) else None for each in (dim, dim_b))
            if name and name_b and name_b not in found and name not in found.values():
                found[name_b] = name
    return found


def dimension_differences(
    a: Model, b: Model, names: Mapping[str, str], *, stated: bool = False
) -> Iterator[ValueDifference]:
    """Named dimensions whose ranges differ; `stated`: only where both models limit them, as some formats cannot."""
    for name_b, name in names.items():
        first, second = a.dims.get(name, DimRange()), b.dims.get(name_b, DimRange())
        if first != second and not (stated and DimRange() in (first, second)):
            yield ValueDifference("dimension", "changed", Pairing(name, name_b), _range(first), _range(second))


def _range(limits: DimRange) -> str:
    return f"{limits.min} to {'any' if limits.max is None else limits.max}"
