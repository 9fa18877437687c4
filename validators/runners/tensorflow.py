"""SavedModels: guest/tensorflow.py in this installation, and their float64 form, exact (tensorflow_double.py), with
noise (tensorflow_noise.py), or with the rounding of a declared class (tensorflow_precision.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from isomorph.validators.guest import tensorflow
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import FLOAT64, NATIVE, Result
from isomorph.validators.runners.adapted import AdaptedRunner
from isomorph.validators.runners.tensorflow_double import DoubleFunction
from isomorph.validators.runners.tensorflow_precision import MovedFunctions

__all__ = ["open_model"]


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> SavedModelRunner:
    """The runner for a worker."""
    return SavedModelRunner("tensorflow", lambda: tensorflow.open_model(dict(model), role, device))


class SavedModelRunner(AdaptedRunner):
    """One signature, in its own precision and in float64, exact or with noise. It has no intermediate values."""

    _double: DoubleFunction | None = None

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        noise = Noise.parse(precision)
        if noise is not None:
            return Result(self._noisy.run(noise, inputs))
        if precision != FLOAT64:
            return super().run(inputs, taps=taps, precision=precision)
        if self._double is None:
            self._double = DoubleFunction(*self._model.graph())
        return Result(self._double.run(inputs))

    @cached_property
    def _noisy(self) -> MovedFunctions:
        return MovedFunctions(*self._model.graph())
