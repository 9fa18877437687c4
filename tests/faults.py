"""A small ONNX network with one of everything, and the faults that converters make, as edits of it.

`build(dtype)` makes the network in float32 or float64 from the same numbers. A fault edits the ModelProto in place. The
truth (does this edit change the function?) comes from onnx.reference on the float64 build: no code of the judge takes
part.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Fault = Callable[[ModelProto], None]
FAULTS: dict[str, Fault] = {}


def build(dtype: type = np.float32) -> ModelProto:
    """x (N, 3, 17, 15) -> logits (N, 10): two heads (flattened and pooled) of a residual network."""
    rng = np.random.default_rng(3)
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int, low: float | None = None) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        values = rng.standard_normal(shape) / np.sqrt(fan) if low is None else rng.uniform(low, 1.5, shape)
        weights.append(numpy_helper.from_array(values.astype(np.float32).astype(dtype), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
        return helper.make_node(op, inputs, [output], name=output, **attributes)

    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", weight("w1", 8, 3, 3, 3), weight("b1", 8)], "conv1", pads=[1, 0, 0, 1]),
        node(
            "BatchNormalization",
            ["conv1", weight("gamma", 8, low=0.5), weight("beta", 8), weight("mean", 8), weight("var", 8, low=0.05)],
            "bn",
            epsilon=1e-3,
        ),
        node("Relu", ["bn"], "relu1"),
        node("Conv", ["relu1", weight("w2", 8, 8, 3, 3), weight("b2", 8)], "conv2", **same),
        node("Relu", ["conv2"], "relu2"),
        node("Conv", ["relu2", weight("w3", 8, 8, 3, 3), weight("b3", 8)], "conv3", **same),
        node("Add", ["relu1", "conv3"], "residual"),
        node("LeakyRelu", ["residual"], "leaky", alpha=0.1),
        node("Conv", ["leaky", weight("w4", 8, 1, 3, 3)], "depthwise", group=8, strides=[2, 2], **same),
        node("AveragePool", ["depthwise"], "average", kernel_shape=[3, 3], strides=[2, 2], count_include_pad=0, **same),
        node("Conv", ["average", weight("w5", 6, 8, 1, 1)], "branch1"),
        node("Conv", ["average", weight("w6", 6, 8, 1, 1)], "branch2"),
        node("Concat", ["branch1", "branch2"], "concat", axis=1),
        node("Flatten", ["concat"], "flat", axis=1),
        node("MaxPool", ["depthwise"], "max", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("GlobalAveragePool", ["max"], "global"),
        node("Flatten", ["global"], "pooled", axis=1),
        node("Gemm", ["pooled", weight("square", 8, 8), weight("b7", 8)], "mixed", transB=1),
        node("Concat", ["flat", "mixed"], "features", axis=1),
        node("Gemm", ["features", weight("dense", 10, 12 * 4 * 4 + 8), weight("b8", 10)], "logits", transB=1),
    ]
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "faulty",
        [helper.make_tensor_value_info("x", kind, ["N", 3, 17, 15])],
        [helper.make_tensor_value_info("logits", kind, ["N", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def changes_the_function(fault: Fault) -> bool:
    """Whether the edit moves the logits by more than 1e-9 of their size in float64, on images and on noise."""
    clean, faulty = build(np.float64), build(np.float64)
    fault(faulty)
    rng = np.random.default_rng(11)
    moved = 0.0
    for scale in (1.0, 100.0):
        x = rng.standard_normal((2, 3, 17, 15)) * scale
        (left,), (right,) = (ReferenceEvaluator(model).run(None, {"x": x}) for model in (clean, faulty))
        moved = max(moved, float(np.abs(left - right).max() / np.abs(left).max()))
    return moved > 1e-9


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def edit(model: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace an initializer by `change` of it; the shape stays."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    old = numpy_helper.to_array(tensor)
    new = np.ascontiguousarray(change(old.copy())).astype(old.dtype)
    assert new.shape == old.shape
    tensor.CopyFrom(numpy_helper.from_array(new, name))


def node_named(model: ModelProto, name: str) -> NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def set_attribute(model: ModelProto, node: str, name: str, value: object) -> None:
    target = node_named(model, node)
    kept = [attribute for attribute in target.attribute if attribute.name != name]
    del target.attribute[:]
    target.attribute.extend([*kept, helper.make_attribute(name, value)])


def rewire(model: ModelProto, node: str, position: int, value: str) -> None:
    node_named(model, node).input[position] = value


@fault
def same_shape_weights_swapped(model: ModelProto) -> None:
    rewire(model, "conv2", 1, "w3")
    rewire(model, "conv3", 1, "w2")


@fault
def biases_swapped(model: ModelProto) -> None:
    rewire(model, "conv2", 2, "b3")
    rewire(model, "conv3", 2, "b2")


@fault
def bias_dropped(model: ModelProto) -> None:
    edit(model, "b2", np.zeros_like)


@fault
def square_dense_transposed(model: ModelProto) -> None:
    edit(model, "square", np.transpose)


@fault
def kernel_height_and_width_swapped(model: ModelProto) -> None:
    edit(model, "w2", lambda w: w.swapaxes(2, 3))


@fault
def kernel_flipped(model: ModelProto) -> None:
    edit(model, "w3", lambda w: w[:, :, ::-1, ::-1])


@fault
def depthwise_kernel_flipped(model: ModelProto) -> None:
    edit(model, "w4", lambda w: w[:, :, ::-1, ::-1])


@fault
def rgb_taken_for_bgr(model: ModelProto) -> None:
    edit(model, "w1", lambda w: w[:, ::-1])


@fault
def channels_rolled(model: ModelProto) -> None:
    edit(model, "w2", lambda w: np.roll(w, 1, axis=0))


@fault
def one_channel_negated(model: ModelProto) -> None:
    edit(model, "w3", lambda w: w * np.where(np.arange(8) == 5, -1, 1).reshape(8, 1, 1, 1))


@fault
def last_percent_zeroed(model: ModelProto) -> None:
    def zero(w: np.ndarray) -> np.ndarray:
        w.reshape(-1)[-max(1, w.size // 100) :] = 0
        return w

    edit(model, "dense", zero)


@fault
def weights_through_float16(model: ModelProto) -> None:
    edit(model, "w2", lambda w: w.astype(np.float16))


@fault
def weights_through_bfloat16(model: ModelProto) -> None:
    edit(model, "w2", lambda w: w.astype(ml_dtypes.bfloat16))


@fault
def gamma_and_beta_swapped(model: ModelProto) -> None:
    rewire(model, "bn", 1, "beta")
    rewire(model, "bn", 2, "gamma")


@fault
def beta_and_mean_swapped(model: ModelProto) -> None:
    rewire(model, "bn", 2, "mean")
    rewire(model, "bn", 3, "beta")


@fault
def epsilon_of_another_framework(model: ModelProto) -> None:
    set_attribute(model, "bn", "epsilon", 1e-5)


@fault
def padding_on_the_other_side(model: ModelProto) -> None:
    set_attribute(model, "conv1", "pads", [0, 1, 1, 0])


@fault
def pads_counted_in_average(model: ModelProto) -> None:
    set_attribute(model, "average", "count_include_pad", 1)


@fault
def ceil_mode_lost(model: ModelProto) -> None:
    set_attribute(model, "max", "ceil_mode", 0)


@fault
def activation_dropped(model: ModelProto) -> None:
    node_named(model, "relu2").op_type = "Identity"


@fault
def slope_of_another_framework(model: ModelProto) -> None:
    set_attribute(model, "leaky", "alpha", 0.01)


@fault
def relu_became_relu6(model: ModelProto) -> None:
    kind = model.graph.input[0].type.tensor_type.elem_type
    for name, value in (("zero", 0.0), ("six", 6.0)):
        model.graph.initializer.append(helper.make_tensor(name, kind, [], [value]))
    node = node_named(model, "relu1")
    node.op_type = "Clip"
    node.input.extend(["zero", "six"])


@fault
def residual_dropped(model: ModelProto) -> None:
    node = node_named(model, "residual")
    node.op_type = "Identity"
    del node.input[0]


@fault
def concat_order_reversed(model: ModelProto) -> None:
    rewire(model, "concat", 0, "branch2")
    rewire(model, "concat", 1, "branch1")


@fault
def flattened_in_another_layout(model: ModelProto) -> None:
    def permute(w: np.ndarray) -> np.ndarray:
        w[:, :192] = w[:, :192].reshape(10, 12, 4, 4).transpose(0, 2, 3, 1).reshape(10, 192)
        return w

    edit(model, "dense", permute)


@fault
def stride_phase_shifted(model: ModelProto) -> None:
    set_attribute(model, "depthwise", "pads", [0, 0, 2, 2])
