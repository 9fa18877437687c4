"""Faults of activations and normalizations: constants, variants, statistics, dropped ops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from judge.faults.edits import Edit, Site, fault

__all__: list[str] = []

_NORMS = (
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
)
_CURVES = (
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Softplus",
    "Mish", "Swish", "Clip", "Erf", "Softmax", "LogSoftmax",
)  # fmt: skip


@fault("activations")
def activation_dropped(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes(*_CURVES):
        yield Site(node, lambda node=node: edit.become(node, "Identity", [node.input[0]]))


@fault("activations")
def relu_capped_at_six(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Relu"):
        yield Site(
            node,
            lambda node=node: edit.become(node, "Clip", [node.input[0], edit.constant(0.0), edit.constant(6.0)]),
        )


@fault("activations")
def cap_lost(edit: Edit) -> Iterator[Site]:
    """A clip without its upper bound."""
    for node in edit.nodes("Clip"):
        if len(node.input) > 2 and node.input[2] and edit.is_float(node.input[0]):
            yield Site(node, lambda node=node: edit.become(node, "Clip", list(node.input[:2])))


@fault("activations")
def clip_range_off(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Clip"):
        for position in (2, 1):
            bound = edit.weight(node, position)
            if bound is not None and bound.dtype.kind == "f":
                moved = bound * 0.9 if bound else bound + 0.1
                yield Site(node, lambda node=node, at=position, moved=moved: edit.store(node, at, moved))
                break


@fault("activations")
def slope_of_another_framework(edit: Edit) -> Iterator[Site]:
    """LeakyReLU 0.3 (Keras), 0.01 (PyTorch), 0.2; alpha of ELU and HardSigmoid."""
    other = {"LeakyRelu": (0.01, 0.3), "Elu": (1.0, 0.5), "HardSigmoid": (0.2, 1 / 6), "ThresholdedRelu": (1.0, 0.5)}
    for node in edit.nodes(*other):
        default, second = other[node.op_type]
        old = edit.attribute(node, "alpha", default)
        new = second if abs(old - default) < 1e-6 else default
        yield Site(node, lambda node=node, new=new: edit.set(node, alpha=float(new)))
    for node in edit.nodes("PRelu"):
        slope = edit.weight(node, 1)
        if slope is not None:
            yield Site(node, lambda node=node, slope=slope: edit.store(node, 1, np.full_like(slope, slope.mean())))


@fault("activations")
def gelu_of_the_other_kind(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Gelu"):
        new = "none" if edit.attribute(node, "approximate", "none") == "tanh" else "tanh"
        yield Site(node, lambda node=node, new=new: edit.set(node, approximate=new))


@fault("activations")
def gelu_by_sigmoid(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Gelu"):

        def change(node: NodeProto = node) -> None:
            _by_gate(edit, node, 1.702)

        yield Site(node, change)


def _by_gate(edit: Edit, node: NodeProto, slope: float) -> None:
    """x · sigmoid(slope · x) in place of this node."""
    edit.become(node, "Mul", [node.input[0], node.input[0]])
    edit.before(node, 1, "Sigmoid")
    gate = edit.maker(node.input[1])
    if gate is not None:
        edit.before(gate, 0, "Mul", edit.constant(slope))


@fault("activations")
def sigmoid_by_lines(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Sigmoid"):
        yield Site(node, lambda node=node: edit.become(node, "HardSigmoid", alpha=0.2, beta=0.5))
    for node in edit.nodes("HardSigmoid"):
        yield Site(node, lambda node=node: edit.become(node, "Sigmoid"))


@fault("activations")
def swish_of_the_other_kind(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("HardSwish"):
        yield Site(node, lambda node=node: _by_gate(edit, node, 1.0))


@fault("activations")
def softmax_axis_off_by_one(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Softmax", "LogSoftmax"):
        shape = edit.shape(node.input[0])
        if shape is not None and len(shape) > 1:
            axis = edit.attribute(node, "axis", -1) % len(shape)
            yield Site(node, lambda node=node, axis=axis: edit.set(node, axis=axis - 1 if axis else axis + 1))


@fault("activations")
def softmax_for_its_logarithm(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Softmax", "LogSoftmax"):
        new = "LogSoftmax" if node.op_type == "Softmax" else "Softmax"
        axis = edit.attribute(node, "axis", -1)
        yield Site(node, lambda node=node, new=new, axis=axis: edit.become(node, new, axis=axis))


@fault("activations")
def softplus_threshold_lost(edit: Edit) -> Iterator[Site]:
    """Softplus as log(1 + exp(x)) with beta 2."""
    for node in edit.nodes("Softplus"):
        yield Site(node, lambda node=node: edit.before(node, 0, "Mul", edit.constant(2.0)))


@fault("normalization")
def epsilon_of_another_framework(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes(*_NORMS):
        old = edit.attribute(node, "epsilon", 1e-5)
        yield Site(node, lambda node=node, old=old: edit.set(node, epsilon=1e-3 if old < 5e-4 else 1e-5))


@fault("normalization")
def epsilon_ten_times(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes(*_NORMS):
        old = edit.attribute(node, "epsilon", 1e-5)
        yield Site(node, lambda node=node, old=old: edit.set(node, epsilon=old * 10))


@fault("normalization")
def mean_and_variance_exchanged(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("BatchNormalization"):
        mean = edit.weight(node, 3)
        if mean is not None:

            def change(node: NodeProto = node, mean: np.ndarray = mean) -> None:
                node.input[3], node.input[4] = node.input[4], edit.constant(np.abs(mean), mean.dtype)

            yield Site(node, change)


@fault("normalization")
def beta_and_mean_exchanged(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("BatchNormalization"):

        def change(node: NodeProto = node) -> None:
            node.input[2], node.input[3] = node.input[3], node.input[2]

        yield Site(node, change)


@fault("normalization")
def gamma_and_beta_exchanged(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization"):
        if len(node.input) > 2 and node.input[2]:

            def change(node: NodeProto = node) -> None:
                node.input[1], node.input[2] = node.input[2], node.input[1]

            yield Site(node, change)


@fault("normalization")
def gamma_lost(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes(*_NORMS):
        gamma = edit.weight(node, 1)
        if gamma is not None:
            yield Site(node, lambda node=node, gamma=gamma: edit.store(node, 1, np.ones_like(gamma)))


@fault("normalization")
def running_variance_unbiased(edit: Edit) -> Iterator[Site]:
    """n / (n - 1) for n = 1000: another convention of what a running variance is."""
    for node in edit.nodes("BatchNormalization"):
        variance = edit.weight(node, 4)
        if variance is not None:
            yield Site(node, lambda node=node, variance=variance: edit.store(node, 4, variance * 1000 / 999))


@fault("normalization")
def statistics_of_the_batch(edit: Edit) -> Iterator[Site]:
    """Batch norm left in training mode."""
    for node in edit.nodes("BatchNormalization"):

        def change(node: NodeProto = node) -> None:
            shape = edit.shape(node.input[0]) or ()
            axes = edit.constant([axis for axis in range(len(shape)) if axis != 1], np.int64)
            value, names = node.input[0], [edit.name("batch") for _ in range(4)]
            place = next(index for index, each in enumerate(edit.graph.node) if each == node)
            from onnx import helper

            for made in reversed(
                [
                    helper.make_node("ReduceMean", [value, axes], [names[0]], keepdims=1),
                    helper.make_node("Sub", [value, names[0]], [names[1]]),
                    helper.make_node("Mul", [names[1], names[1]], [names[2]]),
                    helper.make_node("ReduceMean", [names[2], axes], [names[3]], keepdims=1),
                ]
            ):
                edit.graph.node.insert(place, made)
            flat = edit.constant([-1], np.int64)
            node.input[3], node.input[4] = names[0], names[3]
            edit.before(node, 3, "Reshape", flat)
            edit.before(node, 4, "Reshape", flat)

        yield Site(node, change)


@fault("normalization")
def groups_of_another_size(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("GroupNormalization"):
        groups = edit.attribute(node, "num_groups", 1)
        yield Site(node, lambda node=node, groups=groups: edit.set(node, num_groups=1 if groups > 1 else groups * 2))


@fault("normalization")
def layer_norm_over_more_axes(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("LayerNormalization", "RMSNormalization"):
        shape = edit.shape(node.input[0])
        axis = edit.attribute(node, "axis", -1)
        if shape is not None and len(shape) > 2:
            there = axis % len(shape)
            yield Site(node, lambda node=node, axis=there: edit.set(node, axis=axis - 1))


@fault("activations")
def dropout_not_removed(edit: Edit) -> Iterator[Site]:
    """Training mode's scale 1 / (1 - p), p = 0.1, without the random zeros."""
    for node in edit.nodes(*_CURVES):
        if edit.is_float(node.output[0]):
            yield Site(node, lambda node=node: edit.after(node, "Mul", edit.constant(1 / 0.9)))


@fault("activations")
def dropout_left_in_training_mode(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Relu", "Gelu", "HardSwish", "Tanh", "Softmax"):
        if edit.is_float(node.output[0]):

            def change(node: NodeProto = node) -> None:
                edit.after(node, "Dropout", edit.constant(0.1), edit.constant(True, np.bool_), seed=7)

            yield Site(node, change)
