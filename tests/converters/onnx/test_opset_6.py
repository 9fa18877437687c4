"""The models of opset 6 in the onnx wheel, exported by PyTorch long ago: read as they are.

ONNX -> IR -> ONNX keeps every weight and its name, and computes what was recorded.
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
    assert len(EXPORTED) > 100


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
