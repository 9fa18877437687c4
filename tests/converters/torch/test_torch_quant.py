"""Quantized PyTorch models against eager: the same steps, not only close ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def _operators() -> None:
    import torch.ao.quantization.fx._decomposed  # noqa: F401  (registers quantized_decomposed)


def randn(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def q() -> Any:
    return torch.ops.quantized_decomposed


def by_tensor(low: int, high: int, dtype: Any, scale: float = 0.021, start: int = 3) -> Any:
    def function(x: Any) -> Any:
        steps = q().quantize_per_tensor(x, scale, start, low, high, dtype)
        return steps, q().dequantize_per_tensor(steps, scale, start, low, high, dtype)

    return function


def by_channel(low: int, high: int, dtype: Any, axis: int) -> Any:
    def function(x: Any) -> Any:
        scales = torch.linspace(0.01, 0.05, 5)
        starts = torch.tensor([0, 3, 1, 2, 5])
        steps = q().quantize_per_channel(x, scales, starts, axis, low, high, dtype)
        return steps, q().dequantize_per_channel(steps, scales, starts, axis, low, high, dtype)

    return function


def dynamic(x: Any) -> Any:
    scale, start = q().choose_qparams(x, 0, 255, 1e-6, torch.uint8)
    steps = q().quantize_per_tensor.tensor(x, scale, start, 0, 255, torch.uint8)
    return scale, start, steps, q().dequantize_per_tensor.tensor(steps, scale, start, 0, 255, torch.uint8)


def symmetric(x: Any) -> Any:
    scale, start = q().choose_qparams_symmetric(x, -127, 127, 1e-6, torch.int8)
    steps = q().quantize_per_tensor.tensor(x, scale, start, -127, 127, torch.int8)
    return scale, start, q().dequantize_per_tensor.tensor(steps, scale, start, -127, 127, torch.int8)


def fake(low: int, high: int) -> Any:
    def function(x: Any) -> Any:
        whole = torch.fake_quantize_per_tensor_affine(x, 0.02, 7, low, high)
        given = torch.fake_quantize_per_tensor_affine(x, torch.tensor(0.03), torch.tensor(2), low, high)
        scales, starts = torch.linspace(0.01, 0.05, 5), torch.tensor([0, 3, 1, 2, 5], dtype=torch.int32)
        return whole, given, torch.fake_quantize_per_channel_affine(x, scales, starts, 1, low, high)

    return function


FUNCTIONS = {
    "int8": by_tensor(-128, 127, torch.int8),
    "uint8": by_tensor(0, 255, torch.uint8, start=128),
    "int16": by_tensor(-32768, 32767, torch.int16, 1e-4),
    "int32": by_tensor(-(2**31), 2**31 - 1, torch.int32, 1e-6),
    "narrow_int8": by_tensor(-127, 127, torch.int8),
    "four_bits": by_tensor(-8, 7, torch.int8, 0.3, 0),
    "seven_bits": by_tensor(0, 127, torch.uint8, start=64),
    "channels": by_channel(-128, 127, torch.int8, 1),
    "channels_narrow": by_channel(-127, 127, torch.int8, -2),
    "dynamic": dynamic,
    "dynamic_symmetric": symmetric,
    "fake_int8": fake(-128, 127),
    "fake_uint8": fake(0, 255),
    "fake_four_bits": fake(0, 15),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str, convert: Any, apply: Any) -> None:
    convert(apply(FUNCTIONS[name]), randn(2, 5, 4) * 2)


def test_halves_of_a_step_go_to_the_even_one(convert: Any, apply: Any) -> None:
    x = torch.arange(-20, 20) / 4
    model = convert(apply(by_tensor(-8, 7, torch.int8, 0.5, 0)), x)
    assert [node.op.name for node in model.graph.nodes] == ["QuantizeLinear", "Clip", "DequantizeLinear"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.conv(x)))
        return self.head(self.pool(y + y.flip(-1)).flatten(1))


def quantized(dynamic: bool) -> Any:
    """A model through PT2E: prepared, calibrated, converted."""
    flow = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config(is_dynamic=dynamic))
    torch.manual_seed(0)
    prepared = flow.prepare_pt2e(torch.export.export(Net().eval(), (randn(2, 3, 8, 8),)).module(), quantizer)
    for seed in range(3):
        prepared(randn(2, 3, 8, 8) * (1 + seed))
    return flow.convert_pt2e(prepared)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_pt2e_model_in_onnxruntime(dynamic: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from isomorph.converters.convert import convert as to_file

    module, x = quantized(dynamic), randn(2, 3, 8, 8)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "m.pt2")
    to_file(tmp_path / "m.pt2", tmp_path / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-5)
