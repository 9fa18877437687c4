"""What an export rule sees: the Keras tensors of a node's operands, and what makes layers of the node."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from isomorph.converters.keras.serialize import (
    Call,
    Entry,
    Held,
    Tensor,
    dtype_policy,
    keras_shape,
    operation_module,
    snake_case,
)
from isomorph.errors import GraphError, Unsupported, UnsupportedError
from isomorph.ir import ArrayTensor, Dim, DType, Graph, Node, Op, Parameter, TensorSource, TensorType, Value, ops

__all__ = ["Emitter"]

_MOST_INLINE = 4096
"""The most elements of a literal that is written into the configuration; a larger one is a weight."""
_MOST_ROWS = 4096
"""The most rows of the table that holds a parameter; a larger one is held as a single row."""

Args: TypeAlias = Sequence[Any]


class Emitter:
    """Builds the layers and operations of one Functional model, node by node.

    A parameter that no layer owns is the table of an Embedding that is looked up at constant places: the one layer of
    Keras that holds a free tensor. See docs/decisions/0006-parameters-without-a-layer.md.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.entries: list[Entry] = []
        self.notes: dict[str, dict[str, Any]] = {}
        self.owners: dict[Parameter, Entry] = {}
        self.untied: dict[str, list[str]] = {}
        self.reversible = _reversible(graph)
        self._tensors: dict[Value, Tensor] = {}
        self._shared: dict[Any, Entry] = {}
        self._rows: dict[Any, Tensor] = {}
        self._names: set[str] = set()
        self._crowds = Counter(_module(node) for node in graph.nodes)
        self._containers = {item.path for node in graph.nodes for item in node.scope.entries[:-1]}
        self._weighted = Counter(_module(node) for node in graph.nodes if _has_weights(node))

    def input(self, value: Value) -> Tensor:
        """The next input of the model."""
        config = {"batch_shape": keras_shape(value.shape), "dtype": value.dtype.value, "sparse": False, "ragged": False}
        entry = Entry(self._unique(_plain(value.name)), "InputLayer", "keras.layers", config, calls=[Call((), {})])
        self.entries.append(entry)
        self._tensors[value] = Tensor(entry, 0, 0, value.type)
        return self._tensors[value]

    def bind(self, value: Value, tensor: Tensor) -> None:
        """Let a Keras tensor stand for a value of the graph."""
        self._tensors[value] = tensor

    def layer(
        self,
        node: Node,
        cls: str,
        config: Mapping[str, Any],
        *args: Any,
        weights: Sequence[Held | None] = (),
        suffix: str = "",
        type: TensorType | None = None,
    ) -> Tensor:
        """Call a layer. One that was made before for the same op, configuration and (tied) weights is called again.

        args     Tensors, or lists of them
        weights  in the order in which Keras saves them (trainable ones first), absent ones as None
        suffix   what this layer adds to the node's name, where a node takes several
        type     of the result, if it is not that of the node's output
        """
        types = [type or node.outputs[0].type]
        return self.layers(node, cls, config, *args, weights=weights, suffix=suffix, types=types)[0]

    def layers(
        self,
        node: Node,
        cls: str,
        config: Mapping[str, Any],
        *args: Any,
        types: Sequence[TensorType],
        weights: Sequence[Held | None] = (),
        suffix: str = "",
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        """The same for a layer that returns several tensors, of these types, or takes named arguments."""
        held = tuple(weight for weight in weights if weight is not None)
        computed = held[0].data.dtype if held else types[0].dtype
        settings: dict[str, Any] = {"trainable": _trainable(held), **config}
        if computed.is_float:
            settings["dtype"] = dtype_policy(computed)
        meant = node.op if cls != "ReversibleEmbedding" else None  # one layer looks up and multiplies
        key = (meant, cls, repr(sorted(config.items())), tuple(weight.parameter for weight in held))
        entry = self._shared.get(key) if held else None
        if entry is None:
            entry = Entry(self._name(node, suffix), cls, "keras.layers", settings, held)
            self._add(entry, node)
            self._own(entry)
            self._shared[key] = entry
        else:
            self.notes[entry.name].setdefault("calls", []).append(_provenance(node))
        return self._call(entry, args, kwargs, types)

    def operation(
        self,
        node: Node,
        cls: str,
        config: Mapping[str, Any],
        *args: Any,
        suffix: str = "",
        types: Sequence[TensorType] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Call a `keras.ops` operation that returns one tensor, named as its class."""
        return self.operations(node, cls, config, *args, suffix=suffix, types=types, **kwargs)[0]

    def operations(
        self,
        node: Node,
        cls: str,
        config: Mapping[str, Any],
        *args: Any,
        suffix: str = "",
        types: Sequence[TensorType] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        """The same for an operation that returns several tensors."""
        entry = Entry(self._name(node, suffix), cls, operation_module(cls), config)
        self._add(entry, node)
        kinds = types if types is not None else [value.type for value in node.outputs]
        return self._call(entry, args, kwargs, kinds)

    def arguments(self, node: Node) -> list[Any]:
        """The operands of a node as arguments of an operation: literals as arrays, if a tensor is among the others."""
        operands = list(node.operands())
        given = [self.argument(value) for value in operands]
        if given and not any(isinstance(item, Tensor) for item in given):
            given[0] = self.tensor(operands[0])
        typed = {item.type.dtype for item in given if isinstance(item, Tensor)}
        for position, (value, item) in enumerate(zip(operands, given, strict=True)):
            if not isinstance(item, Tensor) and item.ndim == 0 and value.dtype not in typed and node.outputs[0].rank:
                given[position] = item.reshape(1)  # keeps its type, which a plain number does not
        return given

    def argument(self, value: Value | None) -> Any:
        """An operand of an operation: a Tensor, or a literal as an array."""
        if value is None:
            raise GraphError("an operand is absent")
        literal = self.literal(value)
        return self.tensor(value) if literal is None else literal

    def literal(self, value: Value | None) -> npt.NDArray[Any] | None:
        """The elements of a small literal, None for everything else."""
        if value is None or value.parameter is None or value in self._tensors:
            return None
        parameter = value.parameter
        small = parameter.data.size <= _MOST_INLINE
        inexact = not parameter.data.dtype.is_float
        return np.asarray(parameter.data.numpy()) if small and (inexact or parameter.role == "constant") else None

    def tensor(self, value: Value | None) -> Tensor:
        """The Keras tensor of a value; a parameter is held by a layer of its own."""
        if value is None:
            raise GraphError("an operand is absent")
        if value not in self._tensors:
            if value.parameter is None:
                raise GraphError(f"%{value.name} is read before it is written")
            self._tensors[value] = self._holder(value.parameter)
        return self._tensors[value]

    def held(self, value: Value | None, data: TensorSource | None = None) -> Held | None:
        """A parameter as a weight of a layer, seen through `data` if it is given."""
        if value is None:
            return None
        if value.parameter is None:
            raise GraphError(f"%{value.name} is no parameter")
        return Held(value.parameter, value.parameter.data if data is None else data)

    def outputs(self) -> list[Tensor]:
        """The tensors of the graph's outputs, each from a layer of its own, so that their names differ."""
        made: list[Tensor] = []
        for name, value in self.graph.outputs.items():
            tensor = self.tensor(value)
            if tensor.entry.cls == "InputLayer" or any(tensor.entry is other.entry for other in made):
                entry = Entry(
                    self._unique(_plain(name)), "Identity", "keras.layers", {"dtype": dtype_policy(value.dtype)}
                )
                self.entries.append(entry)
                tensor = self._call(entry, (tensor,), {}, [value.type])[0]
            made.append(tensor)
        return made

    def generated(self, node: Node, array: npt.NDArray[Any]) -> Tensor:
        """A literal that was too large to be folded."""
        return self._holder(Parameter(node.name, ArrayTensor(array), trainable=False, role="constant"))

    def batch_zeros(self, node: Node, batch: Dim) -> Tensor:
        """A zero (int32) for each sample of a batch, whatever the samples are."""
        like = next((value for value in self.graph.inputs if value.shape[:1] == (batch,)), None)
        if like is None:
            raise _unsupported(node.op.name, f"no input has the batch {batch}", node.describe())
        x = self.tensor(like)
        vector = TensorType(like.dtype, like.shape[:1])
        places = (slice(None), *(0,) * (like.rank - 1))
        column = x if like.rank == 1 else self.operation(node, "GetItem", {}, x, places, suffix="batch", types=[vector])
        return self.operation(
            node,
            "ZerosLike",
            {"dtype": "int32"},
            column,
            suffix="zeros",
            types=[TensorType(DType.INT32, like.shape[:1])],
        )

    def _holder(self, parameter: Parameter) -> Tensor:
        """An Embedding whose table is the parameter, looked up at all its rows."""
        data = parameter.data
        if not data.dtype.is_float:
            return self._whole_numbers(parameter)
        *leading, width = data.shape or (1,)
        rows = int(np.prod(leading, dtype=np.int64))
        flat = not data.shape or rows > _MOST_ROWS or rows == 0
        table = data.reshaped((1, data.size) if flat else (rows, width))
        places = self._places((1,) if flat else tuple(leading))
        kind = TensorType(data.dtype, (1, data.size) if flat else data.shape)
        config = {"input_dim": table.shape[0], "output_dim": table.shape[1]}
        name = self._unique(_plain(parameter.name))
        settings = {"trainable": parameter.trainable, "dtype": dtype_policy(data.dtype), **config}
        entry = Entry(name, "Embedding", "keras.layers", settings, (Held(parameter, table),))
        self.entries.append(entry)
        self.notes[name] = {"parameters": [parameter.name], "holds": True}
        self._own(entry)
        made = self._call(entry, (places,), {}, [kind])[0]
        if flat:
            shaped = Entry(
                self._unique(f"{name}_shaped"), "Reshape", operation_module("Reshape"), {"newshape": list(data.shape)}
            )
            self.entries.append(shaped)
            made = self._call(shaped, (made,), {}, [TensorType(data.dtype, data.shape)])[0]
        return made

    def _places(self, shape: tuple[int, ...]) -> Tensor:
        """0, 1, 2, ... under a shape, as a tensor that depends on the first input in form only."""
        if () not in self._rows:
            self._rows[()] = self._zero()
        if shape not in self._rows:
            count = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
            kind = TensorType(DType.INT32, shape)
            entry = Entry(self._unique("rows"), "Add", operation_module("Add"), {})
            self.entries.append(entry)
            self._rows[shape] = self._call(entry, (self._rows[()], count), {}, [kind])[0]
        return self._rows[shape]

    def _whole_numbers(self, parameter: Parameter) -> Tensor:
        """Integers or bools, which no layer holds: a literal beside a zero of its type."""
        data = parameter.data
        if data.size > _MOST_INLINE or not (data.dtype.is_integer or data.dtype is DType.BOOL):
            raise _unsupported("constant", f"{data.dtype} data of {data.size} elements, as a weight", parameter.name)
        cls = "LogicalOr" if data.dtype is DType.BOOL else "Add"
        entry = Entry(self._unique(_plain(parameter.name)), cls, operation_module(cls), {})
        self.entries.append(entry)
        kind = TensorType(data.dtype, data.shape)
        return self._call(entry, (self._zero(data.dtype), np.asarray(data.numpy())), {}, [kind])[0]

    def _zero(self, dtype: DType = DType.INT32) -> Tensor:
        """The scalar 0."""
        if not self.graph.inputs:
            raise _unsupported("constant", "a model without inputs", self.graph.name)
        value = self.graph.inputs[0]
        made = self.tensor(value)
        if value.rank:
            entry = Entry(self._unique("first_element"), "GetItem", operation_module("GetItem"), {})
            self.entries.append(entry)
            made = self._call(entry, (made, (0,) * value.rank), {}, [TensorType(value.dtype, ())])[0]
        entry = Entry(self._unique("zero"), "ZerosLike", operation_module("ZerosLike"), {"dtype": dtype.value})
        self.entries.append(entry)
        return self._call(entry, (made,), {}, [TensorType(dtype, ())])[0]

    def _call(
        self, entry: Entry, args: Args, kwargs: Mapping[str, Any], types: Sequence[TensorType]
    ) -> tuple[Tensor, ...]:
        entry.calls.append(Call(tuple(args), dict(kwargs)))
        return tuple(Tensor(entry, len(entry.calls) - 1, index, kind) for index, kind in enumerate(types))

    def _own(self, entry: Entry) -> None:
        """Record who holds a parameter; a second holder has a copy, which is noted."""
        for weight in entry.weights:
            first = self.owners.setdefault(weight.parameter, entry)
            if first is not entry:
                self.untied.setdefault(weight.parameter.name, [first.name]).append(entry.name)

    def _add(self, entry: Entry, node: Node) -> None:
        self.entries.append(entry)
        note = _provenance(node)
        if entry.weights:
            note["parameters"] = [weight.parameter.name for weight in entry.weights]
        frozen = [weight.parameter.name for weight in entry.weights if _is_frozen(weight.parameter)]
        if frozen and entry.config["trainable"]:
            note["frozen"] = frozen  # Keras has one flag for a whole layer
        self.notes[entry.name] = note

    def _name(self, node: Node, suffix: str) -> str:
        """The module's path for its own layer, the path and the op for what stands beside others in a module."""
        module = _module(node)
        if not module[0]:
            base = _plain(re.split(r"[./]", node.name)[-1] or node.op.name)
        elif self._stands_for(node, module):
            base = _plain(module[0])
        else:
            base = f"{_plain(module[0])}_{snake_case(node.op.name)}"
        return self._unique(f"{base}_{suffix}" if suffix else base)

    def _stands_for(self, node: Node, module: tuple[str, int]) -> bool:
        """Whether a node is what its module is about: the only one, or the only one with weights."""
        if module[0] in self._containers:
            return False
        return self._crowds[module] == 1 or (_has_weights(node) and self._weighted[module] == 1)

    def _unique(self, name: str) -> str:
        candidate, count = name, 0
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate


_LAYER_OPS: tuple[type[Op], ...] = (
    ops.Conv, ops.ConvTranspose, ops.SeparableConv, ops.Linear, ops.Gemm, ops.Embedding, ops.BatchNormalization,
    ops.LayerNormalization, ops.GroupNormalization, ops.InstanceNormalization, ops.RMSNormalization, ops.PRelu,
    ops.RNN, ops.GRU, ops.LSTM,
)  # fmt: skip


def _unsupported(op: str, reason: str, where: str) -> UnsupportedError:
    return UnsupportedError("write this model to keras", [Unsupported(op, reason, where)])


def _has_weights(node: Node) -> bool:
    return isinstance(node.op, _LAYER_OPS) and any(value.is_parameter for value in node.operands())


def _provenance(node: Node) -> dict[str, Any]:
    """Scope and origin of a node, for the notes; of a layer's later calls they stand in the list "calls"."""
    origin = node.origin
    return {
        "scope": [[item.path, item.cls, item.call] for item in node.scope.entries],
        "origin": {
            "framework": origin.framework,
            "op": origin.op,
            "name": origin.name,
            "file": origin.file,
            "line": origin.line,
            "code": origin.code,
        },
    }


def _module(node: Node) -> tuple[str, int]:
    """The innermost module of a node and which call of it this is."""
    return (node.scope.path, node.scope.entries[-1].call) if node.scope.entries else ("", 0)


def _plain(name: str) -> str:
    """A name that Keras and its backends take: letters, digits and underscores, a letter or digit first."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return plain or "layer"


def _is_frozen(parameter: Parameter) -> bool:
    return parameter.role == "weight" and not parameter.trainable


def _reversible(graph: Graph) -> set[Parameter]:
    """Tables that a dense layer reads as well, as the matrix from their width back to their rows."""
    tables, matrices = set(), set()
    for node in graph.nodes:
        value = node.inputs[1] if len(node.inputs) > 1 else None
        if value is None or value.parameter is None:
            continue
        if isinstance(node.op, ops.Embedding):
            tables.add(value.parameter)
        elif isinstance(node.op, ops.Linear) or (isinstance(node.op, ops.Gemm) and node.op.trans_b):
            matrices.add(value.parameter)
    return tables & matrices


def _trainable(held: Sequence[Held]) -> bool:
    """Whether a layer is trainable: unless all of its weights proper are frozen."""
    flags = [weight.parameter.trainable for weight in held if weight.parameter.role == "weight"]
    return any(flags) if flags else True
