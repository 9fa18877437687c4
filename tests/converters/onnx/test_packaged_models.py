"""The models in the onnx wheel: exported by PyTorch long ago (opset 6), or of the old zoo, without weights (opset 9).

ONNX -> IR -> ONNX keeps every weight and its name, and computes what was recorded, or what the original computes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
EXPORTED = sorted(DATA.glob("pytorch-*/*/model.onnx"))
LIGHT = [DATA / "light" / f"light_{name}.onnx" for name in ("squeezenet", "shufflenet", "inception_v1")]


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def recorded(folder: Path, kind: str) -> list[np.ndarray]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [
        numpy_helper.to_array(onnx.TensorProto.FromString((folder / f"{kind}_{index}.pb").read_bytes()))
        for index in range(count)
    ]


def run(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip([item.name for item in session.get_inputs()], inputs, strict=True))))


def round_trip(path: Path, folder: Path) -> Path:
    written = folder / "written.onnx"
    writer.write(prepare(reader.read(path), writer.target()), written)
    onnx.checker.check_model(written, full_check=True)
    return written


def test_the_wheel_has_them() -> None:
    assert len(EXPORTED) > 100 and all(path.exists() for path in LIGHT)


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.parent.name)
def test_exported_by_pytorch(path: Path, tmp_path: Path) -> None:
    written = round_trip(path, tmp_path)
    kept = weights(written)
    for name, array in weights(path).items():
        assert kept[name].dtype == array.dtype and kept[name].tobytes() == array.tobytes(), name
    folder = path.parent / "test_data_set_0"
    for got, wanted in zip(run(written, recorded(folder, "input")), recorded(folder, "output"), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_nets_of_the_old_zoo(path: Path, tmp_path: Path) -> None:
    written = round_trip(path, tmp_path)
    model = onnx.load(path)
    given = {tensor.name for tensor in model.graph.initializer}
    shapes = [
        [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in model.graph.input
        if item.name not in given
    ]
    inputs = [np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape) for shape in shapes]
    for got, wanted in zip(run(written, inputs), run(path, inputs), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
