"""The judge: runs both models and says EQUIVALENT, DIFFERENT or INCONCLUSIVE.

    from isomorph.validators import ModelFile, validate
    report = validate(ModelFile(Path("model.pt2"), "pt2"), ModelFile(Path("model.onnx"), "onnx"))
    report = judge_functions(numpy.sinh, my_sinh, {"x": "N,8"})    # any two callables, in this process

Importing this package imports no framework, and neither does `validate`: models run in worker processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isomorph.validators.functions import judge_functions
    from isomorph.validators.report import Report
    from isomorph.validators.runner import Capture, ModelFile, Runner, RunnerChoice, Signature, TensorSpec
    from isomorph.validators.trial import judge, validate
    from isomorph.validators.verdict import Verdict
    from isomorph.validators.workers.process import Worker

__all__ = [
    "Capture",
    "ModelFile",
    "Report",
    "Runner",
    "RunnerChoice",
    "Signature",
    "TensorSpec",
    "Verdict",
    "Worker",
    "judge",
    "judge_functions",
    "validate",
]

_HOMES = {
    "judge": "trial",
    "judge_functions": "functions",
    "validate": "trial",
    "Report": "report",
    "Verdict": "verdict",
    "Worker": "workers.process",
    **dict.fromkeys(("Capture", "ModelFile", "Runner", "RunnerChoice", "Signature", "TensorSpec"), "runner"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
