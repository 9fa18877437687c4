"""What a model changes in place: its buffers and its arguments become inputs and outputs, exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader as onnx_reader
from isomorph.converters.onnx import writer
from isomorph.converters.torch.capture import capture
from isomorph.converters.torch.reader import read
from isomorph.errors import UnsupportedError
from isomorph.ir import Model, State
from isomorph.ir.evaluate import evaluate

pytestmark = pytest.mark.filterwarnings("ignore")


class Cache(nn.Module):
    """Writes rows at a position that the data give, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3, 3)
        self.register_buffer("rows", torch.zeros(2, 8, 3))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("scale", torch.ones(3), persistent=False)
        self.register_buffer("fixed", torch.arange(3.0))

    def forward(self, x: Any, position: Any) -> Any:
        self.rows[:, position] = self.project(x)
        self.calls += 1
        self.scale.mul_(0.5)
        return self.rows.sum(1) * self.scale + self.fixed + self.calls


class Views(nn.Module):
    """In-place writes through views of views."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.arange(24.0).reshape(4, 6))

    def forward(self, x: Any) -> Any:
        turned = self.grid.t()
        turned[1:5:2].mul_(x[0])
        self.grid.view(2, 2, 6).select(1, 0).copy_(x.expand(2, 6))
        self.grid.diagonal().fill_(-1)
        self.grid.narrow(1, 2, 3).transpose(0, 1).add_(100)
        self.grid.chunk(2, 1)[1].neg_()
        self.grid.reshape(-1)[::5] = 7
        self.grid.index_copy_(0, torch.tensor([3]), x.reshape(1, 6))
        return turned.sum(0)


class Arguments(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        x.add_(1)
        y[0].copy_(x[1])
        return x * y


class Running(nn.Module):
    """Running statistics, and a buffer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("same", self.mean)

    def forward(self, x: Any) -> Any:
        self.mean.mul_(0.75).add_(x.mean(0), alpha=0.25)
        return x - self.same


def _steps() -> dict[str, tuple[Callable[[], nn.Module], list[tuple[Any, ...]]]]:
    torch.manual_seed(1)
    positions = [torch.tensor([at]) for at in (0, 5, 2)]
    return {
        "cache": (Cache, [(torch.randn(2, 1, 3), at) for at in positions]),
        "views": (Views, [(torch.randn(6),) for _ in range(3)]),
        "running": (Running, [(torch.randn(5, 3),) for _ in range(3)]),
        "arguments": (Arguments, [(torch.randn(2, 3), torch.randn(2, 3)) for _ in range(2)]),
    }


def _models(exported: Any, folder: Path) -> list[Model]:
    path = folder / "model.pt2"
    torch.export.save(exported, path)
    return [capture(exported), read(path)]


@pytest.mark.parametrize(
    ("case", "functional"),
    [(case, False) for case in ("cache", "views", "running", "arguments")] + [("cache", True), ("arguments", True)],
)
def test_steps(case: str, functional: bool, tmp_path: Path) -> None:
    """Several runs, each with the states that the last one left: eager, NumPy, onnxruntime, and after reading ONNX."""
    make, steps = _steps()[case]
    module = make().eval()
    exported = torch.export.export(module, tuple(each.clone() for each in steps[0]))
    if functional:
        exported = exported.run_decompositions({})
    for model in _models(exported, tmp_path):
        written = tmp_path / "model.onnx"
        writer.write(prepare(model, writer.target()), written)
        session = onnxruntime.InferenceSession(str(written), providers=["CPUExecutionProvider"])
        again = onnx_reader.read(written)
        roads: list[Callable[[dict[str, Any]], list[Any]]] = [
            lambda feeds, model=model: list(evaluate(model, feeds).values()),  # type: ignore[misc]
            lambda feeds, session=session: session.run(None, feeds),  # type: ignore[misc]
            lambda feeds, again=again: list(evaluate(again, feeds).values()),  # type: ignore[misc]
        ]
        for road in roads:
            _follow(model, copy.deepcopy(module), steps, road)


def _follow(model: Model, module: nn.Module, steps: list[tuple[Any, ...]], road: Callable[..., list[Any]]) -> None:
    kept: dict[str, Any] = {}
    names = [name for name in model.inputs if model.state.get(name, State("")).initial is None]
    for given in steps:
        copies = [each.clone() for each in given]
        with torch.no_grad():
            wanted = [module(*copies).numpy()]
        wanted += [
            (copies[names.index(name)] if name in names else module.get_buffer(name)).numpy() for name in model.state
        ]
        found = road({**{name: each.numpy() for name, each in zip(names, given, strict=True)}, **kept})
        assert list(model.outputs)[1:] == [state.output for state in model.state.values()]
        for name, a, b in zip(model.outputs, found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)
            assert a.dtype == b.dtype
        results = dict(zip(model.outputs, found, strict=True))
        kept = {name: results[state.output] for name, state in model.state.items() if state.initial is not None}


