"""`--arch PACKAGE.MODULE:CALLABLE[(ARGUMENTS)]`: a checkpoint's weights in the module that the user's own code makes.

    architecture = Architecture.parse("torchvision.models:resnet18(num_classes=10)")
    joined = join(architecture, Path("resnet18.pth"))

The callable is imported and called, as python:MODULE:CALLABLE is; its arguments are literals. The file is parsed
(checkpoint.py), and the module's own `load_state_dict` gets its tensors, so what a module does there to the names of
older checkpoints is done. What is missing, left over or of another shape is refused, all at once.
"""

from __future__ import annotations

import ast
import importlib
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.converters.torch.files.checkpoint import Checkpoint, Selection, read_checkpoint, select
from isomorph.converters.torch.reference import import_callable, module_and_arguments, users_code
from isomorph.errors import UsageError, WeightsError
from isomorph.ir import TensorSource

__all__ = ["Architecture", "Joined", "join"]

_LONGEST = 4096
_SHAPES = re.compile(r"size mismatch for (\S+): .*?torch\.Size\((\[.*?\])\).*?torch\.Size\((\[.*?\])\)\.?")


@dataclass(frozen=True, slots=True)
class Architecture:
    """Parsed `--arch`: `reference` "PACKAGE.MODULE:CALLABLE", and literal arguments."""

    text: str
    reference: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Raises UsageError for anything but a dotted name, a colon, a dotted name and literals in parentheses."""
        module, colon, call = text.strip().partition(":")
        name, _, rest = call.partition("(")
        parts = [*module.split("."), *name.strip().split(".")]
        if not colon or len(text) > _LONGEST or not all(part.isidentifier() for part in parts):
            raise _malformed(text)
        reference = f"{module}:{name.strip()}"
        if "(" not in call:
            return cls(text, reference)
        try:
            node = ast.parse(f"f({rest}", mode="eval").body
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                raise _malformed(text)
            if any(keyword.arg is None for keyword in node.keywords):
                raise _malformed(text)
            args = tuple(ast.literal_eval(each) for each in node.args)
            kwargs = tuple((str(each.arg), ast.literal_eval(each.value)) for each in node.keywords)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
            raise _malformed(text, str(error)) from None
        return cls(text, reference, args, kwargs)

    def __str__(self) -> str:
        return self.text

    def make(self) -> tuple[Any, tuple[Any, ...] | None, dict[str, Any]]:
        """Import and call: (module in eval mode, example arguments or None, keyword arguments)."""
        target = import_callable(self.reference)
        torch = importlib.import_module("torch")
        with users_code(self.reference):
            called = isinstance(target, torch.nn.Module)
            made = target if called else target(*self.args, **dict(self.kwargs))
        module, arguments, keywords = module_and_arguments(self.reference, made)
        return module.eval(), arguments, keywords


def _malformed(text: str, because: str | None = None) -> UsageError:
    return UsageError(
        f"cannot read --arch {text[:200]!r}",
        because=because,
        advice="write PACKAGE.MODULE:CALLABLE or PACKAGE.MODULE:CALLABLE(NUMBERS, TEXTS, name=LITERAL)",
    )


@dataclass(frozen=True, slots=True)
class Joined:
    """A module with its weights. `arguments` are the user's example arguments, None if there are none."""

    module: Any
    arguments: tuple[Any, ...] | None
    keywords: Mapping[str, Any]
    note: str


def join(architecture: Architecture, path: Path, *, prefix: str | None = None) -> Joined:
    """Make the module, give it the weights of the checkpoint.

    prefix  where in the checkpoint the weights are ("state_dict"), where the names do not tell
    Raises WeightsError with every missing, unexpected or differently shaped tensor; UsageError, ModelError.
    """
    checkpoint = read_checkpoint(path)
    module, arguments, keywords = architecture.make()
    own = module.state_dict()
    selection = select(checkpoint, [name for name in own if _is_tensor(own[name])], prefix=prefix)
    note = _load(module, selection, checkpoint, architecture)
    return Joined(module, arguments, keywords, note + _rounded(own, selection))


def _rounded(own: Mapping[str, Any], selection: Selection) -> str:
    """Which element types the module's own differ from, in words: `load_state_dict` converts."""
    kinds = Counter(
        (entry.dtype, str(own[name].dtype).removeprefix("torch."))
        for name, entry in selection.entries.items()
        if name in own and _is_tensor(own[name])
    )
    return "".join(f", {count} from {there} to {here}" for (there, here), count in kinds.items() if there != here)


def _is_tensor(value: Any) -> bool:
    return bool(isinstance(value, importlib.import_module("torch").Tensor))


def _load(module: Any, selection: Selection, checkpoint: Checkpoint, architecture: Architecture) -> str:
    """Hand the tensors to the module; what was done, in words."""
    state = _state_dict(selection)
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [
            _SHAPES.sub(r"\1 \2 in the file, \3 in the module", line.strip()) for line in str(error).splitlines()[1:]
        ]
        raise WeightsError(
            f"the weights of {checkpoint.path.name} do not fit {architecture.reference}",
            mismatched=[line for line in lines if line] or [str(error)],
            advice=f"pass the arguments that the model was made with: --arch '{architecture.reference}(num_classes=…)'",
        ) from None
    missing = _really_missing(module, result.missing_keys, set(state))
    if missing or result.unexpected_keys:
        raise WeightsError(
            f"the weights of {checkpoint.path.name} are not those of {architecture.reference}",
            missing=missing,
            unexpected=[f"{selection.prefix}{name}" for name in result.unexpected_keys],
            advice=f"`isomorph inspect {checkpoint.path.name}` lists the checkpoint's tensors",
        )
    below = f", below `{selection.prefix.removesuffix('.')}`" if selection.prefix else ""
    tied = len(result.missing_keys)
    shared = f", {tied} tied to others" if tied else ""
    return f"{len(state)} tensors of {checkpoint.path.name}{below}{shared}"


def _state_dict(selection: Selection) -> Any:
    """An OrderedDict of tensors that share the file's memory, with the versions that the file states."""
    from collections import OrderedDict

    state: Any = OrderedDict((name, _tensor(entry.data())) for name, entry in selection.entries.items())
    if selection.versions:
        state._metadata = OrderedDict(
            (str(name), dict(entry)) for name, entry in selection.versions.items() if isinstance(entry, dict)
        )
    return state


def _tensor(source: TensorSource) -> Any:
    """A torch tensor over the elements, not to be written to."""
    torch = importlib.import_module("torch")
    array = source.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of memory that must not be written to
        if array.dtype.isbuiltin == 1 and array.dtype.kind in "biufc":
            return torch.from_numpy(array)
        words = np.ascontiguousarray(array).view({1: np.uint8, 2: np.int16}[array.dtype.itemsize])
        return torch.from_numpy(words).view(getattr(torch, source.dtype.value))


def _really_missing(module: Any, names: Sequence[str], given: set[str]) -> list[str]:
    """The names without those of parameters that are tied to one that was given."""
    if not names:
        return []
    tensors = dict(module.named_parameters(remove_duplicate=False))
    tensors.update(module.named_buffers(remove_duplicate=False))
    known = {id(tensors[name]) for name in given if name in tensors}
    return [name for name in names if name not in tensors or id(tensors[name]) not in known]
