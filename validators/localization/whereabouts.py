"""Where a value of the target comes from: what reports say of each op and of each culprit."""

from __future__ import annotations

from typing import Any

from isomorph.ir import Node
from isomorph.validators.localization.taps import Taps

__all__ = ["whereabouts"]


def whereabouts(node: Node, taps: Taps) -> dict[str, Any]:
    """op, target, source: the op's kind, its name in the target, the name of the same value in the source; path, cls:
    the module that it belongs to; file, line, code: where the user wrote it.

    A file that isomorph wrote records these; of others the source says it, if it is a file.
    """
    name = taps.names[node]
    scope, origin = node.scope, node.origin
    known = taps.source.node(taps.origins[name]) if taps.source is not None and not origin.file else None
    if known is not None:
        scope, origin = known.scope if known.scope.path else scope, known.origin
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
