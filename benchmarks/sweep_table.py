"""Render the results of torch_sweep.py: `python benchmarks/sweep_table.py RESULTS --output docs/sweep-torch.md`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["latest", "outcome"]

Line = dict[str, Any]
STATES = ("EQUIVALENT", "INCONCLUSIVE", "DIFFERENT", "not judged", "refused", "failed", "not exported", "not built")
HEADER = """# The sweep over PyTorch's collections

Made by `python benchmarks/torch_sweep.py --results FILE --peer` and `python benchmarks/sweep_table.py FILE --output
docs/sweep-torch.md`. Every line is one model with random weights of which none is constant, exported by
`torch.export.export`, walked, converted to ONNX and judged by the judge of `isomorph validate`: the exported program in
float32 and float64 against onnxruntime. *Symbolic* models have a symbolic batch, texts a symbolic length, caches a
symbolic past; where a model fixes such a size (*relaxed*), `Dim.AUTO` is asked for instead. Images are small where the
architecture allows. Detectors are exported with isomorph's stand-ins for functions that torch.export refuses, for both
sides. Rows come from several commits; the file of results names the commit of each.

*Convert* is the time to walk the exported program, convert and write; *torch.onnx* the same by
`torch.onnx.export(program, dynamo=True)` and `save`, from the same program, in another child of the same process.
Memory is what is resident on top of the exported program. Latency is that of onnxruntime on one thread, the two files
taking turns, their fastest runs (in rows of earlier commits the medians). The machine is shared: ratios travel, seconds
do not. Time, memory and latency compare the two sides of one run; nodes are those of the newest run of each. torch.onnx
folds batch normalization into convolutions; isomorph does on request, and both are shown.

Latencies above 1.1 have two causes. Group normalization (bit, mobilevitv2, poolformer: 1.12 to 1.21) is written as
ONNX's one operator, for which onnxruntime 1.32 has no kernel: it expands it into nodes that take 1.6 to 1.9 times as
long as torch.onnx's reshape and instance normalization. `--opset 20`, from before the operator, gives that spelling,
and poolformer's ratio is then 1.01 instead of 1.28, bit's 0.98 instead of 1.31 (one run, minimum of 60). The others are
models of 0.06 to 0.3 ms (layoutlm, rwkv), where the difference is 7 to 30 microseconds.

