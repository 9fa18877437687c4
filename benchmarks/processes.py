"""Run a command on one CPU and measure it: wall time, peak memory, what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["ONE_THREAD", "Measurement", "measure", "python"]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """seconds of wall time, peak resident memory in MB (of the process or its largest child), exit code, output.

    processor   seconds of processor time, of the process and its children, which a busy machine does not lengthen
    """

    seconds: float
    megabytes: float
    code: int
    output: str
    errors: str
    processor: float = 0.0

    def check(self) -> Measurement:
        """Itself; raises RuntimeError if the command failed."""
        if self.code != 0:
            raise RuntimeError(f"exit code {self.code}\n{self.output}\n{self.errors[-4000:]}")
        return self


def python(*arguments: str | Path) -> list[str]:
    """The command that runs this interpreter, without the working directory on its path."""
    return [sys.executable, "-P", *map(str, arguments)]


def measure(
    command: Sequence[str], *, folder: Path, cpu: int | None = 0, settings: Mapping[str, str] | None = None
) -> Measurement:
    """Run to the end. `cpu` None leaves the choice of CPUs to the system."""
    environment = {**os.environ, **ONE_THREAD, **(settings or {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode, too
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        with _pinned(cpu):
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [_content(file) for file in (output, errors)]
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    processor, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * bytes_per_unit / 1e6
    return Measurement(seconds, megabytes, process.returncode, *texts, processor)


@contextmanager
def _pinned(cpu: int | None) -> Iterator[None]:
    """Processes started within inherit this one CPU."""
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
