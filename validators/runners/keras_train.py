"""Training steps of a Keras model (training/exercise.py), on the tensorflow, jax or torch backend.

Its weights are put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from isomorph.validators.training.exercise import Arrays, Exercise, Trained, Weight, descend

__all__ = ["train"]

_RATES = ("rate", "dropout", "recurrent_dropout", "stddev", "_dropout")
_RANDOM = ("Dropout", "Noise", "RNN", "LSTM", "GRU", "MultiHeadAttention", "GroupedQueryAttention")


def train(model: Any, network: Any, feeds: list[Any], names: list[str], exercise: Exercise) -> Trained:
    """Train `model` through `network`, a Functional model with flat lists at both ends.

    names  of the outputs
    """
    _without_dropout(model)
    weights, variables = _weights(model)
    begun = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]

    def read() -> dict[str, np.ndarray]:
        return {name: np.array(keras.ops.convert_to_numpy(v)) for name, v in variables.items()}

    def assign(values: Arrays) -> None:
        for name, array in values.items():
            variables[name].assign(array)

    cotangents = {name: keras.ops.convert_to_tensor(np.asarray(c)) for name, c in exercise.cotangents.items()}

    def loss_of(values: Any) -> Any:
        listed = values if isinstance(values, (list, tuple)) else [values]
        terms = []
        for name, value in zip(names, listed, strict=True):
            if name in cotangents:
                count = int(np.prod(value.shape))
                terms.append(keras.ops.sum(keras.ops.cast(cotangents[name], value.dtype) * value) / count)
        return sum(terms[1:], terms[0])

    learned = {weight.name: variables[weight.name] for weight in weights if weight.trainable}
    gradient = {"tensorflow": _by_tape, "torch": _by_autograd, "jax": _by_transform}[keras.backend.backend()]
    try:
        return descend(exercise, weights, read, assign, lambda: gradient(network, feeds, loss_of, learned))
    finally:
        for variable, value in zip(model.variables, begun, strict=True):
            variable.assign(value)


def _by_tape(network: Any, feeds: list[Any], loss_of: Any, learned: Mapping[str, Any]) -> tuple[float, Arrays]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(network(feeds, training=True))
    found = tape.gradient(loss, [variable.value for variable in learned.values()])
    return float(loss), _dense(dict(zip(learned, found, strict=True)), tf.convert_to_tensor)


def _by_autograd(network: Any, feeds: list[Any], loss_of: Any, learned: Mapping[str, Any]) -> tuple[float, Arrays]:
    for variable in learned.values():
        variable.value.grad = None
    loss = loss_of(network(feeds, training=True))
    loss.backward()
    found = {name: variable.value.grad for name, variable in learned.items()}
    return float(loss.detach()), _dense(found, lambda value: value.detach())


def _by_transform(network: Any, feeds: list[Any], loss_of: Any, learned: Mapping[str, Any]) -> tuple[float, Arrays]:
    import jax

    trainable, others = list(network.trainable_variables), list(network.non_trainable_variables)

    def loss(values: Any, rest: Any) -> Any:
        outputs, rest = network.stateless_call(values, rest, feeds, training=True)
        return loss_of(outputs), rest

    values, rest = [v.value for v in trainable], [v.value for v in others]
    (amount, rest), found = jax.value_and_grad(loss, has_aux=True)(values, rest)
    for variable, value in zip(others, rest, strict=True):
        variable.assign(value)
    by_variable = {id(variable): value for variable, value in zip(trainable, found, strict=True)}
    return float(amount), _dense({name: by_variable.get(id(v)) for name, v in learned.items()}, np.asarray)


def _dense(found: Mapping[str, Any], densify: Any) -> dict[str, np.ndarray]:
    """Gradients as arrays (sparse ones of tables filled up), without those of what the loss does not depend on."""
    return {
        name: np.array(keras.ops.convert_to_numpy(densify(value))) for name, value in found.items() if value is not None
    }


def _layers(model: Any) -> Iterator[Any]:
    yield from model._flatten_layers(include_self=False, recursive=True)


def _without_dropout(model: Any) -> None:
    for layer in _layers(model):
        if any(kind in type(layer).__name__ for kind in _RANDOM):
            for rate in _RATES:
                computed = isinstance(getattr(type(layer), rate, None), property)  # the cell, a layer, too, has it
                if not computed and isinstance(getattr(layer, rate, None), float):
                    setattr(layer, rate, 0.0)


def _weights(model: Any) -> tuple[list[Weight], dict[str, Any]]:
    """Float variables in the order of the model, by their paths; a second variable of one path gets a number."""
    learned = {id(variable) for variable in model.trainable_variables}
    places: dict[int, tuple[str, int]] = {}
    for layer in model.layers:
        for place, variable in enumerate(layer.weights):
            places.setdefault(id(variable), (layer.name, place))
    parameters = {id(v) for layer in [*_layers(model)] for v in getattr(layer, "_trainable_variables", ())}
    weights: list[Weight] = []
    variables: dict[str, Any] = {}
    for variable in model.weights:
        if "float" not in keras.backend.standardize_dtype(variable.dtype):
            continue
        name = variable.path
        if name in variables:
            name = f"{name} ({len(variables)})"
        layer, place = places.get(id(variable), ("", 0))
        kind = "parameter" if id(variable) in parameters else "buffer"
        weights.append(Weight((name,), id(variable) in learned, layer, place, kind))
        variables[name] = variable
    return weights, variables
