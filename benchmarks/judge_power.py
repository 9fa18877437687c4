"""The judge's power: faults of all kinds in conversions of all kinds of models, and how many it finds.

    python benchmarks/judge_power.py --folder FOLDER --results FILE.jsonl [--model PATTERN]... [--fault PATTERN]...

Each kind of fault (judge/faults) is made once in each conversion (judge/models.py) that has a place for it. Whether it
changes the function is decided by judge/truth.py. Each mutant appends one line of JSON to FILE; what FILE has is not
run again. `judge_page.py` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zlib import crc32

from processes import ONE_THREAD

os.environ.update(ONE_THREAD, HF_HUB_OFFLINE="1")

import numpy as np
import onnx
import onnxruntime
from judge.faults import FAULTS, Edit, Fault
from judge.models import KINDS, Pair, make
from judge.rules import others
from judge.trials import Remembering, every_value, open_source
from judge.truth import IDENTICAL, Truth

from isomorph.errors import RunnerError
from isomorph.validators import ModelFile, Report, Verdict, judge
from isomorph.validators.inputs import plan
from isomorph.validators.runners.onnxruntime import OnnxRunner

SEEDS_OF_TRUTH = (4242, 90210)
SITES = 1
"""Places in one model in which a kind of fault is made, one at a time."""
COMMON = ("weights", "activations", "normalization", "axes")
"""Families whose kinds have places in nearly every model."""


_STATES = onnxruntime.capi.onnxruntime_pybind11_state
Refusal = (
    _STATES.Fail,
    _STATES.InvalidArgument,
    _STATES.InvalidGraph,
    _STATES.RuntimeException,
    _STATES.NotImplemented,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where models are made and kept")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--fault", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="kinds in each model (default: all)")
    options = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    done = set()
    if options.results.exists():
        lines = [json.loads(line) for line in options.results.read_text().splitlines()]
        done = {(line["model"], line["fault"]) for line in lines}
    for name in KINDS:
        kinds = [f for f in FAULTS.values() if not options.fault or any(fnmatch(f.name, p) for p in options.fault)]
        left = [each for each in kinds if (name, each.name) not in done]
        if not left or (options.model and not any(fnmatch(name, pattern) for pattern in options.model)):
            continue
        try:
            subject = _Subject(make(name, options.folder / "models"), options.folder)
        except Exception:
            traceback.print_exc()
            continue
        with options.results.open("a") as stream:
            for line in subject.lines(_sample(name, left, options.limit), clean=(name, "none") not in done):
                stream.write(json.dumps(_plain(line)) + "\n")
                stream.flush()
        subject.close()
    return 0


def _sample(model: str, kinds: Sequence[Fault], limit: int) -> list[Fault]:
    """The kinds in a seeded order: those that few models have a place for, then the common ones; with a limit, that
    many of the common ones."""
    shuffled = sorted(kinds, key=lambda kind: crc32(f"{model} {kind.name}".encode()))
    common = [kind for kind in shuffled if kind.family in COMMON]
    return [kind for kind in shuffled if kind.family not in COMMON] + common[: limit or None]


class _Subject:
    """One model: its source, its clean conversion, its truth."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.runner = open_source(pair)
        self.source = Remembering(self.runner)
        self.file = folder / f"mutant-{os.getpid()}.onnx"
        clean = OnnxRunner(pair.target, role="target")
        signature = clean.signature()
        cases = [case for seed in SEEDS_OF_TRUTH for case in plan(signature, seed)]
        cases = [
            each for pair_ in zip(cases[: len(cases) // 2], cases[len(cases) // 2 :], strict=True) for each in pair_
        ]
        self.inputs = [case.inputs for case in cases]
        self.truth = Truth(pair.target, self.inputs, [clean.run(each).outputs for each in self.inputs])
        self.values = every_value(pair.target, self.inputs[0])

    def close(self) -> None:
        if hasattr(self.runner, "close"):
            self.runner.close()
        self.file.unlink(missing_ok=True)

    def lines(self, kinds: Sequence[Fault], *, clean: bool) -> Iterator[dict[str, Any]]:
        """The clean pair, then a line for every kind that has a place here."""
        head = {"model": self.pair.name, "kind": self.pair.kind}
        if clean:
            report = self._judge(self.pair.target)
            yield {
                **head,
                "fault": "none",
                "family": "none",
                **self._said(report),
                "others": self._others(self.pair.target, report),
            }
        for kind in kinds:
            sites = len(list(kind.sites(Edit(onnx.load(str(self.pair.target)), self.values))))
            for place in _chosen(f"{self.pair.name} {kind.name}", sites):
                began = time.perf_counter()
                line = {**head, "fault": kind.name, "family": kind.family, "site": place, "sites": sites}
                try:
                    line |= self._mutant(kind, place)
                except Exception as error:
                    traceback.print_exc()
                    line |= {"outcome": "broken", "why": f"{type(error).__name__}: {error}"[:300]}
                line["seconds"] = round(time.perf_counter() - began, 2)
                print(*(f"{line.get(key)}" for key in _SHOWN), flush=True)
                yield line

    def _mutant(self, kind: Fault, place: int) -> dict[str, Any]:
        edit = Edit(onnx.load(str(self.pair.target)), self.values)
        site = list(kind.sites(edit))[place]
        nodes = (site.node, *site.others)
        guilty = {name for node in nodes for name in (node.name, *node.output)}
        site.change()
        guilty |= {name for node in nodes for name in (node.name, *node.output)}
        onnx.save(edit.proto, str(self.file))
        found: dict[str, Any] = {"op": site.node.op_type, "node": site.node.name}
        try:
            report = self._judge(self.file)
        except (RunnerError, *Refusal) as error:
            return found | {"outcome": "refused", "why": f"{error}"[:300]}
        change = self.truth.change(self.file)
        found |= {"effect": change.effect, "amplitude": change.amplitude, "by": change.by}
        found |= {"outcome": "judged", **self._said(report), "others": self._others(self.file, report)}
        if report.verdict is not Verdict.DIFFERENT and (change.effect or 0) > IDENTICAL:
            found["strict"] = self._judge(self.file, strict=True).verdict.value
        if report.culprit is not None:
            found |= {"named": report.culprit.target, "named_op": report.culprit.op, "note": report.culprit.note}
            found["hit"] = _hit(edit, guilty, report)
        return found

    def _judge(self, path: Path, **options: Any) -> Report:
        target = OnnxRunner(path, role="target")
        return judge(self.source, target, written=ModelFile(path, "onnx"), **options)

    def _others(self, path: Path, report: Report) -> dict[str, bool | str]:
        return others(self.source, OnnxRunner(path, role="target"), report.pairing)

    def _said(self, report: Report) -> dict[str, Any]:
        worst = max((o.worst.comparison.worst for o in report.outputs if o.worst is not None), default=math.inf)
        mask = any(o.worst is not None and o.worst.comparison.mask for o in report.outputs)
        return {"verdict": report.verdict.value, "ratio": math.inf if mask else worst, "reasons": report.reasons[:2]}


def _chosen(seed: str, sites: int) -> list[int]:
    """SITES of so many places, spread evenly from a seeded one."""
    first = crc32(seed.encode()) % max(1, sites)
    return sorted({(first + index * sites // SITES) % sites for index in range(SITES)}) if sites else []


_SHOWN = ("model", "fault", "op", "outcome", "effect", "amplitude", "verdict", "strict", "ratio", "hit", "seconds")


def _hit(edit: Edit, guilty: set[str], report: Report) -> bool:
    """Whether the culprit named first holds the op that was made wrong: it is that op, or its piece contains it."""
    culprit = report.culprit
    if culprit is None:
        return False
    stops = set(culprit.piece.feeds) if culprit.piece is not None else {layer.target for layer in culprit.layers}
    pending, seen = [culprit.target], set()
    while pending:
        name = pending.pop()
        if name in guilty:
            return True
        maker = edit.maker(name)
        if name in seen or maker is None:
            continue
        seen.add(name)
        if maker.name in guilty or guilty & set(maker.output):
            return True
        pending += [each for each in maker.input if each and each not in stops]
    return False


def _plain(value: Any) -> Any:
    """JSON has no infinities."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
