"""Matrix products in ONNX."""

from __future__ import annotations

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops


@rules.exports(ops.Linear)
def write_linear(export: Export, node: Node) -> None:
    """Gemm for matrices (`target` refuses other ranks)."""
    export.replace("Gemm", node, transB=1)


@rules.exports(ops.Gemm)
def write_gemm(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Gemm)
    export.replace("Gemm", node, alpha=op.alpha, beta=op.beta, transA=int(op.trans_a), transB=int(op.trans_b))


@rules.exports(ops.MatMul)
def write_matmul(export: Export, node: Node) -> None:
    export.replace("MatMul", node)


@rules.exports(ops.Einsum)
def write_einsum(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Einsum)
    export.replace("Einsum", node, equation=node.op.equation)
