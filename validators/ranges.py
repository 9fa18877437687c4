"""The range that a statically quantized target was calibrated for: which generated inputs leave it, and how coarse its
grid of an input is.

Beyond its range such a model saturates, and that is no fault of the conversion; so generated cases are left out there.
The user's own inputs are judged whatever they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isomorph.ir import DType
from isomorph.validators.inputs import WIDE, Case
from isomorph.validators.precision import Precision

__all__ = ["Ranges"]


@dataclass(frozen=True, slots=True)
class Ranges:
    """What a target of the class `declared` says of its inputs.

    stated  (low, high) of each input that the file quantizes with a constant scale, by the source's names
    """

    declared: Precision | None
    stated: Mapping[str, tuple[float, float]]

    def keep(self, cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
        """The generated cases within the range, and a note on the others. Where the file does not state the range of
        every input, the families of wide ranges are left out."""
        if self.declared is None or not self.declared.bits or self.declared.scope != "tensors":
            return list(cases), []
        inside = [self._holds(case) for case in cases]
        left_out = [case.describe() for case, held in zip(cases, inside, strict=True) if not held]
        kept = [case for case, held in zip(cases, inside, strict=True) if held]
        told = f"beyond the range that the target was calibrated for, and left out: {', '.join(left_out)}"
        return kept, [told] if left_out else []

    def _holds(self, case: Case) -> bool:
        floats = {name: array for name, array in case.inputs.items() if DType.of(array.dtype).is_float}
        stated = all(_within(array, self.stated[name]) for name, array in floats.items() if name in self.stated)
        return stated and (set(floats) <= set(self.stated) or case.family not in WIDE)

    def stretch(self, case: Case) -> float:
        """How much coarser the target's grid of an input is than one of the case's own range; what follows inherits
        it."""
        spans = [(low, high, case.inputs[name]) for name, (low, high) in self.stated.items()]
        return max((_coarser(low, high, array) for low, high, array in spans), default=1.0)


def _within(array: np.ndarray, ends: tuple[float, float]) -> bool:
    """Whether no element is further outside than half a step of 255."""
    step = (ends[1] - ends[0]) / 255
    return not array.size or bool(array.min() >= ends[0] - step / 2 and array.max() <= ends[1] + step / 2)


def _coarser(low: float, high: float, array: np.ndarray) -> float:
    reach = max(float(array.max(initial=0.0)), 0.0) - min(float(array.min(initial=0.0)), 0.0)
    return max(1.0, (high - low) / reach) if reach else 1.0
