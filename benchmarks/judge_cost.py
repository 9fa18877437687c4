"""What judging costs: processor seconds and memory of `isomorph validate` on given pairs, workers included.

    python benchmarks/judge_cost.py resnet50.pt2 resnet50.onnx

Processor seconds do not depend on what else the machine does, wall seconds do. Memory is the largest resident set of
the judge and of each worker; the sum is an upper bound of what they hold at once. The weights are those of the source.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from isomorph.converters.formats import identify
from isomorph.validators import ModelFile, Worker
from isomorph.validators.trial import validate
from isomorph.validators.workers import process as processes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    peaks: dict[str, int] = {}
    close = Worker.close

    def watched(worker: Worker) -> None:
        status = Path(f"/proc/{worker._process.pid}/status")
        if status.exists() and worker._process.poll() is None:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            peaks[f"{worker.name} {worker.role}"] = int(lines["VmHWM"].split()[0]) * 1024
        close(worker)

    processes.Worker.close = watched  # type: ignore[method-assign]
    subjects = [ModelFile(path, identify(path).name) for path in (arguments.source, arguments.target)]
    begun = time.perf_counter()
    report = validate(subjects[0], subjects[1])
    wall = time.perf_counter() - begun
    here, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peaks["judge"] = here.ru_maxrss * 1024
    weights = report.signatures[0].parameters * 4
    found = {
        "verdict": report.verdict.value,
        "cases": len(report.cases),
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(sum(used.ru_utime + used.ru_stime for used in (here, children)), 1),
        "peak_bytes": peaks,
        "peak_sum": sum(peaks.values()),
        "weights": weights,
        "allowed": 3 * weights + 1_500_000_000,
    }
    print(json.dumps(found, indent=1))
    return int(report.exit_code)


if __name__ == "__main__":
    raise SystemExit(main())
