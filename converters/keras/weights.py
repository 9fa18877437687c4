"""Which weights a layer has, in Keras' order, and where a file keeps them.

A `.keras` file numbers the weights of each layer object on the path that Keras walked when it saved; a legacy `.h5`
lists the weights of each outermost layer, the trainable ones first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from isomorph.converters.keras.config import GraphConfig, LayerConfig
from isomorph.converters.keras.hdf5 import Hdf5Group
from isomorph.errors import MalformedError
from isomorph.ir import TensorSource

__all__ = ["LayerWeights", "Slot", "archive_weights", "canonical", "cells", "legacy_weights", "slots"]

LayerWeights: TypeAlias = Mapping[LayerConfig, Mapping[str, TensorSource]]


@dataclass(frozen=True, slots=True)
class Slot:
    """One weight: its name, whether an optimizer may change it, and the attribute of the sublayer it is in."""

    name: str
    trainable: bool = True
    owner: str = ""

    @property
    def basename(self) -> str:
        return self.name.rpartition("/")[2]


def _flag(config: Mapping[str, Any], key: str) -> bool:
    return bool(config.get(key, True))


def _kernel(config: Mapping[str, Any]) -> list[Slot]:
    return [Slot("kernel"), *([Slot("bias")] if _flag(config, "use_bias") else [])]


def _depthwise(config: Mapping[str, Any]) -> list[Slot]:
    return [Slot("depthwise_kernel"), *([Slot("bias")] if _flag(config, "use_bias") else [])]


def _separable(config: Mapping[str, Any]) -> list[Slot]:
    return [Slot("depthwise_kernel"), Slot("pointwise_kernel"), *([Slot("bias")] if _flag(config, "use_bias") else [])]


def _scale_center(config: Mapping[str, Any]) -> list[Slot]:
    return [*([Slot("gamma")] if _flag(config, "scale") else []), *([Slot("beta")] if _flag(config, "center") else [])]


def _batch_norm(config: Mapping[str, Any]) -> list[Slot]:
    return [*_scale_center(config), Slot("moving_mean", False), Slot("moving_variance", False)]


def _normalization(config: Mapping[str, Any]) -> list[Slot]:
    if config.get("mean") is not None:
        return []
    return [Slot("mean", False), Slot("variance", False), Slot("count", False)]


def _attention(config: Mapping[str, Any]) -> list[Slot]:
    parts = (
        ("query", "query_dense"),
        ("key", "key_dense"),
        ("value", "value_dense"),
        ("attention_output", "output_dense"),
    )
    return [Slot(f"{part}/{slot.name}", owner=owner) for part, owner in parts for slot in _kernel(config)]


def _scores(config: Mapping[str, Any]) -> list[Slot]:
    scale = [Slot("scale")] if config.get("use_scale") else []
    return [*scale, *([Slot("concat_score_weight")] if config.get("score_mode") == "concat" else [])]


def cells(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(class, configuration) of the cells of an RNN layer, one or several that are stacked."""
    cell = config.get("cell")
    if isinstance(cell, Mapping) and cell.get("class_name") == "StackedRNNCells":
        inner = cell.get("config")
        listed = list(inner.get("cells") or []) if isinstance(inner, Mapping) else []
    else:
        listed = [cell]
    found = []
    for each in listed:
        stated = each.get("config") if isinstance(each, Mapping) else None
        if isinstance(each, Mapping) and isinstance(stated, Mapping):
            found.append((str(each.get("class_name")), stated))
    return found if len(found) == len(listed) else []


def _recurrent(config: Mapping[str, Any]) -> list[Slot]:
    names = ["kernel", "recurrent_kernel", *(["bias"] if _flag(config, "use_bias") else [])]
    return [Slot(name, owner="cell") for name in names]


def _cells(config: Mapping[str, Any]) -> list[Slot]:
    """One cell, or several that are stacked, which Keras numbers for each class."""
    listed = cells(config)
    if len(listed) == 1:
        return _recurrent(listed[0][1])
    used: dict[str, int] = {}
    found: list[Slot] = []
    for place, (cls, inner) in enumerate(listed):
        path = snake_case(cls)
        used[path] = used.get(path, -1) + 1
        path = f"{path}_{used[path]}" if used[path] else path
        found += [Slot(f"{place}/{slot.name}", owner=f"cell/cells/{path}") for slot in _recurrent(inner)]
    return found


