"""SavedModels in float64, exact and with noise: against the definition in NumPy, refused by name, and as sources of a
judgment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.errors import RunnerError
from isomorph.validators import ModelFile, Verdict, Worker, validate
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.precision import Precision

pytestmark = pytest.mark.skipif(
    not any(Path(entry, "tensorflow").is_dir() for entry in sys.path), reason="tensorflow is not installed"
)

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf

class Model(tf.Module):
    def __init__(self, w):
        super().__init__()
        self.w = tf.Variable(w)
        self.statistics = [tf.constant(value, tf.float32, [4]) for value in (1.5, 0.25, -0.125, 0.75)]

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def __call__(self, x):
        _, h = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h @ self.w)), (0, x))
        h = tf.cond(tf.shape(x)[0] > 1, lambda: h * 2.0, lambda: h)
        h, _, _ = tf.compat.v1.nn.fused_batch_norm(h[:, None, None, :], *self.statistics, 1e-3, is_training=False)
        return {"y": h[:, 0, 0, :]}

class Resized(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 5, 2], tf.float32, name="x")])
    def __call__(self, x):
        forms = {"plain": {}, "aligned": {"align_corners": True}, "centred": {"half_pixel_centers": True}}
        sizes = {"up": [7, 9], "down": [3, 1]}
        return {
            f"{name}_{form}": tf.raw_ops.ResizeBilinear(images=x, size=size, **how)
            for form, how in forms.items() for name, size in sizes.items()
        }

class Bicubic(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, 4, 4, 1], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": tf.raw_ops.ResizeBicubic(images=x, size=[8, 8])}

class Cancelling(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x):
        sums = {"difference": x[:, 0] - x[:, 1], "sum": tf.reduce_sum(x, -1)}
        return {**sums, "gate": tf.sigmoid(x), "kept": tf.nn.relu(x)}

class Named(tf.Module):
    def __init__(self, w):
        super().__init__()
        self.w = tf.Variable(w)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def __call__(self, x):
        product, _ = tf.split(tf.matmul(x, self.w, name="product"), 2, axis=1, name="parts")
        return {"y": tf.tanh(product)}

folder = sys.argv[1]
w = np.load(folder + "/w.npy")
wrong = w.astype(np.float16).astype(np.float32)
models = {"m": Model(w), "wrong": Model(wrong), "cancelling": Cancelling(), "named": Named(w)}
models.update({"resized": Resized(), "bicubic": Bicubic()})
for name, model in models.items():
    tf.saved_model.save(model, folder + "/" + name, signatures=model.__call__.get_concrete_function())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, written in a process of its own."""
    path = tmp_path_factory.mktemp("saved")
    np.save(path / "w.npy", np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32))
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Worker]:
    with Worker(ModelFile(folder / "m", "saved-model"), role="reference") as worker:
        yield worker


def test_loops_branches_and_normalization_in_float64(folder: Path, running: Worker) -> None:
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    got = running.run({"x": x}, precision="float64").outputs["y"]
    h = x.astype(np.float64)
    for _ in range(3):
        h = np.tanh(h @ np.load(folder / "w.npy").astype(np.float64))
    expected = (2 * h + 0.125) / np.sqrt(0.75 + float(np.float32(1e-3))) * 1.5 + 0.25
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)


def test_an_op_without_double_is_named(folder: Path) -> None:
    x = np.zeros((1, 4, 4, 1), np.float32)
    with (
        Worker(ModelFile(folder / "bicubic", "saved-model"), role="reference") as worker,
        pytest.raises((RunnerError, NotImplementedError), match="ResizeBicubic"),
    ):
        worker.run({"x": x}, precision="float64")


