"""Faults of recurrence, attention and masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from judge.faults.edits import Edit, Site, fault

__all__: list[str] = []


def _gates(edit: Edit, order: dict[str, tuple[int, ...]]) -> Iterator[Site]:
    """Gates of W, R and B in another order."""
    for node in edit.nodes(*order):
        new = order[node.op_type]

        def change(node: NodeProto = node, new: tuple[int, ...] = new) -> None:
            for position in (1, 2, 3):
                w = edit.weight(node, position)
                if w is None:
                    continue
                gates = len(new) * (2 if position == 3 else 1)
                parts = np.split(w, gates, axis=1)
                order = [*new, *(len(new) + i for i in new)] if position == 3 else new
                edit.store(node, position, np.concatenate([parts[i] for i in order], axis=1))

        yield Site(node, change)


@fault("sequences")
def lstm_gates_in_another_order(edit: Edit) -> Iterator[Site]:
    """PyTorch's i f g o, where ONNX has i o f c."""
    yield from _gates(edit, {"LSTM": (0, 2, 3, 1)})


@fault("sequences")
def gru_gates_exchanged(edit: Edit) -> Iterator[Site]:
    yield from _gates(edit, {"GRU": (1, 0, 2)})


@fault("sequences")
def reset_gate_applied_before(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("GRU"):
        flag = edit.attribute(node, "linear_before_reset", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, linear_before_reset=1 - flag))


