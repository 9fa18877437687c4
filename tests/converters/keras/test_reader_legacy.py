"""Files of Keras 1 and 2, of the TensorFlow and the Theano backend, against recorded outputs and written by hand.

The recorded ones are read from the folder ISOMORPH_DATA (dl4j.tar.xz and theano.tar.xz unpacked into it).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from isomorph.converters.keras.reader import read
from isomorph.errors import MalformedError, UnsafeError, UnsupportedError, UsageError
from isomorph.ir import DType, Sym
from isomorph.ir.evaluate import evaluate

Array = npt.NDArray[Any]
RECURRENT = {"GRU", "LSTM", "Masking"}


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(os.environ.get("ISOMORPH_DATA", ""))
    if not os.environ.get("ISOMORPH_DATA") or not (folder / "dl4j_keras").is_dir():
        pytest.skip("needs ISOMORPH_DATA, a folder with dl4j.tar.xz and theano.tar.xz unpacked")
    return folder


def save(path: Path, config: Any, weights: dict[str, dict[str, Array]], **attrs: str) -> Path:
    """An `.h5` model as Keras lays it out."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        for key, value in attrs.items():
            file.attrs[key] = value.encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, arrays in weights.items():
            inside = group.create_group(layer)
            inside.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                inside[name] = array
    return path


def run(path: Path, x: Array) -> Array:
    model = read(path)
    (made,) = evaluate(model, {model.graph.inputs[0].name: x}).values()
    return made