_SLOTS: dict[str, Callable[[Mapping[str, Any]], list[Slot]]] = {
    **dict.fromkeys(
        ["Conv1D", "Conv2D", "Conv3D", "Dense", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"], _kernel
    ),
    "EinsumDense": lambda config: [Slot("kernel"), *([Slot("bias")] if config.get("bias_axes") else [])],
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], _depthwise),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], _separable),
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(["LayerNormalization", "GroupNormalization"], _scale_center),
    "RMSNormalization": lambda config: [Slot("scale")],
    "Normalization": _normalization,
    "Embedding": lambda config: [Slot("embeddings")],
    "ReversibleEmbedding": lambda config: [
        Slot("embeddings"),
        *([] if config.get("tie_weights", True) else [Slot("reverse_embeddings")]),
    ],
    "PReLU": lambda config: [Slot("alpha")],
    "LayerScale": lambda config: [Slot("gamma")],
    "MultiHeadAttention": _attention,
    **dict.fromkeys(["SimpleRNN", "GRU", "LSTM"], _recurrent),
    "RNN": _cells,
    "Attention": _scores,
    "AdditiveAttention": lambda config: [Slot("scale")] if config.get("use_scale", True) else [],
}


def slots(layer: LayerConfig) -> list[Slot]:
    """The weights of a layer in Keras' order; those of the wrapped layer for a wrapper."""
    if layer.cls == "Bidirectional" and layer.wrapped is not None:
        inside = slots(layer.wrapped)
        return [
            Slot(f"{way}/{slot.name}", slot.trainable and layer.wrapped.trainable, f"{way}_layer/{slot.owner}")
            for way in ("forward", "backward")
            for slot in inside
        ]
    if layer.wrapped is not None:
        return [
            Slot(slot.name, slot.trainable and layer.wrapped.trainable, slot.owner) for slot in slots(layer.wrapped)
        ]
    describe = _SLOTS.get(layer.cls)
    return describe(layer.config) if describe else []


def canonical(graph: GraphConfig) -> dict[LayerConfig, LayerConfig]:
    """The first configuration of the same layer object, for every layer in the order in which Keras walks them."""
    first: dict[int, LayerConfig] = {}
    result: dict[LayerConfig, LayerConfig] = {}

    def walk(layers: list[LayerConfig]) -> None:
        for layer in layers:
            chosen = layer if layer.shared_id is None else first.setdefault(layer.shared_id, layer)
            result[layer] = chosen
            if layer.graph is not None:
                walk(layer.graph.layers)

    walk(graph.layers)
    return result


