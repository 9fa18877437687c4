"""A folder of images as inputs of a model: `--data FOLDER --images SPEC`. Every scaling is stated, none is guessed.

    --images range=0..1,mean=0.485/0.456/0.406,std=0.229/0.224/0.225,size=224x224

    range     LOW..HIGH: what the bytes 0 and 255 become; needed for float inputs (0..255: as they are)
    mean,std  numbers for each channel, or one for all: (pixel - mean) / std, after the range; default 0 and 1
    size      HEIGHTxWIDTH; needed where the model leaves it open. Images of another size are resized, bilinearly
    channels  rgb (default), bgr or grey
    layout    first or last: where the channels are; needed where the model's shape does not tell
    input     the name of the input; needed where the model has several
    count     how many images, in the order of their names; default 16

value = (LOW + byte / 255 * (HIGH - LOW) - mean) / std. PNG and JPEG through Pillow; nothing is turned as EXIF says, an
alpha channel is dropped, 16-bit images are refused.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.errors import MissingExtraError, UsageError
from isomorph.ir import DType
from isomorph.records import record
from isomorph.validators.runner import Signature, TensorSpec

__all__ = ["ImageFolder", "parse_images"]

_SUFFIXES = (".png", ".jpg", ".jpeg")
_MODES = {"rgb": "RGB", "bgr": "RGB", "grey": "L"}
_KNOWN = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_BATCH = 4
"""Images of one case where the model leaves the batch open."""


@record
class ImageFolder:
    """Images and how they become an input; `inputs` makes the cases once the model's signature is known."""

    folder: Path
    range: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None
    channels: str = "rgb"
    layout: str | None = None
    input: str | None = None
    count: int = 16
    notes: list[str] = field(default_factory=list)

    def inputs(self, signature: Signature) -> list[Mapping[str, np.ndarray]]:
        """Inputs by name, a batch of images each. Raises UsageError for what the options leave open."""
        spec = self._spec(signature)
        last = self._is_last(spec)
        sizes = spec.shape[1:] if len(spec.shape) == 4 else spec.shape
        height, width = sizes[:2] if last else sizes[1:]
        size = self._size(height, width)
        paths = sorted(path for path in self.folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not paths:
            raise UsageError(f"no PNG or JPEG images in {self.folder}")
        batch = 1 if len(spec.shape) == 3 else spec.shape[0] if isinstance(spec.shape[0], int) else _BATCH
        used = paths[: self.count // batch * batch] if isinstance(batch, int) else []
        used = used[: len(used) // batch * batch] if len(used) >= batch else paths[:batch]
        if len(used) < batch and isinstance(spec.shape[0], int):
            raise UsageError(f"{self.folder} has {len(paths)} images, the model takes {batch} at once")
        images = [self._read(path, size, spec, last) for path in used]
        starts = range(0, len(images), batch)
        self._state(used, paths, size, spec, last)
        if len(spec.shape) == 3:
            return [{spec.name: image} for image in images]
        return [{spec.name: np.stack(images[start : start + batch])} for start in starts]

    def _spec(self, signature: Signature) -> TensorSpec:
        specs = [s for s in signature.inputs if self.input in (None, s.name) and len(s.shape) in (3, 4)]
        if len(signature.inputs) != 1 or len(specs) != 1:
            names = ", ".join(spec.name for spec in signature.inputs)
            raise UsageError(
                "a folder of images feeds a model with one input of 3 or 4 axes",
                because=f"the model takes {names}",
                advice="pass the inputs as --data FILE.npz or --data MODULE:FUNCTION",
            )
        spec = specs[0]
        if DType.of(spec.dtype).is_float and self.range is None:
            advice = "for example --images range=0..1, or range=0..255 for bytes as they are"
            raise UsageError(f"--images must say the range of the pixels: `{spec.name}` is {spec.dtype}", advice=advice)
        if not DType.of(spec.dtype).is_float and spec.dtype != "uint8":
            raise UsageError(f"images cannot be fed to `{spec.name}` of type {spec.dtype}")
        return spec

    def _is_last(self, spec: TensorSpec) -> bool:
        if self.layout is not None:
            return self.layout == "last"
        count = 1 if self.channels == "grey" else 3
        first, last = spec.shape[-3] == count, spec.shape[-1] == count
        if first == last:
            shape = list(spec.shape)
            raise UsageError(f"--images must say layout=first or layout=last: `{spec.name}` has shape {shape}")
        return last

    def _size(self, height: int | str, width: int | str) -> tuple[int, int]:
        for have, due, axis in zip(self.size or (), (height, width), ("height", "width"), strict=False):
            if isinstance(due, int) and have != due:
                raise UsageError(f"--images size={self.size}: the model takes the {axis} {due}")
        if self.size is not None:
            return self.size
        if isinstance(height, int) and isinstance(width, int):
            return height, width
        raise UsageError("--images must say the size: the model leaves it open", advice="--images size=224x224")

    def _read(self, path: Path, size: tuple[int, int], spec: TensorSpec, last: bool) -> np.ndarray:
        image_module = _pillow()
        try:
            with image_module.open(path, formats=("PNG", "JPEG")) as image:
                if image.mode not in _KNOWN:
                    raise UsageError(f"{path.name} has pixels of the kind {image.mode}, not of 8 bits")
                pixels = image.convert(_MODES[self.channels])
                if pixels.size != size[::-1]:
                    pixels = pixels.resize(size[::-1], image_module.Resampling.BILINEAR)
        except (OSError, ValueError, image_module.DecompressionBombError) as error:
            raise UsageError(f"cannot read the image {path.name}", because=str(error)) from None
        array = np.asarray(pixels, np.uint8).reshape(*size, -1)
        array = array[..., ::-1] if self.channels == "bgr" else array
        if spec.dtype != "uint8":
            low, high = self.range or (0.0, 255.0)
            array = (low + array / 255.0 * (high - low) - np.array(self.mean)) / np.array(self.std)
        array = array if last else np.moveaxis(array, -1, 0)
        return np.ascontiguousarray(array, DType.of(spec.dtype).numpy)

    def _state(self, used: list[Path], paths: list[Path], size: tuple[int, int], spec: TensorSpec, last: bool) -> None:
        scaled = "bytes"
        if spec.dtype != "uint8" and self.range is not None:
            scaled = f"{self.range[0]:g}..{self.range[1]:g}, mean {self.mean}, std {self.std}"
        layout = "last" if last else "first"
        self.notes[:] = [
            f"data: {len(used)} of {len(paths)} images of {self.folder}, {size[0]}x{size[1]}, {self.channels}, "
            f"channels {layout}, {scaled}"
        ]


def parse_images(folder: Path, text: str) -> ImageFolder:
    """Read the value of `--images`. Raises UsageError that quotes what is wrong."""
    options: dict[str, Any] = {}
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = piece.partition("=")
        if not equals or key not in _PARSERS:
            raise UsageError(f"cannot read --images {piece!r}", because=f"known are {', '.join(_PARSERS)}")
        try:
            options[key] = _PARSERS[key](value)
        except (ValueError, TypeError):
            raise UsageError(f"cannot read --images {piece!r}", advice=_EXAMPLES.get(key)) from None
    return ImageFolder(folder, **options)


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise MissingExtraError("pillow", "all", purpose="reading images") from None


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(piece) for piece in text.split("/"))


def _nonzero(text: str) -> tuple[float, ...]:
    numbers = _numbers(text)
    if 0.0 in numbers:
        raise ValueError("a standard deviation of 0")
    return numbers


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("..")
    return float(low), float(high)


def _pixels(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ValueError(text)
    return int(match[1]), int(match[2])


def _one_of(*known: str) -> Any:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return read


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


_PARSERS: Mapping[str, Any] = {
    "range": _range,
    "mean": _numbers,
    "std": _nonzero,
    "size": _pixels,
    "channels": _one_of("rgb", "bgr", "grey"),
    "layout": _one_of("first", "last"),
    "input": str,
    "count": _positive,
}
_EXAMPLES = {
    "range": "range=0..1",
    "mean": "mean=0.485/0.456/0.406",
    "std": "std=0.229/0.224/0.225",
    "size": "size=224x224",
    "channels": "channels=rgb, bgr or grey",
    "layout": "layout=first or last",
    "count": "count=16",
}
