"""Which runtimes the judge can start here, found without importing any of them."""

from __future__ import annotations

from importlib.util import find_spec

from isomorph.converters.formats import Format
from isomorph.errors import MissingExtraError

__all__ = ["RUNTIMES", "missing", "require_runtime"]

RUNTIMES = {"onnxruntime": ("onnxruntime",), "torch": ("torch",), "keras": ("keras", "tensorflow|jax|torch")}
"""Runner -> the modules it needs; `a|b` means one of them."""


def missing(runner: str) -> list[str]:
    """The modules that a runner needs and that are not installed."""
    return [need for need in RUNTIMES[runner] if not any(find_spec(name) for name in need.split("|"))]


def require_runtime(format: Format) -> None:
    """Raise MissingExtraError unless a file of this format can be run here."""
    if format.runner is not None and (absent := missing(format.runner)):
        package = absent[0].replace("|", " or ")
        raise MissingExtraError(package, format.extra or "all", purpose=f"judging a .{format.name} model")
