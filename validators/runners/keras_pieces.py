"""Pieces of Keras models: the layers between some intermediate values, which become inputs, and another value.

The operations between are called again on symbolic inputs, so that a piece is a Functional model of its own which has
the very layers, and weights, of the model it is cut from.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from isomorph.validators.localization.piece import WrittenPiece
from isomorph.validators.runner import LINEAR

__all__ = ["Cut", "cut"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece: `model` takes a dict by the names of its InputLayers, and gives the value that was wanted.

    inputs  name of a fed value -> name of its InputLayer
    size    number of calls of layers and operations
    """

    model: Any
    inputs: Mapping[str, str]
    size: int

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value that was wanted."""
        tensors = {}
        for fed, name in self.inputs.items():
            dtype = keras.backend.standardize_dtype(self.model.input[name].dtype)
            tensors[name] = keras.ops.convert_to_tensor(np.array(feeds[fed]), dtype=dtype)
        return np.array(keras.ops.convert_to_numpy(self.model(tensors, training=False)))

    def written(self) -> WrittenPiece:
        """The piece as a `.keras` file. Raises NotImplementedError if Keras would not load it in safe mode."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "piece.keras"
            try:
                self.model.save(path)
                keras.saving.load_model(path, compile=False, safe_mode=True)
            except (TypeError, ValueError, NotImplementedError) as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise NotImplementedError(f"Keras cannot save this piece and load it again: {lines[0]}") from error
            return WrittenPiece(path.read_bytes(), self.inputs, self.size)


def cut(values: Mapping[str, Any], inputs: Mapping[str, Any], feeds: Mapping[str, np.ndarray], wanted: str) -> Cut:
    """The piece from `feeds` to `wanted`.

    values  symbolic tensors of the model's graph by their names as taps; `name/linear` is what the layer gives before
            its own activation
    inputs  the same of the model's inputs

    A mask that Keras hands from layer to layer is an argument of each layer that reads it: the piece computes it.

    Raises NotImplementedError where no piece can be cut: a value that is not known, or follows from inputs that are not
    fed; a layer that keeps a state from run to run.
    """
    known = {**values, **inputs}
    if _base(wanted) not in known:
        raise NotImplementedError(f"the value `{wanted}` is not known")
    return _Cutter(known, {name: array for name, array in feeds.items() if _base(name) in known}, wanted).cut()


class _Cutter:
    """The state of one cut: what stands in the piece for the symbolic tensors of the model."""

    def __init__(self, values: Mapping[str, Any], feeds: Mapping[str, np.ndarray], wanted: str) -> None:
        self._feeds = feeds
        self._wanted = wanted
        self._end = values[_base(wanted)]
        self._fed = {id(values[name]): name for name in feeds if not name.endswith(LINEAR)}
        self._activated = {id(_node(values[_base(name)])): name for name in feeds if name.endswith(LINEAR)}
        self._tensors: dict[int, Any] = {}
        self._inputs: dict[str, Any] = {}
        self._taken: set[str] = set()

    def cut(self) -> Cut:
        last = _node(self._end)
        if self._wanted.endswith(LINEAR):
            self._activated.pop(id(last), None)
        nodes = list(_before(last, self._reads))
        self._taken = {node.operation.name for node in nodes}
        for node in nodes:
            self._call(node, plain=node is last and self._wanted.endswith(LINEAR))
        if not self._inputs:
            raise NotImplementedError(f"`{self._wanted}` depends on no value")
        try:
            model = keras.Model({tensor.name: tensor for tensor in self._inputs.values()}, self._tensors[id(self._end)])
        except ValueError as error:
            raise NotImplementedError(f"the layers between are no model: {error}") from error
        return Cut(model, {fed: tensor.name for fed, tensor in self._inputs.items()}, len(nodes))

    def _reads(self, node: Any) -> list[Any]:
        """The tensors that the piece must make for this node."""
        if id(node) in self._activated:
            return []
        return [tensor for tensor in node.input_tensors if id(tensor) not in self._fed]

    def _call(self, node: Any, *, plain: bool) -> None:
        """Call the operation of a node of the model again, on the tensors of the piece; `plain`: without its own
        activation."""
        operation = node.operation
        if node.is_input:
            raise NotImplementedError(f"it follows from the input `{operation.name}`, which is not fed")
        if getattr(operation, "stateful", False):
            raise NotImplementedError(f"the layer `{operation.name}` keeps a state from run to run")
        if id(node) in self._activated:
            activation = keras.layers.Activation(operation.activation, dtype=operation.dtype_policy)
            made = activation(self._input(self._activated[id(node)], node.outputs[0]))
        else:
            for tensor in node.input_tensors:
                if id(tensor) in self._fed:
                    self._tensors[id(tensor)] = self._input(self._fed[id(tensor)], tensor)
            args, kwargs = node.arguments.fill_in(self._tensors)
            made = (_without_activation(operation, args, kwargs) if plain else operation)(*args, **kwargs)
        for old, new in zip(node.outputs, keras.tree.flatten(made), strict=True):
            self._tensors[id(old)] = new

    def _input(self, fed: str, tensor: Any) -> Any:
        """The input of the piece in the place of a value."""
        if fed in self._inputs:
            return self._inputs[fed]
        array = self._feeds[fed]
        sizes = zip(tensor.shape, array.shape, strict=False)
        if len(tensor.shape) != array.ndim or any(due not in (None, have) for due, have in sizes):
            raise NotImplementedError(f"`{fed}` has the shape {list(tensor.shape)}, not {list(array.shape)}")
        name = re.sub(r"\W+", "_", fed)
        while name in self._taken:
            name += "_given"
        self._taken.add(name)
        self._inputs[fed] = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        return self._inputs[fed]


def _before(last: Any, reads: Callable[[Any], list[Any]]) -> Iterator[Any]:
    """The nodes that a node needs and itself, each after what it reads."""
    done: set[int] = set()
    stack = [(last, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            yield node
        else:
            stack.append((node, True))
            stack += [(_node(tensor), False) for tensor in reads(node)]


def _without_activation(layer: Any, args: Any, kwargs: Any) -> Any:
    """A layer with the same weights and no activation of its own."""
    plain = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    plain(*args, **kwargs)
    plain.set_weights(layer.get_weights())
    return plain


def _base(name: str) -> str:
    return name.removesuffix(LINEAR)


def _node(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]
