"""A runner in a process of its own (`Worker`): started, confined, asked, and ended. Whatever happens to it is an error.

The process is one of three:

    here         `python -P -m isomorph.validators.workers.worker`, this interpreter and this isomorph
    elsewhere    another interpreter runs the folder guest/, which needs NumPy and the framework only
    a program    an executable of the user's that speaks the protocol itself (docs/runner-protocol.md)

An answer is not believed because it arrived: its tensors must be those that the signature promised.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomorph.errors import IsomorphError, RunnerError
from isomorph.ir import DType
from isomorph.validators.localization.piece import WrittenPiece
from isomorph.validators.runner import (
    NATIVE,
    PROGRAM,
    Arrays,
    ModelFile,
    Result,
    RunnerChoice,
    Signature,
    Subject,
    TensorSpec,
    runner_name,
)
from isomorph.validators.training.exercise import Exercise, Trained
from isomorph.validators.workers.protocol import Channel, Message, ProtocolError, tensors

if TYPE_CHECKING:
    from isomorph.validators.workers.onnx_guest import OnnxGuest

__all__ = ["TIMEOUT", "Worker"]

TIMEOUT = 600.0
"""Seconds that one request may take."""
_PIECE = "piece"
_TRAINING = "training"
_GUEST = Path(__file__).parents[1] / "guest"


class Worker:
    """A `Runner` over a pipe; a context manager. See protocol.py for what is said.

    role         "reference" (graph optimizations off: the model as it is written) or "target" (as its users run it)
    choice       which runner, in which interpreter, on which device; by default the format's own, here, on the CPU
    timeout      seconds that one request may take
    memory       bytes of data the process may allocate (RLIMIT_DATA), by default 80 % of the machine's memory
    environment  more environment variables
    """

    def __init__(
        self,
        subject: Subject,
        *,
        role: str,
        choice: RunnerChoice | None = None,
        timeout: float = TIMEOUT,
        memory: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.subject = subject
        self.role = role
        self.choice = choice or RunnerChoice()
        self.name = self.choice.name or runner_name(subject)
        self._timeout = timeout
        self._environment = environment
        self._signature: Signature | None = None
        self._broken: RunnerError | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._limit = memory if memory is not None else _machine_memory() * 4 // 5
        self._process = self._start({**_settings(self.choice), **(environment or {})})
        if self._process.stdin is None or self._process.stdout is None:
            raise RunnerError("the worker has no pipes", runner=self.name)
        self._channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno())
        self._ask_to_open(role)

    def reopen(self, subject: ModelFile) -> None:
        """Let the same process run another file of the same format."""
        if self._broken is not None:
            raise self._broken
        self.signature()
        self.subject, self._signature = subject, None
        self._ask_to_open(self.role)

    @cached_property
    def _second(self) -> OnnxGuest | None:
        """Who is asked for values inside an ONNX model in another interpreter, where this process knows its outputs."""
        if not self.choice.elsewhere or not isinstance(self.subject, ModelFile) or self.subject.format != "onnx":
            return None
        from isomorph.validators.workers.onnx_guest import OnnxGuest

        def start(subject: ModelFile) -> Worker:
            limits: dict[str, Any] = {"timeout": self._timeout, "memory": self._limit, "environment": self._environment}
            return Worker(subject, role=self.role, choice=self.choice, **limits)

        return OnnxGuest(Path(self.subject.path), start, again=self.name != PROGRAM)

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        inherited = dict(os.environ)
        if self.choice.elsewhere:  # what is meant for this interpreter's packages would break another's
            inherited = {name: value for name, value in inherited.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            process = subprocess.Popen(
                _command(self.name, self.choice, self._limit),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**inherited, **environment},
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            what = f"cannot start {self.choice.python}: {error.strerror}"
            raise RunnerError(what, runner=self.name, advice="give --runner the path of an executable") from error
        _limit_memory(process.pid, self._limit)
        return process

    def _ask_to_open(self, role: str) -> None:
        # Only sent, not awaited: both workers import their frameworks at the same time.
        body = {"model": _described(self.subject), "role": role, "device": self.choice.device}
        try:
            self._channel.send(Message("open", body), timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error

    def signature(self) -> Signature:
        if self._signature is None:
            body = self._answer("signature", NATIVE).body
            try:
                self._signature = Signature.of(body)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, IsomorphError) as error:
                reason = f"answered with a signature that cannot be read: {type(error).__name__} {error}"
                raise self._failure(ProtocolError(reason, kind="garbage")) from error
        return self._signature

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        signature = self.signature()
        if self._broken is not None:
            raise self._broken
        request = Message("run", {"precision": precision, "taps": list(taps)}, tensors(inputs, "input"))
        try:
            self._channel.send(request, timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error
        answer = self._answer("result", precision)
        result = Result(answer.by_role("output"), answer.by_role("tap"))
        if taps and not result.taps and precision == NATIVE and self._second is not None:
            result.taps.update(self._second.taps(inputs, taps))
        wrong = _contradiction(signature.outputs, result.outputs, precision, strict=self.choice.elsewhere)
        if wrong is not None:
            raise self._failure(ProtocolError(wrong, kind="garbage"))
        return result

    def run_piece(self, feeds: Arrays, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """Values of the target, computed from others of its values (localization/forced.py). Raises NotImplementedError
        if its runner cannot."""
        if self._second is not None:
            return self._second.run_piece(feeds, wanted)
        values = self._ask_for_piece("piece", feeds, list(wanted), "result").by_role("output")
        if list(values) != list(wanted):
            raise self._failure(ProtocolError(f"answered with {list(values)}", kind="garbage"))
        return values

    def write_piece(self, feeds: Arrays, wanted: str) -> WrittenPiece:
        """The piece that `run_piece` runs for this value, as a file of the target's format. Raises NotImplementedError
        if its runner cannot."""
        answer = self._ask_for_piece("cut", feeds, wanted, "cut")
        try:
            inputs = {str(fed): str(name) for fed, name in answer.body["inputs"].items()}
            return WrittenPiece(answer.by_role("file")["piece"].tobytes(), inputs, int(answer.body["size"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._failure(ProtocolError(f"answered without {error}", kind="garbage")) from error

    def _ask_for_piece(self, kind: str, feeds: Arrays, wanted: str | list[str], due: str) -> Message:
        self.signature()
        if self._broken is not None:
            raise self._broken
        if self.choice.elsewhere:
            raise NotImplementedError(f"{self.name} in another interpreter runs no piece of a model")
        try:
            self._channel.send(Message(kind, {"wanted": wanted}, tensors(feeds, "input")), timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error
        return self._answer(due, _PIECE)

    def train(self, inputs: Arrays, exercise: Exercise, *, precision: str = NATIVE) -> Trained:
        """Some steps of training (training/exercise.py), from the weights of the file each time. Raises
        NotImplementedError if the runner cannot."""
        self.signature()
        if self._broken is not None:
            raise self._broken
        if self.choice.elsewhere:
            raise NotImplementedError("a runner elsewhere is not asked to train")
        asked = {**exercise.settings(), "precision": precision}
        sent = tensors(inputs, "input") + tensors(exercise.cotangents, "cotangent")
        try:
            self._channel.send(Message("train", asked, sent), timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error
        answer = self._answer("trained", _TRAINING)
        try:
            return Trained.of(answer.body["weights"], answer.by_role("value"), exercise.steps)
        except (KeyError, TypeError, ValueError) as error:
            raise self._failure(ProtocolError(f"answered without {error}", kind="garbage")) from error

    def _answer(self, kind: str, precision: str) -> Message:
        if self._broken is not None:
            raise self._broken
        try:
            message = self._channel.receive(timeout=self._timeout)
        except ProtocolError as error:
            raise self._failure(error) from error
        if message.kind == "error":
            body = message.body
            if body.get("exception") == "NotImplementedError" and precision != NATIVE:
                raise NotImplementedError(str(body.get("what")))
            raise RunnerError(
                f"{self.name} could not run the model: {body.get('what')}",
                runner=self.name,
                at=self._where(),
                because=_text(body.get("because")),
                advice=_text(body.get("try")),
            )
        if message.kind != kind:
            raise self._failure(ProtocolError(f"answered `{message.kind}` where `{kind}` was due", kind="garbage"))
        return message

    def _failure(self, error: ProtocolError) -> RunnerError:
        """What happened to the process, in one line, with the last line it printed as evidence. It is ended, and every
        later question gets the same answer."""
        advice = None
        if error.kind == "closed":
            try:
                code = self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                code = 0
            what = f"the {self.name} process {_ending(code)}"
        elif error.kind == "timeout":
            what = f"the {self.name} process did not answer within {self._timeout:g} s"
            advice = "give it longer with --timeout SECONDS"
        else:
            what = f"the {self.name} process {error.what}"
        last = self._last_line()
        self.close()
        self._broken = RunnerError(
            what, runner=self.name, at=self._where(), because=last, advice=_missing(last) or advice, fatal=True
        )
        return self._broken

    def _where(self) -> str:
        python = self.choice.python
        return f"{self.subject} ({python})" if python else str(self.subject)

    def _last_line(self) -> str | None:
        if self._stderr.closed:
            return None
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:400] if lines else None

    def close(self) -> None:
        """End the process and what it started. Safe to call twice."""
        second = self.__dict__.get("_second")
        if second is not None:
            second.close()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _limit_memory(pid: int, limit: int) -> None:
    """From outside, where the system permits: a program of the user's does not limit itself."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))


