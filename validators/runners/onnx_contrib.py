"""Float64 kernels for the operators of com.microsoft that onnxruntime's optimizers write in place of several of ONNX's.

Each follows its definition in docs/ContribOperators.md of microsoft/onnxruntime, under the name of its class. What a
kernel does not cover (an attribute, an operand, a result) raises NotImplementedError, which leaves the model without a
float64 run. Axes: N batch, L length, C channels.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from onnx import helper
from onnx.reference.op_run import OpRun

from isomorph.validators.runners.onnx_kernels import Conv

__all__ = ["FUSED", "Contrib"]

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Contrib(OpRun):
    """An operator with its attributes and their defaults, the number of its operands, and `compute` on all of these.

    `OpRun` takes defaults from ONNX's operator of the same name, so the node itself is asked.
    """

    op_domain = "com.microsoft"
    defaults: ClassVar[dict[str, Any]] = {}
    arity: ClassVar[int] = 1

    def compute(self, *operands: Any) -> tuple[np.ndarray, ...]:
        raise NotImplementedError(f"no float64 reference for {self.onnx_node.op_type}")

    def _run(self, *operands: Any, **_: Any) -> tuple[np.ndarray, ...]:
        for attribute in self.onnx_node.attribute:
            if attribute.name not in self.defaults or attribute.ref_attr_name:
                self.refuse(f"attribute `{attribute.name}`")
        for position in range(self.arity, len(operands)):
            if operands[position] is not None:
                self.refuse(f"operand {position}")
        results = self.compute(*operands[: self.arity], *[None] * (self.arity - len(operands)))
        for position, name in enumerate(self.onnx_node.output[len(results) :], len(results)):
            self.refuse(f"result {position} (`{name}`)")
        return results[: len(self.onnx_node.output)]

    def attribute(self, name: str) -> Any:
        for attribute in self.onnx_node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return self.defaults[name]

    def refuse(self, what: str) -> Any:
        raise NotImplementedError(f"no float64 reference for {self.onnx_node.op_type} with {what}")


class FusedMatMul(Contrib):
    """alpha * a' b': the last two axes swapped by transX, before that the first moved to second last by transBatchX."""

    defaults: ClassVar[dict[str, Any]] = {"alpha": 1.0, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0}
    arity = 2

    def compute(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(self.attribute("alpha") * np.matmul(self._matrices(a, "A"), self._matrices(b, "B"))),)

    def _matrices(self, x: np.ndarray, side: str) -> np.ndarray:
        if x.ndim < 2:
            return x
        x = np.moveaxis(x, 0, -2) if self.attribute(f"transBatch{side}") else x
        return x.swapaxes(-1, -2) if self.attribute(f"trans{side}") else x


class TransposeMatMul(FusedMatMul):
    """The former name of FusedMatMul."""


class Gelu(Contrib):
    """x * Phi(x) = 0.5 x (1 + erf(x / sqrt(2)))."""

    def compute(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        return (_gelu(x),)


class BiasGelu(Contrib):
    """Gelu(x + bias), bias (C,)."""

    arity = 2

    def compute(self, x: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, ...]:
        return (_gelu(x + bias),)


class FastGelu(Contrib):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) of x + bias, bias (C,) optional."""

    arity = 2

    def compute(self, x: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, ...]:
        x = x if bias is None else x + bias
        return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)