def test_bilinear_resizing_in_float64(folder: Path) -> None:
    """Six forms of the kernel, whose own result is float32, and the noise of an implementation in them."""
    x = np.random.default_rng(2).normal(size=(2, 4, 5, 2)).astype(np.float32)
    with Worker(ModelFile(folder / "resized", "saved-model"), role="reference") as worker:
        own, wide = worker.run({"x": x}).outputs, worker.run({"x": x}, precision="float64").outputs
        noisy = worker.run({"x": x}, precision=str(Noise(2.0**-24, 1))).outputs
    assert len(own) == 6
    for name, values in own.items():
        assert wide[name].dtype == np.float64
        assert np.abs(values - wide[name]).max() < 4e-6, name  # the kernel has float32 coordinates
        assert 0 < np.abs(noisy[name] - wide[name]).max() < 4e-6, name


def test_noise_in_loops_branches_and_normalization(running: Worker) -> None:
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)

    def noisy(amplitude: float, seed: int) -> np.ndarray:
        return running.run({"x": x}, precision=str(Noise(amplitude, seed))).outputs["y"]

    exact = running.run({"x": x}, precision="float64").outputs["y"]
    np.testing.assert_allclose(noisy(0.0, 0), exact, rtol=1e-13, atol=1e-14)
    first, second = noisy(1e-6, 1), noisy(1e-6, 2)
    np.testing.assert_array_equal(noisy(1e-6, 1), first)
    np.testing.assert_array_equal(running.run({"x": x}, precision="float64").outputs["y"], exact)
    for moved in (first, second):
        assert np.all(moved != exact)
        assert 1e-7 < np.abs(moved - exact).max() < 1e-4
    assert np.all(first != second)
    assert 50 < np.abs(noisy(1e-4, 1) - exact).max() / np.abs(first - exact).max() < 200


def test_noise_is_of_the_terms_of_sums_and_of_results_of_arithmetic(folder: Path) -> None:
    x = np.array([[1e3, 1e3], [3.0, -3.0], [-40.0, 7.0]], np.float32)
    amplitude = 1e-6
    with Worker(ModelFile(folder / "cancelling", "saved-model"), role="reference") as worker:
        exact = worker.run({"x": x}, precision="float64").outputs
        runs = [worker.run({"x": x}, precision=str(Noise(amplitude, seed))).outputs for seed in range(8)]
    errors = {name: np.max([np.abs(run[name] - exact[name]) for run in runs], axis=0) for name in exact}
    assert not errors["kept"].any()  # a selection
    assert errors["difference"][0] == 0 < errors["difference"][1] <= amplitude * 6.0
    assert amplitude < errors["sum"][1] <= amplitude * 6.0 * (1 + amplitude)  # the result itself is 0
    assert amplitude / 4 < errors["gate"][2, 0] <= amplitude * 1.01  # 1 - 1/(1 + e^-40): off by a unit of 1


CLASSES = {
    "tf32": Precision.of("tf32"),
    "fp16": Precision.of("fp16"),
    "bf16": Precision.of("bf16"),
    "int8": Precision.of("int8"),
    "int8 weights": Precision("int8", "weights", 8, True),
}


@pytest.mark.parametrize("name", CLASSES)
def test_rounding_of_a_class_in_loops_and_branches(running: Worker, name: str) -> None:
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    declared = CLASSES[name]

    def rounded(amplitude: float, seed: int) -> np.ndarray:
        return running.run({"x": x}, precision=str(Noise(amplitude, seed, declared))).outputs["y"]

    exact = running.run({"x": x}, precision="float64").outputs["y"]
    first, second = rounded(1.0, 1), rounded(1.0, 2)
    np.testing.assert_array_equal(rounded(1.0, 1), first)
    assert np.all(first != exact)
    assert np.all(first != second)
    size = np.abs(exact).max()
    assert declared.unit / 8 * size < np.abs(first - exact).max() < declared.unit * 32 * size
    if declared.scope == "tensors":
        np.testing.assert_allclose(rounded(0.0, 1), exact, rtol=1e-13, atol=1e-14)
        assert 5 < np.abs(rounded(10.0, 1) - exact).max() / np.abs(first - exact).max() < 20
    else:  # the rest has the noise of float32
        assert 0 < np.abs(rounded(0.0, 1) - exact).max() < 1e-4 * size


