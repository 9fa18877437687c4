"""Random numbers in ONNX. A shape with symbolic sizes is that of a tensor that is made for it."""

from __future__ import annotations

from typing import Any

from onnx import helper

from isomorph.converters.onnx.codec import DTYPES, element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Shape, Sym, Value, ops

__all__ = ["refuse_random"]

_KERNELS = (DType.FLOAT32, DType.FLOAT64)
"""What onnxruntime draws; other types are cast."""


def _dtype(node: OnnxNode, default: DType) -> DType:
    code = int(node.attribute("dtype", 0))
    if code and code not in DTYPES:
        node.refuse(f"the element type with code {code} is not expressed")
    return DTYPES[code] if code else default


def _seed(node: OnnxNode) -> float | None:
    given = node.attribute("seed")
    return None if given is None else float(given)


@rules.imports("RandomNormal", "RandomNormalLike")
def read_normal(node: OnnxNode) -> Value:
    shape, dtype = _shape(node)
    mean, scale = float(node.attribute("mean", 0.0)), float(node.attribute("scale", 1.0))
    return node.emit(ops.RandomNormal(shape, dtype, mean, scale, _seed(node)))


@rules.imports("RandomUniform", "RandomUniformLike")
def read_uniform(node: OnnxNode) -> Value:
    shape, dtype = _shape(node)
    low, high = float(node.attribute("low", 0.0)), float(node.attribute("high", 1.0))
    return node.emit(ops.RandomUniform(shape, dtype, low, high, _seed(node)))


def _shape(node: OnnxNode) -> tuple[Shape, DType]:
    if node.kind.endswith("Like"):
        like = node.value(0)
        return like.shape, _dtype(node, like.dtype)
    return tuple(int(size) for size in node.attribute("shape", ())), _dtype(node, DType.FLOAT32)


@rules.imports("Bernoulli")
def read_bernoulli(node: OnnxNode) -> Value:
    p = node.value(0)
    return node.emit(ops.Bernoulli(_dtype(node, p.dtype), _seed(node)), p)


@rules.imports("Multinomial")
def read_multinomial(node: OnnxNode) -> Value:
    op = ops.Multinomial(int(node.attribute("sample_size", 1)), _dtype(node, DType.INT32), _seed(node))
    return node.emit(op, node.value(0))


@rules.exports(ops.RandomNormal, ops.RandomUniform)
def write_random(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.RandomNormal | ops.RandomUniform)
    drawn = op.dtype if op.dtype in _KERNELS else DType.FLOAT32
    if isinstance(op, ops.RandomNormal):
        kind, about = "RandomNormal", {"mean": op.mean, "scale": op.scale}
    else:
        kind, about = "RandomUniform", {"low": op.low, "high": op.high}
    outputs = node.outputs if drawn is op.dtype else None
    given: dict[str, Any] = {"dtype": element_type(drawn), "seed": op.seed, **about}
    if any(isinstance(size, Sym) for size in op.shape):
        zero = helper.make_tensor("value", element_type(drawn), [1], [0])
        like = export.emit("ConstantOfShape", [export.sizes(op.shape)], value=zero)
        made = export.emit(f"{kind}Like", [like], outputs, **given)
    else:
        made = export.emit(kind, [], outputs, shape=[int(size) for size in op.shape], **given)  # type: ignore[arg-type]
    if outputs is None:
        export.emit("Cast", [made], node.outputs, to=element_type(op.dtype))


@rules.exports(ops.Bernoulli)
def write_bernoulli(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Bernoulli)
    export.replace("Bernoulli", node, dtype=element_type(node.op.dtype), seed=node.op.seed)


@rules.exports(ops.Multinomial)
def write_multinomial(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Multinomial)
    export.replace("Multinomial", node, dtype=element_type(op.dtype), sample_size=op.sample_size, seed=op.seed)


def refuse_random(node: Node, opset: int) -> str | None:
    if isinstance(node.op, ops.RandomNormal):
        return None if node.op.scale > 0 else "onnxruntime ends the process where all numbers are the mean"
    if isinstance(node.op, ops.Bernoulli):
        return "the body that ONNX gives it, which onnxruntime runs, draws 1 with the probability 1 - p"
    x = node.inputs[0]
    assert isinstance(node.op, ops.Multinomial) and x is not None
    return None if x.dtype is DType.FLOAT32 else f"runtimes draw no classes from {x.dtype}"
