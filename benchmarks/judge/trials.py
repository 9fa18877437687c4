"""Pairs under trial in one warm process: a source that remembers its answers, targets that are edited files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto

from isomorph.validators import ModelFile, Worker
from isomorph.validators.certificates.record import question
from isomorph.validators.runner import NATIVE, Arrays, Result, Runner, Signature
from isomorph.validators.runners.onnxruntime import OnnxRunner
from judge.models import Pair

__all__ = ["Remembering", "every_value", "open_program", "open_source"]


class Remembering:
    """A source whose answers are kept: the faults of one model are all judged on the same questions."""

    def __init__(self, source: Runner) -> None:
        self._source = source
        self._signature = source.signature()
        self._known: dict[tuple[str, tuple[str, ...]], Result | Exception] = {}

    def signature(self) -> Signature:
        return self._signature

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        key = (question(inputs, precision), tuple(taps))
        if key not in self._known:
            try:
                self._known[key] = self._source.run(inputs, taps=taps, precision=precision)
            except Exception as error:  # a refusal is an answer, too
                self._known[key] = error
        answer = self._known[key]
        if isinstance(answer, Exception):
            raise answer
        return Result(dict(answer.outputs), dict(answer.taps))


def open_source(pair: Pair) -> Any:
    """The source's runner: in this process for PyTorch and ONNX, a worker for Keras."""
    if pair.source.format == "onnx":
        return OnnxRunner(pair.source.path, role="reference")
    if pair.source.format == "pt2":
        return open_program(pair.source.path)
    return Worker(ModelFile(pair.source.path, pair.source.format), role="reference")


def open_program(path: Path) -> Runner:
    import torch

    from isomorph.validators.runners.torch_program import ProgramRunner
    from isomorph.validators.runners.torch_versions import loadable

    torch.set_num_threads(1)
    try:
        return ProgramRunner(torch.export.load(loadable(str(path))))
    except RuntimeError:
        import_module("models.transformers")  # registers the classes of what its models return
        return ProgramRunner(torch.export.load(loadable(str(path))))


def every_value(path: Path, inputs: Arrays) -> dict[str, np.ndarray]:
    """All values of one run of an ONNX file by name: inputs, inner values, outputs."""
    proto: ModelProto = onnx.load(str(path))
    known = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return {**inputs, **dict(zip(names, session.run(names, dict(inputs)), strict=True))}
