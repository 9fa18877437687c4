"""Our float64 kernels give what onnxruntime gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, parser
from onnx.reference import ReferenceEvaluator

from isomorph.validators.runners.onnx_kernels import KERNELS


@pytest.mark.parametrize(("axis", "shape"), [(0, (3, 20)), (1, (3, 20)), (-1, (5, 70)), (1, (1, 35))])
def test_gather_elements_along_more_than_64_positions(axis: int, shape: tuple[int, int]) -> None:
    graph = helper.make_graph(
        [helper.make_node("GatherElements", ["x", "at"], ["y"], axis=axis)],
        "gather",
        [
            helper.make_tensor_value_info("x", TensorProto.DOUBLE, [5, 70]),
            helper.make_tensor_value_info("at", TensorProto.INT64, shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(5, 70)), "at": rng.integers(-5, 5, size=shape)}
    (got,) = ReferenceEvaluator(model, new_ops=KERNELS).run(None, feeds)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(got, session.run(None, feeds)[0])


@pytest.mark.parametrize("opset", [10, 13, 17, 21])
@pytest.mark.parametrize("case", ["tensor", "channel", "bias", "block"])
def test_dequantize_of_every_opset(opset: int, case: str) -> None:
    """Per tensor, per channel, a bias of 32 bits, and blocks; exactly x - zero_point times the scale."""
    if (case == "block" and opset < 21) or (case in ("channel", "bias") and opset < 13):
        pytest.skip("not in this opset")
    rng = np.random.default_rng(1)
    shape = {"bias": (6,), "block": (3, 8)}.get(case, (2, 6, 5))
    kind = np.int32 if case == "bias" else np.int8
    limit = 2**31 - 1 if case == "bias" else 127
    x = rng.integers(-limit, limit, shape).astype(kind)
    sizes = {"tensor": (), "channel": (6,), "bias": (6,), "block": (3, 2)}[case]
    scale = rng.uniform(0.01, 0.1, sizes)
    zero = rng.integers(-9, 9, sizes).astype(np.int8) if case != "bias" else None
    attributes = {"channel": {"axis": 1}, "bias": {"axis": 0}, "block": {"axis": 1, "block_size": 4}}.get(case, {})
    feeds = {"x": x, "scale": scale} | ({"zero": zero} if zero is not None else {})
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    nodes = [helper.make_node("DequantizeLinear", list(feeds), ["y"], **attributes)]
    graph = helper.make_graph(nodes, "q", inputs, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    (got,) = ReferenceEvaluator(model, new_ops=KERNELS).run(None, feeds)
    wide = x.astype(np.float64) - (0 if zero is None else _spread(zero, case, shape))
    np.testing.assert_array_equal(got, wide * _spread(scale, case, shape))
    assert got.dtype == np.float64


@pytest.mark.parametrize(("shape", "turns"), [("", 4), ("2", 0), ("2", 4), ("2, 3", 0), ("2, 3", 1), ("2, 3", 4)])
def test_what_the_turns_of_a_loop_give_is_stacked(shape: str, turns: int) -> None:
    """A state that doubles, and what each turn makes of it and of a value from outside."""
    model = parser.parse_model(f"""
    <ir_version: 8, opset_import: ["": 18]>
    loop (int64 trips, double[{shape}] x, double[{shape}] outer)
        => (double[{shape}] last, double[T, {shape or 1}] stack) {{
        going = Constant <value = bool {{1}}> ()
        last, stacked = Loop (trips, going, x) <body = body (int64 turn, bool on, double[{shape}] h)
            => (bool still, double[{shape}] h1, double[{shape}] given) {{
            still = Identity (on)
            h1 = Add (h, h)
            given = Sub (h1, outer)
        }}>
        stack = Identity (stacked)
    }}
    """)
    if not shape:
        model.graph.output[1].type.tensor_type.shape.dim.pop()
    size = tuple(map(int, shape.split(","))) if shape else ()
    rng = np.random.default_rng(0)
    feeds = {"trips": np.asarray(turns, np.int64), "x": rng.normal(size=size), "outer": rng.normal(size=size)}
    feeds = {name: np.asarray(array) for name, array in feeds.items()}
    got = ReferenceEvaluator(model, new_ops=KERNELS).run(None, feeds)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for ours, theirs in zip(got, session.run(None, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.shape(ours) == theirs.shape


def _spread(value: np.ndarray, case: str, shape: tuple[int, ...]) -> np.ndarray:
    if case == "block":
        return np.stack([value[:, column // 4] for column in range(shape[1])], 1)
    return value[:, None] if case == "channel" else value
