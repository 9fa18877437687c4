"""torch.cond, while_loop, scan and map: from the file and from the live program, evaluated and run in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan as torch_scan

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader as onnx_reader
from isomorph.converters.onnx import writer
from isomorph.converters.torch.capture import capture
from isomorph.ir import Model
from isomorph.ir.evaluate import evaluate
from isomorph.ir.text import parse_model, print_model

pytestmark = pytest.mark.filterwarnings("ignore")


class Branches(nn.Module):
    """`shared` is read in both branches and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.own = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        y = self.shared(x)

        def then(x: Any, y: Any) -> Any:
            return self.shared(y).sin(), x.shape[0] * x

        def other(x: Any, y: Any) -> Any:
            return self.own(self.shared(x)) + y, x + 1

        return torch.cond(x.sum() > 0, then, other, (x, y))


class Nested(nn.Module):
    def forward(self, x: Any) -> Any:
        def body(count: Any, x: Any) -> Any:
            x = torch.cond(x.mean() > 1, lambda x: x / 3, lambda x: x * 2 + 1, (x,))
            return count + 1, x

        return torch.while_loop(lambda count, x: count < 6, body, (torch.tensor(0), x))


class Newton(nn.Module):
    """Stops by data; the operand is read in condition and body."""

    def forward(self, a: Any) -> Any:
        def going(x: Any) -> Any:
            return (x * x - a).abs().max() > 1e-3

        return torch.while_loop(going, lambda x: ((x + a / x) / 2,), (a.clone(),))


class Counts(nn.Module):
    """A loop over a Python integer."""

    def forward(self, x: Any) -> Any:
        return torch.while_loop(lambda i, x: i < x.shape[0], lambda i, x: (i + 2, x * 2), (0, x))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        def step(state: Any, item: Any) -> Any:
            state = torch.tanh(self.cell(torch.cat([state, item], -1)))
            return state, state * 2

        return torch_scan(step, x.new_zeros(4), x, reverse=True)


class Mapped(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        return (torch_map(lambda item, y: item.sin() + y, x, y),)


def _run(model: Model, path: Path, feeds: dict[str, Any]) -> Sequence[Any]:
    writer.write(prepare(model, writer.target()), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def _judge(model: Model, module: nn.Module, path: Path, inputs: Sequence[tuple[Any, ...]]) -> None:
    assert print_model(parse_model(print_model(model))) == print_model(model)
    for given in inputs:
        with torch.no_grad():
            wanted = [np.asarray(each) for each in module(*given)]
        feeds = {name: each.numpy() for name, each in zip(model.inputs, given, strict=True)}
        again = evaluate(onnx_reader.read(path), feeds) if path.exists() else {}
        for found in (list(evaluate(model, feeds).values()), _run(model, path, feeds), list(again.values()) or wanted):
            assert len(found) == len(wanted)
            for a, b in zip(found, wanted, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


x34, y4 = torch.linspace(-1, 2, 12).reshape(3, 4), torch.arange(4.0)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "cond": (Branches, (x34,)),
    "nested": (Nested, (x34,)),
    "newton": (Newton, (x34 + 2,)),
    "scan": (Recurrence, (x34,)),
    "map": (Mapped, (x34, y4)),
}


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("case", CASES)
def test_control_flow(case: str, symbolic: bool, convert: Callable[..., Model], tmp_path: Path) -> None:
    make, inputs = CASES[case]
    shapes = None
    others = [tuple(each * 0.5 + 1 for each in inputs)]
    if symbolic:
        shapes = ({0: torch.export.Dim("rows", min=2, max=64)}, *(None for _ in inputs[1:]))
        others.append((torch.cat([inputs[0]] * 3), *inputs[1:]))
    torch.manual_seed(0)
    module = make().eval()
    model = convert(module, *inputs, dynamic_shapes=shapes, others=others)
    assert any(node.regions for node in model.graph.nodes)
    _judge(model, module, tmp_path / "model.onnx", [inputs, *others])


def test_a_loop_over_an_integer(tmp_path: Path) -> None:
    module = Counts().eval()
    rows = torch.export.Dim("rows", min=2, max=64)
    exported = torch.export.export(module, (x34,), dynamic_shapes=({0: rows},))
    model = capture(exported)
    _judge(model, module, tmp_path / "model.onnx", [(x34,), (torch.cat([x34, x34]),)])


def test_a_weight_in_two_branches_is_one() -> None:
    model = capture(torch.export.export(Branches().eval(), (x34,)))
    assert sorted(name for name in model.parameters() if name.startswith(("shared", "own"))) == [
        "own.bias",
        "own.weight",
        "shared.bias",
        "shared.weight",
    ]
    listed = [value.parameter for graph in model.graph.graphs() for value in graph.parameters]
    named = {each.name: each for each in listed if each is not None}
    assert sum(each is named["shared.weight"] for each in listed) == 3
    (node,) = (each for each in model.graph.nodes if each.regions)
    assert [value.shape for value in node.operands()] == [(), (3, 4), (3, 4)]


def test_results_of_different_sizes(tmp_path: Path) -> None:
    class Cut(nn.Module):
        def forward(self, x: Any) -> Any:
            return (torch.cond(x.sum() > 0, lambda x: x[:2] * 1, lambda x: x[:3] * 2, (x,)),)

    try:
        exported = torch.export.export(Cut().eval(), (x34,))
    except Exception as error:  # earlier versions of torch refuse this
        pytest.skip(str(error).splitlines()[0])
    model = capture(exported)
    _judge(model, Cut(), tmp_path / "model.onnx", [(x34,), (-x34,)])
