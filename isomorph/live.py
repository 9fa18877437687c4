"""`python:MODULE:CALLABLE`: the user's own code, called, and what it returns, captured. It returns

    module                        a torch.nn.Module; `--input` (or `inputs=`) says the shapes of its example inputs
    (module, arguments)           with example arguments; sizes that `--input` or `--dynamic` names become symbolic
    (module, arguments, kwargs)

A size with a name gets a stand-in while the module is traced: 2 for the first axis, 64 for any other. A module that
needs another size returns its own example arguments.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isomorph.converters.convert import Inputs
from isomorph.errors import IsomorphError, MissingExtraError, UsageError
from isomorph.inputs import Dynamic
from isomorph.ir import DimRange, DType, Model, Sym

__all__ = ["call", "capture_reference"]

_STAND_IN_FIRST, _STAND_IN = 2, 64


def call(reference: str) -> tuple[Any, tuple[Any, ...] | None, dict[str, Any]]:
    """Import MODULE, call CALLABLE: (module, arguments or None, keyword arguments).

    Raises UsageError if there is no such thing or it returns no module, MissingExtraError without torch.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", purpose="capturing a live module")
    name, _, attribute = reference.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _users_code(reference):
        try:
            target: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            advice = "run in its folder, or add that to PYTHONPATH"
            raise UsageError(f"there is no Python module {name!r}", advice=advice) from None
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise UsageError(f"{name} has no {attribute!r}", advice=_public(target))
        target = getattr(target, part)
    return _unpack(reference, target)


@contextmanager
def _users_code(reference: str) -> Iterator[None]:
    """What the user's code raises is the user's: a UsageError that names the error and its innermost line."""
    try:
        yield
    except IsomorphError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"python:{reference} raised {type(error).__name__}: {error}",
            at=f"{frame.filename}:{frame.lineno}" + (f"  `{frame.line}`" if frame.line else ""),
            advice="ISOMORPH_TRACEBACK=1 prints the whole traceback",
        ) from error


def _public(target: Any) -> str | None:
    names = [name for name, value in vars(target).items() if inspect.isfunction(value) and not name.startswith("_")]
    return f"it has {', '.join(names[:6])}" if names else None


def _unpack(reference: str, target: Any) -> tuple[Any, tuple[Any, ...] | None, dict[str, Any]]:
    torch = importlib.import_module("torch")
    with _users_code(reference):
        made = target if isinstance(target, torch.nn.Module) else target()
    module, arguments, keywords = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"python:{reference} returned {type(module).__name__}, not a torch.nn.Module",
            advice="return module, or (module, example_arguments)",
        )
    if arguments is not None and not isinstance(arguments, tuple | list):
        arguments = (arguments,)
    return module, None if arguments is None else tuple(arguments), dict(keywords or {})


def capture_reference(reference: str, inputs: Inputs | None = None, dynamic: Dynamic | None = None) -> Model:
    """Call the code and capture what it returns. Raises UsageError, UnsupportedError."""
    module, arguments, keywords = call(reference)  # first, so that what the user mistyped is said before torch is used
    from isomorph.converters.torch.capture import capture

    names = _argument_names(module)
    if unknown := (set(inputs or {}) | set(dynamic or {})) - set(names):
        raise UsageError(
            f"the module takes no input {sorted(unknown)[0]!r}", because=f"its forward takes {', '.join(names)}"
        )
    if arguments is None:
        arguments, keywords = _examples(reference, names, inputs)
    axes = _named_axes(inputs, dynamic)
    return capture(
        module,
        arguments,
        keywords,
        dynamic_shapes=_dynamic_shapes([*names[: len(arguments)], *keywords], axes, _ranges(dynamic)),
        name=reference.rpartition(":")[2],
    )


def _argument_names(module: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in inspect.signature(module.forward).parameters.items() if parameter.kind in kinds]


def _examples(reference: str, names: list[str], inputs: Inputs | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs of the shapes given, all by position as far as there is no gap: zeros for integers, else noise."""
    if not inputs:
        first = names[0] if names else "x"
        raise UsageError(
            f"python:{reference} returns no example arguments, and no shape is given",
            advice=f"pass --input {first}=N,3,224,224, or return (module, example_arguments)",
        )
    positional = [
        name for at, name in enumerate(names) if name in inputs and all(before in inputs for before in names[:at])
    ]
    tensors = {name: _example(*inputs[name]) for name in names if name in inputs}
    return tuple(tensors[name] for name in positional), {
        name: tensors[name] for name in tensors if name not in positional
    }


def _example(shape: tuple[Any, ...], dtype: DType | None) -> Any:
    torch = importlib.import_module("torch")
    sizes = [_stand_in(dim, axis) for axis, dim in enumerate(shape)]
    kind = dtype or DType.FLOAT32
    element = getattr(torch, kind.value)
    if not kind.is_float:
        return torch.zeros(sizes, dtype=element)
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(element)


def _stand_in(dim: Any, axis: int) -> int:
    return (_STAND_IN_FIRST if axis == 0 else _STAND_IN) if isinstance(dim, Sym) else int(dim)


def _named_axes(inputs: Inputs | None, dynamic: Dynamic | None) -> dict[str, dict[int, Sym]]:
    """{input: {axis: size}} of the sizes that `--input` and `--dynamic` name."""
    axes: dict[str, dict[int, Sym]] = {}
    for name, (shape, _) in (inputs or {}).items():
        axes[name] = {axis: dim for axis, dim in enumerate(shape) if isinstance(dim, Sym)}
    for name, entries in (dynamic or {}).items():
        axes.setdefault(name, {}).update((axis, dim) for axis, (dim, _) in entries.items())
    return axes


def _ranges(dynamic: Dynamic | None) -> dict[str, DimRange]:
    """The ranges that `--dynamic` states, by the name of the size."""
    ranges: dict[str, DimRange] = {}
    for entries in (dynamic or {}).values():
        for dim, span in entries.values():
            if span is None:
                continue
            if dim.name is None:
                raise UsageError(f"the size {dim} cannot have a range", advice="state the range of the name itself")
            ranges[dim.name] = span
    return ranges


def _dynamic_shapes(
    names: list[str], axes: Mapping[str, Mapping[int, Sym]], ranges: Mapping[str, DimRange]
) -> dict[str, dict[int, Any] | None] | None:
    """`dynamic_shapes` of torch.export, `{"x": {0: Dim("N")}}`; None if every size is a number."""
    dims: dict[str, Any] = {}
    shapes = {
        name: {axis: _torch_dim(dim, dims, ranges) for axis, dim in axes.get(name, {}).items()} or None
        for name in names
    }
    return shapes if any(shapes.values()) else None


def _torch_dim(dim: Sym, dims: dict[str, Any], ranges: Mapping[str, DimRange]) -> Any:
    """A named size as torch.export.Dim (one for each name), `2*N + 1` as one derived from it."""
    torch = importlib.import_module("torch")
    line = dim.line
    if line is None:
        raise UsageError(
            f"the size {dim} cannot be told to torch.export", advice="use one named size, as N, 2*N or 2*N + 1"
        )
    name, factor, rest = line
    span = ranges.get(name, DimRange(1))
    made = dims.setdefault(name, torch.export.Dim(name, min=span.min, max=span.max))
    scaled = made if factor == 1 else factor * made
    return scaled + rest if rest else scaled
