"""Recurrent layers left whole by torch.export, so that the lengths of sequences and batches stay symbolic.

To learn the shapes of a recurrent layer's results, torch runs it step by step on tensors without elements: a symbolic
length becomes the number of the example. The shapes follow from the operands; here they are told without any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["undivided"]

_LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextmanager
def undivided(torch: Any) -> Iterator[None]:
    """While it holds, recurrent layers on tensors without elements give tensors of the right shapes, at once."""
    table = torch._decomp.decomposition_table
    is_fake = torch._subclasses.fake_tensor.is_fake
    layers = [getattr(torch.ops.aten, name).input for name in _LAYERS]
    saved = [(layer, table.get(layer), dict(layer.py_kernels)) for layer in layers]
    for layer, decomposition, kernels in saved:
        if decomposition is not None:
            table[layer] = _told(is_fake, decomposition)
        layer.py_kernels.update({key: _told(is_fake, kernel) for key, kernel in kernels.items()})
        layer._dispatch_cache.clear()
    try:
        yield
    finally:
        for layer, decomposition, kernels in saved:
            if decomposition is not None:
                table[layer] = decomposition
            layer.py_kernels.clear()
            layer.py_kernels.update(kernels)
            layer._dispatch_cache.clear()


def _told(is_fake: Callable[[Any], bool], kernel: Any) -> Any:
    """The kernel, except where its operand has no elements."""
    if not callable(kernel):  # a key that another kernel stands for
        return kernel

    def run(input: Any, hx: Any, params: Sequence[Any], has_biases: bool, num_layers: int, *rest: Any) -> Any:
        if not is_fake(input):
            return kernel(input, hx, params, has_biases, num_layers, *rest)
        bidirectional, batch_first = rest[2:4]
        states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        width = states[0].shape[-1] * (2 if bidirectional else 1)
        length, batch = input.shape[:2][::-1] if batch_first else input.shape[:2]
        y = input.new_empty((length, batch, width))
        return (y.transpose(0, 1) if batch_first else y, *(state.new_empty(state.shape) for state in states))

    return run
