"""The registry of ATen rules. A family file has one import rule for each operation that `torch.export` leaves whole.

A rule is named by the overload ("aten.conv2d.default") and called as

    rule(b: Lowering, **arguments) -> Value | Sequence[Value | None]

with the arguments by the names of the operator's schema, those left at their defaults absent: the rule's own defaults
are the schema's. Tensors come as `Value`, sizes as int or Sym, dtypes as DType. Scope and origin are set. What cannot
be expressed is refused with `raise b.refusal(reason)`.

An in-place overload ("aten.relu_.default") is registered beside its functional twin: the importer renames (storage.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from isomorph.converters.rules import Rules
from isomorph.ir import Value

__all__ = ["ImportRule", "rules"]

ImportRule: TypeAlias = Callable[..., Value | Sequence[Value | None]]
ExportRule: TypeAlias = Callable[..., Any]

Rule = TypeVar("Rule", bound=Callable[..., Any])


class _TorchRules(Rules[ImportRule, ExportRule]):
    """Rules whose decorator keeps the type of the function, so that rules can call each other."""

    def imports(self, *names: str) -> Callable[[Rule], Rule]:
        def register(rule: Rule) -> Rule:
            super(_TorchRules, self).imports(*names)(rule)
            return rule

        return register


rules = _TorchRules("torch")