def _command(name: str, choice: RunnerChoice, limit: int) -> list[str]:
    if name == PROGRAM and choice.python is not None:
        return [choice.python]
    if choice.python is not None:
        return [choice.python, str(_GUEST), name, str(limit)]
    return [sys.executable, "-P", "-m", "isomorph.validators.workers.worker", name, str(limit)]


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


def _contradiction(specs: Sequence[TensorSpec], outputs: Arrays, precision: str, *, strict: bool) -> str | None:
    """How the outputs break what the signature promised, in words; None if they do not.

    Sizes are held against a runner of another hand only (`strict`): a model may state sizes that it does not keep, and
    what its framework then gives is the model's own.
    """
    names = [spec.name for spec in specs]
    if list(outputs) != names:
        return f"answered with the outputs {list(outputs)} where its signature has {names}"
    for spec in specs:
        array = outputs[spec.name]
        dtype = DType.of(array.dtype)
        if precision == NATIVE and dtype is not DType.of(spec.dtype):
            return f"answered with {dtype.value} for `{spec.name}` where its signature has {spec.dtype}"
        fits = array.ndim == len(spec.shape) and all(
            isinstance(due, str) or due == have for due, have in zip(spec.shape, array.shape, strict=True)
        )
        if strict and not fits:
            have, due = list(array.shape), list(spec.shape)
            return f"answered with the shape {have} for `{spec.name}` where its signature has {due}"
    return None


# Set before a framework is imported: one thread, no oneDNN rewrites in TensorFlow, no TF32, quiet logs.
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
}
_NO_ACCELERATOR = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def _settings(choice: RunnerChoice) -> dict[str, str]:
    settings = dict(_SETTINGS)
    if choice.device == "cpu":
        settings.update(_NO_ACCELERATOR)
    if choice.backend:
        settings["KERAS_BACKEND"] = choice.backend
    return settings


def _missing(line: str | None) -> str | None:
    """What to install, where the last line of a process says that a module is missing."""
    marker = "ModuleNotFoundError: No module named "
    if line is None or marker not in line:
        return None
    module = line.partition(marker)[2].strip().strip("'\"").partition(".")[0]
    return f"install {module} in the interpreter that runs it"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


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
