"""ONNX models: native precision by onnxruntime on one CPU thread or another provider, float64 by `onnx.reference` on a
widened model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, TensorProto

from isomorph.converters.onnx.wire import read_model
from isomorph.errors import DTypeError, RunnerError
from isomorph.ir import DType
from isomorph.validators.guest.onnxruntime import PROVIDERS
from isomorph.validators.localization.onnx_part import extract
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import NATIVE, Result, Signature, TensorSpec
from isomorph.validators.runners.onnx_double import DoubleModel
from isomorph.validators.runners.onnx_tables import count, index_bounds, states

__all__ = ["OnnxRunner", "open_model"]


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> OnnxRunner:
    """The runner for a worker. What random operators without a seed draw is the same in each worker of this role."""
    onnxruntime.set_seed({"reference": 1, "target": 2}[role])
    return OnnxRunner(Path(model["path"]), role=role, device=device)


class OnnxRunner:
    """`role` "reference" runs the graph as written (optimizations off), "target" as users run it (all optimizations).

    The model is given to onnxruntime as a path, so that external data is found; a session with taps is made from a
    copy of the graph in which the tapped values are outputs. One more output can switch a fusion off.

    Dropout in training mode is run as the file says: onnxruntime 1.32 removes it as if it were in inference mode from
    opset 23 on, other runtimes do not.
    """

    def __init__(self, path: Path, *, role: str, device: str = "cpu") -> None:
        self._path = path
        self._device = device
        self._provider = _provider(device)
        self._proto = _without_weights(path)
        self._options = _options(role)
        self._kept = ["EliminateDropout"] if _trains(self._proto) else []
        self._session = self._open(str(path))
        self._double: DoubleModel | None = None
        self._whole: ModelProto | None = None
        self._role = role

    def _open(self, model: str | bytes) -> onnxruntime.InferenceSession:
        try:
            session = onnxruntime.InferenceSession(
                model, self._options, providers=self._provider, disabled_optimizers=self._kept
            )
        except _NotImplemented as error:
            raise _no_kernel(self._proto, str(error)) from error
        if session.get_providers()[0] != self._provider[0][0]:  # onnxruntime falls back to the CPU without an error
            raise _no_device(self._device, f"onnxruntime fell back to {session.get_providers()[0]}")
        return session

    def signature(self) -> Signature:
        bounds = index_bounds(self._proto.graph)
        dims: dict[str, tuple[int, int | None]] = {}
        inputs = [_spec(node, dims, bounds.get(node.name)) for node in self._session.get_inputs()]
        kept = states(self._proto)
        inputs += [
            _spec(node, dims, None) for node in self._session.get_overridable_initializers() if node.name in kept
        ]
        outputs = [_spec(node, {}, None) for node in self._session.get_outputs()]
        return Signature(tuple(inputs), tuple(outputs), dims, count(self._proto.graph), self._environment())

    def _environment(self) -> dict[str, Any]:
        level = "disabled" if self._role == "reference" else "all (the default)"
        level += "".join(f" but {name}" for name in self._kept if self._role != "reference")
        return {
            "runtime": f"onnxruntime {onnxruntime.__version__}",
            "device": self._device,
            "provider": self._provider[0][0],
            "provider_options": self._provider[0][1],
            "threads": 1,
            "deterministic": True,
            "graph_optimizations": level,
        }

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        names = [node.name for node in self._session.get_outputs()]
        if precision != NATIVE:
            if self._double is None:
                self._double = DoubleModel(self._path)
            values = self._double.run(inputs, [*names, *taps], Noise.parse(precision))
            found = [tap for tap in taps if tap in values]
        else:
            session = self._session
            found = [tap for tap in taps if tap in _produced(self._proto.graph)]
            if found:
                session = self._open(_with_outputs(self._path, found))
            wanted = [*names, *(tap for tap in found if tap not in names)]
            values = dict(zip(wanted, session.run(wanted, dict(inputs)), strict=True))
        for name in names:
            if not isinstance(values.get(name), np.ndarray):
                raise RunnerError(f"output `{name}` is not a tensor", runner="onnxruntime")
        return Result({name: values[name] for name in names}, {tap: np.asarray(values[tap]) for tap in found})

    def run_piece(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """See localization/forced.py. A piece is one op or a few: fusions over its border do not take place."""
        if self._whole is None:
            self._whole = onnx.load(str(self._path))
        try:
            piece = extract(self._whole, feeds, wanted)
        except KeyError as error:
            raise NotImplementedError(f"the value {error} is not known") from error
        names = {value.name for value in piece.graph.input}
        session = self._open(piece.SerializeToString())
        values = session.run(list(wanted), {name: array for name, array in feeds.items() if name in names})
        return {name: np.asarray(value) for name, value in zip(wanted, values, strict=True)}


def _provider(device: str) -> list[tuple[str, dict[str, str]]]:
    """onnxruntime's name and options for a device, as `InferenceSession` takes them. Raises RunnerError."""
    kind, _, number = device.partition(":")
    name = PROVIDERS.get(kind)
    if name is None:
        raise RunnerError(f"onnxruntime knows no device `{device}`", runner="onnxruntime", advice=_choice())
    if name not in onnxruntime.get_available_providers():
        raise _no_device(device, f"this onnxruntime {onnxruntime.__version__} has no {name}")
    options = {"device_id": number} if number else {}
    if kind == "cuda":
        options.update(use_tf32="0", cudnn_conv_algo_search="DEFAULT")
    return [(name, options)]


