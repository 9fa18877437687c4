"""Every layer as Keras itself saved and ran it: the reader's model, evaluated in NumPy, gives Keras' outputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isomorph.converters.keras.reader import read
from isomorph.ir.evaluate import evaluate

pytestmark = pytest.mark.requires("keras", "jax")
LOOSE = {"mixed_precision": 2e-2}


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models and recorded outputs, made by Keras in a process of its own."""
    folder = tmp_path_factory.mktemp("keras")
    script = Path(__file__).with_name("layer_cases.py")
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def difference(path: Path, record: Path) -> float:
    """The largest difference to the recorded outputs, relative to the largest output."""
    data = np.load(record)
    model = read(path)
    given = {value.name: data[f"x{place}"] for place, value in enumerate(model.graph.inputs)}
    made = evaluate(model, given)
    worst = 0.0
    for place, value in enumerate(made.values()):
        expected = data[f"y{place}"].astype(np.float64)
        assert value.shape == expected.shape
        worst = max(
            worst, float(np.abs(value.astype(np.float64) - expected).max()) / max(1.0, float(np.abs(expected).max()))
        )
    return worst


def failures(cases: Path, suffix: str) -> list[str]:
    found = []
    paths = sorted(cases.glob(f"*{suffix}"))
    assert len(paths) > 100
    for path in paths:
        try:
            off = difference(path, path.with_suffix(".npz"))
        except Exception as error:
            found.append(f"{path.name}: {type(error).__name__}: {error}")
            continue
        if not off <= LOOSE.get(path.stem, 1e-5):
            found.append(f"{path.name}: off by {off:.3g}")
    return found


def test_every_layer_from_keras_archives(cases: Path) -> None:
    assert failures(cases, ".keras") == []


def test_every_layer_from_legacy_hdf5(cases: Path) -> None:
    assert failures(cases, ".h5") == []
