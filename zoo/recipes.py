"""Known inputs as recipes: deterministic steps, written in the manifest, that compute an array.

A recipe is a list of steps; the first makes an array, the others transform it. All arithmetic is NumPy's in float64, so
that the same recipe gives the same input on every machine; the caller casts to the input's own element type at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from isomorph.errors import MissingExtraError, UsageError
from isomorph.zoo.tables import Table

__all__ = ["FOLDER", "STEPS", "Array", "Recipe", "Step", "evaluate", "read_recipe", "recorded"]

Array = np.ndarray[Any, Any]

FOLDER = Path(__file__).resolve().parent
"""The zoo's own folder: embedded files are named relative to it."""


class Step(Protocol):
    """One step; `array` is what the step before it made (None for the first)."""

    def __call__(self, array: Array | None, /) -> Array: ...


Recipe = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Sine:
    """y[n] = amplitude * sin(2 pi frequency n / rate), shape (length,); frequency and rate in Hz."""

    amplitude: float
    frequency: float
    rate: float
    length: int

    @classmethod
    def read(cls, table: Table) -> Sine:
        return cls(table.number("amplitude"), table.number("frequency"), table.number("rate"), table.integer("length"))

    def __call__(self, array: Array | None) -> Array:
        return np.asarray(self.amplitude * np.sin(2 * np.pi * self.frequency * np.arange(self.length) / self.rate))


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph that scikit-image ships: uint8 (H, W, 3), RGB. Raises MissingExtraError without scikit-image."""

    name: str

    @classmethod
    def read(cls, table: Table) -> Photograph:
        return cls(table.choice("name", {name: name for name in ("astronaut", "chelsea", "coffee", "rocket")}))

    def __call__(self, array: Array | None) -> Array:
        try:
            import skimage.data
        except ImportError:
            purpose = f"the known answer on the photograph {self.name!r}"
            raise MissingExtraError("scikit-image", "test", purpose=purpose) from None
        return np.asarray(getattr(skimage.data, self.name)())


@dataclass(frozen=True, slots=True)
class Recorded:
    """The array `key` of an embedded .npz file."""

    file: str
    key: str

    @classmethod
    def read(cls, table: Table) -> Recorded:
        return cls(table.text("file"), table.text("key"))

    def __call__(self, array: Array | None = None) -> Array:
        return recorded(self.file, self.key)


@dataclass(frozen=True, slots=True)
class Values:
    """These numbers: float64 (length,)."""

    values: tuple[float, ...]

    @classmethod
    def read(cls, table: Table) -> Values:
        return cls(table.numbers("values"))

    def __call__(self, array: Array | None) -> Array:
        return np.array(self.values)


@dataclass(frozen=True, slots=True)
class Text:
    """The UTF-8 bytes of a text: uint8 (length,)."""

    content: str

    @classmethod
    def read(cls, table: Table) -> Text:
        return cls(table.text("content"))

    def __call__(self, array: Array | None) -> Array:
        return np.frombuffer(self.content.encode(), np.uint8)


@dataclass(frozen=True, slots=True)
class Ends:
    """The first and the last `count` bytes of a text, one token a byte: int64 (2 * count,).

    As magika 1.0 takes features: of the first `block` bytes white space is stripped on the left, of the last `block`
    bytes on the right; a short text is padded with `padding`, after the first and before the last bytes.
    Source: magika.py `_extract_features_from_seekable` and the model's config.min.json.
    """

    count: int
    block: int
    padding: int

    @classmethod
    def read(cls, table: Table) -> Ends:
        return cls(table.integer("count"), table.integer("block"), table.integer("padding"))

    def __call__(self, array: Array | None) -> Array:
        text = _given(array, self).astype(np.uint8).tobytes()
        first, last = text[: self.block].lstrip()[: self.count], text[-self.block :].rstrip()[-self.count :]
        tokens = np.full(2 * self.count, self.padding, np.int64)
        tokens[: len(first)] = list(first)
        tokens[2 * self.count - len(last) :] = list(last)
        return tokens


@dataclass(frozen=True, slots=True)
class Crop:
    """Rows top .. top + height - 1 and columns left .. left + width - 1 of an image (H, W, ...)."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def read(cls, table: Table) -> Crop:
        return cls(table.integer("top"), table.integer("left"), table.integer("height"), table.integer("width"))

    def __call__(self, array: Array | None) -> Array:
        return _given(array, self)[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Shrink:
    """The mean of blocks of factor x factor pixels: (H, W, ...) -> (H / factor, W / factor, ...), float64."""

    factor: int

    @classmethod
    def read(cls, table: Table) -> Shrink:
        return cls(table.integer("factor"))

    def __call__(self, array: Array | None) -> Array:
        image = _given(array, self)
        height, width, *rest = image.shape
        blocks = (height // self.factor, self.factor, width // self.factor, self.factor)
        return np.asarray(image.reshape(*blocks, *rest).mean((1, 3), dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Grey:
    """Luma 0.299 R + 0.587 G + 0.114 B of the last axis (ITU-R BT.601), float64; that axis goes away."""

    @classmethod
    def read(cls, table: Table) -> Grey:
        return cls()

    def __call__(self, array: Array | None) -> Array:
        image = _given(array, self).astype(np.float64)
        return np.asarray(0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2])


@dataclass(frozen=True, slots=True)
class Normalize:
    """(x - mean) / deviation, float64."""

    mean: float
    deviation: float

    @classmethod
    def read(cls, table: Table) -> Normalize:
        return cls(table.number("mean"), table.number("deviation"))

    def __call__(self, array: Array | None) -> Array:
        return (_given(array, self).astype(np.float64) - self.mean) / self.deviation


@dataclass(frozen=True, slots=True)
class Transpose:
    """y = numpy.transpose(x, axes)."""

    axes: tuple[int, ...]

    @classmethod
    def read(cls, table: Table) -> Transpose:
        return cls(table.integers("axes"))

    def __call__(self, array: Array | None) -> Array:
        return np.transpose(_given(array, self), self.axes)


@dataclass(frozen=True, slots=True)
class Expand:
    """New axes of size 1 at these places of the result, as numpy.expand_dims."""

    axes: tuple[int, ...]

    @classmethod
    def read(cls, table: Table) -> Expand:
        return cls(table.integers("axes"))

    def __call__(self, array: Array | None) -> Array:
        return np.expand_dims(_given(array, self), self.axes)


@dataclass(frozen=True, slots=True)
class Take:
    """The slice at `index` of `axis`; that axis goes away."""

    axis: int
    index: int

    @classmethod
    def read(cls, table: Table) -> Take:
        return cls(table.integer("axis"), table.integer("index"))

    def __call__(self, array: Array | None) -> Array:
        return np.asarray(np.take(_given(array, self), self.index, self.axis))


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over `axes` in float64; they go away."""

    axes: tuple[int, ...]

    @classmethod
    def read(cls, table: Table) -> Mean:
        return cls(table.integers("axes"))

    def __call__(self, array: Array | None) -> Array:
        return np.asarray(np.mean(_given(array, self), self.axes, dtype=np.float64))


STEPS: Mapping[str, Any] = MappingProxyType(
    {
        "sine": Sine,
        "photograph": Photograph,
        "recorded": Recorded,
        "values": Values,
        "text": Text,
        "ends": Ends,
        "crop": Crop,
        "shrink": Shrink,
        "grey": Grey,
        "normalize": Normalize,
        "transpose": Transpose,
        "expand": Expand,
        "take": Take,
        "mean": Mean,
    }
)
"""Every step by the name that the manifest calls it."""


def read_recipe(tables: list[Table]) -> Recipe:
    """The steps that these tables describe; each has the key `step` and the step's own fields."""
    steps = []
    for table in tables:
        kind = table.choice("step", STEPS)
        steps.append(kind.read(table))
        table.finish()
    return tuple(steps)


def evaluate(recipe: Recipe, array: Array | None = None) -> Array:
    """Apply the steps in order, to nothing or to `array`."""
    for step in recipe:
        array = step(array)
    if array is None:
        raise UsageError("a recipe without steps makes no array")
    return array


def recorded(file: str, key: str) -> Array:
    """The array `key` of an embedded .npz file, which holds plain arrays only."""
    with np.load(FOLDER / file) as arrays:
        return np.asarray(arrays[key])


def _given(array: Array | None, step: object) -> Array:
    if array is None:
        raise UsageError(f"the step `{type(step).__name__.lower()}` cannot be the first of a recipe")
    return array
