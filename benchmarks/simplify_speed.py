"""Simplification against onnxsim, onnxslim and onnxscript's optimizer, on raw exports of torch.onnx.

    python benchmarks/simplify_speed.py --folder RAW --results FILE.jsonl [--models NAME,...] [--rounds N]
                                        [--no-judge] [--again] [--output FILE.md]

Each model is exported once (simplify_models.py). Then each tool simplifies the same file in a process of its own, all
on one CPU and in turn; times are the least processor seconds of the rounds: of the whole process (isomorph's is its
command, the others' import and one call), and of the call. onnxruntime runs the raw file and all results in turn on one
thread. isomorph's judge compares its result with the raw file. Models that are among the results already are not
measured again; the page is made of all results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from processes import measure, python

TOOLS = ("isomorph", "isomorph24", "onnxsim", "onnxslim", "onnxscript")
PEERS = TOOLS[2:]
NAMES = (
    "resnet18", "efficientnet_b0", "mobilenet_v3_small", "shufflenet_v2_x1_0", "densenet121", "googlenet",
    "convnext_tiny", "swin_t", "vit", "lraspp_mobilenet", "bert", "gpt2", "llama", "qwen3", "segformer", "clip",
    "mamba", "wav2vec2", "lstm", "gru",
)  # fmt: skip
HERE = Path(__file__).parent
COMMAND = ("-m", "isomorph", "convert")
OPTIONS = ("--simplify", "--fold-batch-norm", "--force", "--json")


def main() -> int:
    options = _options()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    if options.again:
        for row in rows:
            _run(row, options)
            print(_summary(row), file=sys.stderr, flush=True)
        options.results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in options.models:
        if any(row["model"] == name for row in rows):
            continue
        rows.append(_row(name, options))
        print(_summary(rows[-1]), file=sys.stderr, flush=True)
        with options.results.open("a") as file:
            print(json.dumps(rows[-1]), file=file)
    order = {name: position for position, name in enumerate(NAMES)}
    page = _page(sorted(rows, key=lambda row: order.get(row["model"], len(order))))
    if options.output:
        options.output.write_text(page)
    else:
        print(page)
    return 0


def _row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    folder, raw = options.folder, options.folder / f"{name}.onnx"
    if not raw.exists():
        measure(python(HERE / "simplify_models.py", name, folder), folder=HERE, cpu=None).check()
    targets = {tool: folder / f"{name}.{tool}.onnx" for tool in TOOLS}
    row: dict[str, Any] = {"model": name, "raw": {"mb": raw.stat().st_size / 1e6}}
    for _ in range(options.rounds):
        for tool, target in targets.items():
            row[tool] = _least(row.get(tool), _simplified(tool, raw, target, options.cpu))
    _run(row, options)
    if options.judge:
        row["isomorph"]["verdict"] = _verdict(raw, targets["isomorph"], options)
    return row


def _run(row: dict[str, Any], options: argparse.Namespace) -> None:
    """Let onnxruntime run the raw file and what the tools made of it: nodes, latencies, errors."""
    folder, name = options.folder, row["model"]
    files = {tool: folder / f"{name}.{tool}.onnx" for tool in TOOLS if "failure" not in row[tool]}
    raw = folder / f"{name}.onnx"
    command = python(HERE / "simplify_tools.py", "latency", folder / f"{name}.npz", raw, *files.values())
    runs = json.loads(measure(command, folder=folder, cpu=options.cpu).check().output.rpartition("RESULT ")[2])
    row["raw"] |= runs[raw.name]
    for tool, file in files.items():
        row[tool] |= runs[file.name]


def _simplified(tool: str, raw: Path, target: Path, cpu: int) -> dict[str, Any]:
    """How long a tool took, as a library; isomorph's whole process is its command."""
    library = measure(python(HERE / "simplify_tools.py", "time", tool, raw, target), folder=target.parent, cpu=cpu)
    if library.code != 0 or not target.exists():
        return {"failure": library.errors.strip()[-300:] or "it wrote nothing"}
    whole = library
    if tool in TOOLS[:2]:
        opset = ("--opset", "24") if tool == "isomorph24" else ()
        whole = measure(python(*COMMAND, raw, target, *OPTIONS, *opset), folder=target.parent, cpu=cpu).check()
    call = float(library.output.rpartition("RESULT ")[2])
    return {"process": whole.processor, "peak_mb": whole.megabytes, "call": call}


