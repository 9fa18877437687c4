"""`--train`: a conversion that trains as its source does, and faults that only training shows."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.convert import convert
from isomorph.errors import UsageError
from isomorph.validators import ModelFile, Verdict, validate
from isomorph.validators.report import Report
from isomorph.validators.training.exercise import Trained, Weight
from isomorph.validators.training.statistics import explain_statistics
from isomorph.validators.training.weights import pair_weights

torch: Any = pytest.importorskip("torch")
pytestmark = [pytest.mark.requires("torch"), pytest.mark.requires("keras")]


class _Layers(torch.nn.Module):  # type: ignore[misc]
    """A layer used twice, a frozen one, and one that scales (a normalization without statistics)."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = torch.nn.Linear(6, 6)
        self.frozen = torch.nn.Linear(6, 6).requires_grad_(False)
        self.norm = torch.nn.LayerNorm(6)
        self.head = torch.nn.Linear(6, 4)

    def forward(self, x: Any) -> Any:
        x = torch.tanh(self.twice(x))
        return self.head(self.norm(torch.tanh(self.twice(self.frozen(x)))))


class _Images(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(5)
        self.head = torch.nn.Linear(5, 4)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class _Detached(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = torch.nn.Linear(6, 6), torch.nn.Linear(6, 4)

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.first(x))
        return self.head(h.detach() + 0.5 * x * h)


class _Recurrent(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 6, batch_first=True, bias=bias)
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


def _converted(module: Any, example: Any, folder: Path) -> tuple[ModelFile, ModelFile]:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=dynamic), folder / "m.pt2")
    convert(folder / "m.pt2", folder / "m.keras")
    return ModelFile(folder / "m.pt2", "pt2"), ModelFile(folder / "m.keras", "keras")


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, ModelFile]:
    torch.manual_seed(0)
    return _converted(_Layers(), torch.randn(4, 6), tmp_path_factory.mktemp("layers"))


def _changed(target: ModelFile, folder: Path, change: Callable[[list[Any]], None]) -> ModelFile:
    """The `.keras` file with another configuration of its layers."""
    path = folder / "changed.keras"
    with zipfile.ZipFile(target.path) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"]["layers"])
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return ModelFile(path, "keras")


def _layer(entries: list[Any], name: str) -> dict[str, Any]:
    return next(entry["config"] for entry in entries if entry["name"] == name)


def _training(report: Report) -> Any:
    assert report.training is not None
    return report.training


def test_shared_and_frozen_layers_train_alike(layers: tuple[ModelFile, ModelFile]) -> None:
    report = validate(*layers, train=3)
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
    training = _training(report)
    assert {entry["how"] for entry in training.weights} == {"recorded"}
    assert len(training.weights) == 8
    frozen = next(q for q in training.quantities if q.source == "frozen.weight")
    assert (frozen.what, frozen.verdict) == ("change", Verdict.EQUIVALENT)
    assert json.loads(json.dumps(report.as_dict()))["training"]["verdict"] == "EQUIVALENT"


@pytest.mark.parametrize(("name", "trainable"), [("twice", False), ("frozen", True)])
def test_frozen_on_one_side(layers: tuple[ModelFile, ModelFile], tmp_path: Path, name: str, trainable: bool) -> None:
    fault = _changed(layers[1], tmp_path, lambda entries: _layer(entries, name).update(trainable=trainable))
    report = validate(layers[0], fault, train=2)
    assert all(output.verdict is Verdict.EQUIVALENT for output in report.outputs)
    assert report.verdict is Verdict.DIFFERENT
    assert f"`{name}.weight` is {'frozen' if trainable else 'trainable'} in the source" in " ".join(report.reasons)


def test_the_two_biases_of_a_recurrent_layer(tmp_path: Path) -> None:
    torch.manual_seed(3)
    report = validate(*_converted(_Recurrent(bias=True), torch.randn(2, 5, 4), tmp_path), train=2)
    assert report.verdict is Verdict.DIFFERENT
    assert "is the sum of `lstm.bias_ih_l0`, `lstm.bias_hh_l0`" in " ".join(report.reasons)


@pytest.mark.slow
def test_a_branch_without_gradient(tmp_path: Path) -> None:
    report = validate(*_converted(_Detached(), torch.randn(4, 6), tmp_path), train=1)
    assert all(output.verdict is Verdict.EQUIVALENT for output in report.outputs)
    wrong = [q for q in _training(report).quantities if q.verdict is Verdict.DIFFERENT]
    assert {q.source for q in wrong} == {"first.weight", "first.bias"}


def test_batch_normalization_differs_in_its_variance_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = _Images()
    module.norm.running_var.uniform_(0.2, 2.0)
    source, target = _converted(module, torch.randn(4, 3, 6, 7), tmp_path)
    training = _training(validate(source, target, train=3))
    wrong = [q for q in training.quantities if q.verdict is not Verdict.EQUIVALENT]
    assert {q.source for q in wrong} == {"norm.running_var"}
    assert any("the biased variance of n = 84 values" in q.explanation for q in wrong), training.reasons

    def forget(entries: list[Any]) -> None:
        _layer(entries, "norm")["momentum"] = 0.99

    report = validate(source, _changed(target, tmp_path, forget), train=3)
    assert report.verdict is Verdict.DIFFERENT
    mean = next(q for q in _training(report).quantities if q.source == "norm.running_mean")
    assert mean.explanation == "the target's moves 0.1096 times as far: another momentum"


def test_what_cannot_train_is_said_before_anything_runs(tmp_path: Path) -> None:
    onnx = ModelFile(tmp_path / "absent.onnx", "onnx")
    with pytest.raises(UsageError, match=r"onnxruntime cannot train .*absent.onnx"):
        validate(onnx, onnx, train=1)


def test_conventions_of_running_statistics() -> None:
    rng = np.random.default_rng(0)
    start, batch = rng.uniform(0.5, 2, 8), rng.uniform(0.5, 2, 8)
    source = 0.271 * (batch * 32 / 31 - start)
    assert "n = 32" in explain_statistics(start, source, 0.271 * (batch - start))
    assert "0.1096 times" in explain_statistics(start, source, source * 0.1096)
    assert "not update" in explain_statistics(start, source, source * 0)
    assert explain_statistics(start, source, rng.standard_normal(8)) == ""


def _side(**arrays: np.ndarray) -> Trained:
    return Trained(tuple(Weight((name,), True) for name in arrays), np.zeros(1), arrays)


def test_weights_are_paired_by_what_they_hold() -> None:
    rng = np.random.default_rng(0)
    kernel, gates = rng.standard_normal((5, 4, 3, 3)), rng.standard_normal((12, 4))
    mixed = gates.reshape(3, 4, 4)[[1, 0, 2]].reshape(12, 4).T
    source = _side(a=kernel, b=gates, c=np.zeros(7))
    target = _side(x=kernel.transpose(2, 3, 1, 0), y=mixed, z=np.ones(7))
    pairing = pair_weights(source, target, {})
    assert [(pair.source.name, pair.target.name) for pair in pairing.pairs] == [("a", "x"), ("b", "y")]
    for pair in pairing.pairs:
        there = target.initial[pair.target.name]
        np.testing.assert_array_equal(pair.to_source(there), source.initial[pair.source.name])
    assert [weight.name for weight in (*pairing.only_source, *pairing.only_target)] == ["c", "z"]
