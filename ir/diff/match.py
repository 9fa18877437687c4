"""Which node of one graph is which node of the other: by colours, then from neighbour to neighbour, then by order.

In the order of how much each says; a step only pairs what the steps before left:

    1. the same past and future, weights by content: everything, if the graphs are the same
    2. the same past; the same future: everything before the first change, everything behind the last
    3. the same past and future, weights by type: everything, if only weights differ
    4. the same op on the same weights, where that is said of one node only: what was moved
    5. the same op on weights of the same names: layers that were trained on in a network that changed
    6. neighbours of pairs that have the same attributes and weights of the same types, then the same op
    7. the same op and name
    8. the longest common subsequence of ops between pairs that are in order
    9. another op between the same neighbours

Where several nodes have one colour (symmetric branches), those are paired whose operands are paired, then whose users
are, then that have one name, then in order. Near-linear; the same answer every time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence

from isomorph.ir.diff.align import common_subsequence, longest_chain
from isomorph.ir.diff.colours import COMMUTATIVE, Colours, Level, Plan, Source, Use, groups

__all__ = ["Matching"]

Key = Callable[[int], Hashable]


class Matching:
    """The pairing of the nodes of two plans: `to_b[i]` is the node of b that node i of a is, None if there is none."""

    def __init__(
        self, a: Colours, b: Colours, inputs: Sequence[tuple[int, int]], outputs: Sequence[tuple[int, int]]
    ) -> None:
        self._colours = (a, b)
        self.a: Plan = a.plan
        self.b: Plan = b.plan
        self.to_b: list[int | None] = [None] * len(self.a.nodes)
        self.to_a: list[int | None] = [None] * len(self.b.nodes)
        self._inputs = dict(inputs)
        self._paired_inputs = set(self._inputs.values())
        self._outputs = list(outputs)
        self._shown = tuple(self._producers_of_outputs(side) for side in (0, 1))
        self._run()

    def pairs(self) -> list[tuple[int, int]]:
        return [(i, j) for i, j in enumerate(self.to_b) if j is not None]

    def image(self, source: Source | None) -> Source | None:
        """What an operand of a is in b, None if nothing is. A parameter is not looked up."""
        if source is None or source.kind == "parameter":
            return None
        index = self._inputs.get(source.number) if source.kind == "input" else self.to_b[source.number]
        return None if index is None else Source(source.kind, index, source.output)

    def alike(self, i: int, j: int) -> bool:
        """Whether op, attributes and weights of a pair are the same."""
        a, b = self._colours
        return a.own(Level.EXACT)[i] == b.own(Level.EXACT)[j]

    def _run(self) -> None:
        for level in (Level.EXACT, Level.SHAPE):
            (past, past_b), (future, future_b) = (
                [colours.past(level) for colours in self._colours],
                [colours.future(level) for colours in self._colours],
            )
            self._pair(lambda i: (past[i], future[i]), lambda j: (past_b[j], future_b[j]))  # noqa: B023
            if level is Level.EXACT:
                self._pair(past.__getitem__, past_b.__getitem__)
                self._pair(future.__getitem__, future_b.__getitem__, backwards=True)
            if self._done():
                return
        self._pair_weights()
        for level in (Level.SHAPE, Level.OP):
            self._spread(level)
        self._pair_names()
        self._align()
        self._spread(Level.OP)
        self._pair_places()

    def _done(self) -> bool:
        return None not in self.to_b or None not in self.to_a

    def _link(self, i: int, j: int) -> None:
        self.to_b[i], self.to_a[j] = j, i

    def _left(self) -> tuple[list[int], list[int]]:
        """The nodes that have no partner yet."""
        return [i for i, j in enumerate(self.to_b) if j is None], [j for j, i in enumerate(self.to_a) if i is None]

    def _pair(self, key_a: Key, key_b: Key, *, backwards: bool = False, alone: bool = False) -> None:
        """Pair nodes of one key (None is none); `alone`: only where there is one on each side."""
        left_a, left_b = self._left()
        if backwards:
            left_a.reverse()
            left_b.reverse()
        candidates = groups(key_b, left_b)
        for key, found in groups(key_a, left_a).items():
            others = candidates.get(key, [])
            if key is not None and others and (not alone or len(found) == len(others) == 1):
                self._settle(found, others)

    def _settle(self, found: Iterable[int], others: Iterable[int]) -> None:
        """Pair nodes that look alike: neighbours decide, then names, then order."""
        left_a, left_b = list(found), list(others)
        for aspects in _ASPECTS if len(left_a) > 1 or len(left_b) > 1 else ((),):
            keys_a = groups(lambda i: tuple(getattr(self, f"_{each}")(0, i) for each in aspects), left_a)  # noqa: B023
            keys_b = groups(lambda j: tuple(getattr(self, f"_{each}")(1, j) for each in aspects), left_b)  # noqa: B023
            for key, indices in keys_a.items():
                for i, j in zip(indices, keys_b.get(key, ()), strict=False):
                    self._link(i, j)
            left_a = [i for i in left_a if self.to_b[i] is None]
            left_b = [j for j in left_b if self.to_a[j] is None]
            if not left_a or not left_b:
                return

    def _operands(self, side: int, index: int) -> Hashable:
        """The operands of a node, in terms of b; those without a partner look alike."""
        plan = (self.a, self.b)[side]
        places = [self._common(side, source) for source in plan.sources[index]]
        return tuple(sorted(places, key=repr) if plan.nodes[index].op.name in COMMUTATIVE else places)

    def _producers_of_outputs(self, side: int) -> dict[int, list[tuple[tuple[int, int], int]]]:
        """Node -> the paired outputs of the graph that it computes, each with which of its results that is."""
        found: dict[int, list[tuple[tuple[int, int], int]]] = {}
        for pair in self._outputs:
            source = (self.a, self.b)[side].outputs[pair[side]]
            if source.kind == "node":
                found.setdefault(source.number, []).append((pair, source.output))
        return found

    def _common(self, side: int, source: Source | None) -> Hashable:
        if source is None or source.kind == "parameter":
            return None
        if side == 0:
            return self.image(source)
        if source.kind == "input":
            return source if source.number in self._paired_inputs else None
        paired = self.to_a[source.number] is not None
        return source if paired else None

    def _users(self, side: int, index: int) -> Hashable:
        """The users of a node, in terms of b, as far as they are paired; an output of the graph is one, too."""
        if side == 0:
            uses = [(self.to_b[use.node], use.position, use.output) for use in self.a.users[index]]
        else:
            paired = (use for use in self.b.users[index] if self.to_a[use.node] is not None)
            uses = [(use.node, use.position, use.output) for use in paired]
        known = [(node, position, output) for node, position, output in uses if node is not None]
        shown = [(-1, pair[1], output) for pair, output in self._shown[side].get(index, ())]
        return tuple(sorted(known + shown))

    def _name(self, side: int, index: int) -> Hashable:
        node = (self.a, self.b)[side].nodes[index]
        return node.name, node.scope.path

    def _weights(self, side: int, index: int) -> tuple[str, ...]:
        return tuple(each.name for each in (self.a, self.b)[side].weights(index) if each.role != "constant")

    def _pair_weights(self) -> None:
        """Steps 4 and 5: the same op on the same weights, or on weights of the same names."""
        exact_a, exact_b = (colours.own(Level.EXACT) for colours in self._colours)
        op_a, op_b = (colours.own(Level.OP) for colours in self._colours)
        self._pair(
            lambda i: exact_a[i] if self._weights(0, i) else None,
            lambda j: exact_b[j] if self._weights(1, j) else None,
            alone=True,
        )
        self._pair(
            lambda i: (op_a[i], names) if (names := self._weights(0, i)) else None,
            lambda j: (op_b[j], names) if (names := self._weights(1, j)) else None,
            alone=True,
        )

    def _pair_names(self) -> None:
        op_a, op_b = (colours.own(Level.OP) for colours in self._colours)
        self._pair(
            lambda i: (op_a[i], self.a.nodes[i].name),
            lambda j: (op_b[j], self.b.nodes[j].name),
            alone=True,
        )

    def _spread(self, level: Level) -> None:
        """Pair neighbours of pairs, and theirs."""
        own_a, own_b = (colours.own(level) for colours in self._colours)

        def settle(near: Iterable[tuple[int, Hashable]], far: Iterable[tuple[int, Hashable]]) -> None:
            found = _unique((i, (own_a[i], how)) for i, how in near if self.to_b[i] is None)
            others = _unique((j, (own_b[j], how)) for j, how in far if self.to_a[j] is None)
            for key, indices in found.items():
                if key in others:
                    self._settle(indices, others[key])
                    queue.extend((i, j) for i in indices if (j := self.to_b[i]) is not None)

        queue = self.pairs()
        for i, j in self._inputs.items():
            settle(_by_use(self.a.input_users[i]), _by_use(self.b.input_users[j]))
        for i, j in self._outputs:
            settle(_producers([self.a.outputs[i]]), _producers([self.b.outputs[j]]))
        for i, j in queue:
            settle(_producers(self.a.sources[i]), _producers(self.b.sources[j]))
            settle(_by_use(self.a.users[i]), _by_use(self.b.users[j]))

    def _align(self) -> None:
        """Pair what is left between pairs that are in one order, by the longest common subsequence of ops."""
        own_a, own_b = (colours.own(Level.OP) for colours in self._colours)
        chain = [(-1, -1), *longest_chain(self.pairs()), (len(own_a), len(own_b))]
        for (i, j), (next_i, next_j) in itertools.pairwise(chain):
            left_a = [k for k in range(i + 1, next_i) if self.to_b[k] is None]
            left_b = [k for k in range(j + 1, next_j) if self.to_a[k] is None]
            if left_a and left_b:
                for p, q in common_subsequence([own_a[k] for k in left_a], [own_b[k] for k in left_b]):
                    self._link(left_a[p], left_b[q])

    def _pair_places(self) -> None:
        """Pair nodes of different ops that have the same operands and the same users."""

        def place(side: int, index: int) -> Hashable:
            operands, users = self._operands(side, index), self._users(side, index)
            return (operands, users) if users and any(operands) else None  # type: ignore[arg-type]

        self._pair(lambda i: place(0, i), lambda j: place(1, j), alone=True)


_ASPECTS = (
    ("operands", "users", "name"),
    ("operands", "users", "weights"),
    ("operands", "users"),
    ("operands", "name"),
    ("operands", "weights"),
    ("operands",),
    ("users", "name"),
    ("users",),
    ("name",),
    ("weights",),
    (),
)
"""What decides between nodes that look alike, in turn."""


def _unique(keyed: Iterable[tuple[int, Hashable]]) -> dict[Hashable, list[int]]:
    """The indices by key, each once."""
    found: dict[Hashable, dict[int, None]] = {}
    for index, key in keyed:
        found.setdefault(key, {})[index] = None
    return {key: list(indices) for key, indices in found.items()}


def _by_use(uses: Iterable[Use]) -> Iterable[tuple[int, Hashable]]:
    return ((use.node, (use.position, use.output)) for use in uses)


def _producers(sources: Iterable[Source | None]) -> Iterable[tuple[int, Hashable]]:
    return ((each.number, (place, each.output)) for place, each in enumerate(sources) if each and each.kind == "node")
