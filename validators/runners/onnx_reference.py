"""ONNX models by `onnx.reference`, the specification's own evaluator: slow, on the CPU, one NumPy call an operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from isomorph.converters.onnx.order import put_in_order
from isomorph.errors import RunnerError
from isomorph.ir import DType
from isomorph.validators.localization.onnx_part import extract
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import NATIVE, Result, Signature, TensorSpec
from isomorph.validators.runners.onnx_double import DoubleModel
from isomorph.validators.runners.onnx_tables import count, index_bounds, states

__all__ = ["ReferenceRunner", "open_model"]


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> ReferenceRunner:
    """The runner for a worker."""
    if device != "cpu":
        raise RunnerError(f"there is no device `{device}` for NumPy", runner="onnx.reference", advice="--device cpu")
    return ReferenceRunner(Path(model["path"]))


class ReferenceRunner:
    """The graph as it is written. Taps are names of values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._proto = onnx.load(str(path))
        put_in_order(self._proto.graph)
        self._evaluator = ReferenceEvaluator(self._proto)
        self._double: DoubleModel | None = None

    def signature(self) -> Signature:
        graph = onnx.shape_inference.infer_shapes(self._proto).graph
        constants = {tensor.name for tensor in graph.initializer} - states(self._proto)
        bounds = index_bounds(graph)
        dims: dict[str, tuple[int, int | None]] = {}
        inputs = [_spec(value, dims, bounds.get(value.name)) for value in graph.input if value.name not in constants]
        outputs = [_spec(value, {}, None) for value in graph.output]
        environment = {"runtime": f"onnx.reference {onnx.__version__}", "device": "cpu", "threads": 1}
        return Signature(tuple(inputs), tuple(outputs), dims, count(graph), environment)

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        names = [value.name for value in self._proto.graph.output]
        if precision == NATIVE:
            with np.errstate(all="ignore"):
                values = dict(self._evaluator.run(None, dict(inputs), intermediate=True))
        else:
            if self._double is None:
                self._double = DoubleModel(self._path)
            values = self._double.run(inputs, [*names, *taps], Noise.parse(precision))
        found = [tap for tap in taps if values.get(tap) is not None]
        return Result({name: np.asarray(values[name]) for name in names}, {t: np.asarray(values[t]) for t in found})

    def run_piece(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """See localization/piece.py."""
        try:
            piece = extract(self._proto, feeds, wanted)
        except KeyError as error:
            raise NotImplementedError(f"the value {error} is not known") from error
        names = {value.name for value in piece.graph.input}
        given = {name: array for name, array in feeds.items() if name in names}
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(piece).run(list(wanted), given)
        return {name: np.asarray(value) for name, value in zip(wanted, values, strict=True)}


def _spec(
    value: onnx.ValueInfoProto, dims: dict[str, tuple[int, int | None]], bounds: tuple[int, int] | None
) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        raise RunnerError(f"`{value.name}` is no tensor", runner="onnx.reference")
    dtype = DType.of(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    shape: list[int | str] = []
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(int(dim.dim_value))
        else:
            name = dim.dim_param or ("N" if axis == 0 else f"d{axis}")
            dims.setdefault(name, (1, None))
            shape.append(name)
    return TensorSpec(value.name, dtype.value, tuple(shape), bounds)
