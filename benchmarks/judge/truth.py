"""Whether a fault changes the function, by float64 runs in which no code of the judge takes part.

The clean and the faulty file are evaluated in float64, by isomorph's evaluator (its ops in NumPy) and, where that sees
no change or refuses, by onnx.reference on a file whose float types were widened here. Inputs are those of up to 18
cases (two seeds that no trial uses), until one of them is beyond any doubt (CERTAIN). Two numbers say how much a fault
changes, each the largest over outputs and cases, T being the clean file in float32 by onnxruntime:

    effect     max|Δ| / max|R|                              infinite where shapes, masks or integers change
    amplitude  max|Δ| / max(max|T - R|, 4·2^-24·max|R|)     Δ against rounding
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from isomorph.converters.formats import by_name, identify
from isomorph.ir import DType
from isomorph.ir.evaluate import evaluate

__all__ = ["IDENTICAL", "Change", "Truth"]

IDENTICAL = 1e-9
"""An effect up to here is float64's own rounding: the function is the same."""
CERTAIN = 1e4
"""An amplitude from which no further case is tried."""
REFERENCED = 4
"""Cases that onnx.reference is asked about: it is slow."""
FLOOR = 4 * 2.0**-24
Arrays = Mapping[str, np.ndarray]
Evaluator = Callable[[Path, Sequence[Arrays]], Iterator[Arrays | None]]


@dataclass(frozen=True, slots=True)
class Change:
    """How far a fault moves the outputs; `by` names who said so; both None where nobody could evaluate it."""

    effect: float | None
    amplitude: float | None
    by: str


class Truth:
    """The clean file's float64 answers, and how far from them a faulty file's are."""

    def __init__(
        self,
        clean: Path,
        cases: Sequence[Arrays],
        native: Sequence[Arrays],
        second: tuple[str, Evaluator] | None = None,
    ) -> None:
        """`second` is asked where isomorph's evaluator is not enough; by default onnx.reference."""
        self._evaluators = (("evaluator", _evaluated), second or ("onnx.reference", _referenced))
        self._cases = cases
        self._native = native
        self._answers: dict[str, list[Arrays]] = {"evaluator": _all(_evaluated(clean, cases))}
        self._clean = clean

    def change(self, faulty: Path) -> Change:
        """Compare a faulty file."""
        found: list[Change] = []
        for who, ask in self._evaluators:
            if who not in self._answers:
                self._answers[who] = _all(ask(self._clean, self._cases[:REFERENCED]))
            clean = self._answers[who]
            moved = self._moved(clean, ask(faulty, self._cases[: len(clean)])) if clean else None
            if moved is not None:
                found.append(Change(*moved, who))
                if moved[0] > IDENTICAL:
                    break
        return max(found, key=lambda each: each.effect or 0.0, default=Change(None, None, "nobody"))

    def _moved(self, clean: Sequence[Arrays], faulty: Iterator[Arrays | None]) -> tuple[float, float] | None:
        effect = amplitude = 0.0
        for reference, other, native in zip(clean, faulty, self._native, strict=False):
            if other is None:
                return (effect, amplitude) if effect else None
            for (name, r), f in zip(reference.items(), other.values(), strict=True):
                e, a = _distance(r, f, native[name])
                effect, amplitude = max(effect, e), max(amplitude, a)
            if amplitude > CERTAIN:
                break
        return effect, amplitude


def _all(runs: Iterator[Arrays | None]) -> list[Arrays]:
    """All answers; none where one is missing."""
    found = list(runs)
    return [] if None in found else [each for each in found if each is not None]


def _distance(r: np.ndarray, f: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    if r.shape != f.shape or r.dtype != f.dtype:
        return math.inf, math.inf
    if r.dtype.kind != "f":
        return (math.inf, math.inf) if (r != f).any() else (0.0, 0.0)
    finite = np.isfinite(r)
    if (finite != np.isfinite(f)).any():
        return math.inf, math.inf
    if not finite.any():
        return 0.0, 0.0
    moved, scale = float(np.abs(r - f)[finite].max()), float(np.abs(r[finite]).max())
    error = float(np.abs(t.astype(np.float64) - r)[finite].max()) if t.shape == r.shape else 0.0
    error = error if math.isfinite(error) else 0.0
    budget = max(error, FLOOR * scale)
    return (moved / scale if scale else math.inf * bool(moved)) if moved else 0.0, moved / budget if moved else 0.0


def _evaluated(path: Path, cases: Sequence[Arrays]) -> Iterator[Arrays | None]:
    """An answer for each case; None once it cannot be had."""
    try:
        model = by_name(identify(path).name).load_reader()(path)
        with np.errstate(all="ignore"):
            yield from (evaluate(model, case, precision=DType.FLOAT64) for case in cases)
    except Exception as error:  # whatever it lacks, the other evaluator is asked
        yield _note(path, error)


def _referenced(path: Path, cases: Sequence[Arrays]) -> Iterator[Arrays | None]:
    try:
        proto = _widened(onnx.load(str(path)))
        runner = ReferenceEvaluator(proto)
        names = [value.name for value in proto.graph.output]
        with np.errstate(all="ignore"):
            for case in cases:
                run = runner.run(None, {name: _wide(array) for name, array in case.items()})
                yield {name: np.asarray(value) for name, value in zip(names, run, strict=True)}
    except Exception as error:
        yield _note(path, error)


def _note(path: Path, error: Exception) -> None:
    print(f"  {path.name}: {type(error).__name__}: {str(error)[:120]!r}", flush=True)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _widened(proto: ModelProto) -> ModelProto:
    """The file with float64 in the place of float32: weights, types, casts, constants, also in bodies."""
    pending: list[GraphProto] = [proto.graph]
    while pending:
        graph = pending.pop()
        for tensor in graph.initializer:
            _widen(tensor)
        del graph.value_info[:]
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.DOUBLE
                _widen(attribute.t)
                if attribute.HasField("g"):
                    pending.append(attribute.g)
    return proto


def _widen(tensor: Any) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
