"""Convolution, pooling, normalization, linear, activation and resize rules against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional


def randn(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def trained(module: Any) -> Any:
    """The module with random statistics and affine weights."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dtype.is_floating_point and tensor.ndim == 1:
            low = 0.5 if "var" in name else -1.0
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 1.5 + low)
    return module


class _SelfAttention(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 11)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 3, 11, 13)),
    "conv2d-grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (1, 4, 7, 6)),
    "conv2d-depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (1, 4, 7, 6)),
    "conv2d-same": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)), (1, 3, 9, 8)),
    "conv2d-valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid"), (1, 3, 9, 8)),
    "conv2d-reflect": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (1, 3, 9, 8)),
    "conv2d-circular": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (1, 3, 9, 8)),
    "conv2d-unbatched": (lambda: nn.Conv2d(3, 4, 3), (3, 9, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, padding=1), (1, 2, 5, 6, 7)),
    "conv-transpose1d": (lambda: nn.ConvTranspose1d(3, 4, 3, stride=2), (1, 3, 8)),
    "conv-transpose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (1, 4, 5, 6),
    ),
    "conv-transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 3, dilation=2), (1, 2, 3, 4, 5)),
    "max-pool1d": (lambda: nn.MaxPool1d(3, 2, padding=1), (1, 2, 11)),
    "max-pool2d": (lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (1, 2, 12, 14)),
    "max-pool2d-dilated": (lambda: nn.MaxPool2d((2, 3), dilation=2, stride=1), (1, 2, 9, 11)),
    "max-pool3d": (lambda: nn.MaxPool3d(2), (1, 2, 4, 5, 6)),
    "avg-pool1d": (lambda: nn.AvgPool1d(3, 2, padding=1), (1, 2, 11)),
    "avg-pool2d": (lambda: nn.AvgPool2d(3, 2, padding=1), (1, 2, 12, 14)),
    "avg-pool2d-ceil": (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (1, 2, 12, 14)),
    "avg-pool2d-exclude": (
        lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        (1, 2, 12, 14),
    ),
    "avg-pool2d-divisor": (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, divisor_override=5), (1, 2, 12, 14)),
    "avg-pool3d": (lambda: nn.AvgPool3d(2), (1, 2, 4, 5, 6)),
    "adaptive-avg-global": (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 5, 7)),
    "adaptive-avg-same": (lambda: nn.AdaptiveAvgPool2d((5, None)), (2, 3, 5, 7)),
    "adaptive-avg-even": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (2, 3, 9, 8)),
    "adaptive-avg-uneven": (lambda: nn.AdaptiveAvgPool2d((3, 4)), (2, 3, 7, 9)),
    "adaptive-max": (lambda: nn.AdaptiveMaxPool2d((3, 4)), (2, 3, 7, 9)),
    "adaptive-max-1d": (lambda: nn.AdaptiveMaxPool1d(1), (2, 3, 7)),
    "batch-norm1d": (lambda: trained(nn.BatchNorm1d(3)), (4, 3)),
    "batch-norm2d": (lambda: trained(nn.BatchNorm2d(3)), (2, 3, 4, 5)),
    "batch-norm2d-plain": (lambda: trained(nn.BatchNorm2d(3, affine=False)), (2, 3, 4, 5)),
    "batch-norm-untracked": (lambda: trained(nn.BatchNorm2d(3, track_running_stats=False)), (2, 3, 4, 5)),
    "weight-norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), (1, 3, 5, 6)),
    "weight-norm-whole": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(7, 4), dim=None), (2, 7)),
    "spectral-norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), (1, 3, 5, 6)),
    "layer-norm": (lambda: trained(nn.LayerNorm(7)), (2, 3, 7)),
    "layer-norm-2": (lambda: nn.LayerNorm((3, 7), elementwise_affine=False), (2, 3, 7)),
    "layer-norm-no-bias": (lambda: trained(nn.LayerNorm(7, bias=False)), (2, 3, 7)),
    "group-norm": (lambda: trained(nn.GroupNorm(2, 4)), (2, 4, 3, 5)),
    "instance-norm": (lambda: trained(nn.InstanceNorm2d(3, affine=True)), (2, 3, 4, 5)),
    "instance-norm-tracked": (
        lambda: trained(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
        (2, 3, 4, 5),
    ),
    "rms-norm": (lambda: trained(nn.RMSNorm(7)), (2, 3, 7)),
    "rms-norm-eps": (lambda: nn.RMSNorm(7, eps=1e-3, elementwise_affine=False), (2, 3, 7)),
    "linear": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "linear-no-bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "bilinear-upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 5)),
    "bilinear-size": (lambda: nn.Upsample(size=(7, 4), mode="bilinear"), (1, 2, 3, 5)),
    "bilinear-corners": (lambda: nn.Upsample(scale_factor=1.7, mode="bilinear", align_corners=True), (1, 2, 3, 5)),
    "bilinear-fraction": (lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"), (1, 2, 6, 5)),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (1, 2, 6, 5)),
    "linear1d": (lambda: nn.Upsample(scale_factor=2, mode="linear"), (1, 2, 6)),
    "trilinear": (lambda: nn.Upsample(scale_factor=2, mode="trilinear"), (1, 2, 3, 4, 5)),
    "nearest": (lambda: nn.Upsample(scale_factor=2.5), (1, 2, 6, 5)),
    "nearest-size": (lambda: nn.Upsample(size=(4, 7)), (1, 2, 6, 5)),
    "nearest-exact": (lambda: nn.Upsample(size=(4, 7), mode="nearest-exact"), (1, 2, 6, 5)),
    "pixel-shuffle": (lambda: nn.PixelShuffle(2), (1, 8, 3, 4)),
    "pixel-unshuffle": (lambda: nn.PixelUnshuffle(2), (1, 2, 6, 4)),
    "channel-shuffle": (lambda: nn.ChannelShuffle(2), (1, 6, 3, 4)),
    "zero-pad": (lambda: nn.ZeroPad2d((1, 2, 3, 0)), (1, 2, 3, 4)),
    "reflection-pad": (lambda: nn.ReflectionPad2d((1, 2, 0, 1)), (1, 2, 3, 4)),
    "replication-pad": (lambda: nn.ReplicationPad1d((1, 2)), (1, 2, 3)),
    "negative-pad": (lambda: nn.ConstantPad1d((-1, 2), 3.5), (1, 2, 5)),
    "flatten": (nn.Flatten, (2, 3, 4, 5)),
    "unflatten": (lambda: nn.Unflatten(1, (2, 3)), (2, 6, 4)),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.2), nn.AlphaDropout()), (2, 3, 4, 5)),
    "mha": (_SelfAttention, (2, 5, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"), (2, 5, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, convert: Any) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    convert(make(), randn(*shape))


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(-0.5, 0.7),
    nn.LeakyReLU(0.2),
    nn.PReLU(),
    nn.PReLU(3),
    nn.ELU(0.7),
    nn.SELU(),
    nn.CELU(0.6),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Softplus(),
    nn.Softplus(2.0, 1.0),
    nn.Softsign(),
    nn.LogSigmoid(),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.Softmax(1),
    nn.Softmax(-1),
    nn.LogSoftmax(1),
    nn.GLU(1),
    nn.Threshold(0.1, 20.0),
    nn.Hardshrink(),
    nn.Softshrink(),
    nn.Tanhshrink(),
    nn.RReLU(),
    nn.Softmin(1),
    nn.Softmax2d(),
]


@pytest.mark.parametrize("module", ACTIVATIONS, ids=lambda module: repr(module).replace(" ", ""))
def test_activation(module: Any, convert: Any) -> None:
    channels = 4 if isinstance(module, nn.GLU) else 3
    convert(module, randn(2, channels, 4, 5) * 3)


@pytest.mark.parametrize(
    "module",
    [
        nn.ReLU(True),
        nn.ReLU6(True),
        nn.Hardtanh(inplace=True),
        nn.LeakyReLU(0.2, True),
        nn.ELU(inplace=True),
        nn.SELU(True),
        nn.CELU(inplace=True),
        nn.SiLU(True),
        nn.Mish(True),
        nn.Hardswish(True),
        nn.Hardsigmoid(True),
        nn.Threshold(0.1, 20.0, True),
        nn.Dropout(0.5, True),
        nn.RReLU(inplace=True),
    ],
    ids=repr,
)
def test_in_place_activation(module: Any, convert: Any) -> None:
    convert(nn.Sequential(nn.BatchNorm2d(3), module, nn.BatchNorm2d(3)), randn(2, 3, 4, 5) * 3)


ATTENTION: dict[str, Callable[..., Any]] = {
    "plain": F.scaled_dot_product_attention,
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "scale": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3),
    "bool-mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(5, 7, dtype=torch.bool).tril(2)),
    "added-mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.arange(35.0).reshape(5, 7) / 10),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, convert: Any, apply: Any) -> None:
    model = convert(apply(ATTENTION[name]), randn(2, 3, 5, 4), randn(2, 3, 7, 4), randn(2, 3, 7, 6))
    assert any(node.op.name == "ScaledDotProductAttention" for node in model.graph.nodes)


def test_grouped_query_attention(convert: Any, apply: Any) -> None:
    def attend(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    convert(apply(attend), randn(2, 6, 5, 4), randn(2, 2, 7, 4), randn(2, 2, 7, 4))


def test_half_precision(convert: Any) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).bfloat16()
    convert(module, randn(2, 3, 6, 6).bfloat16(), rtol=0.05, atol=0.05)
    convert(nn.Linear(4, 3).half(), randn(2, 4).half(), rtol=0.01, atol=0.01)
    convert(nn.Linear(4, 3).double(), randn(2, 4).double(), rtol=1e-12, atol=1e-12)