@fault("sequences")
def recurrent_direction_reversed(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("LSTM", "GRU", "RNN"):
        direction = edit.attribute(node, "direction", "forward")
        if direction != "bidirectional":
            new = "reverse" if direction == "forward" else "forward"
            yield Site(node, lambda node=node, new=new: edit.set(node, direction=new))
            continue

        def change(node: NodeProto = node) -> None:
            for position in (1, 2, 3):
                w = edit.weight(node, position)
                if w is not None:
                    edit.store(node, position, w[::-1].copy())

        yield Site(node, change)


@fault("sequences")
def recurrent_bias_dropped(edit: Edit) -> Iterator[Site]:
    """One of the two biases of each gate."""
    for node in edit.nodes("LSTM", "GRU", "RNN"):
        bias = edit.weight(node, 3)
        if bias is not None and np.any(bias[:, bias.shape[1] // 2 :]):

            def change(node: NodeProto = node, bias: np.ndarray = bias) -> None:
                half = bias.copy()
                half[:, half.shape[1] // 2 :] = 0
                edit.store(node, 3, half)

            yield Site(node, change)


@fault("sequences")
def recurrent_kernel_transposed(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("LSTM", "GRU", "RNN"):
        kernel = edit.weight(node, 2)
        if kernel is None:
            continue
        size = kernel.shape[2]
        turned = kernel.reshape(kernel.shape[0], -1, size, size).swapaxes(2, 3).reshape(kernel.shape)
        yield Site(node, lambda node=node, turned=turned: edit.store(node, 2, turned))


@fault("sequences")
def initial_state_lost(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("LSTM", "GRU", "RNN"):
        if len(node.input) > 5 and node.input[5] and np.any(edit.values.get(node.input[5], 0)):

            def change(node: NodeProto = node) -> None:
                del node.input[5:]

            yield Site(node, change)


@fault("sequences")
def state_not_carried(edit: Edit) -> Iterator[Site]:
    """A value that is kept for the next call is the one of this call's beginning."""
    inputs = {value.name: value for value in edit.graph.input} | {t.name: t for t in edit.graph.initializer}
    for output in edit.graph.output[1:]:
        node, shape = edit.maker(output.name), edit.shape(output.name)
        same = [n for n in inputs if edit.shape(n) == shape and (n in edit.values or np.prod(shape or (0,)) >= 1)]
        same = [n for n in same if n in {v.name for v in edit.graph.input} or "fault" not in n]
        kind = edit.values[output.name].dtype if output.name in edit.values else None
        same = [n for n in same if n in edit.values and edit.values[n].dtype == kind]
        if node is None or not same or len(node.output) != 1 or shape is None:
            continue

        def change(output: str = output.name, source: str = same[0]) -> None:
            maker = edit.maker(output)
            if maker is not None:
                inner = edit.name(output)
                maker.output[0] = inner
                for each in edit.graph.node:
                    for at, name in enumerate(each.input):
                        if name == output:
                            each.input[at] = inner
                fresh = edit.graph.node.add(op_type="Identity", name=edit.name("kept"))
                fresh.input.append(source)
                fresh.output.append(output)
                fresh.metadata_props.extend(maker.metadata_props)

        yield Site(node, change)


@fault("sequences")
def causal_mask_off_by_one(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Trilu"):
        if len(node.input) < 2 or edit.weight(node, 1) is not None or not node.input[1]:

            def change(node: NodeProto = node) -> None:
                old = edit.weight(node, 1)
                diagonal = edit.constant((0 if old is None else int(old)) - 1, np.int64)
                inputs = [node.input[0], diagonal]
                del node.input[:]
                node.input.extend(inputs)

            yield Site(node, change)
    for node in edit.nodes("LessOrEqual", "GreaterOrEqual", "Less", "Greater"):
        values = [edit.values.get(name) for name in node.input]
        if all(v is not None and v.dtype.kind in "iu" for v in values):
            strict = {"LessOrEqual": "Less", "GreaterOrEqual": "Greater", "Less": "LessOrEqual"}
            strict["Greater"] = "GreaterOrEqual"

            def other(node: NodeProto = node, strict: dict[str, str] = strict) -> None:
                node.op_type = strict[node.op_type]

            yield Site(node, other)


@fault("sequences")
def causal_flag_flipped(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Attention"):
        flag = edit.attribute(node, "is_causal", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, is_causal=1 - flag))


@fault("sequences")
def attention_scale_lost(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Attention"):
        shape = edit.shape(node.input[0])
        if shape is not None and len(shape) == 4:
            old = edit.attribute(node, "scale", None)
            new = 1.0 if old is None or abs(old - 1) > 1e-6 else shape[-1] ** -0.5
            yield Site(node, lambda node=node, new=new: edit.set(node, scale=float(new)))


@fault("sequences")
def attention_mask_dropped(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Attention"):
        if len(node.input) > 3 and node.input[3]:

            def change(node: NodeProto = node) -> None:
                node.input[3] = ""

            yield Site(node, change)


@fault("sequences")
def keys_for_values(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("Attention"):
        if edit.shape(node.input[1]) == edit.shape(node.input[2]):

            def change(node: NodeProto = node) -> None:
                node.input[1], node.input[2] = node.input[2], node.input[1]

            yield Site(node, change)


@fault("sequences")
def heads_interleaved(edit: Edit) -> Iterator[Site]:
    """The heads of the values in reverse order."""
    for node in edit.nodes("Attention"):
        shape = edit.shape(node.input[2])
        if shape is not None and len(shape) == 4 and shape[1] > 1:
            order = np.arange(shape[1])[::-1].copy()
            yield Site(
                node,
                lambda node=node, order=order: edit.before(node, 2, "Gather", edit.constant(order, np.int64), axis=1),
            )


@fault("sequences")
def rotary_sign_flipped(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("RotaryEmbedding"):
        yield Site(node, lambda node=node: edit.before(node, 2, "Neg"))
    for node in edit.nodes("Neg"):
        readers = edit.users(node.output[0])
        if readers and readers[0].op_type == "Concat" and edit.is_float(node.output[0]):
            yield Site(node, lambda node=node: edit.become(node, "Identity"))


@fault("sequences")
def rotary_halves_interleaved(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("RotaryEmbedding"):
        flag = edit.attribute(node, "interleaved", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, interleaved=1 - flag))


@fault("sequences")
def rotary_positions_offset(edit: Edit) -> Iterator[Site]:
    """Angles of the next position."""
    for node in edit.nodes("Cos", "Sin"):
        if edit.is_float(node.input[0]) and node.input[0] not in edit.weights:
            yield Site(node, lambda node=node: edit.before(node, 0, "Add", edit.constant(1e-2)))


@fault("sequences")
def sum_exclusive(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("CumSum"):
        flag = edit.attribute(node, "exclusive", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, exclusive=1 - flag))


@fault("sequences")
def sum_reversed(edit: Edit) -> Iterator[Site]:
    for node in edit.nodes("CumSum"):
        flag = edit.attribute(node, "reverse", 0)
        yield Site(node, lambda node=node, flag=flag: edit.set(node, reverse=1 - flag))
