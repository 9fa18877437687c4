"""Resampling in ONNX."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops


@rules.exports(ops.Resize)
def write_resize(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Resize) and node.inputs[0] is not None
    x = node.inputs[0]
    operands: list[object] = [x, None]
    if op.scales is not None:
        operands.append(export.constant(np.asarray([1.0, 1.0, *op.scales], np.float32), "scales"))
    else:
        operands += [None, export.sizes([x.shape[0], x.shape[1], *op.sizes], "sizes")]
    attributes = {
        "mode": op.mode,
        "coordinate_transformation_mode": op.coordinates,
        "nearest_mode": op.nearest_mode if op.mode == "nearest" else None,
        "cubic_coeff_a": op.cubic_coeff_a if op.mode == "cubic" else None,
        "exclude_outside": 1 if op.exclude_outside else None,
        "antialias": 1 if op.antialias else None,
    }
    export.replace("Resize", node, inputs=operands, **attributes)  # type: ignore[arg-type]
