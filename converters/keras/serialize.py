"""The JSON of a Keras 3 Functional model, as `keras.saving` writes and reads it.

See keras/src/saving/serialization_lib.py (`serialize_keras_object`) for the objects, and keras/src/models/functional.py
(`serialize_node`, `functional_from_config`) for the graph: a list of layers and operations, each with its calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from isomorph.ir import DType, Parameter, Shape, TensorSource, TensorType

__all__ = [
    "Call", "Entry", "Held", "Tensor", "dtype_policy", "keras_order", "keras_shape", "model_json",
    "operation_module", "snake_case",
]  # fmt: skip

Json: TypeAlias = Any

_OPERATION_MODULES = {
    "core": ("Cast",),
    "nn": ("Celu", "Gelu", "HardShrink", "LeakyRelu", "LogSoftmax", "OneHot", "Relu", "Softmax", "SoftShrink"),
    "math": ("Erf", "Logsumexp", "TopK"),
    "image": ("Resize",),
}
_MODULE_OF = {name: module for module, names in _OPERATION_MODULES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A KerasTensor: output `index` of call number `call` of a layer or operation."""

    entry: Entry
    call: int
    index: int
    type: TensorType


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its arguments (Tensors, arrays, slices, plain values, nested) and the types of what it returns."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """A weight of a layer: the parameter, the view of its elements that Keras stores, and the sublayer that has it."""

    parameter: Parameter
    data: TensorSource
    owner: str = ""


@dataclass(eq=False, slots=True)
class Entry:
    """A layer (`module` keras.layers) or an operation (keras.src.ops.*) of the model, with its calls and weights."""

    name: str
    cls: str
    module: str
    config: Mapping[str, Any]
    weights: tuple[Held, ...] = ()
    calls: list[Call] = field(default_factory=list)

    @property
    def is_layer(self) -> bool:
        return self.module == "keras.layers"


def operation_module(cls: str) -> str:
    """Where Keras defines an operation: operations are found by import path, layers by their public name."""
    return f"keras.src.ops.{_MODULE_OF.get(cls, 'numpy')}"


def keras_shape(shape: Shape) -> list[int | None]:
    """A shape as Keras states it: None where a size is symbolic."""
    return [dim if isinstance(dim, int) else None for dim in shape]


def class_object(module: str, cls: str, config: Mapping[str, Any], registered: str | None = None) -> Json:
    return {"module": module, "class_name": cls, "config": dict(config), "registered_name": registered}


def dtype_policy(dtype: DType) -> Json:
    """The policy of a layer whose variables and computation are of one type."""
    return class_object("keras", "DTypePolicy", {"name": dtype.value})


def argument(value: Any) -> Json:
    """An argument of a call, as `serialize_keras_object` writes it."""
    if isinstance(value, Tensor):
        history = [value.entry.name, value.call, value.index]
        config = {"shape": keras_shape(value.type.shape), "dtype": value.type.dtype.value, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, slice):
        config = {"start": value.start, "stop": value.stop, "step": value.step}
        return {"class_name": "__slice__", "config": config}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, (list, tuple)):
        return [argument(item) for item in value]
    return value


def _array(value: npt.NDArray[Any]) -> Json:
    """A literal; one element alone is a plain number, which takes the type of the tensor that it meets.

    Every float32 (and narrower) number is a double, and Python's JSON gives doubles back exactly.
    """
    listed = value.astype(np.float64).tolist() if DType.of(value.dtype).is_float else value.tolist()
    if value.ndim == 0:
        return listed
    return {"class_name": "__numpy__", "config": {"value": listed, "dtype": DType.of(value.dtype).value}}


def entry_json(entry: Entry) -> Json:
    """One element of the list "layers"."""
    config = {"name": entry.name, **entry.config}
    data = class_object(entry.module, entry.cls, config, None if entry.is_layer else entry.cls)
    calls = [
        {"args": [argument(item) for item in call.args], "kwargs": _arguments(call.kwargs)} for call in entry.calls
    ]
    return {**data, "name": entry.name, "inbound_nodes": calls if entry.cls != "InputLayer" else []}


def _arguments(values: Mapping[str, Any]) -> Json:
    return {key: argument(value) for key, value in values.items()}


def model_json(name: str, entries: list[Entry], inputs: list[Tensor], outputs: list[Tensor]) -> Json:
    """config.json. A single input or output stands alone, several are a list, as in `keras.Model(inputs, outputs)`."""
    layers = [entry_json(entry) for entry in entries]
    config = {
        "name": name,
        "trainable": True,
        "layers": layers,
        "input_layers": _histories(inputs),
        "output_layers": _histories(outputs),
    }
    return class_object("keras.src.models.functional", "Functional", config, "Functional")


def _histories(tensors: list[Tensor]) -> Json:
    listed = [[tensor.entry.name, tensor.call, tensor.index] for tensor in tensors]
    return listed[0] if len(listed) == 1 else listed


def snake_case(name: str) -> str:
    """A class name as the paths in model.weights.h5 spell it (keras/src/utils/naming.py, `to_snake_case`)."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among nested arguments, in the order in which Keras flattens them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from tensors_in(value[key])


Step: TypeAlias = tuple[Entry, int]


def _parents(step: Step) -> list[Step]:
    entry, number = step
    call = entry.calls[number]
    return [(tensor.entry, tensor.call) for tensor in tensors_in([call.args, call.kwargs])]


def _walk(outputs: list[Tensor]) -> tuple[list[Step], dict[Entry, int]]:
    """Calls from inputs to outputs, and the place of each entry in the depth-first walk from the outputs."""
    ordered: list[Step] = []
    places: dict[Entry, int] = {}
    finished: set[Step] = set()
    for output in outputs:
        stack: list[tuple[Step, Iterator[Step]]] = []
        follow: Step | None = (output.entry, output.call)
        while follow is not None or stack:
            if follow is not None:
                step, follow = follow, None
                if step not in finished:
                    places.setdefault(step[0], len(places))
                    stack.append((step, iter(_parents(step))))
                continue
            step, parents = stack[-1]
            follow = next(parents, None)
            if follow is None:
                stack.pop()
                finished.add(step)
                ordered.append(step)
    return ordered, places


def keras_order(entries: list[Entry], outputs: list[Tensor]) -> list[Entry]:
    """The entries in the order that Keras gives them when it builds the graph: by depth, then by place in the walk.

    `layers` of a loaded model is in this order whatever the file says, and the weights file numbers layers by it.
    Mirrors keras/src/ops/function.py, `map_graph`. What no output needs is left out, but for inputs.
    """
    ordered, places = _walk(outputs)
    depths: dict[Step, int] = {}
    entry_depths: dict[Entry, int] = {}
    for step in reversed(ordered):
        depth = max(depths.setdefault(step, 0), entry_depths.get(step[0], 0))
        entry_depths[step[0]] = depths[step] = depth
        for parent in _parents(step):
            depths[parent] = max(depth + 1, depths.get(parent, 0))
    for entry in entries:
        if entry.cls == "InputLayer" and entry not in entry_depths:
            entry_depths[entry], places[entry] = 0, -1
    return sorted(entry_depths, key=lambda entry: (-entry_depths[entry], places[entry]))
