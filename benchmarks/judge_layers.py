"""How well culprits are named in Keras targets: faults of converters in `.keras` files that isomorph wrote.

    python benchmarks/judge_layers.py --folder FOLDER --results FILE.jsonl [--model PATTERN]... [--each N] [--pairs N]

Each model of MODELS is converted to `.keras`; at most N kinds of fault (judge/keras_faults.py, in a seeded order) are
made in it, one at a time at a seeded site, then pairs of those that alone are DIFFERENT by a culprit of their own.
Whether a fault changes the function is decided as in judge_power.py, by isomorph's evaluator in float64, or Keras in
float64. Each mutant appends a line to FILE; `--table FILE` prints what docs/validation.md says.

A culprit is right if its piece (the layers between it and the nearest values that both sides have) holds the layer that
was made wrong, *exact* if it is that layer; one whose piece holds no such layer is accused wrongly.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import crc32

from processes import ONE_THREAD

os.environ.update(ONE_THREAD, HF_HUB_OFFLINE="1", TF_CPP_MIN_LOG_LEVEL="3")

from judge.keras_faults import FAULTS, KerasEdit, Site
from judge.models import KINDS, make
from judge.trials import Remembering
from judge.truth import IDENTICAL, Change, Truth

from isomorph.converters.convert import convert
from isomorph.converters.keras.config import parse_model, refs_in
from isomorph.errors import RunnerError
from isomorph.validators import ModelFile, Report, Verdict, Worker, judge
from isomorph.validators.inputs import plan
from isomorph.validators.localization.localize import Localization
from isomorph.validators.pairing import pair

MODELS = (
    "keras-separable", "lstm-tagger", "gru-speaker", "keras-lstm", "shifted-windows", "unet", "wave-classifier",
    "volume-classifier", "anchor-detector", "test-resnet", "test-vit", "test-convnext", "mobilenet-v3-small",
)  # fmt: skip
SEEDS_OF_TRUTH = (4242, 90210)
SOLID = 128.0
"""An amplitude from which a fault changes the function beyond any rounding (judge_power.py)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where models are made and kept")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--model", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--each", type=int, default=12, metavar="N")
    parser.add_argument("--pairs", type=int, default=3, metavar="N")
    parser.add_argument("--table", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.table is not None:
        print(table([json.loads(line) for line in options.table.read_text().splitlines()]))
        return 0
    chosen = [name for name in MODELS if not options.model or any(fnmatch(name, p) for p in options.model)]
    done = set()
    if options.results.exists():
        done = {json.loads(line)["model"] for line in options.results.read_text().splitlines()}
    for name in chosen:
        if name in done:
            continue
        made = make(name, options.folder)
        clean = options.folder / f"{name}.clean.keras"
        if not clean.exists():
            convert(made.source.path, clean)
        with Worker(made.source, role="reference") as source, options.results.open("a") as stream:
            for line in Subject(name, source, clean).lines(options.each, options.pairs):
                stream.write(json.dumps(line) + "\n")
                stream.flush()
    return 0


class Subject:
    """One model: its source, its clean conversion, its truth."""

    def __init__(self, name: str, source: Worker, clean: Path) -> None:
        from isomorph.validators.runners.keras import open_model

        self._open = open_model
        self.name = name
        self.source = Remembering(source)
        self.clean = clean
        self.file = clean.with_name(f"mutant-{os.getpid()}.keras")
        runner = self._runner(clean)
        pairing = pair(source.signature(), runner.signature(), [], ModelFile(clean, "keras"))
        planned = [case.inputs for seed in SEEDS_OF_TRUTH for case in plan(source.signature(), seed)]
        cases = [{p.target: p.to_target(each[p.source]) for p in pairing.inputs} for each in planned]
        native = [runner.run(each).outputs for each in cases]
        self.truth = Truth(clean, cases, native, ("keras", self._in_double))

    def _runner(self, path: Path) -> Any:
        return self._open({"path": str(path)}, role="target")

    def _in_double(self, path: Path, cases: Sequence[Any]) -> Iterator[Any]:
        try:
            runner = self._runner(path)
            yield from (runner.run(case, precision="float64").outputs for case in cases)
        except Exception as error:  # another judge of the truth is not to be had
            print(f"  {type(error).__name__}: {str(error)[:100]!r}", flush=True)
            yield None

    def lines(self, each: int, pairs: int) -> Iterator[dict[str, Any]]:
        """The clean file, single faults, pairs of faults."""
        report = self._judge(self.clean)
        yield {"model": self.name, "faults": [], "verdict": report.verdict.value}
        kinds = sorted(FAULTS.values(), key=lambda kind: crc32(f"{self.name} {kind.name}".encode()))
        found: list[tuple[str, int, tuple[str, ...]]] = []
        tried = 0
        for kind in kinds:
            sites = list(kind.sites(KerasEdit(self.clean)))
            if not sites or tried >= each:
                continue
            place = crc32(f"{kind.name} {self.name}".encode()) % len(sites)
            line = self._mutant([(kind.name, place)])
            tried += line["outcome"] == "judged"
            if line.get("first") and line.get("missed") == 0:
                found.append((kind.name, place, sites[place].layers))
            yield line
        couples = [(a, b) for a, b in combinations(found, 2) if not set(a[2]) & set(b[2])]
        couples.sort(key=lambda couple: crc32(f"{couple[0][0]} {couple[1][0]} {self.name}".encode()))
        for a, b in couples[:pairs]:
            yield self._mutant([a[:2], b[:2]])
        self.file.unlink(missing_ok=True)

    def _mutant(self, faults: Sequence[tuple[str, int]]) -> dict[str, Any]:
        began = time.perf_counter()
        edit = KerasEdit(self.clean)
        sites: list[Site] = [list(FAULTS[name].sites(edit))[place] for name, place in faults]
        for site in sites:
            site.change()
        edit.save(self.file)
        families = [FAULTS[name].family for name, _ in faults]
        line: dict[str, Any] = {"model": self.name, "kind": KINDS[self.name], "faults": [name for name, _ in faults]}
        line |= {"families": families, "layers": [list(site.layers) for site in sites], "outcome": "judged"}
        try:
            report = self._judge(self.file)
        except (RunnerError, ValueError, TypeError) as error:
            return line | {"outcome": "refused", "why": str(error)[:200]}
        except Exception as error:
            traceback.print_exc()
            return line | {"outcome": "broken", "why": f"{type(error).__name__}: {error}"[:200]}
        change: Change = self.truth.change(self.file)
        line |= {"effect": _plain(change.effect), "amplitude": _plain(change.amplitude)}
        line |= {"verdict": report.verdict.value, **self._named(report, edit, sites)}
        line["seconds"] = round(time.perf_counter() - began, 1)
        print(*(line.get(key) for key in _SHOWN), flush=True)
        return line

    def _judge(self, path: Path) -> Report:
        return judge(self.source, self._runner(path), written=ModelFile(path, "keras"))

    def _named(self, report: Report, edit: KerasEdit, sites: Sequence[Site]) -> dict[str, Any]:
        """Which culprits hold which faults."""
        culprit = report.culprit
        if report.verdict is not Verdict.DIFFERENT or culprit is None or not culprit.target:
            return {"first": False, "note": culprit.note if culprit is not None else None}
        guilty = [set(site.layers) for site in sites]
        named = [culprit, *culprit.others]
        held = [_piece(each, edit) for each in named]
        return {
            "first": any(layers & held[0] for layers in guilty),
            "exact": any(culprit.target.partition(":")[0] in layers for layers in guilty),
            "missed": sum(not any(layers & piece for piece in held) for layers in guilty),
            "wrong": sum(not any(layers & piece for layers in guilty) for piece in held),
            "named": [each.target for each in named],
            "forced": culprit.piece is not None,
            "propagated": culprit.propagated,
            "note": culprit.note,
        }


def _piece(culprit: Localization, edit: KerasEdit) -> set[str]:
    """The layers of a culprit's piece, by the configuration of the file."""
    graph = parse_model(edit.config, major=3)
    layers = {layer.name: layer for layer in graph.layers}
    stops = set(culprit.piece.feeds) if culprit.piece is not None else {each.target for each in culprit.layers}
    name, _, number = culprit.target.partition(":")
    pending, seen = [(name, int(number or 0))], set()
    while pending:
        step = pending.pop()
        if step in seen:
            continue
        seen.add(step)
        for ref in refs_in(layers[step[0]].calls[step[1]]):
            read = f"{ref.layer}:{ref.call}" if ref.call else ref.layer
            if read not in stops:
                pending.append((ref.layer, ref.call))
    return {layer for layer, _ in seen}


_SHOWN = ("model", "faults", "outcome", "verdict", "effect", "first", "exact", "missed", "wrong", "named", "seconds")


def _plain(value: float | None) -> float | str | None:
    return str(value) if value is not None and not math.isfinite(value) else value


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The rows of docs/validation.md: families of single faults, and pairs."""
    judged = [line for line in lines if line.get("outcome") == "judged" and _changes(line)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in judged:
        groups.setdefault(line["families"][0] if len(line["faults"]) == 1 else "two at once", []).append(line)
    rows = [
        ["faults", "mutants", "DIFFERENT", "guilty layer first", "exactly it", "a fault not listed", "accused wrongly"]
    ]
    rows.append(["---"] * len(rows[0]))
    for name, group in [*sorted(groups.items()), ("all", judged)]:
        found = [line for line in group if line["verdict"] == "DIFFERENT"]
        counts = [
            len(group),
            len(found),
            sum(line["first"] for line in found),
            sum(line.get("exact", 0) for line in found),
        ]
        counts += [sum(line.get("missed", 1) > 0 for line in found), sum(line.get("wrong", 0) > 0 for line in found)]
        rows.append([name, *map(str, counts)])
    clean = Counter(line["verdict"] for line in lines if not line["faults"])
    notes = [
        f"{len({line['model'] for line in judged})} models, clean: {dict(clean)}",
        f"{sum(line.get('outcome') == 'refused' for line in lines)} refused by Keras",
        f"{sum(line.get('outcome') == 'judged' and not _changes(line) for line in lines)} that change less",
    ]
    exceptions = [
        f"- {line['model']}: {line['faults']} in {line['layers']}: {line['verdict']}, named {line.get('named')}"
        for line in judged
        if not line["first"] or line.get("missed") or line.get("wrong")
    ]
    return "\n".join(["; ".join(notes), "", *("| " + " | ".join(row) + " |" for row in rows), "", *exceptions])


def _changes(line: dict[str, Any]) -> bool:
    return float(line.get("effect") or 0) > IDENTICAL and float(line.get("amplitude") or 0) >= SOLID


if __name__ == "__main__":
    sys.exit(main())
