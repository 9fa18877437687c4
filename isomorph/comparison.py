"""What is compared by `diff`: a model as read, in normal form, or its weights alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from isomorph.converters.convert import Inputs, Progress
from isomorph.converters.normal import normal_form
from isomorph.ir import Graph, Model, Parameter, TensorType, Value
from isomorph.ir.diff import Difference, diff_models
from isomorph.records import record
from isomorph.sources import Source

__all__ = ["Compared", "Form", "compare", "read"]

Form = Literal["auto", "written", "normal"]
"""Compare as read, in normal form, or "auto": in normal form if the formats differ."""


@record
class Compared:
    """One side. `form` says what of the model is left: "written", "normal", "weights"."""

    label: str
    model: Model
    form: str = "written"

    @property
    def weights_only(self) -> bool:
        return self.form == "weights"

    def normal(self) -> Compared:
        """The same in normal form."""
        return replace(self, model=normal_form(self.model), form="normal")

    def bare(self) -> Compared:
        """Its weights without a program, so that it can be compared with a checkpoint."""
        if self.weights_only:
            return self
        weights = [each for each in self.model.parameters().values() if each.role != "constant"]
        return replace(self, model=_weights_model(self.model.name, weights, self.model.source), form="weights")


def compare(
    a: Source | Model,
    b: Source | Model,
    *,
    form: Form = "auto",
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> Difference:
    """What differs from a to b; where one is a checkpoint, in weights alone. See `isomorph.diff`."""
    step = progress or (lambda _text: None)
    sides: list[Compared] = []
    for given in (a, b):
        step(f"reading {given.name if isinstance(given, Model) else given.given}")
        sides.append(read(given, inputs))
    first, second = sides
    if first.weights_only or second.weights_only:
        first, second = first.bare(), second.bare()
    elif form == "normal" or (form == "auto" and first.model.source[0] != second.model.source[0]):
        step("simplifying")
        first, second = first.normal(), second.normal()
    step("comparing")
    labels = first.label, second.label
    return diff_models(first.model, second.model, labels=labels, form=first.form, single=first.form == "normal")


def read(given: Source | Model, inputs: Inputs | None) -> Compared:
    """Read one side. A checkpoint gives its weights; tensors that share their elements are one parameter.

    Raises: UsageError, ModelError.
    """
    if isinstance(given, Model):
        return Compared(given.name or "model", given)
    if not given.holds_weights or given.architecture is not None:
        return Compared(given.given, given.model(inputs))
    from isomorph.converters.torch.files.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(given.file)
    found: dict[Any, Parameter] = {}
    for name, entry in checkpoint.entries.items():
        found.setdefault(entry.identity, Parameter(name, entry.data()))
    return Compared(given.given, _weights_model("", found.values(), ("checkpoint", checkpoint.layout)), "weights")


def _weights_model(name: str, weights: Iterable[Parameter], source: tuple[str, str]) -> Model:
    """A model of parameters and nothing else."""
    values = [
        Value(each.name, TensorType(each.data.dtype, each.data.shape), parameter=each)
        for each in dict.fromkeys(weights)
    ]
    return Model(Graph(name, parameters=values), source=source)
