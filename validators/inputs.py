"""Seeded inputs from a signature: what the judge feeds both sides.

A *case* is a family of values and a size for each symbolic dimension. Families of float values:

    normal    standard normal                     catches most weight faults
    bytes     uniform on [0, 255]                 the range of raw images; reaches saturated activations
    unit      uniform on [0, 1]                   all positive: sign and bias faults, ReLU6 caps
    signed    uniform on [-1, 1]                  the usual preprocessed range
    sparse    normal, nine of ten values zero     padding and -inf handling of pools, zero points
    large     normal times 10                     activation tails, alpha of leaky units
    small     normal times 1e-3                   epsilons: eps = 1e-3 against 1e-5 shows where variances are small
    edges     0, 1, -1, 0.5, 255 and their kin    constants: biases alone, exact ties in pools

Integer inputs are uniform on the bounds that the model itself states (rows of the table they index), else the whole
range for 8-bit types (images, quantized data), else {0, 1}, which every table and mask accepts. Booleans are coin
flips. What a model keeps from run to run is uniform on the range of its initial value, of any type.

Sizes: a symbolic dimension that is axis 0 of an input is a batch: 2, 1, 3 in turn. The others take distinct odd and
even sizes inside their range, so that swapped axes cannot hide; several cases, several sizes.

Work is capped by a count of multiply-adds that is estimated from the signature alone, never by a clock: the same model
is always judged on the same cases. Estimate for one sample: parameters x positions, where positions is the number of
spatial or time positions of the largest input, divided by 256 where there are two or more such axes (networks on
images downsample). It is right within a factor of ten, which is enough to choose between 2 and 9 cases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from isomorph.errors import UsageError
from isomorph.ir import DType, Sym
from isomorph.ir.shapes import parse_dim, substitute
from isomorph.validators.runner import Signature, TensorSpec
from isomorph.validators.sizes import fulfilling

__all__ = ["FAMILIES", "Case", "Data", "DataSource", "data_cases", "estimate_work", "further", "load_data", "plan"]

FAMILIES = ("normal", "bytes", "unit", "signed", "sparse", "large", "small", "edges")
WIDE = ("bytes", "large", "edges")
"""Families whose values are far from those of preprocessed data."""
WORK_BUDGET = 40e9
"""Multiply-adds that all cases together may take in one pass of one side: about 10 s of one core."""
FURTHER, FURTHER_BATCH, FURTHER_WORK = 16, 64, 10e9
"""At most so many cases besides those of the plan, of this batch where it is open, within this work."""
BATCHES = (2, 1, 3)
SIZES = (35, 38, 47, 33, 41, 44, 37, 51, 29, 31)
"""Sizes that symbolic dimensions other than the batch take, distinct within a case where their ranges allow."""
_EDGES = (0.0, 1.0, -1.0, 0.5, 255.0, -0.0, 1e-7, 6.0, -3.0, 3.0)


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs by name. `batch` is the number of samples along axis 0 of the inputs, 0 if they have no common axis 0."""

    family: str
    dims: Mapping[str, int]
    inputs: Mapping[str, np.ndarray]
    batch: int = 0

    def describe(self) -> str:
        sizes = " ".join(f"{name}={size}" for name, size in sorted(self.dims.items()))
        return f"{self.family} {sizes}".strip()

    def perturbed(self, rng: np.random.Generator, ulps: float) -> dict[str, np.ndarray]:
        """The inputs with each float moved by at most `ulps` units in the last place; integers as they are."""
        return {name: _nudge(array, rng, ulps) for name, array in self.inputs.items()}


def plan(signature: Signature, seed: int) -> list[Case]:
    """The cases for this signature: at least two, at most nine, the same for the same seed."""
    cases: list[Case] = []
    spent = 0.0
    for index, family in enumerate(_families(signature)):
        dims = fulfilling(_sizes(signature, index), signature)
        case = _case(signature, family, dims, np.random.default_rng([seed, index]))
        spent += estimate_work(signature, case)
        if len(cases) >= 2 and spent > WORK_BUDGET:
            break
        cases.append(case)
    return cases


