"""Makes a model writable: what a target refuses is decomposed until nothing refused is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isomorph.errors import GraphError, Unsupported, UnsupportedError
from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.activation import Dropout
from isomorph.ir.ops.preserved import Preserved

__all__ = ["legalize", "without_dropout"]

_DEEPEST = 16


def without_dropout(model: Model, refuse: Callable[[Node], str | None]) -> Model:
    """The model without each Dropout that the target refuses: at inference it does nothing."""

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        return b.new_inputs(node)[:1] if isinstance(node.op, Dropout) and refuse(node) is not None else None  # type: ignore[return-value]

    return rewrite(model, "without_dropout", change, regions=True)


def legalize(model: Model, refuse: Callable[[Node], str | None], target: str) -> Model:
    """The model with every node that `refuse` gives a reason for replaced by its decomposition, again and again.

    Raises UnsupportedError with all nodes that are refused and have no decomposition, each with its layer and line.
    """
    for _ in range(_DEEPEST):
        reasons = {node: reason for node in model.nodes() if (reason := refuse(node)) is not None}
        if not reasons:
            return model
        failures: list[Unsupported] = []

        def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
            reason = reasons.get(node)  # noqa: B023
            if reason is None:
                return None
            if isinstance(node.op, Preserved):
                kept = f"{node.op.reason}, so it stays as {node.op.framework} has it; {reason}"
                failures.append(Unsupported(node.op.title, kept, node.describe()))  # noqa: B023
                return None
            if not node.op.can_decompose():
                failures.append(Unsupported(node.op.name, reason, node.describe()))  # noqa: B023
                return None
            try:
                values = node.op.decompose(b, *b.new_inputs(node))
            except GraphError as error:
                failures.append(Unsupported(node.op.name, f"{reason}; {error.what}", node.describe()))  # noqa: B023
                return None
            return (values,) if isinstance(values, Value) else values

        rewritten = rewrite(model, "legalize", change, regions=True)
        if failures:
            raise UnsupportedError(f"write this model to {target}", failures)
        model = rewritten
    raise GraphError(f"decomposition for {target} did not end after {_DEEPEST} rounds")
