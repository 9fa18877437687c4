"""Names, types and shapes of what PyTorch takes and gives, and its tensors as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import treespec_dumps

from isomorph.converters.torch.program import output_names
from isomorph.errors import RunnerError
from isomorph.validators.runner import TensorSpec

__all__ = ["as_numpy", "element_count", "result_names", "tensor_spec"]


def as_numpy(value: Any) -> np.ndarray:
    """A tensor (bfloat16 included) or a number as an array."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu().contiguous()
    if value.dtype is torch.bfloat16:
        import ml_dtypes

        return np.asarray(value.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(value.resolve_conj().resolve_neg().numpy())


def tensor_spec(name: str, value: Any, rows: int | None) -> TensorSpec:
    if not isinstance(value, torch.Tensor):
        raise RunnerError(f"`{name}` is not a tensor", runner="torch")
    shape = tuple(size if isinstance(size, int) else str(size.node.expr) for size in value.shape)
    integer = not value.dtype.is_floating_point and value.dtype is not torch.bool
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), shape, (0, rows - 1) if rows and integer else None)


def result_names(spec: Any, count: int, inputs: Sequence[str]) -> list[str]:
    """Names of the tensors in a returned structure, the ones that the reader and the capture give them."""
    try:
        text = treespec_dumps(spec)
    except NotImplementedError:  # a type that torch cannot write: by position
        text = None
    return output_names(text, count, inputs)


def element_count(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors if isinstance(tensor, torch.Tensor))
