"""Pieces of a sequence at known positions are read as tensors; other sequences stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.convert import convert
from isomorph.converters.onnx import reader

INT64 = TensorProto.INT64


def stored(path: Path, split: np.ndarray | None, positions: list[int], **attributes: int) -> Path:
    """Pieces of x (N, 7) along axis 1."""
    constants = {f"at{at}": np.asarray(position, np.int64) for at, position in enumerate(positions)}
    if split is not None:
        constants["split"] = split
    nodes = [helper.make_node("SplitToSequence", ["x", *(["split"] if split is not None else [])], ["s"], **attributes)]
    nodes += [helper.make_node("SequenceAt", ["s", f"at{at}"], [f"y{at}"]) for at in range(len(positions))]
    outputs = [helper.make_tensor_value_info(f"y{at}", TensorProto.FLOAT, None) for at in range(len(positions))]
    graph = helper.make_graph(
        nodes,
        "pieces",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 7])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize("split", [np.asarray(3), np.asarray([2, 1, 4]), np.asarray([0, 7]), None], ids=str)
@pytest.mark.parametrize("last", [-1, 1])
def test_pieces_at_known_positions_are_slices(split: np.ndarray | None, last: int, tmp_path: Path) -> None:
    path = stored(tmp_path / "a.onnx", split, [0, last], axis=1)
    model = reader.read(path)
    assert {node.op.name for node in model.graph.nodes} == {"Slice"}
    convert(path, tmp_path / "b.onnx")
    x = np.arange(14, dtype=np.float32).reshape(2, 7)
    before, after = (
        onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for name in ("a.onnx", "b.onnx")
    )
    for wanted, got in zip(before, after, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("split", "position", "attributes"),
    [
        (np.asarray([2, 5]), 2, {"axis": 1}),  # there is no such piece
        (None, 0, {"axis": 1, "keepdims": 0}),  # pieces without the axis
        (np.asarray([1, 1]), 0, {"axis": 0}),  # of an axis whose size is not known
    ],
)
def test_other_pieces_stay_in_a_sequence(
    split: np.ndarray | None, position: int, attributes: dict[str, int], tmp_path: Path
) -> None:
    model = reader.read(stored(tmp_path / "a.onnx", split, [position], **attributes))
    assert [node.op.name for node in model.graph.nodes] == ["Preserved", "Preserved"]
