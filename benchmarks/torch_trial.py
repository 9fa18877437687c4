"""What a sweep does with one model: export it, convert it, judge the result, and the same for torch.onnx.

Everything here runs in children of the sweep (isolation.py). A result is a dict of plain values.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from isolation import forked, peak_megabytes, reset_peak, resident_megabytes
from models.entry import Entry, Example

from isomorph.converters.convert import convert
from isomorph.converters.torch.capture import capture
from isomorph.converters.torch.detection import exportable
from isomorph.errors import IsomorphError, RunnerError, UnsupportedError
from isomorph.validators.runner import ModelFile, Result
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.runners.torch_program import ProgramRunner
from isomorph.validators.runners.torch_signature import as_numpy
from isomorph.validators.trial import judge

__all__ = ["Limits", "attempt"]

MEASURED_SECONDS = 2.0
"""How long the latency of a pair of models is measured at most."""
MOST_RUNS = 25


class Limits:
    """Seconds and megabytes that each child may take."""

    def __init__(self, seconds: float, megabytes: float) -> None:
        self.seconds = seconds
        self.megabytes = megabytes

    def run(self, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return forked(function, seconds=self.seconds, megabytes=self.megabytes)


def attempt(entry: Entry, *, symbolic: bool, folder: Path, limits: Limits, peer: bool) -> dict[str, Any]:
    """Build and export the model, then ask ours and the peer, each in a child that finds the exported program.

    {"build": {...}, "export": {...}, "ours": {...}, "judged": {...}, "peer": {...}, "latency": {...}}; a step that
    fails has "error" with the reason, or "crash", and those after it are missing.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    began = time.perf_counter()
    example = entry.make(symbolic)
    parameters = sum(each.numel() for each in example.module.parameters())
    result: dict[str, Any] = {"build": {"seconds": time.perf_counter() - began, "parameters": parameters}}
    began = time.perf_counter()
    try:
        exported, relaxed = _export(example)
    except Exception as error:
        return result | {"export": {"error": _sentence(error), "seconds": time.perf_counter() - began}}
    result["export"] = {"seconds": time.perf_counter() - began, "nodes": len(exported.graph.nodes), "relaxed": relaxed}
    ours, theirs = folder / "ours.onnx", folder / "theirs.onnx"
    result["ours"] = limits.run(lambda: _convert(exported, example, ours))
    if ours.exists():
        result["judged"] = limits.run(lambda: _judge(exported, example, ours))
    if peer:
        result["peer"] = limits.run(lambda: _peer(exported, theirs))
    paths = {name: path for name, path in (("ours", ours), ("peer", theirs)) if path.exists()}
    if paths:
        result["latency"] = limits.run(lambda: _latency(example, paths))
    return result


def _export(example: Example) -> tuple[Any, str]:
    """The exported program; where the module fixes or bounds a size that should be symbolic, with `Dim.AUTO` for all of
    them, and torch's message."""
    module, kwargs = example.module, dict(example.kwargs)
    with exportable(torch):
        try:
            return torch.export.export(module, example.args, kwargs, dynamic_shapes=example.dynamic), ""
        except torch._dynamo.exc.UserError as error:
            if example.dynamic is None or "Constraints violated" not in str(error):
                raise
            free = _relaxed(example.dynamic)
            return torch.export.export(module, example.args, kwargs, dynamic_shapes=free), _sentence(error)


def _relaxed(shapes: Any) -> Any:
    """The same dynamic shapes with `Dim.AUTO` in place of each dimension."""
    if isinstance(shapes, Mapping):
        return {key: _relaxed(each) for key, each in shapes.items()}
    if isinstance(shapes, list | tuple):
        return type(shapes)(_relaxed(each) for each in shapes)
    return None if shapes is None else torch.export.Dim.AUTO


def _convert(exported: Any, example: Example, path: Path) -> dict[str, Any]:
    """Walk the exported program, convert, write: seconds of both, and the memory on top of what the program holds."""
    reset_peak()
    before = resident_megabytes()
    began = time.perf_counter()
    try:
        model = capture(exported, dynamic_shapes=example.dynamic)
        walked = time.perf_counter() - began
        convert(model, path, force=True)
    except IsomorphError as error:
        return {"error": type(error).__name__, "reasons": _reasons(error)}
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "import": walked, "megabytes": peak_megabytes() - before, **_nodes(path)}


