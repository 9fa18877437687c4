"""The registry of rules: how a framework's operation becomes IR ops, and how an IR op is spelt in a framework.

Each framework folder makes one `Rules` in its `rules.py`; its family files register import and export rules in it:

    @rules.imports("aten.relu.default", "aten.relu_.default")
    def relu(...): ...

    @rules.exports(ops.Relu)
    def relu_layer(...): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from isomorph.ir import Layout, Node, Op
from isomorph.records import record

__all__ = ["Rules", "Target"]

Import = TypeVar("Import", bound=Callable[..., object])
Export = TypeVar("Export", bound=Callable[..., object])


class Rules(Generic[Import, Export]):
    """Import rules by the framework's name of an operation, export rules by op class. Two rules for one key raise."""

    def __init__(self, framework: str) -> None:
        self.framework = framework
        self._imports: dict[str, Import] = {}
        self._exports: dict[type[Op], Export] = {}

    def imports(self, *names: str) -> Callable[[Import], Import]:
        """Register the decorated function for these operations."""

        def register(rule: Import) -> Import:
            for name in names:
                if name in self._imports:
                    raise ValueError(f"two import rules for {self.framework} {name}")
                self._imports[name] = rule
            return rule

        return register

    def exports(self, *kinds: type[Op]) -> Callable[[Export], Export]:
        """Register the decorated function for these op classes."""

        def register(rule: Export) -> Export:
            for kind in kinds:
                if kind in self._exports:
                    raise ValueError(f"two export rules for {self.framework} {kind.__name__}")
                self._exports[kind] = rule
            return rule

        return register

    def importer(self, name: str) -> Import | None:
        return self._imports.get(name)

    def exporter(self, kind: type[Op]) -> Export | None:
        return self._exports.get(kind)

    def imported(self) -> list[str]:
        """Names of all operations that can be imported, sorted."""
        return sorted(self._imports)

    def exported(self) -> list[type[Op]]:
        """All op classes that can be exported, sorted by name."""
        return sorted(self._exports, key=lambda kind: kind.__name__)


@record
class Target:
    """What a writer can take; the conversion legalizes and lays out for it.

    layout    where the target's windowed ops want the channel axis
    refuse    why a node cannot be written as it is, or None: then it is decomposed, or reported with this reason
    """

    name: str
    layout: Layout
    refuse: Callable[[Node], str | None]
