"""Reads `.keras` archives and legacy `.h5` models without Keras. Nothing in the file is executed or imported.

A `.keras` file is a zip of config.json, metadata.json and model.weights.h5; an `.h5` model keeps the same configuration
in the attribute `model_config` and the weights in the group `model_weights`. Kernels become O-I-spatial views of the
mapped file, data stays channels-last (or -first) as the layers state it, nested models become scopes.
"""

from __future__ import annotations

import heapq
import json
import re
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isomorph.converters.archive import Archive, parse_json
from isomorph.converters.keras import (  # noqa: F401  (the family files register their rules)
    activation,
    attention,
    conv,
    elementwise,
    index,
    linear,
    norm,
    pool,
    recurrent,
    reduce,
    reorder,
    resize,
    shape,
)
from isomorph.converters.keras.config import GraphConfig, LayerConfig, TensorRef, flatten, parse_model, refs_in
from isomorph.converters.keras.hdf5 import Hdf5File, Hdf5Group
from isomorph.converters.keras.layer import Instance, Layer
from isomorph.converters.keras.rules import rules
from isomorph.converters.keras.weights import LayerWeights, archive_weights, canonical, legacy_weights
from isomorph.errors import MalformedError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import Builder, Dim, DType, Model, Node, Origin, Scope, ScopeEntry, Shape, Sym, Value, ops

__all__ = ["read", "read_calls"]

_LARGEST_JSON = 256 << 20
_LARGEST_WEIGHTS = 64 << 30
Inputs = Mapping[str, tuple[Shape, DType | None]]


def read(path: Path, *, inputs: Inputs | None = None) -> Model:
    """The model in a `.keras` or `.h5` file.

    inputs  shape and element type by input name, instead of what the file states (None keeps the type)
    Raises MalformedError, UnsafeError, UnsupportedError (listing every layer that cannot be expressed), UsageError.
    """
    return _read(path, inputs or {})[0]


def read_calls(path: Path) -> tuple[Model, dict[str, str]]:
    """The same, and which nodes give what the layers of the outermost model give: name of the node -> name of the
    layer, `layer:1` for its second call, `layer/linear` for what it gives before its own activation."""
    return _read(path, {})


def _read(path: Path, inputs: Inputs) -> tuple[Model, dict[str, str]]:
    with ExitStack() as stack:
        return (_read_archive if zipfile.is_zipfile(path) else _read_hdf5)(path, inputs, stack)


def _read_archive(path: Path, inputs: Inputs, stack: ExitStack) -> tuple[Model, dict[str, str]]:
    archive = stack.enter_context(Archive(path))
    for member in ("config.json", "model.weights.h5"):
        if member not in archive:
            raise MalformedError(f"the archive has no {member}, so it is not a .keras file", at=str(path))
    data = _json(archive.read("config.json", limit=_LARGEST_JSON), "config.json")
    about = (
        _json(archive.read("metadata.json", limit=_LARGEST_JSON), "metadata.json") if "metadata.json" in archive else {}
    )
    version = str(about.get("keras_version", "3")) if isinstance(about, Mapping) else "3"
    notes = (
        _json(archive.read("isomorph.json", limit=_LARGEST_JSON), "isomorph.json") if "isomorph.json" in archive else {}
    )
    label = f"{path}:model.weights.h5"
    try:
        offset, size = archive.span("model.weights.h5")
        file = Hdf5File(path, offset=offset, size=size, label=label)
    except MalformedError:  # compressed: the weights are unpacked into memory
        file = Hdf5File(path, data=archive.read("model.weights.h5", limit=_LARGEST_WEIGHTS), label=label)
    parsed = _parsed(version)
    graph = parse_model(data, major=parsed[0])
    _refuse_unknown(graph)
    root = stack.enter_context(file).root
    same = canonical(graph)
    reading = _Reading(version, parsed, False, archive_weights(graph, root, same), same, notes, inputs)
    return reading.model(graph), reading.calls


