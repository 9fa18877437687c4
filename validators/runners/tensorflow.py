"""SavedModels: guest/tensorflow.py in this installation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isomorph.validators.guest import tensorflow
from isomorph.validators.runners.adapted import AdaptedRunner

__all__ = ["open_model"]


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> AdaptedRunner:
    """The runner for a worker."""
    return AdaptedRunner("tensorflow", lambda: tensorflow.open_model(dict(model), role, device))
