"""Real models: torchvision's, traced, scripted and frozen, in onnxruntime; silero-vad with its known answers."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.convert import convert, load
from isomorph.inputs import parse_inputs

pytestmark = pytest.mark.requires("torch", "torchvision", "onnxruntime")
torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision").models


def run(path: Path, target: Path, *inputs: str, **feeds: Any) -> list[Any]:
    """Convert and run in onnxruntime."""
    import onnxruntime

    convert(path, target, inputs=parse_inputs(inputs), force=True)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@pytest.mark.parametrize("form", ["traced", "scripted", "frozen", "mobile"])
@pytest.mark.parametrize(
    "name",
    ["resnet18"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121", "swin_t", "vit_b_32")
    ],
)
def test_torchvision(tmp_path: Path, name: str, form: str) -> None:
    size = 224 if name.startswith("vit") else 64
    torch.manual_seed(0)
    module = getattr(models, name)(weights=None).eval()
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(2, 3, size, size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(module, x, check_trace=False) if form == "traced" else torch.jit.script(module)
        made = torch.jit.freeze(made) if form == "frozen" else made
        path = tmp_path / "model.pt"
        made._save_for_lite_interpreter(str(path)) if form == "mobile" else made.save(str(path))
        wanted = made(x).numpy()
    (found,) = run(path, tmp_path / "model.onnx", f"x=N,3,{size},{size}", x=x.numpy())
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()


def silero() -> Path:
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        pytest.skip("silero-vad is not installed")
    return Path(found.origin).parent / "data"


SILERO = ("x=1,512", "sr=16000", "_state=2,1,128", "_context=1,64", "_last_sr=16000", "_last_batch_size=1")


def test_silero_gives_its_known_answers(tmp_path: Path) -> None:
    import onnxruntime

    target = tmp_path / "vad.onnx"
    convert(silero() / "silero_vad.jit", target, inputs=parse_inputs(SILERO))
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    sound = (0.3 * np.sin(2 * np.pi * 220 * np.arange(2048) / 16000)).astype(np.float32)
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    answers = []
    for frame in sound.reshape(4, 1, 512):
        probability, state, context = session.run(None, {"x": frame, "_state": state, "_context": context})
        answers.append(probability.item())
    np.testing.assert_allclose(answers, [0.071423, 0.117162, 0.036898, 0.013514], atol=1e-6)


def test_silero_weights_are_those_of_its_onnx_file() -> None:
    onnx = pytest.importorskip("onnx")
    found = {array.tobytes() for array in _arrays(onnx, onnx.load(str(silero() / "silero_vad.onnx")).graph)}
    model = load(silero() / "silero_vad.jit", inputs=parse_inputs(SILERO))
    weights = [each for each in model.parameters().values() if each.role != "constant"]
    assert len(weights) == 15
    assert [each.name for each in weights if np.ascontiguousarray(each.data.numpy()).tobytes() not in found] == []


def _arrays(onnx: Any, graph: Any) -> Iterator[Any]:
    """All tensors of a graph and of the graphs within."""
    yield from (onnx.numpy_helper.to_array(each) for each in graph.initializer)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield onnx.numpy_helper.to_array(attribute.t)
        elif attribute.type == onnx.AttributeProto.GRAPH:
            yield from _arrays(onnx, attribute.g)


def test_silero_says_how_its_state_is_given() -> None:
    from isomorph.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="model with a state") as error:
        load(silero() / "silero_vad.jit", inputs=parse_inputs(["x=1,512", "sr=16000"]))
    wanted = {f"--input {given}" for given in SILERO[2:]}
    assert wanted == {f"--input {given.strip()}" for given in str(error.value.advice).split("--input") if given.strip()}


class Gate(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        y = torch.relu(self.high(x)) if bool(x.mean() > 0) else self.low(x)
        return y * times


def test_the_judge_runs_the_archive(tmp_path: Path) -> None:
    from isomorph import api

    path, target = tmp_path / "gate.pt", tmp_path / "gate.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Gate().eval()).save(str(path))
    inputs = {"x": "N,4", "times": "3"}
    api.convert(path, target, inputs=inputs)
    assert api.validate(path, target, inputs=inputs).verdict.value == "EQUIVALENT"
    inputs["times"] = "2"
    assert api.validate(path, target, inputs=inputs).verdict.value == "DIFFERENT"
