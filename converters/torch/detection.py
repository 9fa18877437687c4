"""torchvision's detectors as torch.export can take them: functions in a spelling without branches and loops over data.

torch.export refuses `len(boxes)`, `if boxes.numel() > 4000` and loops over the detections of an image, and fixes a size
of which a float is taken. While `exportable` holds, the functions below stand in for torchvision's. Each gives what
torchvision's gives, up to rounding, on any number of boxes; what stands in for a loop is a product of matrices:

    bilinear or bicubic resizing of m[i, j] to any size, pasted anywhere:   out[y, x] = Σ_ij V[y, i] · m[i, j] · H[x, j]

Sources: torchvision 0.29, `ops/boxes.py`, `ops/poolers.py`, `models/detection/roi_heads.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["exportable"]


@contextmanager
def exportable(torch: Any) -> Iterator[None]:
    """While it holds, torchvision's detectors can be exported. Nothing happens where torchvision is not in use."""
    saved: list[tuple[Any, str, Any]] = []
    for place, functions in _stand_ins(torch).items():
        module, _, within = place.partition(":")
        held = sys.modules.get(f"torchvision.{module}")
        held = getattr(held, within, None) if within else held
        for name, function in functions.items():
            if held is not None and hasattr(held, name):
                saved.append((held, name, getattr(held, name)))
                setattr(held, name, function)
    try:
        yield
    finally:
        for held, name, function in reversed(saved):
            setattr(held, name, function)


def _stand_ins(torch: Any) -> dict[str, dict[str, Any]]:
    spelled = _Detection(torch)

    def batch_images(_: Any, images: Sequence[Any], size_divisible: int = 32) -> Any:  # a method of torchvision's
        return spelled.batch_images(images, size_divisible)

    return {
        "ops.boxes": {"batched_nms": spelled.batched_nms},
        "ops": {"batched_nms": spelled.batched_nms},
        "ops.poolers": {"_infer_scale": _infer_scale, "_multiscale_roi_align": spelled.multiscale_roi_align},
        "models.detection.transform": {"paste_masks_in_image": spelled.paste_masks_in_image},
        "models.detection.transform:GeneralizedRCNNTransform": {"batch_images": batch_images},
        "models.detection.roi_heads": {
            "paste_masks_in_image": spelled.paste_masks_in_image,
            "heatmaps_to_keypoints": spelled.heatmaps_to_keypoints,
        },
    }


def _infer_scale(feature: Any, original_size: Sequence[Any]) -> float:
    """2^k next to the ratio of heights; of the example's, as torchvision keeps the first image's for good."""
    height, whole = _hint(feature.shape[-2]), _hint(original_size[0])
    return float(2.0 ** round(math.log2(height / whole)))


def _hint(size: Any) -> int:
    """A size, that of the example where it is symbolic."""
    node = getattr(size, "node", None)
    return int(size if node is None else node.require_hint())


