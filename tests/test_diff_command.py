"""`isomorph diff` on files: exit codes, formats against each other, what is printed and what is JSON."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import isomorph
from isomorph.cli import main
from isomorph.ir import ArrayTensor, Graph, Model, Value
from isomorph.ir.diff import KINDS

DIGITS = Path(__file__).resolve().parent.parent / "zoo/digits"


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diff") / "digits.onnx"
    isomorph.convert(DIGITS / "digits-cnn.pt2", path)
    return path


def with_changed_weight(source: Path, target: Path, name: str) -> None:
    """The same model with one element of a weight another."""
    model = isomorph.load(source)

    def change(value: Value) -> None:
        assert value.parameter is not None
        if value.parameter.name == name:
            array = np.array(value.parameter.data.numpy())
            array.reshape(-1)[0] += 1
            value.parameter = replace(value.parameter, data=ArrayTensor(array))

    for value in model.graph.parameters:
        change(value)
    isomorph.save(model, target)


def test_a_file_is_identical_with_itself(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(onnx_file), str(onnx_file)]) == 0
    assert "IDENTICAL" in capsys.readouterr().out


def test_pt2_and_onnx_are_the_same_network_with_the_same_weights(
    onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(DIGITS / "digits-cnn.pt2"), str(onnx_file)]) == 0
    assert "SAME" in capsys.readouterr().out
    difference = isomorph.diff(DIGITS / "digits-cnn.pt2", onnx_file)
    assert difference.form == "normal"
    assert difference.same_parameters == difference.a.parameters == 17


def test_pt2_and_keras_differ_in_their_interface_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(DIGITS / "digits-cnn.pt2"), str(DIGITS / "digits-cnn.keras")]
    assert main(["diff", *pair, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["same_parameters"] == 17
    assert content["kinds"][:2] == ["interface", "network"]
    assert [each["change"] for each in content["nodes"]] == ["rewired", "added"]


def test_one_changed_weight_is_named_and_measured(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_changed_weight(onnx_file, tmp_path / "b.onnx", "head.weight")
    assert main(["diff", str(onnx_file), str(tmp_path / "b.onnx")]) == 1
    printed = capsys.readouterr().out
    assert "DIFFERENT  in weights" in printed
    assert "~ head.weight  float32[10, 128]  1 of 1,280 differ, by at most 1" in printed
    assert main(["diff", str(onnx_file), str(tmp_path / "b.onnx"), "--ignore", "weights"]) == 0


def test_strict_counts_names(onnx_file: Path, tmp_path: Path) -> None:
    model = isomorph.load(onnx_file)
    for value in model.graph.parameters:
        assert value.parameter is not None
        value.parameter.name = value.name = f"renamed.{value.parameter.name}"
    isomorph.save(model, tmp_path / "b.onnx")
    assert main(["diff", str(onnx_file), str(tmp_path / "b.onnx")]) == 0
    assert main(["diff", str(onnx_file), str(tmp_path / "b.onnx"), "--strict"]) == 1


def test_long_lists_are_cut_unless_all_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(DIGITS / "digits-cnn.pt2"), str(DIGITS / "digits-cnn.keras")]
    main(["diff", *pair])
    assert "... 5 more (--all lists them)" in capsys.readouterr().out
    main(["diff", *pair, "--all"])
    assert "more (--all" not in capsys.readouterr().out


def safetensors(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_checkpoint_is_compared_by_its_weights(onnx_file: Path, tmp_path: Path) -> None:
    weights = {name: np.array(each.data.numpy()) for name, each in isomorph.load(onnx_file).parameters().items()}
    weights = {name: array for name, array in weights.items() if array.dtype == np.float32}
    first = safetensors(tmp_path / "a.safetensors", weights)
    assert isomorph.diff(first, onnx_file).same
    weights["head.bias"] = weights["head.bias"] + 1
    del weights["norm1.bias"]
    difference = isomorph.diff(first, safetensors(tmp_path / "b.safetensors", weights))
    assert difference.form == "weights"
    assert [(each.change, each.names.a) for each in difference.parameters] == [
        ("removed", "norm1.bias"),
        ("changed", "head.bias"),
    ]


def test_models_in_memory_are_compared() -> None:
    assert isomorph.diff(Model(Graph("g")), Model(Graph("g"))).identical


def test_a_missing_file_is_a_wrong_call(onnx_file: Path) -> None:
    assert main(["diff", str(onnx_file), "nothing.onnx"]) == 2


def test_the_command_knows_every_kind() -> None:
    from isomorph.commands.diff import _KINDS

    assert _KINDS == KINDS
