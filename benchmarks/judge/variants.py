"""The same model by other hands: runtimes, optimization levels, thread counts, layouts, opsets, other exporters.

Each variant gives a runner that computes the same function as the source; whatever the judge says against it is a false
alarm.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from isomorph.converters.convert import convert
from isomorph.validators.runner import NATIVE, Arrays, Result, Runner, Signature
from isomorph.validators.runners.onnx_reference import ReferenceRunner
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.runners.torch_versions import loadable
from judge.models import Pair

__all__ = ["VARIANTS", "Target", "Variant"]


@dataclass(frozen=True, slots=True)
class Target:
    """A runner, and the file that it runs if it is one that isomorph wrote."""

    runner: Runner
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """`open` gives the target, or None where there is none of this kind."""

    name: str
    open: Callable[[Pair, Path], Target | None]


class _Session(OnnxRunner):
    """onnxruntime with settings of its own."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self._settings = settings
        super().__init__(path, role="target")

    def _open(self, model: str | bytes) -> onnxruntime.InferenceSession:
        for name, value in self._settings.items():
            setattr(self._options, name, value)
        return super()._open(model)


def _session(**settings: Any) -> Callable[[Pair, Path], Target]:
    return lambda pair, folder: Target(_Session(pair.target, **settings), pair.target)


def _level(name: str) -> Any:
    return getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")


def _converted(name: str, **options: Any) -> Callable[[Pair, Path], Target | None]:
    def open_(pair: Pair, folder: Path) -> Target | None:
        path = folder / f"{pair.name}.{name}.onnx"
        try:
            convert(pair.source.path, path, force=True, **options)
            return Target(OnnxRunner(path, role="target"), path)
        except Exception as error:  # an op that an older opset lacks, a kernel that the runtime lacks
            print(f"  {pair.name} {name}: {str(error)[:100]!r}")
            return None

    return open_


class _Torch:
    """A program by PyTorch itself, under other settings."""

    def __init__(self, path: Path, *, channels_last: bool = False, threads: int = 1, onednn: bool = True) -> None:
        from isomorph.validators.runners.torch_program import ProgramRunner

        program = torch.export.load(loadable(str(path)))
        if channels_last:
            for tensor in (*program.state_dict.values(), *program.constants.values()):
                if isinstance(tensor, torch.Tensor) and tensor.ndim == 4:
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self._runner = ProgramRunner(program)
        self._threads, self._onednn = threads, onednn

    def signature(self) -> Signature:
        return self._runner.signature()

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        torch.set_num_threads(self._threads)
        try:
            with torch.backends.mkldnn.flags(enabled=self._onednn):
                return self._runner.run(inputs, taps=taps, precision=precision)
        finally:
            torch.set_num_threads(1)


def _torch(**options: Any) -> Callable[[Pair, Path], Target | None]:
    def open_(pair: Pair, folder: Path) -> Target | None:
        return Target(_Torch(pair.source.path, **options)) if pair.source.format == "pt2" else None

    return open_


def _exported(pair: Pair, folder: Path) -> Target | None:
    """PyTorch's own exporter; it makes constants of what a model keeps from call to call, which is another model."""
    if pair.source.format != "pt2" or pair.kind == "stateful":
        return None
    path = folder / f"{pair.name}.torch.onnx"
    try:
        if not path.exists():
            with contextlib.redirect_stdout(io.StringIO()):
                torch.onnx.export(
                    torch.export.load(loadable(str(pair.source.path))), (), str(path), dynamo=True, verbose=False
                )
        return Target(OnnxRunner(path, role="target"), path)
    except Exception as error:
        print(f"  {pair.name} torch.onnx: {str(error)[:100]!r}")
        return None


def _reference(pair: Pair, folder: Path) -> Target | None:
    try:
        return Target(ReferenceRunner(pair.target), pair.target)
    except Exception as error:  # an op of a newer opset
        print(f"  {pair.name} onnx.reference: {str(error)[:100]!r}")
        return None


def _as_downloaded(pair: Pair, folder: Path) -> Target | None:
    """The source file itself, where it is ONNX: another graph of the same model."""
    return Target(OnnxRunner(pair.source.path, role="target")) if pair.source.format == "onnx" else None


VARIANTS = (
    Variant("onnxruntime, as users run it", _session()),
    Variant("onnxruntime, no optimizations", _session(graph_optimization_level=_level("DISABLE_ALL"))),
    Variant("onnxruntime, basic optimizations", _session(graph_optimization_level=_level("ENABLE_BASIC"))),
    Variant("onnxruntime, extended optimizations", _session(graph_optimization_level=_level("ENABLE_EXTENDED"))),
    Variant("onnxruntime, two threads", _session(intra_op_num_threads=2)),
    Variant("onnxruntime, not deterministic", _session(use_deterministic_compute=False)),
    Variant("onnx.reference", _reference),
    Variant("isomorph, simplified", _converted("simple", simplify=True)),
    Variant("isomorph, batch norm folded", _converted("folded", fold_batch_norm=True)),
    Variant("isomorph, opset 17", _converted("opset17", opset=17)),
    Variant("isomorph, opset 21", _converted("opset21", opset=21)),
    Variant("isomorph, native layout", _converted("native", layout="native")),
    Variant("PyTorch, channels last", _torch(channels_last=True)),
    Variant("PyTorch, two threads", _torch(threads=2)),
    Variant("PyTorch, without oneDNN", _torch(onednn=False)),
    Variant("PyTorch's exporter", _exported),
    Variant("the file as downloaded", _as_downloaded),
)
