"""What a target's file shows of its precision: the class that it would have to be declared as (read as data); and how
a target of a declared class is fed.

fp16, bf16     half of its weights (elements of floats) or more are of this type
int8           weights of 8 or 4 bits. What it rounds (`scope`):
               "tensors"   a QuantizeLinear with a constant scale on activations, or an op of whole numbers with one
               "products"  DynamicQuantizeLinear, MatMulInteger, ConvInteger: scales of the run
               "weights"   nothing but weights
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.converters.formats import by_name
from isomorph.errors import IsomorphError
from isomorph.ir import DType
from isomorph.validators.precision import Precision
from isomorph.validators.runner import NATIVE, Arrays, ModelFile, Result, Runner, Signature, Subject

__all__ = ["CastInputs", "input_ranges", "shown_precision"]

_STATIC = frozenset(("QuantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "QLinearConcat"))
_DYNAMIC = frozenset(
    ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
) | {"QAttention", "DynamicQuantizeLSTM"}
_NARROW = {DType.FLOAT16: "fp16", DType.BFLOAT16: "bf16"}
_WHOLE = {DType.INT8: 8, DType.UINT8: 8, DType.INT4: 4, DType.UINT4: 4}
_ONNX_WHOLE = (2, 3, 21, 22)  # UINT8, INT8, UINT4, INT4
_MOVES = frozenset(("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Pad", "Slice"))
_SMALL = 64
"""A table of bytes of fewer elements is no weight."""


class CastInputs:
    """A target of a declared class: it is fed with the types that it takes. It is not asked for pieces of its model, as
    an operation by itself is held to the source's own precision (localization/forced.py)."""

    def __init__(self, target: Runner) -> None:
        self._target = target
        self._types: dict[str, np.dtype] = {}

    def signature(self) -> Signature:
        found = self._target.signature()
        self._types = {spec.name: DType.of(spec.dtype).numpy for spec in found.inputs}
        return found

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        if not self._types:
            self.signature()
        feeds = {name: array.astype(self._types.get(name, array.dtype), copy=False) for name, array in inputs.items()}
        return self._target.run(feeds, taps=taps, precision=precision)


def shown_precision(subject: Subject | None) -> Precision | None:
    """The class of this file, None where it is float32 (or float64), or where it cannot be read."""
    if not isinstance(subject, ModelFile):
        return None
    try:
        types, kinds, split = _onnx(Path(subject.path)) if subject.format == "onnx" else _any(subject)
    except (IsomorphError, ImportError, OSError, ValueError):
        return None
    return _concluded(types, kinds, split=split)


def _concluded(types: Counter[DType], kinds: set[str], *, split: bool) -> Precision | None:
    """From the number of elements of each type among the weights, the operators, and whether scales are vectors."""
    whole = {dtype: count for dtype, count in types.items() if dtype in _WHOLE and count >= _SMALL}
    packed = "MatMulNBits" in kinds or "GatherBlockQuantized" in kinds
    if whole or packed or kinds & _DYNAMIC:
        bits = min((_WHOLE[dtype] for dtype in whole), default=8)
        scope = "products" if kinds & _DYNAMIC else "tensors" if kinds & _STATIC else "weights"
        return Precision("int8", scope, 4 if packed else bits, packed or split)
    floats = sum(count for dtype, count in types.items() if dtype.is_float)
    for dtype, name in _NARROW.items():
        if floats and types[dtype] * 2 >= floats:
            return Precision.of(name)
    return None


def _any(subject: ModelFile) -> tuple[Counter[DType], set[str], bool]:
    model = by_name(subject.format).load_reader()(Path(subject.path))
    types: Counter[DType] = Counter()
    for each in model.parameters().values():
        types[each.data.dtype] += math.prod(each.data.shape)
    return types, {type(node.op).__name__ for node in model.graph.nodes}, False


def _onnx(path: Path) -> tuple[Counter[DType], set[str], bool]:
    """Initializers and constants of an ONNX file; what large ones hold is not read."""
    import onnx

    from isomorph.converters.onnx.wire import read_model

    types: Counter[DType] = Counter()
    kinds: set[str] = set()
    model, _ = read_model(path)
    for tensor, kind in _parts(model.graph):
        if kind:
            kinds.add(kind)
        elif tensor is not None:
            types[DType.of(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))] += math.prod(tensor.dims)
    return types, kinds, _split(model.graph)


def _split(graph: Any) -> bool:
    """Whether every whole-number weight is scaled by more than one number, by DequantizeLinear or Cast and Mul."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    whole = {name for name, each in tables.items() if each.data_type in _ONNX_WHOLE and math.prod(each.dims) >= _SMALL}
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    scaled = {
        casts.get(node.input[0], node.input[0]): math.prod(tables[node.input[1]].dims)
        for node in graph.node
        if node.op_type in ("Mul", "DequantizeLinear") and len(node.input) > 1 and node.input[1] in tables
    }
    return bool(whole) and all(scaled.get(name, 1) > 1 for name in whole)


def _parts(graph: Any) -> Iterator[tuple[Any, str]]:
    for tensor in graph.initializer:
        yield tensor, ""
    for node in graph.node:
        yield None, node.op_type
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t, ""
            for inner in (attribute.g, *attribute.graphs):
                yield from _parts(inner)


def input_ranges(subject: Subject | None) -> dict[str, tuple[float, float]]:
    """The range of each input that an ONNX file quantizes with a constant scale, maybe after moves: what it was
    calibrated for."""
    if not isinstance(subject, ModelFile) or subject.format != "onnx":
        return {}
    import onnx

    from isomorph.converters.onnx.wire import read_model

    graph = read_model(Path(subject.path))[0].graph
    origins = {value.name: value.name for value in graph.input}
    tables = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[str, tuple[float, float]] = {}
    for node in graph.node:
        known = len(node.input) > 2 and all(name in tables for name in node.input[1:3])
        if node.op_type in _MOVES and node.input[0] in origins:
            origins[node.output[0]] = origins[node.input[0]]
        if node.op_type == "QuantizeLinear" and node.input[0] in origins and known:
            scale, zero = (onnx.numpy_helper.to_array(tables[name]) for name in node.input[1:3])
            if scale.size == 1 and zero.dtype in (np.int8, np.uint8, np.int16, np.uint16):
                ends = np.iinfo(zero.dtype)
                low, high = (float(scale.item() * (end - int(zero.item()))) for end in (ends.min, ends.max))
                found[origins[node.input[0]]] = (low, high)
    return found