def _read_hdf5(path: Path, inputs: Inputs, stack: ExitStack) -> tuple[Model, dict[str, str]]:
    root = stack.enter_context(Hdf5File(path)).root
    text = root.text("model_config")
    if text is None or "model_weights" not in root:
        raise MalformedError(
            "the HDF5 file holds no Keras model",
            at=str(path),
            because="no model_config or no model_weights",
            advice="save the whole model, not the weights alone",
        )
    weights = root.group("model_weights")
    version = root.text("keras_version") or weights.text("keras_version") or "1"
    parsed = _parsed(version)
    graph = parse_model(_json(text.encode(), "model_config"), major=parsed[0])
    _refuse_unknown(graph)
    backend = root.text("backend") or weights.text("backend") or _backend(weights)
    tensors, same = legacy_weights(graph, weights), canonical(graph)
    reading = _Reading(version, parsed, backend == "theano", tensors, same, {}, inputs)
    model = reading.model(graph)
    model.metadata["keras.backend"] = backend
    return model, reading.calls


def _backend(weights: Hdf5Group) -> str:
    """The backend of a file from before it was recorded: TensorFlow's variables are named `x:0`, Theano's `x`."""
    names = [
        name
        for layer in weights.texts("layer_names") or ()
        for name in weights.group(layer).texts("weight_names") or ()
    ]
    return "theano" if names and not any(name.endswith(":0") for name in names) else "tensorflow"


def _json(data: bytes, what: str) -> Any:
    return parse_json(data, what, allow_nan=True)


def _parsed(version: str) -> tuple[int, int]:
    """(major, minor) of "2.2.4-tf"; a version that is none counts as the newest."""
    found = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?", version)
    return (int(found.group(1)), int(found.group(2) or 0)) if found else (3, 0)


