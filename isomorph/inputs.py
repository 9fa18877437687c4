"""What the user says of a model's inputs: their shapes (`NAME=SHAPE[:DTYPE]`) and real data for them (`--data`).

x=1,3,224,224           static
x=N,3,H,W:float16       N, H and W are symbolic sizes; the element type is given
x=N,2*S                 an expression over named sizes
mask=:bool              a scalar

and which of its sizes vary (`NAME=AXIS:SIZE[:MIN..MAX]`):

x=0:N                   axis 0 of x is N
x=0:N:1..64,2:2*S       N is at most 64; axis 2 is twice S
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from isomorph.converters.convert import Inputs
from isomorph.errors import IsomorphError, MalformedError, UsageError
from isomorph.ir import DimRange, DType, Shape, Sym
from isomorph.ir.shapes import Dim, parse_dim

if TYPE_CHECKING:
    from isomorph.images import ImageFolder

__all__ = [
    "DATA_CASES",
    "Data",
    "Dynamic",
    "InputShape",
    "open_data",
    "parse_dynamic",
    "parse_inputs",
    "read_data",
    "read_dynamic",
    "read_inputs",
    "spell_inputs",
]

Dynamic = Mapping[str, Mapping[int, tuple[Sym, DimRange | None]]]
"""{input: {axis: (size, its range where stated)}}"""

Data: TypeAlias = "Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]] | ImageFolder | None"
"""The user's own inputs: one set by name, several, or images that become inputs once the model's shapes are known."""

InputShape = str | Sequence[int | str]
"""`(1, 3, "H", "W")`, or the text of the command line: `"1,3,H,W:float32"`."""

_EXAMPLE = "write it as NAME=SHAPE[:DTYPE], for example x=N,3,224,224 or ids=1,128:int64"


def parse_inputs(texts: Iterable[str]) -> Inputs:
    """Read the values of `--input`. Raises UsageError that quotes what is wrong."""
    inputs: dict[str, tuple[Shape, DType | None]] = {}
    for text in texts:
        name, equals, rest = text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"cannot read --input {text!r}: the name is missing", advice=_EXAMPLE)
        if name in inputs:
            raise UsageError(f"--input {name} is given twice")
        inputs[name] = _parse_type(rest, f"--input {text!r}")
    return inputs


_DYNAMIC = "write it as NAME=AXIS:SIZE[:MIN..MAX], for example x=0:N or ids=0:N,1:S:2..512"


def parse_dynamic(texts: Iterable[str]) -> Dynamic:
    """Read the values of `--dynamic`. Raises UsageError that quotes what is wrong."""
    found: dict[str, dict[int, tuple[Sym, DimRange | None]]] = {}
    for text in texts:
        name, equals, rest = text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"cannot read --dynamic {text!r}: the name is missing", advice=_DYNAMIC)
        for piece in rest.split(","):
            axis, dim, span = _parse_axis(piece.strip(), text)
            if axis in found.setdefault(name, {}):
                raise UsageError(f"--dynamic names axis {axis} of {name} twice")
            found[name][axis] = dim, span
    return found


def read_dynamic(dynamic: Mapping[str, Mapping[int, str]] | None) -> Dynamic:
    """The same for the Python API: {"x": {0: "N", 2: "S:2..512"}}."""
    given = dynamic or {}
    return parse_dynamic(f"{name}={axis}:{size}" for name, axes in given.items() for axis, size in axes.items())


def _parse_axis(piece: str, text: str) -> tuple[int, Sym, DimRange | None]:
    match = re.fullmatch(r"(\d+):([^:]+)(?::(\d*)\.\.(\d*))?", piece)
    if match is None:
        raise UsageError(f"cannot read --dynamic {text!r}: {piece!r} names no axis and size", advice=_DYNAMIC)
    dim = _parse_dim(match[2], f"--dynamic {text!r}")
    if not isinstance(dim, Sym):
        raise UsageError(f"cannot read --dynamic {text!r}: {match[2]} does not vary", advice=_DYNAMIC)
    if match[3] is None:
        return int(match[1]), dim, None
    low, high = int(match[3] or 1), int(match[4]) if match[4] else None
    if high is not None and high < low:
        raise UsageError(f"cannot read --dynamic {text!r}: no size is from {low} to {high}", advice=_DYNAMIC)
    return int(match[1]), dim, DimRange(low, high)


def read_inputs(inputs: Mapping[str, InputShape] | None) -> Inputs | None:
    """The same for the Python API: names to shapes, as text or as sequences of sizes and names."""
    if inputs is None:
        return None
    return {name: _parse_type(_as_text(shape), f"the shape of input {name!r}") for name, shape in inputs.items()}


def spell_inputs(inputs: Mapping[str, InputShape] | None) -> list[str]:
    """The same as `--input` takes them."""
    return [f"{name}={_as_text(shape)}" for name, shape in (inputs or {}).items()]


def read_data(path: Path | None) -> dict[str, np.ndarray] | None:
    """The arrays of an .npz file by name; nothing in it is unpickled. Raises UsageError, MalformedError."""
    if path is None:
        return None
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    from zipfile import BadZipFile

    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise UsageError(f"one array without a name: {path}", advice="save with numpy.savez(path, NAME=array)")
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise MalformedError(f"cannot read the arrays of {path}", because=str(error)) from None


def open_data(text: str | None, images: str | None = None, *, notify: Callable[[str], None] | None = None) -> Data:
    """What `--data` names: an .npz file, a folder of images (with `--images`), or MODULE:FUNCTION of the user's.

    notify  told before the user's code is called
    Raises UsageError, MalformedError.
    """
    if text is None:
        if images is not None:
            raise UsageError("--images is for --data FOLDER, which is not given")
        return None
    path = Path(text)
    if path.is_dir():
        from isomorph.images import parse_images

        return parse_images(path, images or "")
    if images is not None:
        raise UsageError(f"--images is for a folder, and {text} is not one")
    reference = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text)
    if reference is None or path.exists():
        return read_data(path)
    if notify is not None:
        notify(text)
    return _called(text)


_DUE = 'return {"x": array, ...}, or several of them'
DATA_CASES = 16
"""How many sets of inputs are taken from the user's function."""


