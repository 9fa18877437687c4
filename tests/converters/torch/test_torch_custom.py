"""Rules of the user's own: operators of torch.library, whole module classes, entry points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isomorph.converters.torch import custom
from isomorph.converters.torch.custom import ModuleCall, torch_module, torch_op
from isomorph.converters.torch.importer import FAMILIES
from isomorph.converters.torch.rules import rules
from isomorph.errors import UnsupportedError
from isomorph.ir import DType, ops

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def own_rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    assert FAMILIES
    monkeypatch.setattr(rules, "_imports", dict(rules._imports))
    monkeypatch.setattr(custom, "_MODULES", {})
    yield


@pytest.fixture(scope="module")
def scaled_relu() -> Any:
    @torch.library.custom_op("isomorph_tests::scaled_relu", mutates_args=())  # type: ignore[untyped-decorator, unused-ignore]
    def operator(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:  # type: ignore[name-defined, unused-ignore]
        return x.clamp(min=0) * scale

    operator.register_fake(lambda x, scale=1.0: torch.empty_like(x))
    return operator


def test_an_operator_has_no_rule_until_it_is_given_one(
    convert: Callable[..., Any], apply: Callable[..., Any], scaled_relu: Any
) -> None:
    module = apply(lambda x: scaled_relu(x, 2.5) + 1)
    with pytest.raises(UnsupportedError, match=r"isomorph_tests\.scaled_relu\.default.*no rule"):
        convert(module, torch.randn(3, 4))

    @torch_op("isomorph_tests::scaled_relu")
    def rule(b: Any, x: Any, scale: float = 1.0) -> Any:
        return b.emit(ops.Mul(), b.emit(ops.Relu(), x), b.number(scale, x.dtype))

    model = convert(module, torch.randn(3, 4))
    assert [node.op.name for node in model.graph.nodes] == ["Relu", "Mul", "Add"]


@pytest.mark.parametrize("name", ["scaled_relu", "::x", "mylib::"])
def test_names_of_operators(name: str) -> None:
    with pytest.raises(ValueError, match="is no operator"):
        torch_op(name)


def test_two_rules_for_one_operator() -> None:
    with pytest.raises(ValueError, match="two import rules"):
        torch_op("aten::relu")(lambda b, self: self)


class RootMeanSquare(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(size))

    def forward(self, x: Any) -> Any:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Net(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList([RootMeanSquare(8), RootMeanSquare(8)])
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        x = self.norms[0](x)
        return self.head(self.norms[0](self.norms[1](x)) + x)


def test_a_module_class_becomes_one_node_a_call(convert: Callable[..., Any]) -> None:
    calls = []

    @torch_module(RootMeanSquare)
    def rule(b: Any, call: ModuleCall) -> Any:
        calls.append(call)
        (x,) = call.inputs
        return b.emit(ops.RMSNormalization(axis=x.rank - 1, epsilon=1e-6), x, call.parameters["weight"])

    model = convert(Net(), torch.randn(3, 4, 8), dynamic_shapes=({0: torch.export.Dim("N")},))
    assert [node.op.name for node in model.graph.nodes] == ["RMSNormalization"] * 3 + ["Add", "Linear"]
    assert [(call.path, call.outputs[0] and call.outputs[0].dtype) for call in calls[:3]] == [
        ("norms.0", DType.FLOAT32), ("norms.1", DType.FLOAT32), ("norms.0", DType.FLOAT32),
    ]  # fmt: skip
    scopes = [node.scope.entries[-1] for node in model.graph.nodes[:3]]
    assert [(entry.path, entry.call) for entry in scopes] == [("norms.0", 0), ("norms.1", 0), ("norms.0", 1)]
    assert list(model.parameters()) == ["norms.0.weight", "norms.1.weight", "head.weight", "head.bias"]


def test_a_rule_of_a_module_must_give_all_outputs(convert: Callable[..., Any]) -> None:
    torch_module(RootMeanSquare)(lambda b, call: [*call.inputs, *call.inputs])
    with pytest.raises(UnsupportedError, match="its rule gives 2 values"):
        convert(Net(), torch.randn(3, 4, 8))


class InPlace(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def forward(self, x: Any) -> Any:
        return x[0].add_(1)


def test_a_module_that_changes_its_input_is_refused(convert: Callable[..., Any]) -> None:
    class Outer(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.inner = InPlace()

        def forward(self, x: Any) -> Any:
            y = x * 2
            return self.inner(y) + y

    torch_module(InPlace)(lambda b, call: call.inputs[0])
    with pytest.raises(UnsupportedError, match="it changes mul in place"):
        convert(Outer(), torch.randn(3, 4))


def test_installed_libraries_bring_rules(tmp_path: Path, scaled_relu: Any, apply: Callable[..., Any]) -> None:
    exported = torch.export.export(apply(lambda x: scaled_relu(x, 2.0)).eval(), (torch.randn(2, 3),))
    torch.export.save(exported, tmp_path / "model.pt2")
    package = tmp_path / "mylib-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mylib\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[isomorph.torch]\nmylib = mylib_rules\n")
    (tmp_path / "mylib_rules.py").write_text(
        "from isomorph.converters.torch.custom import torch_op\n"
        "from isomorph.ir import ops\n"
        "torch_op('isomorph_tests::scaled_relu')(lambda b, x, scale=1.0: b.emit(ops.Relu(), x))\n"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from isomorph.converters.torch.reader import read\n"
        "print([node.op.name for node in read(Path(sys.argv[1]) / 'model.pt2').graph.nodes], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "['Relu'] False", done.stderr
