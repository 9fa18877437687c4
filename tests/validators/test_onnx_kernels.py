"""Our float64 kernels give what onnxruntime gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
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