def correlated(x: Array, kernel: Array) -> Array:
    """Valid cross-correlation of x (N, H, W, I) with a kernel (H, W, I, O)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwikl,klio->nhwo", windows, kernel)


RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(size=(3, 2, 4, 5)).astype(np.float32)
IMAGE = RANDOM.normal(size=(2, 7, 6, 4)).astype(np.float32)


def convolution(ordering: str) -> dict[str, Any]:
    shape = [None, 7, 6, 4] if ordering == "tf" else [None, 4, 7, 6]
    config = {"name": "c", "nb_filter": 5, "nb_row": 3, "nb_col": 2, "bias": False, "border_mode": "valid"}
    config |= {"dim_ordering": ordering, "activation": "linear", "batch_input_shape": shape, "subsample": [1, 1]}
    return {"class_name": "Sequential", "config": [{"class_name": "Convolution2D", "config": config}]}


@pytest.mark.parametrize(("name", "flipped"), [("c_W:0", False), ("c_W", True)])
def test_keras1_backend_is_known_by_the_names_of_variables(tmp_path: Path, name: str, flipped: bool) -> None:
    path = save(tmp_path / "m.h5", convolution("tf"), {"c": {name: KERNEL}}, keras_version="1.2.2")
    expected = correlated(IMAGE, KERNEL[::-1, ::-1] if flipped else KERNEL)
    np.testing.assert_allclose(run(path, IMAGE), expected, rtol=1e-4, atol=1e-5)


def test_keras1_theano_ordering(tmp_path: Path) -> None:
    stored = KERNEL.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1]
    path = save(tmp_path / "m.h5", convolution("th"), {"c": {"c_W": stored}}, keras_version="1.2.2")
    expected = correlated(IMAGE, KERNEL).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(path, IMAGE.transpose(0, 3, 1, 2)), expected, rtol=1e-4, atol=1e-5)


def dense(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "name": name, "config": {"name": name, "units": 3, "activation": "linear", **config}}


def nested(frozen: bool) -> dict[str, Any]:
    """A Functional model of Keras 2 around a Sequential one, whose first call is number 1."""
    start = {"class_name": "InputLayer", "name": "x", "config": {"batch_input_shape": [None, 3], "name": "x"}}
    norm = {
        "class_name": "BatchNormalization",
        "config": {"name": "norm", "axis": -1, "epsilon": 0.5, "trainable": not frozen},
    }
    inner = [dense("a", batch_input_shape=[None, 3]), norm, dense("b")]
    block = {"class_name": "Sequential", "name": "block", "config": {"name": "block", "layers": inner}}
    layers = [{**start, "inbound_nodes": []}, {**block, "inbound_nodes": [[["x", 0, 0, {}]], [["block", 1, 0, {}]]]}]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["block", 2, 0]]}
    return {"class_name": "Model", "config": config}


@pytest.mark.parametrize("frozen", [False, True])
def test_keras2_nested_models_list_trainable_weights_first(tmp_path: Path, frozen: bool) -> None:
    square, vector = (RANDOM.normal(size=size).astype(np.float32) for size in ((2, 3, 3), (6, 3)))
    a = {"a/kernel:0": square[0], "a/bias:0": vector[0]}
    b = {"b/kernel:0": square[1], "b/bias:0": vector[1]}
    scale = {"norm/gamma:0": vector[2], "norm/beta:0": vector[3]}
    state = {"norm/moving_mean:0": vector[4], "norm/moving_variance:0": np.abs(vector[5])}
    listed = {**a, **b, **scale, **state} if frozen else {**a, **scale, **b, **state}
    path = save(
        tmp_path / "m.h5", nested(frozen), {"x": {}, "block": listed}, keras_version="2.2.4", backend="tensorflow"
    )
    x = RANDOM.normal(size=(2, 3)).astype(np.float32)
    expected = x
    for _ in range(2):
        expected = expected @ square[0] + vector[0]
        expected = vector[2] * (expected - vector[4]) / np.sqrt(np.abs(vector[5]) + 0.5) + vector[3]
        expected = expected @ square[1] + vector[1]
    np.testing.assert_allclose(run(path, x), expected, rtol=1e-4, atol=1e-5)
    model = read(path)
    assert len(model.parameters()) == 8  # both calls share them
    assert [str(node.scope) for node in model.graph.nodes[:3]] == ["block.a", "block.norm", "block.b"]
    assert model.parameters()["norm/gamma"].trainable is not frozen
    assert model.parameters()["norm/moving_mean"].role == "buffer"


def test_a_weight_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": [dense("d", batch_input_shape=[None, 3])]}
    square = np.zeros((3, 3), np.float32)
    path = save(tmp_path / "m.h5", config, {"d": {"d/bias:0": square, "d/kernel:0": square}}, keras_version="2.2.4")
    with pytest.raises(MalformedError, match="stands where"):
        read(path)


def test_weights_without_a_model_are_no_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["d/kernel"] = np.zeros(3)
    with pytest.raises(MalformedError, match="no Keras model"):
        read(tmp_path / "w.h5")


def test_linked_layer_group_is_unsafe(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": [dense("d", batch_input_shape=[None, 3])]}
    path = save(tmp_path / "m.h5", config, {"d": {}}, keras_version="2.2.4")
    with h5py.File(path, "r+") as file:
        del file["model_weights/d"]
        file["model_weights/d"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(UnsafeError):
        read(path)


def test_inputs_may_be_given(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", convolution("tf"), {"c": {"c_W:0": KERNEL}}, keras_version="1.2.2")
    model = read(path, inputs={"c_input": ((Sym("B"), 9, 8, 4), DType.FLOAT32)})
    assert str(model.outputs["c"]) == "float32[B, 7, 7, 5]"
    with pytest.raises(UsageError):
        read(path, inputs={"y": ((1, 2), None)})
    with pytest.raises(UsageError):
        read(path, inputs={"c_input": ((1, 2), None)})


def test_recorded_files_are_read_or_refused_with_a_reason(data: Path) -> None:
    count: Counter[str] = Counter()
    for path in sorted(data.glob("**/*.h5")):
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                continue
        try:
            model = read(path)
            count["read"] += 1
            start = model.graph.inputs[0]
            sizes = [2 if size == Sym("N") else 24 if isinstance(size, Sym) else size for size in start.shape]
            x = np.ones(sizes, start.dtype.numpy)
            assert all(np.isfinite(value).all() for value in evaluate(model, {start.name: x}).values())
        except UnsupportedError as error:
            count["refused"] += 1
            assert {item.op for item in error.items} <= RECURRENT | {"Lambda"}
    assert count["read"] >= 33


def test_recorded_batch_norm_network(data: Path) -> None:
    folder = data / "dl4j_keras/src/main/resources/modelimport/keras/fullconfigs/cnn"
    x, expected = np.load(folder / "input.npy"), np.load(folder / "predictions.npy")
    assert np.abs(run(folder / "cnn_batch_norm.h5", x.astype(np.float32)) - expected).max() < 1e-6


def test_recorded_theano_network(data: Path) -> None:
    """Convolutions, an LSTM and a softmax: Theano's own output, to 1e-6."""
    record = np.load(data / "keras_theano/cnn_lstm_th_io.npz")
    scores = run(data / "keras_theano/cnn_lstm_th_keras225.h5", record["x"].astype(np.float32))
    assert np.abs(scores - record["y"]).max() < 1e-6


