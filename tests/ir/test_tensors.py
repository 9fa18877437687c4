"""Lazy tensors: mapped slices, views, and files that change under them."""

from pathlib import Path

import numpy as np
import pytest

from isomorph.errors import MalformedError, ShapeError
from isomorph.ir import ArrayTensor, DType, MappedTensor

DATA = np.arange(24, dtype=np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"head" + DATA.tobytes())
    return path


def test_a_slice_of_a_file(file: Path) -> None:
    tensor = MappedTensor(file, 4, DType.FLOAT32, (2, 3, 4))
    np.testing.assert_array_equal(tensor.numpy(), DATA.reshape(2, 3, 4))
    assert not tensor.numpy().flags.writeable
    strided = MappedTensor(file, 4, DType.FLOAT32, (3, 2), strides=(1, 12))
    np.testing.assert_array_equal(strided.numpy(), DATA.reshape(2, 12)[:, :3].T)
    np.testing.assert_array_equal(tensor.permuted((2, 0, 1)).numpy(), DATA.reshape(2, 3, 4).transpose(2, 0, 1))
    assert tensor.permuted((2, 0, 1)).digest() == ArrayTensor(DATA.reshape(2, 3, 4).transpose(2, 0, 1)).digest()
    np.testing.assert_array_equal(tensor.reshaped((6, 4)).numpy(), DATA.reshape(6, 4))


def test_a_slice_stays_inside_its_file(file: Path) -> None:
    with pytest.raises(MalformedError, match="outside of its file"):
        MappedTensor(file, 8, DType.FLOAT32, (24,)).numpy()
    with pytest.raises(ShapeError):
        ArrayTensor(DATA).reshaped((5, 5))
    with pytest.raises(ShapeError):
        ArrayTensor(DATA).permuted((1,))


def test_a_file_that_was_replaced_is_refused(file: Path) -> None:
    tensor = MappedTensor(file, 4, DType.FLOAT32, (24,))
    other = file.with_name("other")
    other.write_bytes(bytes(100))
    other.replace(file)
    with pytest.raises(MalformedError, match="changed since the model was read"):
        tensor.numpy()