def _called(reference: str) -> list[Mapping[str, np.ndarray]]:
    """What the user's MODULE:FUNCTION returns: inputs by name, or an iterable of such."""
    from isomorph.converters.torch.reference import import_callable, users_code

    function = import_callable(reference)
    with users_code(reference):
        made = function()
        if not isinstance(made, Iterable):
            raise UsageError(f"`{reference}` gave {type(made).__name__} where inputs by name were due", advice=_DUE)
        found = [made] if isinstance(made, Mapping) else list(itertools.islice(iter(made), DATA_CASES))
    for each in found:
        if not isinstance(each, Mapping) or not all(isinstance(name, str) for name in each):
            kind = type(each).__name__
            raise UsageError(f"`{reference}` gave {kind} where inputs by name were due", advice=_DUE)
    if not found:
        raise UsageError(f"`{reference}` gave no inputs")
    return [{name: np.asarray(value) for name, value in each.items()} for each in found]


def _as_text(shape: InputShape) -> str:
    return shape if isinstance(shape, str) else ",".join(str(dim) for dim in shape)


def _parse_type(text: str, what: str) -> tuple[Shape, DType | None]:
    sizes, colon, dtype = text.partition(":")
    try:
        kind = DType.of(dtype.strip()) if colon else None
    except IsomorphError as error:
        raise UsageError(f"cannot read {what}: {error.what}", advice=error.advice) from None
    pieces = _split(sizes.strip())
    return tuple(_parse_dim(piece, what) for piece in pieces), kind


def _split(sizes: str) -> list[str]:
    """The sizes between commas that are outside of parentheses; a trailing comma is allowed, as in (N,)."""
    pieces = re.split(r",(?![^()]*\))", sizes.removeprefix("(").removesuffix(")") if sizes.startswith("(") else sizes)
    return pieces[:-1] if not pieces[-1].strip() else pieces


def _parse_dim(text: str, what: str) -> Dim:
    text = text.strip()
    if re.fullmatch(r"\?|-\d+|None", text):
        raise UsageError(
            f"cannot read {what}: {text!r} is not a size", advice="give a size that may vary a name, for example N"
        )
    if not text:
        raise UsageError(f"cannot read {what}: a size is missing", advice=_EXAMPLE)
    try:
        return parse_dim(text)
    except IsomorphError as error:
        raise UsageError(
            f"cannot read {what}: {text!r} is not a size", because=error.because, advice=_EXAMPLE
        ) from None