def further(signature: Signature, seed: int) -> list[Case]:
    """More cases, of larger batches, for outputs of whole numbers: each element is one decision, and a few of them show
    little."""
    cases: list[Case] = []
    spent = 0.0
    families = list(_families(signature))[:3]
    batches = {spec.shape[0] for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)}
    for index in range(FURTHER):
        family = families[index % len(families)].partition(" ")[0]
        wanted = _sizes(signature, index)
        for name in batches & wanted.keys():
            most = signature.dims.get(name, (1, None))[1]
            wanted[name] = max(wanted[name], min(FURTHER_BATCH, most or FURTHER_BATCH))
        dims = fulfilling(wanted, signature)
        case = _case(signature, family, dims, np.random.default_rng([seed, 1000 + index]))
        spent += estimate_work(signature, case)
        if spent > FURTHER_WORK:
            break
        cases.append(replace(case, family=f"{family}, more {index + 1}"))
    return cases


class DataSource(Protocol):
    """Data that become inputs once the model's signature is known; `notes` says what was done."""

    notes: list[str]

    def inputs(self, signature: Signature) -> Sequence[Mapping[str, np.ndarray]]:
        """Sets of inputs by name. Raises UsageError."""


Data: TypeAlias = Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]] | DataSource


def data_cases(data: Data, signature: Signature, seed: int) -> tuple[list[Case], list[str]]:
    """The user's own inputs as cases, one more that imitates them ("calibrated"), and notes for the report."""
    notes: list[str] = []
    if isinstance(data, Mapping):
        sets: Sequence[Mapping[str, np.ndarray]] = [data]
    elif isinstance(data, Sequence):
        sets = data
    else:
        sets = data.inputs(signature)
        notes = list(data.notes)
    names = ["data"] if len(sets) == 1 else [f"data {index + 1}" for index in range(len(sets))]
    cases = [load_data(each, signature, name) for each, name in zip(sets, names, strict=True)]
    return [*cases, _calibrated(cases, np.random.default_rng([seed, 77]))], notes


def _calibrated(cases: Sequence[Case], rng: np.random.Generator) -> Case:
    """Values like the user's, of the first case's sizes: floats normal with their mean and deviation, integers uniform
    on their range."""
    first = cases[0]
    inputs: dict[str, np.ndarray] = {}
    for name, array in first.inputs.items():
        values: np.ndarray
        seen = np.concatenate([case.inputs[name].reshape(-1) for case in cases])
        if DType.of(array.dtype).is_float:
            wide = seen.astype(np.float64)
            values = rng.normal(wide.mean(), wide.std(), array.shape) if seen.size else np.zeros(array.shape)
        elif array.dtype == bool or not seen.size:
            values = rng.permutation(array.reshape(-1)).reshape(array.shape)
        else:
            values = rng.integers(int(seen.min()), int(seen.max()), array.shape, endpoint=True)
        inputs[name] = values.astype(array.dtype)
    return Case("calibrated", first.dims, inputs, first.batch)


def load_data(path_or_arrays: Mapping[str, np.ndarray], signature: Signature, name: str = "data") -> Case:
    """The user's own inputs as a case: names, ranks, fixed sizes and dtypes must be those of the signature. Raises
    UsageError."""
    if unknown := sorted(set(path_or_arrays) - {spec.name for spec in signature.inputs}):
        takes = ", ".join(spec.name for spec in signature.inputs)
        raise UsageError(f"the data has `{unknown[0]}`, which is no input of the source", because=f"it takes {takes}")
    arrays: dict[str, np.ndarray] = {}
    dims: dict[str, int] = {}
    for spec in signature.inputs:
        if spec.name not in path_or_arrays:
            known = ", ".join(path_or_arrays) or "nothing"
            raise UsageError(f"the data lacks the input `{spec.name}`", because=f"it holds {known}")
        array = np.asarray(path_or_arrays[spec.name])
        fits = array.ndim == len(spec.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"`{spec.name}` of the data has shape {list(array.shape)}, the model takes {list(spec.shape)}"
            )
        wanted = DType.of(spec.dtype)
        if DType.of(array.dtype) is not wanted and not (np.issubdtype(array.dtype, np.floating) and wanted.is_float):
            raise UsageError(f"`{spec.name}` of the data is {array.dtype}, the model takes {spec.dtype}")
        for want, have in zip(spec.shape, array.shape, strict=True):
            if isinstance(want, str) and dims.setdefault(want, have) != have:
                dims[f"{spec.name}.{want}"] = have  # two open sizes that the model's file does not tell apart
        arrays[spec.name] = array.astype(wanted.numpy)
    return Case(name, dims, arrays, _common_batch(arrays))


