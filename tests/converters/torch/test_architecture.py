"""`--arch`: checkpoints joined with the user's own architecture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.torch.architecture import Architecture, join
from isomorph.errors import UsageError, WeightsError

pytestmark = pytest.mark.requires("torch")

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=4, *, tied=False):
        super().__init__()
        self.first = torch.nn.Linear(3, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.last = torch.nn.Linear(width, width, bias=False)
        if tied:
            self.again = torch.nn.Linear(width, width, bias=False)
            self.again.weight = self.last.weight
        self.register_buffer("table", torch.arange(3.0), persistent=False)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x * self.table))))

def with_arguments(width=4):
    return Net(width), (torch.zeros(2, 3),)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "nets_of_arch.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("nets_of_arch", None)
    import importlib

    return importlib.import_module("nets_of_arch")


def test_parsing() -> None:
    parsed = Architecture.parse("a.b:make(3, 'x', [1, 2], width=-4, deep=True)")
    assert (parsed.reference, parsed.args) == ("a.b:make", (3, "x", [1, 2]))
    assert dict(parsed.kwargs) == {"width": -4, "deep": True}
    assert Architecture.parse("a:B.c").args == Architecture.parse("a:B.c()").args == ()


@pytest.mark.parametrize(
    "text",
    [
        "a", "a:", ":b", "a b:c", "a:b(", "a:b)", "a:b(c)", "a:b(__import__('os'))", "a:b(open('x'))", "a:b(*[1])",
        "a:b(**{})", "a:b(1)(2)", "a:b(1) + 1", "a:b(1); c", "a:b(lambda: 1)", "a:b[0]", "a:b(x := 1)", "a:b(f'{1}')",
        "a:b(" + "(" * 3000, "a:b('" + "x" * 5000 + "')",
    ],
)  # fmt: skip
def test_only_literals_are_arguments(text: str) -> None:
    with pytest.raises(UsageError, match="--arch"):
        Architecture.parse(text)


def test_weights_are_found_below_prefixes(nets: Any, tmp_path: Path) -> None:
    import torch

    model = nets.Net(5).eval()
    model.norm.running_mean.uniform_()
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": wrapped, "optimizer": {"lr": 0.1}}, tmp_path / "model.pth")
    joined = join(Architecture.parse("nets_of_arch:Net(5)"), tmp_path / "model.pth")
    assert joined.note == "8 tensors of model.pth, below `state_dict.module`"
    x = torch.randn(2, 3)
    assert torch.equal(joined.module(x), model(x))
    assert not joined.module.training


@pytest.mark.parametrize("zipped", [True, False])
def test_element_types_and_versions(zipped: bool, nets: Any, tmp_path: Path) -> None:
    import torch

    model = nets.Net().to(torch.bfloat16).eval()
    torch.save(model.state_dict(), tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    joined = join(Architecture.parse("nets_of_arch:Net"), tmp_path / "model.pth")
    assert joined.note == "8 tensors of model.pth, 7 from bfloat16 to float32"
    for name, value in joined.module.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].to(value.dtype)), name
    state = model.state_dict()
    del state["norm.num_batches_tracked"]  # as before version 2 of BatchNorm
    state._metadata["norm"]["version"] = 1
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=zipped)
    join(Architecture.parse("nets_of_arch:Net"), tmp_path / "old.pth")
    state._metadata["norm"]["version"] = 2
    torch.save(state, tmp_path / "lacking.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError) as caught:
        join(Architecture.parse("nets_of_arch:Net"), tmp_path / "lacking.pth")
    assert caught.value.missing == ("norm.num_batches_tracked",)


def test_tied_weights_may_be_stored_once(nets: Any, tmp_path: Path) -> None:
    import torch

    state = nets.Net(tied=True).state_dict()
    del state["again.weight"]
    torch.save(state, tmp_path / "model.pth")
    joined = join(Architecture.parse("nets_of_arch:Net(tied=True)"), tmp_path / "model.pth")
    assert joined.note.endswith("1 tied to others")
    assert torch.equal(joined.module.again.weight, state["last.weight"])


def test_everything_that_does_not_fit_is_listed(nets: Any, tmp_path: Path) -> None:
    import torch

    state = nets.Net().state_dict()
    state["extra"] = state.pop("last.weight")
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match="not those of") as caught:
        join(Architecture.parse("nets_of_arch:Net"), tmp_path / "model.pth")
    assert caught.value.missing == ("last.weight",)
    assert caught.value.unexpected == ("model.extra",)
    assert caught.value.as_dict()["missing"] == ["last.weight"]
    with pytest.raises(WeightsError, match="do not fit") as caught:
        join(Architecture.parse("nets_of_arch:Net(width=6)"), tmp_path / "model.pth")
    assert "first.weight [4, 3] in the file, [6, 3] in the module" in caught.value.mismatched


def test_what_the_users_code_does_wrong_is_the_users(nets: Any, tmp_path: Path) -> None:
    import torch

    torch.save(nets.Net().state_dict(), tmp_path / "model.pth")
    for text, message in (
        ("nets_of_arch:Net(depth=3)", "unexpected keyword"),
        ("nets_of_arch:Nope", "has no 'Nope'"),
        ("nets_of_arch_missing:Net", "no Python module"),
        ("os:getcwd", "not a torch.nn.Module"),
    ):
        with pytest.raises(UsageError, match=message):
            join(Architecture.parse(text), tmp_path / "model.pth")


@pytest.mark.requires("onnxruntime")
def test_from_checkpoint_to_onnx(nets: Any, tmp_path: Path) -> None:
    import onnxruntime
    import torch

    import isomorph

    model = nets.Net(5).eval()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    target = tmp_path / "model.onnx"
    done = isomorph.convert(tmp_path / "model.pth", target, arch="nets_of_arch:Net(5)", inputs={"x": ("N", 3)})
    assert {name: str(kind) for name, kind in done.model.inputs.items()} == {"x": "float32[N, 3]"}
    x = torch.randn(7, 3)
    (found,) = onnxruntime.InferenceSession(str(target)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="holds weights"):
        isomorph.load(tmp_path / "model.pth")
    with pytest.raises(UsageError, match="--arch is for checkpoints"):
        isomorph.load(target, arch="nets_of_arch:Net(5)")


@pytest.mark.requires("onnxruntime")
def test_on_the_command_line(nets: Any, tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": nets.Net(5).state_dict(), "epoch": 3}, tmp_path / "model.pth")
    command = [sys.executable, "-P", "-m", "isomorph"]
    options = ["--arch", "nets_of_arch:with_arguments(width=5)", "--validate"]
    done = subprocess.run(
        [*command, "convert", "model.pth", "model.onnx", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "calling your code: nets_of_arch:with_arguments(width=5)" in done.stderr
    assert "8 tensors of model.pth, below `state_dict`" in done.stdout
    assert "EQUIVALENT" in done.stdout
    done = subprocess.run(
        [*command, "inspect", "model.pth", "--json"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    shown = json.loads(done.stdout)
    assert shown["others"] == {"epoch": "3"}
    assert shown["tensors"][0] == {
        "name": "state_dict.first.weight",
        "dtype": "float32",
        "shape": [5, 3],
        "bytes": 60,
    }
