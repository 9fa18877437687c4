"""ONNX -> IR -> ONNX keeps results, weights bit by bit, and the names of inputs, outputs, nodes and initializers."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter

from isomorph.converters.convert import load, save
from isomorph.errors import UnsupportedError
from isomorph.ir import ops

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
RECORDED = sorted(
    folder for kind in ("simple", "pytorch-converted", "pytorch-operator") for folder in (DATA / kind).iterdir()
)
LIGHT = sorted(path for path in (DATA / "light").glob("*.onnx"))
READ_AT_LEAST = 115


def run(path: Path, arrays: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip([item.name for item in session.get_inputs()], arrays, strict=False))))


def recorded(folder: Path, kind: str) -> list[Any]:
    files = sorted(folder.glob(f"test_data_set_0/{kind}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))
    return [numpy_helper.to_array(TensorProto.FromString(path.read_bytes())) for path in files]


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The recorded models of opset 6 as the onnx package itself says them at opset 9."""
    old = model.opset_import[0].version < 7
    return version_converter.convert_version(model, 9) if old else model


def close(got: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return len(got) == len(wanted) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(got, wanted, strict=True)
    )


def test_recorded_models_compute_what_was_recorded(tmp_path: Path) -> None:
    target = tmp_path / "written.onnx"
    read = 0
    for folder in RECORDED:
        source = tmp_path / "source.onnx"
        try:
            onnx.save(modern(onnx.load(folder / "model.onnx")), source)
            inputs, outputs = recorded(folder, "input"), recorded(folder, "output")
            passes = close(run(source, inputs), outputs)
        except Exception:  # sequences, maps, training: what onnxruntime does not run as recorded says nothing here
            continue
        if not passes:
            continue
        try:
            save(load(source), target, force=True)
        except UnsupportedError:
            continue
        read += 1
        assert close(run(target, inputs), outputs), folder.name
        before, after = onnx.load(source).graph, onnx.load(target).graph
        given = {tensor.name for tensor in before.initializer}
        assert [item.name for item in after.input] == [item.name for item in before.input if item.name not in given]
        assert [item.name for item in after.output] == [item.name for item in before.output]
    assert read >= READ_AT_LEAST, read


@pytest.mark.parametrize("source", LIGHT, ids=lambda path: path.stem)
def test_light_models_are_read_and_written(source: Path, tmp_path: Path) -> None:
    """The architectures of the model zoo; their weights are computed by ConstantOfShape nodes."""
    target = tmp_path / "written.onnx"
    save(load(source), target)
    assert target.stat().st_size < 4 * source.stat().st_size  # what computes the weights stays
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    (item,) = session.get_inputs()
    shape = [dim if isinstance(dim, int) else 1 for dim in item.shape]
    del session
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert close(run(target, [data]), run(source, [data]))
    gc.collect()


def bits() -> dict[str, np.ndarray]:
    """Floats that arithmetic would change: NaN payloads, signaling NaN, -0.0, denormals, infinities."""
    single = np.array([0x7FC00001, 0x7F800001, 0xFFC12345, 0x80000000, 1, 0x807FFFFF, 0x7F800000, 0xFF800000], "<u4")
    double = np.array([0x7FF8000000000001, 0x7FF0000000000001, 1 << 63, 1, 0xFFF0000000000000], "<u8")
    half = np.array([0x7E01, 0x7C01, 0x8000, 1, 0xFC00], "<u2")
    return {"single": single.view("<f4"), "double": double.view("<f8"), "half": half.view("<f2")}


@pytest.mark.parametrize("raw", [True, False], ids=["raw data", "typed fields"])
def test_weights_keep_every_bit(raw: bool, tmp_path: Path) -> None:
    tensors, nodes, inputs, outputs = [], [], [], []
    for name, array in bits().items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if raw:
            tensor = numpy_helper.from_array(array, f"{name}.weight")
        else:
            data = _typed_field(kind, array)
            head = TensorProto(name=f"{name}.weight", dims=array.shape, data_type=kind)
            tensor = TensorProto.FromString(head.SerializeToString() + data)
        tensors.append(tensor)
        nodes.append(helper.make_node("Mul", [f"{name}.x", f"{name}.weight"], [f"{name}.y"], name=f"{name}/mul"))
        inputs.append(helper.make_tensor_value_info(f"{name}.x", kind, array.shape))
        outputs.append(helper.make_tensor_value_info(f"{name}.y", kind, array.shape))
    graph = helper.make_graph(nodes, "bits", inputs, outputs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    proto.metadata_props.add(key="author", value="somebody")
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    source.write_bytes(proto.SerializeToString())
    save(load(source), target)
    written = onnx.load(target)
    assert {tensor.name: tensor.raw_data for tensor in written.graph.initializer} == {
        f"{name}.weight": array.tobytes() for name, array in bits().items()
    }
    assert [node.name for node in written.graph.node] == [node.name for node in nodes]
    assert ("author", "somebody") in {(entry.key, entry.value) for entry in written.metadata_props}


def _typed_field(kind: int, array: np.ndarray) -> bytes:
    """float_data (4), double_data (10), or the bits of float16 in int32_data (5), as protobuf packs them."""
    if kind == TensorProto.FLOAT16:
        return TensorProto(int32_data=[int(item) for item in array.view("<u2")]).SerializeToString()
    return bytes([(4 if kind == TensorProto.FLOAT else 10) << 3 | 2, array.nbytes]) + array.tobytes()


def test_a_second_round_trip_changes_nothing(tmp_path: Path) -> None:
    source = next(path for path in LIGHT if "squeezenet" in path.stem)
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    save(load(source), first)
    save(load(first), second)
    one, two = onnx.load(first), onnx.load(second)
    assert [node.name for node in one.graph.node] == [node.name for node in two.graph.node]
    assert [node.output for node in one.graph.node] == [node.output for node in two.graph.node]
    weights = [{tensor.name: tensor.raw_data for tensor in proto.graph.initializer} for proto in (one, two)]
    assert weights[0] == weights[1]


@pytest.mark.requires("torch")
def test_state_dict_names_and_tied_weights_survive(tmp_path: Path) -> None:
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 6)
            self.norm = torch.nn.LayerNorm(6)
            self.head = torch.nn.Linear(6, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: Any) -> Any:
            return self.head(self.norm(self.embedding(tokens)))

    torch.manual_seed(0)
    module, tokens = Tied().eval(), torch.randint(0, 11, (2, 5))
    torch.export.save(torch.export.export(module, (tokens,)), tmp_path / "tied.pt2")
    path = tmp_path / "tied.onnx"
    save(load(tmp_path / "tied.pt2"), path)
    with torch.no_grad():
        np.testing.assert_allclose(run(path, [tokens.numpy()])[0], module(tokens).numpy(), rtol=1e-4, atol=1e-5)
    again = load(path)
    stored = {name: value for name, value in again.parameters().items() if value.role != "constant"}
    state = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}  # a tied weight is named once
    assert set(stored) == set(state)
    for name, array in state.items():
        assert np.array_equal(stored[name].data.numpy().view(np.uint32), array.view(np.uint32)), name
    (shared,) = (value for value in again.graph.parameters if value.name == "embedding.weight")
    kinds = _readers(again, shared)
    assert any(kind in (ops.Gather, ops.Embedding) for kind in kinds) and len(kinds) == 2


def _readers(model: Any, value: Any) -> list[Any]:
    """Ops that read a value, looking through Transposes."""
    found = []
    for node in model.graph.users().get(value, []):
        found += _readers(model, node.output) if isinstance(node.op, ops.Transpose) else [type(node.op)]
    return found