def _judge(exported: Any, example: Example, path: Path) -> dict[str, Any]:
    """The verdict of the judge on the exported program and the file, in float64 and float32."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    began = time.perf_counter()
    source = _Guarded(ProgramRunner(exported), "torch")
    target = _Guarded(OnnxRunner(path, role="target"), "onnxruntime")
    names, arrays = [spec.name for spec in source.signature().inputs], _arrays(example)
    data = dict(zip(names, arrays, strict=True)) if len(names) == len(arrays) else None  # states are inputs, too
    try:
        report = judge(source, target, data=data, written=ModelFile(path, "onnx"))
    except IsomorphError as error:
        return {"error": type(error).__name__, "reasons": _reasons(error)}
    return {
        "verdict": report.verdict.value,
        "reasons": report.reasons[:4],
        "notes": report.notes[:4],
        "culprit": None if report.culprit is None else str(report.culprit)[:600],
        "cases": len(report.cases),
        "worst": max((o.worst.comparison.worst for o in report.outputs if o.worst is not None), default=None),
        "seconds": time.perf_counter() - began,
    }


class _Guarded:
    """A runner whose failures are RunnerErrors, as those of a runner in a process of its own are."""

    def __init__(self, runner: Any, name: str) -> None:
        self.signature = runner.signature
        self._runner = runner
        self._name = name

    def run(self, inputs: Mapping[str, Any], **options: Any) -> Result:
        try:
            result: Result = self._runner.run(inputs, **options)
        except (IsomorphError, NotImplementedError):
            raise
        except Exception as error:
            raise RunnerError(_sentence(error), runner=self._name) from error
        return result


def _peer(exported: Any, path: Path) -> dict[str, Any]:
    """torch.onnx's exporter on the same program, optimized as it is by default."""
    reset_peak()
    before = resident_megabytes()
    began = time.perf_counter()
    try:
        program = torch.onnx.export(exported, dynamo=True, verbose=False)
        program.save(str(path))
    except Exception as error:
        return {"error": type(error).__name__, "reasons": {_sentence(error): 1}}
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "megabytes": peak_megabytes() - before, **_nodes(path)}


def _nodes(path: Path) -> dict[str, Any]:
    """Number of nodes of a file, those of subgraphs and functions too, how many of each operator, and how many are a
    BatchNormalization that alone reads a Conv, which folding would take away."""
    model = onnx.load(str(path), load_external_data=False)
    kinds: Counter[str] = Counter()
    foldable = 0
    pending: list[Any] = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        readers = Counter(name for node in graph.node for name in node.input)
        convolved = {node.output[0] for node in graph.node if node.op_type == "Conv" and readers[node.output[0]] == 1}
        for node in graph.node:
            kinds[node.op_type] += 1
            foldable += node.op_type == "BatchNormalization" and node.input[0] in convolved
            pending += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {"nodes": sum(kinds.values()), "foldable": foldable, "kinds": dict(kinds.most_common())}


def _latency(example: Example, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Milliseconds of the fastest run by onnxruntime on one thread; the files take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    arrays = _arrays(example)
    sessions, found = {}, {}
    for name, path in paths.items():
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            feeds = {each.name: array for each, array in zip(session.get_inputs(), arrays, strict=True)}
            session.run(None, feeds)
            sessions[name] = (session, feeds)
        except Exception as error:
            found[name] = {"error": _sentence(error)}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    began = time.perf_counter()
    while sessions and (time.perf_counter() - began < MEASURED_SECONDS or len(next(iter(times.values()))) < 3):
        for name, (session, feeds) in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds)
            times[name].append((time.perf_counter() - start) * 1e3)
        if len(next(iter(times.values()))) >= MOST_RUNS:
            break
    return found | {name: min(each) for name, each in times.items()}


def _arrays(example: Example) -> list[Any]:
    """The tensors among the example inputs, in order."""
    leaves = torch.utils._pytree.tree_leaves((example.args, dict(example.kwargs)))
    return [as_numpy(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _reasons(error: IsomorphError) -> dict[str, int]:
    """{"op: reason": how often}, or the error in one line."""
    if isinstance(error, UnsupportedError):
        return dict(Counter(f"{item.op}: {item.reason}"[:300] for item in error.items).most_common(20))
    return {(error.what + (f" ({error.because})" if error.because else ""))[:500]: 1}


def _sentence(error: BaseException) -> str:
    """The last cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])
    return f"{type(error).__name__}: {text}"[:400]
