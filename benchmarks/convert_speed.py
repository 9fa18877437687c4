"""Speed and memory of three conversions of ResNet-50, against what the frameworks do themselves.

python benchmarks/convert_speed.py [--rounds N] [--case keras|pt2|capture] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Measurement, measure, python

MAKE_KERAS = """
import keras
keras.utils.set_random_seed(0)
keras.applications.ResNet50(weights=None).save("resnet50.keras")
"""
EXPORT_KERAS = """
import keras
model = keras.saving.load_model("resnet50.keras", compile=False)
model(keras.ops.zeros((1, 224, 224, 3)))  # export refuses a model that was never called
model.export("peer.onnx", format="onnx", verbose=False)
"""
MAKE_PT2 = """
import torch, torchvision
torch.manual_seed(0)
module = torchvision.models.resnet50(weights=None).eval()
torch.export.save(torch.export.export(module, (torch.randn(1, 3, 224, 224),)), "resnet50.pt2")
"""
EXPORT_PT2 = """
import torch
torch.onnx.export(torch.export.load("resnet50.pt2"), (), "peer.onnx", dynamo=True, verbose=False)
"""
CAPTURE = """
import time, torch, torchvision
torch.set_num_threads(1)
torch.manual_seed(0)
module = torchvision.models.resnet50(weights=None).eval()
x = torch.randn(1, 3, 224, 224)
import torch.export
{prepare}
began = time.perf_counter()
{call}
print("SECONDS", time.perf_counter() - began)
"""
CAPTURE_OURS = CAPTURE.format(
    prepare="import isomorph.converters.torch.capture", call="isomorph.capture(module, (x,))"
).replace("import time,", "import isomorph, time,")
CAPTURE_PEER = CAPTURE.format(prepare="", call="torch.export.export(module, (x,))")


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison: how its input is made, both commands, which seconds count, what is aimed at.

    target  least ratio peer / ours of the times
    """

    name: str
    title: str
    make: str | None
    ours: list[str]
    peer: list[str]
    weights: str | None
    target: float
    seconds: Callable[[Measurement], float] = lambda measurement: measurement.seconds
    settings: tuple[tuple[str, str], ...] = ()


def _printed_seconds(measurement: Measurement) -> float:
    line = next(line for line in measurement.output.splitlines() if line.startswith("SECONDS "))
    return float(line.removeprefix("SECONDS "))


def _convert(source: str) -> list[str]:
    return python("-m", "isomorph", "convert", source, "ours.onnx", "--force", "--json")


CASES = (
    Case(
        "keras",
        '`.keras` ResNet50 to ONNX / `model.export(format="onnx")`',
        MAKE_KERAS,
        _convert("resnet50.keras"),
        python("-c", EXPORT_KERAS),
        "resnet50.keras",
        15.0,
        settings=(("KERAS_BACKEND", "tensorflow"),),
    ),
    Case(
        "pt2",
        "`.pt2` ResNet-50 to ONNX / `torch.export.load` + `torch.onnx.export`",
        MAKE_PT2,
        _convert("resnet50.pt2"),
        python("-c", EXPORT_PT2),
        "resnet50.pt2",
        5.0,
    ),
    Case(
        "capture",
        "capture of ResNet-50 / `torch.export.export` alone (the calls, without imports)",
        None,
        python("-c", CAPTURE_OURS),
        python("-c", CAPTURE_PEER),
        None,
        1 / 1.3,
        seconds=_printed_seconds,
    ),
)


def run(case: Case, folder: Path, rounds: int, cpu: int | None) -> dict[str, Any]:
    """Alternate both sides `rounds` times."""
    settings = dict(case.settings)
    if case.make is not None:
        measure(python("-c", case.make), folder=folder, cpu=None, settings=settings).check()
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    memory: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, command in (("ours", case.ours), ("peer", case.peer)):
            measured = measure(command, folder=folder, cpu=cpu, settings=settings).check()
            seconds[side].append(case.seconds(measured))
            memory[side].append(measured.megabytes)
    ours, peer = statistics.median(seconds["ours"]), statistics.median(seconds["peer"])
    weights = (folder / case.weights).stat().st_size / 1e6 if case.weights else None
    peak = max(memory["ours"])
    fits = weights is None or peak <= 200 + 2.5 * weights
    return {
        "case": case.name,
        "title": case.title,
        "seconds": seconds,
        "megabytes": memory,
        "weights_megabytes": weights,
        "ratio": peer / ours,
        "wanted_ratio": case.target,
        "met": peer / ours >= case.target and fits,
    }


def row(result: dict[str, Any]) -> str:
    seconds, memory = result["seconds"], result["megabytes"]
    ours, peer = (statistics.median(seconds[side]) for side in ("ours", "peer"))
    weights = f"{result['weights_megabytes']:.0f} MB" if result["weights_megabytes"] else "-"
    return (
        f"| {result['title']} | {ours:.2f} s | {peer:.2f} s | {result['ratio']:.1f} | {result['wanted_ratio']:.2f} "
        f"| {max(memory['ours']):.0f} MB | {max(memory['peer']):.0f} MB | {weights} "
        f"| {'yes' if result['met'] else 'NO'} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs (default 3)")
    parser.add_argument("--case", choices=[case.name for case in CASES], action="append", help="only this one")
    parser.add_argument("--cpu", type=int, default=0, help="the CPU to pin both sides to; -1 for none (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all measurements there")
    options = parser.parse_args()
    results = []
    print("| case (ours / peer) | ours | peer | peer / ours | wanted | ours, peak | peer, peak | weights | met |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if options.case and case.name not in options.case:
                continue
            results.append(run(case, Path(folder), options.rounds, None if options.cpu < 0 else options.cpu))
            print(row(results[-1]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
