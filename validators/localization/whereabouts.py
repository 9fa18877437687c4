"""Where a value of the target comes from: what reports say of each op and of each culprit."""

from __future__ import annotations

from typing import Any

from isomorph.ir import Node, Origin, Scope
from isomorph.validators.localization.taps import Taps

__all__ = ["provenance", "whereabouts"]


def whereabouts(node: Node, taps: Taps) -> dict[str, Any]:
    """op, target, source: the op's kind, its name in the target, the name of the same value in the source; path, cls:
    the module that it belongs to; file, line, code: where the user wrote it."""
    name = taps.names[node]
    scope, origin = provenance(node, taps)
    return {
        "op": type(node.op).__name__,
        "target": name,
        "source": taps.origins[name],
        "path": scope.path,
        "cls": scope.cls,
        "file": origin.file,
        "line": origin.line,
        "code": origin.code,
    }


def provenance(node: Node, taps: Taps) -> tuple[Scope, Origin]:
    """A file that isomorph wrote from another format records where its nodes come from; of others the source says it,
    if it is a file with a value of this name, else they say it themselves."""
    if taps.source is None or node.origin.framework != taps.model.source[0]:
        return node.scope, node.origin
    known = taps.source.node(taps.origins[taps.names[node]])
    return (known.scope, known.origin) if known is not None and known.origin.file else (node.scope, node.origin)
