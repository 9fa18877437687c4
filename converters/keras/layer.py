"""What an import rule sees of a layer: its configuration, its weights, the arguments of this call, and `emit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isomorph.converters.keras.config import LayerConfig, parse_layer
from isomorph.converters.keras.weights import slots
from isomorph.errors import MalformedError, Unsupported, UnsupportedError
from isomorph.ir import Builder, DerivedTensor, DType, Layout, Op, Parameter, TensorSource, Value, ops

__all__ = ["Instance", "Layer"]


@dataclass(eq=False, slots=True)
class Instance:
    """A layer object: calls of it, also from another model, share its parameters."""

    tensors: Mapping[str, TensorSource]
    prefix: str
    trainable: bool
    parameters: dict[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of one layer, as import rules see it.

    version  version of Keras that wrote the file, (major, minor)
    mirrored whether convolution kernels are stored for true convolution (the Theano backend)
    kwargs   keyword arguments of the call, tensors as Values
    """

    source: LayerConfig
    builder: Builder
    instance: Instance
    version: tuple[int, int]
    mirrored: bool
    kwargs: Mapping[str, Any]

    @property
    def major(self) -> int:
        """1, 2 or 3."""
        return self.version[0]

    @property
    def always_training(self) -> bool:
        """Whether the call trains even at inference: Keras 3 overrides a recorded training=True, Keras 2 obeys it."""
        return self.major < 3 and self.kwargs.get("training") is True

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def cls(self) -> str:
        return self.source.cls

    @property
    def config(self) -> Mapping[str, Any]:
        return self.source.config

    def unsupported(self, reason: str) -> UnsupportedError:
        """The error to raise for a layer that cannot be expressed exactly."""
        return UnsupportedError("read keras", [Unsupported(self.cls, reason, self.name)])

    def malformed(self, what: str) -> MalformedError:
        return MalformedError(f"{self.cls} {self.name!r}: {what}")

    def number(self, key: str, default: float | None = None) -> float:
        """A real number of the configuration."""
        value = self.config.get(key, default)
        if isinstance(
            value, Mapping
        ):  # Keras 2 wrote NumPy scalars as {"class_name": "__numpy__", "config"/"value": x}
            value = value.get("value", value.get("config"))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.malformed(f"{key} is not a number: {value!r}")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.malformed(f"{key} is not an integer: {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        return default if value is None else bool(value)

    def ints(self, key: str, rank: int, default: Any = None) -> tuple[int, ...]:
        """`rank` integers; one integer stands for all."""
        value = self.config.get(key, default)
        if value is None:
            value = default
        values = list(value) if isinstance(value, (list, tuple)) else [value] * rank
        if len(values) != rank or not all(type(item) is int for item in values):
            raise self.malformed(f"{key} is not {rank} integers: {value!r}")
        return tuple(values)

    @property
    def layout(self) -> Layout:
        """Where the configuration puts the channels; Keras' default is last."""
        named = self.config.get("data_format") or "channels_last"
        if named not in ("channels_last", "channels_first"):
            raise self.malformed(f"data_format is {named!r}")
        return Layout(named)

    def axis(self, key: str, rank: int, default: int = -1) -> int:
        """One axis, nonnegative; Keras also writes it as a list of one."""
        value = self.config.get(key, default)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        if type(value) is not int or not -rank <= value < rank:
            raise self.malformed(f"{key} {value!r} for data of rank {rank}")
        return value % rank

    def axes(self, key: str, rank: int, default: int = -1) -> tuple[int, ...]:
        """One axis or several, nonnegative and sorted."""
        value = self.config.get(key, default)
        listed = list(value) if isinstance(value, (list, tuple)) else [value]
        if not all(type(item) is int and -rank <= item < rank for item in listed):
            raise self.malformed(f"{key} {value!r} for data of rank {rank}")
        return tuple(sorted({item % rank for item in listed}))

    @property
    def compute_dtype(self) -> DType | None:
        """The element type that the layer computes in, None where the configuration does not say."""
        policy = self.config.get("dtype")
        if isinstance(policy, Mapping):
            inner = policy.get("config")
            policy = inner.get("name") if isinstance(inner, Mapping) else None
        if policy is None:
            return None
        if not isinstance(policy, str):
            raise self.malformed(f"dtype is {policy!r}")
        name = policy.removeprefix("mixed_") if policy.startswith("mixed_") else policy
        if name not in {member.value for member in DType}:
            raise self.unsupported(f"the dtype policy {policy!r}")
        return DType(name)

    def has(self, name: str) -> bool:
        return name in self.instance.tensors

    def weight(
        self,
        name: str,
        change: Callable[[TensorSource], TensorSource] | None = None,
        *,
        dtype: DType | None = None,
        part: str = "",
    ) -> Value:
        """The weight `name`, seen through `change` (a lazy permutation), cast to what the layer computes in.

        part  what the name of the parameter ends in, where a weight is seen as several
        """
        parameter = self.instance.parameters.get(name + part)
        if parameter is None:
            if name not in self.instance.tensors:
                raise self.malformed(f"the weight {name!r} is missing")
            source = self.instance.tensors[name]
            slot = next(slot for slot in slots(self.source) if slot.name == name)
            trainable = self.instance.trainable and self.source.trainable and slot.trainable
            role = "weight" if slot.trainable else "buffer"
            parameter = Parameter(
                f"{self.instance.prefix}/{name}{part}", change(source) if change else source, trainable, role
            )
            self.instance.parameters[name + part] = parameter
        value = self.builder.parameter(parameter)
        wanted = dtype or self.compute_dtype
        return value if wanted is None or not value.dtype.is_float else self.cast(value, wanted)

    def optional(self, name: str) -> Value | None:
        """The weight `name`, or None where the layer has none."""
        return self.weight(name) if self.has(name) else None

    def spatial_kernel(self, source: TensorSource, spatial: int) -> TensorSource:
        """A stored kernel with its first `spatial` axes mirrored if the backend convolved truly."""
        if not self.mirrored or all(size == 1 for size in source.shape[:spatial]):
            return source
        where = (slice(None, None, -1),) * spatial
        return DerivedTensor(source.dtype, source.shape, (source,), lambda array: array[where])

    def emit(self, op: Op, *operands: Value | None) -> Value:
        return self.builder.emit(op, *operands, name=f"{self.name}/{op.name.lower()}")

    def emit_many(self, op: Op, *operands: Value | None) -> tuple[Value, ...]:
        return self.builder.emit_many(op, *operands, names=None)

    def cast(self, value: Value, dtype: DType) -> Value:
        return value if value.dtype is dtype else self.emit(ops.Cast(dtype), value)

    def constant(self, data: Any, like: Value, name: str = "constant") -> Value:
        """A literal in the element type of `like`."""
        return self.builder.constant(np.asarray(data, like.dtype.numpy), f"{self.name}/{name}")

    def nested(self, data: Mapping[str, Any]) -> Layer:
        """A layer object without weights that stands in this one's configuration (an activation, say)."""
        inner = parse_layer(data, major=self.major)
        if inner.refusal is not None:
            raise UnsupportedError("read keras", [replace(inner.refusal, where=self.name)])
        return replace(self, source=inner, instance=Instance({}, f"{self.name}/{inner.name}", True), kwargs={})

    def wrapped(self) -> Layer:
        """The layer inside a wrapper; its weights are those of the wrapper's instance."""
        if self.source.wrapped is None:
            raise self.malformed("a wrapper without a layer")
        return replace(self, source=self.source.wrapped)
