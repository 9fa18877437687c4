"""The judge on real conversions: a clean one passes, a broken one is traced to the line that the user wrote."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from isomorph.converters.convert import convert
from isomorph.validators import ModelFile, Verdict, validate

pytestmark = pytest.mark.requires("torch")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    torch: Any = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 6, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(6)
            self.second = torch.nn.Conv2d(6, 6, 3, padding=1)
            self.head = torch.nn.Linear(6, 5)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(x)))
            y = torch.relu(self.second(x))
            return self.head((x + y).mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        net.norm.running_var.uniform_(0.1, 2.0)
        net.norm.running_mean.normal_()
    batch = torch.export.Dim.DYNAMIC
    program = torch.export.export(net, (torch.zeros(2, 3, 9, 11),), dynamic_shapes=({0: batch},))
    path = tmp_path_factory.mktemp("conversions") / "net.pt2"
    torch.export.save(program, path)
    return ModelFile(path, "pt2")


def test_torch_to_onnx(source: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    convert(source.path, path)
    report = validate(source, ModelFile(path, "onnx"))
    assert report.verdict is Verdict.EQUIVALENT, report.as_dict()
    assert any(" s" in case or "=1" in case for case in report.cases)

    proto = onnx.load(str(path))
    weight = next(t for t in proto.graph.initializer if list(t.dims) == [6, 6, 3, 3])
    weight.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weight)[..., ::-1]), weight.name)
    )
    onnx.save(proto, str(path))
    broken = validate(source, ModelFile(path, "onnx"))
    assert broken.verdict is Verdict.DIFFERENT
    assert broken.culprit is not None
    assert broken.culprit.path == "second", broken.culprit
    assert broken.culprit.file.endswith("test_conversions.py")
    assert "self.second(x)" in broken.culprit.code


@pytest.mark.requires("keras")
def test_torch_to_keras(source: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    convert(source.path, path)
    report = validate(source, ModelFile(path, "keras"))
    assert report.verdict is Verdict.EQUIVALENT, report.as_dict()

    broken = tmp_path / "broken.keras"
    rewrite_weights(path, broken, shape=(3, 3, 6, 6))
    report = validate(source, ModelFile(broken, "keras"))
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert report.culprit.path == "second"


RECURRENT = """
import sys, keras
from keras import layers
keras.utils.set_random_seed(0)
x = keras.Input((5, 4), name="x")
keras.Model(x, layers.Dense(3, activation="tanh", name="head")(layers.GRU(6, name="gru")(x))).save(sys.argv[1])
"""


@pytest.mark.requires("keras")
def test_keras_with_a_recurrent_layer_to_onnx(tmp_path: Path) -> None:
    """The activation of a recurrent layer is inside its cell: there is no value before it to ask for."""
    subprocess.run([sys.executable, "-c", RECURRENT, str(tmp_path / "net.keras")], check=True, capture_output=True)
    path = tmp_path / "net.onnx"
    convert(tmp_path / "net.keras", path)
    proto = onnx.load(str(path))
    weight = next(t for t in proto.graph.initializer if sorted(t.dims) == [3, 6])
    negated = numpy_helper.to_array(weight).copy()
    negated[1] *= -1
    weight.CopyFrom(numpy_helper.from_array(negated, weight.name))
    onnx.save(proto, str(path))
    report = validate(ModelFile(tmp_path / "net.keras", "keras"), ModelFile(path, "onnx"))
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert report.culprit.path == "head"
    assert report.culprit.op == "Linear"


def rewrite_weights(path: Path, target: Path, *, shape: tuple[int, ...]) -> None:
    """Copy a .keras file with the kernel of this shape negated in one output channel."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "model.weights.h5":
                memory = io.BytesIO(content)
                with h5py.File(memory, "r+") as file:
                    file.visititems(
                        lambda _, item: negate_a_channel(item) if getattr(item, "shape", None) == shape else None
                    )
                content = memory.getvalue()
            copy.writestr(name, content)


def negate_a_channel(dataset: Any) -> None:
    dataset[..., 2] = -dataset[..., 2]