def estimate_work(signature: Signature, case: Case) -> float:
    """Multiply-adds of one pass over the case, by the rule in the module's docstring."""
    positions = 1.0
    for array in case.inputs.values():
        middle = sorted(array.shape[1:])[1:]  # without the batch and the smallest axis, which we take for the channels
        count = math.prod(middle)
        positions = max(positions, count / 256 if len(middle) >= 2 else count)
    return max(signature.parameters, 1) * positions * max(case.batch, 1)


def _families(signature: Signature) -> Iterator[str]:
    if any(DType.of(spec.dtype).is_float for spec in signature.inputs):
        yield from FAMILIES
        if signature.dims:
            yield "normal"
    else:
        yield from ("integers", "integers 2", "integers 3", "integers 4")


def _case(signature: Signature, family: str, dims: dict[str, int], rng: np.random.Generator) -> Case:
    inputs = {spec.name: _values(spec, family, _concrete(spec, dims), rng) for spec in signature.inputs}
    return Case(family, dims, inputs, _common_batch(inputs))


def _common_batch(arrays: Mapping[str, np.ndarray]) -> int:
    firsts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    return firsts.pop() if len(firsts) == 1 else 0


def _sizes(signature: Signature, index: int) -> dict[str, int]:
    """A size for every named dimension of the inputs."""
    batches = {spec.shape[0] for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)}
    names: list[str] = []
    for spec in signature.inputs:
        for size in spec.shape:
            found = re.findall(r"[A-Za-z_]\w*", size) if isinstance(size, str) else ()
            names.extend(name for name in found if name not in names and name not in ("min", "max"))
    sizes: dict[str, int] = {}
    others = 0
    for name in names:
        low, high = signature.dims.get(name, (1, None))
        if name in batches:
            wanted = BATCHES[index % len(BATCHES)]
        else:
            wanted = SIZES[(3 * index + others) % len(SIZES)]
            others += 1
        sizes[name] = max(low, wanted if high is None else min(wanted, high))
    return sizes


def _concrete(spec: TensorSpec, dims: Mapping[str, int]) -> tuple[int, ...]:
    sizes = []
    for size in spec.shape:
        value = size if isinstance(size, int) else dims.get(size)
        if value is None:
            expression = substitute(parse_dim(str(size)), dict(dims))
            if isinstance(expression, Sym):
                raise UsageError(
                    f"cannot choose a size for `{size}` of the input `{spec.name}`",
                    advice="pass --data with real inputs",
                )
            value = expression
        sizes.append(value)
    return tuple(sizes)


def _values(spec: TensorSpec, family: str, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    dtype = DType.of(spec.dtype)
    if dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        low, high = spec.bounds or (
            (-128, 127) if dtype is DType.INT8 else (0, 255) if dtype is DType.UINT8 else (0, 1)
        )
        return rng.integers(low, high, shape, endpoint=True).astype(dtype.numpy)
    if not dtype.is_float:
        raise UsageError(
            f"cannot make values for the input `{spec.name}` of type {dtype}", advice="pass --data with real inputs"
        )
    if spec.bounds is not None:
        return rng.uniform(*spec.bounds, shape).astype(dtype.numpy)
    return _floats(family, shape, rng).astype(dtype.numpy)


def _floats(family: str, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    if family == "bytes":
        return rng.uniform(0, 255, shape)
    if family == "unit":
        return rng.uniform(0, 1, shape)
    if family == "signed":
        return rng.uniform(-1, 1, shape)
    if family == "edges":
        return rng.choice(np.array(_EDGES), shape)
    normal = rng.standard_normal(shape)
    if family == "sparse":
        return np.where(rng.random(shape) < 0.9, 0.0, normal)
    return normal * {"large": 10.0, "small": 1e-3}.get(family, 1.0)


def _nudge(array: np.ndarray, rng: np.random.Generator, ulps: float) -> np.ndarray:
    dtype = DType.of(array.dtype)
    if not dtype.is_float:
        return array
    import ml_dtypes

    unit = float(ml_dtypes.finfo(array.dtype).eps)
    noise = 1.0 + unit * ulps * rng.uniform(-1, 1, array.shape)
    return (array.astype(np.float64) * noise).astype(array.dtype)
