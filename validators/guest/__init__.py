"""Runners for interpreters that have no isomorph: Python 3.8 and later, NumPy and the framework, nothing else.

The folder is run as it stands, `PYTHON validators/guest RUNNER MEMORY_LIMIT`; see __main__.py. A file of it has

    open_model(model, role, device) -> an object with
        signature() -> dict, as docs/runner-protocol.md describes it
        run(inputs, taps) -> (outputs, values of the taps that were found), dicts of arrays

and raises `Refusal` for what it cannot do. The runners of litert and tensorflow serve this installation, too.
"""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):
    """What the runner cannot do, in words; `advice` is the next step for the reader."""

    def __init__(self, what: str, because: str | None = None, advice: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.because = because
        self.advice = advice
