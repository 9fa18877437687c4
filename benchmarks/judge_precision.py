"""The judge within declared classes: correct targets of a class, and faults in them.

    python benchmarks/judge_precision.py CLASS --folder FOLDER --results FILE.jsonl [--model PATTERN]... [--faults N]

Without --faults each model of judge/models.py is judged against the targets of judge/lowered.py: what is said against
them is a false alarm. With --faults N, up to N kinds of fault are put into its clean conversion, one at a time, which
is then lowered to the class. How much a fault changes is `size`, the largest over outputs and cases of

    rms(F - R) / (rms(Q - R) / ALLOWANCE)

F the faulty file before it is lowered, in float64: the change in units of the class's own rounding. Each judgment
appends one line of JSON to FILE; what FILE has is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zlib import crc32

from processes import ONE_THREAD

os.environ.update(ONE_THREAD, HF_HUB_OFFLINE="1")
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from judge.faults import FAULTS, Edit  # noqa: E402
from judge.lowered import LOWERED, lower  # noqa: E402
from judge.models import KINDS, Pair, make  # noqa: E402
from judge.trials import Remembering, every_value, open_source  # noqa: E402

from isomorph.validators import ModelFile, Report, judge  # noqa: E402
from isomorph.validators.inputs import Case, plan  # noqa: E402
from isomorph.validators.precision import NAMES  # noqa: E402
from isomorph.validators.runner import FLOAT64, Runner  # noqa: E402
from isomorph.validators.runners.onnx_double import DoubleModel  # noqa: E402
from isomorph.validators.runners.onnxruntime import OnnxRunner  # noqa: E402

SEED, FAULT_SEED = 3, 4242


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("precision", choices=NAMES)
    parser.add_argument("--folder", type=Path, required=True, help="where models are made and kept")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--faults", type=int, default=0, metavar="N")
    options = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    known = options.results.read_text().splitlines() if options.results.exists() else []
    done = {(line["model"], line["what"]) for line in map(json.loads, known)}
    (options.folder / "lowered").mkdir(parents=True, exist_ok=True)
    for name in KINDS:
        if options.model and not any(fnmatch(name, pattern) for pattern in options.model):
            continue
        try:
            pair = make(name, options.folder / "models")
            source = Remembering(open_source(pair))
            lines = _faults if options.faults else _targets
            found = lines(pair, source, options.precision, options.folder / "lowered", options.faults)
            for line in found:
                if (name, line["what"]) not in done:
                    print(*line.values(), flush=True)
                    with options.results.open("a") as stream:
                        stream.write(json.dumps({"model": name, **line}) + "\n")
        except Exception:
            traceback.print_exc()
    return 0


def _targets(pair: Pair, source: Remembering, precision: str, folder: Path, _: int) -> Iterator[dict[str, Any]]:
    for each in LOWERED:
        if each.precision != precision:
            continue
        try:
            target = each.open(pair, folder / f"{pair.name}.{LOWERED.index(each)}.onnx")
            report = None if target is None else _judged(source, target.runner, target.path, precision)
        except Exception as error:  # a form that the tool or the runtime lacks
            print(f"  {pair.name} {each.name}: {str(error)[:100]!r}")
            continue
        if report is not None:
            yield {"what": each.name, **_said(report)}


def _faults(pair: Pair, source: Remembering, precision: str, folder: Path, most: int) -> Iterator[dict[str, Any]]:
    values = _values(pair)
    made = 0
    for kind in sorted(FAULTS.values(), key=lambda kind: crc32(f"{pair.name} {kind.name}".encode())):
        if made == most:
            return
        edit = Edit(onnx.load(str(pair.target)), values)
        sites = list(kind.sites(edit))
        plain, path = folder / f"faulty-{os.getpid()}.onnx", folder / f"mutant-{os.getpid()}.onnx"
        try:
            sites[crc32(f"{pair.name} {kind.name}".encode()) % len(sites)].change()
            onnx.save(edit.proto, str(plain))
            lower(edit.proto, precision, path)
            report = _judged(source, OnnxRunner(path, role="target"), path, precision)
        except Exception:  # no place for it, or a file that the tool or the runtime refuses
            continue
        made += 1
        yield {"what": kind.name, **_said(report), "size": _size(source, report, plain)}


def _values(pair: Pair) -> Mapping[str, np.ndarray]:
    for case in plan(OnnxRunner(pair.target, role="target").signature(), FAULT_SEED):
        try:
            return every_value(pair.target, case.inputs)
        except Exception as error:  # inputs shorter than its windows
            print(f"  {pair.name} {case.describe()}: {str(error)[:80]!r}")
    raise ValueError(f"{pair.name} takes no generated input")


def _judged(source: Remembering, target: Runner, path: Path | None, precision: str) -> Report:
    written = ModelFile(path, "onnx") if path is not None else None
    return judge(source, target, written=written, precision=precision, explain=False, seed=SEED)


def _said(report: Report) -> dict[str, Any]:
    results = [result for output in report.outputs for result in output.results]
    ratio = max((result.comparison.worst for result in results), default=math.inf)
    return {
        "verdict": report.verdict.value,
        "ratio": ratio if math.isfinite(ratio) else str(ratio),
        "overflow": any(result.comparison.mask for result in results),
        "reasons": report.reasons[:1],
    }


def _size(source: Remembering, report: Report, plain: Path) -> float | str:
    faulty = DoubleModel(plain)
    cases = {case.describe(): case for case in plan(source.signature(), SEED)}
    sizes = [_moved(source, report, faulty, cases[name]) for name in report.cases]
    size = max(sizes, default=math.inf)
    return size if math.isfinite(size) else str(size)


def _moved(source: Remembering, report: Report, faulty: DoubleModel, case: Case) -> float:
    feeds = {p.target: p.to_target(case.inputs[p.source]) for p in report.pairing.inputs}
    given = faulty.run(feeds, [p.target for p in report.pairing.outputs])
    reference = source.run(case.inputs, precision=FLOAT64).outputs
    worst = 0.0
    for p, output in zip(report.pairing.outputs, report.outputs, strict=True):
        r, f = reference[p.source], p.to_source(given[p.target])
        if r.shape != f.shape or (np.isfinite(r) != np.isfinite(f)).any():
            return math.inf
        finite = np.isfinite(r)
        result = next((each for each in output.results if each.case == case.describe()), None)
        if result is None or r.dtype.kind != "f" or not finite.any() or report.precision is None:
            worst = max(worst, math.inf if r.dtype.kind != "f" and (r != f).any() else 0.0)
            continue
        own = result.comparison.noise / report.precision.allowance * _rms(r[finite])
        moved = _rms((f - r)[finite])
        worst = max(worst, moved / own if own else math.inf * bool(moved > 1e-12) if moved else 0.0)
    return worst


def _rms(array: np.ndarray) -> float:
    return math.sqrt(float(np.mean(np.square(array))))


if __name__ == "__main__":
    sys.exit(main())
