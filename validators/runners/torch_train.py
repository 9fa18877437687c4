"""Training steps of a PyTorch module (training/exercise.py): a copy of it is trained, the module stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from isomorph.validators.runners.torch_device import Device
from isomorph.validators.training.exercise import Arrays, Exercise, Trained, Weight, descend

__all__ = ["train"]

_BATCH_NORM = {
    "aten.batch_norm.default": 5,
    "aten.native_batch_norm.default": 5,
    "aten._native_batch_norm_legit.default": 5,
}
"""Where these operators have the argument `training`."""


def train(
    module: torch.nn.Module,
    like: torch.nn.Module,
    forward: Callable[[torch.nn.Module], Sequence[tuple[str | None, Any]]],
    exercise: Exercise,
) -> Trained:
    """Train a copy of `module`, whose parameters may change where those of `like` do.

    forward  calls the module with the case's inputs; names and values of its outputs
    """
    frozen = {name: not held.requires_grad for name, held in like.named_parameters(remove_duplicate=False)}
    copied = _copied(module)
    _into_training(copied)
    weights, held = _weights(copied, frozen)
    cotangents = {name: Device.tensor(np.asarray(array)) for name, array in exercise.cotangents.items()}
    owned = [tensor for group in held.values() for tensor in group]

    def read() -> dict[str, np.ndarray]:
        return {name: np.array(group[0].detach().cpu().numpy()) for name, group in held.items()}

    def assign(values: Arrays) -> None:
        with torch.no_grad():
            for name, array in values.items():
                held[name][0].copy_(Device.tensor(array))

    def differentiate() -> tuple[float, Arrays]:
        for tensor in owned:
            tensor.grad = None
        with torch.enable_grad():
            terms = [
                (cotangents[name].to(value.dtype) * value).sum() / value.numel()
                for name, value in forward(copied)
                if name in cotangents
            ]
            loss = torch.stack(terms).sum()
        if loss.requires_grad:
            loss.backward()
        found = {}
        for name, group in held.items():
            partial = [tensor.grad for tensor in group if tensor.grad is not None]
            if partial:
                found[name] = np.array(sum(partial[1:], partial[0]).detach().cpu().numpy())
        return float(loss.detach()), found

    return descend(exercise, weights, read, assign, differentiate)


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    """A copy in which what shared its memory does so still; copy.deepcopy unties parameters that are two objects."""
    copied = copy.deepcopy(module)
    firsts: dict[Any, torch.Tensor] = {}
    pairs = zip(_all_tensors(module), _all_tensors(copied), strict=True)
    for held, mine in pairs:
        if held.numel():
            mine.data = firsts.setdefault((held.data_ptr(), held.shape, held.stride()), mine.data)
    return copied


def _all_tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _into_training(module: torch.nn.Module) -> None:
    """Batch normalization by the batch; everything else, dropout too, as it is."""
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.train()
        if isinstance(part, torch.fx.GraphModule):
            _rewrite(part)


def _rewrite(module: torch.fx.GraphModule) -> None:
    """The same in an exported graph, where `training` is an argument."""
    changed = False
    for node in module.graph.nodes:
        target = str(node.target)
        if target == "aten._native_batch_norm_legit_no_training.default":
            node.target = torch.ops.aten._native_batch_norm_legit.default
            node.args = (*node.args[:5], True, *node.args[5:])
            changed = True
        elif target in _BATCH_NORM and node.args[3] is not None:
            place = _BATCH_NORM[target]
            node.args = (*node.args[:place], True, *node.args[place + 1 :])
            changed = True
    if changed:
        module.recompile()


def _weights(module: torch.nn.Module, frozen: dict[str, bool]) -> tuple[list[Weight], dict[str, list[torch.Tensor]]]:
    """Parameters and float buffers; what shares its memory is one weight with several names."""
    groups: dict[Any, list[tuple[str, torch.Tensor, str]]] = {}
    named = [(*each, "parameter") for each in module.named_parameters(remove_duplicate=False)]
    named += [(*each, "buffer") for each in module.named_buffers(remove_duplicate=False)]
    for name, tensor, kind in named:
        if tensor.is_floating_point():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else id(tensor)
            groups.setdefault(place, []).append((name, tensor, kind))
    weights, held = [], {}
    for group in groups.values():
        names = tuple(name for name, _, _ in group)
        trainable = any(kind == "parameter" and not frozen.get(name, False) for name, _, kind in group)
        kind = "parameter" if any(kind == "parameter" for *_, kind in group) else "buffer"
        weights.append(Weight(names, trainable, kind=kind))
        distinct = {id(tensor): tensor for _, tensor, _ in group}
        held[names[0]] = list(distinct.values())
        for tensor in distinct.values():
            tensor.requires_grad_(trainable)
    return weights, held
