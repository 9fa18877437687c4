"""`--reduce`: the smallest model that shows the fault, written to disk with the operands that show it.

FILE                the culprit's piece of the target: one op or layer, or a few
FILE.inputs.npz     its operands, by the names of its inputs: the source's values, in the target's axis order
FILE.expected.npz   what the source makes of them, in float64
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from isomorph.converters.files import atomic_path
from isomorph.errors import IsomorphError, UsageError
from isomorph.ir import DType
from isomorph.validators.localization.forced import Piece
from isomorph.validators.localization.onnx_part import extract
from isomorph.validators.localization.piece import PieceWriter, WrittenPiece
from isomorph.validators.npz import save_npz
from isomorph.validators.runner import Capture, ModelFile, RunnerChoice, Subject

__all__ = ["check_reducible", "write_reduced"]

_SUFFIXES = {"onnx": ".onnx", "keras": ".keras", "h5": ".keras"}
"""Format of a target -> suffix of a piece of it."""


def check_reducible(target: Subject, path: Path, choice: RunnerChoice | None = None) -> None:
    """Raise UsageError unless a piece of this target can be written to `path`."""
    if isinstance(target, Capture):
        raise UsageError("--reduce takes the failing op out of a file, and the target is code", at=str(target))
    suffix = _SUFFIXES.get(target.format)
    if suffix is None:
        raise UsageError(
            f"--reduce: no piece is cut out of a model of the format `{target.format}`",
            at=str(target),
            because="pieces are cut out of ONNX files and out of Keras models (.keras, .h5)",
        )
    if target.format != "onnx" and choice is not None and choice.elsewhere:
        raise UsageError(
            "--reduce: a Keras model in another interpreter is not cut", at=str(target), advice="leave out --runner"
        )
    if path.suffix.lower() != suffix:
        raise UsageError(f"--reduce: a piece of {target} is written to a file with the suffix {suffix}, not {path}")
    if path.exists():
        raise UsageError(f"the target of --reduce exists: {path}")


def write_reduced(path: Path, target: ModelFile, piece: Piece, runner: object = None) -> str:
    """Write the three files; returns what was written, or why nothing was, in words. `runner` runs the target;
    it is not asked about ONNX."""
    try:
        written = _onnx(target, piece) if target.format == "onnx" else _by_runner(runner, piece)
    except (IsomorphError, NotImplementedError) as error:
        return f"--reduce: nothing was written, for `{piece.name}` cannot be cut out: {error}".splitlines()[0]
    with atomic_path(path) as temporary:
        temporary.write_bytes(written.data)
    save_npz(_beside(path, "inputs"), {name: _plain(piece.feeds[fed]) for fed, name in written.inputs.items()})
    save_npz(_beside(path, "expected"), {piece.name: _plain(piece.expected)})
    kind = "nodes" if target.format == "onnx" else "layers and operations"
    return f"reduced to {path}: {written.size} of the target's {kind}, with {path.name}.inputs.npz and .expected.npz"


def _by_runner(runner: object, piece: Piece) -> WrittenPiece:
    if not isinstance(runner, PieceWriter):
        raise NotImplementedError("the target's runner writes no pieces")
    return runner.write_piece(piece.feeds, piece.name)


def _onnx(target: ModelFile, piece: Piece) -> WrittenPiece:
    model = extract(onnx.load(str(target.path)), piece.feeds, [piece.name])
    output = model.graph.output[0]
    if not output.type.HasField("tensor_type"):
        kind = onnx.TensorProto.FLOAT
        output.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, list(piece.expected.shape)))
    inputs = {value.name: value.name for value in model.graph.input}
    return WrittenPiece(model.SerializeToString(), inputs, len(model.graph.node))


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}.npz")


def _plain(array: np.ndarray) -> np.ndarray:
    """Floats that NumPy lacks as float32, which holds each of their values."""
    foreign = DType.of(array.dtype).is_float and not np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32) if foreign else array
