"""Pieces of Keras models: what each layer makes of given operands is what it makes inside the model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isomorph.validators import ModelFile, Worker
from isomorph.validators.localization.piece import WrittenPiece
from isomorph.validators.runner import Arrays, RunnerChoice

pytestmark = pytest.mark.requires("keras")

NETWORK = """
import sys
import keras
import numpy as np
from keras import layers, ops

keras.utils.set_random_seed(0)
image, words = keras.Input((8, 9, 3), name="image"), keras.Input((6,), dtype="int32", name="words")
x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
shared = layers.Dense(4, activation="tanh", name="shared")
x = shared(layers.BatchNormalization(name="norm")(shared(x)))
inner = keras.Sequential([keras.Input((6, 7, 4)), layers.Conv2D(5, 3), layers.Flatten()], name="inner")
x = layers.Dense(6, name="dense")(inner(x))
x = ops.add(np.linspace(-1, 1, 6, dtype="float32"), ops.multiply(x, 2.5))
first, second = ops.split(x, 2, axis=-1)
x = ops.concatenate([second, first], axis=-1)
y = layers.Embedding(20, 5, name="table")(words)
y, h, c = layers.LSTM(7, return_sequences=True, return_state=True, name="lstm")(y)
y = layers.GRU(6, name="gru")(layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), name="both")(y))
masked = layers.Embedding(20, 4, mask_zero=True, name="masked")(words)
masked = layers.Dense(4, name="behind")(masked)
kept = layers.LSTM(6, name="after")(masked)
out = layers.Dense(3, activation="softmax", name="head")(layers.Concatenate(name="all")([x, y, h, kept]))
keras.Model([image, words], out).save(sys.argv[1])
"""
PIECES = {
    "conv": ["image"],
    "conv/linear": ["image"],
    "shared": ["conv"],
    "norm": ["shared"],
    "shared:1": ["norm"],
    "shared:1/linear": ["norm"],
    "inner": ["shared:1"],
    "dense": ["inner"],
    "multiply": ["dense"],
    "add": ["multiply"],
    "concatenate": ["add"],
    "table": ["words"],
    "both": ["table"],
    "gru": ["both"],
    "masked": ["words"],
    "behind": ["words"],
    "after": ["behind", "words"],
    "all": ["concatenate", "gru", "table", "words", "image"],
    "head": ["all"],
    "head/linear": ["all"],
}
"""Value -> the values that it is made from; where a layer has several outputs (`lstm`), from those before it, and with
`words` where a mask follows from them."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "network.keras"
    subprocess.run([sys.executable, "-c", NETWORK, str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module", params=["tensorflow", "jax", "torch"])
def worker(request: pytest.FixtureRequest, network: Path) -> Iterator[Worker]:
    pytest.importorskip("jax" if request.param == "jax" else "numpy")
    with Worker(ModelFile(network, "keras"), role="target", choice=RunnerChoice(backend=request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def inputs() -> Arrays:
    rng = np.random.default_rng(0)
    words = np.array([[3, 7, 1, 19, 2, 5], [4, 4, 9, 0, 0, 0]], np.int32)
    return {"image": rng.standard_normal((2, 8, 9, 3)).astype(np.float32), "words": words}


@pytest.fixture(scope="module")
def values(worker: Worker, inputs: Arrays) -> Arrays:
    found = worker.run(inputs, taps=list(PIECES)).taps
    assert set(found) == set(PIECES)
    return {**found, **inputs}


def test_each_layer_by_itself(worker: Worker, inputs: Arrays, values: Arrays) -> None:
    for wanted, given in PIECES.items():
        feeds = {name: values[name] for name in given}
        value = worker.run_piece({**inputs, **feeds}, [wanted])[wanted]
        np.testing.assert_allclose(value, values[wanted], rtol=1e-5, atol=1e-6, err_msg=wanted)


def test_a_layer_follows_what_it_is_given(worker: Worker, inputs: Arrays, values: Arrays) -> None:
    moved = values["norm"] + 1
    for wanted in ("shared:1", "shared:1/linear"):
        assert np.abs(worker.run_piece({**inputs, "norm": moved}, [wanted])[wanted] - values[wanted]).max() > 1e-2
    given = values["conv/linear"] - 1
    np.testing.assert_array_equal(worker.run_piece({"conv/linear": given}, ["conv"])["conv"], np.maximum(given, 0))


def test_what_is_no_piece(worker: Worker, inputs: Arrays, values: Arrays) -> None:
    refused = {
        "after": ({"behind": values["behind"]}, "input `words`, which is not fed"),
        "nothing": (inputs, "not known"),
        "norm/linear": (inputs, "no activation"),
        "head": ({"words": inputs["words"]}, "input `image`, which is not fed"),
        "norm": ({"shared": values["shared"][..., :2]}, "shape"),
    }
    for wanted, (feeds, reason) in refused.items():
        with pytest.raises(NotImplementedError, match=reason):
            worker.run_piece(feeds, [wanted])


def test_pieces_as_files(worker: Worker, inputs: Arrays, values: Arrays) -> None:
    """A file holds the layers between, and its inputs have the names that are stated."""
    layers = {"shared:1": {"norm", "shared"}, "norm/linear": set(), "head/linear": {"all", "head"}}
    for wanted, expected in layers.items():
        if not expected:
            with pytest.raises(NotImplementedError):
                worker.write_piece(inputs, wanted)
            continue
        written = worker.write_piece({**inputs, **{name: values[name] for name in PIECES[wanted]}}, wanted)
        assert ({*written.inputs}, written.size) == ({*PIECES[wanted]}, 1)
        assert names_in(written) == expected


def names_in(written: WrittenPiece) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(written.data)) as archive:
        return {layer["name"] for layer in json.loads(archive.read("config.json"))["config"]["layers"]}


def test_a_file_gives_the_same(network: Path, inputs: Arrays, tmp_path: Path) -> None:
    """Also where a mask and a layer with several outputs are inside."""
    given = PIECES["all"]
    with Worker(ModelFile(network, "keras"), role="target") as worker:
        found = worker.run(inputs, taps=[*given, "all"]).taps
        feeds = {**inputs, **{name: found[name] for name in given if name in found}}
        written = worker.write_piece(feeds, "all")
    path = tmp_path / "piece.keras"
    path.write_bytes(written.data)
    assert written.size == 6
    with Worker(ModelFile(path, "keras"), role="target") as piece:
        assert {spec.name for spec in piece.signature().inputs} == set(written.inputs.values())
        (got,) = piece.run({name: feeds[fed] for fed, name in written.inputs.items()}).outputs.values()
    np.testing.assert_allclose(got, found["all"], rtol=1e-5, atol=1e-6)