def test_names_and_defaults(tmp_path: Path) -> None:
    make, steps = _steps()["cache"]
    model = capture(torch.export.export(make().eval(), steps[0]))
    assert list(model.inputs) == ["x", "position", "rows", "calls", "scale"]
    assert {name: state.output for name, state in model.state.items()} == {
        "rows": "rows.next",
        "calls": "calls.next",
        "scale": "scale.next",
    }
    assert "fixed" in model.parameters()
    assert "rows" not in model.parameters()
    path = tmp_path / "model.onnx"
    writer.write(prepare(model, writer.target()), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["x", "position"]
    assert {each.name for each in session.get_overridable_initializers()} == {"rows", "calls", "scale"}
    again = onnx_reader.read(path)
    assert {name: state.output for name, state in again.state.items()} == {
        name: state.output for name, state in model.state.items()
    }
    assert again.inputs == model.inputs


def test_two_names_of_a_buffer_are_one_state() -> None:
    make, steps = _steps()["running"]
    model = capture(torch.export.export(make().eval(), steps[0]))
    assert len(model.state) == 1


def test_a_buffer_with_the_name_of_an_argument() -> None:
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("x", torch.zeros(2))

        def forward(self, x: Any) -> Any:
            self.x.add_(x)
            return self.x * 2

    model = capture(torch.export.export(Clash().eval(), (torch.ones(2),)))
    assert list(model.inputs) == ["x", "x_1"]
    assert model.state["x_1"].output == "x_1.next"


def test_symbolic_batch(tmp_path: Path) -> None:
    make, _ = _steps()["running"]
    rows = torch.export.Dim("rows", min=2, max=64)
    exported = torch.export.export(make().eval(), (torch.randn(5, 3),), dynamic_shapes=({0: rows},))
    for model in _models(exported, tmp_path):
        _follow(
            model,
            make().eval(),
            [(torch.randn(7, 3),), (torch.randn(2, 3),)],
            lambda feeds, model=model: list(evaluate(model, feeds).values()),  # type: ignore[misc]
        )


def test_keras_has_no_state(tmp_path: Path) -> None:
    from isomorph.converters.keras import writer as keras_writer

    make, steps = _steps()["running"]
    model = capture(torch.export.export(make().eval(), steps[0]))
    with pytest.raises(UnsupportedError):
        keras_writer.write(prepare(model, keras_writer.target()), tmp_path / "model.keras")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders_with_a_static_cache(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

    torch.manual_seed(0)
    if family == "gpt2":
        config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32)
        decoder = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2,
        )  # fmt: skip
        decoder = transformers.LlamaForCausalLM(config)
    decoder.generation_config = transformers.GenerationConfig(
        use_cache=True, cache_implementation="static", cache_config={"batch_size": 1, "max_cache_len": 16}
    )
    module = TorchExportableModuleWithStaticCache(decoder.eval(), batch_size=1, max_cache_len=16, device="cpu").eval()
    inputs = {"input_ids": torch.tensor([[5]]), "cache_position": torch.tensor([0])}
    with torch.no_grad():
        exported = torch.export.export(module, (), inputs, strict=False)
    for model in _models(exported, tmp_path):
        assert sum("cache" in name for name in model.state) == 4
        path = tmp_path / "model.onnx"
        writer.write(prepare(model, writer.target()), path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        eager, kept = copy.deepcopy(module), {}
        for step, token in enumerate((5, 9, 33, 2)):
            given = {"input_ids": torch.tensor([[token]]), "cache_position": torch.tensor([step])}
            with torch.no_grad():
                wanted = eager(**given).numpy()
            feeds = {name: each.numpy() for name, each in given.items()}
            found = dict(zip(model.outputs, session.run(None, {**feeds, **kept}), strict=True))
            np.testing.assert_allclose(next(iter(found.values())), wanted, atol=1e-5)
            kept = {name: found[state.output] for name, state in model.state.items()}


@pytest.mark.slow
def test_the_verdict_covers_states(tmp_path: Path) -> None:
    from isomorph.validators.runner import ModelFile
    from isomorph.validators.trial import validate

    make, steps = _steps()["cache"]
    source, target = tmp_path / "model.pt2", tmp_path / "model.onnx"
    torch.export.save(torch.export.export(make().eval(), steps[0]), source)
    model = read(source)
    writer.write(prepare(model, writer.target()), target)
    report = validate(ModelFile(source, "pt2"), ModelFile(target, "onnx"))
    assert {each.source: each.verdict.name for each in report.outputs} == dict.fromkeys(model.outputs, "EQUIVALENT")
