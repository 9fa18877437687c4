"""How an ONNX file is written where there is a choice."""

from __future__ import annotations

from typing import Literal

from isomorph.records import record

__all__ = ["EXTERNAL_DATA_FROM", "OnnxForm"]

EXTERNAL_DATA_FROM = 1 << 30
"""Weights of more bytes than this in total go to `NAME.onnx.data` (protobuf ends at 2 GiB)."""


@record
class OnnxForm:
    """What a user may ask of an ONNX file beyond its opset.

    quantized      "qdq": float operators between QuantizeLinear and DequantizeLinear; "qoperator": QLinearConv and the
                   like (and those of com.microsoft) where they are the same, see converters/onnx/qoperator_form.py
    functions      "inline": nodes stand where they are; "kept": each module, and each function of the source, is a
                   model-local function, see converters/onnx/local_functions.py
    external_data  weights of more bytes than this in total go to `NAME.onnx.data` beside the file; 0: always
    """

    quantized: Literal["qdq", "qoperator"] = "qdq"
    functions: Literal["inline", "kept"] = "inline"
    external_data: int = EXTERNAL_DATA_FROM