def test_what_a_class_rounds(folder: Path) -> None:
    x = np.array([[0.5, 0.25], [3.0, -3.0], [0.1, 0.2]], np.float32)
    with Worker(ModelFile(folder / "cancelling", "saved-model"), role="reference") as worker:

        def errors(declared: Precision) -> dict[str, np.ndarray]:
            exact = worker.run({"x": x}, precision="float64").outputs
            runs = [worker.run({"x": x}, precision=str(Noise(1.0, seed, declared))).outputs for seed in range(8)]
            return {name: np.max([np.abs(run[name] - exact[name]) for run in runs], axis=0) for name in exact}

        half, whole = errors(Precision.of("fp16")), errors(Precision.of("int8"))
        products, weights = errors(Precision.of("tf32")), errors(Precision("int8", "weights", 8))
    assert not half["kept"][:2].any()  # a selection, of inputs that float16 has
    assert 2.0**-14 < half["kept"][2, 0] / 0.1 <= 2.0**-11
    assert 2.0**-14 * 0.25 < half["difference"][0] <= 2.0**-11 * 0.2501
    step = 6.0 / 255
    assert step / 8 < whole["kept"][1, 0] <= step / 2  # of the range of the tensor, in an input
    assert 0 < products["sum"].max() < 1e-4  # no product: the noise of float32
    assert 0 < weights["sum"].max() < 1e-4


def test_tensors_of_the_frozen_graph_by_name(folder: Path) -> None:
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    inner = "StatefulPartitionedCall/"
    product, first, second = f"{inner}product:0", f"{inner}parts", f"{inner}parts:1"
    with Worker(ModelFile(folder / "named", "saved-model"), role="reference") as worker:
        for precision, dtype, error in (("native", "float32", 1e-6), ("float64", "float64", 1e-13)):
            result = worker.run({"x": x}, taps=[product, first, second, f"{inner}w:0", "y"], precision=precision)
            assert list(result.taps) == [product, first, second]
            expected = x.astype(np.float64) @ np.load(folder / "w.npy").astype(np.float64)
            np.testing.assert_allclose(result.taps[product], expected, rtol=error, atol=error)
            np.testing.assert_array_equal(result.taps[first], result.taps[product][:, :2])
            np.testing.assert_array_equal(result.taps[second], result.taps[product][:, 2:])
            assert result.taps[product].dtype == dtype
        noisy = worker.run({"x": x}, taps=[product], precision=str(Noise(1e-6, 1))).taps[product]
        assert 0 < np.abs(noisy - expected).max() < 1e-4


def written(folder: Path, w: np.ndarray) -> ModelFile:
    """The model `named` in ONNX, its values called as tf2onnx calls them."""
    names = {name: f"StatefulPartitionedCall/{name}:0" for name in ("product", "parts", "ends")}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], [names["product"]], name="product"),
        helper.make_node("Slice", [names["product"], "starts", "stops", "axes"], [names["parts"]], name="parts"),
        helper.make_node("Tanh", [names["parts"]], ["y"], name="y"),
    ]
    tables = {"w": w, "starts": np.array([0]), "stops": np.array([2]), "axes": np.array([1])}
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])]
    weights = [numpy_helper.from_array(array, name) for name, array in tables.items()]
    graph = helper.make_graph(nodes, "named", inputs, outputs, weights)
    path = folder / "named.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return ModelFile(path, "onnx")


def test_values_are_paired_by_the_names_of_tensors(folder: Path) -> None:
    w, source = np.load(folder / "w.npy"), ModelFile(folder / "named", "saved-model")
    report = validate(source, written(folder, w), strict=True)
    assert report.verdict is Verdict.EQUIVALENT, report.as_dict()
    assert len(report.layers) == 2
    report = validate(source, written(folder, w * np.array([1, -1, 1, 1], np.float32)))
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert report.culprit.op == "MatMul"


@pytest.mark.slow
def test_a_saved_model_as_the_source(folder: Path) -> None:
    source = ModelFile(folder / "m", "saved-model")
    assert validate(source, source).verdict is Verdict.EQUIVALENT
    assert validate(source, ModelFile(folder / "wrong", "saved-model")).verdict is Verdict.DIFFERENT