def _no_device(device: str, because: str) -> RunnerError:
    return RunnerError(f"there is no device `{device}` here", runner="onnxruntime", because=because, advice=_choice())


def _choice() -> str:
    available = onnxruntime.get_available_providers()
    return f"--device {' or '.join(kind for kind, name in PROVIDERS.items() if name in available)}"


def _without_weights(path: Path) -> ModelProto:
    """The model with the types and shapes of its weights, not their elements: onnxruntime has them."""
    proto, _ = read_model(path)
    for tensor in proto.graph.initializer:
        if tensor.name:
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    return proto


def _trains(proto: ModelProto) -> bool:
    """Whether a Dropout may be in training mode: it has the input that says so."""
    return any(node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] for node in proto.graph.node)


def _no_kernel(proto: ModelProto, message: str) -> RunnerError:
    """What onnxruntime lacks, in words: the operator and the element types of the node that it names."""
    found = _MISSING_KERNEL.search(message)
    if found is None:
        return RunnerError(f"it lacks something that the model needs: {message[:300]}", runner="onnxruntime")
    kinds = {item.name: item.type.tensor_type.elem_type for item in (*proto.graph.value_info, *proto.graph.input)}
    kinds.update((item.name, item.data_type) for item in proto.graph.initializer)
    nodes = [node for node in proto.graph.node if node.name == found["node"]]
    types = sorted({onnx.TensorProto.DataType.Name(kinds[x]).lower() for n in nodes for x in n.input if x in kinds})
    of = f" of {', '.join(types)}" if types else ""
    return RunnerError(
        f"its CPU provider has no kernel for {found['op']} (since opset {found['version']}){of}",
        runner="onnxruntime",
        because=f"node {found['node']}; the model may run elsewhere, and one in float32 can be judged here",
    )


_NotImplemented = onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented
_MISSING_KERNEL = re.compile(r"implementation for (?P<op>\w+)\((?P<version>\d+)\) node with name '(?P<node>[^']*)'")


def _options(role: str) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if role == "reference":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _spec(node: Any, dims: dict[str, tuple[int, int | None]], bounds: tuple[int, int] | None) -> TensorSpec:
    if not node.type.startswith("tensor("):
        raise DTypeError(f"`{node.name}` is {node.type}, and the judge feeds and compares tensors")
    dtype = DType.of(_ORT_TYPES.get(node.type, node.type))
    shape: list[int | str] = []
    for axis, size in enumerate(node.shape or ()):
        if isinstance(size, int) and size >= 0:
            shape.append(size)
        else:
            name = size if isinstance(size, str) and size else ("N" if axis == 0 else f"d{axis}")
            dims.setdefault(name, (1, None))
            shape.append(name)
    return TensorSpec(node.name, dtype.value, tuple(shape), bounds)


_ORT_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    **{
        f"tensor({name})": name
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string")
    },
}


def _produced(graph: GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.output if name}


def _with_outputs(path: Path, names: Sequence[str]) -> bytes:
    """The model with more outputs, external data loaded into it."""
    proto = onnx.load(str(path))
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return bytes(proto.SerializeToString())
