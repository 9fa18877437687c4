"""What a source answered, kept so that it can be asked again without its framework.

`Recorder` stands before the source during a trial; `Recording` answers the same questions later, and no others. A
question is known by the SHA-256 of its inputs (names, types, shapes, bytes) and its precision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isomorph.errors import RunnerError
from isomorph.ir import DType
from isomorph.validators.runner import NATIVE, Arrays, Result, Runner, Signature

__all__ = ["Recorder", "Recording", "pack", "question", "unpack"]

_REFUSED = "the certificate holds no answer to this question"


class Recorder:
    """Passes every question on and keeps what was answered, until `stop`. Intermediate values are not kept.

    answers   question -> outputs, in the order in which they were asked for
    refusals  question -> {kind, what, because}: what the source could not do
    data      the user's own inputs, set by set
    target    for each case the SHA-256 of each output of the target, by the source's names
    """

    def __init__(self, source: Runner) -> None:
        self._source = source
        self._stopped = False
        self.answers: dict[str, Mapping[str, np.ndarray]] = {}
        self.refusals: dict[str, dict[str, str | None]] = {}
        self.data: list[Mapping[str, np.ndarray]] = []
        self.target: list[dict[str, str]] = []

    def signature(self) -> Signature:
        return self._source.signature()

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        if taps or self._stopped:
            return self._source.run(inputs, taps=taps, precision=precision)
        asked = question(inputs, precision)
        try:
            result = self._source.run(inputs, precision=precision)
        except NotImplementedError as error:
            self.refusals[asked] = {"kind": "NotImplementedError", "what": str(error), "because": None}
            raise
        except RunnerError as error:
            if not error.fatal:
                self.refusals[asked] = {"kind": "RunnerError", "what": error.what, "because": error.because}
            raise
        self.answers[asked] = result.outputs
        return result

    def stop(self) -> None:
        """What is asked from now on belongs to the explanation of the verdict, not to the verdict."""
        self._stopped = True


class Recording:
    """Answers what a `Recorder` heard. A runner without intermediate values.

    Raises RunnerError for any other question: then the inputs are not those of the recording.
    """

    def __init__(
        self, signature: Signature, answers: Mapping[str, Mapping[str, np.ndarray]], refusals: Mapping[str, Any]
    ) -> None:
        self._signature = signature
        self._answers = answers
        self._refusals = refusals

    def signature(self) -> Signature:
        return self._signature

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        if taps:
            raise NotImplementedError("a certificate holds no intermediate values")
        asked = question(inputs, precision)
        refusal = self._refusals.get(asked)
        if refusal is not None and refusal["kind"] == "NotImplementedError":
            raise NotImplementedError(refusal["what"])
        if refusal is not None:
            raise RunnerError(refusal["what"], runner="certificate", because=refusal["because"])
        if asked not in self._answers:
            because = "the inputs are made again from the seed; another version of NumPy may make others"
            raise RunnerError(_REFUSED, runner="certificate", because=because)
        return Result(dict(self._answers[asked]))


def question(inputs: Arrays, precision: str) -> str:
    """SHA-256 of the inputs, names sorted, and the precision."""
    digest = hashlib.sha256(precision.encode())
    for name in sorted(inputs):
        kind, plain = _plain(inputs[name])
        digest.update(f"\0{name}\0{kind}\0{list(plain.shape)}\0".encode("utf-8", "surrogatepass"))
        digest.update(plain.tobytes())
    return digest.hexdigest()


def pack(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of any type under names that `numpy.load` and `unpack` read: PREFIX.INDEX.DTYPE."""
    packed = {}
    for index, array in enumerate(arrays.values()):
        kind, plain = _plain(array)
        packed[f"{prefix}.{index}.{kind}"] = plain
    return packed


def unpack(packed: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse: prefix -> arrays by name. Raises ValueError for entries that `pack` did not write."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for entry, plain in packed.items():
        prefix, index, kind = entry.rsplit(".", 2)
        dtype = DType.of(kind).numpy
        found.setdefault(prefix, {})[int(index)] = plain.view(dtype) if plain.dtype != dtype else plain
    return {prefix: {names[index]: array for index, array in sorted(by.items())} for prefix, by in found.items()}


def _plain(array: np.ndarray) -> tuple[str, np.ndarray]:
    """The type's name, and the array little-endian, in C order, in a type of NumPy's own with the same bits."""
    array = np.asarray(array, order="C")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    foreign = array.dtype.kind == "V" or not isinstance(np.dtype(array.dtype.str), type(array.dtype))
    bits = array.view(f"u{array.dtype.itemsize}") if foreign else array
    return DType.of(array.dtype).value, bits
