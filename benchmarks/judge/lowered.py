"""The same model in less precision, by other hands: targets of the declared classes, from isomorph's clean conversion.

    fp16   onnxruntime's float16 converter, with and without float32 inputs and outputs; weights alone; the PyTorch
           module by `.half()`
    bf16   weights alone; the PyTorch module by `.bfloat16()`
    tf32   operands of products rounded to 11 significant bits while PyTorch runs
    int8   weights alone (symmetric, by tensor and by channel); onnxruntime's dynamic quantization and its static one,
           calibrated on the families normal, unit and signed

Each raises or gives None where a model has no such form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import ModelProto, helper, numpy_helper
from onnxruntime import quantization
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from isomorph.validators.inputs import WIDE, plan
from isomorph.validators.runner import NATIVE, Arrays, Result, Runner, Signature
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.runners.torch_precision import PRODUCTS
from judge.models import KINDS, NETWORKS, Pair
from judge.trials import open_program
from judge.variants import Target

__all__ = ["LOWERED", "lower"]

CALIBRATION_SEED = 77
_TYPES: dict[str, tuple[Any, torch.dtype]] = {
    "fp16": (np.float16, torch.float16),
    "bf16": (ml_dtypes.bfloat16, torch.bfloat16),
}


@dataclass(frozen=True, slots=True)
class Lowered:
    """One way to make a target of a class: from a pair and a file to write."""

    precision: str
    name: str
    open: Callable[[Pair, Path], Target | None]


def lower(proto: ModelProto, precision: str, path: Path) -> None:
    """Write a model, maybe a faulty one, in a class: as a file that onnxruntime runs."""
    if precision == "fp16":
        onnx.save(_half(proto, keep=True), str(path))
    elif precision == "int8":
        plain = path.with_suffix(".plain.onnx")
        onnx.save(proto, str(plain))
        quantization.quantize_dynamic(str(plain), str(path), weight_type=quantization.QuantType.QInt8)
    else:
        for tensor in proto.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and (precision == "bf16" or len(tensor.dims) > 1):
                values = numpy_helper.to_array(tensor)
                short = values.astype(ml_dtypes.bfloat16).astype(np.float32) if precision == "bf16" else _tf32(values)
                tensor.CopyFrom(numpy_helper.from_array(short, tensor.name))
        onnx.save(proto, str(path))


def _half(proto: ModelProto, *, keep: bool) -> ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made: ModelProto = convert_float_to_float16(proto, keep_io_types=keep)
    return made


def _tf32(values: np.ndarray) -> np.ndarray:
    """Rounded to 11 significant bits, ties to even."""
    bits = np.ascontiguousarray(values).view(np.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).astype(np.int32).view(np.float32)


def _written(change: Callable[[ModelProto], ModelProto | None]) -> Callable[[Pair, Path], Target | None]:
    def open_(pair: Pair, path: Path) -> Target | None:
        made = change(onnx.load(str(pair.target)))
        if made is None:
            return None
        onnx.save(made, str(path))
        return Target(OnnxRunner(path, role="target"), path)

    return open_


def _rounded(dtype: Any) -> Callable[[ModelProto], ModelProto]:
    def change(proto: ModelProto) -> ModelProto:
        for tensor in proto.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).astype(dtype).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return proto

    return change


def _weights(*, channels: bool) -> Callable[[ModelProto], ModelProto | None]:
    """Weights of products and tables in 8 bits, symmetric, each behind a DequantizeLinear."""

    def change(proto: ModelProto) -> ModelProto | None:
        used = {name for node in proto.graph.node for name in _weights_of(node)}
        front = []
        for tensor in list(proto.graph.initializer):
            if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2 or tensor.name not in used:
                continue
            values, name = numpy_helper.to_array(tensor), tensor.name
            axis = 0 if values.ndim > 2 else values.ndim - 1
            rest = tuple(each for each in range(values.ndim) if each != axis)
            scale = np.maximum(np.abs(values).max(rest if channels else None) / 127, 1e-12).astype(np.float32)
            wide = scale.reshape([-1 if each == axis else 1 for each in range(values.ndim)]) if channels else scale
            whole = np.clip(np.round(values / wide), -127, 127).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(whole, f"{name}.q"))
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{name}.s"))
            options = {"axis": axis} if channels else {}
            front.append(
                helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s"], [name], name=f"{name}.d", **options)
            )
        nodes = [*front, *proto.graph.node]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        return proto if front else None

    return change


def _weights_of(node: onnx.NodeProto) -> Sequence[str]:
    if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return list(node.input[1:2])
    return list(node.input[:1]) if node.op_type == "Gather" else ()


def _dynamic(*, channels: bool) -> Callable[[Pair, Path], Target]:
    def open_(pair: Pair, path: Path) -> Target:
        kind = quantization.QuantType.QInt8
        quantization.quantize_dynamic(str(pair.target), str(path), per_channel=channels, weight_type=kind)
        return Target(OnnxRunner(path, role="target"), path)

    return open_


def _static(form: Any) -> Callable[[Pair, Path], Target]:
    def open_(pair: Pair, path: Path) -> Target:
        signature = OnnxRunner(pair.target, role="target").signature()
        cases = [case for case in plan(signature, CALIBRATION_SEED) if case.family not in (*WIDE, "sparse", "small")]
        feeds: Iterator[dict[str, np.ndarray]] = iter([dict(case.inputs) for case in cases])

        class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> Any:
                return next(feeds, None)

        quantization.quantize_static(str(pair.target), str(path), Samples(), per_channel=True, quant_format=form)
        return Target(OnnxRunner(path, role="target"), path)

    return open_


def _module(precision: str) -> Callable[[Pair, Path], Target | None]:
    """The PyTorch module itself in another type, exported again."""

    def open_(pair: Pair, path: Path) -> Target | None:
        from isomorph.validators.runners.torch_program import ProgramRunner

        if pair.name not in NETWORKS:
            return None
        dtype = _TYPES[precision][1]

        def low(values: Any) -> Any:
            floats = lambda v: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v  # noqa: E731
            return tree_map(floats, values)

        torch.manual_seed(sorted(KINDS).index(pair.name))
        made = NETWORKS[pair.name][1]()
        made.module.load_state_dict(torch.export.load(str(pair.source.path)).state_dict, strict=False)
        module = made.module.eval().to(dtype)
        with torch.no_grad():
            program = torch.export.export(
                module, low(made.args), low(dict(made.kwargs)), dynamic_shapes=made.dynamic, strict=False
            )
        return Target(ProgramRunner(program))

    return open_


class _Tf32:
    """A program whose products round their operands to 11 significant bits, as TF32 does."""

    def __init__(self, path: Path) -> None:
        self._runner = open_program(path)

    def signature(self) -> Signature:
        return self._runner.signature()

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        with _Products():
            return self._runner.run(inputs, taps=taps, precision=precision)


class _Products(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.split("::")[-1] in PRODUCTS:
            args, kwargs = tree_map(_short, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _short(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dtype is not torch.float32:
        return value
    bits = value.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def _emulated(pair: Pair, path: Path) -> Target | None:
    runner: Runner = _Tf32(pair.source.path) if pair.source.format == "pt2" else None  # type: ignore[assignment]
    return Target(runner) if runner is not None else None


LOWERED = (
    Lowered("fp16", "onnxruntime's converter", _written(lambda proto: _half(proto, keep=True))),
    Lowered(
        "fp16", "onnxruntime's converter, inputs and outputs too", _written(lambda proto: _half(proto, keep=False))
    ),
    Lowered("fp16", "weights", _written(_rounded(np.float16))),
    Lowered("fp16", "PyTorch's .half()", _module("fp16")),
    Lowered("bf16", "weights", _written(_rounded(ml_dtypes.bfloat16))),
    Lowered("bf16", "PyTorch's .bfloat16()", _module("bf16")),
    Lowered("tf32", "PyTorch, emulated", _emulated),
    Lowered("int8", "weights, by tensor", _written(_weights(channels=False))),
    Lowered("int8", "weights, by channel", _written(_weights(channels=True))),
    Lowered("int8", "dynamic, by tensor", _dynamic(channels=False)),
    Lowered("int8", "dynamic, by channel", _dynamic(channels=True)),
    Lowered("int8", "static, QDQ", _static(quantization.QuantFormat.QDQ)),
    Lowered("int8", "static, QOperator", _static(quantization.QuantFormat.QOperator)),
)
