"""What `simplify_speed.py` measures: one simplifier as a library, or the latency of what they wrote.

python simplify_tools.py time TOOL SOURCE TARGET            processor seconds of a call, after the import
python simplify_tools.py inputs INPUTS.npz FILE             the options of `validate` for these sizes
python simplify_tools.py latency INPUTS.npz FILE...         milliseconds of a run by onnxruntime, and largest error
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["TOOLS", "inputs", "latencies", "nodes", "seconds"]

SECONDS = 1.0
"""How long the runs of a model's files take in all, at least."""
FEWEST, MOST = 15, 400


def _isomorph(opset: int | None) -> Callable[[str, str], None]:
    import isomorph.converters.onnx.reader
    import isomorph.converters.onnx.writer  # noqa: F401  (as a call does at first)
    from isomorph.converters.convert import convert

    def run(source: str, target: str) -> None:
        convert(source, target, simplify=True, fold_batch_norm=True, force=True, opset=opset)

    return run


def _onnxsim() -> Callable[[str, str], None]:
    import onnx
    import onnxsim

    def run(source: str, target: str) -> None:
        simplified, _ = onnxsim.simplify(source)
        onnx.save(simplified, target)

    return run


def _onnxslim() -> Callable[[str, str], None]:
    import onnxslim

    def run(source: str, target: str) -> None:
        onnxslim.slim(source, target)

    return run


def _onnxscript() -> Callable[[str, str], None]:
    import onnxscript.optimizer
    from onnxscript import ir

    def run(source: str, target: str) -> None:
        model = ir.load(source)
        onnxscript.optimizer.optimize(model)
        ir.save(model, target)

    return run


TOOLS: dict[str, Callable[[], Callable[[str, str], None]]] = {
    "isomorph": lambda: _isomorph(None),
    "isomorph24": lambda: _isomorph(24),
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxscript": _onnxscript,
}


def seconds(tool: str, source: str, target: str) -> float:
    """Processor seconds of a call after the import."""
    run = TOOLS[tool]()
    began = time.process_time()
    run(source, target)
    return time.process_time() - began


def nodes(file: Path) -> int:
    """Number of nodes but Constant, those of subgraphs and functions too."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    total, pending = 0, [model.graph, *model.functions]
    while pending:
        for node in pending.pop().node:
            total += node.op_type != "Constant"
            pending += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return total


def inputs(file: Path, model: Path) -> list[str]:
    """["--input", "NAME=SHAPE", …] of the example inputs."""
    import numpy as np
    import onnx

    names = [each.name for each in onnx.load(model, load_external_data=False).graph.input]
    with np.load(file) as stored:
        shapes = [",".join(map(str, stored[key].shape)) for key in stored.files]
    return [part for name, shape in zip(names, shapes, strict=True) for part in ("--input", f"{name}={shape}")]


def latencies(inputs: Path, files: list[Path]) -> dict[str, Any]:
    """{file: {"nodes", "ms", "error"}}: least processor time of a run, largest difference from the first file."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with np.load(inputs) as stored:
        arrays = [stored[key] for key in stored.files]
    found: dict[str, Any] = {}
    sessions = {}
    for file in files:
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            feeds = {each.name: array for each, array in zip(session.get_inputs(), arrays, strict=True)}
            outputs = [np.asarray(each, np.float64) for each in session.run(None, feeds)]
        except Exception as error:
            found[file.name] = {"nodes": nodes(file), "failure": f"{type(error).__name__}: {error}"[:300]}
            continue
        sessions[file.name] = (session, feeds)
        first = found.setdefault("", outputs)
        scale = max(float(np.abs(each).max(initial=0)) for each in first) or 1.0
        error = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(outputs, first, strict=True))
        found[file.name] = {"nodes": nodes(file), "ms": float("inf"), "error": error / scale}
    found.pop("", None)
    began, count, turns = time.perf_counter(), 0, random.Random(0)  # whose turn follows whose differs: caches remember
    while sessions and count < MOST and (count < FEWEST or time.perf_counter() - began < SECONDS):
        for name, (session, feeds) in turns.sample(list(sessions.items()), len(sessions)):
            start = time.thread_time()  # the session has one thread, this one
            session.run(None, feeds)
            found[name]["ms"] = min(found[name]["ms"], (time.thread_time() - start) * 1e3)
        count += 1
    return found


if __name__ == "__main__":
    if sys.argv[1] == "time":
        print("RESULT", seconds(*sys.argv[2:5]))
    elif sys.argv[1] == "inputs":
        print("RESULT", json.dumps(inputs(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print("RESULT", json.dumps(latencies(Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])))