def snake_case(name: str) -> str:
    """A class name as Keras spells it in the paths of a weights file."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def archive_weights(
    graph: GraphConfig, root: Hdf5Group, same: dict[LayerConfig, LayerConfig]
) -> dict[LayerConfig, dict[str, TensorSource]]:
    """Weights of every layer from `model.weights.h5` of a `.keras` file. Raises MalformedError where one is missing.

    Keras stores an object once, where it meets it first, but loses the mark of some shared layers: a layer without
    weights whose name and configuration are those of an earlier one is that one, and `same` is told so.
    """
    found: dict[LayerConfig, dict[str, TensorSource]] = {}

    def walk(layers: list[LayerConfig], group: Hdf5Group | None) -> None:
        used: dict[str, int] = {}
        for layer in layers:
            if layer.is_operation:
                continue
            path = snake_case(layer.cls)
            used[path] = used.get(path, -1) + 1
            path = f"{path}_{used[path]}" if used[path] else path
            if same[layer] is not layer:
                continue
            inside = group.group(path) if group is not None and path in group else None
            if layer.graph is not None:
                walk(layer.graph.layers, _members(inside))
            elif slots(layer):
                twin = None if inside is not None else _twin(layer, found)
                if twin is None:
                    found[layer] = _numbered(layer, inside, root.file.label)
                else:
                    same[layer] = twin

    walk(graph.layers, _members(root))
    return found


def _twin(layer: LayerConfig, found: Iterable[LayerConfig]) -> LayerConfig | None:
    """The only earlier layer of the same class, name and configuration."""
    twins = [
        other
        for other in found
        if (other.cls, other.name) == (layer.cls, layer.name) and _plain(other) == _plain(layer)
    ]
    return twins[0] if len(twins) == 1 else None


def _plain(layer: LayerConfig) -> str:
    """The configuration without the marks of shared objects."""
    return re.sub(r",? ?'shared_object_id': \d+", "", repr(sorted(layer.config.items())))


def _members(group: Hdf5Group | None) -> Hdf5Group | None:
    for name in ("layers", "_layer_checkpoint_dependencies"):
        if group is not None and name in group:
            return group.group(name)
    return None


def _numbered(layer: LayerConfig, group: Hdf5Group | None, label: str) -> dict[str, TensorSource]:
    if group is not None and layer.wrapped is not None:
        group = group.group("layer") if "layer" in group else group
    tensors: dict[str, TensorSource] = {}
    counts: dict[str, int] = {}
    for slot in slots(layer):
        index = counts.get(slot.owner, 0)
        counts[slot.owner] = index + 1
        places = (
            [f"{owner}/vars/{index}" for owner in (slot.owner, f"_{slot.owner}")] if slot.owner else [f"vars/{index}"]
        )
        place = next((place for place in places if group is not None and place in group), None)
        if group is None or place is None:
            raise MalformedError(f"the weight {layer.name}/{slot.name} is not in the file", at=label)
        tensors[slot.name] = group.tensor(place)
    for owner, count in counts.items():
        if group is not None and not owner and f"vars/{count}" in group:
            because = f"{len(group.group('vars').names())} stored, {count} expected of a {layer.cls}"
            raise MalformedError(
                f"layer {layer.name!r} has more weights than its configuration states", at=label, because=because
            )
    return tensors


def legacy_weights(graph: GraphConfig, root: Hdf5Group) -> dict[LayerConfig, dict[str, TensorSource]]:
    """Weights of every layer from the group `model_weights` of an `.h5` file."""
    found: dict[LayerConfig, dict[str, TensorSource]] = {}
    listed = set(root.texts("layer_names") or ())
    for layer in graph.layers:
        wanted = _ordered(layer, graph.trainable)
        if not wanted:
            continue
        if layer.name not in listed:
            raise MalformedError(f"layer {layer.name!r} has no weights in the file", at=root.file.label)
        group = root.group(layer.name)
        names = group.texts("weight_names") or []
        if len(names) != len(wanted):
            because = f"{len(names)} stored, {len(wanted)} expected"
            raise MalformedError(
                f"layer {layer.name!r} has another number of weights", at=root.file.label, because=because
            )
        for (owner, slot), name in zip(wanted, names, strict=True):
            _check_name(owner, slot, name, root.file.label)
            found.setdefault(owner, {})[slot.name] = group.tensor(name)
    return found


def _ordered(layer: LayerConfig, trainable: bool) -> list[tuple[LayerConfig, Slot]]:
    """Trainable weights first, then the others, each in the order of the layers, as Keras lists a nested model's."""
    pairs: list[tuple[LayerConfig, Slot, bool]] = []
    seen: set[int] = set()

    def walk(current: LayerConfig, free: bool) -> None:
        if current.shared_id is not None:
            if current.shared_id in seen:
                return
            seen.add(current.shared_id)
        free = free and current.trainable
        if current.graph is not None:
            for inner in current.graph.layers:
                walk(inner, free)
        else:
            pairs.extend((current, slot, free and slot.trainable) for slot in slots(current))

    walk(layer, trainable)
    if layer.graph is None:
        return [(owner, slot) for owner, slot, _ in pairs]
    return [(owner, slot) for owner, slot, free in pairs if free] + [
        (owner, slot) for owner, slot, free in pairs if not free
    ]


_ALIASES = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "alphas": "alpha",
}
_KNOWN = {
    "kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
    "embeddings",
    "depthwise_kernel",
    "pointwise_kernel",
}


def _check_name(layer: LayerConfig, slot: Slot, name: str, label: str) -> None:
    """A weight whose recorded name says that it is another one is refused."""
    last = name.rpartition("/")[2].partition(":")[0]
    last = last.removeprefix(f"{layer.name}_")
    plain = re.sub(r"_\d+$", "", last)
    said = _ALIASES.get(plain, plain)
    if (
        said in _KNOWN
        and said != slot.basename
        and not (said == "kernel" and slot.basename in ("embeddings", "depthwise_kernel"))
    ):
        raise MalformedError(f"weight {name!r} stands where {layer.name}/{slot.name} belongs", at=label)
