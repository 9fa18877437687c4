"""The values of Keras layers before their own activations: what these are called with while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

__all__ = ["arguments_of_activations"]


class arguments_of_activations:  # noqa: N801 (used as a context manager, like the ones of the standard library)
    """Within it, the layers that make the tensors `ends` (symbolic ones, by name) remember what their activations are
    called with. A layer is called once for each of its nodes in the network, in the order of the network's depths."""

    def __init__(self, functional: Any, ends: Mapping[str, Any]) -> None:
        self._ends = dict(ends)
        self._layers = list({id(_maker(end)): _maker(end) for end in ends.values()}.values())
        depths = functional._nodes_by_depth
        self._nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        self._arguments: dict[int, list[Any]] = {id(layer): [] for layer in self._layers}
        self._activations: list[Callable[..., Any]] = []

    def __enter__(self) -> arguments_of_activations:
        self._activations = [layer.activation for layer in self._layers]
        for layer, activation in zip(self._layers, self._activations, strict=True):
            # Not through the layer's own __setattr__, which may refuse an activation that is a layer once it is built.
            object.__setattr__(layer, "activation", _remembering(activation, self._arguments[id(layer)]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer, activation in zip(self._layers, self._activations, strict=True):
            object.__setattr__(layer, "activation", activation)

    def found(self) -> dict[str, Any]:
        """Name -> the value. Left out where a layer calls its activation more than once, or never."""
        values = {}
        for name, end in self._ends.items():
            layer, arguments = _maker(end), self._arguments[id(_maker(end))]
            calls = [node for node in self._nodes if node.operation is layer]
            if len(arguments) == len(calls):
                values[name] = arguments[calls.index(layer._inbound_nodes[end._keras_history.node_index])]
        return values


def _remembering(activation: Callable[..., Any], arguments: list[Any]) -> Callable[..., Any]:
    def call(x: Any, *rest: Any, **named: Any) -> Any:
        arguments.append(x)
        return activation(x, *rest, **named)

    return call


def _maker(tensor: Any) -> Any:
    return tensor._keras_history.operation
