"""A piece of a model: what a runner is asked to run by itself (forced.py), and to write (reduce.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from isomorph.validators.runner import Arrays

__all__ = ["PieceRunner", "PieceWriter", "WrittenPiece"]


@dataclass(frozen=True, slots=True)
class WrittenPiece:
    """A piece as a model file of its own.

    data    the bytes of the file
    inputs  name of a value that is fed -> name of the file's input for it; those that it needs
    size    number of the model's nodes or layers in it
    """

    data: bytes
    inputs: Mapping[str, str]
    size: int


@runtime_checkable
class PieceRunner(Protocol):
    """A runner that can run a piece of its model."""

    def run_piece(self, feeds: Arrays, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """The values `wanted`, computed from these values and the model's weights. Raises NotImplementedError."""


@runtime_checkable
class PieceWriter(Protocol):
    """A runner that can write one, too."""

    def write_piece(self, feeds: Arrays, wanted: str) -> WrittenPiece:
        """The piece that `run_piece` runs for this value, as a file of the model's own format. Raises
        NotImplementedError."""
