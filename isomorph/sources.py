"""What a SOURCE is: a path, `zoo:NAME[.SUFFIX]`, or `python:MODULE:CALLABLE`.

The last one calls the user's own code, which returns

    module                        a torch.nn.Module; `--input` (or `inputs=`) says the shapes of its example inputs
    (module, arguments)           with example arguments; sizes that `--input` names become symbolic
    (module, arguments, kwargs)

A size with a name gets a stand-in while the module is traced: 2 for the first axis, 64 for any other. A module that
needs another size returns its own example arguments.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isomorph.converters.convert import Inputs, load
from isomorph.converters.formats import by_name, identify
from isomorph.errors import IsomorphError, MissingExtraError, UsageError
from isomorph.ir import DType, Model, Sym
from isomorph.runtimes import require_runtime
from isomorph.validators.runner import Capture, ModelFile, Subject

__all__ = ["PYTHON", "ZOO", "Source", "locate", "locate_file", "subject_of"]

ZOO = "zoo:"
PYTHON = "python:"
_STAND_IN_FIRST, _STAND_IN = 2, 64


@dataclass(frozen=True, slots=True)
class Source:
    """A located source: `path` of a file, or `reference` "MODULE:CALLABLE" of the user's code."""

    given: str
    path: Path | None = None
    reference: str = ""
    format: str | None = None

    def model(self, inputs: Inputs | None = None) -> Model:
        """Read the file, or call the code and capture what it returns."""
        if self.path is not None:
            return load(self.path, format=self.format, inputs=inputs)
        return _capture(self.reference, inputs)

    def subject(self) -> Subject:
        """The same for the judge. Raises MissingExtraError if what runs it is not installed."""
        if self.path is None:
            require_runtime(by_name("pt2"))
            return Capture(self.reference)
        kind = by_name(self.format) if self.format else identify(self.path)
        require_runtime(kind)
        return ModelFile(self.path, kind.name)


def locate(given: str | Path, *, format: str | None = None, progress: Callable[[str], None] | None = None) -> Source:
    """Find a source; a zoo model is pulled if it is not in the cache. Raises UsageError, IntegrityError."""
    text = str(given)
    if format is not None:
        by_name(format)
    if text.startswith(PYTHON):
        return Source(text, reference=_reference(text))
    if text.startswith(ZOO):
        from isomorph.zoo import resolve

        notify = None if progress is None else (lambda what: progress(f"fetching {what}"))
        return Source(text, path=resolve(text, notify=notify), format=format)
    path = Path(given)
    if not path.exists():
        _refuse_missing(path)
    return Source(text, path=path, format=format)


def locate_file(given: str | Path, *, format: str | None = None) -> Source:
    """The same for what must be a file. Raises UsageError for `python:`."""
    source = locate(given, format=format)
    if source.path is None:
        raise UsageError(f"a file is needed here, not {given}")
    return source


def subject_of(given: str | Path, *, format: str | None = None) -> Subject:
    """What the judge is to run."""
    return locate(given, format=format).subject()


def _reference(text: str) -> str:
    reference = text.removeprefix(PYTHON)
    module, _, name = reference.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"cannot read {text!r}", advice="write python:MODULE:CALLABLE, for example python:nets:make_model"
        )
    return reference


def _refuse_missing(path: Path) -> None:
    from isomorph.zoo import entries

    if any(path.name in (entry.name, *(f"{entry.name}.{file.suffix}" for file in entry.files)) for entry in entries()):
        raise UsageError(f"no such file: {path}", advice=f"did you mean {ZOO}{path.name}?")
    identify(path)


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


def _capture(reference: str, inputs: Inputs | None) -> Model:
    module, arguments, keywords = call(reference)  # first, so that what the user mistyped is said before torch is used
    from isomorph.converters.torch.capture import capture

    names = _argument_names(module)
    if unknown := set(inputs or {}) - set(names):
        raise UsageError(
            f"the module takes no input {sorted(unknown)[0]!r}", because=f"its forward takes {', '.join(names)}"
        )
    if arguments is None:
        arguments, keywords = _examples(reference, names, inputs)
    return capture(
        module,
        arguments,
        keywords,
        dynamic_shapes=_dynamic(names, arguments, keywords, inputs),
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


def _dynamic(
    names: list[str], arguments: tuple[Any, ...], keywords: Mapping[str, Any], inputs: Inputs | None
) -> dict[str, dict[int, Any] | None] | None:
    """`dynamic_shapes` of torch.export, `{"x": {0: Dim("N")}}`; None if every size is a number."""
    dims: dict[str, Any] = {}
    axes: dict[str, dict[int, Any] | None] = {}
    for name in [*names[: len(arguments)], *keywords]:
        shape = (inputs or {}).get(name, ((), None))[0]
        axes[name] = {axis: _torch_dim(dim, dims) for axis, dim in enumerate(shape) if isinstance(dim, Sym)} or None
    return axes if any(axes.values()) else None


def _torch_dim(dim: Sym, dims: dict[str, Any]) -> Any:
    """A named size as torch.export.Dim (one for each name), `2*N + 1` as one derived from it."""
    torch = importlib.import_module("torch")
    linear = [(monomial[0].name, factor) for monomial, factor in dim.terms if len(monomial) == 1]
    rest = sum(factor for monomial, factor in dim.terms if not monomial)
    if len(linear) != 1 or not linear[0][0] or len(dim.terms) != 1 + (rest != 0):
        raise UsageError(
            f"the size {dim} cannot be told to torch.export", advice="use one named size, as N, 2*N or 2*N + 1"
        )
    name, factor = linear[0]
    made = dims.setdefault(name, torch.export.Dim(name, min=1))
    scaled = made if factor == 1 else factor * made
    return scaled + rest if rest else scaled
