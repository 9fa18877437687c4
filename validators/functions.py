"""Judging two functions of the caller's own: any callables with a signature, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from isomorph.errors import RunnerError, UsageError
from isomorph.ir import DType
from isomorph.validators.inputs import Data, plan
from isomorph.validators.report import Report
from isomorph.validators.runner import FLOAT64, NATIVE, Arrays, Capture, Result, Signature, TensorSpec
from isomorph.validators.trial import judge

__all__ = ["Function", "judge_functions"]

Answer: TypeAlias = "np.ndarray | np.generic | Sequence[Any] | Mapping[str, Any]"


def judge_functions(
    source: Callable[..., Any],
    target: Callable[..., Any],
    inputs: Sequence[TensorSpec] | Mapping[str, str],
    *,
    float64: Callable[..., Any] | None = None,
    dims: Mapping[str, tuple[int, int | None]] | None = None,
    data: Data | None = None,
    maps: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    """Judge whether `target` computes what `source` computes: the verdict of `validate`, for functions.

    With R = float64(x in float64), S = source(x) and T = target(x), T is EQUIVALENT where |T - R| is within the budget
    that |S - R| and the unit roundoff of T's dtype give (compare.py).

    source, target  called with the inputs as NumPy arrays, by position in the order of `inputs`; they return one array,
                    several (a sequence: outputs "0", "1", …) or arrays by name. Shapes and dtypes must be the same
    inputs          {"x": "N,3,H,W:float32"} (float32 where no dtype is given; sizes are numbers, names, or expressions
                    over names) or TensorSpecs, which also state the bounds of integers
    float64         the source in float64; None: the source itself, called with float64 arrays. If what it returns is
                    not float64, there is no reference, and nothing is proven EQUIVALENT
    dims            ranges of the named sizes, name -> (least, greatest or None); (1, None) where not given
    data            inputs of the caller's by name, judged beside the generated ones
    maps, seed      as for `validate`: "SOURCE=TARGET[permutation]"; seed of the generated inputs

    Raises ModelError for inputs that cannot be read; RunnerError, with the exception as its cause, where the target
    raises, or the source in every case.
    """
    specs = tuple(_specs(inputs))
    ranges = dict(dims or {})
    left = Function(source, specs, ranges, float64=float64 or source, name="source", seed=seed)
    right = Function(target, specs, ranges, name="target", seed=seed)
    report = judge(left, right, data=data, maps=maps, seed=seed)
    report.subjects = Capture(left.reference), Capture(right.reference)
    return report


class Function:
    """A function as a `Runner`. Its outputs are known by calling it once, with the first case of the plan."""

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[TensorSpec],
        dims: Mapping[str, tuple[int, int | None]],
        *,
        float64: Callable[..., Any] | None = None,
        name: str = "function",
        seed: int = 0,
    ) -> None:
        self._function = function
        self._float64 = float64
        self._name = name
        self._inputs = tuple(inputs)
        self._dims = {**_named(self._inputs), **dims}
        first = plan(Signature(self._inputs, (), self._dims), seed)[0]
        answer = self._call(function, first.inputs)
        self._outputs = tuple(_spec(name, array, index) for index, (name, array) in enumerate(answer.items()))

    @property
    def reference(self) -> str:
        """Where the function is from, "module:name"."""
        called = getattr(self._function, "__qualname__", type(self._function).__qualname__)
        return f"{getattr(self._function, '__module__', None) or '?'}:{called}"

    def signature(self) -> Signature:
        return Signature(self._inputs, self._outputs, self._dims, environment={"runtime": self.reference})

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        if precision == NATIVE:
            return Result(self._call(self._function, inputs))
        if precision != FLOAT64 or self._float64 is None:
            raise NotImplementedError(f"a function has no run in {precision}")
        answer = self._call(self._float64, {name: _widen(array) for name, array in inputs.items()})
        for name, array in answer.items():
            if DType.of(array.dtype).is_float and array.dtype != np.float64:
                raise NotImplementedError(f"called with float64, it returns {array.dtype} for `{name}`")
        return Result(answer)

    def _call(self, function: Callable[..., Any], inputs: Arrays) -> dict[str, np.ndarray]:
        try:
            answer = function(*(inputs[spec.name].copy() for spec in self._inputs))
            return _by_name(answer)
        except (MemoryError, UsageError):
            raise
        except Exception as error:  # whatever the caller's function raises
            what = f"the {self._name} raised {type(error).__name__}: {error}".splitlines()[0]
            raise RunnerError(what, runner=self._name) from error


def _by_name(answer: Any) -> dict[str, np.ndarray]:
    if isinstance(answer, Mapping):
        return {str(name): np.asarray(value) for name, value in answer.items()}
    if isinstance(answer, list | tuple):
        return {str(index): np.asarray(value) for index, value in enumerate(answer)}
    return {"0": np.asarray(answer)}


def _widen(array: np.ndarray) -> np.ndarray:
    dtype = DType.of(array.dtype)
    if dtype.is_complex:
        return array.astype(np.complex128)
    return array.astype(np.float64) if dtype.is_float else array


def _spec(name: str, array: np.ndarray, index: int) -> TensorSpec:
    """An output; its sizes may vary from call to call, and are compared in each."""
    return TensorSpec(name, DType.of(array.dtype).value, tuple(f"_{index}_{axis}" for axis in range(array.ndim)))


def _specs(inputs: Sequence[TensorSpec] | Mapping[str, str]) -> list[TensorSpec]:
    if not isinstance(inputs, Mapping):
        return list(inputs)
    from isomorph.ir.shapes import parse_dim

    specs = []
    for name, text in inputs.items():
        sizes, _, dtype = text.partition(":")
        dims = [parse_dim(size.strip()) for size in sizes.split(",") if size.strip()]
        shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in dims)
        specs.append(TensorSpec(name, DType.of(dtype.strip() or "float32").value, shape))
    return specs


def _named(specs: Sequence[TensorSpec]) -> dict[str, tuple[int, int | None]]:
    """Every named size of the inputs, with the range (1, None)."""
    from isomorph.ir import Sym
    from isomorph.ir.shapes import parse_dim

    found: dict[str, tuple[int, int | None]] = {}
    for spec in specs:
        for size in spec.shape:
            dim = parse_dim(size) if isinstance(size, str) else size
            if isinstance(dim, Sym):
                found.update(dict.fromkeys(sorted(dim.names()), (1, None)))
    return found