"""


def latest(path: Path) -> list[Line]:
    """The last line for each model and kind of shapes."""
    found: dict[tuple[str, str], Line] = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        found[line["name"], line["shapes"]] = line
    return list(found.values())


def compared(path: Path) -> list[Line]:
    """The last line with a peer for each model and kind of shapes; "newest" is what isomorph wrote in the last run."""
    newest = {(line["name"], line["shapes"]): line.get("ours", {}) for line in latest(path)}
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    found = {(line["name"], line["shapes"]): line for line in lines if "peer" in line}
    return [{**line, "newest": newest[key]} for key, line in found.items()]


def outcome(line: Line) -> tuple[str, str]:
    """(state, reason): "EQUIVALENT", "DIFFERENT", "INCONCLUSIVE"; "not exported" where torch.export refuses;
    "refused" where we do; "failed" for a crash or time-out of ours; "not built" where the model itself fails."""
    if "crash" in line:
        return "not built", str(line["crash"])
    export, ours, judged = (line.get(step, {}) for step in ("export", "ours", "judged"))
    if "error" in export:
        return "not exported", str(export["error"])
    if "crash" in ours:
        return "failed", str(ours["crash"])
    if "error" in ours:
        reasons = [f"{reason}" + (f" (x{count})" if count > 1 else "") for reason, count in ours["reasons"].items()]
        return "refused", "; ".join(reasons)
    if "crash" in judged:
        return "not judged", str(judged["crash"])
    if "error" in judged:
        return "not judged", "; ".join(judged["reasons"])
    return str(judged["verdict"]), "; ".join(judged["reasons"][:2])


def counts(lines: Sequence[Line]) -> Iterator[str]:
    """One row for each family, and the sum: how far its models got."""
    yield "| family | runs | accepted by torch.export | converted | EQUIVALENT | of those accepted |"
    yield "|---|---|---|---|---|---|"
    families = sorted({line["family"].split(" ", 1)[0] for line in lines} | {line["family"] for line in lines})
    kept = [name for name in families if not name.startswith("timm ")]
    for family in [*kept, "all"]:
        whole = family == "all" or " " not in family
        chosen = [
            line for line in lines if family in ("all", line["family"].split(" ", 1)[0] if whole else line["family"])
        ]
        states = Counter(outcome(line)[0] for line in chosen)
        accepted = len(chosen) - states["not exported"] - states["not built"]
        converted = accepted - states["refused"] - states["failed"]
        equal = states["EQUIVALENT"]
        share = f"{100 * equal / accepted:.1f} %" if accepted else ""
        yield f"| {family} | {len(chosen)} | {accepted} | {converted} | {equal} | {share} |"


RATIOS: dict[str, Callable[[Line], float]] = {
    "time to convert": lambda line: line["ours"]["seconds"] / line["peer"]["seconds"],
    "nodes": lambda line: line["newest"]["nodes"] / line["peer"]["nodes"],
    "nodes, with `--fold-batch-norm`": lambda line: (
        (line["newest"]["nodes"] - line["newest"]["foldable"]) / line["peer"]["nodes"]
    ),
    "memory on top of the program": lambda line: max(line["ours"]["megabytes"], 1) / max(line["peer"]["megabytes"], 1),
    "latency of onnxruntime": lambda line: line["latency"]["ours"] / line["latency"]["peer"],
}


def comparison(lines: Sequence[Line]) -> Iterator[str]:
    """The median ratios to torch.onnx over the models that both wrote."""
    both = [line for line in lines if "nodes" in line.get("peer", {}) and "nodes" in line.get("ours", {})]
    refused = [line for line in lines if "nodes" not in line["peer"]]
    mine = sum("nodes" in line.get("ours", {}) for line in refused)
    yield f"Of {len(lines)} exported programs, torch.onnx wrote {len(lines) - len(refused)}; of the {len(refused)}"
    yield f"others isomorph wrote {mine}. Ratios of isomorph to torch.onnx over the {len(both)} that both wrote:"
    yield ""
    yield "| ratio | models | median | 90th percentile | largest |"
    yield "|---|---|---|---|---|"
    for title, ratio in RATIOS.items():
        values = sorted(each for each in (_ratio(ratio, line) for line in both) if each is not None)
        if values:
            high = values[int(0.9 * (len(values) - 1))]
            median = statistics.median(values)
            yield f"| {title} | {len(values)} | {median:.2f} | {high:.2f} | {values[-1]:.2f} |"


def _ratio(ratio: Callable[[Line], float], line: Line) -> float | None:
    try:
        return ratio(line)
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def table(lines: Sequence[Line], peers: dict[tuple[str, str], Line]) -> Iterator[str]:
    """One row for each model: the result, and torch.onnx's beside it where it was asked."""
    yield "| model | shapes | result | nodes | torch.onnx | convert s | torch.onnx s | MB | torch.onnx MB | latency | |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for line in sorted(lines, key=lambda each: (each["family"], each["name"], each["shapes"])):
        state, reason = outcome(line)
        ours = line.get("ours", {})
        pair = peers.get((line["name"], line["shapes"]), {})
        peer = pair.get("peer", {})
        latency = _ratio(RATIOS["latency of onnxruntime"], pair)
        note = reason or ("relaxed" if line.get("export", {}).get("relaxed") else "")
        cells = [line["name"], line["shapes"], state, ours.get("nodes", ""), _peer_nodes(peer)]
        cells += [_number(ours, "seconds"), _number(peer, "seconds"), _number(ours, "megabytes", 0)]
        cells += [_number(peer, "megabytes", 0), "" if latency is None else f"{latency:.2f}"]
        text = " ".join(note.split()).replace("|", "\\|")
        yield "| " + " | ".join(str(cell) for cell in [*cells, text[:200]]) + " |"


def _peer_nodes(peer: Line) -> str:
    if "nodes" in peer:
        return str(peer["nodes"])
    return "fails" if peer else ""


def _number(step: Line, key: str, digits: int = 2) -> str:
    return f"{step[key]:.{digits}f}" if key in step else ""


def render(path: Path) -> str:
    """The page."""
    lines = latest(path)
    peers = compared(path)
    by_name = {(line["name"], line["shapes"]): line for line in peers}
    revisions = sorted({line["commit"] for line in lines})
    rest = [line for line in lines if outcome(line)[0] != "EQUIVALENT"]
    failing = [f"- {line['name']} ({line['shapes']}): {outcome(line)[0]}: {_short(outcome(line)[1])}" for line in rest]
    parts = [
        *counts(lines),
        "",
        *(comparison(peers) if peers else []),
        "",
        f"Revisions of the runs: {', '.join(revisions)}.",
        "",
        "## What is not EQUIVALENT",
        "",
        *failing,
        "",
        "## All runs",
        "",
        *table(lines, by_name),
    ]
    return HEADER + "\n".join(parts) + "\n"


def _short(reason: str) -> str:
    return " ".join(reason.split())[:200].replace("<", "\\<")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="what torch_sweep.py wrote")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there (markdown)")
    options = parser.parse_args()
    text = render(options.results)
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
