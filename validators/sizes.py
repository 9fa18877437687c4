"""Sizes for which a source is right: those that fulfil what it assumed of them when it was made."""

from __future__ import annotations

import random
from collections.abc import Mapping

from isomorph.ir.conditions import Condition
from isomorph.validators.runner import Signature

__all__ = ["fulfilling"]

_DRAWS = 20_000
_FARTHEST = 128
"""How far above its lower bound a size without an upper one is drawn."""


def fulfilling(sizes: Mapping[str, int], signature: Signature) -> dict[str, int]:
    """The sizes themselves where they fulfil `signature.assumes`, else seeded draws within the ranges that do; the
    sizes as they are where 20,000 draws find none."""
    conditions = [Condition.parse(text) for text in signature.assumes]
    chosen = dict(sizes)
    free = sorted({name for each in conditions for name in each.names if name in chosen})
    known = [each for each in conditions if set(each.names) <= set(chosen)]
    draw = random.Random(str(sorted(chosen.items())))
    for _ in range(_DRAWS):
        if all(each.holds(chosen) for each in known):
            return chosen
        for name in free:
            low, high = signature.dims.get(name, (1, None))
            chosen[name] = draw.randint(low, low + _FARTHEST if high is None else high)
    return dict(sizes)
