"""Which parameter of one model is which of the other, and what differs between them.

The nodes decide: parameters that paired nodes read at the same places are each other's. Where one could be several
(ties), equal elements decide, then names, types, the number of places. Parameters of nodes without a partner are each
other's if their elements or names are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator

from isomorph.ir.diff.colours import Palette, groups
from isomorph.ir.diff.content import compare_elements, find_permutation, is_reshaped, order_free_mix
from isomorph.ir.diff.difference import Pairing, ParameterDifference, Tie
from isomorph.ir.op import TensorType
from isomorph.ir.params import Parameter

__all__ = ["ParameterPairs"]

Pair = tuple[Parameter, Parameter]


class ParameterPairs:
    """The pairing of two models' parameters, given how often paired nodes read a pair of them at the same place."""

    def __init__(self, a: Iterable[Parameter], b: Iterable[Parameter], votes: Counter[Pair], palette: Palette) -> None:
        self.a, self.b = list(a), list(b)
        self._votes = votes
        self._palette = palette
        self.to_b: dict[Parameter, Parameter] = {}
        self.to_a: dict[Parameter, Parameter] = {}
        self._assign()
        self._assign_rest()

    def differences(self) -> Iterator[ParameterDifference]:
        """What differs, in the order of model a, then what only b has. Constants count where paired nodes read them."""
        extra = self._extra()
        for parameter in self.a:
            other = self.to_b.get(parameter)
            pairs = ([] if other is None else [(parameter, other)]) + extra.get(parameter, [])
            if not pairs and parameter.role != "constant":
                yield _single(parameter, "removed")
            for pair in pairs:
                found = self._difference(*pair)
                if found is not None and (pair[1] is other or found.change not in ("renamed", "training")):
                    yield found
        reached = {other for pairs in extra.values() for _, other in pairs}
        for parameter in self.b:
            if parameter not in self.to_a and parameter not in reached and parameter.role != "constant":
                yield _single(parameter, "added")

    def ties(self) -> list[Tie]:
        """Weights that one model shares and the other keeps apart."""
        groups: dict[Parameter, tuple[dict[Parameter, None], dict[Parameter, None]]] = {}
        for p, q in self._votes:
            if p.role == q.role == "constant":
                continue
            group = groups.setdefault(p, ({}, {}))
            other = groups.setdefault(q, group)
            group[0][p] = None
            group[1][q] = None
            if other is not group:
                for side, members in zip(group, other, strict=True):
                    side.update(members)
                groups.update(dict.fromkeys((*other[0], *other[1]), group))
        unique = {id(group): group for group in groups.values()}.values()
        return [
            Tie(tuple(p.name for p in first), tuple(q.name for q in second))
            for first, second in unique
            if len(first) > 1 or len(second) > 1
        ]

    @property
    def same(self) -> int:
        """How many parameters, constants apart, have the same elements."""
        return sum(p.role != "constant" and self._equal(p, q) for p, q in self.to_b.items())

    def _equal(self, p: Parameter, q: Parameter) -> bool:
        return self._palette.digest(p) == self._palette.digest(q)

    def _link(self, p: Parameter, q: Parameter) -> None:
        self.to_b[p], self.to_a[q] = q, p

    def _assign(self) -> None:
        """One to one, the best first."""

        def worth(item: tuple[int, tuple[Pair, int]]) -> tuple[object, ...]:
            order, ((p, q), count) = item
            return (not self._equal(p, q), p.name != q.name, _type(p) != _type(q), -count, order)

        for _, ((p, q), _) in sorted(enumerate(self._votes.items()), key=worth):
            if p not in self.to_b and q not in self.to_a:
                self._link(p, q)

    def _assign_rest(self) -> None:
        """Parameters that no paired nodes read."""
        voted = {each for pair in self._votes for each in pair}
        keys: list[Callable[[Parameter], Hashable]] = [
            lambda each: (each.name, self._palette.digest(each)),
            self._palette.digest,
            lambda each: each.name,
            lambda each: (each.data.dtype, each.data.size, order_free_mix(each.data)),
        ]
        for key in keys:
            left = [each for each in self.a if _waits(each, self.to_b, voted)]
            right = [each for each in self.b if _waits(each, self.to_a, voted)]
            if not left or not right:
                return
            found, others = groups(key, left), groups(key, right)
            for each, members in found.items():
                if len(members) == len(others.get(each, ())) == 1:
                    self._link(members[0], others[each][0])

    def _extra(self) -> dict[Parameter, list[Pair]]:
        """Pairs beyond one to one, of which one parameter has no partner: ties that were made or undone."""
        extra: dict[Parameter, list[Pair]] = {}
        for p, q in self._votes:
            if (p not in self.to_b) != (q not in self.to_a):
                extra.setdefault(p, []).append((p, q))
        return extra

    def _difference(self, p: Parameter, q: Parameter) -> ParameterDifference | None:
        change, numbers, axes = "same", None, None
        if not self._equal(p, q):
            change = "changed"
            axes = find_permutation(p.data, q.data)
            if axes is not None:
                change = "permuted"
            elif is_reshaped(p.data, q.data):
                change = "reshaped"
            else:
                numbers = compare_elements(p.data, q.data)
        elif p.role == q.role == "constant":
            return None
        elif p.name != q.name:
            change = "renamed"
        elif (p.trainable, p.role) != (q.trainable, q.role):
            change = "training"
        if change == "same":
            return None
        names, flags = Pairing(p.name, q.name), (p.trainable, q.trainable)
        return ParameterDifference(change, names, _type(p), _type(q), numbers, axes, flags, (p.role, q.role))


def _waits(parameter: Parameter, paired: dict[Parameter, Parameter], voted: set[Parameter]) -> bool:
    return parameter not in paired and parameter not in voted and parameter.role != "constant"


def _type(parameter: Parameter) -> str:
    return str(TensorType(parameter.data.dtype, parameter.data.shape))


def _single(parameter: Parameter, change: str) -> ParameterDifference:
    kind, flag, role = _type(parameter), parameter.trainable, parameter.role
    if change == "removed":
        return ParameterDifference(
            change, Pairing(parameter.name, None), kind, None, trainable=(flag, None), role=(role, None)
        )
    return ParameterDifference(
        change, Pairing(None, parameter.name), None, kind, trainable=(None, flag), role=(None, role)
    )