def _least(known: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """The least of two rounds."""
    if known is None or "failure" in known or "failure" in found:
        return found
    return {key: min(known[key], found[key]) for key in found}


def _verdict(raw: Path, target: Path, options: argparse.Namespace) -> str:
    """The verdict; of a model that does not run at all sizes that its file allows, at those of the example."""
    command = python("-m", "isomorph", "validate", raw, target, "--json")
    for more in ([], _sizes(raw, options)):
        judged = measure([*command, *more], folder=options.folder, cpu=options.cpu)
        try:
            return str(json.loads(judged.output)["verdict"])
        except (ValueError, KeyError):
            failure = f"exit code {judged.code}: {judged.output.strip()[-300:]}"
    return failure


def _sizes(raw: Path, options: argparse.Namespace) -> list[str]:
    """`--input` for each input of the model, with the sizes of the example."""
    command = python(HERE / "simplify_tools.py", "inputs", raw.with_suffix(".npz"), raw)
    return list(json.loads(measure(command, folder=options.folder).check().output.rpartition("RESULT ")[2]))


def _summary(row: dict[str, Any]) -> str:
    parts = [f"{row['model']}: raw {row['raw']['nodes']}"]
    for tool in TOOLS:
        found = row[tool]
        if "failure" in found:
            parts.append(f"{tool} failed: {found['failure'].splitlines()[-1]}")
        else:
            parts.append(
                f"{tool} {found['nodes']} nodes {found['process']:.2f} s {found['call'] * 1e3:.0f} ms "
                f"runs {found['ms']:.3f} ms {found.get('verdict', '')} {found['error']:.1e}"
            )
    return " | ".join(parts)


def _best(row: dict[str, Any], key: str) -> float:
    """The least of what the peers reach."""
    return float(min(row[tool][key] for tool in PEERS if "failure" not in row[tool] and key in row[tool]))


def _cell(row: dict[str, Any], tool: str, key: str, form: str) -> str:
    found = row[tool]
    return "fails" if "failure" in found else format(found[key] * (1e3 if key == "call" else 1), form)


def _table(rows: list[dict[str, Any]], key: str, form: str, raw: bool) -> list[str]:
    tools = (*(("raw",) if raw else ()), *TOOLS)
    lines = ["| model | " + " | ".join(_TITLES[tool] for tool in tools) + " |", "|---" * (len(tools) + 1) + "|"]
    return lines + [
        "| " + " | ".join([row["model"], *(_cell(row, tool, key, form) for tool in tools)]) + " |" for row in rows
    ]


_TITLES = {"raw": "raw", "isomorph": "isomorph", "isomorph24": "isomorph, opset 24"} | {tool: tool for tool in PEERS}


def _ratios(rows: list[dict[str, Any]], tool: str, key: str, *, inverse: bool = False) -> list[float]:
    """Ours over the best of theirs, or the inverse."""
    found = [row[tool][key] / _best(row, key) for row in rows if key in row[tool]]
    return [1 / each for each in found] if inverse else found


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _page(rows: list[dict[str, Any]]) -> str:
    verdicts = [row["isomorph"].get("verdict", "not judged") for row in rows]
    equal = sum(verdict == "EQUIVALENT" for verdict in verdicts)
    versions = ", ".join(f"{name} {version(name)}" for name in (*PEERS, "onnxruntime", "torch"))
    lines = [
        "# Simplification, measured",
        "",
        "Raw exports of torch.onnx (`dynamo=True, optimize=False`, opset 20, symbolic sizes; wav2vec2 static) "
        "simplified by isomorph (`convert raw.onnx out.onnx --simplify --fold-batch-norm`), onnxsim, onnxslim and "
        "onnxscript's optimizer as they are by default. `benchmarks/simplify_speed.py` makes this page.",
        "",
        "All tools in turn on one thread, the least of three rounds, on a machine whose other processor was busy: "
        "equal graphs differ by up to a tenth in latency here, small ones by more. Most of isomorph's process is the "
        "start: the interpreter, numpy and onnx's messages.",
        "",
        f"{versions}.",
        "",
        "| against the best of the three, for each model | median (from to) | at opset 24 |",
        "|---|---|---|",
    ]
    for title, key, inverse in (
        ("nodes, ours / theirs", "nodes", False),
        ("latency in onnxruntime, ours / theirs", "ms", False),
        ("time of the whole process, theirs / ours", "process", True),
        ("time of the call after the import, theirs / ours", "call", True),
        ("peak memory of the process, ours / theirs", "peak_mb", False),
    ):
        cells = [_spread(_ratios(rows, tool, key, inverse=inverse)) for tool in TOOLS[:2]]
        lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        "| at the file's opset, against | nodes, ours / theirs | latency, ours / theirs | process, theirs / ours "
        "| call, theirs / ours |",
        "|---|---|---|---|---|",
    ]
    for peer in PEERS:
        found = [row for row in rows if "failure" not in row[peer] and "ms" in row[peer]]
        parts = [[row["isomorph"][key] / row[peer][key] for row in found] for key in ("nodes", "ms", "process", "call")]
        cells = [*map(_spread, parts[:2]), *(_spread([1 / each for each in part]) for part in parts[2:])]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    lines += [
        "",
        "onnxsim works in C++: on small graphs its call is faster than ours, its process imports for seconds.",
    ]
    lines += [
        "",
        f"Verdicts of isomorph's judge on its results against the raw files: {equal} of {len(verdicts)} EQUIVALENT.",
    ]
    lines += [
        f"{row['model']}: {row[tool]['verdict']}."
        for row in rows
        for tool in TOOLS[:2]
        if row[tool].get("verdict", "EQUIVALENT") != "EQUIVALENT"
    ]
    lines += [
        "",
        "A file keeps its opset unless `--opset` asks for another one: from 23 on ONNX has attention, rotary embedding "
        "and RMS normalization as one operator each.",
    ]
    for title, key, form, raw in (
        ("Nodes (all but Constant)", "nodes", "d", True),
        ("Latency in onnxruntime, ms of processor time on one thread", "ms", ".3f", True),
        ("Whole process, seconds of processor time", "process", ".2f", False),
        ("Call after the import, milliseconds of processor time", "call", ".0f", False),
        ("Peak memory of the process, MB", "peak_mb", ".0f", False),
    ):
        lines += ["", f"## {title}", "", *_table(rows, key, form, raw)]
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", type=int, default=0, help="the processor that everything runs on")
    parser.add_argument("--models", type=lambda text: tuple(text.split(",")), default=NAMES)
    parser.add_argument("--judge", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--again", action="store_true", help="run the files of models among the results again")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
