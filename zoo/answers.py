"""Known answers: feed a model the known inputs, and check what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from isomorph.errors import MalformedError
from isomorph.ir import DType
from isomorph.zoo.expectations import Expectation, Finding
from isomorph.zoo.manifest import Answer, Binding, Entry, File, TensorInfo
from isomorph.zoo.recipes import Array, evaluate

__all__ = ["AnswerResult", "Run", "check_answers", "known_inputs"]

Run: TypeAlias = Callable[[dict[str, Array]], Mapping[str, Array]]
"""Runs a model once: input arrays by name -> output arrays by name."""


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """One expectation, judged.

    error      largest absolute difference from what is expected; infinite if it could not be compared
    tolerance  what is allowed
    """

    answer: str
    output: str
    meaning: str
    expected: str
    received: str
    error: float
    tolerance: float
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; the keys are stable. An infinite error is null."""
        return {**asdict(self), "error": self.error if np.isfinite(self.error) else None}


def check_answers(entry: Entry, run: Run, file: File | None = None) -> list[AnswerResult]:
    """Run every known answer of `entry` through `run` and judge it.

    `run` gets and gives arrays under the names and in the axis order of the entry; with `file` given, under those of
    that file. A converted model is checked the same way, if `run` maps its names and axes back to those of its source.
    An output that is missing is a result that did not pass; what `run` raises is raised.
    """
    inputs, outputs = (file.inputs, file.outputs) if file else ({}, {})
    results: list[AnswerResult] = []
    for answer in entry.answers:
        given, sizes = {}, dict[str, int]()
        for info, array in zip(entry.inputs, known_inputs(entry, answer).values(), strict=True):
            _fits(array.shape, info, sizes)  # learns the symbolic sizes of this answer
            binding = inputs.get(info.name, Binding(info.name))
            given[binding.name] = array if binding.perm is None else np.transpose(array, binding.perm)
        received = dict(run(given))
        infos = {info.name: info for info in entry.outputs}
        for expectation in answer.expectations:
            binding = outputs.get(expectation.output, Binding(expectation.output))
            finding = _judge(expectation, received, binding, infos[expectation.output], dict(sizes))
            results.append(_result(answer, expectation, finding))
    return results


def known_inputs(entry: Entry, answer: Answer) -> dict[str, Array]:
    """The input arrays of an answer, in the declared element types.

    Raises MalformedError if a recipe makes another shape than is declared.
    """
    arrays = {}
    for info in entry.inputs:
        array = evaluate(answer.inputs[info.name]).astype(DType.of(info.dtype).numpy)
        if not _fits(array.shape, info, {}):
            what = f"the recipe of {info.name!r} makes {array.shape}, not {info.shape}"
            raise MalformedError(f"the zoo's manifest is wrong: {what}", at=f"{entry.name}, answer {answer.name}")
        arrays[info.name] = np.ascontiguousarray(array)
    return arrays


def _fits(shape: tuple[int, ...], info: TensorInfo, sizes: dict[str, int]) -> bool:
    """Whether a shape is as declared; `sizes` has the symbolic sizes that are known, and learns the others."""
    if len(shape) != len(info.shape):
        return False
    pairs = zip(shape, info.shape, strict=True)
    return all(size == (sizes.setdefault(dim, size) if isinstance(dim, str) else dim) for size, dim in pairs)


def _judge(
    expectation: Expectation,
    received: Mapping[str, Array],
    binding: Binding,
    info: TensorInfo,
    sizes: dict[str, int],
) -> Finding:
    if binding.name not in received:
        names = ", ".join(sorted(received)) or "none"
        return Finding(f"an output {binding.name}", f"outputs {names}", float("inf"), False)
    array = np.asarray(received[binding.name])
    if binding.perm is not None and array.ndim == len(binding.perm):
        array = np.transpose(array, np.argsort(binding.perm))
    if array.size == 0 or not _fits(array.shape, info, sizes):
        declared = ", ".join(str(sizes.get(str(dim), dim)) for dim in info.shape)
        return Finding(f"an array of shape ({declared})", f"an array of shape {array.shape}", float("inf"), False)
    return expectation.judge(array)


def _result(answer: Answer, expectation: Expectation, finding: Finding) -> AnswerResult:
    return AnswerResult(
        answer.name,
        expectation.output,
        expectation.meaning,
        finding.expected,
        finding.received,
        finding.error,
        expectation.tolerance,
        finding.passed,
    )
