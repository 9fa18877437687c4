"""`evaluate` against PyTorch, in float64, for what ONNX lacks or where conventions differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from isomorph.ir import ops
from isomorph.ir.evaluate import evaluate_op

pytestmark = pytest.mark.requires("torch")

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(size=(2, 6, 7, 9))
NONE = ((0, 0), (0, 0))


def _functional() -> Any:
    return pytest.importorskip("torch.nn.functional")


def _compare(op: Any, expected: Callable[[Any, list[Any]], Any], *arrays: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    wanted = expected(_functional(), [torch.from_numpy(array) for array in arrays]).numpy()
    (got,) = evaluate_op(op, *arrays)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (7, 9), (10, 2), (5, 13)], ids=str)
def test_adaptive_pools(size: tuple[int, int]) -> None:
    _compare(ops.AdaptiveAveragePool(size), lambda f, t: f.adaptive_avg_pool2d(t[0], size), IMAGE)
    _compare(ops.AdaptiveMaxPool(size), lambda f, t: f.adaptive_max_pool2d(t[0], size), IMAGE)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("ceil_mode", [False, True], ids=["floor", "ceil"])
def test_pools(stride: int, pad: int, ceil_mode: bool) -> None:
    window: Any = ((3, 2), (stride, stride), ((pad, pad), (pad, pad)), (1, 1), ceil_mode)
    _compare(ops.MaxPool(*window), lambda f, t: f.max_pool2d(t[0], (3, 2), stride, pad, 1, ceil_mode), IMAGE)
    for counted in (False, True):
        op = ops.AveragePool(*window, counted)
        _compare(op, lambda f, t: f.avg_pool2d(t[0], (3, 2), stride, pad, ceil_mode, counted), IMAGE)  # noqa: B023


@pytest.mark.parametrize("group", [1, 2, 3])
def test_convolutions(group: int) -> None:
    w = RNG.normal(size=(12, 6 // group, 3, 2))
    b = RNG.normal(size=12)
    op = ops.Conv((2, 1), ((1, 1), (2, 2)), (1, 3), group)
    _compare(op, lambda f, t: f.conv2d(*t, (2, 1), (1, 2), (1, 3), group), IMAGE, w, b)
    transposed = RNG.normal(size=(6, 12 // group, 3, 2))
    op_t = ops.ConvTranspose((3, 2), ((1, 1), (0, 0)), (2, 1), (2, 1), group)
    _compare(op_t, lambda f, t: f.conv_transpose2d(*t, (3, 2), (1, 0), (2, 1), group, (2, 1)), IMAGE, transposed, b)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention(causal: bool, scale: float | None) -> None:
    q, k, v = (RNG.normal(size=shape) for shape in ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)))
    op = ops.ScaledDotProductAttention(causal, scale)
    _compare(op, lambda f, t: f.scaled_dot_product_attention(*t, is_causal=causal, scale=scale), q, k, v)


def test_attention_masks() -> None:
    q, k, v = (RNG.normal(size=shape) for shape in ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)))
    mask = RNG.random((5, 7)) < 0.5
    mask[:, 0] = True
    mask[2] = False  # a query that may attend to no key gives 0
    for given in (mask, np.where(mask, 0.5, -np.inf), RNG.normal(size=(2, 1, 5, 7))):
        _compare(ops.ScaledDotProductAttention(), lambda f, t: f.scaled_dot_product_attention(*t), q, k, v, given)


@pytest.mark.parametrize("size", [(14, 18), (10, 5), (3, 4), (1, 1)], ids=str)
def test_interpolation(size: tuple[int, int]) -> None:
    def resized(mode: str, **options: Any) -> Callable[[Any, list[Any]], Any]:
        return lambda f, t: f.interpolate(t[0], size, mode=mode, **options)

    _compare(ops.Resize(size, coordinates="asymmetric", nearest_mode="floor"), resized("nearest"), IMAGE)
    _compare(ops.Resize(size, nearest_mode="round_prefer_ceil"), resized("nearest-exact"), IMAGE)
    # not ONNX's "pytorch_half_pixel", which differs where an output size is 1
    _compare(ops.Resize(size, mode="linear"), resized("bilinear"), IMAGE)
    aligned = ops.Resize(size, mode="linear", coordinates="align_corners")
    _compare(aligned, resized("bilinear", align_corners=True), IMAGE)
    _compare(ops.Resize(size, mode="cubic"), resized("bicubic"), IMAGE)
    smooth = ops.Resize(size, mode="linear", antialias=True, exclude_outside=True)
    _compare(smooth, resized("bilinear", antialias=True), IMAGE)
    smooth = ops.Resize(size, mode="cubic", cubic_coeff_a=-0.5, antialias=True, exclude_outside=True)
    _compare(smooth, resized("bicubic", antialias=True), IMAGE)


def test_activations() -> None:
    x = np.linspace(-40, 40, 401)
    pairs: list[tuple[Any, Callable[[Any, list[Any]], Any]]] = [
        (ops.Gelu(), lambda f, t: f.gelu(t[0])),
        (ops.Gelu("tanh"), lambda f, t: f.gelu(t[0], approximate="tanh")),
        (ops.HardSwish(), lambda f, t: f.hardswish(t[0])),
        (ops.HardSigmoid(1 / 6, 0.5), lambda f, t: f.hardsigmoid(t[0])),
        (ops.Mish(), lambda f, t: f.mish(t[0])),
        (ops.Swish(), lambda f, t: f.silu(t[0])),
        (ops.LogSigmoid(), lambda f, t: f.logsigmoid(t[0])),
        (ops.Elu(0.7), lambda f, t: f.elu(t[0], 0.7)),
        (ops.Celu(0.7), lambda f, t: f.celu(t[0], 0.7)),
        (ops.Selu(), lambda f, t: f.selu(t[0])),
        (ops.Softsign(), lambda f, t: f.softsign(t[0])),
        (ops.Shrink(0.5, 0.5), lambda f, t: f.softshrink(t[0], 0.5)),
        (ops.Shrink(0.5, 0.0), lambda f, t: f.hardshrink(t[0], 0.5)),
        (ops.LogSoftmax(0), lambda f, t: f.log_softmax(t[0], 0)),
    ]
    for op, expected in pairs:
        _compare(op, expected, x)


def test_normalizations() -> None:
    scale, bias, mean = RNG.normal(size=(3, 6))
    variance = RNG.uniform(0.5, 2, 6)
    plain: list[np.ndarray] = [IMAGE, mean, variance, scale, bias]
    torch = pytest.importorskip("torch")
    (got,) = evaluate_op(ops.BatchNormalization(1e-5), IMAGE, scale, bias, mean, variance)
    wanted = _functional().batch_norm(*map(torch.from_numpy, plain), eps=1e-5).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
    _compare(ops.GroupNormalization(2, 1e-5), lambda f, t: f.group_norm(t[0], 2, t[1], t[2], 1e-5), IMAGE, scale, bias)
    _compare(
        ops.InstanceNormalization(1e-5),
        lambda f, t: f.instance_norm(t[0], None, None, t[1], t[2], eps=1e-5),
        IMAGE,
        scale,
        bias,
    )
    _compare(ops.RMSNormalization(1e-5, 3), lambda f, t: f.rms_norm(t[0], (9,), None, 1e-5), IMAGE)
    _compare(ops.LayerNormalization(1e-5, 2), lambda f, t: f.layer_norm(t[0], (7, 9), eps=1e-5), IMAGE)
    _compare(ops.LpNormalization((1,), 2, 1e-12), lambda f, t: f.normalize(t[0]), IMAGE)
    _compare(
        ops.LocalResponseNormalization(3, 0.1, 0.75, 2.0),
        lambda f, t: f.local_response_norm(t[0], 3, 0.1, 0.75, 2.0),
        IMAGE,
    )
    _compare(ops.DepthToSpace(2, "CRD"), lambda f, t: f.pixel_shuffle(t[0], 2), RNG.normal(size=(2, 12, 3, 4)))
