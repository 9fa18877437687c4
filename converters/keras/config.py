"""The configuration of a Keras model as a graph of layers and calls, the same for Keras 1, 2, tf.keras and 3.

A configuration is data: a class is a name that our own table of rules knows or does not know. Nothing is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from isomorph.converters.keras.legacy import modernize
from isomorph.errors import MalformedError, UnsafeError, Unsupported
from isomorph.ir import DType

__all__ = ["Call", "GraphConfig", "LayerConfig", "TensorRef", "flatten", "parse_layer", "parse_model", "refs_in"]

Json: TypeAlias = Any

_MODELS = {"Model", "Functional", "Sequential"}
_OWN_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "keras_core")
_CONSTANT = ["_CONSTANT_VALUE", -1]  # tf.keras: [*_CONSTANT, value, keyword arguments]
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Output `index` of call number `call` of a layer."""

    layer: str
    call: int
    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer; a tensor among the (nested) arguments is a TensorRef."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(eq=False, slots=True)
class LayerConfig:
    """A layer, an operation (`cls` "ops.Add", "tf.math.add"), or a nested model (`graph` is set).

    `refusal` says why it cannot be taken at all; `shared_id` marks two configurations of one layer object.
    """

    name: str
    cls: str
    config: Mapping[str, Any]
    calls: list[Call] = field(default_factory=list)
    graph: GraphConfig | None = None
    wrapped: LayerConfig | None = None
    shared_id: int | None = None
    refusal: Unsupported | None = None

    @property
    def is_operation(self) -> bool:
        return self.cls.startswith(("ops.", "tf."))

    @property
    def trainable(self) -> bool:
        return bool(self.config.get("trainable", True))


@dataclass(eq=False, slots=True)
class GraphConfig:
    """A model: layers in the order of the file, and the tensors that go in and come out (outputs may be nested)."""

    name: str
    sequential: bool
    layers: list[LayerConfig]
    inputs: list[TensorRef]
    outputs: Any
    trainable: bool = True


def parse_model(data: Json, *, major: int) -> GraphConfig:
    """The graph of a model's JSON object {"class_name": ..., "config": ...}, written by Keras `major`."""
    cls = _text(data, "class_name")
    if cls not in _MODELS:
        raise MalformedError(f"the outermost object is a {cls}, not a Functional or Sequential model")
    return _parse_graph(data, cls, major, 0)


def parse_layer(data: Json, *, major: int, depth: int = 0) -> LayerConfig:
    """One layer object of a configuration."""
    if depth > _DEEPEST:
        raise MalformedError(f"models are nested deeper than {_DEEPEST}")
    if not isinstance(data, Mapping):
        raise MalformedError(f"a layer is a JSON object, not {type(data).__name__}")
    cls, config = _text(data, "class_name"), data.get("config")
    if cls in _MODELS and isinstance(config, (Mapping, list)):
        graph = _parse_graph(data, cls, major, depth + 1)
        name = str(data.get("name") or graph.name)
        return LayerConfig(name, cls, {"trainable": graph.trainable}, graph=graph, shared_id=_shared_id(data))
    if not isinstance(config, Mapping):
        raise MalformedError(f"the configuration of a {cls} is not a JSON object")
    name = str(data.get("name") or config.get("name") or cls.lower())
    key = _key(cls, data, config)
    key, config = modernize(key, config, major)
    layer = LayerConfig(
        name,
        key,
        config,
        shared_id=_shared_id(data),
        refusal=_refusal(cls, data, name) or _quantized(cls, config, name) or _separate_gates(cls, name, major),
    )
    inner = config.get("layer")
    if isinstance(inner, Mapping) and "class_name" in inner:
        layer.wrapped = parse_layer(inner, major=major, depth=depth + 1)
    return layer


