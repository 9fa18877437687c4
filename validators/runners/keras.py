"""Keras models: `.keras` files and HDF5 files of Keras 1 to 3, loaded by Keras with `safe_mode` on and no compilation.

The backend is KERAS_BACKEND where set, else tensorflow where installed, else jax. Float64 is made from the loaded
model's configuration: each dtype and dtype policy that names a narrower float becomes float64, the model is built
again from it, and the weights are copied.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow" if importlib.util.find_spec("tensorflow") else "jax")

import keras
from keras.src.backend.common import dtypes

from isomorph.errors import RunnerError
from isomorph.validators.localization.piece import WrittenPiece
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import FLOAT64, LINEAR, NATIVE, Result, Signature, TensorSpec
from isomorph.validators.runners.keras_activations import arguments_of_activations
from isomorph.validators.runners.keras_noise import NoisyNetwork, noisy_network
from isomorph.validators.runners.keras_pieces import Cut, cut
from isomorph.validators.runners.keras_train import train
from isomorph.validators.training.exercise import Exercise, Trained

__all__ = ["KerasRunner", "open_model"]

_NARROW = {"float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> KerasRunner:
    """The runner for a worker."""
    _select(device)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        tensorflow.config.experimental.enable_op_determinism()
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    keras.utils.set_random_seed(0)
    return KerasRunner(keras.saving.load_model(model["path"], compile=False, safe_mode=True), device)


def _select(device: str) -> None:
    """Raise RunnerError unless the backend has this device; then it takes it by itself."""
    if device == "cpu":
        return
    backend = keras.backend.backend()
    devices = keras.distribution.list_devices() if backend != "torch" else _torch_devices()
    names = {name.replace("gpu", "cuda") for name in devices}
    if (device if ":" in device else f"{device}:0") not in names:
        raise RunnerError(
            f"there is no device `{device}` here",
            runner="keras",
            because=f"keras on {backend} has {', '.join(sorted(devices)) or 'none'}",
            advice="--device cpu",
        )
    if device not in ("cuda", "cuda:0"):
        raise RunnerError("keras runs on the first CUDA device only", runner="keras", advice="set CUDA_VISIBLE_DEVICES")


def _torch_devices() -> list[str]:
    import torch

    return ["cpu:0", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


class KerasRunner:
    """A Functional or Sequential model. Taps are layer names; a layer called more than once is `name`, `name:1`, …;
    the value of a layer before its own activation is `name/linear`.

    Names of inputs and outputs are those of the InputLayers and of the layers that make the outputs (a second output of
    the same layer gets a suffix). The network is evaluated through a Functional model with flat lists at both ends.
    """

    def __init__(self, model: Any, device: str = "cpu") -> None:
        self._device = device
        if not getattr(model, "inputs", None):
            raise RunnerError(f"the {type(model).__name__} model has no symbolic inputs", runner="keras")
        self._model = model
        self._native = _Network(model)
        self._double: _Network | None = None
        self._noisy: NoisyNetwork | None = None

    def signature(self) -> Signature:
        dims: dict[str, tuple[int, int | None]] = {}
        network = self._native
        bounds = _table_bounds(self._model)
        inputs = [
            _spec(name, tensor, dims, bounds) for name, tensor in zip(network.input_names, network.inputs, strict=True)
        ]
        outputs = [
            _spec(name, tensor, {}, None) for name, tensor in zip(network.output_names, network.outputs, strict=True)
        ]
        return Signature(
            tuple(inputs), tuple(outputs), dims, int(self._model.count_params()), _environment(self._device)
        )

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        if precision == NATIVE:
            return self._native.run(inputs, taps)
        noise = Noise.parse(precision)
        if precision != FLOAT64 and noise is None:
            raise NotImplementedError(f"no run in the precision `{precision}`")
        with _wide_backend():
            if self._double is None:
                self._double = _Network(_doubled(self._model))
            wide = {
                name: array.astype(np.float64) if array.dtype.name in _NARROW else array
                for name, array in inputs.items()
            }
            if noise is None:
                return self._double.run(wide, taps)
            if self._noisy is None:
                self._noisy = noisy_network(self._double)
            return self._noisy.run(noise, wide, taps)

    def run_piece(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """See localization/forced.py and keras_pieces.py."""
        return {name: self._native.cut(feeds, name).run(feeds) for name in wanted}

    def write_piece(self, feeds: Mapping[str, np.ndarray], wanted: str) -> WrittenPiece:
        """See localization/reduce.py."""
        return self._native.cut(feeds, wanted).written()

    def train(self, inputs: Mapping[str, np.ndarray], exercise: Exercise, precision: str = "native") -> Trained:
        if precision == NATIVE:
            return self._native.train(self._model, inputs, exercise)
        if precision != FLOAT64:
            raise NotImplementedError(f"no training in the precision `{precision}`")
        with _wide_backend():
            double = _doubled(self._model)
            wide = {n: a.astype(np.float64) if a.dtype.name in _NARROW else a for n, a in inputs.items()}
            return _Network(double).train(double, wide, exercise)


class _Network:
    """A model between flat lists of named inputs and outputs; taps as in KerasRunner."""

    def __init__(self, model: Any) -> None:
        self.inputs = list(model.inputs)
        self.outputs = list(model.outputs)
        self.input_names = [_maker(tensor).name for tensor in self.inputs]
        self.output_names = _output_names(model)
        self._layers = dict(_calls(model))
        self._functional = keras.Model(self.inputs, self.outputs)

    def run(self, inputs: Mapping[str, np.ndarray], taps: Sequence[str]) -> Result:
        outputs, values = self.values([_tensor(inputs[name]) for name in self.input_names], taps)
        arrays = (_as_numpy(value) for value in outputs)
        named = dict(zip(self.output_names, arrays, strict=True))
        return Result(named, {tap: _as_numpy(value) for tap, value in values.items()})

    def taps(self) -> list[str]:
        """The names of the intermediate values that an output needs."""
        nodes = [node for depth in self._functional._nodes_by_depth.values() for node in depth]
        needed = {id(tensor) for node in nodes for tensor in node.output_tensors}
        layers = {name: tensor for name, tensor in self._layers.items() if id(tensor) in needed}
        return [*layers, *(name + LINEAR for name, tensor in layers.items() if _has_activation(_maker(tensor)))]

    def values(self, feeds: list[Any], taps: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """The outputs and the intermediate values that there are, as tensors of the backend, by one run."""
        found = [tap for tap in taps if tap in self._layers]
        ends = {tap: self._layers.get(tap.removesuffix(LINEAR)) for tap in taps if tap.endswith(LINEAR)}
        before = {tap: end for tap, end in ends.items() if end is not None and _has_activation(_maker(end))}
        functional = self._functional
        if found or before:
            functional = keras.Model(
                self.inputs, [*self.outputs, *(self._layers[tap] for tap in found), *before.values()]
            )
        with arguments_of_activations(functional, before) as arguments:
            results = functional(feeds, training=False)
        flat = list(results) if isinstance(results, (list, tuple)) else [results]
        count = len(self.outputs)
        values = dict(zip(found, flat[count:], strict=False))
        return flat[:count], {**values, **arguments.found()}

    def cut(self, feeds: Mapping[str, np.ndarray], wanted: str) -> Cut:
        """A piece of this network. Raises NotImplementedError."""
        inputs = dict(zip(self.input_names, self.inputs, strict=True))
        end = {**self._layers, **inputs}.get(wanted.removesuffix(LINEAR))
        if wanted.endswith(LINEAR) and end is not None and not _has_activation(_maker(end)):
            raise NotImplementedError(f"the layer of `{wanted}` has no activation of its own")
        return cut(self._layers, inputs, feeds, wanted)

    def train(self, model: Any, inputs: Mapping[str, np.ndarray], exercise: Exercise) -> Trained:
        feeds = [_tensor(inputs[name]) for name in self.input_names]
        return train(model, self._functional, feeds, self.output_names, exercise)


def _has_activation(layer: Any) -> bool:
    """Whether a layer ends with an activation of its own: a recurrent one has it inside, as a property of its cell."""
    inside = isinstance(getattr(type(layer), "activation", None), property)
    return (
        not inside and callable(getattr(layer, "activation", None)) and layer.activation is not keras.activations.linear
    )


def _calls(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and output tensor of each call of each operation of the model's own graph."""
    for operation in getattr(model, "operations", model.layers):
        nodes = [node for node in operation._inbound_nodes if len(node.output_tensors) == 1]
        for index, node in enumerate(nodes):
            yield (f"{operation.name}:{index}" if index else operation.name), node.output_tensors[0]


