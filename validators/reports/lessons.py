"""What `--train` showed, as the pages tell it: one lesson for each kind of quantity, of all cases together.

loss; gradients by step; changes of weights; weights whose pairing alone tells (frozen, tied).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Lesson", "differing", "lessons", "named"]

_RANK = {"EQUIVALENT": 0, "INCONCLUSIVE": 1, "DIFFERENT": 2}

Quantity = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lesson:
    """All quantities of one kind.

    what        "loss", "gradient, step 1", "change", "weight"
    quantities  the worst first: by verdict, then by its ratio to the budget
    """

    what: str
    quantities: tuple[Quantity, ...]

    @property
    def worst(self) -> Quantity:
        return self.quantities[0]

    @property
    def verdict(self) -> str:
        found: str = self.worst["verdict"]
        return found

    @property
    def agree(self) -> int:
        return sum(quantity["verdict"] == "EQUIVALENT" for quantity in self.quantities)

    @property
    def blamed(self) -> tuple[Quantity, ...]:
        """Those that do not agree."""
        return tuple(quantity for quantity in self.quantities if quantity["verdict"] != "EQUIVALENT")


def lessons(content: Mapping[str, Any]) -> list[Lesson]:
    """In the order in which the kinds were compared; empty without `--train`."""
    kinds: dict[str, list[Quantity]] = {}
    for quantity in (content.get("training") or {}).get("quantities", ()):
        kinds.setdefault(quantity["what"], []).append(quantity)
    return [Lesson(what, tuple(sorted(found, key=_badness, reverse=True))) for what, found in kinds.items()]


def differing(content: Mapping[str, Any]) -> Iterator[tuple[str, list[Quantity]]]:
    """(name of the source's weight, its quantities that are DIFFERENT, the worst first); "" is the loss."""
    weights: dict[str, list[Quantity]] = {}
    for lesson in lessons(content):
        for quantity in lesson.quantities:
            if quantity["verdict"] == "DIFFERENT":
                weights.setdefault(quantity["source"], []).append(quantity)
    for name, found in weights.items():
        yield name, sorted(found, key=lambda each: (bool(each["explanation"]), float(each["ratio"])), reverse=True)


def named(quantity: Quantity, arrow: str = "->") -> str:
    """The weight, by both its names where they differ; "" for the loss."""
    source, target = quantity["source"], quantity["target"]
    return str(source) if source == target else f"{source} {arrow} {target}"


def _badness(quantity: Quantity) -> tuple[int, float]:
    return _RANK[quantity["verdict"]], float(quantity["ratio"])