def _refuse_unknown(graph: GraphConfig) -> None:
    """One error that lists every layer without a rule, before anything is built."""
    missing: list[Unsupported] = []

    def walk(layer: LayerConfig, path: str) -> None:
        where = f"{path}/{layer.name}" if path else layer.name
        if layer.refusal is not None:
            missing.append(Unsupported(layer.cls, layer.refusal.reason, where))
        elif layer.graph is not None:
            for inner in layer.graph.layers:
                walk(inner, where)
        elif layer.cls != "InputLayer" and rules.importer(layer.cls) is None:
            missing.append(Unsupported(layer.cls, "there is no rule for it yet", where))
        if layer.wrapped is not None:
            walk(layer.wrapped, where)

    for layer in graph.layers:
        walk(layer, "")
    if missing:
        raise UnsupportedError("read keras", missing)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a call stands: the models and layers around it, and whether all of them may be trained."""

    scope: tuple[ScopeEntry, ...]
    trainable: bool


@dataclass(eq=False, slots=True)
class _Reading:
    """The state of reading one file."""

    version: str
    parsed: tuple[int, int]
    mirrored: bool
    weights: LayerWeights
    same: Mapping[LayerConfig, LayerConfig]
    notes: Any
    overrides: Inputs
    builder: Builder = field(init=False)
    instances: dict[LayerConfig, Instance] = field(default_factory=dict)
    prefixes: set[str] = field(default_factory=set)
    refused: list[Unsupported] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)

    def model(self, graph: GraphConfig) -> Model:
        """The IR of the outermost model."""
        self.builder = Builder(graph.name)
        names = [ref.layer for ref in graph.inputs]
        for name in self.overrides:
            if name not in names:
                raise UsageError(f"the model has no input {name!r}", advice=f"its inputs: {', '.join(names)}")
        layers = {layer.name: layer for layer in graph.layers}
        given: list[Value | None] = []
        for name in names:
            if name not in layers or layers[name].cls != "InputLayer":
                raise MalformedError(f"the input layer {name!r} is not in the configuration")
            given.append(self._input(layers[name], len(names) == 1))
        results = self._graph(graph, given, _Frame((), graph.trainable))
        if self.refused:
            raise UnsupportedError("read keras", self.refused)
        self._outputs(graph, [value for value in results if value is not None])
        metadata = {"keras.version": self.version}
        pairing = self.notes.get("pairing") if isinstance(self.notes, Mapping) else None
        if pairing is not None:
            metadata["isomorph.pairing"] = pairing if isinstance(pairing, str) else json.dumps(pairing)
        return self.builder.finish(metadata=metadata, source=("keras", f"keras {self.version}"))

    def _outputs(self, graph: GraphConfig, values: list[Value]) -> None:
        if isinstance(graph.outputs, dict) and all(isinstance(ref, TensorRef) for ref in graph.outputs.values()):
            names = list(graph.outputs)
        else:
            names = [ref.layer for ref in flatten(graph.outputs)]
        for name, value in zip(names, values, strict=True):
            free, count = name, 0
            while free in self.builder.graph.outputs:
                count += 1
                free = f"{name}_{count}"
            self.builder.output(free, value)

    def _input(self, layer: LayerConfig, only: bool) -> Value:
        config = layer.config
        if config.get("sparse") or config.get("ragged"):
            raise UnsupportedError("read keras", [Unsupported("InputLayer", "sparse and ragged inputs", layer.name)])
        stated = config.get("batch_shape")
        kind = config.get("dtype") or "float32"
        dtype = DType.of(kind if isinstance(kind, str) else "float32")
        sizes, override = None, self.overrides.get(layer.name)
        if override is not None:
            sizes, dtype = override[0], override[1] or dtype
        if isinstance(stated, (list, tuple)):
            described = _input_shape(layer.name, list(stated), only)
            if sizes is not None and len(sizes) != len(described):
                raise UsageError(f"input {layer.name!r} has {len(described)} axes, {len(sizes)} sizes were given")
            sizes = described if sizes is None else sizes
        if sizes is None:
            raise UsageError(
                f"the file does not state the shape of input {layer.name!r}", advice=f"pass --input {layer.name}=SHAPE"
            )
        return self.builder.input(layer.name, dtype, sizes)

    def _graph(self, graph: GraphConfig, given: list[Value | None], frame: _Frame) -> list[Value | None]:
        """Build all calls of a model, each after what it reads; None stands for what could not be built."""
        known: dict[TensorRef, Value | None] = dict(zip(graph.inputs, given, strict=True))
        calls = [call for layer in graph.layers for call in layer.calls]
        asked = [*flatten(graph.outputs), *(ref for call in calls for ref in refs_in(call))]
        for place, number in _order(graph):
            layer = graph.layers[place]
            if layer.cls == "InputLayer":
                if TensorRef(layer.name, number, 0) not in known:
                    raise MalformedError(f"the input layer {layer.name!r} is not among the inputs of {graph.name!r}")
                continue
            results = self._call(layer, number, known, frame)
            known.update({TensorRef(layer.name, number, position): value for position, value in enumerate(results)})
            if results and all(value is None for value in results):  # how many outputs it would have is not known
                known.update({ref: None for ref in asked if (ref.layer, ref.call) == (layer.name, number)})
        return [_known(ref, known, f"model {graph.name!r}") for ref in flatten(graph.outputs)]

    def _call(
        self, layer: LayerConfig, number: int, known: Mapping[TensorRef, Value | None], outer: _Frame
    ) -> list[Value | None]:
        """The outputs of one call; None for those that could not be built, whose reasons are collected."""
        call = layer.calls[number]
        if any(known.get(ref, ()) is None for ref in refs_in(call)):
            return [None] * (len(list(flatten(layer.graph.outputs))) if layer.graph is not None else 1)
        args = _values(list(call.args), known, layer.name)
        kwargs = _values(dict(call.kwargs), known, layer.name)
        path = f"{outer.scope[-1].path}.{layer.name}" if outer.scope else layer.name
        frame = _Frame((*outer.scope, ScopeEntry(path, layer.cls, number)), outer.trainable and layer.trainable)
        if layer.graph is not None:
            values = [item for item in flatten(args) if isinstance(item, Value)]
            wanted = len(layer.graph.inputs)
            if len(values) != wanted:
                raise MalformedError(f"model {layer.name!r} has {wanted} inputs and is called with {len(values)}")
            return self._graph(layer.graph, list(values), frame)
        try:
            return list(self._apply(layer, args, kwargs, frame))
        except UnsupportedError as error:
            self.refused += error.items
            return [None]

    def _apply(self, layer: LayerConfig, args: list[Any], kwargs: dict[str, Any], frame: _Frame) -> list[Value]:
        """Run the rule of a layer. Its (first) output takes the layer's name."""
        rule = rules.importer(layer.cls)
        if rule is None:
            raise UnsupportedError("read keras", [Unsupported(layer.cls, "there is no rule for it yet", layer.name)])
        name = self.builder.unique(layer.name)
        before = len(self.builder.graph.nodes)
        number = frame.scope[-1].call
        with self.builder.at(*self._provenance(layer, frame.scope, number)):
            seen = Layer(layer, self.builder, self._instance(layer, frame), self.parsed, self.mirrored, kwargs)
            try:
                made = rule(seen, *(self._autocast(seen, item) for item in args))
            except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
                what = f"{layer.cls} {layer.name!r} is not configured or called as Keras does it"
                raise MalformedError(what, because=f"{type(error).__name__}: {error}") from error
        values = [made] if isinstance(made, Value) else list(made)
        fresh = set(self.builder.graph.nodes[before:])
        for position, value in enumerate(values):
            if value.producer in fresh and value.producer is not None:
                value.name = name if position == 0 else self.builder.unique(layer.name)
                if len(values) == 1:
                    value.producer.name = name
                    if len(frame.scope) == 1:
                        self._note_call(layer, number, value.producer, fresh)
        return values

    def _note_call(self, layer: LayerConfig, number: int, last: Node, fresh: set[Node]) -> None:
        """Which node gives what this call gives, and which what its own activation is applied to."""
        name = f"{layer.name}:{number}" if number else layer.name
        self.calls[last.name] = name
        before = last.inputs[0].producer if last.inputs and last.inputs[0] is not None else None
        own = layer.config.get("activation") not in (None, "linear") and layer.cls != "Activation"
        if own and before in fresh and before is not None:
            self.calls[before.name] = f"{name}/linear"

    def _autocast(self, layer: Layer, item: Any) -> Any:
        """Keras layers (not operations) take floating-point inputs in the type that they compute in."""
        wanted = None if layer.source.is_operation else layer.compute_dtype
        if isinstance(item, list):
            return [self._autocast(layer, entry) for entry in item]
        if isinstance(item, Value) and wanted is not None and wanted.is_float and item.dtype.is_float:
            return layer.cast(item, wanted)
        return item

    def _instance(self, layer: LayerConfig, frame: _Frame) -> Instance:
        """The layer object, made at its first call; the path tells two objects of one name apart."""
        chosen = self.same.get(layer, layer)
        if chosen not in self.instances:
            prefix = chosen.name if chosen.wrapped is None else f"{chosen.name}/{chosen.wrapped.name}"
            if prefix in self.prefixes:
                prefix = frame.scope[-1].path.replace(".", "/")
            self.prefixes.add(prefix)
            self.instances[chosen] = Instance(self.weights.get(chosen, {}), prefix, frame.trainable)
        return self.instances[chosen]

    def _provenance(self, layer: LayerConfig, scope: tuple[ScopeEntry, ...], number: int) -> tuple[Scope, Origin]:
        """Scope and origin from isomorph.json if this file was converted, else those of Keras."""
        layers = self.notes.get("layers") if isinstance(self.notes, Mapping) else None
        note = layers.get(layer.name) if isinstance(layers, Mapping) else None
        calls = note.get("calls") if isinstance(note, Mapping) else None
        if number and isinstance(calls, list) and number <= len(calls):
            note = calls[number - 1]
        name = scope[-1].path.replace(".", "/") if len(scope) > 1 else layer.name
        here, origin = Scope(scope), Origin("keras", layer.cls, name)
        if not isinstance(note, Mapping):
            return here, origin
        entries, stated = note.get("scope"), note.get("origin")
        if isinstance(entries, list) and all(_is_entry(entry) for entry in entries):
            here = Scope(tuple(ScopeEntry(*entry) for entry in entries))
        if isinstance(stated, Mapping):
            framework, op, name, file, code = (
                str(stated.get(key) or "") for key in ("framework", "op", "name", "file", "code")
            )
            line = stated.get("line")
            origin = Origin(framework, op, name, file, line if type(line) is int else 0, code)
        return here, origin