def _key(cls: str, data: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    module = str(data.get("module") or "")
    if module.startswith(("keras.ops", "keras.src.ops")):
        return f"ops.{cls}"
    if cls == "TFOpLambda":
        return f"tf.{config.get('function', '')}"
    if cls == "SlicingOpLambda":
        return "tf.__operators__.getitem"
    return cls


def _separate_gates(cls: str, name: str, major: int) -> Unsupported | None:
    if major < 2 and cls in ("GRU", "LSTM"):
        return Unsupported(cls, "a layer of Keras 1, which has weights of their own for each gate", name)
    return None


def _quantized(cls: str, config: Mapping[str, Any], name: str) -> Unsupported | None:
    """A policy of quantized weights, whose layers have other weights and another formula."""
    policy = config.get("dtype")
    if not isinstance(policy, Mapping) or not str(policy.get("class_name")).startswith("Quantized"):
        return None
    inner = policy.get("config")
    mode = inner.get("mode") if isinstance(inner, Mapping) else None
    return Unsupported(cls, f"quantized weights ({mode})", name)


def _refusal(cls: str, data: Mapping[str, Any], name: str) -> Unsupported | None:
    """Why an object that is none of Keras' own is not taken."""
    if cls == "Lambda":
        return Unsupported(cls, "holds Python code, which is never run", name)
    if cls == "TFSMLayer":
        return Unsupported(cls, "loads another model from a path of its own choice", name)
    if "module" not in data:
        return None
    module, registered = data["module"], data.get("registered_name")
    if not isinstance(module, str) or module.split(".")[0] not in {own.split(".")[0] for own in _OWN_MODULES}:
        return Unsupported(cls, f"a custom class ({registered or module})", name)
    if not any(module == own or module.startswith(f"{own}.") for own in _OWN_MODULES):
        return Unsupported(cls, f"a custom class ({registered or module})", name)
    return None


def _parse_graph(data: Mapping[str, Any], cls: str, major: int, depth: int) -> GraphConfig:
    if depth > _DEEPEST:
        raise MalformedError(f"models are nested deeper than {_DEEPEST}")
    config = data.get("config")
    listed = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
    if not isinstance(listed, list):
        raise MalformedError(f"a {cls} model has no list of layers")
    settings: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
    name = str(settings.get("name") or data.get("name") or cls.lower())
    layers = [parse_layer(entry, major=major, depth=depth + 1) for entry in listed]
    _check_names(layers, name)
    trainable = bool(settings.get("trainable", True))
    if cls == "Sequential":
        return _chain(name, layers, settings, trainable)
    known = {layer.name for layer in layers}
    for entry, layer in zip(listed, layers, strict=True):
        nodes = entry.get("inbound_nodes", [])
        if not isinstance(nodes, list):
            raise MalformedError(f"inbound_nodes of {layer.name} is not a list")
        layer.calls = [_parse_call(node, known, layer.name) for node in nodes]
        if layer.cls == "InputLayer":
            layer.calls = [Call((), {})]
    inputs = [_ref(item) for item in _ref_list(settings.get("input_layers"), known)]
    outputs = _outputs(settings.get("output_layers"), known)
    graph = GraphConfig(name, False, layers, inputs, outputs, trainable)
    _renumber_nested(graph, major)
    return graph


def _check_names(layers: list[LayerConfig], model: str) -> None:
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise MalformedError(f"two layers of {model!r} are named {layer.name!r}")
        seen.add(layer.name)


def _chain(name: str, layers: list[LayerConfig], settings: Mapping[str, Any], trainable: bool) -> GraphConfig:
    """A Sequential model: each layer reads the one before; an InputLayer is added where the shape is only stated."""
    if not layers:
        raise MalformedError(f"the Sequential model {name!r} has no layers")
    if layers[0].cls != "InputLayer":
        layers = [_implied_input(layers[0], settings), *layers]
    previous = TensorRef(layers[0].name, 0, 0)
    layers[0].calls = [Call((), {})]
    for layer in layers[1:]:
        layer.calls = [Call((previous,), {})]
        previous = TensorRef(layer.name, 0, 0)
    return GraphConfig(name, True, layers, [TensorRef(layers[0].name, 0, 0)], [previous], trainable)


def _implied_input(first: LayerConfig, settings: Mapping[str, Any]) -> LayerConfig:
    source = first
    while source.graph is not None and source.graph.layers:
        source = source.graph.layers[0]
    stated = (source.config.get(key) for key in ("batch_input_shape", "batch_shape"))
    shape = next((shape for shape in stated if shape), None) or settings.get("build_input_shape")
    if shape is None and source.cls in ("Dense", "Embedding") and isinstance(source.config.get("input_dim"), int):
        length = source.config.get("input_length")
        shape = [None, source.config["input_dim"]] if source.cls == "Dense" else [None, length]
    kind = source.config.get("input_dtype") or source.config.get("dtype")
    if source.cls == "Embedding" and not (isinstance(kind, str) and "int" in kind):
        kind = "int32" if source.config.get("input_dtype") is None else kind
    config = {"batch_shape": shape, "dtype": kind or "float32", "name": f"{first.name}_input"}
    return LayerConfig(f"{first.name}_input", "InputLayer", config)


def _renumber_nested(graph: GraphConfig, major: int) -> None:
    """Count the calls of nested models from 0; to Keras 2 (and to 3 among the outputs) the construction was call 0."""
    if major >= 3:
        graph.outputs = _moved(
            graph.outputs, {layer.name: 1 for layer in graph.layers if layer.cls in ("Functional", "Model")}
        )
        return
    used: dict[str, int] = {}
    for ref in _all_refs(graph):
        used[ref.layer] = max(used.get(ref.layer, 0), ref.call)
    shift = {
        layer.name: used[layer.name] - (len(layer.calls) - 1)
        for layer in graph.layers
        if layer.graph is not None and layer.name in used and used[layer.name] >= len(layer.calls)
    }
    for layer in graph.layers:
        layer.calls = [Call(_moved(call.args, shift), _moved(call.kwargs, shift)) for call in layer.calls]
    graph.outputs = _moved(graph.outputs, shift)


def _moved(value: Any, shift: Mapping[str, int]) -> Any:
    if isinstance(value, TensorRef):
        return TensorRef(value.layer, max(value.call - shift.get(value.layer, 0), 0), value.index)
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, shift) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, shift) for key, item in value.items()}
    return value


