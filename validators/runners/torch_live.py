"""The user's live modules as runners. Taps come from torch.export of the module with the inputs at hand."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_flatten_with_path

from isomorph.converters.torch.detection import exportable
from isomorph.errors import UsageError
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import NATIVE, Result, Signature
from isomorph.validators.runners.torch_device import Device, environment
from isomorph.validators.runners.torch_double import doubled, in_double, widened
from isomorph.validators.runners.torch_program import ProgramRunner
from isomorph.validators.runners.torch_signature import as_numpy, element_count, result_names, tensor_spec
from isomorph.validators.runners.torch_states import States, Writes, memory, tensors_of
from isomorph.validators.runners.torch_train import train
from isomorph.validators.training.exercise import Exercise, Trained

__all__ = ["CallableRunner"]


class CallableRunner:
    """The user's live module, run as it is. Taps come from torch.export of the module with the inputs at hand."""

    def __init__(
        self, module: torch.nn.Module, arguments: tuple[Any, ...] | None, keywords: Mapping[str, Any] | None = None
    ) -> None:
        if arguments is None:
            raise UsageError(
                "the judge needs example arguments", advice="return (module, (example, ...)) from the callable"
            )
        self._module = module
        given, self._structure = tree_flatten((arguments, dict(keywords or {})))
        self._given = given
        self._leaves = [leaf for leaf in given if isinstance(leaf, torch.Tensor)]
        self._names = _leaf_names(module, arguments, keywords or {})
        self._double: torch.nn.Module | None = None
        self._states = self._watched()

    def _watched(self) -> States:
        """Run a copy once, to see what it changes in place."""
        module, leaves = copy.deepcopy(self._module), [leaf.detach().clone() for leaf in self._leaves]
        with torch.no_grad(), Writes() as watch:
            self._call(module, leaves)
        buffers = [path for path, tensor in tensors_of(module).items() if memory(tensor) in watch.written]
        arguments = [name for name, leaf in zip(self._names, leaves, strict=True) if memory(leaf) in watch.written]
        return States(self._module, buffers, arguments, self._names)

    def _arguments(self, leaves: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example arguments with other tensors; what is no tensor stays."""
        tensors = iter(leaves)
        given = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._given]
        arguments, keywords = self._structure.unflatten(given)
        return tuple(arguments), dict(keywords)

    def _call(self, module: torch.nn.Module, leaves: Sequence[torch.Tensor]) -> Any:
        arguments, keywords = self._arguments(leaves)
        return module(*arguments, **keywords)

    def signature(self) -> Signature:
        inputs = tuple(
            tensor_spec(name, leaf, _embedding_rows(self._module))
            for name, leaf in zip(self._names, self._leaves, strict=True)
        )
        with torch.no_grad():
            leaves = [leaf.detach().clone() for leaf in self._leaves]
            values, spec = tree_flatten(self._call(copy.deepcopy(self._module), leaves))
        names = result_names(spec, len(values), self._names)
        outputs = tuple(tensor_spec(name, value, None) for name, value in zip(names, values, strict=True))
        outputs += self._states.specs({each.name: each for each in inputs})
        inputs += self._states.inputs()
        notes = ("the module is in training mode",) if self._module.training else ()
        return Signature(inputs, outputs, {}, element_count(self._module.state_dict().values()), environment(), notes)

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        leaves = [Device.tensor(inputs[name]) for name in self._names]
        if taps:
            return self._run_exported(leaves, inputs, taps, precision)
        if precision != NATIVE:
            if self._double is None:
                Device.needs_double()
                self._double = doubled(self._module)
            module, leaves = self._double, [widened(leaf) for leaf in leaves]
            self._states.restore(module, inputs)
            values = in_double(lambda: self._call(module, leaves), Noise.parse(precision), leaves)
        else:
            module = self._module
            self._states.restore(module, inputs)
            with torch.no_grad():
                values = self._call(module, leaves)
        flat_values, spec = tree_flatten(values)
        names = result_names(spec, len(flat_values), self._names)
        results = {name: as_numpy(value) for name, value in zip(names, flat_values, strict=True)}
        return Result({**results, **self._states.after(module, dict(zip(self._names, leaves, strict=True)))})

    def train(self, inputs: Mapping[str, np.ndarray], exercise: Exercise, precision: str = "native") -> Trained:
        leaves = [Device.tensor(inputs[name]) for name in self._names]

        def forward(module: torch.nn.Module) -> list[tuple[str | None, Any]]:
            given = leaves if precision == NATIVE else [widened(leaf) for leaf in leaves]
            values, spec = tree_flatten(self._call(module, given))
            return list(zip(result_names(spec, len(values), self._names), values, strict=True))

        if precision == NATIVE:
            self._states.restore(self._module, inputs)
            return train(self._module, self._module, forward, exercise)
        Device.needs_double()
        double = self._double = self._double or doubled(self._module)
        self._states.restore(double, inputs)
        done = in_double(lambda: train(double, self._module, forward, exercise), Noise.parse(precision))
        return cast("Trained", done)

    def _run_exported(
        self, leaves: list[torch.Tensor], inputs: Mapping[str, np.ndarray], taps: Sequence[str], precision: str
    ) -> Result:
        self._states.restore(self._module)
        with exportable(torch):
            runner = ProgramRunner(torch.export.export(self._module, *self._arguments(leaves)))
        names = [spec.name for spec in runner.signature().inputs]
        feeds = {**inputs, **{name: as_numpy(leaf) for name, leaf in zip(names, leaves, strict=False)}}
        return runner.run(feeds, taps=taps, precision=precision)


def _leaf_names(module: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[str]:
    """Names of the tensors among the arguments, as torch.export names them: x, x_0, cache_key …

    In the order of tree_flatten((arguments, keywords)).
    """
    try:
        bound = inspect.signature(module.forward).bind(*arguments, **keywords).arguments
    except TypeError as error:
        raise UsageError(f"the example arguments do not fit `{type(module).__name__}.forward`: {error}") from error
    names = {
        id(leaf): "_".join(_key_name(key) for key in path)
        for path, leaf in tree_flatten_with_path(_spread(module, bound))[0]
    }
    leaves = tree_flatten((tuple(arguments), dict(keywords)))[0]
    return [names[id(leaf)] for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _spread(module: torch.nn.Module, bound: Mapping[str, Any]) -> dict[str, Any]:
    """The bound arguments, those of `**kwargs` by their own names."""
    formal = inspect.signature(module.forward).parameters
    spread: dict[str, Any] = {}
    for name, value in bound.items():
        spread.update(value if formal[name].kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    return spread


def _key_name(key: Any) -> str:
    """A step of a path into a structure as torch.export spells it."""
    step = next(getattr(key, field) for field in ("key", "idx", "name") if hasattr(key, field))
    return re.sub(r"[^a-zA-Z0-9]", "_", str(step)).lower()


def _embedding_rows(module: torch.nn.Module) -> int | None:
    return min((part.num_embeddings for part in module.modules() if isinstance(part, torch.nn.Embedding)), default=None)
