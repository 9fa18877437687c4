"""Run a function in a forked child, with a time-out and a memory limit. What it returns comes back as JSON.

The parent has imported the frameworks, the child finds them warm: an entry of a sweep costs no import, and may crash,
hang, leak or be killed without harm to the next.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["forked", "peak_megabytes", "reset_peak", "resident_megabytes"]

PERIOD = 0.1
PR_SET_PDEATHSIG = 1


def forked(function: Callable[[], dict[str, Any]], *, seconds: float, megabytes: float) -> dict[str, Any]:
    """The function's dict, or {"crash": why} if it raised, was killed, took too long or too much memory."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(function, writing, parent)
    os.close(writing)
    reason, text = _wait(child, reading, time.monotonic() + seconds, megabytes)
    os.close(reading)
    if reason:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not reason and text:
        answer: dict[str, Any] = json.loads(text)
        return answer
    code = os.waitstatus_to_exitcode(status)
    return {"crash": reason or (signal.Signals(-code).name if code < 0 else f"exit code {code}")}


def _answer(function: Callable[[], dict[str, Any]], writing: int, parent: int) -> None:
    """The child's life; it never returns."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        try:
            answer = function()
        except Exception as error:
            traceback.print_exc()
            answer = {"crash": f"{type(error).__name__}: {error}"[:600]}
        with os.fdopen(writing, "w") as stream:
            json.dump(answer, stream)
        sys.stderr.flush()
    finally:
        os._exit(0)


def _wait(child: int, reading: int, deadline: float, megabytes: float) -> tuple[str, str]:
    """(why the child must be killed or "", what it wrote)."""
    chunks = []
    while True:
        ready, _, _ = select.select([reading], [], [], PERIOD)
        if ready:
            chunk = os.read(reading, 1 << 16)
            if not chunk:
                return "", b"".join(chunks).decode()
            chunks.append(chunk)
        elif time.monotonic() > deadline:
            return "timed out", ""
        elif resident_megabytes(child) > megabytes:
            return f"took more than {megabytes:.0f} MB", ""


def resident_megabytes(process: int | str = "self") -> float:
    """Resident memory now; 0 where the system does not say."""
    return _status(process, "VmRSS:")


def peak_megabytes() -> float:
    """The largest resident memory since `reset_peak`."""
    return _status("self", "VmHWM:")


def reset_peak() -> None:
    """Begin a new measurement of the peak (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status(process: int | str, field: str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)
