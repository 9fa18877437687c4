"""Speed and memory of PyTorch sources over many models: files against torch.onnx, capture against torch.export.

    python benchmarks/torch_speed.py [--rounds N] [--models NAME,...] [--json FILE]

For each torchvision model: `isomorph convert NAME.pt2 NAME.onnx` against `torch.export.load` and `torch.onnx.export`,
as whole processes on one CPU; and `isomorph.capture` against `torch.export.export`, calls in turn in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import Measurement, measure, python

MODELS = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet1_0",
    "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d",
    "shufflenet_v2_x1_0", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg16_bn", "vit_b_16",
)  # fmt: skip
"""A builder of each family of torchvision's classifiers."""

MAKE = """
import sys, torch, torchvision
torch.manual_seed(0)
name = sys.argv[1]
module = torchvision.models.get_model(name, weights=None).eval()
size = 299 if name == "inception_v3" else 224
torch.export.save(torch.export.export(module, (torch.randn(1, 3, size, size),)), f"{name}.pt2")
"""
PEER = """
import sys, torch
torch.set_num_threads(1)
torch.onnx.export(torch.export.load(f"{sys.argv[1]}.pt2"), (), "peer.onnx", dynamo=True, verbose=False)
"""
CAPTURE = """
import sys, time, torch, torchvision, isomorph
import isomorph.converters.torch.capture, torch.export
torch.set_num_threads(1)
torch.manual_seed(0)
name, rounds = sys.argv[1], int(sys.argv[2])
module = torchvision.models.get_model(name, weights=None).eval()
size = 299 if name == "inception_v3" else 224
x = torch.randn(1, 3, size, size)
seconds = {"ours": [], "peer": []}
for round in range(rounds + 1):  # the first one warms up
    for title, call in (("ours", isomorph.capture), ("peer", torch.export.export)):
        began = time.perf_counter()
        call(module, (x,))
        seconds[title].append(time.perf_counter() - began)
print("SECONDS", min(seconds["ours"][1:]), min(seconds["peer"][1:]))
"""


def main() -> int:
    options = _options()
    rows = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_row(name, Path(folder), options.rounds))
        print(_line(rows[-1]), file=sys.stderr, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    print(_table(rows))
    return 0


def _row(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    measure(python("-c", MAKE, name), folder=folder, cpu=None).check()
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(_converted(name, folder))
        peer.append(measure(python("-c", PEER, name), folder=folder))
    works = [each for each in peer if each.code == 0]
    captured = measure(python("-c", CAPTURE, name, str(rounds)), folder=folder).check().output
    capture, export = map(float, captured.partition("SECONDS ")[2].split()[:2])
    return {
        "model": name,
        "weights_mb": (folder / f"{name}.pt2").stat().st_size / 1e6,
        "seconds": min(each.seconds for each in ours),
        "peak_mb": max(each.megabytes for each in ours),
        "peer_seconds": min((each.seconds for each in works), default=None),
        "peer_peak_mb": max((each.megabytes for each in works), default=None),
        "capture_seconds": capture,
        "export_seconds": export,
    }


def _converted(name: str, folder: Path) -> Measurement:
    command = python("-m", "isomorph", "convert", f"{name}.pt2", "ours.onnx", "--force", "--json")
    return measure(command, folder=folder).check()


def _line(row: dict[str, Any]) -> str:
    ratio = "-" if row["peer_seconds"] is None else f"{row['peer_seconds'] / row['seconds']:.1f}"
    peer = "-" if row["peer_seconds"] is None else f"{row['peer_seconds']:.2f}"
    allowed = row["peak_mb"] / (150 + 1.2 * row["weights_mb"])
    capture = row["capture_seconds"] / row["export_seconds"]
    return (
        f"| {row['model']} | {row['weights_mb']:.0f} | {row['seconds']:.2f} | {peer} | {ratio} | "
        f"{row['peak_mb']:.0f} | {allowed:.2f} | {row['capture_seconds']:.2f} | {capture:.2f} |"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    ratios = [row["peer_seconds"] / row["seconds"] for row in rows if row["peer_seconds"]]
    captures = [row["capture_seconds"] / row["export_seconds"] for row in rows]
    lines = [
        "| model | weights, MB | `.pt2` to ONNX, s | torch.onnx, s | ratio | peak, MB | of 150 MB + 1.2 weights "
        "| capture, s | of torch.export |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_line, rows),
        "",
        f"Medians: {statistics.median(ratios):.1f} times faster than torch.onnx; "
        f"capture {statistics.median(captures):.2f} times torch.export alone.",
    ]
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", type=lambda text: tuple(text.split(",")), default=MODELS)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
