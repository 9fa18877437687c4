"""PyTorch models: a `.pt2` file through torch.export.load, or the user's own module.

Float64 is made by two means together: the module's parameters, buffers and inputs are doubled, and a dispatch mode
(torch_double.py) rewrites each dtype argument that names a narrower float (`to(torch.float32)`, factory functions)
while the model runs. The same mode sees every result, so a value that stayed narrow is found and the float64 run is
refused.

What a model changes in place, its buffers and its arguments, are outputs as well: every run begins with the buffers as
they were in the file, and ends with a look at what became of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from isomorph.converters.torch.architecture import Architecture, join
from isomorph.converters.torch.custom import load_extensions
from isomorph.converters.torch.reference import argument_names, example_inputs
from isomorph.errors import RunnerError, UsageError
from isomorph.ir import DType
from isomorph.ir.shapes import parse_dim
from isomorph.validators.runners.torch_device import Device
from isomorph.validators.runners.torch_live import CallableRunner
from isomorph.validators.runners.torch_program import ProgramRunner
from isomorph.validators.runners.torch_quantized import register_operators
from isomorph.validators.runners.torch_signature import as_numpy
from isomorph.validators.runners.torch_versions import loadable

__all__ = ["open_model", "resolve"]


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> Any:
    """The runner for a worker. A model is built from one seed; what it draws at random comes from another on each
    side."""
    Device.select(device)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(0)
    runner = _opened(model, device)
    torch.manual_seed({"reference": 1, "target": 2}[role])
    return runner


def _opened(model: Mapping[str, Any], device: str) -> Any:
    if model["kind"] == "capture":
        made = _joined(model["weights"]) if "weights" in model else resolve(model["reference"])
        return CallableRunner(*_placed(*made))
    if model["format"] == "torchscript":
        from isomorph.validators.runners.torchscript import ScriptRunner

        if device != "cpu":
            raise RunnerError("TorchScript archives run on the CPU only", runner="torch", advice="--device cpu")

        return ScriptRunner(model, as_numpy)
    program = _load_program(model["path"])
    if Device.current.type != "cpu":
        program = torch.export.passes.move_to_device_pass(program, Device.current)
    return ProgramRunner(program)


def _load_program(path: str) -> Any:
    """The program in a file; libraries that register its operators are imported first, torchvision where it lacks."""
    load_extensions()
    try:
        return torch.export.load(loadable(path))
    except Exception:
        register_operators()
        if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is not None:
            importlib.import_module("torchvision")
        return torch.export.load(loadable(path))


def _placed(module: torch.nn.Module, arguments: Any, keywords: Any) -> tuple[torch.nn.Module, Any, Any]:
    """A module and its example arguments on the device of the process."""
    if Device.current.type == "cpu":
        return module, arguments, keywords
    leaves, structure = tree_flatten((arguments, keywords))
    moved = [leaf.to(Device.current) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return (module.to(Device.current), *structure.unflatten(moved))


def _joined(weights: Mapping[str, Any]) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    """The module of a checkpoint's architecture with its weights, and example arguments of the shapes given."""
    architecture = Architecture.parse(weights["architecture"])
    joined = join(architecture, Path(weights["path"]), prefix=weights["prefix"])
    arguments, keywords = joined.arguments, joined.keywords
    if arguments is None:
        shapes: dict[str, tuple[Any, DType | None]] = {
            name: (tuple(parse_dim(str(size)) for size in shape), DType(dtype) if dtype else None)
            for name, shape, dtype in weights["inputs"]
        }
        arguments, keywords = example_inputs(architecture.reference, argument_names(joined.module), shapes)
    return joined.module, arguments, keywords


def resolve(reference: str) -> tuple[torch.nn.Module, tuple[Any, ...] | None, dict[str, Any]]:
    """Call "MODULE:CALLABLE": (module, example arguments or None, keyword arguments). Raises UsageError."""
    name, _, attribute = reference.partition(":")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 (the user's code is imported as the user's interpreter would)
    try:
        target: Any = importlib.import_module(name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot import `{reference}`: {error}") from error
    made = target if isinstance(target, torch.nn.Module) else target()
    module, arguments, keywords = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"`{reference}` returned {type(module).__name__}, not a torch.nn.Module")
    if arguments is not None and not isinstance(arguments, (tuple, list)):
        arguments = (arguments,)
    return module, tuple(arguments) if arguments is not None else None, dict(keywords or {})
