"""Weights beside the model: NAME.onnx.data is written, mapped when it is read back, and never left half done."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from isomorph.converters.convert import load, save
from isomorph.converters.onnx import weights, writer
from isomorph.converters.onnx.form import OnnxForm
from isomorph.errors import TargetExistsError
from isomorph.ir import ArrayTensor, Builder, DType, MappedTensor, Model, Origin, Parameter, Scope, ops
from isomorph.ir.evaluate import evaluate


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "OnnxForm", partial(OnnxForm, external_data=4096))


def linear(seed: int = 0, width: int = 40) -> Model:
    rng = np.random.default_rng(seed)
    b = Builder("linear")
    x = b.input("x", DType.FLOAT32, (2, 32))
    w = b.parameter(Parameter("fc.weight", ArrayTensor(rng.normal(size=(width, 32)).astype(np.float32))))
    bias = b.parameter(Parameter("fc.bias", ArrayTensor(rng.normal(size=width).astype(np.float32))))
    with b.at(Scope(), Origin("test", "linear", "y")):
        b.output("y", b.emit(ops.Linear(), x, w, bias))
    return b.finish()


def names(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def test_weights_go_beside_the_model_and_come_back_mapped(tmp_path: Path) -> None:
    model, path = linear(), tmp_path / "m.onnx"
    save(model, path)
    assert names(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert path.stat().st_size < 4096
    onnx.checker.check_model(str(path), full_check=True)
    x = {"x": np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, x)[0], evaluate(model, x)["y"], rtol=1e-5, atol=1e-6)
    again = load(path).parameters()
    assert isinstance(again["fc.weight"].data, MappedTensor)
    assert again["fc.weight"].data.digest() == model.parameters()["fc.weight"].data.digest()
    assert not isinstance(again["fc.bias"].data, MappedTensor)  # small tensors stay in the .onnx


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(linear(), tmp_path / name / "m.onnx")
    for name in ("m.onnx", "m.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_rewriting_replaces_both(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(linear(0), path)
    save(linear(1, width=50), path, force=True)
    assert names(tmp_path) == ["m.onnx", "m.onnx.data"]
    wanted = linear(1, width=50).parameters()["fc.weight"].data.digest()
    assert load(path).parameters()["fc.weight"].data.digest() == wanted


def test_data_of_another_model_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        save(linear(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling symlink"])
@pytest.mark.parametrize("name", ["m.onnx", "m.onnx.data"])
def test_a_link_in_the_way_is_replaced_and_what_it_leads_to_left(name: str, kind: str, tmp_path: Path) -> None:
    folder, canary = tmp_path / "folder", tmp_path / "canary"
    folder.mkdir()
    save(linear(), folder / "m.onnx")
    canary.write_bytes(b"mine")
    (folder / name).unlink()
    if kind == "hard link":
        (folder / name).hardlink_to(canary)
    else:
        (folder / name).symlink_to(canary if kind == "symlink" else tmp_path / "absent")
    with contextlib.suppress(TargetExistsError):  # data without a model are somebody else's
        save(linear(1), folder / "m.onnx", force=True)
        assert load(folder / "m.onnx").parameters().keys() == linear().parameters().keys()
    assert canary.read_bytes() == b"mine" and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("fails", ["elements", "write_model"])
def test_a_failure_while_writing_leaves_what_was_there(
    fails: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    if before:
        save(linear(0), path)
    contents = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(weights, fails, fail)
    with pytest.raises(OSError, match="no space"):
        save(linear(1), path, force=True)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == contents


@pytest.mark.parametrize("before", [False, True])
def test_a_failure_between_the_two_renames_leaves_no_wrong_model(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    if before:
        save(linear(0), path)
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target == path:
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="gone"):
        save(linear(1), path, force=True)
    assert "m.onnx" not in names(tmp_path)