def _is_entry(entry: Any) -> bool:
    """A scope entry is written as [path, class, call]."""
    return isinstance(entry, list) and [type(item) for item in entry] == [str, str, int]


def _known(ref: TensorRef, known: Mapping[TensorRef, Value | None], reader: str) -> Value | None:
    if ref not in known:
        raise MalformedError(
            f"{reader} reads output {ref.index} of {ref.layer!r} (call {ref.call}), which does not exist"
        )
    return known[ref]


def _values(item: Any, known: Mapping[TensorRef, Value | None], reader: str) -> Any:
    """Nested arguments with Values in the place of TensorRefs."""
    if isinstance(item, TensorRef):
        return _known(item, known, f"layer {reader!r}")
    if isinstance(item, (list, tuple)):
        return [_values(entry, known, reader) for entry in item]
    if isinstance(item, dict):
        return {key: _values(entry, known, reader) for key, entry in item.items()}
    return item


def _order(graph: GraphConfig) -> list[tuple[int, int]]:
    """(place of the layer, number of the call) of all calls, each after what it reads, in the order of the file."""
    place = {layer.name: position for position, layer in enumerate(graph.layers)}
    waiting: dict[tuple[int, int], set[tuple[int, int]]] = {}
    readers: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for position, layer in enumerate(graph.layers):
        for number, call in enumerate(layer.calls):
            needed = set()
            for ref in refs_in(call):
                if ref.layer not in place or ref.call >= len(graph.layers[place[ref.layer]].calls):
                    raise MalformedError(
                        f"layer {layer.name!r} reads call {ref.call} of {ref.layer!r}, which does not exist"
                    )
                needed.add((place[ref.layer], ref.call))
            waiting[position, number] = needed
            for source in needed:
                readers.setdefault(source, []).append((position, number))
    ready = [node for node, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    order = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for reader in readers.get(node, ()):
            waiting[reader].discard(node)
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) != len(waiting):
        stuck = next(graph.layers[position].name for (position, _), needed in waiting.items() if needed)
        raise MalformedError(f"the layers of {graph.name!r} read each other in a circle", because=f"{stuck!r} is on it")
    return order


def _input_shape(name: str, stated: list[Any], only: bool) -> Shape:
    """None becomes N on the batch axis, H and W in a single image input, else the input's name and the axis."""
    plain = re.sub(r"\W", "_", name)
    unknown = [axis for axis, size in enumerate(stated) if size is None and axis]
    image = only and len(stated) == 4 and unknown in ([1, 2], [2, 3])
    dims: list[Dim] = []
    for axis, size in enumerate(stated):
        if size is not None and (type(size) is not int or size < 0):
            raise MalformedError(f"the shape of input {name!r} is {stated!r}")
        if size is not None:
            dims.append(size)
        elif axis == 0:
            dims.append(Sym("N"))
        else:
            dims.append(Sym("HW"[unknown.index(axis)] if image else f"{plain}_{axis}"))
    return tuple(dims)


@rules.imports("Identity", "ActivityRegularization")
def _identity(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Identity(), x)
