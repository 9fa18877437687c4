"""How other tools judge a conversion, each from its own words, in the few lines that its rule takes.

Each is given what it gives itself: one run of the source and one of the target on its own kind of input. True means
that it lets the target pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from isomorph.ir import DType
from isomorph.validators.inputs import Case, plan
from isomorph.validators.pairing import Pairing
from isomorph.validators.runner import Runner, Signature

__all__ = ["RULES", "Rule", "others"]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Rule:
    """A tool's rule. `values` says how it fills float inputs; `passes` compares one output of the source and target."""

    name: str
    source: str
    values: str
    passes: Callable[[np.ndarray, np.ndarray], bool]


def others(source: Runner, target: Runner, pairing: Pairing, seed: int = 0) -> dict[str, bool | str]:
    """For each rule whether it lets the target pass, or the kind of error that its run ended with."""
    signature = source.signature()
    like = plan(signature, seed)[0]
    passed: dict[str, bool | str] = {}
    for rule in RULES:
        inputs = _feeds(rule, signature, like)
        try:
            mine = source.run(inputs).outputs
            answer = target.run({p.target: p.to_target(inputs[p.source]) for p in pairing.inputs}).outputs
            pairs = [(mine[p.source], p.to_source(answer[p.target])) for p in pairing.outputs]
        except Exception as error:  # what a runtime refuses, no rule judges
            passed[rule.name] = type(error).__name__
            continue
        passed[rule.name] = all(a.shape == b.shape and rule.passes(a, b) for a, b in pairs)
    return passed


def _feeds(rule: Rule, signature: Signature, like: Case) -> dict[str, np.ndarray]:
    """Inputs of the shapes of a case, filled as the tool does; integers as in the case, in whose range they are."""
    rng = np.random.default_rng(1)
    kinds = {spec.name: DType.of(spec.dtype) for spec in signature.inputs}
    made = {}
    for name, array in like.inputs.items():
        if not kinds[name].is_float:
            made[name] = array
            continue
        fill = {"normal": rng.standard_normal, "uniform": rng.random, "ones": np.ones}[rule.values]
        made[name] = np.asarray(fill(array.shape)).astype(array.dtype)
    return made


def _wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float64)


def _allclose(source: np.ndarray, target: np.ndarray) -> bool:
    return bool(np.allclose(_wide(target), _wide(source), rtol=1e-3, atol=1e-5, equal_nan=True))


def _polygraphy(source: np.ndarray, target: np.ndarray) -> bool:
    if np.isnan(_wide(source)).any() or np.isnan(_wide(target)).any():
        return False
    with np.errstate(all="ignore"):
        absolute = np.abs(_wide(source) - _wide(target))
        relative = absolute / np.abs(_wide(target))
    return not bool(np.any((absolute > 1e-5) & ~(relative <= 1e-5)))


def _torch(source: np.ndarray, target: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        absolute = np.abs(_wide(source) - _wide(target))
        relative = absolute / (np.abs(_wide(source)) + 1e-7)
    largest = (float(absolute.max(initial=0.0)), float(relative.max(initial=0.0)))
    return not (largest[0] >= 5e-3 or largest[1] >= 1e-1)  # NaN compares false, and passes


def _onnx2tf(source: np.ndarray, target: np.ndarray) -> bool:
    return bool(np.allclose(_wide(source), _wide(target), rtol=0.0, atol=1e-4, equal_nan=True))


RULES = (
    Rule("allclose(1e-3, 1e-5)", "numpy.allclose(target, source, rtol=1e-3, atol=1e-5)", "normal", _allclose),
    Rule(
        "Polygraphy",
        "Polygraphy's CompareFunc.simple: an element fails if it exceeds both rtol=1e-5 and atol=1e-5; inputs of its"
        " DataLoader are uniform on [0, 1]",
        "uniform",
        _polygraphy,
    ),
    Rule(
        "torch.onnx verify",
        "torch/onnx/_internal/exporter/_core.py of PyTorch 2.14, step 6: max_abs_diff >= 5e-3 or max_rel_diff >= 1e-1",
        "normal",
        _torch,
    ),
    Rule(
        "onnx2tf",
        "onnx2tf --check_onnx_tf_outputs_elementwise_close: rtol 0, atol 1e-4, inputs of ones",
        "ones",
        _onnx2tf,
    ),
)
