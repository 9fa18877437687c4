"""Convert many models and judge each: torchvision to ONNX and .keras, Keras applications to ONNX.

    python benchmarks/sweep.py [--only NAME]... [--source S] [--batch B] [--target T] [--output docs/sweep.md]

The weights of the torchvision models are random and none is left constant: gammas of one, zero heads and layer scales
of 1e-6 would hide faults. Their running statistics are those of the random network on noise, so that the signal
survives all layers. The Keras applications are as `weights=None` makes them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Measurement, measure, python

TORCHVISION = {
    "resnet18": 224,
    "resnet50": 224,
    "vgg16_bn": 224,
    "mobilenet_v3_small": 224,
    "efficientnet_b0": 224,
    "densenet121": 224,
    "inception_v3": 299,
    "shufflenet_v2_x1_0": 224,
    "convnext_tiny": 224,
    "vit_b_16": 224,
}
KERAS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "ConvNeXtTiny", "DenseNet121", "InceptionV3")

NETS = """
import torch
import torchvision


def make(name, size):
    torch.manual_seed(0)
    options = {"weights": None} | ({"init_weights": False, "aux_logits": False} if name == "inception_v3" else {})
    module = getattr(torchvision.models, name)(**options)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1 and parameter.min() == parameter.max():
                parameter += 0.1 * torch.randn_like(parameter)
        calibrate(module, size)
    return module.eval()


def calibrate(module, size):
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    module.train()
    for other in module.modules():
        if isinstance(other, torch.nn.Dropout):
            other.eval()
    module(torch.randn(4, 3, size, size))
    for norm in norms:
        norm.momentum = 0.1
"""
NETS_ENTRY = """

def {name}():
    return make({name!r}, {size}), (torch.randn(2, 3, {size}, {size}),)
"""
SAVE_PT2 = """
import sys, torch, nets
name, symbolic, path = sys.argv[1], sys.argv[2] == "symbolic", sys.argv[3]
module, arguments = getattr(nets, name)()
dynamic = ({0: torch.export.Dim("N", min=1, max=64)},) if symbolic else None
arguments = arguments if symbolic else (arguments[0][:1],)
torch.export.save(torch.export.export(module, arguments, dynamic_shapes=dynamic), path)
"""
SAVE_KERAS = """
import sys, keras
keras.utils.set_random_seed(0)
getattr(keras.applications, sys.argv[1])(weights=None).save(sys.argv[2])
"""
HEADER = """# The sweep

Every line is one conversion, judged: `python benchmarks/sweep.py --output docs/sweep.md`. The torchvision models have
random weights of which none is constant, and calibrated statistics; the Keras applications are as `weights=None` makes
them. *Transposes* are those of the written model; parameters are permuted for free. *Seconds* are those of reading,
preparing and writing (of a capture with torch.export's); *judged in* are those of the verdict.

"""
HEADING = """| model | from | batch | to | verdict | nodes | transposes | seconds | judged in | |
|---|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion: from what, to what."""

    model: str
    source: str
    batch: str
    target: str


def jobs(only: Sequence[str]) -> Iterator[Job]:
    for name in TORCHVISION:
        for source in ("capture", ".pt2"):
            for batch in ("static", "symbolic"):
                for target in ("onnx", "keras"):
                    if not only or name in only:
                        yield Job(name, source, batch, target)
    for name in KERAS:
        if not only or name in only:
            yield Job(name, ".keras", "symbolic", "onnx")


def convert(job: Job, folder: Path, layout: str) -> dict[str, Any]:
    """Make the source if it is not there, convert and judge it in one command."""
    made = _source(job, folder)
    if isinstance(made, Measurement):
        return _failure(job, made)
    target = folder / f"out.{job.target}"
    arguments = ["convert", *made, target, "--validate", "--json", "--force", "--layout", layout]
    done = measure(python("-m", "isomorph", *arguments), folder=folder, cpu=None)
    target.unlink(missing_ok=True)
    try:
        result = json.loads(done.output)
    except ValueError:
        return _failure(job, done)
    if "error" in result:
        what = str(result["what"]) + (f" ({result['because']})" if result.get("because") else "")
        return {"job": job, "verdict": result["error"], "detail": what}
    return {
        "job": job,
        "verdict": result["verdict"],
        "detail": "; ".join(result["report"]["reasons"]),
        **_numbers(result, done),
    }


def _numbers(result: dict[str, Any], done: Measurement) -> dict[str, Any]:
    seconds = sum(step["seconds"] for step in result["steps"])
    source, target = result["source"], result["target"]
    nodes = (source["nodes"], target["nodes"])
    return {"nodes": nodes, "transposes": result["transposes"], "seconds": seconds, "judged": done.seconds - seconds}


def _failure(job: Job, done: Measurement) -> dict[str, Any]:
    lines = done.errors.strip().splitlines() or ["no output"]
    return {"job": job, "verdict": f"exit code {done.code}", "detail": lines[-1][:200]}


def _source(job: Job, folder: Path) -> list[str | Path] | Measurement:
    if job.source == ".keras":
        path = folder / f"{job.model}.keras"
        made = path.exists() or measure(python("-c", SAVE_KERAS, job.model, path), folder=folder, cpu=None)
        return made if isinstance(made, Measurement) and made.code else [path]
    if job.source == "capture":
        size = TORCHVISION[job.model]
        batch = "N" if job.batch == "symbolic" else "2"
        return [f"python:nets:{job.model}", "--input", f"x={batch},3,{size},{size}"]
    path = folder / f"{job.model}-{job.batch}.pt2"
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{SAVE_PT2}"
    made = path.exists() or measure(python("-c", code, job.model, job.batch, path), folder=folder, cpu=None)
    return made if isinstance(made, Measurement) and made.code else [path]


def row(result: dict[str, Any]) -> str:
    job = result["job"]
    cells = [job.model, job.source, job.batch, f".{job.target}", result["verdict"]]
    if "nodes" in result:
        source, target = result["nodes"]
        cells += [f"{source} -> {target}", result["transposes"], f"{result['seconds']:.2f}", f"{result['judged']:.0f}"]
    else:
        cells += ["", "", "", ""]
    return "| " + " | ".join(str(cell) for cell in [*cells, str(result["detail"]).replace("|", "\\|")[:160]]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this model (repeatable)")
    parser.add_argument("--source", choices=["capture", ".pt2", ".keras"], help="only this kind of source")
    parser.add_argument("--batch", choices=["static", "symbolic"], help="only this kind of batch")
    parser.add_argument("--target", choices=["onnx", "keras"], help="only this target")
    parser.add_argument("--layout", choices=["keep", "native"], default="keep")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there (markdown)")
    options = parser.parse_args()
    print(HEADING, flush=True)
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entries = "".join(NETS_ENTRY.format(name=name, size=size) for name, size in TORCHVISION.items())
        (folder / "nets.py").write_text(NETS + entries)
        for job in jobs(options.only):
            wanted = ((options.source, job.source), (options.batch, job.batch), (options.target, job.target))
            if any(given not in (None, own) for given, own in wanted):
                continue
            result = convert(job, folder, options.layout)
            failed += result["verdict"] != "EQUIVALENT"
            rows.append(row(result))
            print(rows[-1], flush=True)
            if options.output is not None:
                options.output.write_text(HEADER + "\n".join([HEADING, *rows]) + "\n")
    print(f"{len(rows) - failed} of {len(rows)} EQUIVALENT", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
