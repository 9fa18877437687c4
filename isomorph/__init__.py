"""Convert neural networks between frameworks, and prove that nothing changed.

    import isomorph

    isomorph.convert("model.pt2", "model.onnx")                     # parse, lay out, write; nothing is run
    report = isomorph.validate("model.pt2", "model.onnx")           # runs both, in processes of their own
    difference = isomorph.diff("old.onnx", "new.onnx")              # nodes, attributes, weights, renames
    model = isomorph.load("model.keras")                            # an isomorph.Model
    model = isomorph.capture(module, (example,))                    # a live torch.nn.Module
    isomorph.save(model, "model.onnx")

Everything is loaded when it is first used: `import isomorph` imports the standard library only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isomorph import errors

if TYPE_CHECKING:
    from isomorph.api import capture, convert, diff, load, save, validate
    from isomorph.converters.onnx.form import OnnxForm
    from isomorph.ir import Model

__all__ = ["Model", "OnnxForm", "__version__", "capture", "convert", "diff", "errors", "load", "save", "validate"]

__version__ = "0.1.0"

_HOMES = {
    "Model": "isomorph.ir",
    "OnnxForm": "isomorph.converters.onnx.form",
    "capture": "isomorph.api",
    "convert": "isomorph.api",
    "diff": "isomorph.api",
    "load": "isomorph.api",
    "save": "isomorph.api",
    "validate": "isomorph.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'isomorph' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
