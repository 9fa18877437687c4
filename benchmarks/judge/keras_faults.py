"""Faults of converters to Keras, as edits of a `.keras` file that isomorph wrote.

A kind of fault is a function from a `KerasEdit` to the sites where it can be made; a site names the layers that it
makes wrong. Kernels are H-W-in-out, gates of an LSTM i-f-c-o, of a GRU z-r-h (keras/src/layers/rnn).
"""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

__all__ = ["FAULTS", "Fault", "KerasEdit", "Site"]

Change = Callable[[], None]
Layer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a fault is made: the layers that it makes wrong, and what makes it."""

    layers: tuple[str, ...]
    change: Change


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    family: str
    sites: Callable[[KerasEdit], Iterator[Site]]


class KerasEdit:
    """The configuration and the weights of a file; `save` writes it again."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self._members = {name: archive.read(name) for name in archive.namelist()}
        self.config = json.loads(self._members["config.json"])
        self.arrays: dict[str, np.ndarray] = {}
        self._places: dict[str, str] = {}
        with h5py.File(io.BytesIO(self._members["model.weights.h5"])) as file:
            file.visititems(self._note)

    def _note(self, name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            self.arrays[name] = item[...]
        elif "name" in item.attrs:
            self._places[str(item.attrs["name"])] = name.removesuffix("/vars")

    def layers(self, *classes: str) -> Iterator[Layer]:
        """The layers and operations of these classes, in the order of the file."""
        yield from (layer for layer in self.config["config"]["layers"] if not classes or layer["class_name"] in classes)

    def weights(self, layer: Layer) -> list[str]:
        """Keys of `arrays`: those of the layer, in the order of its weights."""
        place = self._places.get(layer["name"])
        return [] if place is None else sorted(key for key in self.arrays if key.startswith(f"{place}/"))

    def save(self, path: Path) -> None:
        memory = io.BytesIO(self._members["model.weights.h5"])
        with h5py.File(memory, "r+") as file:
            for name, array in self.arrays.items():
                file[name][...] = array
        members = {
            **self._members,
            "config.json": json.dumps(self.config).encode(),
            "model.weights.h5": memory.getvalue(),
        }
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)


FAULTS: dict[str, Fault] = {}
_CONVOLUTIONS = (
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv2DTranspose",
    "DepthwiseConv2D",
    "DepthwiseConv1D",
    "SeparableConv2D",
)
_LINEAR = (*_CONVOLUTIONS, "Dense")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")


def _weight(name: str, family: str, classes: tuple[str, ...], at: int, change: Callable[[Any], Any]) -> None:
    """A kind that replaces the weight at this place of a layer by `change` of it, where that changes anything."""

    def sites(edit: KerasEdit) -> Iterator[Site]:
        for layer in edit.layers(*classes):
            keys = edit.weights(layer)
            if len(keys) <= at:
                continue
            old = edit.arrays[keys[at]]
            new = np.asarray(change(old.copy()))
            if new.shape == old.shape and not np.array_equal(new, old):
                yield Site((layer["name"],), lambda key=keys[at], new=new: edit.arrays.update({key: new}))

    FAULTS[name] = Fault(name, family, sites)


def _setting(
    name: str, family: str, classes: tuple[str, ...], change: Callable[[Layer], dict[str, Any] | None]
) -> None:
    """A kind that changes entries of a layer's configuration."""

    def sites(edit: KerasEdit) -> Iterator[Site]:
        for layer in edit.layers(*classes):
            found = change(copy.deepcopy(_inner(layer)))
            if found is not None:
                yield Site((layer["name"],), lambda layer=layer, found=found: _inner(layer).update(found))

    FAULTS[name] = Fault(name, family, sites)


def _inner(layer: Layer) -> dict[str, Any]:
    """The configuration; of a Bidirectional layer that of the layer inside, which makes the other from it."""
    config: dict[str, Any] = layer["config"]
    wrapped: dict[str, Any] | None = config.get("layer")
    return wrapped["config"] if wrapped else config


def _class(name: str, family: str, renamed: Mapping[str, str]) -> None:
    """A kind that puts a class in the place of another."""

    def sites(edit: KerasEdit) -> Iterator[Site]:
        for layer in edit.layers(*renamed):
            new = {"class_name": renamed[layer["class_name"]]}
            if layer.get("registered_name"):
                new["registered_name"] = new["class_name"]
            yield Site((layer["name"],), lambda layer=layer, new=new: layer.update(new))

    FAULTS[name] = Fault(name, family, sites)