class _Detection:
    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def batch_images(self, images: Sequence[Any], size_divisible: int = 32) -> Any:
        """The images [3, H, W] in one tensor, zeros below and right of them up to multiples of `size_divisible`."""
        height, width = (max(each.shape[axis] for each in images) for axis in (1, 2))
        height, width = (-(-size // size_divisible) * size_divisible for size in (height, width))
        pads = [(0, width - each.shape[2], 0, height - each.shape[1]) for each in images]
        pad = self.torch.nn.functional.pad
        return self.torch.stack([pad(each, margin) for each, margin in zip(images, pads, strict=True)])

    def batched_nms(self, boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
        """Suppression within each class: boxes of other classes are moved out of reach, on any number of boxes."""
        torch = self.torch
        beyond = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1
        apart = boxes + (idxs.to(boxes) * beyond)[:, None]
        return torch.ops.torchvision.nms(apart, scores, iou_threshold)

    def multiscale_roi_align(  # noqa: PLR0917, torchvision's own signature
        self, x_filtered: Any, boxes: Any, output_size: Any, sampling_ratio: int, scales: Any, mapper: Any
    ) -> Any:
        """RoIAlign of each box on the level of the pyramid that its size asks for."""
        torch = self.torch
        align = sys.modules["torchvision.ops.poolers"].roi_align
        rois = sys.modules["torchvision.ops.poolers"]._convert_to_roi_format(boxes)
        if len(x_filtered) == 1:
            return align(x_filtered[0], rois, output_size, scales[0], sampling_ratio)
        levels = mapper(boxes)
        pooled = x_filtered[0].new_zeros((rois.shape[0], x_filtered[0].shape[1], *output_size))
        for level, (feature, scale) in enumerate(zip(x_filtered, scales, strict=True)):
            (rows,) = torch.where(levels == level)
            found = align(feature, rois[rows], output_size, scale, sampling_ratio)
            pooled = pooled.index_put((rows,), found.to(pooled.dtype))
        return pooled

    def paste_masks_in_image(self, masks: Any, boxes: Any, img_shape: Any, padding: int = 1) -> Any:
        """Masks [N, 1, M, M], each resized (bilinear) to its box and pasted into an image of zeros: [N, 1, H, W]."""
        torch = self.torch
        heads = sys.modules["torchvision.models.detection.roi_heads"]
        padded, scale = heads.expand_masks(masks, padding=padding)
        edges = heads.expand_boxes(boxes, scale).to(dtype=torch.int64)
        height, width = img_shape
        down = self._bilinear(edges[:, 1], edges[:, 3], height, padded)
        across = self._bilinear(edges[:, 0], edges[:, 2], width, padded)
        return (down @ padded[:, 0] @ across.transpose(1, 2))[:, None]

    def _bilinear(self, first: Any, last: Any, size: Any, masks: Any) -> Any:
        """[N, size, M]: what each of M samples, stretched over first..last, gives to each pixel of a line."""
        torch, count = self.torch, masks.shape[-1]
        pixel = torch.arange(size, device=masks.device)
        span = (last - first + 1).clamp(min=1)
        inside = (pixel >= first[:, None]) & (pixel <= last[:, None])
        step = count / span.to(masks.dtype)
        place = ((pixel - first[:, None]).to(masks.dtype) + 0.5) * step[:, None] - 0.5
        place = place.clamp(min=0, max=count - 1)
        share = 1 - (place[:, :, None] - torch.arange(count, device=masks.device)).abs()
        return torch.where(inside[:, :, None], share.clamp(min=0), 0)

    def heatmaps_to_keypoints(self, maps: Any, rois: Any) -> Any:
        """The places [N, K, 3] and scores [N, K] of the largest values of maps [N, K, M, M], each resized (bicubic) to
        its box; all in maps of the size of the largest box, -inf beyond each box's own."""
        torch = self.torch
        widths = (rois[:, 2] - rois[:, 0]).clamp(min=1)
        heights = (rois[:, 3] - rois[:, 1]).clamp(min=1)
        columns, rows = widths.ceil(), heights.ceil()
        across, down = self._bicubic(columns, maps), self._bicubic(rows, maps)
        scaled = down[:, None] @ maps @ across[:, None].transpose(2, 3)
        inside = self._within(rows, down)[:, :, None] & self._within(columns, across)[:, None]
        scaled = torch.where(inside[:, None], scaled, -math.inf)
        flat = scaled.flatten(2)
        scores, place = flat.max(dim=2)
        total = across.shape[1]
        x = ((place % total).to(maps.dtype) + 0.5) * (widths / columns)[:, None] + rois[:, 0:1]
        y = (torch.div(place, total, rounding_mode="floor").to(maps.dtype) + 0.5) * (heights / rows)[:, None]
        return torch.stack([x, y + rois[:, 1:2], torch.ones_like(x)], dim=2), scores

    def _within(self, sizes: Any, line: Any) -> Any:
        return self.torch.arange(line.shape[1], device=line.device) < sizes[:, None]

    def _bicubic(self, sizes: Any, maps: Any) -> Any:
        """[N, S, M]: what each of M samples gives to each pixel of a line of sizes[n] pixels, S the largest size: Keys'
        cubic convolution with a = -0.75, samples beyond the border are those of the border."""
        torch, count = self.torch, maps.shape[-1]
        largest = torch.cat([sizes, sizes.new_ones(1)]).max().to(torch.int64).item()
        torch._check(largest >= 1)
        pixel = torch.arange(largest, device=maps.device).to(maps.dtype)
        place = (pixel + 0.5) * (count / sizes)[:, None] - 0.5
        base = place.floor()
        weights = 0
        for tap in (-1, 0, 1, 2):
            sample = (base + tap).clamp(min=0, max=count - 1)
            hit = sample[:, :, None] == torch.arange(count, device=maps.device)
            weights = weights + hit * _keys((place - base - tap).abs())[:, :, None]
        return weights


def _keys(x: Any) -> Any:
    """Keys' kernel for 0 <= x <= 2, a = -0.75: ((a + 2)x - (a + 3))x² + 1 up to 1, then ((ax - 5a)x + 8a)x - 4a."""
    a = -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return near.where(x <= 1, far)
