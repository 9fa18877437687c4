"""`python:MODULE:CALLABLE`: the user's own code, called, and what it returns, captured. It returns

    module                        a torch.nn.Module; `--input` (or `inputs=`) says the shapes of its example inputs
    (module, arguments)           with example arguments; sizes that `--input` or `--dynamic` names become symbolic
    (module, arguments, kwargs)

A size with a name gets a stand-in while the module is traced: 2 for the first axis, 64 for any other. A module that
needs another size returns its own example arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isomorph.converters.convert import Inputs
from isomorph.converters.torch.architecture import Architecture, join
from isomorph.converters.torch.reference import (
    argument_names,
    example_inputs,
    import_callable,
    module_and_arguments,
    users_code,
)
from isomorph.errors import UsageError
from isomorph.inputs import Dynamic
from isomorph.ir import DimRange, Model, Sym

__all__ = ["call", "capture_joined", "capture_reference"]


def call(reference: str) -> tuple[Any, tuple[Any, ...] | None, dict[str, Any]]:
    """Import MODULE, call CALLABLE: (module, arguments or None, keyword arguments).

    Raises UsageError if there is no such thing or it returns no module, MissingExtraError without torch.
    """
    target = import_callable(reference)
    torch = importlib.import_module("torch")
    with users_code(reference):
        made = target if isinstance(target, torch.nn.Module) else target()
    return module_and_arguments(reference, made)


def capture_reference(reference: str, inputs: Inputs | None = None, dynamic: Dynamic | None = None) -> Model:
    """Call the code and capture what it returns. Raises UsageError, UnsupportedError."""
    return _capture(reference, *call(reference), inputs=inputs, dynamic=dynamic)


def capture_joined(
    architecture: Architecture,
    weights: Path,
    *,
    prefix: str | None = None,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
) -> tuple[Model, str]:
    """(model, what became of the weights): the module that the user's code makes, with a checkpoint's weights."""
    joined = join(architecture, weights, prefix=prefix)
    made = (joined.module, joined.arguments, dict(joined.keywords))
    return _capture(architecture.reference, *made, inputs=inputs, dynamic=dynamic), joined.note


def _capture(
    reference: str,
    module: Any,
    arguments: tuple[Any, ...] | None,
    keywords: dict[str, Any],
    *,
    inputs: Inputs | None,
    dynamic: Dynamic | None,
) -> Model:
    from isomorph.converters.torch.capture import capture  # late: what the user mistyped is said before torch is used

    names = argument_names(module)
    if unknown := (set(inputs or {}) | set(dynamic or {})) - set(names):
        raise UsageError(
            f"the module takes no input {sorted(unknown)[0]!r}", because=f"its forward takes {', '.join(names)}"
        )
    if arguments is None:
        arguments, keywords = example_inputs(reference, names, inputs)
    axes = _named_axes(inputs, dynamic)
    return capture(
        module,
        arguments,
        keywords,
        dynamic_shapes=_dynamic_shapes([*names[: len(arguments)], *keywords], axes, _ranges(dynamic)),
        name=reference.rpartition(":")[2],
    )


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
