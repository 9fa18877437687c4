"""Convert whole collections of PyTorch models and judge each: torchvision, timm, transformers.

    python benchmarks/torch_sweep.py --results FILE [--only PATTERN]... [--family PATTERN] [--sample N] [--peer]

Each model runs in a forked child of one warm parent, static and with symbolic sizes; each run appends one line of JSON
to FILE. What FILE has is not run again, unless `--again` says so. `sweep_table.py` renders FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

from processes import ONE_THREAD

os.environ.update(ONE_THREAD, HF_HUB_OFFLINE="1")
COLLECTIONS = ("torchvision", "transformers", "timm")


def main() -> int:
    options = _options()
    entries = [each for each in _entries(options) if each.millions <= options.largest]
    done = _known(options.results, options.again, options.peer)
    jobs = [(entry, shapes) for entry in entries for shapes in options.shapes if (entry.name, shapes) not in done]
    if options.sample:
        jobs = jobs[:: max(1, len(jobs) // options.sample)][: options.sample]
    print(f"{len(jobs)} runs, {len(done)} known", file=sys.stderr)
    commit = _commit()
    log = Path(options.results).with_suffix(".log")
    for entry, shapes in jobs:
        began = time.perf_counter()
        result = _run(entry, shapes, options, log)
        line = {"name": entry.name, "family": entry.family, "shapes": shapes, "commit": commit} | result
        line["seconds"] = round(time.perf_counter() - began, 2)
        with options.results.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(f"{entry.name:48} {shapes:8} {line['seconds']:6.1f} s  {summary(line)}", flush=True)
    return 0


def summary(line: dict[str, Any]) -> str:
    """A result in one line."""
    from sweep_table import outcome

    state, reason = outcome(line)
    ours, peer = line.get("ours", {}), line.get("peer", {})
    counts = f"{ours.get('nodes', '-')}" + (f" / {peer.get('nodes', peer.get('error', '-'))}" if peer else "")
    return f"{state:14} {counts:>10}  {reason}"[:300]


def _run(entry: Any, shapes: str, options: argparse.Namespace, log: Path) -> dict[str, Any]:
    from isolation import forked
    from torch_trial import Limits, attempt

    limits = Limits(options.seconds, options.megabytes)

    def child() -> dict[str, Any]:
        _redirect(log)
        with tempfile.TemporaryDirectory() as folder:
            return attempt(entry, symbolic=shapes == "symbolic", folder=Path(folder), limits=limits, peer=options.peer)

    return forked(child, seconds=4 * options.seconds, megabytes=options.megabytes)


def _redirect(log: Path) -> None:
    """What frameworks print goes to a file beside the results."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _entries(options: argparse.Namespace) -> Iterator[Any]:
    import_module("onnxscript")

    for collection in COLLECTIONS:
        if collection not in options.collection:
            continue
        for entry in sorted(import_module(f"models.{collection}").ENTRIES, key=lambda each: each.millions):
            wanted = not options.only or any(fnmatch(entry.name, pattern) for pattern in options.only)
            if wanted and fnmatch(entry.family, f"*{options.family}*"):
                yield entry


def _known(path: Path, again: str | None, peer: bool) -> set[tuple[str, str]]:
    from sweep_table import latest, outcome

    if again == "all" or not path.exists():
        return set()
    lines = latest(path)
    if peer:
        lines = [line for line in lines if "peer" in line or "error" in line.get("export", {})]
    if again == "failed":
        lines = [line for line in lines if outcome(line)[0] == "EQUIVALENT"]
    return {(line["name"], line["shapes"]) for line in lines}


def _commit() -> str:
    """The revision of this file's tree; SWEEP_COMMIT names it for a copy without history."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return os.environ.get("SWEEP_COMMIT") or done.stdout.strip()


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, metavar="FILE", help="JSON lines, appended to")
    parser.add_argument("--collection", action="append", choices=COLLECTIONS, help="only this one (repeatable)")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="only names that match")
    parser.add_argument("--family", default="", metavar="PATTERN", help="only families with this in their name")
    parser.add_argument("--shapes", action="append", choices=["static", "symbolic"], help="by default both")
    parser.add_argument("--sample", type=int, metavar="N", help="only N runs, spread over all")
    parser.add_argument("--largest", type=float, default=1e9, metavar="M", help="skip models of more than M million")
    parser.add_argument("--peer", action="store_true", help="also torch.onnx.export(dynamo=True), and compare")
    parser.add_argument("--again", choices=["all", "failed"], help="run what has a result again")
    parser.add_argument("--seconds", type=float, default=300.0, help="time-out of each step (default 300)")
    parser.add_argument("--megabytes", type=float, default=12000.0, help="memory limit of each child (default 12000)")
    options = parser.parse_args(arguments)
    options.collection = options.collection or list(COLLECTIONS)
    options.shapes = options.shapes or ["static", "symbolic"]
    return options


if __name__ == "__main__":
    raise SystemExit(main())
