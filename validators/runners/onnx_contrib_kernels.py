"""All float64 kernels for operators of com.microsoft."""

from __future__ import annotations

from onnx.reference.op_run import OpRun

from isomorph.validators.runners.onnx_contrib import FUSED
from isomorph.validators.runners.onnx_contrib_attention import ATTENTION
from isomorph.validators.runners.onnx_contrib_cache import CACHED
from isomorph.validators.runners.onnx_contrib_quantized import QUANTIZED

__all__ = ["CONTRIB"]

CONTRIB: list[type[OpRun]] = [*FUSED, *ATTENTION, *CACHED, *QUANTIZED]
