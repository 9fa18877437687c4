"""The float64 form of a SavedModel's signature: its frozen GraphDef with every float type widened.

Variables become constants; each type attribute, constant, placeholder and function signature that is a narrower float
becomes double, control-flow functions included. A Cast to a float type casts to double. Inference batch normalization,
whose kernels are float only, is replaced by its definition,

    y = (x - mean) · scale / sqrt(variance + epsilon) + offset        over the last axis (NHWC, NDHWC)

and so is bilinear resizing (tensorflow_resize.py). Neither is where it stands inside of a function.

An op that has a fixed float operand or result, that does not permit double, or that reads the bits of a float has no
float64 form and is refused by name.
See: tensorflow/core/framework/{op_def,attr_value,function}.proto; tf.raw_ops.FusedBatchNormV3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

from isomorph.validators.runners.tensorflow_frozen import FrozenFunction
from isomorph.validators.runners.tensorflow_resize import call_resize

__all__ = ["CENTRED", "EPSILON", "DoubleFunction"]

_NARROW = frozenset({types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16})
_DOUBLE = types_pb2.DT_DOUBLE
_BITS = frozenset({"Bitcast", "DecodeRaw", "EncodeProto", "DecodeProtoV2"})
_BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
CENTRED = "/float64/centred"
"""How the node ends that is x - mean of a normalization."""
EPSILON = "/float64/epsilon"
"""How the constant ends that is the epsilon of a normalization, an attribute."""


class DoubleFunction(FrozenFunction):
    """A signature in float64. Raises NotImplementedError, naming the op, where it has no such form."""

    suffix = "_float64"
    """What sets the names of its functions apart from the model's own."""

    def __init__(self, function: Any, names: Iterable[str]) -> None:
        super().__init__(function, names)
        for name, tensor in self.outputs.items():
            narrow = function.structured_outputs[name].dtype.as_datatype_enum in _NARROW
            found = self.graph.as_graph_element(tensor).dtype
            if narrow and found != tensorflow.float64:
                raise NotImplementedError(f"the output `{name}` stays {found.name} in the float64 graph")

    def rewritten(self, graph: Any) -> tuple[Any, Mapping[str, str]]:
        return _widened(graph, self.suffix), {}

    def run(self, inputs: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        try:
            return super().run(inputs, names)
        except (tensorflow.errors.NotFoundError, tensorflow.errors.UnimplementedError) as error:
            raise NotImplementedError(f"no kernel in double: {error.message}") from error
        except tensorflow.errors.InvalidArgumentError as error:
            if "No OpKernel was registered" not in error.message:
                raise
            raise NotImplementedError(f"no kernel in double: {error.message}") from error


def _widened(graph: Any, suffix: str) -> Any:
    functions = {each.signature.name: each.signature.name + suffix for each in graph.library.function}
    for each in graph.library.function:
        each.signature.name += suffix
        for argument in [*each.signature.input_arg, *each.signature.output_arg]:
            argument.type = _wide(argument.type)
        for node in each.node_def:
            if node.op in _BATCH_NORMS:
                raise NotImplementedError(f"`{node.op}` inside a function has no float64 form here ({node.name})")
            _widen_node(node, functions)
    del graph.library.gradient[:]
    result = tensorflow.compat.v1.GraphDef(versions=graph.versions)
    result.library.CopyFrom(graph.library)
    read = {name.split("^")[-1] for node in graph.node for name in node.input if ":" in name}
    for node in graph.node:
        if node.op in _BATCH_NORMS:
            _normalize_by_definition(node, result, read)
        elif node.op == "ResizeBilinear":
            call_resize(node, result, tensorflow.as_dtype(_wide(node.attr["T"].type)))
        else:
            _widen_node(node, functions)
            result.node.add().CopyFrom(node)
    return result


def _widen_node(node: Any, functions: Mapping[str, str]) -> None:
    touched = any(_is_narrow(value) for value in node.attr.values())
    if node.op in functions:
        node.op = functions[node.op]
    else:
        _check(node, touched)
    for value in node.attr.values():
        _widen_attribute(value, functions)


def _is_narrow(value: Any) -> bool:
    return value.type in _NARROW or any(each in _NARROW for each in value.list.type)


def _check(node: Any, touched: bool) -> None:
    definition = op_def_registry.get(node.op)
    where = f"`{node.op}` has no float64 form ({node.name})"
    if definition is None:
        raise NotImplementedError(f"{where}: it is no op of this TensorFlow")
    if node.op in _BITS and touched:
        raise NotImplementedError(f"{where}: it reads the bits of a float")
    for argument in [*definition.input_arg, *definition.output_arg]:
        if argument.type in _NARROW:
            raise NotImplementedError(f"{where}: `{argument.name}` is float by definition")
    for attribute in definition.attr:
        allowed = attribute.allowed_values.list.type
        narrow = attribute.name in node.attr and _is_narrow(node.attr[attribute.name])
        if allowed and narrow and _DOUBLE not in allowed:
            raise NotImplementedError(f"{where}: `{attribute.name}` cannot be double")


def _widen_attribute(value: Any, functions: Mapping[str, str]) -> None:
    kind = value.WhichOneof("value")
    if kind == "type":
        value.type = _wide(value.type)
    elif kind == "tensor" and value.tensor.dtype in _NARROW:
        array = tensorflow.make_ndarray(value.tensor).astype(np.float64)
        value.tensor.CopyFrom(tensorflow.make_tensor_proto(array, tensorflow.float64, array.shape))
    elif kind == "func":
        _widen_reference(value.func, functions)
    elif kind == "list":
        value.list.type[:] = [_wide(each) for each in value.list.type]
        for function in value.list.func:
            _widen_reference(function, functions)


def _widen_reference(reference: Any, functions: Mapping[str, str]) -> None:
    reference.name = functions.get(reference.name, reference.name)
    for value in reference.attr.values():
        _widen_attribute(value, functions)


def _wide(dtype: int) -> int:
    return _DOUBLE if dtype in _NARROW else dtype


def _normalize_by_definition(node: Any, graph: Any, read: set[str]) -> None:
    """FusedBatchNorm in inference, as nodes of double; the last one keeps the name."""
    layout = node.attr["data_format"].s.decode() or "NHWC"
    if node.attr["is_training"].b or not layout.endswith("C"):
        raise NotImplementedError(f"`{node.op}` in training or channels first has no float64 form ({node.name})")
    if any(name.startswith(f"{node.name}:") and name != f"{node.name}:0" for name in read):
        raise NotImplementedError(f"`{node.op}` whose statistics are read has no float64 form ({node.name})")
    x, scale, offset, mean, variance = node.input[:5]
    controls = list(node.input[5:])
    epsilon = node.name + EPSILON
    constant = graph.node.add(name=epsilon, op="Const")
    constant.attr["dtype"].type = _DOUBLE
    constant.attr["value"].tensor.CopyFrom(
        tensorflow.make_tensor_proto(float(node.attr["epsilon"].f), tensorflow.float64)
    )

    def add(op: str, name: str, *operands: str) -> str:
        made = graph.node.add(name=name, op=op, input=[*operands, *controls])
        made.attr["T"].type = _DOUBLE
        return name

    inner = f"{node.name}/float64/"
    root = add("Sqrt", inner + "deviation", add("AddV2", inner + "variance", variance, epsilon))
    centred = add("Sub", node.name + CENTRED, x, mean)
    scaled = add("Mul", inner + "scaled", add("RealDiv", inner + "normal", centred, root), scale)
    add("AddV2", node.name, scaled, offset)