def lambda_op(name: str, function: str, nodes: list[Any]) -> dict[str, Any]:
    """An operation as tf.keras records it."""
    return {
        "class_name": "TFOpLambda",
        "name": name,
        "config": {"name": name, "trainable": True, "dtype": "float32", "function": function},
        "inbound_nodes": nodes,
    }


def test_operations_of_tf_keras(tmp_path: Path) -> None:
    """Constants and further tensors are keyword arguments; a slice is an object of three numbers."""
    start = {"class_name": "InputLayer", "name": "x", "config": {"batch_input_shape": [None, 7, 6, 4], "name": "x"}}
    window = [{"start": None, "stop": None, "step": None}, {"start": 1, "stop": -1, "step": None}]
    layers = [
        {**start, "inbound_nodes": []},
        lambda_op("plus", "__operators__.add", [["x", 0, 0, {"y": 3.0, "name": None}]]),
        lambda_op("capped", "nn.relu6", [["plus", 0, 0, {"name": None}]]),
        lambda_op("scaled", "math.multiply", [["capped", 0, 0, {"y": 0.5, "name": None}]]),
        lambda_op("product", "math.multiply", [["x", 0, 0, {"y": ["scaled", 0, 0], "name": None}]]),
        lambda_op("mean", "math.reduce_mean", [["product", 0, 0, {"axis": [1, 2], "keepdims": True}]]),
        lambda_op("from_one", "math.subtract", [["_CONSTANT_VALUE", -1, 1.0, {"y": ["mean", 0, 0]}]]),
        lambda_op("joined", "concat", [[["product", 0, 0, {"axis": 1}], ["product", 0, 0, {"axis": 1}]]]),
        {**lambda_op("cut", "", [["joined", 0, 0, {"slice_spec": window}]]), "class_name": "SlicingOpLambda"},
    ]
    outputs = [["from_one", 0, 0], ["cut", 0, 0]]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": outputs}
    path = save(tmp_path / "m.h5", {"class_name": "Functional", "config": config}, {}, keras_version="2.8.0")
    made = evaluate(read(path), {"x": IMAGE})
    product = IMAGE * (np.clip(IMAGE + 3, 0, 6) * np.float32(0.5))
    np.testing.assert_allclose(made["from_one"], 1 - product.mean(axis=(1, 2), keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made["cut"], np.concatenate([product, product], axis=1)[:, 1:-1], rtol=1e-5, atol=1e-6)


def test_unknown_operations_of_tf_keras_are_named(tmp_path: Path) -> None:
    start = {"class_name": "InputLayer", "name": "x", "config": {"batch_input_shape": [None, 3], "name": "x"}}
    layers = [{**start, "inbound_nodes": []}, lambda_op("read", "io.read_file", [["x", 0, 0, {}]])]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["read", 0, 0]]}
    path = save(tmp_path / "m.h5", {"class_name": "Functional", "config": config}, {}, keras_version="2.8.0")
    with pytest.raises(UnsupportedError) as error:
        read(path)
    assert error.value.items[0].op == "tf.io.read_file"