def _arguments(name: str, classes: tuple[str, ...], change: Callable[[list[Any]], list[Any] | None]) -> None:
    """A kind that changes the arguments of calls."""

    def sites(edit: KerasEdit) -> Iterator[Site]:
        for layer in edit.layers(*classes):
            for call in layer["inbound_nodes"]:
                found = change(copy.deepcopy(call["args"]))
                if found is not None and found != call["args"]:
                    yield Site((layer["name"],), lambda call=call, found=found: call.update(args=found))

    FAULTS[name] = Fault(name, "axes", sites)


def _negated(array: np.ndarray) -> np.ndarray:
    array[..., 1 % array.shape[-1]] *= -1
    return array


def _one_element(array: np.ndarray) -> np.ndarray:
    array.reshape(-1)[np.abs(array).argmax()] *= -1
    return array


def _scaled(array: np.ndarray) -> np.ndarray:
    array[..., 0] *= 1.02
    return array


def _swapped(array: np.ndarray) -> np.ndarray:
    return array.swapaxes(0, 1) if array.ndim == 4 and array.shape[0] == array.shape[1] else array


def _transposed(array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 and array.shape[0] == array.shape[1] else array


def _gates(array: np.ndarray) -> np.ndarray:
    """The first two gates exchanged: i and f of an LSTM (4 blocks), z and r of a GRU (3)."""
    for count in (4, 3):
        if array.shape[-1] % count == 0:
            blocks = np.split(array, count, -1)
            return np.concatenate([blocks[1], blocks[0], *blocks[2:]], -1)
    return array


def _shifted(padding: Any) -> Any:
    """The same sum on each axis, one cell from the end to the beginning, or from the beginning to the end."""
    pairs = [
        list(pair) if isinstance(pair, (list, tuple)) else [pair, pair] for pair in np.atleast_1d(padding).tolist()
    ]
    if np.ndim(padding) == 1 and len(pairs) == 2:
        pairs = [list(map(int, padding))]
        first, last = pairs[0]
        return [first - 1, last + 1] if first else [first + last, 0]
    return [[a - 1, b + 1] if a else [a + b, 0] for a, b in pairs]


def _strided(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Strides of 1 for 2: the network still runs where a global pool follows."""
    return {"strides": [1, 1]} if list(config["strides"]) == [2, 2] else None


def _another(name: Any) -> dict[str, Any] | None:
    others = {"gelu": "silu", "tanh": "softsign", "sigmoid": "hard_sigmoid", "silu": "gelu", "relu": "relu6"}
    others |= {"hard_silu": "silu", "softplus": "relu", "elu": "selu", "hard_sigmoid": "sigmoid"}
    return {"activation": others[name]} if isinstance(name, str) and name in others else None


def _another_axis(config: Mapping[str, Any]) -> dict[str, Any] | None:
    axis = config.get("axis")
    listed = axis if isinstance(axis, list) else [axis]
    if listed == [1]:
        return {"axis": [2]} if isinstance(axis, list) else {"axis": 2}
    return None


_weight("kernel flipped", "weights", _CONVOLUTIONS, 0, lambda w: w[::-1] if w.shape[0] > 1 else w)
_weight("kernel height and width swapped", "weights", _CONVOLUTIONS, 0, _swapped)
_weight("channels rolled", "weights", _LINEAR, 0, lambda w: np.roll(w, 1, -2 if w.shape[-1] == 1 else -1))
_weight("one channel negated", "weights", _LINEAR, 0, _negated)
_weight("one channel scaled", "weights", _LINEAR, 0, _scaled)
_weight("one element negated", "weights", _LINEAR, 0, _one_element)
_weight("square weight transposed", "weights", ("Dense",), 0, _transposed)
_weight("weights through bfloat16", "weights", _LINEAR, 0, lambda w: w.astype(ml_dtypes.bfloat16).astype(w.dtype))
_weight("bias dropped", "weights", _LINEAR, 1, np.zeros_like)
_weight("bias rolled", "weights", _LINEAR, 1, lambda b: np.roll(b, 1))
_weight("table off by one row", "weights", ("Embedding", "ReversibleEmbedding"), 0, lambda w: np.roll(w, 1, 0))
_weight("input kernel negated", "recurrent", (*_RECURRENT, "Bidirectional"), 0, _negated)
_weight("gates exchanged", "recurrent", (*_RECURRENT, "Bidirectional"), 0, _gates)
_weight("recurrent kernel rolled", "recurrent", (*_RECURRENT, "Bidirectional"), 1, lambda w: np.roll(w, 1, 0))
_weight("recurrent bias rolled", "recurrent", (*_RECURRENT, "Bidirectional"), 2, lambda b: np.roll(b, 1, -1))
_weight(
    "gamma lost", "normalization", ("BatchNormalization", "LayerNormalization", "GroupNormalization"), 0, np.ones_like
)
_weight("beta rolled", "normalization", ("BatchNormalization", "LayerNormalization"), 1, lambda b: np.roll(b, 1))
_weight("mean rolled", "normalization", ("BatchNormalization",), 2, lambda b: np.roll(b, 1))
_weight("running variance unbiased", "normalization", ("BatchNormalization",), 3, lambda v: v * np.float32(8 / 7))

_NORMALIZATIONS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
_setting(
    "epsilon of another framework",
    "normalization",
    _NORMALIZATIONS,
    lambda c: {"epsilon": 1e-3 if c["epsilon"] < 1e-3 else 1e-5},
)
_setting("epsilon hundred times", "normalization", _NORMALIZATIONS, lambda c: {"epsilon": 100 * c["epsilon"]})
_setting(
    "recurrent activation of another framework", "recurrent", ("LSTM", "GRU", "Bidirectional"),
    lambda c: {"recurrent_activation": "hard_sigmoid"} if c.get("recurrent_activation") == "sigmoid" else None,
)  # fmt: skip
_setting("recurrent direction reversed", "recurrent", _RECURRENT, lambda c: {"go_backwards": not c["go_backwards"]})
_setting(
    "pad side begin for end", "windows", ("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    lambda c: {"padding": _shifted(c["padding"])},
)  # fmt: skip
_setting(
    "padding same for a shifted one", "windows", ("ZeroPadding2D",), lambda c: {"padding": _shifted(c["padding"][::-1])}
)
_setting("stride for dilation", "windows", ("Conv2D",), _strided)
_setting(
    "softmax axis off by one", "activations", ("Softmax",), lambda c: {"axis": -2} if c.get("axis") == -1 else None
)
_setting(
    "slope of another framework", "activations", ("LeakyReLU",),
    lambda c: {"negative_slope": 0.3 if c["negative_slope"] != 0.3 else 0.01},
)  # fmt: skip
_setting("activation of another kind", "activations", ("Activation",), lambda c: _another(c["activation"]))
_setting("reduced over another axis", "axes", ("Mean", "Max", "Sum"), _another_axis)
_setting("relu capped", "activations", ("ReLU",), lambda c: {"max_value": 6.0 if c.get("max_value") is None else None})
_class("pool of the other kind", "windows", {
    "MaxPooling2D": "AveragePooling2D", "AveragePooling2D": "MaxPooling2D", "MaxPooling1D": "AveragePooling1D",
    "GlobalAveragePooling2D": "GlobalMaxPooling2D", "GlobalMaxPooling2D": "GlobalAveragePooling2D",
    "GlobalAveragePooling1D": "GlobalMaxPooling1D",
})  # fmt: skip
_class("mean for sum", "axes", {"Mean": "Sum", "Sum": "Mean"})
_class("minimum for maximum", "axes", {"Maximum": "Minimum", "Minimum": "Maximum"})
_arguments(
    "concat order reversed",
    ("Concatenate",),
    lambda args: [args[0][::-1], *args[1:]] if isinstance(args[0], list) else None,
)
_arguments("operands exchanged", ("Subtract", "Divide", "TrueDivide", "Power", "Matmul"), lambda args: args[::-1])
_arguments(
    "constant off", ("Multiply", "Add", "Subtract", "Divide"),
    lambda args: [a * 1.25 + 0.25 if isinstance(a, float) else a for a in args],
)  # fmt: skip
_arguments(
    "residual dropped",
    ("Add",),
    lambda args: [[args[0][0], args[0][0]]] if isinstance(args[0], list) else [args[0], args[0]],
)
