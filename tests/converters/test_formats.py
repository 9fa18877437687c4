"""Formats are known by content first, then by suffix."""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from isomorph.converters.formats import FORMATS, by_name, by_suffix, identify
from isomorph.errors import MalformedError, UnknownFormatError, UsageError


def onnx_bytes() -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph).SerializeToString()


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def test_content_wins_over_the_suffix(tmp_path: Path) -> None:
    model = tmp_path / "model.h5"
    model.write_bytes(onnx_bytes())
    assert identify(model).name == "onnx"
    assert identify(zipped(tmp_path / "a.onnx", "config.json", "model.weights.h5", "metadata.json")).name == "keras"
    assert identify(zipped(tmp_path / "b.zip", "m/archive_version", "m/models/model.json")).name == "pt2"
    assert identify(zipped(tmp_path / "c.pt2", "m/constants.pkl", "m/code/a.py")).name == "torchscript"
    assert identify(zipped(tmp_path / "d.keras", "m/data.pkl", "m/data/0")).name == "torch-checkpoint"
    hdf5 = tmp_path / "weights"
    hdf5.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(8))
    assert identify(hdf5).name == "h5"


def test_the_suffix_decides_where_the_content_says_nothing(tmp_path: Path) -> None:
    torn = tmp_path / "model.onnx"
    torn.write_bytes(onnx_bytes()[:-7])
    assert identify(torn).name == "onnx"
    assert by_suffix(Path("A.ONNX")) is by_name("onnx")


def test_what_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    unknown = tmp_path / "model.xyz"
    unknown.write_bytes(b"hello")
    with pytest.raises(UnknownFormatError, match="neither its content nor the suffix"):
        identify(unknown)
    with pytest.raises(UsageError, match=r"model\.xyz"):
        identify(tmp_path / "model.xy")
    torn = tmp_path / "torn.keras"
    torn.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(MalformedError):
        identify(torn)


def test_a_misspelt_format_is_recognised() -> None:
    with pytest.raises(UsageError, match="did you mean 'keras'"):
        by_name("kears")


def test_every_reader_and_writer_of_the_table_is_there() -> None:
    for format in FORMATS:
        if format.reads:
            assert callable(format.load_reader())
        if format.writes:
            module = format.load_writer()
            assert callable(module.write) and callable(module.target)
            assert find_spec(format.writer) is not None


def test_onnx_protobuf_written_with_other_field_orders_is_recognised(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(onnx_bytes())
    model.metadata_props.add(key="k", value="v")
    path = tmp_path / "model"
    path.write_bytes(model.SerializeToString())
    assert identify(path).name == "onnx"
