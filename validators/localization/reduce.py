"""`--reduce`: the smallest model that shows the fault, written to disk with the operands that show it.

FILE                the culprit's piece of the target: one op, or a few
FILE.inputs.npz     its operands: the source's values, in the target's axis order
FILE.expected.npz   what the source makes of them, in float64
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from isomorph.converters.files import atomic_path
from isomorph.errors import UsageError
from isomorph.validators.localization.forced import Piece
from isomorph.validators.localization.onnx_part import extract
from isomorph.validators.runner import Capture, ModelFile, Subject

__all__ = ["check_reducible", "write_reduced"]


def check_reducible(target: Subject, path: Path) -> None:
    """Raise UsageError unless a piece of this target can be written to `path`."""
    if isinstance(target, Capture) or target.format != "onnx":
        raise UsageError("--reduce takes the failing op out of an ONNX file, and the target is none", at=str(target))
    if path.exists():
        raise UsageError(f"the target of --reduce exists: {path}")


def write_reduced(path: Path, target: ModelFile, piece: Piece) -> str:
    """Write the three files; returns what was written, in words."""
    model = extract(onnx.load(str(target.path)), piece.feeds, [piece.name])
    output = model.graph.output[0]
    if not output.type.HasField("tensor_type"):
        kind = onnx.TensorProto.FLOAT
        output.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, list(piece.expected.shape)))
    names = {value.name for value in model.graph.input}
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    _save(path, "inputs", {name: array for name, array in piece.feeds.items() if name in names})
    _save(path, "expected", {piece.name: piece.expected})
    return f"{path}: {len(model.graph.node)} of the target's nodes, with {path.name}.inputs.npz and .expected.npz"


def _save(path: Path, what: str, arrays: Mapping[str, np.ndarray]) -> None:
    memory = io.BytesIO()
    np.savez(memory, **arrays)  # type: ignore[arg-type]
    with atomic_path(path.with_name(f"{path.name}.{what}.npz")) as temporary:
        temporary.write_bytes(memory.getvalue())
