"""What becomes of damaged ONNX files: each is converted in a worker process, watched from outside.

Reading and writing must end in a model or in a typed error, within five seconds and in memory bounded by the file's
size; nothing else may happen. A worker that dies or hangs is replaced, and the file counts as a failure.

python tests/mutated_files.py --files 20000 --seed 1 --workers 2    # an hour on a slow machine
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnx_mutations import Mutant, mutant

__all__ = ["MEGABYTES", "SECONDS", "Result", "attempt", "judge", "trials"]

SECONDS = 5.0
"""Processor time that a file may take."""
MEGABYTES = 64
"""Memory that a conversion may take in any case, beside a multiple of the file's size."""
_PER_BYTE = 64
_ADDRESS_SPACE = 4 << 30
_PATIENCE = 300.0
"""Seconds without a word from a worker; starting one takes its time on a busy machine."""


@dataclass(frozen=True, slots=True)
class Result:
    """One file: "model", the name of a typed error, or what must not be: "crash", "hang", another exception's name."""

    index: int
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    kilobytes: int = 0
    size: int = 0

    @property
    def failure(self) -> str:
        """What is wrong, "" if nothing is."""
        if self.outcome not in _TYPED:
            return f"{self.outcome}: {self.detail}"
        if self.seconds > SECONDS:
            return f"{self.seconds:.1f} s"
        allowed = MEGABYTES * 1024 + _PER_BYTE * self.size // 1024
        return f"{self.kilobytes} kB for a file of {self.size} bytes" if self.kilobytes > allowed else ""


_TYPED = ("model", "MalformedError", "UnsafeError", "UnsupportedError", "UsageError", "TargetExistsError")


def attempt(index: int, what: Mutant, folder: Path) -> Result:
    """Convert a damaged file to ONNX."""
    from isomorph.converters.convert import load, save
    from isomorph.errors import IsomorphError

    path = folder / "mutant.onnx"
    path.write_bytes(what.data)
    for name, content in what.original.beside:
        (folder / name).write_bytes(content)
    _forget_peak()
    before, began = _peak(), time.process_time()
    outcome, detail = "model", ""
    try:
        save(load(path, format="onnx"), folder / "written.onnx", force=True)
    except IsomorphError as error:
        outcome, detail = type(error).__name__, error.what
    except Exception as error:
        outcome, detail = type(error).__name__, "".join(traceback.format_exception(error)[-4:])
    return Result(index, outcome, detail, time.process_time() - began, _peak() - before, len(what.data))


def _forget_peak() -> None:
    """Let the kernel measure the largest resident set anew, where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The largest resident set since then, in kB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(seed: int, indices: Sequence[int]) -> None:
    """A worker: a line when a file begins and one with its result."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        for index in indices:
            print(json.dumps({"begins": index}), flush=True)
            print(json.dumps(asdict(attempt(index, mutant(seed, index), Path(folder)))), flush=True)


def trials(seed: int, files: range, step: int = 1) -> Iterator[Result]:
    """The results of files in worker processes, one after the other, with a new worker after each that is lost."""
    position = files.start
    while position < files.stop:
        command = [sys.executable, __file__, "--seed", str(seed), "--work", f"{position}:{files.stop}:{step}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
            current = position
            for line in _lines(worker):
                said = json.loads(line)
                if "begins" in said:
                    current = said["begins"]
                    continue
                yield Result(**said)
                current = position = said["index"] + step
            if current >= files.stop:
                return
            hung = worker.poll() is None
            worker.kill()
            _, errors = worker.communicate()
        detail = f"no answer in {_PATIENCE:.0f} s" if hung else f"exit {worker.returncode}: {errors[-500:]}"
        yield Result(current, "hang" if hung else "crash", detail)
        position = current + step


def _lines(worker: subprocess.Popen[str]) -> Iterator[str]:
    """Lines of a worker until it ends or says nothing for too long."""
    assert worker.stdout is not None
    pending = b""
    while select.select([worker.stdout], [], [], _PATIENCE)[0]:
        piece = os.read(worker.stdout.fileno(), 1 << 16)
        if not piece:
            worker.wait()
            return
        *lines, pending = (pending + piece).split(b"\n")
        yield from (line.decode() for line in lines)


def judge(seed: int, count: int, workers: int) -> list[Result]:
    """All results, by number; the workers take the files in turn."""

    def share(first: int) -> list[Result]:
        found = []
        for result in trials(seed, range(first, count), workers):
            found.append(result)
            if result.failure:
                print(f"{result.index}: {result.failure}", flush=True)
        return found

    with ThreadPoolExecutor(workers) as pool:
        return sorted((each for part in pool.map(share, range(workers)) for each in part), key=lambda each: each.index)


def report(results: Sequence[Result], seed: int) -> dict[str, Any]:
    """Counts of what the files came to, and the largest times and sizes."""
    return {
        "files": len(results),
        "seed": seed,
        "outcomes": dict(Counter(each.outcome for each in results).most_common()),
        "longest": round(max(each.seconds for each in results), 2),
        "median": round(sorted(each.seconds for each in results)[len(results) // 2], 4),
        "most megabytes": round(max(each.kilobytes for each in results) / 1024, 1),
        "failures": {each.index: each.failure for each in results if each.failure},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        start, stop, step = map(int, given.work.split(":"))
        work(given.seed, range(start, stop, step))
    else:
        print(json.dumps(report(judge(given.seed, given.files, given.workers), given.seed), indent=1))
