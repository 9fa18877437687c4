"""Keras models on jax with noise: a jaxpr interpreted, its loops, branches and calls entered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isomorph.errors import RunnerError
from isomorph.validators import ModelFile, RunnerChoice, Worker
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.precision import Precision

pytestmark = [pytest.mark.requires("keras"), pytest.mark.requires("jax")]

SCRIPT = """
import sys, keras
from keras import layers
keras.utils.set_random_seed(0)
x = keras.Input((None, 4), name="x")
h = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="gru")(x)
keras.Model(x, layers.Dense(2, activation="sigmoid", name="y")(h)).save(sys.argv[1])
"""

INTERPRETED = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runners.keras_jaxpr import run_with_noise

def f(x, n):
    _, h = jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, jax.numpy.tanh(s[1] * 1.5)), (0, x))
    h = jax.lax.cond(n > 2, lambda h: h * 0.5, lambda h: h, h)
    carry, rows = jax.lax.scan(lambda c, r: (c + r, c * r), h[0], h, reverse=True)
    return jax.jit(jax.nn.relu)(h), carry, rows, jax.lax.scan(lambda c, r: (c, c + r), h[0], h[:0])[1]

x = np.random.default_rng(0).normal(size=(5, 3))
closed = jax.make_jaxpr(f)(x, 4)
for n in (4, 2):
    exact = f(x, n)
    for got, want in zip(run_with_noise(closed, [x, n], Noise(0.0, 0)), exact, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)
    first, again, second = (run_with_noise(closed, [x, n], Noise(1e-6, seed)) for seed in (1, 1, 2))
    for a, b, c, want in zip(first, again, second, exact, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == want.dtype and a.shape == want.shape
        assert not a.size or (0 < np.abs(a - want).max() < 1e-4 and np.any(a != c))
"""


def test_loops_branches_and_calls_are_entered() -> None:
    done = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_keras_model_on_jax(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, capture_output=True)
    feeds = {"x": np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)}
    taps = ["gru", "y/linear"]
    with Worker(ModelFile(path, "keras"), role="reference", choice=RunnerChoice("keras", "jax")) as worker:
        exact = worker.run(feeds, taps=taps, precision="float64")
        still = worker.run(feeds, taps=taps, precision=str(Noise(0.0, 0)))
        moved = worker.run(feeds, taps=taps, precision=str(Noise(1e-6, 1)))
        alone = worker.run(feeds, precision=str(Noise(1e-6, 1)))
        with pytest.raises((RunnerError, NotImplementedError), match="declared precision class"):
            worker.run(feeds, precision=str(Noise(1.0, 1, Precision.of("fp16"))))
    np.testing.assert_array_equal(alone.outputs["y"], moved.outputs["y"])
    for got, noisy, want in (
        (still.outputs["y"], moved.outputs["y"], exact.outputs["y"]),
        *((still.taps[tap], moved.taps[tap], exact.taps[tap]) for tap in taps),
    ):
        assert want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
        assert 1e-8 < np.abs(noisy - want).max() < 1e-4
