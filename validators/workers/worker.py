"""The process that runs one model: `python -P -m isomorph.validators.workers.worker RUNNER MEMORY_LIMIT`.

It confines itself before it imports a framework: a limit on allocated data, no core dumps, no network where the kernel
permits it (Linux: a network namespace of its own), and it dies with its parent. A model is still run by its framework,
with the rights of the user: this is damage control, not a sandbox.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from isomorph.errors import IsomorphError
from isomorph.validators.localization.piece import PieceRunner, PieceWriter
from isomorph.validators.runner import Runner
from isomorph.validators.training.exercise import Exercise
from isomorph.validators.workers.protocol import Channel, Message, ProtocolError, tensors

__all__ = ["main", "serve"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Serve requests on standard input until it closes."""
    name, limit = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends this process
    channel = _own_standard_streams()
    settings = confine(int(limit))
    module = importlib.import_module(f"isomorph.validators.runners.{name.replace('.', '_')}")
    serve(channel, module.open_model, settings)
    return 0


def serve(channel: Channel, open_model: Callable[..., Runner], settings: dict[str, Any]) -> None:
    """Answer until the parent closes the pipe."""
    runner: Runner | None = None
    while True:
        try:
            request = channel.receive()
        except ProtocolError as error:
            if error.kind == "closed":
                return
            raise
        if request.kind == "close":
            return
        try:
            if request.kind == "open":
                body = request.body
                runner = open_model(body["model"], role=body["role"], device=body["device"])
                answer = _describe(runner, settings)
            elif runner is None:
                answer = Message("error", {"what": "no model is open", "because": None, "exception": "ValueError"})
            elif request.kind == "piece":
                answer = _run_piece(runner, request)
            elif request.kind == "cut":
                answer = _write_piece(runner, request)
            elif request.kind == "train":
                answer = _train(runner, request)
            else:
                answer = _run(runner, request)
        except Exception as error:  # every failure of a framework becomes an answer; the judge reports it
            answer = _describe_error(error)
        channel.send(answer)


def _describe(runner: Runner, settings: dict[str, Any]) -> Message:
    body = runner.signature().as_dict()
    body["environment"] = {**body["environment"], **settings}
    return Message("signature", body)


def _run(runner: Runner, request: Message) -> Message:
    result = runner.run(request.by_role("input"), taps=request.body["taps"], precision=request.body["precision"])
    return Message("result", {}, tensors(result.outputs, "output") + tensors(result.taps, "tap"))


def _run_piece(runner: Runner, request: Message) -> Message:
    if not isinstance(runner, PieceRunner):
        raise NotImplementedError("this runner cannot run a piece of a model")
    values = runner.run_piece(request.by_role("input"), request.body["wanted"])
    return Message("result", {}, tensors(values, "output"))


def _write_piece(runner: Runner, request: Message) -> Message:
    if not isinstance(runner, PieceWriter):
        raise NotImplementedError("this runner cannot write a piece of a model")
    written = runner.write_piece(request.by_role("input"), request.body["wanted"])
    body = {"inputs": dict(written.inputs), "size": written.size}
    return Message("cut", body, tensors({"piece": np.frombuffer(written.data, np.uint8)}, "file"))


def _train(runner: Runner, request: Message) -> Message:
    if not hasattr(runner, "train"):
        raise NotImplementedError("this runner cannot train: torch (.pt2, code, checkpoints) and keras can")
    body = request.body
    exercise = Exercise(body["steps"], body["rate"], body["momentum"], request.by_role("cotangent"))
    trained = runner.train(request.by_role("input"), exercise, precision=body["precision"])
    weights = [weight.as_dict() for weight in trained.weights]
    return Message("trained", {"weights": weights}, tensors(trained.arrays(), "value"))


def _describe_error(error: Exception) -> Message:
    if isinstance(error, MemoryError):
        return Message("error", {"what": "out of memory", "because": str(error) or None, "exception": "MemoryError"})
    if isinstance(error, IsomorphError):
        body = {"what": error.what, "because": error.because, "try": error.advice, "exception": type(error).__name__}
        return Message("error", body)
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    named = "" if isinstance(error, NotImplementedError) else f"{type(error).__name__}: "
    what = f"{named}{lines[0] if lines else 'no message'}"[:600]
    return Message(
        "error",
        {"what": what, "because": lines[-1][:400] if len(lines) > 1 else None, "exception": type(error).__name__},
    )


def _own_standard_streams() -> Channel:
    """Keep the pipes for the protocol; what a framework prints goes to standard error."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return Channel(read_fd, write_fd)


def confine(limit: int) -> dict[str, Any]:
    """Limit memory, forbid core dumps, cut the network. Returns what took effect, for the report."""
    settings: dict[str, Any] = {"memory_limit": None, "network": "not confined"}
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        settings["memory_limit"] = limit
    except (ImportError, ValueError, OSError):
        settings["memory_limit"] = None
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
            settings["network"] = "none (own namespace)"
    return settings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
