"""An ONNX model in float64: every float type widened, run by `onnx.reference` with fast kernels for windowed ops.

onnxruntime has no double kernels for convolutions, so it cannot be the float64 reference. `onnx.reference` is the
specification in NumPy, and independent of our own IR; where it loops in Python, onnx_kernels.py replaces it by sums
over kernel offsets and BLAS. Operators of com.microsoft are in onnx_contrib_kernels.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from isomorph.converters.onnx.order import put_in_order
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runners.onnx_contrib_kernels import CONTRIB
from isomorph.validators.runners.onnx_kernels import KERNELS
from isomorph.validators.runners.onnx_noise import with_noise
from isomorph.validators.runners.onnx_precision import Rounding

__all__ = ["DoubleModel", "widen"]

_KERNELS = [*KERNELS, *CONTRIB]
_NARROW = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_NARROW_NAMES = ("float32", "float16", "bfloat16")
# Attributes that hold an element type, by op.
_DTYPE_ATTRIBUTES = {
    "Cast": "to",
    **dict.fromkeys(("EyeLike", "SequenceEmpty", "Multinomial", "Bernoulli"), "dtype"),
    **dict.fromkeys(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"), "dtype"),
    **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"), "output_datatype"),
}


class DoubleModel:
    """The widened model, kept for several runs."""

    def __init__(self, path: Path) -> None:
        proto = onnx.load(str(path))
        put_in_order(proto.graph)
        _refuse_what_cannot_be_widened(proto)
        self._proto = widen(proto)
        self._runner = self._evaluator()

    def _evaluator(self) -> ReferenceEvaluator:
        own = {(function.domain, function.name) for function in self._proto.functions}
        kernels, contrib = (
            [kernel for kernel in each if (kernel.op_domain, kernel.__name__) not in own]
            for each in (_KERNELS, CONTRIB)
        )

        class Evaluator(ReferenceEvaluator):
            """Gives functions the kernels of com.microsoft; `ReferenceEvaluator` gives them none."""

            def __init__(self, proto: Any, **options: Any) -> None:
                given = {"new_ops": contrib} if isinstance(proto, FunctionProto) else {}
                super().__init__(proto, **given, **options)

        return Evaluator(self._proto, new_ops=kernels)

    def run(
        self, inputs: Mapping[str, np.ndarray], names: Sequence[str], noise: Noise | None = None
    ) -> dict[str, np.ndarray]:
        """The values of these names that exist, each operation with noise where it is given. Raises NotImplementedError
        for an op that has no reference."""
        feeds = {
            name: array.astype(np.float64) if array.dtype.name in _NARROW_NAMES else array
            for name, array in inputs.items()
        }
        runner = self._runner
        if noise is not None and noise.precision is not None:
            rounding = Rounding(noise, noise.precision)
            runner, feeds = rounding.applied(self._evaluator()), rounding.inputs(feeds)
        elif noise is not None:
            runner = with_noise(self._evaluator(), noise)
        outputs = [value.name for value in self._proto.graph.output]
        with np.errstate(all="ignore"):
            values = (
                runner.run(None, feeds, intermediate=True)
                if set(names) - set(outputs)
                else dict(zip(outputs, runner.run(None, feeds), strict=True))
            )
        found = {name: np.asarray(values[name]) for name in names if values.get(name) is not None}
        for name, array in found.items():
            if array.dtype.name in _NARROW_NAMES:
                raise NotImplementedError(f"`{name}` is still {array.dtype} in the float64 run of the ONNX model")
        return found


def widen(proto: ModelProto) -> ModelProto:
    """A copy of the model in which every float16, bfloat16 and float32 is a float64 (initializers, types, attributes,
    bodies)."""
    wide = ModelProto()
    wide.CopyFrom(proto)
    for graph in _graphs(wide.graph):
        _widen_graph(graph)
    for function in wide.functions:
        for node in function.node:
            _widen_node(node)
    return wide


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                yield from _graphs(body)


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        _widen_type(value.type)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: NodeProto) -> None:
    dtype_name = _DTYPE_ATTRIBUTES.get(node.op_type)
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
        if attribute.name == dtype_name and attribute.i in _NARROW:
            attribute.i = TensorProto.DOUBLE
    if node.op_type in ("Constant",) and node.attribute and node.attribute[0].name in ("value_float", "value_floats"):
        attribute = node.attribute[0]
        values = np.float64(attribute.f) if attribute.name == "value_float" else np.array(attribute.floats, np.float64)
        tensor = numpy_helper.from_array(np.asarray(values))
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _NARROW:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), name))


def _widen_type(type_: TypeProto) -> None:
    if type_.tensor_type.elem_type in _NARROW:
        type_.tensor_type.elem_type = TensorProto.DOUBLE


def _refuse_what_cannot_be_widened(proto: ModelProto) -> None:
    foreign = sorted(
        {
            f"{n.domain}::{n.op_type}"
            for g in _graphs(proto.graph)
            for n in g.node
            if n.domain not in ("", "ai.onnx", "ai.onnx.ml")
        }
    )
    known = {f"{f.domain}::{f.name}" for f in proto.functions}
    known |= {f"{kernel.op_domain}::{kernel.__name__}" for kernel in _KERNELS}
    if missing := [name for name in foreign if name not in known]:
        raise NotImplementedError(f"no float64 reference for {', '.join(missing)}")
