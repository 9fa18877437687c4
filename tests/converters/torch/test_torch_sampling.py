"""Sampling, folding, padding, pooling with indices and torchvision's operators, against eager.

Through files and capture, in NumPy and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch", "torchvision")
torch = pytest.importorskip("torch")
vision = pytest.importorskip("torchvision.ops")
F = torch.nn.functional

GENERATOR = torch.Generator().manual_seed(0)


def rand(*shape: int) -> Any:
    return torch.randn(*shape, generator=GENERATOR) * 3


def boxes(count: int, size: float) -> Any:
    corners = torch.rand(count, 2, generator=GENERATOR) * size
    return torch.cat([corners, corners + torch.rand(count, 2, generator=GENERATOR) * size], 1)


X, VOLUME, IMAGE = rand(2, 3, 7, 9), rand(2, 3, 5, 6, 7), rand(2, 8, 12, 14)
GRID, GRID_3D = torch.tanh(rand(2, 4, 5, 2)) * 1.3, torch.tanh(rand(2, 4, 5, 3, 3)) * 1.3
BOXES, SCORES = boxes(30, 30.0), torch.rand(30, generator=GENERATOR)
REGIONS = torch.cat([torch.randint(0, 2, (5, 1), generator=GENERATOR).float(), boxes(5, 8.0)], 1)
Case = tuple[Callable[..., Any], tuple[Any, ...]]


def unpooled(x: Any) -> Any:
    values, indices = F.max_pool2d(x, 2, 2, return_indices=True)
    return F.max_unpool2d(values, indices, 2, 2, output_size=x.shape[-2:])


CASES: dict[str, Case] = {
    "affine-grid": (
        lambda t: [F.affine_grid(t, (2, 3, *s), a) for s in ((5, 6), (1, 6)) for a in (True, False)],
        (rand(2, 2, 3),),
    ),
    "affine-grid-3d": (
        lambda t: [F.affine_grid(t, (2, 3, 5, 6, 4), aligned) for aligned in (True, False)],
        (rand(2, 3, 4),),
    ),
    "unfold": (
        lambda x: (F.unfold(x, 3, padding=1, stride=2), F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)), F.unfold(x[0], 3)),
        (X,),
    ),
    "fold": (
        lambda x: (F.fold(x, (7, 9), 3, padding=1, stride=2), F.fold(x[0], (7, 9), 3, 1, 1, 2)),
        (rand(2, 27, 20),),
    ),
    "windows": (lambda x: (x.unfold(2, 3, 2), x.unfold(-1, 4, 1), x.unfold(0, 2, 1)), (X,)),
    "max-pool": (
        lambda x: (
            *F.max_pool2d(x, 3, 2, 1, return_indices=True),
            *F.max_pool2d(x[0], 2, 1, 0, 2, return_indices=True),
        ),
        (X,),
    ),
    "max-pool-ceil": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True), (X,)),
    "max-pool-1d-3d": (
        lambda x, v: (*F.max_pool1d(x[0], 3, 2, return_indices=True), *F.max_pool3d(v, 2, 2, return_indices=True)),
        (X, VOLUME),
    ),
    "max-unpool": (unpooled, (X,)),
    "adaptive-max": (
        lambda x: [each for s in ((3, 4), 1, (7, 3)) for each in F.adaptive_max_pool2d(x, s, return_indices=True)],
        (X,),
    ),
    "adaptive-max-3d": (lambda x: F.adaptive_max_pool3d(x, (2, 3, 4), return_indices=True), (VOLUME,)),
    "adaptive-mean": (
        lambda x, v: (
            F.adaptive_avg_pool2d(x, (3, 4)),
            F.adaptive_avg_pool2d(x, (9, 13)),
            F.adaptive_avg_pool3d(v, (2, None, 4)),
        ),
        (X, VOLUME),
    ),
    "mean": (
        lambda x: [
            F.avg_pool2d(x, 3, 2, 1, **how)
            for how in (
                {"ceil_mode": True},
                {"count_include_pad": False},
                {"divisor_override": 3},
                {"ceil_mode": True, "count_include_pad": False},
                {"ceil_mode": True, "divisor_override": 5},
            )
        ],
        (X,),
    ),
    "norm-pool": (lambda x: (F.lp_pool2d(x, 2, 3, 2), F.lp_pool1d(x[0], 3.0, 2)), (X.abs(),)),
    "conv-tbc": (lambda x, w, b: torch.conv_tbc(x, w, b, 1), (rand(7, 2, 4), rand(3, 4, 5), rand(5))),
    "conv-transpose": (
        lambda x, w: F.conv_transpose2d(x, w, None, 3, 2, 1, 2, (2, 3)),
        (rand(2, 4, 5, 6), rand(4, 3, 3, 4)),
    ),
    "conv-same": (
        lambda x, w: (F.conv2d(x, w, None, 1, "same", (2, 3)), F.conv2d(x, w, padding="valid"), F.conv2d(x[0], w)),
        (X, rand(5, 3, 2, 3)),
    ),
    "shuffle": (
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), torch.nn.ChannelShuffle(2)(x)),
        (rand(2, 8, 4, 6),),
    ),
    "nearest": (
        lambda x: [
            F.interpolate(x, scale_factor=s, mode=m) for s in (0.4, 1.3, 2.5) for m in ("nearest", "nearest-exact")
        ],
        (X,),
    ),
    "area": (lambda x: F.interpolate(x, size=(5, 13), mode="area"), (X,)),
    "trilinear": (
        lambda v: [F.interpolate(v, (3, 9, 5), mode="trilinear", align_corners=a) for a in (True, False)],
        (VOLUME,),
    ),
    "nms": (lambda b, s: (vision.nms(b, s, 0.3), vision.nms(b, s, 0.6)), (BOXES, SCORES)),
    "batched-nms": (
        lambda b, s, i: vision.batched_nms(b, s, i, 0.5),
        (BOXES, SCORES, torch.randint(0, 3, (30,), generator=GENERATOR)),
    ),
    "roi-align": (
        lambda x, r: [vision.roi_align(x, r, (3, 2), 0.5, s, a) for s in (2, -1) for a in (True, False)],
        (IMAGE, REGIONS),
    ),
    "roi-pool": (lambda x, r: vision.roi_pool(x, r, (3, 2), 0.5), (IMAGE, REGIONS)),
    "ps-roi-align": (lambda x, r: vision.ps_roi_align(x, r, 2, 0.5, 2), (IMAGE, REGIONS)),
    "deform": (
        lambda x, w, o, b, m: (
            vision.deform_conv2d(x, o, w, b, 1, 1, 1, m),
            vision.deform_conv2d(x, o, w, b, padding=1),
        ),
        (IMAGE, rand(6, 8, 3, 3), rand(2, 18, 12, 14) * 0.3, rand(6), rand(2, 9, 12, 14)),
    ),
    "deform-groups": (
        lambda x, w, o: vision.deform_conv2d(x, o, w, None, (2, 1), (1, 0), (2, 1)),
        (IMAGE, rand(6, 4, 3, 2), rand(2, 24, 5, 13) * 0.3),
    ),
    "boxes": (
        lambda a, b: (
            vision.box_iou(a, b),
            vision.generalized_box_iou(a, b),
            vision.box_convert(a, "xyxy", "cxcywh"),
            vision.clip_boxes_to_image(a, (20, 20)),
            vision.remove_small_boxes(a, 10.0),
        ),
        (BOXES, BOXES[:7]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_computes_what_pytorch_computes(name: str, judge: Callable[..., Any]) -> None:
    function, inputs = CASES[name]
    judge(function, *inputs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_every_way_to_sample_a_grid(padding: str, judge: Callable[..., Any]) -> None:
    def function(x: Any, grid: Any, volume: Any, places: Any) -> Any:
        return [
            *(F.grid_sample(x, grid, m, padding, a) for m in ("bilinear", "nearest", "bicubic") for a in (True, False)),
            *(F.grid_sample(volume, places, m, padding, a) for m in ("bilinear", "nearest") for a in (True, False)),
        ]

    judge(function, X, GRID, VOLUME, GRID_3D, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_every_way_to_pad(mode: str, judge: Callable[..., Any]) -> None:
    def function(x: Any, volume: Any) -> Any:
        return (
            F.pad(x, (1, 2, 2, 1), mode), F.pad(x, (-1, 2, 2, -1), mode), F.pad(x[0], (1, 2), mode),
            F.pad(volume, (1, 2, 0, 1, 1, 0), mode),
        )  # fmt: skip

    height, width = torch.export.Dim("h", min=4), torch.export.Dim("w", min=4)
    judge(function, X, VOLUME, others=[(rand(2, 3, 9, 5), VOLUME)], dynamic_shapes=(({2: height, 3: width}, None),))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_every_way_to_resample(mode: str, align_corners: bool, antialias: bool, judge: Callable[..., Any]) -> None:
    how = {"mode": mode, "align_corners": align_corners, "antialias": antialias}

    def function(x: Any) -> Any:
        return (
            F.interpolate(x, size=(5, 4), **how), F.interpolate(x, size=(11, 13), **how),
            F.interpolate(x, scale_factor=(0.8, 1.7), **how),
            F.interpolate(x, scale_factor=(0.8, 1.7), recompute_scale_factor=True, **how),
        )  # fmt: skip

    judge(function, X, rtol=1e-4, atol=1e-4)


def test_resampling_to_the_size_of_another_image(judge: Callable[..., Any]) -> None:
    def function(x: Any, y: Any) -> Any:
        sizes = y.shape[-2:]
        return [
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
            *(F.interpolate(x, size=sizes, mode="bilinear", align_corners=aligned) for aligned in (True, False)),
            F.unfold(x, 3, padding=1, stride=2),
        ]

    dims = [{axis: torch.export.Dim(f"{name}{axis}", min=4, max=64) for axis in (2, 3)} for name in "xy"]
    others = [(rand(2, 3, 6, 11), rand(1, 1, 9, 4))]
    judge(function, X, rand(1, 1, 5, 6), others=others, dynamic_shapes=(tuple(dims),), rtol=1e-4, atol=1e-4)
