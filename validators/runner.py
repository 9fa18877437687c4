"""What the judge asks of a framework (`Runner`), and how it asks: in a worker process (`Worker`).

A model to be judged is described, never loaded, on the judge's side: `ModelFile` or `Capture`. The framework runs in a
process of its own (`python -P -m isomorph.validators.worker`), because frameworks disturb each other (tensorflow
followed by torch.export in one process is a SIGSEGV), crash, hang and leak. Whatever happens to a worker becomes a
`RunnerError`.

This file imports no framework.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from isomorph.converters.formats import by_name
from isomorph.errors import RunnerError, UsageError
from isomorph.validators.protocol import Channel, Message, ProtocolError, tensors

__all__ = [
    "Capture", "ModelFile", "Result", "Runner", "Signature", "Subject", "TensorSpec", "Weights", "Worker",
    "runner_name",
]  # fmt: skip

Arrays: TypeAlias = Mapping[str, np.ndarray]

NATIVE = "native"
FLOAT64 = "float64"
LINEAR = "/linear"
"""Suffix of a tap: the value of a Keras layer before the layer's own activation."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model in a file; `format` is its name in the table of formats ("onnx", "pt2", "keras", "h5").

    inputs  (name, sizes, element type or None) of inputs that the file itself does not describe (TorchScript)
    """

    path: Path
    format: str
    inputs: tuple[tuple[str, tuple[int | str, ...], str | None], ...] = ()

    def __str__(self) -> str:
        return str(self.path)


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
        bounds = entry.get("bounds")
        return cls(entry["name"], entry["dtype"], tuple(entry["shape"]), (bounds[0], bounds[1]) if bounds else None)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives, as its own framework says.

    dims         ranges of the named dimensions: name -> (min, max); max None means unbounded
    parameters   number of weight elements; the cost estimate of the inputs plan rests on it
    environment  versions and determinism settings, for the report
    notes        what the reader of the report should know ("in training mode")
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    parameters: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "inputs": [spec.as_dict() for spec in self.inputs],
            "outputs": [spec.as_dict() for spec in self.outputs],
            "dims": {name: list(bounds) for name, bounds in sorted(self.dims.items())},
            "parameters": self.parameters,
            "environment": dict(self.environment),
            "notes": list(self.notes),
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Signature:
        return cls(
            tuple(TensorSpec.of(entry) for entry in body["inputs"]),
            tuple(TensorSpec.of(entry) for entry in body["outputs"]),
            {name: (bounds[0], bounds[1]) for name, bounds in body["dims"].items()},
            int(body["parameters"]),
            dict(body["environment"]),
            tuple(body["notes"]),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """Outputs by name in the model's order, and the intermediate values that were asked for and found."""

    outputs: dict[str, np.ndarray]
    taps: dict[str, np.ndarray] = field(default_factory=dict)


class Runner(Protocol):
    """One model in one framework. Implemented in runners/ (inside the worker) and by `Worker` (from outside)."""

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


def _described(subject: Subject) -> dict[str, Any]:
    """The subject as the worker is told it."""
    if isinstance(subject, ModelFile):
        return {
            "kind": "file",
            "path": str(Path(subject.path).absolute()),
            "format": subject.format,
            "inputs": _listed(subject.inputs),
        }
    if subject.weights is None:
        return {"kind": "capture", "reference": subject.reference}
    weights = {
        "path": str(subject.weights.path.absolute()),
        "architecture": subject.weights.architecture,
        "prefix": subject.weights.prefix,
        "inputs": _listed(subject.weights.inputs),
    }
    return {"kind": "capture", "reference": subject.reference, "weights": weights}


def _listed(inputs: Sequence[tuple[str, tuple[int | str, ...], str | None]]) -> list[list[Any]]:
    return [[name, list(shape), dtype] for name, shape, dtype in inputs]


class Worker:
    """A runner in a process of its own; a context manager. See protocol.py for what is said.

    role         "reference" (graph optimizations off: the model as it is written) or "target" (as its users run it)
    timeout      seconds that one request may take
    memory       bytes of data the process may allocate (RLIMIT_DATA), by default 80 % of the machine's memory
    interpreter  the Python that runs it
    """

    def __init__(
        self,
        subject: Subject,
        *,
        role: str,
        timeout: float = 600.0,
        memory: int | None = None,
        interpreter: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.subject = subject
        self.name = runner_name(subject)
        self._timeout = timeout
        self._signature: Signature | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        limit = memory if memory is not None else _machine_memory() * 4 // 5
        command = [interpreter, "-P", "-m", "isomorph.validators.worker", self.name, str(limit)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **_SETTINGS, **(environment or {})},
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RunnerError("the worker has no pipes", runner=self.name)
        self._channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno())
        self._ask_to_open(role)

    def _ask_to_open(self, role: str) -> None:
        # Only sent, not awaited: both workers import their frameworks at the same time.
        described = _described(self.subject)
        try:
            self._channel.send(Message("open", {"model": described, "role": role}), timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error

    def signature(self) -> Signature:
        if self._signature is None:
            self._signature = Signature.of(self._answer("signature").body)
        return self._signature

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        self.signature()
        request = Message("run", {"precision": precision, "taps": list(taps)}, tensors(inputs, "input"))
        try:
            self._channel.send(request, timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error
        answer = self._answer("result")
        return Result(answer.by_role("output"), answer.by_role("tap"))

    def _answer(self, kind: str) -> Message:
        try:
            message = self._channel.receive(timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error
        if message.kind == "error":
            body = message.body
            if body.get("exception") == "NotImplementedError":
                raise NotImplementedError(str(body.get("what")))
            raise RunnerError(
                f"{self.name} could not run the model: {body.get('what')}",
                runner=self.name,
                at=str(self.subject),
                because=body.get("because"),
            )
        if message.kind != kind:
            raise self._failure(ProtocolError(f"answered `{message.kind}` where `{kind}` was due", kind="garbage"))
        return message

    def _failure(self, error: ProtocolError) -> RunnerError:
        """What happened to the process, in one line, with the last line it printed as evidence."""
        if error.kind == "closed":
            try:
                code = self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                code = 0
            what = f"the {self.name} process {_ending(code)}"
        elif error.kind == "timeout":
            what = f"the {self.name} process did not answer within {self._timeout:g} s"
        else:
            what = f"the {self.name} process {error.what}"
        last = self._last_line()
        self.close()
        return RunnerError(what, runner=self.name, at=str(self.subject), because=last)

    def _last_line(self) -> str | None:
        if self._stderr.closed:
            return None
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:400] if lines else None

    def close(self) -> None:
        """End the process. Safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Set before a framework is imported: one thread, no oneDNN rewrites in TensorFlow, no accelerator, quiet logs.
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "NVIDIA_TF32_OVERRIDE": "0",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
}


def _ending(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {code} before it answered"


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 64 << 30
