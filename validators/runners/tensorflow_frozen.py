"""A signature of a SavedModel as one graph: variables frozen to constants, calls of functions inlined, run in a session
as it stands. Any tensor of the graph can be asked for by its name, `operation:k`; without k it is the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow
from google.protobuf.message import EncodeError
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

__all__ = ["FrozenFunction"]


class FrozenFunction:
    """A signature in its own precision. Raises NotImplementedError where it has no such form."""

    def __init__(self, function: Any, names: Iterable[str]) -> None:
        try:
            frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
        except EncodeError as error:
            raise NotImplementedError(f"the frozen graph is too large for one message: {error}") from error
        if len(frozen.inputs) != len(function.structured_input_signature[1]):
            raise NotImplementedError("the graph reads a resource (a table, say) that cannot be frozen")
        feeds = {tensor.name.split(":")[0]: tensor.name for tensor in frozen.inputs}
        self._inputs = _by_argument(function, feeds)
        self._tensors = {tensor.name for each in frozen.graph.get_operations() for tensor in each.outputs}
        definition, self._moved = self.rewritten(frozen.graph.as_graph_def())
        outputs = dict(zip(sorted(function.structured_outputs), frozen.outputs, strict=True))
        self.outputs = {name: self._fetch(outputs[name].name) for name in names}
        self.graph = tensorflow.Graph()
        try:
            with self.graph.as_default():
                tensorflow.import_graph_def(definition, name="")
        except (ValueError, TypeError, tensorflow.errors.OpError, EncodeError) as error:
            raise NotImplementedError(f"the rewritten graph is refused: {error}") from error
        self.session = tensorflow.compat.v1.Session(graph=self.graph, config=_as_written())

    def rewritten(self, graph: Any) -> tuple[Any, Mapping[str, str]]:
        """The graph as it is to run, and each tensor -> the one to fetch in its stead."""
        return graph, {}

    def run(self, inputs: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """These outputs and tensors by name, or all outputs; floats are cast to the type of the graph. Left out is what
        the graph does not have, or is no array of numbers."""
        feeds = {}
        for name, key in self._inputs.items():
            tensor = self.graph.as_graph_element(key)
            feeds[tensor] = np.asarray(inputs[name]).astype(tensor.dtype.as_numpy_dtype)
        asked = self.outputs if names is None else names
        fetches = {name: tensor for name in asked if (tensor := self._tensor(name)) is not None}
        values = self.session.run(fetches, feeds)
        return {name: np.asarray(value) for name, value in values.items()}

    def _tensor(self, name: str) -> Any:
        if name in self.outputs:
            return self.graph.as_graph_element(self.outputs[name])
        full = name if ":" in name else f"{name}:0"
        if full not in self._tensors:
            return None
        tensor = self.graph.as_graph_element(self._fetch(full))
        numbers = tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool
        return tensor if numbers else None

    def _fetch(self, tensor: str) -> str:
        name = self._moved.get(tensor.removesuffix(":0"), tensor)
        return name if ":" in name else f"{name}:0"


def _as_written() -> Any:
    """Settings of a session that runs a graph as it stands: on one thread of the processor, nothing rewritten (which
    for thousands of operations takes longer than to run them)."""
    config = tensorflow.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tensorflow.compat.v1.OptimizerOptions.L0
    return config


def _by_argument(function: Any, feeds: Mapping[str, str]) -> dict[str, str]:
    """Argument name -> tensor of the frozen graph; the placeholders keep their names, frozen or not."""
    captured = {id(tensor) for tensor in function.graph.internal_captures}
    plain = [tensor.op.name for tensor in function.graph.inputs if id(tensor) not in captured]
    named = {}
    for key, spec in function.structured_input_signature[1].items():
        found = [name for name in plain if name in (spec.name, key)]
        if len(found) != 1 or found[0] not in feeds:
            raise NotImplementedError(f"the placeholder of the input `{key}` is not in the frozen graph")
        named[key] = feeds[found[0]]
    return named
