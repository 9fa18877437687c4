"""Keras models as sources of a judgment: a threshold that another order of summation takes otherwise, and a declared
class."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.convert import convert
from isomorph.validators import ModelFile, Report, Verdict, Worker, judge
from isomorph.validators.runners.onnxruntime import OnnxRunner

pytestmark = [pytest.mark.requires("keras"), pytest.mark.requires("tensorflow")]

SCRIPT = """
import sys, keras
from keras import layers
keras.utils.set_random_seed(0)
images = keras.Input((9, 8, 3), name="images")
h = layers.Conv2D(8, 3, name="conv")(images)
h = layers.ReLU()(layers.BatchNormalization()(h))
gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(h))
keras.Model(images, layers.Dense(3)(layers.Flatten()(layers.Multiply()([h, gate])))).save(sys.argv[1] + "/net.keras")

x = keras.Input((64,), name="x")
u, v = (layers.Dense(4, use_bias=False, name=name) for name in "uv")
steep = layers.Rescaling(1e3)(layers.Subtract()([u(x), v(x)]))
v.set_weights(u.get_weights())
h = layers.Multiply()([layers.Dense(4)(x), layers.Activation("sigmoid")(steep)])
keras.Model(x, layers.Dense(3)(h)).save(sys.argv[1] + "/steep.keras")
"""
Edit = Callable[[onnx.ModelProto], None]
Judged = Callable[..., Report]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, capture_output=True)
    for name in ("net", "steep"):
        convert(path / f"{name}.keras", path / f"{name}.onnx")
    return path


@pytest.fixture(scope="module")
def sources(folder: Path) -> Iterator[dict[str, Worker]]:
    with (
        Worker(ModelFile(folder / "net.keras", "keras"), role="reference") as net,
        Worker(ModelFile(folder / "steep.keras", "keras"), role="reference") as steep,
    ):
        yield {"net": net, "steep": steep}


@pytest.fixture
def judged(folder: Path, sources: dict[str, Worker]) -> Judged:
    """The report on a model's conversion after edits."""

    def judged(name: str, *edits: Edit, precision: str | None = None) -> Report:
        proto, path = onnx.load(str(folder / f"{name}.onnx")), folder / "target.onnx"
        for edit in edits:
            edit(proto)
        onnx.save(proto, str(path))
        target = OnnxRunner(path, role="target")
        return judge(sources[name], target, written=ModelFile(path, "onnx"), precision=precision)

    return judged


def _replace(tensor: TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor)), np.float32)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _weight(proto: onnx.ModelProto, name: str) -> TensorProto:
    node = next(node for node in proto.graph.node if node.name == name)
    return next(tensor for tensor in proto.graph.initializer if tensor.name == node.input[1])


def another_order(proto: onnx.ModelProto) -> None:
    """The terms of one of two equal sums in another order: the same function."""
    order = np.random.default_rng(0).permutation(64)
    _replace(_weight(proto, "v"), lambda weight: weight[:, order])
    proto.graph.initializer.append(numpy_helper.from_array(order, "order"))
    next(node for node in proto.graph.node if node.name == "v").input[0] = "x.ordered"
    proto.graph.node.insert(0, helper.make_node("Gather", ["x", "order"], ["x.ordered"], name="x.ordered", axis=1))


def another_weight(proto: onnx.ModelProto) -> None:
    _replace(_weight(proto, "v"), lambda weight: weight * np.where(np.arange(64) == 5, 1.001, 1))


def test_a_gate_that_rounding_opens(judged: Judged) -> None:
    """The gate's argument is the difference of two equal sums: 0 on every path that the source takes, some units of
    roundoff times 1e3 on others. By the source's own error alone the target is off by 2.8e4 budgets."""
    report = judged("steep", another_order)
    assert report.verdict is Verdict.EQUIVALENT, report.as_dict()
    assert judged("steep", another_weight).verdict is Verdict.DIFFERENT


def through_half(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            _replace(tensor, lambda weight: weight.astype(np.float16))


def negate_a_channel(proto: onnx.ModelProto) -> None:
    _replace(_weight(proto, "conv"), lambda weight: weight * np.where(np.arange(8) == 3, -1, 1).reshape(8, 1, 1, 1))


def test_a_declared_class(judged: Judged) -> None:
    report = judged("net", through_half, precision="fp16")
    assert report.verdict is Verdict.EQUIVALENT, report.as_dict()
    report = judged("net", negate_a_channel, through_half, precision="fp16")
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert report.culprit.path == "conv"
