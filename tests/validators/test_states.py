"""What a model keeps from run to run is an input of every runner, with its initial value as the default."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.onnx.codec import STATE
from isomorph.validators import Verdict, judge
from isomorph.validators.runners.onnx_reference import ReferenceRunner
from isomorph.validators.runners.onnxruntime import OnnxRunner


def test_states_are_inputs_of_the_reference_evaluator(tmp_path: Path) -> None:
    """sum' = sum + x, y = sum' - 3."""
    nodes = [helper.make_node("Add", ["sum", "x"], ["next"]), helper.make_node("Sub", ["next", "three"], ["y"])]
    x, before, y, after = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in ("x", "sum", "y", "next")
    )
    weights = {"sum": np.ones((2, 4), np.float32), "three": np.full((), 3, np.float32)}
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", [x, before], [y, after], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model.metadata_props.add(key=STATE, value=json.dumps({"sum": "next"}))
    path = tmp_path / "sum.onnx"
    onnx.save(model, str(path))
    source, target = OnnxRunner(path, role="reference"), ReferenceRunner(path)
    assert [spec.name for spec in target.signature().inputs] == ["x", "sum"]
    report = judge(source, target)
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
