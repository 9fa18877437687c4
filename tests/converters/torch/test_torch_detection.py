"""torchvision's detectors: what stands in for functions that torch.export refuses is equal to them, and whole detectors
give torchvision's detections."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch", "torchvision")


@pytest.fixture
def both() -> Callable[..., None]:
    """Run a function of torchvision's, by "module:name", and what stands in for it; their results must be close."""
    import torch

    from isomorph.converters.torch.detection import exportable

    def run(place: str, *args: Any, tolerance: float = 1e-5) -> None:
        from importlib import import_module

        module, _, path = place.partition(":")
        found = []
        for stand_in in (False, True):
            held = import_module(f"torchvision.{module}")
            context = exportable(torch) if stand_in else torch.no_grad()
            with torch.no_grad(), context:
                function = held
                for name in path.split("."):
                    function = getattr(function, name)
                found.append(function(*args))
        torch.testing.assert_close(found[1], found[0], rtol=tolerance, atol=tolerance)

    return run


def boxes_of(count: int, *, seed: int = 0, size: float = 200.0) -> Any:
    """[count, 4] boxes, some beyond the image, some smaller than a pixel."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size * 1.2 - size * 0.1
    extent = torch.rand(count, 2, generator=generator) ** 3 * size / 2
    return torch.cat([corner, corner + extent], dim=1)


@pytest.mark.parametrize("count", [0, 1, 40, 1500])
def test_batched_nms(both: Callable[..., None], count: int) -> None:
    import torch

    torch.manual_seed(count)
    boxes = boxes_of(count).clamp(min=0)
    both("ops.boxes:batched_nms", boxes, torch.rand(count), torch.randint(0, 5, (count,)), 0.5)


@pytest.mark.parametrize("count", [0, 30])
@pytest.mark.parametrize("levels", [1, 3])
def test_multiscale_roi_align(both: Callable[..., None], count: int, levels: int) -> None:
    import torch
    from torchvision.ops.poolers import LevelMapper

    features = [torch.randn(1, 4, 64 >> level, 48 >> level) for level in range(levels)]
    scales = [0.25 / 2**level for level in range(levels)]
    mapper = LevelMapper(2, 2 + levels - 1, canonical_scale=64, canonical_level=3)
    both("ops.poolers:_multiscale_roi_align", features, [boxes_of(count)], (7, 7), 2, scales, mapper)


def test_infer_scale(both: Callable[..., None]) -> None:
    import torch

    for size in (25, 50, 13, 200):
        both("ops.poolers:_infer_scale", torch.zeros(1, 1, size, size), (800, 790))


@pytest.mark.parametrize("shape", [(64, 96), (65, 97), (1, 1)])
def test_batch_images(both: Callable[..., None], shape: tuple[int, int]) -> None:
    import torch
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(64, 96, [0.0] * 3, [1.0] * 3)
    images = [torch.rand(3, *shape), torch.rand(3, 40, 33)]
    both("models.detection.transform:GeneralizedRCNNTransform.batch_images", transform, images)


@pytest.mark.parametrize("count", [0, 25])
def test_paste_masks(both: Callable[..., None], count: int) -> None:
    import torch

    torch.manual_seed(count)
    boxes = boxes_of(count).clamp(min=0, max=150)  # within the image, as the detector clips them
    both("models.detection.roi_heads:paste_masks_in_image", torch.rand(count, 1, 28, 28), boxes, (150, 180))


def test_heatmaps_to_keypoints(both: Callable[..., None]) -> None:
    import torch

    torch.manual_seed(0)
    both("models.detection.roi_heads:heatmaps_to_keypoints", torch.randn(20, 17, 56, 56), boxes_of(20), tolerance=1e-4)


def test_nothing_stays_changed() -> None:
    import torch
    from torchvision.models.detection import roi_heads
    from torchvision.ops import boxes, poolers

    from isomorph.converters.torch.detection import exportable

    before = (boxes.batched_nms, poolers._multiscale_roi_align, roi_heads.paste_masks_in_image)
    with pytest.raises(KeyError), exportable(torch):
        assert boxes.batched_nms is not before[0]
        raise KeyError
    assert before == (boxes.batched_nms, poolers._multiscale_roi_align, roi_heads.paste_masks_in_image)


DETECTORS = [
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "fasterrcnn_resnet50_fpn_v2",
            "maskrcnn_resnet50_fpn",
            "keypointrcnn_resnet50_fpn",
            "retinanet_resnet50_fpn",
            "fcos_resnet50_fpn",
            "ssdlite320_mobilenet_v3_large",
        )
    ),
]


@pytest.mark.parametrize("name", DETECTORS)
def test_detector(name: str, tmp_path: Path) -> None:
    """Captured as a user has it, on one image; other images give torchvision's detections in onnxruntime."""
    from isomorph.converters.convert import convert
    from isomorph.converters.torch.capture import capture

    module, image = _detector(name)
    convert(capture(module, (image,)), tmp_path / "model.onnx")
    _check(module, image.shape, tmp_path / "model.onnx")


