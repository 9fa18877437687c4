"""One model of a collection, and how random weights are made so that faults show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["CALIBRATION", "Entry", "Example", "batched", "calibrate"]

CALIBRATION = 8
"""Samples that running statistics are taken from. With one or two, the last layers of a network on small images, of 2 x
2 cells, have channels that hardly vary on these samples and blow up on any other."""

_LINEAR = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Example:
    """A module in eval mode, example inputs, and what `torch.export.export` takes as `dynamic_shapes`."""

    module: torch.nn.Module
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    dynamic: Any = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A model by name; `make(symbolic)` builds it. `millions` is about its number of parameters, for the order."""

    name: str
    family: str
    make: Callable[[bool], Example]
    millions: float = 1.0


def batched(module: torch.nn.Module, *shapes: tuple[int, ...], symbolic: bool) -> Example:
    """The module with normal inputs of these shapes (without the batch): batch 1, or a symbolic one, for all inputs."""
    size = 2 if symbolic else 1
    inputs = tuple(torch.randn(size, *shape) for shape in shapes)
    calibrate(module, *(torch.cat([each, torch.randn(CALIBRATION - size, *each.shape[1:])]) for each in inputs))
    batch = torch.export.Dim("N", min=1, max=64)
    return Example(module, inputs, {}, tuple({0: batch} for _ in shapes) if symbolic else None)


def calibrate(module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
    """Make weights and statistics that a fault shows in: nothing constant, and a signal that survives all layers.

    Constant parameters (gammas of one, zero heads, layer scales of 1e-6) get noise; gammas drawn around zero are moved
    around one; weights that would extinguish a signal (standard deviations of 1e-10) get the scale 1/sqrt(inputs);
    running statistics become those of this network on these inputs. The module is left in eval mode.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            constant = parameter.is_floating_point() and parameter.numel() > 1 and parameter.min() == parameter.max()
            if constant:
                parameter += 0.1 * torch.randn_like(parameter)
        module.eval()
        norms = [part for part in module.modules() if isinstance(getattr(part, "running_var", None), torch.Tensor)]
        for norm in norms:
            if isinstance(norm.weight, torch.Tensor) and norm.weight.abs().max() < 0.5:
                norm.weight += 1
        for weight in (part.weight for part in module.modules() if isinstance(part, _LINEAR)):
            scale = weight[0].numel() ** -0.5
            if 0 < weight.std() < 1e-2 * scale:
                weight *= scale / weight.std()
        hooks = [norm.register_forward_pre_hook(_set_statistics) for norm in norms]
        if norms:
            module(*args, **kwargs)
        for hook in hooks:
            hook.remove()


def _set_statistics(norm: Any, args: tuple[torch.Tensor, ...]) -> None:
    axes = [axis for axis in range(args[0].ndim) if axis != 1]
    variance, mean = torch.var_mean(args[0], dim=axes, correction=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(torch.where(variance > 1e-3 * variance.max(), variance, torch.ones_like(variance)))
