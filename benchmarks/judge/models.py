"""The models that the judge is tried on: the files a user would have, and what isomorph makes of them.

    networks      networks.py, and small members of torchvision, timm and transformers; weights and statistics made so
                  that faults show (models/entry.py)
    quantized     a convolutional network of ours by onnxruntime's static quantization, QDQ
    packaged      models of isomorph's zoo with their trained weights
    keras         two networks saved by Keras, which runs in a process of its own

`make(name, folder)` writes the source and its conversion, once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from models.entry import CALIBRATION, Example, batched, calibrate

from isomorph.converters.convert import convert
from isomorph.converters.formats import identify
from isomorph.validators import ModelFile
from judge import networks

__all__ = ["KINDS", "NETWORKS", "Pair", "make"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and its clean conversion to ONNX."""

    name: str
    kind: str
    source: ModelFile
    target: Path


def _tokens(module: torch.nn.Module, rows: int, *, recurrent: bool = False) -> Example:
    """A module that takes token ids (N, L), both sizes symbolic; L is 12 where torch.export unrolls over it."""
    ids = torch.randint(0, rows, (CALIBRATION, 12))
    calibrate(module, ids)
    sizes = {0: torch.export.Dim("N", max=64), 1: torch.export.Dim("L", min=2, max=64)}
    return Example(module, (ids[:2],), {}, ({0: sizes[0]} if recurrent else sizes,))


def _speaker() -> Example:
    module, batch = networks.Speaker(), torch.export.Dim("N", max=64)
    calibrate(module, torch.randn(4, 9, 10), torch.randn(1, 4, 12))
    return Example(module, (torch.randn(2, 9, 10), torch.randn(1, 2, 12)), {}, ({0: batch}, {1: batch}))


def _arithmetic() -> Example:
    batch = torch.export.Dim("N", max=64)
    return Example(
        networks.Arithmetic(), (torch.randn(2, 8, 6), torch.randint(0, 2, (2, 9))), {}, ({0: batch}, {0: batch})
    )


def _stateful() -> Example:
    return Example(networks.Stateful().eval(), (torch.randn(1, 5),))


def _volume_image(module: Callable[[], torch.nn.Module], *shape: int) -> Example:
    return batched(module(), shape, symbolic=True)


def _torchvision(name: str, size: int) -> Example:
    from torchvision import models

    return batched(models.get_model(name, weights=None), (3, size, size), symbolic=True)


class _Masks(torch.nn.Module):
    """A segmentation network without the dictionary around its answer."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x)["out"]


def _segmentation() -> Example:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return batched(_Masks(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)), (3, 64, 64), symbolic=True)


def _timm(name: str, size: int) -> Example:
    import timm

    return batched(timm.create_model(name, pretrained=False), (3, size, size), symbolic=True)


def _transformers(name: str, *, symbolic: bool = True) -> Example:
    from models.transformers import ENTRIES

    return next(entry for entry in ENTRIES if entry.name == f"transformers/{name}").make(symbolic)


NETWORKS: dict[str, tuple[str, Callable[[], Example]]] = {
    "lstm-tagger": ("recurrent", lambda: _tokens(networks.Recurrent(), 50, recurrent=True)),
    "gru-speaker": ("recurrent", _speaker),
    "wave-classifier": ("audio", partial(_volume_image, networks.Audio, 1, 400)),
    "unet": ("segmentation", partial(_volume_image, networks.Unet, 3, 24, 20)),
    "anchor-detector": ("detection", partial(_volume_image, networks.Detector, 3, 32, 32)),
    "arithmetic": ("arithmetic", _arithmetic),
    "graph-network": ("graph", partial(_volume_image, networks.Graph, 12, 6)),
    "exponential-mean": ("stateful", _stateful),
    "volume-classifier": ("volumes", partial(_volume_image, networks.Volume, 2, 6, 8, 7)),
    "shifted-windows": ("vision", partial(_volume_image, networks.Windowed, 8, 8, 6)),
    "rotary-decoder": ("language", lambda: _tokens(networks.Decoder(), 40)),
    "test-resnet": ("vision", partial(_timm, "test_resnet", 64)),
    "test-efficientnet": ("vision", partial(_timm, "test_efficientnet", 64)),
    "test-vit": ("vision", partial(_timm, "test_vit", 160)),
    "test-convnext": ("vision", partial(_timm, "test_convnext", 64)),
    "mobilenet-v3-small": ("vision", partial(_torchvision, "mobilenet_v3_small", 64)),
    "squeezenet1-1": ("vision", partial(_torchvision, "squeezenet1_1", 79)),
    "shufflenet-v2": ("vision", partial(_torchvision, "shufflenet_v2_x0_5", 64)),
    "lraspp": ("segmentation", _segmentation),
    "bert": ("language", partial(_transformers, "bert")),
    "gpt2": ("language", partial(_transformers, "gpt2")),
    "llama": ("language", partial(_transformers, "llama")),
    "t5": ("language", partial(_transformers, "t5")),
    "mamba": ("language", partial(_transformers, "mamba", symbolic=False)),
    "wav2vec2": ("audio", partial(_transformers, "wav2vec2")),
    "segformer": ("segmentation", partial(_transformers, "segformer")),
}
_PACKAGED = {"basic-pitch": "audio", "mtcnn-onet": "detection", "attacut-c": "language", "magika": "bytes"}
_KERAS = {"keras-lstm": "recurrent", "keras-separable": "vision"}
KINDS: dict[str, str] = (
    {name: kind for name, (kind, _) in NETWORKS.items()} | {"quantized-cnn": "quantized"} | _PACKAGED | _KERAS
)


def make(name: str, folder: Path) -> Pair:
    """The pair of this name, from `folder` where it was made before."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(sorted(KINDS).index(name))
    if name in _PACKAGED:
        from isomorph.zoo import resolve

        source = Path(resolve(f"zoo:{name}"))
    elif name in _KERAS:
        source = folder / f"{name}.keras"
        if not source.exists():
            subprocess.run(
                [sys.executable, str(Path(__file__).with_name("keras_networks.py")), str(folder)], check=True
            )
    elif name == "quantized-cnn":
        source = _quantized(folder)
    else:
        source = _saved(NETWORKS[name][1], folder / f"{name}.pt2")
    target = folder / f"{name}.clean.onnx"
    if not target.exists():
        convert(source, target)
    return Pair(name, KINDS[name], ModelFile(source, identify(source).name), target)


def _saved(build: Callable[[], Example], path: Path) -> Path:
    if not path.exists():
        made = build()
        with torch.no_grad():
            program = torch.export.export(
                made.module.eval(), made.args, dict(made.kwargs), dynamic_shapes=made.dynamic, strict=False
            )
        torch.export.save(program, path)
    return path


def _quantized(folder: Path) -> Path:
    """A residual network (tests/faults.py) after onnxruntime's static quantization."""
    path = folder / "quantized-cnn.source.onnx"
    if path.exists():
        return path
    import numpy as np
    import onnx
    from onnxruntime import quantization

    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
    import faults

    plain = folder / "quantized-cnn.plain.onnx"
    onnx.save(faults.build(), str(plain))
    rng = np.random.default_rng(0)
    samples = iter([{"x": rng.standard_normal((4, 3, 17, 15)).astype(np.float32)} for _ in range(8)])

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(samples, None)

    quantization.quantize_static(str(plain), str(path), Samples(), per_channel=True)
    return path
