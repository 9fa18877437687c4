"""Files at the limits of protobuf and beyond 32 bits: holes stand for the weights, so that no disk is needed."""

from __future__ import annotations

import io
import resource
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from isomorph.converters.convert import load, save
from isomorph.converters.onnx import stream
from isomorph.converters.onnx.form import OnnxForm
from isomorph.converters.onnx.stream import LARGEST_FILE, Weight, write_model
from isomorph.errors import MalformedError, UnsupportedError
from isomorph.ir import ArrayTensor, Builder, DerivedTensor, DType, MappedTensor, Origin, Parameter, Scope, ops
from isomorph.ir.evaluate import evaluate


def gather(tensor: TensorProto) -> onnx.ModelProto:
    """y = Gather(w, Relu(x))."""
    nodes = [helper.make_node("Relu", ["x"], ["i"]), helper.make_node("Gather", ["w", "i"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.INT32, [2])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_value_info("y", onnx.TypeProto())], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def with_a_hole(path: Path, size: int) -> int:
    """Write a file of this size whose only weight is a hole; returns the number of the weight's bytes."""
    count = size
    while len(head := _head(count)) + count != size:
        count = size - len(head)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return count


def _head(count: int) -> bytes:
    """The file up to the elements of its only weight, which are the end of the last field of the last message."""
    model = gather(TensorProto(name="w", data_type=TensorProto.UINT8, dims=[count]))
    tensor = model.graph.initializer[0].SerializeToString() + b"\x4a" + _varint(count)
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + b"\x2a" + _varint(len(tensor) + count) + tensor
    model.ClearField("graph")
    return model.SerializeToString() + b"\x3a" + _varint(len(graph) + count) + graph


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def test_a_file_as_large_as_protobuf_allows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    count = with_a_hole(path, LARGEST_FILE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = load(path)
    assert model.parameters()["w"].data.nbytes == count
    y = evaluate(model, {"x": np.array([5, count - 1], np.int32)})["y"]
    assert y.tolist() == [0, 0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_file_of_one_byte_more_is_refused(tmp_path: Path) -> None:
    with_a_hole(tmp_path / "m.onnx", LARGEST_FILE + 1)
    with pytest.raises(MalformedError, match="2 GiB"):
        load(tmp_path / "m.onnx")


def test_external_data_beyond_32_bits(tmp_path: Path) -> None:
    offset = (1 << 32) + 4096
    with (tmp_path / "w.bin").open("wb") as file:
        file.seek(offset)
        file.write(bytes(range(100)))
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[100], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "w.bin", "offset": offset, "length": 100}.items():
        tensor.external_data.add(key=key, value=str(value))
    (tmp_path / "m.onnx").write_bytes(gather(tensor).SerializeToString())
    model = load(tmp_path / "m.onnx")
    assert evaluate(model, {"x": np.array([7, 99], np.int32)})["y"].tolist() == [7, 99]


def test_what_no_protobuf_can_hold_is_refused_before_a_byte_is_written() -> None:
    size = LARGEST_FILE - 50
    weight = DerivedTensor(DType.UINT8, [size], (), lambda: pytest.fail("read"))
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[size])
    model = gather(tensor)
    del model.graph.initializer[:]
    file = io.BytesIO()
    with pytest.raises(UnsupportedError, match="2 GiB"):
        write_model(file, model, [Weight(tensor, weight)])
    assert file.tell() == 0


def test_weights_of_4_bits_lie_beside_the_model_packed(tmp_path: Path) -> None:
    """They are most of a large quantized model: in the .onnx they would meet the limit."""
    codes = np.random.default_rng(0).integers(-8, 8, (3, 501)).astype(DType.INT4.numpy)
    b = Builder("codes")
    x = b.input("x", DType.FLOAT32, (2, 3))
    q = b.parameter(Parameter("q", ArrayTensor(codes)))
    scale = b.parameter(Parameter("scale", ArrayTensor(np.float32(0.5)), role="constant", trainable=False))
    with b.at(Scope(), Origin("test", "linear")):
        b.output("y", b.emit(ops.MatMul(), x, b.emit(ops.DequantizeLinear(DType.FLOAT32), q, scale)))
    model, path = b.finish(), tmp_path / "m.onnx"
    save(model, path, onnx=OnnxForm(external_data=0))
    assert (tmp_path / "m.onnx.data").stat().st_size == -(-codes.size // 2)
    onnx.checker.check_model(str(path), full_check=True)
    array = np.ones((2, 3), np.float32)
    (y,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": array})
    np.testing.assert_array_equal(y, evaluate(model, {"x": array})["y"])
    again = load(path).parameters()["q"].data
    assert not isinstance(again, MappedTensor) and np.array_equal(again.numpy(), codes)


@pytest.mark.parametrize("columns", [500, 501], ids=["whole bytes", "half a byte left"])
def test_weights_of_4_bits_are_copied_without_being_unpacked(columns: int, tmp_path: Path) -> None:
    packed = np.random.default_rng(0).integers(0, 256, -(-3 * columns // 2), np.uint8)
    tensor = TensorProto(name="w", data_type=TensorProto.UINT4, dims=[3, columns], raw_data=packed.tobytes())
    proto = gather(TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[], float_data=[0.5]))
    proto.graph.initializer.append(tensor)
    del proto.graph.node[:]
    proto.graph.node.append(helper.make_node("DequantizeLinear", ["w", "s"], ["y"]))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "m.onnx")
    save(model, tmp_path / "n.onnx", onnx=OnnxForm(external_data=0))
    written = np.fromfile(tmp_path / "n.onnx.data", np.uint8)
    if columns % 2:
        packed[-1] &= 15  # what no element says is not copied
    assert np.array_equal(written, packed)
    again = load(tmp_path / "n.onnx").parameters()["w"].data.numpy()
    assert np.array_equal(again, model.parameters()["w"].data.numpy())


@pytest.mark.parametrize("perm", [(0, 2, 1), (2, 1, 0), (1, 0, 2)])
def test_a_permuted_weight_is_written_piece_by_piece(perm: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK", 64)
    array = np.arange(2 * 30 * 7, dtype=np.float32).reshape(2, 30, 7)
    pieces = [bytes(piece) for piece in stream.elements(ArrayTensor(array).permuted(perm))]
    assert b"".join(pieces) == array.transpose(perm).tobytes()
    assert max(map(len, pieces)) <= 64
