"""Pieces of exported programs: what each node makes of given operands is what it makes inside the program."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.convert import convert
from isomorph.validators import ModelFile, Verdict, validate

pytestmark = pytest.mark.requires("torch")


@pytest.fixture(scope="module")
def program() -> Any:
    torch: Any = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 6, batch_first=True)
            self.body = torch.nn.Linear(6, 7)
            self.head = torch.nn.Linear(7, 3)

        def forward(self, x: Any) -> Any:
            y, _ = self.lstm(x)
            low, high = torch.split(torch.tanh(self.body(y)), [3, 4], -1)
            return self.head(torch.cat([high, low], -1).clone().mul_(2))

    torch.manual_seed(0)
    return torch.export.export(Net().eval(), (torch.randn(2, 4, 5),))


def test_each_node_by_itself(program: Any) -> None:
    from isomorph.validators.runners.torch_program import ProgramRunner

    runner = ProgramRunner(program)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((2, 4, 5)).astype(np.float32)}
    given = {"lstm": "x", "linear": "lstm", "tanh": "linear", "cat": "tanh", "linear_1": "mul_"}
    values = {**inputs, **runner.run(inputs, taps=[*given, "mul_"]).taps}
    assert set(values) == {*given, *inputs, "mul_"}  # an LSTM's sequence is its value: its states are not used
    for wanted, fed in given.items():
        got = runner.run_piece({**inputs, fed: values[fed]}, [wanted])[wanted]
        np.testing.assert_allclose(got, values[wanted], rtol=1e-5, atol=1e-6, err_msg=wanted)
    with pytest.raises(NotImplementedError, match="writes into a tensor"):
        runner.run_piece({"cat": values["cat"]}, ["linear_1"])
    with pytest.raises(NotImplementedError, match="input `x`, which is not fed"):
        runner.run_piece({}, ["lstm"])
    with pytest.raises(NotImplementedError, match="not known"):
        runner.run_piece(inputs, ["nothing"])


@pytest.mark.requires("onnxscript")
def test_every_culprit_in_a_program_and_in_what_torch_exports(program: Any, tmp_path: Path) -> None:
    """An ONNX file of torch.onnx has the program's names; files and lines are the source's."""
    import torch

    source = ModelFile(tmp_path / "source.pt2", "pt2")
    torch.export.save(program, source.path)
    wrong = copy.deepcopy(program)
    with torch.no_grad():
        wrong.state_dict["lstm.weight_ih_l0"].neg_()
        wrong.state_dict["head.weight"].copy_(wrong.state_dict["head.weight"].roll(1, 0))
    torch.export.save(wrong, tmp_path / "wrong.pt2")
    torch.onnx.export(wrong, dynamo=True, verbose=False, optimize=False).save(str(tmp_path / "wrong.onnx"))
    for target in (ModelFile(tmp_path / "wrong.pt2", "pt2"), ModelFile(tmp_path / "wrong.onnx", "onnx")):
        report = validate(source, target)
        assert report.verdict is Verdict.DIFFERENT
        assert report.culprit is not None
        culprits = [report.culprit, *report.culprit.others]
        assert culprits[-1].path == "head", culprits
        assert [Path(each.file).name for each in culprits] == [Path(__file__).name] * len(culprits)
        assert report.culprit.line < culprits[-1].line
        if target.format == "pt2":
            assert [each.path for each in culprits] == ["lstm", "head"]


@pytest.mark.requires("keras")
def test_a_recurrent_layer_is_named(program: Any, tmp_path: Path) -> None:
    """The value of an op with several results is the first, where the others are not used."""
    import torch

    source = ModelFile(tmp_path / "source.pt2", "pt2")
    torch.export.save(program, source.path)
    wrong = copy.deepcopy(program)
    with torch.no_grad():
        wrong.state_dict["lstm.weight_hh_l0"].neg_()
    torch.export.save(wrong, tmp_path / "wrong.pt2")
    convert(tmp_path / "wrong.pt2", tmp_path / "wrong.keras")
    report = validate(source, ModelFile(tmp_path / "wrong.keras", "keras"), reduce=tmp_path / "reduced.keras")
    assert report.verdict is Verdict.DIFFERENT
    assert report.culprit is not None
    assert (report.culprit.op, report.culprit.path, report.culprit.others) == ("LSTM", "lstm", ())
    assert (tmp_path / "reduced.keras").exists(), report.notes
    expected = dict(np.load(tmp_path / "reduced.keras.expected.npz"))
    assert [array.shape[1:] for array in expected.values()] == [(4, 6)]