@pytest.mark.parametrize("name", DETECTORS)
def test_scripted_detector(name: str, tmp_path: Path) -> None:
    """A TorchScript archive of a detector, which torch.export does not read: loops over the classes that are there."""
    import torch

    from isomorph.converters.convert import convert
    from isomorph.ir import DType

    module, image = _detector(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.script(module.detector).save(str(tmp_path / "model.pt"))
    shape = {"images_0": (tuple(image.shape), DType.FLOAT32)}
    convert(tmp_path / "model.pt", tmp_path / "model.onnx", inputs=shape)
    _check(module, image.shape, tmp_path / "model.onnx")


def _check(module: Any, shape: Sequence[int], path: Path) -> None:
    """Require that onnxruntime finds what the module finds, in three images."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name.removeprefix("output_1_0_") for each in session.get_outputs()]
    found = 0
    for seed in range(3):
        torch.manual_seed(seed)
        image = torch.rand(tuple(shape))
        with torch.no_grad():
            expected = module(image)
        given = dict(zip(names, session.run(None, {session.get_inputs()[0].name: image.numpy()}), strict=True))
        assert {key: tuple(value.shape) for key, value in expected.items()} == {k: v.shape for k, v in given.items()}
        found += len(given["boxes"])
        np.testing.assert_allclose(given["scores"], expected["scores"], atol=1e-3)
        if len(given["boxes"]):
            near = np.abs(given["boxes"] - expected["boxes"].numpy()).max(axis=1) < 0.1
            assert near.mean() > 0.9  # boxes of almost equal scores may change places
    assert found


def _detector(name: str) -> tuple[Any, Any]:
    """A detector on one image, with random weights and statistics of its own, and an image."""
    import torch
    from torchvision import models

    class OneImage(torch.nn.Module):
        def __init__(self, detector: Any) -> None:
            super().__init__()
            self.detector = detector

        def forward(self, image: Any) -> Any:
            (found,) = self.detector([image])
            return dict(found)

    torch.manual_seed(0)
    sizes: dict[str, Any] = {} if name.startswith("ssd") else {"min_size": 128, "max_size": 192}
    detector = models.get_model(name, weights=None, weights_backbone=None, **sizes)
    if hasattr(detector, "score_thresh"):
        detector.score_thresh = 0.0
    if hasattr(detector, "roi_heads"):
        detector.roi_heads.score_thresh = 0.0
    image = torch.rand(3, 128, 160)
    with torch.no_grad():
        for part in detector.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None
        detector.train()
        for part in detector.modules():
            part.training = isinstance(part, torch.nn.BatchNorm2d)
        detector([image, torch.rand(3, 128, 160)])
    return OneImage(detector.eval()).eval(), image
