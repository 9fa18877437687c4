"""Matrix products in ONNX."""

from __future__ import annotations

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops


@rules.imports("Gemm")
def read_gemm(node: OnnxNode) -> Value:
    """A plain product with a transposed weight keeps the form of a fully connected layer."""
    a, b, c = node.value(0), node.value(1), node.optional(2)
    node.attribute("broadcast")  # before opset 7; C broadcasts to the product in any case
    alpha, beta = float(node.attribute("alpha", 1.0)), float(node.attribute("beta", 1.0))
    trans_a, trans_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    plain = alpha == 1.0 and (beta == 1.0 or c is None) and trans_b and not trans_a
    if plain and b.is_parameter and b.rank == 2 and (c is None or c.shape == b.shape[:1]):
        return node.emit(ops.Linear(), a, b, c)
    return node.emit(ops.Gemm(alpha, beta, trans_a, trans_b), a, b, c)


@rules.imports("MatMul")
def read_matmul(node: OnnxNode) -> Value:
    return node.emit(ops.MatMul(), node.value(0), node.value(1))


@rules.imports("Einsum")
def read_einsum(node: OnnxNode) -> Value:
    equation = str(node.attribute("equation", "")).replace(" ", "")
    if "->" not in equation:
        letters = [letter for letter in equation if letter.isalpha()]
        once = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
        equation = f"{equation}->{'...' if '...' in equation else ''}{once}"
    return node.emit(ops.Einsum(equation), *node.values())


@rules.imports("Det")
def read_det(node: OnnxNode) -> Value:
    return node.emit(ops.Det(), node.value(0))


@rules.exports(ops.Det)
def write_det(export: Export, node: Node) -> None:
    export.replace("Det", node)


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
