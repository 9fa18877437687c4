"""Random numbers in PyTorch models: kept as random, never merged, distributed as eager's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.ir import Model
from isomorph.ir.evaluate import evaluate

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

COUNT = 20_000


def imported(module: Any, *inputs: Any, dynamic_shapes: Any = None) -> Model:
    from isomorph.converters.torch.capture import capture

    return capture(torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes))


def draws(model: Model, *inputs: Any) -> list[np.ndarray]:
    return list(evaluate(model, dict(zip(model.inputs, (x.numpy() for x in inputs), strict=True))).values())


def moments(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64).ravel()
    return np.asarray([wide.mean(), wide.std(), np.quantile(wide, 0.13), np.quantile(wide, 0.87), (wide**3).mean()])


X = torch.full((COUNT,), 0.3)

FUNCTIONS = {
    "rand": lambda x: torch.rand(COUNT) + 0 * x,
    "randn": lambda x: torch.randn(COUNT) * x,
    "rand_like": torch.rand_like,
    "randn_like": lambda x: torch.randn_like(x) + x,
    "randint": lambda x: torch.randint(-3, 17, (COUNT,)) + 0 * x,
    "randint_like": lambda x: torch.randint_like(x, 9),
    "bernoulli": torch.bernoulli,
    "bernoulli_p": lambda x: torch.bernoulli(x, 0.7),
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.2),
    "normal": lambda x: torch.normal(x, 2.0),
    "normal_of_both": lambda x: torch.normal(x * 3, x),
    "normal_": lambda x: torch.zeros_like(x).normal_(1, 3),
    "uniform_": lambda x: torch.zeros_like(x).uniform_(-2, 3),
    "exponential_": lambda x: torch.zeros_like(x).exponential_(2.0),
    "log_normal_": lambda x: torch.zeros_like(x).log_normal_(0.1, 0.2),
    "dropout": lambda x: F.dropout(x, 0.3, training=True),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.3, training=True),
    "feature_dropout": lambda x: F.dropout1d(x.reshape(1, -1, 1), 0.4, training=True),
    "multinomial": lambda x: torch.multinomial(x[:5] * torch.arange(5), COUNT, replacement=True).float(),
    "gumbel": lambda x: F.gumbel_softmax(x.reshape(-1, 2) * torch.tensor([1.0, 4.0]), hard=True)[:, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_distribution(name: str, apply: Any) -> None:
    torch.manual_seed(0)
    module = apply(FUNCTIONS[name])
    model = imported(module, X)
    (found,), (again,) = draws(model, X), draws(model, X)
    assert not np.array_equal(found, again)
    wanted = module(X).numpy()
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    spread = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(moments(found), moments(wanted), rtol=0.05, atol=0.05 * spread)


def test_permutation_and_choice_without_replacement(apply: Any) -> None:
    def function(x: Any) -> Any:
        return torch.randperm(50), torch.multinomial(x, 4), x[torch.randperm(x.shape[0])]

    x = torch.arange(6.0)
    order, chosen, mixed = draws(imported(apply(function), x), x)
    assert sorted(order) == list(range(50))
    assert len(set(chosen)) == 4
    assert 0 not in chosen
    assert sorted(mixed) == list(range(6))


def test_two_draws_are_two_nodes_and_an_unused_one_is_none(apply: Any, tmp_path: Path) -> None:
    from isomorph.converters.convert import prepare
    from isomorph.converters.onnx import writer

    def function(x: Any) -> Any:
        torch.rand(4)
        return torch.rand(4), torch.rand(4) + x, torch.bernoulli(torch.full((4,), 0.5))

    model = prepare(imported(apply(function), torch.zeros(4)), writer.target(21))
    assert [node.op.name for node in model.graph.nodes].count("RandomUniform") == 3


@pytest.mark.parametrize("symbolic", [False, True])
def test_draws_in_onnxruntime(symbolic: bool, apply: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from isomorph.converters.convert import convert as to_file

    def function(x: Any) -> Any:
        chances = torch.rand_like(x)
        half = torch.randn_like(x, dtype=torch.float16)
        return chances, torch.randn_like(x), half, torch.bernoulli(x), F.dropout(x, 0.25, training=True)

    x = torch.full((40, 50), 0.3)
    dims = (({0: torch.export.Dim("n")},),) if symbolic else None
    torch.export.save(torch.export.export(apply(function), (x,), dynamic_shapes=dims), tmp_path / "m.pt2")
    to_file(tmp_path / "m.pt2", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    given = torch.full((80, 50), 0.3) if symbolic else x
    found = session.run(None, {session.get_inputs()[0].name: given.numpy()})
    for got, mean, spread in zip(found, (0.5, 0, 0, 0.3, 0.3), (0.289, 1, 1, 0.458, 0.173), strict=True):
        assert got.shape == given.shape
        assert abs(got.astype(np.float64).mean() - mean) < 0.08
        assert abs(got.astype(np.float64).std() - spread) < 0.08


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.layer(x))
        return y, y + torch.randn_like(y)


def test_random_outputs_are_judged_by_their_distribution(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from isomorph.converters.convert import convert as to_file
    from isomorph.validators.runner import ModelFile
    from isomorph.validators.trial import validate
    from isomorph.validators.verdict import Verdict

    torch.manual_seed(0)
    torch.export.save(torch.export.export(Noisy().eval(), (torch.randn(3, 6),)), tmp_path / "m.pt2")
    to_file(tmp_path / "m.pt2", tmp_path / "m.onnx")
    report = validate(ModelFile(tmp_path / "m.pt2", "pt2"), ModelFile(tmp_path / "m.onnx", "onnx"))
    assert [output.verdict for output in report.outputs] == [Verdict.EQUIVALENT, Verdict.EQUIVALENT]
    assert "`output_1` is drawn at random" in " ".join(report.notes)
