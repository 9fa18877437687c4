"""What the judge asks of a runner that can train (`Exercise`), and what it gets back (`Trained`).

All inputs stay the same for k steps. With fixed cotangents c_i for the float outputs y_i of n_i elements each,

    L      = Σ_i Σ_j c_ij y_ij / n_i
    g      = dL/dp                     of each trainable parameter p; of tied ones, which are one, the sum
    v     <- momentum · v + g          (v = 0 at first)
    p     <- p - rate · v

The framework computes y, L and g; the last two lines are NumPy in the type of the parameter, the same on both sides,
because no optimizer is judged. Dropout is off. Batch normalization uses the statistics of the batch and updates the
running ones as its own framework does.

This file imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Exercise", "Trained", "Weight", "descend"]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Exercise:
    """k steps of the above. `cotangents` are by the names of the runner's own outputs; float outputs without one do
    not count."""

    steps: int
    rate: float
    momentum: float
    cotangents: Arrays

    def settings(self) -> dict[str, Any]:
        return {"steps": self.steps, "rate": self.rate, "momentum": self.momentum}


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or a float buffer of a model, tied ones together.

    names      every name that it has ("emb.weight", "head.weight"), the first one for short
    trainable  whether an optimizer changes it
    layer      the layer that holds it, and its place among that layer's weights (Keras)
    kind       "parameter" or "buffer"
    """

    names: tuple[str, ...]
    trainable: bool
    layer: str = ""
    place: int = 0
    kind: str = "parameter"

    @property
    def name(self) -> str:
        return self.names[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "names": list(self.names), "trainable": self.trainable, "layer": self.layer, "place": self.place,
            "kind": self.kind,
        }  # fmt: skip

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Weight:
        """Raises KeyError or TypeError for what is no description of a weight."""
        names = tuple(str(name) for name in entry["names"])
        return cls(names, bool(entry["trainable"]), str(entry["layer"]), int(entry["place"]), str(entry["kind"]))


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights, and by their names what became of them.

    loss       (k,), before each step
    initial    every weight before the first step
    gradients  for each step, of each trainable parameter; zero where the loss does not depend on it
    final      every weight after the last step
    """

    weights: tuple[Weight, ...]
    loss: np.ndarray
    initial: Arrays
    gradients: Sequence[Arrays] = field(default=())
    final: Arrays = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by the name that it has in an answer of the protocol."""
        named = {"loss": self.loss}
        named |= {f"initial/{name}": array for name, array in self.initial.items()}
        named |= {f"final/{name}": array for name, array in self.final.items()}
        for step, gradients in enumerate(self.gradients):
            named |= {f"gradient {step}/{name}": array for name, array in gradients.items()}
        return named

    @classmethod
    def of(cls, weights: Sequence[Mapping[str, Any]], named: Arrays, steps: int) -> Trained:
        """The inverse. Raises KeyError, TypeError or ValueError for an answer that lacks something."""
        known = tuple(Weight.of(entry) for entry in weights)
        learned = [weight.name for weight in known if weight.trainable]
        return cls(
            known,
            named["loss"],
            {weight.name: named[f"initial/{weight.name}"] for weight in known},
            [{name: named[f"gradient {step}/{name}"] for name in learned} for step in range(steps)],
            {weight.name: named[f"final/{weight.name}"] for weight in known},
        )


def descend(
    exercise: Exercise,
    weights: Sequence[Weight],
    read: Callable[[], dict[str, np.ndarray]],
    assign: Callable[[Arrays], None],
    differentiate: Callable[[], tuple[float, Arrays]],
) -> Trained:
    """The steps, for a runner that can read and assign its weights and compute L and its gradients."""
    initial = read()
    velocity = {weight.name: np.zeros_like(initial[weight.name]) for weight in weights if weight.trainable}
    losses: list[float] = []
    gradients: list[Arrays] = []
    for _ in range(exercise.steps):
        loss, found = differentiate()
        current = read()
        complete = {name: found.get(name, np.zeros_like(current[name])) for name in velocity}
        updated = {}
        for name, gradient in complete.items():
            kind = current[name].dtype.type
            velocity[name] = kind(exercise.momentum) * velocity[name] + gradient
            updated[name] = current[name] - kind(exercise.rate) * velocity[name]
        assign(updated)
        losses.append(loss)
        gradients.append(complete)
    return Trained(tuple(weights), np.asarray(losses, np.float64), initial, gradients, read())