class QuickGelu(Contrib):
    """x * sigmoid(alpha * x)."""

    defaults: ClassVar[dict[str, Any]] = {"alpha": 1.702}

    def compute(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        return (x * sigmoid(self.attribute("alpha") * x),)


class BiasSplitGelu(Contrib):
    """The left half of x + bias times Gelu of the right half, halves of the last axis."""

    arity = 2

    def compute(self, x: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, ...]:
        left, right = np.split(x + bias, 2, axis=-1)
        return (left * _gelu(right),)


class BiasAdd(Contrib):
    """x + bias + skip."""

    arity = 3

    def compute(self, x: np.ndarray, bias: np.ndarray, skip: np.ndarray) -> tuple[np.ndarray, ...]:
        return (x + bias + skip,)


class FusedConv(Contrib, Conv):  # type: ignore[misc]  # its `_run` is Contrib's, for any operands
    """activation(Conv(x, w, b) + z), z of the result's shape and optional."""

    op_domain = "com.microsoft"
    defaults: ClassVar[dict[str, Any]] = {
        "activation": "", "activation_params": (), "auto_pad": "NOTSET", "dilations": (), "group": 1,
        "kernel_shape": (), "pads": (), "strides": (),
    }  # fmt: skip
    arity = 4

    def compute(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, z: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        (y,) = Conv._run(self, x, w, b)
        return (_activated(self, y if z is None else y + z, list(self.attribute("activation_params"))),)


class FusedGemm(Contrib):
    """activation(alpha * a' b' + beta * c)."""

    defaults: ClassVar[dict[str, Any]] = {
        "activation": "", "activation_alpha": None, "activation_beta": None, "alpha": 1.0, "beta": 1.0, "transA": 0,
        "transB": 0,
    }  # fmt: skip
    arity = 3

    def compute(self, a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> tuple[np.ndarray, ...]:
        a, b = a.T if self.attribute("transA") else a, b.T if self.attribute("transB") else b
        y = self.attribute("alpha") * (a @ b)
        y = y if c is None else y + self.attribute("beta") * c
        given = [self.attribute(f"activation_{name}") for name in ("alpha", "beta")]
        return (_activated(self, y, [number for number in given if number is not None]),)


class SimplifiedLayerNormalization(Contrib):
    """x / sqrt(mean(x^2) + epsilon) * scale over the axes from `axis` on, and 1 / sqrt(...); of ONNX's own domain."""

    op_domain = ""
    defaults: ClassVar[dict[str, Any]] = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}
    arity = 2

    def compute(self, x: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, ...]:
        axes = tuple(range(self.attribute("axis") % x.ndim, x.ndim))
        inverse = 1 / np.sqrt((x * x).mean(axes, keepdims=True) + self.attribute("epsilon"))
        return x * inverse * scale, inverse


class SkipLayerNormalization(Contrib):
    """LayerNormalization of x + skip + bias over C; the mean and 1 / sqrt(variance + epsilon) (N, L, 1); the sum."""

    defaults: ClassVar[dict[str, Any]] = {"epsilon": 1e-12}
    arity = 5

    def compute(
        self, x: np.ndarray, skip: np.ndarray, gamma: np.ndarray, beta: np.ndarray | None, bias: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        total = x + skip if bias is None else x + skip + bias
        return *_normalized(total, gamma, beta, self.attribute("epsilon")), total


class SkipSimplifiedLayerNormalization(Contrib):
    """SimplifiedLayerNormalization of x + skip + bias over C; the sum."""

    defaults: ClassVar[dict[str, Any]] = {"epsilon": 1e-12}
    arity = 4

    def compute(
        self, x: np.ndarray, skip: np.ndarray, gamma: np.ndarray, bias: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        for position, name in enumerate(self.onnx_node.output[1:3], 1):
            if name:
                self.refuse(f"result {position} (`{name}`)")
        total = x + skip if bias is None else x + skip + bias
        inverse = 1 / np.sqrt((total * total).mean(-1, keepdims=True) + self.attribute("epsilon"))
        return total * inverse * gamma, np.zeros_like(inverse), inverse, total


class EmbedLayerNormalization(Contrib):
    """LayerNormalization of the sum of the embeddings of words, positions and segments (N, L); the number of ones in
    each row of the mask, int32 (N,), 0 without a mask; the sum."""

    defaults: ClassVar[dict[str, Any]] = {"epsilon": 1e-12, "mask_index_type": 1}
    arity = 9

    def compute(self, *operands: Any) -> tuple[np.ndarray, ...]:
        words, segments, table, places, kinds, gamma, beta, mask, positions = operands
        total = table[words] + places[np.arange(words.shape[1]) if positions is None else positions]
        if segments is not None and kinds is not None:
            total = total + kinds[segments]
        counts = np.zeros(words.shape[0], np.int32) if mask is None else (mask == 1).sum(1).astype(np.int32)
        return _normalized(total, gamma, beta, self.attribute("epsilon"))[0], counts, total


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1 + small))


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2)))) if x.size else x


def _normalized(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray | None, epsilon: float) -> tuple[np.ndarray, ...]:
    mean = x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon)
    y = (x - mean) * inverse * gamma
    return y if beta is None else y + beta, mean, inverse


def _activated(op: Contrib, x: np.ndarray, given: list[float]) -> np.ndarray:
    name = op.attribute("activation")
    match name, given:
        case "", _:
            return x
        case "Relu", _:
            return np.asarray(np.maximum(x, 0))
        case "Tanh", _:
            return np.asarray(np.tanh(x))
        case "Sigmoid", _:
            return sigmoid(x)
        case "LeakyRelu", [alpha]:
            return np.where(x < 0, alpha * x, x)
        case "HardSigmoid", [alpha, beta]:
            return np.asarray(np.clip(alpha * x + beta, 0, 1))
        case "Clip", [low, high]:
            return np.asarray(np.clip(x, low, high))
    op.refuse(f"activation {name!r} of {given}")
    return x


FUSED: list[type[OpRun]] = [
    FusedMatMul,
    TransposeMatMul,
    Gelu,
    BiasGelu,
    FastGelu,
    QuickGelu,
    BiasSplitGelu,
    BiasAdd,
    FusedConv,
    FusedGemm,
    SimplifiedLayerNormalization,
    SkipLayerNormalization,
    SkipSimplifiedLayerNormalization,
    EmbedLayerNormalization,
]
