"""Keras models in float64 with the noise of an implementation, or with the rounding of a declared class: on the backend
that runs them.

tensorflow   the network as a graph, which tensorflow_noise.py and tensorflow_precision.py rewrite
torch        the network under a dispatch mode (torch_double.py, torch_precision.py)
jax          the network as a jaxpr, which keras_jaxpr.py interprets: noise alone, no class
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import Result

__all__ = ["Network", "noisy_network"]


class Network(Protocol):
    """A model between flat lists of named inputs and outputs, in float64 (keras.py)."""

    inputs: list[Any]
    outputs: list[Any]
    input_names: list[str]
    output_names: list[str]

    def taps(self) -> list[str]:
        """The names of the intermediate values that an output needs."""

    def values(self, feeds: list[Any], taps: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """The outputs and the intermediate values that there are, as tensors of the backend."""


class NoisyNetwork(Protocol):
    """A network that runs with noise."""

    def run(self, noise: Noise, inputs: Mapping[str, np.ndarray], taps: Sequence[str]) -> Result:
        """Outputs and intermediate values of the run with this noise: the same for the same noise."""


def noisy_network(network: Network) -> NoisyNetwork:
    """The network with noise. Raises NotImplementedError on a backend that has none."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _InTensorFlow(network)
    if backend == "torch":
        return _InTorch(network)
    if backend == "jax":
        return _InJax(network)
    raise NotImplementedError(f"Keras has no Monte Carlo arithmetic on {backend}")


class _InTensorFlow:
    """The network is traced with every intermediate value, for all sizes of a batch; a run computes what is asked for.

    The other sizes are those of the inputs, as what Keras does in a graph of unknown sizes need not be what it does
    outside of one (3.15: TimeDistributed over an unknown number of steps repeats the batch).
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._sizes: list[tuple[int, ...]] = []

    def run(self, noise: Noise, inputs: Mapping[str, np.ndarray], taps: Sequence[str]) -> Result:
        sizes = [inputs[name].shape[1:] for name in self._network.input_names]
        if sizes != self._sizes:
            self._graph, self._outputs, self._taps = self._traced(sizes)
            self._sizes = sizes
        found = [tap for tap in taps if tap in self._taps]
        feeds = {f"input_{i}": inputs[name] for i, name in enumerate(self._network.input_names)}
        values = self._graph.run(noise, feeds, [*self._outputs.values(), *(self._taps[tap] for tap in found)])
        outputs = {name: values[key] for name, key in self._outputs.items()}
        return Result(outputs, {tap: values[self._taps[tap]] for tap in found})

    def _traced(self, sizes: Sequence[tuple[int, ...]]) -> tuple[Any, dict[str, str], dict[str, str]]:
        """The graph in the forms that move; its outputs, and its intermediate values: name -> result of the graph."""
        import tensorflow

        from isomorph.validators.runners.tensorflow_precision import MovedFunctions

        network = self._network
        outputs = {name: f"output_{i}" for i, name in enumerate(network.output_names)}
        known: dict[str, str] = {}

        def traced(**feeds: Any) -> dict[str, Any]:
            made, values = network.values(list(feeds.values()), network.taps())
            known.update({tap: f"tap_{i}" for i, tap in enumerate(values)})
            return {
                **dict(zip(outputs.values(), made, strict=True)),
                **{known[tap]: value for tap, value in values.items()},
            }

        specs = {
            f"input_{i}": tensorflow.TensorSpec((*each.shape[:1], *rest), keras.backend.standardize_dtype(each.dtype))
            for i, (each, rest) in enumerate(zip(network.inputs, sizes, strict=True))
        }
        try:
            function = tensorflow.function(traced, autograph=False).get_concrete_function(**specs)
        except (TypeError, ValueError, AttributeError) as error:
            said = str(error).strip().splitlines() or [""]
            raise NotImplementedError(f"the network cannot be traced by TensorFlow: {said[0]}") from error
        return MovedFunctions(function, function.structured_outputs), outputs, known


class _InTorch:
    """The network under a dispatch mode."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, noise: Noise, inputs: Mapping[str, np.ndarray], taps: Sequence[str]) -> Result:
        from isomorph.validators.runners.torch_double import in_double

        feeds = [keras.ops.convert_to_tensor(np.array(inputs[name])) for name in self._network.input_names]
        made, values = in_double(lambda: self._network.values(feeds, taps), noise, feeds)
        outputs = dict(zip(self._network.output_names, map(_as_numpy, made), strict=True))
        return Result(outputs, {tap: _as_numpy(value) for tap, value in values.items()})


class _InJax:
    """The network is traced with every intermediate value, for each run anew."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, noise: Noise, inputs: Mapping[str, np.ndarray], taps: Sequence[str]) -> Result:
        if noise.precision is not None:
            raise NotImplementedError("Keras on jax has no rounding of a declared precision class; tensorflow has")
        import jax

        from isomorph.validators.runners.keras_jaxpr import run_with_noise

        network = self._network
        feeds = [keras.ops.convert_to_tensor(np.array(inputs[name])) for name in network.input_names]
        known: list[str] = []

        def traced(*feeds: Any) -> list[Any]:
            made, values = network.values(list(feeds), network.taps())
            known.extend(values)
            return [*made, *values.values()]

        results = run_with_noise(jax.make_jaxpr(traced)(*feeds), feeds, noise)
        outputs = dict(zip(network.output_names, map(_as_numpy, results), strict=False))
        values = dict(zip(known, results[len(outputs) :], strict=True))
        return Result(outputs, {tap: _as_numpy(values[tap]) for tap in taps if tap in values})


def _as_numpy(value: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))
