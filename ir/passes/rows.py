"""Products whose rows lie on several axes need not be made matrices of, and back.

    Reshape(Gemm(Reshape(x, (…, K)), w, b), (*x.shape[:-1], M))    ->  x @ w + b
    Reshape(Linear(Reshape(x, (…, K)), w, b), (*x.shape[:-1], M))  ->  Linear(x, w, b)

of a product that nothing else reads; x (N, L, H, E) whose rows are its last two axes is made (N, L, H * E). Exact: each
row is computed as before.
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Add
from isomorph.ir.ops.linear import Gemm, Linear, MatMul
from isomorph.ir.ops.shape import Reshape
from isomorph.ir.passes.canonicalize import prune

__all__ = ["merge_rows"]


def merge_rows(model: Model) -> Model:
    """The model with products of tensors instead of products of matrices between two reshapes."""
    if not any(isinstance(node.op, Gemm | Linear) for node in model.graph.nodes):
        return model
    users, shown = model.graph.users(), set(model.graph.outputs.values())

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _between(node)
        if found is None or len(users[found[0].output]) != 1 or found[0].output in shown:
            return None
        product, source = found
        rows = product.inputs[0]
        assert rows is not None
        x, shape = b.new(source), (*node.output.shape[:-1], rows.shape[-1])
        x = x if x.shape == shape else b.emit(Reshape(shape), x)
        weight, bias = (*product.inputs[1:], None)[:2]
        assert weight is not None
        if isinstance(product.op, Linear):
            return (b.emit(Linear(), x, b.new(weight), *(() if bias is None else (b.new(bias),))),)
        with b.at(product.scope, product.origin.changed_by("merge_rows")):
            y = b.emit(MatMul(), x, b.new(weight))
            return (y if bias is None else b.emit(Add(), y, b.new(bias)),)

    return prune(rewrite(model, "merge_rows", change))


def _between(node: Node) -> tuple[Node, Value] | None:
    """(product, x) of a reshape that gives the rows of a product back the axes that they have in x."""
    product = node.inputs[0].producer if isinstance(node.op, Reshape) and node.inputs[0] is not None else None
    if product is None or not (isinstance(product.op, Linear) or product.op == Gemm()):
        return None
    rows, weight, bias = (*product.inputs, None)[:3]
    before = rows.producer if rows is not None else None
    x = before.inputs[0] if before is not None and isinstance(before.op, Reshape) else None
    if x is None or rows is None or rows.rank != 2 or x.rank < 3 or weight is None or weight.rank != 2:
        return None
    axes = node.output.rank - 1
    same = (
        axes >= 2 and x.shape[:axes] == node.output.shape[:axes] and node.output.shape[-1] == product.output.shape[-1]
    )
    return (product, x) if same and (bias is None or bias.rank <= 1) else None
