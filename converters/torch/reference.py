"""The user's own code: MODULE:CALLABLE, imported, called, and given example inputs.

Only what the user names on the command line or in a call is imported here, never what a file names.
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

from isomorph.errors import IsomorphError, MissingExtraError, Terminated, UsageError
from isomorph.ir import DType, Shape, Sym

__all__ = ["argument_names", "example_inputs", "import_callable", "module_and_arguments", "users_code"]

_STAND_IN_FIRST, _STAND_IN = 2, 64


def import_callable(reference: str) -> Any:
    """What MODULE:NAME.NAME refers to; the working directory is searched first.

    Raises UsageError if there is no such thing, MissingExtraError without torch.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", purpose="capturing a live module")
    name, _, attribute = reference.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with users_code(reference):
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
    return target


@contextmanager
def users_code(reference: str) -> Iterator[None]:
    """What the user's code raises is the user's: a UsageError that names the error and its innermost line."""
    try:
        yield
    except (IsomorphError, Terminated):
        raise
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"python:{reference} raised {type(error).__name__}: {error}",
            at=f"{frame.filename}:{frame.lineno}" + (f"  `{frame.line}`" if frame.line else ""),
            advice="ISOMORPH_TRACEBACK=1 prints the whole traceback",
        ) from error


def _public(target: Any) -> str | None:
    names = [name for name, value in vars(target).items() if inspect.isfunction(value) and not name.startswith("_")]
    return f"it has {', '.join(names[:6])}" if names else None


def module_and_arguments(reference: str, made: Any) -> tuple[Any, tuple[Any, ...] | None, dict[str, Any]]:
    """(module, example arguments or None, keyword arguments) of what the user's code returned.

    It returns a torch.nn.Module, (module, arguments) or (module, arguments, keyword arguments). Raises UsageError.
    """
    torch = importlib.import_module("torch")
    module, arguments, keywords = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"python:{reference} returned {type(module).__name__}, not a torch.nn.Module",
            advice="return module, or (module, example_arguments)",
        )
    if arguments is not None and not isinstance(arguments, tuple | list):
        arguments = (arguments,)
    return module, None if arguments is None else tuple(arguments), dict(keywords or {})


def argument_names(module: Any) -> list[str]:
    """Names of what the module's `forward` takes."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in inspect.signature(module.forward).parameters.items() if parameter.kind in kinds]


def example_inputs(
    reference: str, names: list[str], inputs: Mapping[str, tuple[Shape, DType | None]] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs of the shapes given, all by position as far as there is no gap: zeros for integers, else noise.

    A named size gets a stand-in: 2 for the first axis, 64 for any other. Raises UsageError where no shape is given.
    """
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


def _example(shape: Shape, dtype: DType | None) -> Any:
    torch = importlib.import_module("torch")
    sizes = [_stand_in(dim, axis) for axis, dim in enumerate(shape)]
    kind = dtype or DType.FLOAT32
    element = getattr(torch, kind.value)
    if not kind.is_float:
        return torch.zeros(sizes, dtype=element)
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(element)


def _stand_in(dim: Any, axis: int) -> int:
    return (_STAND_IN_FIRST if axis == 0 else _STAND_IN) if isinstance(dim, Sym) else int(dim)
