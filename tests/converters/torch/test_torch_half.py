"""Half-precision PyTorch models: promotion, autocast, and whole networks in float16 and bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isomorph.errors import RunnerError

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

HALVES = [torch.float16, torch.bfloat16]
IDS = ["float16", "bfloat16"]


def randn(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


PROMOTIONS = {
    "number": lambda h, f, s: (h + 0.1, h * 3, 2 - h, h / 7, h**2, h + 1e-8),
    "float": lambda h, f, s: (h + f, f * h, torch.maximum(h, f)),
    "scalar_tensor": lambda h, f, s: (h + s, h * s, s - h, torch.where(h > s, h, s)),
    "integer": lambda h, f, s: (h + torch.arange(4), h * torch.tensor(3), h + torch.tensor([True])),
    "other_half": lambda h, f, s: (h.half() + h.bfloat16(),),
    "reductions": lambda h, f, s: (h.sum(-1), h.mean(), h.softmax(-1), h.sum(dtype=torch.float32), h.var(-1)),
    "comparison": lambda h, f, s: (h > 0.1, h == f.to(h.dtype), h.clamp(-0.3, 0.7), h.round()),
    "casts": lambda h, f, s: (h.float(), f.to(h.dtype), h.to(torch.int32), h.double()),
    "special": lambda h, f, s: (F.gelu(h), F.silu(h), h.exp(), torch.rsqrt(h.abs() + 1), h.erf(), F.softplus(h)),
}


@pytest.mark.parametrize("dtype", HALVES, ids=IDS)
@pytest.mark.parametrize("name", PROMOTIONS)
def test_promotion(name: str, dtype: Any, convert: Any, apply: Any) -> None:
    unit = 2**-10 if dtype is torch.float16 else 2**-7
    h, f, s = randn(3, 4).to(dtype), randn(3, 4), torch.tensor(0.3)
    convert(apply(PROMOTIONS[name]), h, f, s, rtol=2 * unit, atol=2 * unit)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.pool(F.relu(self.norm2(self.conv2(y)) + y))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Block(nn.Module):
    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.RMSNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        q, k, v = self.mix(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(y)
        return self.norm3(x + self.down(F.gelu(self.up(self.norm2(x))) * 0.5 + 1e-3))


class Autocast(nn.Module):
    def __init__(self, dtype: Any, device: str = "cpu") -> None:
        super().__init__()
        self.block, self.head, self.dtype, self.device = Block(), nn.Linear(32, 8), dtype, device

    def forward(self, x: Any) -> Any:
        with torch.autocast(self.device, dtype=self.dtype):
            y = self.head(self.block(x))
            with torch.autocast(self.device, enabled=False):
                z = self.head(x)
            weights = torch.softmax(y @ y.transpose(1, 2), -1)
        return y.float() + z, weights


MODELS = {"residual": (Residual, (2, 3, 16, 16)), "block": (Block, (2, 7, 32))}


@pytest.mark.parametrize("dtype", HALVES, ids=IDS)
@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, dtype: Any, convert: Any) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    bound = 0.02 if dtype is torch.float16 else 0.1
    convert(make().to(dtype), randn(*shape).to(dtype), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", HALVES, ids=IDS)
def test_autocast(dtype: Any, convert: Any) -> None:
    torch.manual_seed(0)
    bound = 0.02 if dtype is torch.float16 else 0.1
    model = convert(Autocast(dtype), randn(2, 7, 32), rtol=bound, atol=bound)
    made = {value.dtype.value for node in model.graph.nodes if node.op.name == "Linear" for value in node.outputs}
    assert made == {"float32", str(dtype).removeprefix("torch.")}


def written(module: Any, x: Any, folder: Path) -> tuple[Any, Any]:
    pytest.importorskip("onnxruntime")
    from isomorph.converters.convert import convert as to_file
    from isomorph.validators.runner import ModelFile

    torch.export.save(torch.export.export(module.eval(), (x,)), folder / "m.pt2")
    to_file(folder / "m.pt2", folder / "m.onnx")
    return ModelFile(folder / "m.pt2", "pt2"), ModelFile(folder / "m.onnx", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "block", "autocast"])
def test_float16_is_judged_by_its_own_unit(name: str, tmp_path: Path) -> None:
    from isomorph.validators.trial import validate
    from isomorph.validators.verdict import Verdict

    torch.manual_seed(0)
    if name == "autocast":
        module, x = Autocast(torch.float16), randn(2, 7, 32)
    else:
        make, shape = MODELS[name]
        module, x = make().half(), randn(*shape).half()
    report = validate(*written(module, x, tmp_path))
    assert report.verdict is Verdict.EQUIVALENT, report.reasons


def test_a_missing_kernel_is_said_by_name(tmp_path: Path) -> None:
    from isomorph.validators.trial import validate

    with pytest.raises(RunnerError, match=r"no kernel for \w+ \(since opset \d+\) of bfloat16"):
        validate(*written(Residual().bfloat16(), randn(2, 3, 16, 16).bfloat16(), tmp_path))
