"""The pipeline as a whole, on models built here: what it refuses, and what it leaves behind."""

from pathlib import Path

import numpy as np
import pytest

from isomorph.converters.convert import convert, load, save
from isomorph.errors import TargetExistsError, UnsupportedError, UsageError
from isomorph.ir import ArrayTensor, Builder, DType, Model, Origin, Parameter, Scope, ScopeEntry, Sym, ops
from isomorph.ir.evaluate import evaluate


def small() -> Model:
    b = Builder("small")
    x = b.input("x", DType.FLOAT32, (Sym("N"), 3, 8, 8))
    rng = np.random.default_rng(0)
    w = b.parameter(Parameter("conv.weight", ArrayTensor(rng.normal(size=(4, 3, 3, 3)).astype(np.float32))))
    fc = b.parameter(Parameter("fc.weight", ArrayTensor(rng.normal(size=(5, 256)).astype(np.float32))))
    with b.at(Scope((ScopeEntry("conv", "torch.nn.Conv2d"),)), Origin("torch", "aten.conv2d.default", "conv2d")):
        y = b.emit(ops.Conv((1, 1), ((1, 1), (1, 1)), (1, 1)), x, w)
    with b.at(Scope(), Origin("torch", "aten.flatten", "flatten", file="net.py", line=12)):
        y = b.emit(ops.Linear(), b.emit(ops.Flatten(), b.emit(ops.Relu(), y)), fc)
    b.output("logits", y)
    return b.finish()


def unsupported() -> Model:
    b = Builder("unsupported")
    x = b.input("x", DType.FLOAT32, (2, 6))
    for place, line in (("head.first", 3), ("head.second", 4)):
        with b.at(Scope((ScopeEntry(place, "Head"),)), Origin("torch", "aten.topk", file="head.py", line=line)):
            x, _ = b.emit_many(ops.TopK(k=2), b.emit(ops.CumSum(axis=1), x))
    b.output("y", x)
    return b.finish()


@pytest.mark.parametrize("suffix", [".onnx", ".keras"])
def test_a_model_survives_a_file(tmp_path: Path, suffix: str) -> None:
    model = small()
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    written = save(model, tmp_path / f"small{suffix}")
    again = load(tmp_path / f"small{suffix}")
    assert list(again.inputs) == list(written.inputs) == ["x"]
    expected = evaluate(model, {"x": x})["logits"]
    (got,) = evaluate(again, {"x": x}).values()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_bytes_depend_on_the_model_alone(tmp_path: Path) -> None:
    for suffix in (".onnx", ".keras"):
        for name in ("a", "b"):
            save(small(), tmp_path / f"{name}{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_all_that_a_target_lacks_is_in_one_error_and_no_file_is_left(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        convert(unsupported(), tmp_path / "out.keras")
    places = [(item.op, item.where.split("  ")[0]) for item in caught.value.items]
    assert places
    assert {place for _, place in places} == {"head.first (Head)", "head.second (Head)"}
    assert "head.py:4" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_target_is_not_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    convert(small(), target)
    first = target.read_bytes()
    with pytest.raises(TargetExistsError):
        convert(small(), target)
    assert target.read_bytes() == first
    convert(small(), target, force=True)


def test_source_and_target_differ(tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    convert(small(), target)
    with pytest.raises(UsageError, match="same file"):
        convert(target, target, force=True)


def test_native_layout_is_recorded(tmp_path: Path) -> None:
    done = convert(small(), tmp_path / "small.keras", layout="native")
    assert done.transposes == 0
    assert done.notes == ["input x is channels_last: source axes [0, 2, 3, 1]"]
    assert done.as_dict()["inputs"]["x"]["shape"] == ["N", 8, 8, 3]