def _all_refs(graph: GraphConfig) -> Iterator[TensorRef]:
    for layer in graph.layers:
        for call in layer.calls:
            yield from refs_in(call)
    yield from (item for item in flatten(graph.outputs) if isinstance(item, TensorRef))


def refs_in(call: Call) -> Iterator[TensorRef]:
    """All tensors that a call reads."""
    for value in (call.args, dict(call.kwargs)):
        yield from (item for item in flatten(value) if isinstance(item, TensorRef))


def flatten(value: Any) -> Iterator[Any]:
    """The leaves of nested lists, tuples and dicts, in Keras' order: of a dict by its keys, sorted (keras.tree)."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flatten(item)
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from flatten(value[key])
    else:
        yield value


def _parse_call(node: Json, known: set[str], layer: str) -> Call:
    if isinstance(node, Mapping):  # Keras 3
        args, kwargs = _decode(node.get("args", []), 0), _decode(node.get("kwargs", {}), 0)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise MalformedError(f"a node of {layer!r} has no list of arguments")
        return Call(tuple(args), kwargs)
    if not isinstance(node, list):
        raise MalformedError(f"a node of {layer!r} is neither a list nor an object")
    tensors: list[Any] = []
    kwargs = {}
    for item in [node] if _is_ref(node, known) or node[:2] == _CONSTANT else node:
        if not isinstance(item, list) or not 3 <= len(item) <= 4:
            raise MalformedError(
                f"a node of {layer!r} has an entry that is no [layer, call, output]", because=repr(item)[:80]
            )
        if item[:2] == _CONSTANT:
            tensors.append(item[2])
        else:
            tensors.append(_ref(item))
        if len(item) == 4 and isinstance(item[3], Mapping):
            kwargs |= {key: _legacy_value(value, known, 0) for key, value in item[3].items()}
    return Call((tensors[0],) if len(tensors) == 1 else (tensors,), kwargs)


def _legacy_value(value: Json, known: set[str], depth: int) -> Any:
    """tf.keras writes a tensor among the keyword arguments as [layer, call, output]."""
    if depth > _DEEPEST:
        raise MalformedError("the arguments of a call are nested too deeply")
    if _is_ref(value, known):
        return _ref(value)
    if isinstance(value, list):
        return [_legacy_value(item, known, depth + 1) for item in value]
    if isinstance(value, Mapping) and value.get("class_name") != "__slice__":
        return {key: _legacy_value(item, known, depth + 1) for key, item in value.items()}
    return value


def _decode(value: Json, depth: int) -> Any:
    """An argument as Keras 3 writes it: tensors, arrays, slices and nested structures."""
    if depth > _DEEPEST:
        raise MalformedError("the arguments of a call are nested too deeply")
    if isinstance(value, list):
        return [_decode(item, depth + 1) for item in value]
    if not isinstance(value, Mapping):
        return value
    cls, config = value.get("class_name"), value.get("config")
    if cls == "__keras_tensor__" and isinstance(config, Mapping):
        return _ref(config.get("keras_history"))
    if cls in ("__numpy__", "__tensor__") and isinstance(config, Mapping):
        return _array(config)
    if cls == "__slice__" and isinstance(config, Mapping):
        return slice(*(_decode(config.get(key), depth + 1) for key in ("start", "stop", "step")))
    if cls == "__ellipsis__":
        return Ellipsis
    if cls == "__lambda__":
        raise UnsafeError(
            "a call has a Python function among its arguments", because="code in a model file is never run"
        )
    return {key: _decode(item, depth + 1) for key, item in value.items()}


def _array(config: Mapping[str, Any]) -> Any:
    kind = DType.of(str(config.get("dtype") or "float32"))
    if kind is DType.STRING:
        raise MalformedError("a constant is not made of numbers")
    try:
        return np.asarray(config.get("value"), kind.numpy)
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedError("a constant is not a rectangular array of numbers", because=str(error)) from None


def _is_ref(value: Json, known: set[str]) -> bool:
    if not isinstance(value, list) or not 3 <= len(value) <= 4 or not isinstance(value[0], str):
        return False
    return value[0] in known and all(type(item) is int for item in value[1:3])


def _ref(value: Json) -> TensorRef:
    if not isinstance(value, (list, tuple)) or len(value) < 3:
        raise MalformedError("a tensor is written as [layer, call, output]", because=repr(value)[:80])
    layer, call, index = value[:3]
    if not isinstance(layer, str) or type(call) is not int or type(index) is not int or call < 0 or index < 0:
        raise MalformedError("a tensor is written as [layer, call, output]", because=repr(value)[:80])
    return TensorRef(layer, call, index)


def _ref_list(value: Json, known: set[str]) -> list[Json]:
    if _is_ref(value, known):
        return [value]
    if isinstance(value, Mapping):
        return [item for key in sorted(value) for item in _ref_list(value[key], known)]
    if isinstance(value, list):
        return [item for entry in value for item in ([entry] if _is_ref(entry, known) else _ref_list(entry, known))]
    raise MalformedError("a Functional model lists no input or output layers")


def _outputs(value: Json, known: set[str]) -> Any:
    if _is_ref(value, known):
        return [_ref(value)]
    if isinstance(value, Mapping):
        items = sorted(value.items())
        return {key: _ref(item) if _is_ref(item, known) else _outputs(item, known) for key, item in items}
    if isinstance(value, list):
        return [_ref(item) if _is_ref(item, known) else _outputs(item, known) for item in value]
    raise MalformedError("a Functional model lists no output layers")


def _shared_id(data: Mapping[str, Any]) -> int | None:
    value = data.get("shared_object_id")
    return value if type(value) is int else None


def _text(data: Json, key: str) -> str:
    value = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(value, str):
        raise MalformedError(f"a configuration object has no {key}")
    return value
