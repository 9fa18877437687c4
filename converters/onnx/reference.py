"""Preserved operators, computed by the onnx package's reference implementation: NumPy, no runtime.

Importing this module enters it in the IR's table of evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from isomorph.converters.onnx.codec import type_proto
from isomorph.converters.onnx.preserved import node_proto
from isomorph.converters.onnx.tensors import tensor_proto
from isomorph.errors import GraphError
from isomorph.ir import ArrayTensor, DType
from isomorph.ir.ops.preserved import EVALUATORS, Preserved

__all__ = ["evaluate_preserved"]


def evaluate_preserved(op: Preserved, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The results of an operator; sequences are lists, an empty optional is None. Raises GraphError where it fails."""
    from onnx.reference import ReferenceEvaluator

    count = op.own_operands(len(arrays))
    outside = count + len(op.captures)
    tensors = [tensor_proto("", ArrayTensor(array)) for array in arrays[outside:]]
    operands = [f"operand_{position}" for position in range(count)]
    results = [f"result_{position}" for position in range(len(op.results))]
    node = node_proto(op, operands, results, {}, tensors)
    feeds = dict(zip([*operands, *op.captures], map(_fed, arrays[:outside]), strict=True))
    if op.kind == "Loop" and not op.domain and 1 in op.absent:  # no condition; the reference would not begin
        node.input[1] = "forever"
        feeds["forever"] = np.asarray(True)
    inputs = [onnx.ValueInfoProto(name=name) for name in feeds]
    outputs = [helper.make_value_info(name, type_proto(kind)) for name, kind in zip(results, op.results, strict=True)]
    opsets = {"": op.version, **dict(op.imports), op.domain: op.version}
    graph = helper.make_graph([node], "node", inputs, outputs)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        made = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds)
    except Exception as error:  # the reference raises whatever an operator's body raises
        raise GraphError(
            f"the onnx package cannot compute {op.title}", because=f"{type(error).__name__}: {error}"
        ) from error
    return tuple(map(_taken, made, [kind.dtype for kind in op.results]))


def _fed(value: Any) -> Any:
    """Texts as str, which the reference works with; weights have them as bytes."""
    if not isinstance(value, np.ndarray) or value.dtype != object:
        return value
    decode = np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else item, otypes=[object])
    return decode(value)


def _taken(value: Any, dtype: DType) -> Any:
    """A tensor in the recorded element type; a scalar of NumPy as an array."""
    if isinstance(value, list | dict) or value is None:
        return value
    array = np.asarray(value)
    return array.astype(object) if dtype is DType.STRING else array


EVALUATORS["onnx"] = evaluate_preserved
