"""The functions of the gates of a recurrent layer, read backwards from what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isomorph.ir.graph import Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import (
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
)
from isomorph.ir.ops.recurrent import ACTIVATIONS
from isomorph.ir.passes.raising.piecewise import read_hard_sigmoid

__all__ = ["Bend", "Function", "attributes_of", "read_bend"]

Function = tuple[str, tuple[float, ...]]
"""The name of a function as in ACTIVATIONS, and its parameters."""

_PARAMETERS: Mapping[type[Op], tuple[str, ...]] = {
    Elu: ("alpha",), HardSigmoid: ("alpha", "beta"), LeakyRelu: ("alpha",), Relu: (), Sigmoid: (), Softplus: (),
    Softsign: (), Tanh: (), ThresholdedRelu: ("alpha",),
}  # fmt: skip


class Bend(NamedTuple):
    """A value that is a function of another one."""

    inner: Value
    function: Function


def read_bend(value: Value | None) -> Bend | None:
    """The function that makes a value, as one op, or a HardSigmoid that is spelled out."""
    node = value.producer if value is not None else None
    if node is None or value is None or not node.inputs:
        return None
    op, inner = node.op, node.inputs[0]
    if type(op) not in _PARAMETERS:
        op_of = read_hard_sigmoid(value)
        if op_of is None:
            return None
        inner, op = op_of
    if inner is None:
        return None
    numbers = op.attributes()
    return Bend(inner, (op.name, tuple(float(numbers[name]) for name in _PARAMETERS[type(op)])))


def attributes_of(
    functions: Sequence[Function], usual: Sequence[str]
) -> dict[str, tuple[str, ...] | tuple[float, ...]]:
    """The attributes of a layer of one direction that say its functions: none if they are the usual ones."""
    names = tuple(name for name, _ in functions)
    if all(numbers == ACTIVATIONS[name][0] for name, numbers in functions):
        return {} if names == tuple(usual) else {"activations": names}
    alphas, betas = (tuple((*numbers, 0.0, 0.0)[place] for _, numbers in functions) for place in range(2))
    return {"activations": names, "alphas": alphas, "betas": betas if any(betas) else ()}
