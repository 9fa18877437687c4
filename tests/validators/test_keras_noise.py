"""Keras models with the noise of an implementation and the rounding of declared classes, on the backends that have
them: control flow, layers called twice, steps of unknown number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from isomorph.validators import ModelFile, RunnerChoice, Worker
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.precision import Precision
from isomorph.validators.runner import Result

pytestmark = pytest.mark.requires("keras")

SCRIPT = """
import sys, keras
from keras import layers
keras.utils.set_random_seed(0)
x, images = keras.Input((None, 4), name="x"), keras.Input((9, 8, 3), name="images")
h = layers.TimeDistributed(layers.Dense(5, activation="gelu"))(layers.GRU(6, return_sequences=True, name="gru")(x))
twice = layers.Dense(5, activation="relu", name="twice")
y = layers.Dense(2, name="y")(twice(twice(layers.LSTM(5, name="lstm")(h))))
c = layers.Conv2D(8, 3, name="conv")(images)
c = layers.ReLU(name="kept")(layers.BatchNormalization(name="norm")(c))
gate = layers.Dense(8, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(name="pooled")(c))
z = layers.Dense(3, name="z")(layers.Flatten()(layers.Multiply()([c, gate])))
keras.Model([x, images], [y, z]).save(sys.argv[1] + "/both.keras")
"""
BACKENDS = [
    pytest.param("tensorflow", marks=pytest.mark.requires("tensorflow")),
    pytest.param("torch", marks=pytest.mark.requires("torch")),
]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module", params=BACKENDS)
def running(folder: Path, request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs of the model on fixed inputs, with the noise, class and taps asked for."""
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(3, 7, 4)), "images": rng.normal(size=(3, 9, 8, 3))}
    feeds = {name: array.astype(np.float32) for name, array in inputs.items()}
    subject, choice = ModelFile(folder / "both.keras", "keras"), RunnerChoice("keras", request.param)
    with Worker(subject, role="reference", choice=choice) as worker:

        def run(noise: Noise | None = None, *taps: str) -> Result:
            return worker.run(feeds, taps=taps, precision="float64" if noise is None else str(noise))

        yield run


TAPS = ("gru", "twice", "twice:1", "twice/linear", "twice:1/linear", "conv", "norm", "kept", "gate/linear")


def test_noise_zero_is_the_float64_run(running: Run) -> None:
    exact, still = running(None, *TAPS), running(Noise(0.0, 0), *TAPS)
    assert exact.taps.keys() == still.taps.keys() == set(TAPS)
    for name, array in {**exact.outputs, **exact.taps}.items():
        got = {**still.outputs, **still.taps}[name]
        np.testing.assert_allclose(got, array, rtol=1e-12, atol=1e-13)
    for tap in ("twice", "twice:1"):
        np.testing.assert_array_equal(np.maximum(exact.taps[tap + "/linear"], 0), exact.taps[tap])


def test_noise_moves_every_value_alike_for_a_seed(running: Run) -> None:
    exact = running(None, *TAPS)
    first, second = running(Noise(1e-6, 1), *TAPS), running(Noise(1e-6, 2), *TAPS)
    again = running(Noise(1e-6, 1))
    for name, array in exact.outputs.items():
        np.testing.assert_array_equal(again.outputs[name], first.outputs[name])
        assert np.all(first.outputs[name] != second.outputs[name])
        assert 1e-8 < np.abs(first.outputs[name] - array).max() < 1e-4
    for name, array in exact.taps.items():
        assert np.any(first.taps[name] != array), name
    kept, norm = first.taps["kept"], first.taps["norm"]
    np.testing.assert_array_equal(kept, np.maximum(norm, 0))  # a selection adds none
    wide = running(Noise(1e-4, 1)).outputs["y"]
    assert 50 < np.abs(wide - exact.outputs["y"]).max() / np.abs(first.outputs["y"] - exact.outputs["y"]).max() < 200


@pytest.mark.parametrize("spelled", ["tf32", "fp16", "bf16", "int8"])
def test_rounding_of_a_class(running: Run, spelled: str) -> None:
    declared = Precision.of(spelled)
    exact, moved = running(None, "kept"), running(Noise(1.0, 1, declared), "kept")
    for name, array in exact.outputs.items():
        error = np.abs(moved.outputs[name] - array).max() / np.abs(array).max()
        assert declared.unit / 16 < error < declared.unit * 64
    still = running(Noise(0.0, 1, declared))
    for name, array in exact.outputs.items():
        assert np.abs(still.outputs[name] - array).max() <= (1e-12 if declared.scope == "tensors" else 1e-4)
