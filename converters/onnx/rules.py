"""The registry of ONNX rules.

An import rule is `rule(reader, node) -> Value | Sequence[Value]`, an export rule `rule(export, node) -> None`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isomorph.converters.rules import Rules

__all__ = ["rules"]

rules: Rules[Callable[..., Any], Callable[..., None]] = Rules("onnx")
