"""All model builders of torchvision: random weights, small images (the architecture is what is tested)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torchvision import models

from models.entry import Entry, Example, batched, calibrate

__all__ = ["ENTRIES"]

SMALL, MEDIUM = 64, 128
"""Sizes of images; MEDIUM for what cannot be smaller."""
SIZES = {
    "inception_v3": MEDIUM,
    "quantized_inception_v3": MEDIUM,
    "googlenet": MEDIUM,
    "quantized_googlenet": MEDIUM,
    "alexnet": MEDIUM,
    "maxvit_t": 224,
}
AUXILIARY = ("inception_v3", "googlenet")


def _classifier(name: str, symbolic: bool) -> Example:
    base = name.removeprefix("quantized_")
    options: dict[str, Any] = {"weights": None}
    size = SIZES.get(name, SMALL)
    if base in AUXILIARY:
        options |= {"init_weights": False, "aux_logits": False}
    if base.startswith("vit_"):
        size = 56 if base == "vit_h_14" else SMALL
        options |= {"image_size": size}
    return batched(models.get_model(name, **options), (3, size, size), symbolic=symbolic)


class _OneImage(torch.nn.Module):
    """A detector on one image: lists of tensors and of dicts are the detector's own, names of results are kept."""

    def __init__(self, detector: torch.nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        (found,) = self.detector([image])
        return dict(found)


def _detector(name: str, symbolic: bool) -> Example:
    """One image of 192 x 256; the symbolic one has any height and width."""
    options: dict[str, Any] = {"weights": None, "weights_backbone": None}
    if not name.startswith("ssd"):
        options |= {"min_size": 192, "max_size": 288}
    if name.startswith("fcos"):
        options["score_thresh"] = 0.05  # its own, 0.2, keeps no box of an untrained head
    image = torch.rand(3, 192, 256)
    detector = models.get_model(name, **options).eval()
    calibrate(detector, [image])
    _decide(detector, image)
    height, width = torch.export.Dim("H", min=64, max=512), torch.export.Dim("W", min=64, max=512)
    return Example(_OneImage(detector).eval(), (image,), {}, ({1: height, 2: width},) if symbolic else None)


def _decide(detector: torch.nn.Module, image: torch.Tensor) -> None:
    """Heads that say something: their first weights, of a deviation of 0.01, call everything background. Each layer
    outside of the backbone gets results of mean 0 and deviation 1.5."""

    def scale(part: Any, _: Any, result: torch.Tensor) -> torch.Tensor:
        if part in done or result.numel() < 2:
            return result
        factor, mean = 1.5 / result.std(), result.mean()
        done.add(part)
        part.weight *= factor
        if part.bias is not None:
            part.bias.copy_((part.bias - mean) * factor)
            result = result - mean
        return result * factor

    done: set[Any] = set()
    parts = [part for name, part in detector.named_modules() if "backbone" not in name and hasattr(part, "weight")]
    hooks = [part.register_forward_hook(scale) for part in parts if not hasattr(part, "running_var")]
    with torch.no_grad():
        detector([image])
    for hook in hooks:
        hook.remove()


def _segmenter(name: str, symbolic: bool) -> Example:
    module = models.get_model(name, weights=None, weights_backbone=None)
    return batched(module, (3, SMALL, SMALL), symbolic=symbolic)


def _video(name: str, symbolic: bool) -> Example:
    options: dict[str, Any] = {"weights": None}
    shape = (3, 8, SMALL, SMALL)
    if name.startswith("mvit"):
        shape = (3, 16, 224, 224)
    if name == "s3d":
        shape = (3, 16, 193, 193)  # 7 x 7 cells, the kernel of its last pool
    return batched(models.get_model(name, **options), shape, symbolic=symbolic)


def _flow(name: str, symbolic: bool) -> Example:
    return batched(models.get_model(name, weights=None), (3, 128, 128), (3, 128, 128), symbolic=symbolic)


MAKERS = {
    "detection": _detector,
    "segmentation": _segmenter,
    "video": _video,
    "optical_flow": _flow,
    "quantization": _classifier,
}


def _entries() -> Iterator[Entry]:
    for name in models.list_models():
        kind = models.get_model_builder(name).__module__.removeprefix("torchvision.models.").split(".")[0]
        make = MAKERS.get(kind, _classifier)
        family = kind if kind in MAKERS else "classification"
        yield Entry(f"torchvision/{name}", f"torchvision {family}", partial(make, name), _millions(name))


def _millions(name: str) -> float:
    weights = list(models.get_model_weights(name))
    return float(weights[0].meta["num_params"]) / 1e6 if weights else 10.0


ENTRIES = tuple(_entries())