def _maker(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _doubled(model: Any) -> Any:
    """The model built again from its configuration with every dtype float64, with the same weights.

    Raises NotImplementedError if a layer keeps a narrower float.
    """
    try:
        double = type(model).from_config(_widened(model.get_config()))
        double.set_weights(
            [np.asarray(keras.ops.convert_to_numpy(w), np.float64) if _is_narrow(w) else w for w in model.weights]
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise NotImplementedError(f"the model cannot be built again in float64: {error}") from error
    narrow = [weight.path for weight in double.weights if _is_narrow(weight)]
    narrow += [name for name, tensor in _calls(double) if keras.backend.standardize_dtype(tensor.dtype) in _NARROW]
    if narrow:
        raise NotImplementedError(f"`{narrow[0]}` is still a narrow float in the float64 model")
    return double


def _is_narrow(variable: Any) -> bool:
    return keras.backend.standardize_dtype(variable.dtype) in _NARROW


def _widened(config: Any, key: str = "") -> Any:
    """The configuration with each dtype, and each name of a dtype policy, that is a narrower float replaced by
    float64."""
    if isinstance(config, dict):
        policy = "DTypePolicy" in str(config.get("class_name", ""))
        return {
            k: _widened(v, "dtype" if (policy and k == "config") or key == "dtype" else k) for k, v in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_widened(item, key) for item in config)
    if isinstance(config, str) and config in _NARROW and (key.endswith("dtype") or key in ("name", "args", "kwargs")):
        return "float64"
    return config


class _wide_backend:  # noqa: N801 (used as a context manager, like the ones of the standard library)
    """Float64 as the default while the wide model is built and run.

    JAX needs its 64-bit types switched on. Except on TensorFlow, Keras' promotion makes float32 of float64; the table
    that says so is put right for the time (keras/src/backend/common/dtypes.py, BIT64_TO_BIT32_DTYPE).
    """

    def __enter__(self) -> None:
        self._floatx = keras.config.floatx()
        self._policy = keras.config.dtype_policy()
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        self._promoted = dtypes.BIT64_TO_BIT32_DTYPE.get("float64")
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
        self._jax: Any = None
        if keras.backend.backend() == "jax":
            import jax

            self._jax = jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()
            self._jax.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._jax is not None:
            self._jax.__exit__(*error)
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = self._promoted
        keras.config.set_floatx(self._floatx)
        keras.config.set_dtype_policy(self._policy)


def _tensor(array: np.ndarray) -> Any:
    return keras.ops.convert_to_tensor(np.ascontiguousarray(array), dtype=array.dtype.name)


def _as_numpy(value: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))


def _spec(
    name: str, tensor: Any, dims: dict[str, tuple[int, int | None]], bounds: tuple[int, int] | None
) -> TensorSpec:
    shape: list[int | str] = []
    for axis, size in enumerate(tensor.shape):
        if size is None:
            dim = "N" if axis == 0 else f"d{axis}"
            dims.setdefault(dim, (1, None))
            shape.append(dim)
        else:
            shape.append(int(size))
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return TensorSpec(name, dtype, tuple(shape), bounds if "float" not in dtype else None)


def _table_bounds(model: Any) -> tuple[int, int] | None:
    rows = [layer.input_dim for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding)]
    return (0, min(rows) - 1) if rows else None


def _output_names(model: Any) -> list[str]:
    """The keys of the dict that the model returns; else the names of the layers that make the outputs."""
    returned = getattr(model, "_outputs_struct", None)
    if isinstance(returned, dict) and len(returned) == len(model.outputs):
        return sorted(returned)
    return _unique([_maker(tensor).name for tensor in model.outputs])


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        unique.append(f"{name}_{count}" if count else name)
    return unique


def _environment(device: str) -> dict[str, Any]:
    backend = keras.backend.backend()
    module = importlib.import_module(backend)
    settings: dict[str, Any] = {
        "runtime": f"keras {keras.__version__} ({backend} {module.__version__})",
        "device": device,
        "threads": 1,
        "tf32": False,
    }
    if backend == "tensorflow":
        settings.update(onednn_rewrites=False, deterministic_ops=True)
    return settings
