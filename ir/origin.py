"""Where a node belongs (`Scope`, kept by exporters) and where it comes from (`Origin`, for diagnosis)."""

from __future__ import annotations

from dataclasses import replace

from isomorph.records import record

__all__ = ["Origin", "Scope", "ScopeEntry"]


@record
class ScopeEntry:
    """One module on the path: its attribute path from the root, its class, and which call of it this is (from 0)."""

    path: str
    cls: str = ""
    call: int = 0


@record
class Scope:
    """The module path of a node, outermost first. Exporters rebuild the hierarchy from it."""

    entries: tuple[ScopeEntry, ...] = ()

    @property
    def path(self) -> str:
        """Dotted path of the innermost module, `layer1.0.conv1`; "" at the root."""
        return self.entries[-1].path if self.entries else ""

    @property
    def cls(self) -> str:
        """Class of the innermost module, "" if unknown."""
        return self.entries[-1].cls if self.entries else ""

    def __str__(self) -> str:
        return self.path


@record
class Origin:
    """Where a node comes from. Never read by an exporter to decide anything.

    framework, op   the source framework and its own name of the operation ("torch", "aten.conv2d.default")
    name            the node's name in the source file
    file, line      the user's source line, `code` its text
    passes          names of the passes that made or changed the node, in order
    """

    framework: str
    op: str
    name: str = ""
    file: str = ""
    line: int = 0
    code: str = ""
    passes: tuple[str, ...] = ()

    def changed_by(self, name: str) -> Origin:
        """The same origin, with one more pass in its history."""
        return self if self.passes and self.passes[-1] == name else replace(self, passes=(*self.passes, name))

    def describe(self, scope: Scope | None = None) -> str:
        """One line for an error: ``layer2.0.conv1 (torch.nn.Conv2d)  resnet.py:91  `out = self.conv1(x)` ``."""
        parts = []
        if scope is not None and scope.path:
            parts.append(f"{scope.path} ({scope.cls})" if scope.cls else scope.path)
        elif self.name:
            parts.append(self.name)
        if self.file:
            parts.append(f"{self.file}:{self.line}")
        if self.code:
            parts.append(f"`{self.code}`")
        return "  ".join(parts) or f"{self.framework} {self.op}"
