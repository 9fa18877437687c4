"""A runner of guest/ for this installation: what it says in plain dictionaries, as a `Runner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from isomorph.errors import RunnerError
from isomorph.validators.guest import Refusal
from isomorph.validators.runner import NATIVE, Result, Signature

__all__ = ["AdaptedRunner"]


class AdaptedRunner:
    """Runs in the model's own precision only, and has no intermediate values: the target's side of a trial."""

    def __init__(self, name: str, open_model: Callable[[], Any]) -> None:
        self._name = name
        self._model = self._ask(open_model)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except Refusal as refusal:
            raise RunnerError(
                refusal.what, runner=self._name, because=refusal.because, advice=refusal.advice
            ) from refusal

    def signature(self) -> Signature:
        return Signature.of(self._ask(self._model.signature))

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        if precision != NATIVE:
            raise NotImplementedError(f"{self._name} has no float64 run")
        return Result(*self._ask(lambda: self._model.run(dict(inputs), list(taps))))
