"""SavedModels: guest/tensorflow.py in this installation, and their float64 form, exact (tensorflow_double.py), with
noise (tensorflow_noise.py), or with the rounding of a declared class (tensorflow_precision.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from isomorph.validators.guest import tensorflow
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import FLOAT64, NATIVE, Result
from isomorph.validators.runners.adapted import AdaptedRunner
from isomorph.validators.runners.tensorflow_double import DoubleFunction
from isomorph.validators.runners.tensorflow_frozen import FrozenFunction
from isomorph.validators.runners.tensorflow_precision import MovedFunctions

__all__ = ["open_model"]


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> SavedModelRunner:
    """The runner for a worker."""
    return SavedModelRunner("tensorflow", lambda: tensorflow.open_model(dict(model), role, device))


class SavedModelRunner(AdaptedRunner):
    """One signature, in its own precision and in float64, exact or with noise. Taps are names of tensors of its frozen
    graph (`StatefulPartitionedCall/model/conv/Relu:0`), which tf2onnx gives the values of its files, too."""

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        noise = Noise.parse(precision)
        if precision == NATIVE:
            result = super().run(inputs, precision=precision)
            return Result(result.outputs, self._frozen.run(inputs, _foreign(taps, result.outputs)) if taps else {})
        if precision != FLOAT64 and noise is None:
            return super().run(inputs, precision=precision)
        names = self._model.graph()[1]
        asked = [*names, *_foreign(taps, names)]
        values = self._double.run(inputs, asked) if noise is None else self._noisy.run(noise, inputs, asked)
        return Result({name: values.pop(name) for name in names}, values)

    @cached_property
    def _frozen(self) -> FrozenFunction:
        return FrozenFunction(*self._model.graph())

    @cached_property
    def _double(self) -> DoubleFunction:
        return DoubleFunction(*self._model.graph())

    @cached_property
    def _noisy(self) -> MovedFunctions:
        return MovedFunctions(*self._model.graph())


def _foreign(taps: Sequence[str], outputs: Collection[str]) -> list[str]:
    """The taps that are no names of outputs, once each: a tensor of that name would be another thing."""
    return [tap for tap in dict.fromkeys(taps) if tap not in outputs]
