"""What the judge asks of a framework (`Runner`), and which one it asks (`RunnerChoice`).

A model to be judged is described, never loaded, on the judge's side: `ModelFile` or `Capture`. The framework runs in a
process of its own (workers/process.py), because frameworks disturb each other (tensorflow followed by torch.export in
one process is a SIGSEGV), crash, hang and leak. Whatever happens to a worker becomes a `RunnerError`.

This file imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from isomorph.converters.formats import by_name
from isomorph.errors import UsageError
from isomorph.ir import DType

__all__ = [
    "Capture", "ModelFile", "Result", "Runner", "RunnerChoice", "Signature", "Subject", "TensorSpec", "Weights",
    "runner_name",
]  # fmt: skip

Arrays: TypeAlias = Mapping[str, np.ndarray]

NATIVE = "native"
FLOAT64 = "float64"
LINEAR = "/linear"
"""Suffix of a tap: the value of a Keras layer before the layer's own activation."""
PROGRAM = "program"
"""The runner that is an executable of the user's."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model in a file; `format` is its name in the table of formats ("onnx", "pt2", "keras", "h5").

    inputs  (name, sizes, element type or None) of inputs that the file itself does not describe (TorchScript)
    given   what reports call it where that is not the path ("zoo:digits-cnn.onnx"; the path is the cache's)
    """

    path: Path
    format: str
    inputs: tuple[tuple[str, tuple[int | str, ...], str | None], ...] = ()
    given: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.given or str(self.path)


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint and what it is for: `architecture` is --arch, `prefix` is --prefix, `inputs` are as in ModelFile."""

    path: Path
    architecture: str
    prefix: str | None = None
    inputs: tuple[tuple[str, tuple[int | str, ...], str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Capture:
    """The user's own code: `reference` "MODULE:CALLABLE" returns an nn.Module, or (module, example arguments).

    weights  what the module's weights are replaced with
    """

    reference: str
    weights: Weights | None = None

    def __str__(self) -> str:
        return f"{self.weights.path} in {self.weights.architecture}" if self.weights else f"python:{self.reference}"


Subject: TypeAlias = ModelFile | Capture


@dataclass(frozen=True, slots=True)
class RunnerChoice:
    """Which runner runs a side, where, and on what.

    name     a name of runners/ ("onnxruntime", "torch", …) or "program"; None: the one of the format
    backend  of Keras: "tensorflow", "jax" or "torch"; None: KERAS_BACKEND, else what is installed
    python   another interpreter's path; with "program" the executable that speaks the protocol; None: this one
    device   "cpu", "cuda", "cuda:1", "mps", or what a provider of onnxruntime is called ("tensorrt", "openvino")
    """

    name: str | None = None
    backend: str | None = None
    python: str | None = None
    device: str = "cpu"

    @property
    def elsewhere(self) -> bool:
        """Whether the code that answers is not this installation's."""
        return self.python is not None

    def __str__(self) -> str:
        name = f"{self.name}:{self.backend}" if self.backend else self.name or "default"
        return "".join([name, f" in {self.python}" if self.python else "", f" on {self.device}"])


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    shape   sizes; a symbolic size is a name or an expression over names ("N", "2*H")
    bounds  inclusive range of the values of an integer input, where the model itself states it (rows of the table it
            indexes)
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    bounds: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        bounds = list(self.bounds) if self.bounds else None
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "bounds": bounds}

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> TensorSpec:
        """Raises KeyError, TypeError, ValueError or DTypeError for what is no description of a tensor."""
        bounds = entry.get("bounds")
        shape = tuple(entry["shape"])
        if not all(isinstance(size, str) or (type(size) is int and size >= 0) for size in shape):
            raise ValueError(f"the shape {list(shape)} of `{entry['name']}`")
        dtype = DType.of(str(entry["dtype"])).value
        return cls(str(entry["name"]), dtype, shape, (bounds[0], bounds[1]) if bounds else None)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives, as its own framework says.

    dims         ranges of the named dimensions: name -> (min, max); max None means unbounded
    parameters   number of weight elements; the cost estimate of the inputs plan rests on it
    environment  versions and determinism settings, for the report
    notes        what the reader of the report should know ("in training mode")
    assumes      conditions on the named dimensions (ir/conditions.py) under which alone the model is right
    ordered      whether its inputs and outputs have an order, or names alone (SavedModels)
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    parameters: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    assumes: tuple[str, ...] = ()
    ordered: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {
            "inputs": [spec.as_dict() for spec in self.inputs],
            "outputs": [spec.as_dict() for spec in self.outputs],
            "dims": {name: list(bounds) for name, bounds in sorted(self.dims.items())},
            "parameters": self.parameters,
            "environment": dict(self.environment),
            "notes": list(self.notes),
            "assumes": list(self.assumes),
            "ordered": self.ordered,
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Signature:
        """Raises KeyError, TypeError, ValueError, IndexError or DTypeError for what is no signature."""
        inputs, outputs = ([TensorSpec.of(entry) for entry in body[side]] for side in ("inputs", "outputs"))
        for specs in (inputs, outputs):
            names = [spec.name for spec in specs]
            if len(set(names)) < len(names):
                raise ValueError(f"a name stands twice in {names}")
        return cls(
            tuple(inputs),
            tuple(outputs),
            {name: (bounds[0], bounds[1]) for name, bounds in body["dims"].items()},
            int(body["parameters"]),
            dict(body["environment"]),
            tuple(body["notes"]),
            tuple(body.get("assumes", ())),
            bool(body.get("ordered", True)),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """Outputs by name in the model's order, and the intermediate values that were asked for and found."""

    outputs: dict[str, np.ndarray]
    taps: dict[str, np.ndarray] = field(default_factory=dict)


class Runner(Protocol):
    """One model in one framework. Implemented in runners/ (inside the worker) and by `process.Worker`."""

    def signature(self) -> Signature:
        """Names, dtypes and shapes of the inputs and outputs."""

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        """Run once. `precision` is "native" (as the model declares), "float64" (every float widened), or float64 with
        noise (`str(Noise(…))` of monte_carlo.py).

        taps   the framework's own names of intermediate values (fx nodes, ONNX values, Keras layers); unknown ones are
               left out
        Raises RunnerError if the framework refuses, NotImplementedError if this model has no such form.
        """


def runner_name(subject: Subject) -> str:
    """The runner that can run `subject`. Raises UsageError for a format that no runner knows."""
    if isinstance(subject, Capture):
        return "torch"
    known = by_name(subject.format).runner
    if known is None:
        raise UsageError(f"no runner can judge the format `{subject.format}`", at=str(subject.path))
    return known
