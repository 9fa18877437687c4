"""Small graphs for the tests of passes: built, counted, and compared before and after by evaluation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from isomorph.ir import ArrayTensor, Builder, DType, Model, Origin, Parameter, Scope, Sym, Value
from isomorph.ir.evaluate import evaluate
from isomorph.ir.verify import verify

__all__ = ["agree", "built", "drawn", "kinds", "number", "weight"]

SIZES = {"N": 2, "L": 3, "S": 5}
"""What symbolic sizes are when a model is evaluated."""


def built(make: Callable[[Builder], Value]) -> Model:
    """The verified model whose output `y` is what `make` returns."""
    b = Builder("test")
    with b.at(Scope(), Origin("test", "op", "x")):
        b.output("y", make(b))
    model = b.finish()
    verify(model)
    return model


def kinds(model: Model) -> Counter[str]:
    """How many nodes of each op."""
    return Counter(node.op.name for node in model.graph.nodes)


def drawn(model: Model) -> dict[str, np.ndarray]:
    """Inputs of the model: normal numbers as its types have them; truth values with one row of False."""
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for value in model.graph.inputs:
        shape = [SIZES[str(dim)] if isinstance(dim, Sym) else dim for dim in value.shape]
        numbers = rng.normal(size=shape) * (1 if value.dtype.is_float else 3)
        feeds[value.name] = numbers > 0 if value.dtype is DType.BOOL else numbers.astype(value.dtype.numpy)
        if value.dtype is DType.BOOL and len(shape) > 2:
            feeds[value.name][0, ..., -1, :] = False
    return feeds


def agree(
    before: Model,
    after: Model,
    feeds: Mapping[str, np.ndarray] | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Require that both give the same outputs for the same inputs, drawn unless given."""
    verify(after)
    feeds = drawn(before) if feeds is None else feeds
    for wanted, got in zip(evaluate(before, feeds).values(), evaluate(after, feeds).values(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


def weight(b: Builder, name: str, *shape: int) -> Value:
    """A trainable parameter of numbers from -1 to 1."""
    data = np.linspace(-1, 1, math.prod(shape), dtype=np.float32).reshape(shape)
    return b.parameter(Parameter(name, ArrayTensor(data)))


def number(b: Builder, value: float, dtype: DType = DType.FLOAT32) -> Value:
    """A constant of one element."""
    return b.constant(np.asarray(value, dtype.numpy), "number")
