"""Values inside an ONNX model that another interpreter runs: it is given files that have them as outputs.

A guest is asked for nothing but to open a file and to run it, so every onnxruntime and every program of the user's that
speaks the protocol can be localized in. The files are written beside nothing of the user's and deleted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from isomorph.validators.localization.onnx_part import extract
from isomorph.validators.runner import Arrays, ModelFile, Result

__all__ = ["OnnxGuest"]

_LARGEST = 1 << 31
"""What a protobuf message can hold; a model with its external data in it must fit."""


class Asked(Protocol):
    """A worker, as far as it is needed here."""

    def run(self, inputs: Arrays) -> Result:
        """Run once."""

    def reopen(self, subject: ModelFile) -> None:
        """Open another file of the same format in the same process."""

    def close(self) -> None:
        """End the process."""


class OnnxGuest:
    """A second process in the other interpreter, started by `start` when it is first needed; with `again` it opens one
    file after the other, else there is a process for each."""

    def __init__(self, path: Path, start: Callable[[ModelFile], Asked], *, again: bool) -> None:
        self._path = path
        self._again = again
        self._start = start
        self._worker: Asked | None = None
        self._whole: onnx.ModelProto | None = None

    def taps(self, inputs: Arrays, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Those of these values that the model has, run as a whole."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model())
        made = {name for node in model.graph.node for name in node.output}
        outputs = {value.name for value in model.graph.output}
        found = [name for name in names if name in made]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in found if name not in outputs)
        values = self._run(model, inputs)
        return {name: values[name] for name in found}

    def run_piece(self, feeds: Arrays, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """See localization/piece.py."""
        try:
            piece = extract(self._model(), feeds, wanted)
        except KeyError as error:
            raise NotImplementedError(f"the value {error} is not known") from error
        values = self._run(piece, {value.name: feeds[value.name] for value in piece.graph.input})
        return {name: values[name] for name in wanted}

    def _model(self) -> onnx.ModelProto:
        if self._whole is None:
            size = sum(file.stat().st_size for file in self._path.parent.glob(f"{self._path.name}*"))
            if size >= _LARGEST:
                raise NotImplementedError("the model is too large to be handed over with other outputs")
            self._whole = onnx.load(str(self._path))
        return self._whole

    def _run(self, model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if model.ByteSize() >= _LARGEST:
            raise NotImplementedError("the model is too large to be handed over with other outputs")
        with tempfile.TemporaryDirectory(prefix="isomorph-") as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            subject = ModelFile(path, "onnx")
            if self._worker is not None and self._again:
                self._worker.reopen(subject)
            else:
                self.close()
                self._worker = self._start(subject)
            return self._worker.run(inputs).outputs

    def close(self) -> None:
        """End the process, if there is one."""
        if self._worker is not None:
            self._worker.close()
