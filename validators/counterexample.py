"""The inputs that show a difference, saved so that anybody can see it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isomorph.errors import UsageError
from isomorph.ir import DType
from isomorph.validators.npz import save_npz
from isomorph.validators.report import Report
from isomorph.validators.verdict import Verdict

__all__ = ["check_counterexample_path", "write_counterexample"]


def check_counterexample_path(path: Path) -> None:
    """Raise UsageError unless the file can be written, before anything is run."""
    if path.suffix != ".npz":
        raise UsageError(f"a counterexample is an .npz file, not {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: " + ("it is a folder" if path.is_dir() else f"no folder {path.parent}"))


def write_counterexample(path: Path, report: Report) -> bool:
    """Write the inputs of the case that speaks most against the target, by the source's names, as `--data` reads them.

    16-bit floats that NumPy lacks (bfloat16) and float8 are written as float32, which holds each of their values.
    Returns False, and writes nothing, unless the verdict is DIFFERENT and a case shows it (not the signatures alone).
    """
    case = report.counterexample
    if report.verdict is not Verdict.DIFFERENT or case is None:
        return False
    save_npz(path, {name: _plain(array) for name, array in case.inputs.items()})
    return True


def _plain(array: np.ndarray) -> np.ndarray:
    foreign = DType.of(array.dtype).is_float and not np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32) if foreign else array
