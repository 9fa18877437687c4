"""What torch.export fixes of symbolic sizes is said: in the model, in the notes of a conversion, and to the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isomorph.ir import DimRange, DType, Sym, TensorType
from isomorph.ir.conditions import CONDITIONS, conditions_of

pytestmark = pytest.mark.requires("torch")

N, S = Sym("N"), Sym("S")
INPUTS = [("x", TensorType(DType.FLOAT32, (N, S))), ("cache_0", TensorType(DType.FLOAT32, (N, S + 1)))]
DIMS = {"N": DimRange(1, 16), "S": DimRange(2, 64)}


@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        ("L['x'].size()[1] == 12", ["S == 12"]),
        ("L['x'].size()[1] >= 2", []),
        ("L['x'].size()[1] + 1 == L['cache'][0].size()[1]", []),
        ("L['cache'][0].shape[1] <= 20", ["(S + 1) <= 20"]),
        ("math.trunc((1 / L['x'].size()[0])*torch.sym_float(L['x'].size()[1])) == 3", ["trunc((1 / N)*float(S)) == 3"]),
        ("L['flag'] == True", ["L['flag'] == True"]),
        ("L['other'].size()[0] == 1", ["L['other'].size()[0] == 1"]),
    ],
)
def test_guards(guard: str, expected: list[str]) -> None:
    from isomorph.converters.torch.guards import assumptions

    assert assumptions([guard], INPUTS, DIMS) == expected


@pytest.fixture
def branching() -> tuple[Any, Any, Any]:
    """A module that computes something else for long inputs, an input, and its sizes."""
    import torch

    class Branching(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.shape[0] * x.shape[1] < 100 else x * 3

    sizes = {"x": {0: torch.export.Dim("N", min=1, max=16), 1: torch.export.Dim("S", min=2, max=64)}}
    return Branching().eval(), torch.randn(3, 5), sizes


def test_model_states_what_its_source_assumed(branching: tuple[Any, Any, Any], tmp_path: Path) -> None:
    import torch

    from isomorph.converters.convert import convert, load
    from isomorph.converters.torch.capture import capture

    module, x, sizes = branching
    exported = torch.export.export(module, (x,), dynamic_shapes=sizes)
    torch.export.save(exported, tmp_path / "model.pt2")
    for model in (capture(module, (x,), dynamic_shapes=sizes), capture(exported), load(tmp_path / "model.pt2")):
        (stated,) = conditions_of(model.metadata)
        assert stated.endswith("*N < 100") or stated.startswith("N*")
    done = convert(tmp_path / "model.pt2", tmp_path / "model.onnx")
    (stated,) = conditions_of(done.model.metadata)
    assert any(f"it is right only where {stated}" in note for note in done.notes)
    assert conditions_of(load(tmp_path / "model.onnx").metadata) == [stated]


def test_judge_keeps_to_what_the_source_assumed(branching: tuple[Any, Any, Any], tmp_path: Path) -> None:
    import torch

    import isomorph

    module, x, sizes = branching
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=sizes), tmp_path / "model.pt2")
    isomorph.convert(tmp_path / "model.pt2", tmp_path / "model.onnx")
    report = isomorph.validate(tmp_path / "model.pt2", tmp_path / "model.onnx")
    assert report.verdict.value == "EQUIVALENT"
    for case in report.cases:
        found = dict(part.split("=") for part in case.split() if "=" in part)
        first, second = map(int, found.values())
        assert first * second < 100


def test_a_model_without_assumptions_states_none() -> None:
    import torch

    from isomorph.converters.torch.capture import capture

    sizes = {"input": {0: torch.export.Dim("N")}}
    model = capture(torch.nn.Linear(4, 3).eval(), (torch.randn(2, 4),), dynamic_shapes=sizes)
    assert CONDITIONS not in model.metadata
