"""The judge's calibration: pairs that compute the same, and how often it says otherwise.

    python benchmarks/judge_calibration.py --folder FOLDER --results FILE.jsonl [--model PATTERN]... [--variant PATTERN]

Each model of judge/models.py is judged against the variants of judge/variants.py, each with a seed of its own, and by
the rules of other tools (judge/rules.py). Each pair appends one line of JSON to FILE; what FILE has is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
import warnings
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from processes import ONE_THREAD

os.environ.update(ONE_THREAD, HF_HUB_OFFLINE="1")
warnings.simplefilter("ignore")

import onnxruntime  # noqa: E402
from judge.models import KINDS, Pair, make  # noqa: E402
from judge.rules import others  # noqa: E402
from judge.trials import Remembering, open_source  # noqa: E402
from judge.truth import Truth  # noqa: E402
from judge.variants import VARIANTS, Target  # noqa: E402

from isomorph.validators import ModelFile, judge  # noqa: E402
from isomorph.validators.inputs import plan  # noqa: E402
from isomorph.validators.runners.onnxruntime import OnnxRunner  # noqa: E402

TRUTH_SEED = 4242


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where models are made and kept")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--variant", action="append", default=[], metavar="PATTERN")
    options = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    known = options.results.read_text().splitlines() if options.results.exists() else []
    done = {(line["model"], line["variant"]) for line in map(json.loads, known)}
    for name in KINDS:
        chosen = [v for v in VARIANTS if not options.variant or any(fnmatch(v.name, p) for p in options.variant)]
        left = [variant for variant in chosen if (name, variant.name) not in done]
        if not left or (options.model and not any(fnmatch(name, pattern) for pattern in options.model)):
            continue
        try:
            pair = make(name, options.folder / "models")
            runner = open_source(pair)
        except Exception:
            traceback.print_exc()
            continue
        source = Remembering(runner)
        variants = options.folder / "variants"
        variants.mkdir(exist_ok=True)
        for variant in left:
            began = time.perf_counter()
            line: dict[str, Any] = {"model": name, "kind": pair.kind, "variant": variant.name}
            try:
                target = variant.open(pair, variants)
                if target is None:
                    continue
                line |= _judged(source, target, seed=VARIANTS.index(variant))
                if line["verdict"] == "DIFFERENT" and target.path is not None:
                    line |= _truth(pair, target.path)
            except Exception as error:
                traceback.print_exc()
                line |= {"verdict": "broken", "reasons": [f"{type(error).__name__}: {error}"[:300]]}
            line["seconds"] = round(time.perf_counter() - began, 2)
            print(*(str(line.get(key)) for key in ("model", "variant", "verdict", "ratio", "seconds")), flush=True)
            with options.results.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        if hasattr(runner, "close"):
            runner.close()
    return 0


def _judged(source: Remembering, target: Target, *, seed: int) -> dict[str, Any]:
    """What is said of a pair; the first variant of a model is also judged with --strict."""
    written = ModelFile(target.path, "onnx") if target.path is not None else None
    report = judge(source, target.runner, written=written, seed=seed, explain=False)
    strict = judge(source, target.runner, written=written, seed=seed, explain=False, strict=True) if not seed else None
    worst = max((o.worst.severity for o in report.outputs if o.worst is not None), default=(False, math.inf))
    return {
        "verdict": report.verdict.value,
        "strict": None if strict is None else strict.verdict.value,
        "ratio": worst[1] if math.isfinite(worst[1]) else str(worst[1]),
        "reasons": report.reasons[:2],
        "others": others(source, target.runner, report.pairing, report.seed),
    }


def _truth(pair: Pair, path: Path) -> dict[str, Any]:
    """Whether another hand's file is another function than ours, by float64 runs of both (truth.py)."""
    clean = OnnxRunner(pair.target, role="target")
    inputs = [case.inputs for case in plan(clean.signature(), TRUTH_SEED)]
    change = Truth(pair.target, inputs, [clean.run(each).outputs for each in inputs]).change(path)
    return {key: str(value) for key, value in (("effect", change.effect), ("amplitude", change.amplitude))}


if __name__ == "__main__":
    sys.exit(main())
