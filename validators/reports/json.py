"""The report as JSON, as report.schema.json describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["render"]


def render(content: Mapping[str, Any]) -> str:
    """One JSON document with a final newline; the same bytes for the same report."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
