"""Control flow: branches and loops. The bodies are regions; what they read from around them are explicit operands.

An op here states the types of its results (`types`), since regions may give tensors of sizes that differ from branch
to branch or from run to run: such a size is a named dimension, which `decides` lists where it is first seen here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from isomorph.errors import DTypeError, GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.numerics import Array
from isomorph.ir.shapes import Dim, Sym

if TYPE_CHECKING:
    from isomorph.ir.graph import Region

__all__ = ["If", "Loop", "Scan"]

Body = Callable[..., Sequence[Array]]
Types = tuple[TensorType, ...]


class _Control:
    """What ops with regions have in common."""

    __slots__ = ()
    types: Types
    decides: tuple[str, ...]

    def defines(self) -> frozenset[str]:
        return frozenset(self.decides)

    def _require_count(self, regions: Sequence[Region], *names: str) -> None:
        if len(regions) != len(names):
            raise GraphError(
                f"{type(self).__name__} has the regions {', '.join(names)}, {len(regions)} were given"
                if names
                else f"{type(self).__name__} has no regions"
            )

    def _require_fit(self, what: str, given: Sequence[TensorType | None], taken: Sequence[TensorType]) -> None:
        """Require that values of the types `given` can be passed where `taken` are stated."""
        if len(given) != len(taken):
            raise GraphError(f"{type(self).__name__}: {len(given)} {what}, {len(taken)} are stated")
        for position, (found, stated) in enumerate(zip(given, taken, strict=True)):
            if found is None or not _fits(found, stated):
                raise GraphError(f"{type(self).__name__}: {what} {position} is {found}, {stated} is stated")


def _fits(found: TensorType, stated: TensorType) -> bool:
    """Whether two types can be the same; a symbolic size can be any."""
    if found.dtype is not stated.dtype or found.rank != stated.rank or type(found) is not type(stated):
        return False
    pairs = zip(found.shape, stated.shape, strict=True)
    return all(a == b or isinstance(a, Sym) or isinstance(b, Sym) for a, b in pairs)


def _inputs(region: Region) -> list[TensorType]:
    return [value.type for value in region.inputs]


def _results(region: Region) -> list[TensorType]:
    return [value.type for value in region.outputs.values()]


@operation
class If(_Control, Op):
    """The results of the region `then` where the condition holds, else those of `else`.

    Operands: condition, a bool of one element; then what the regions read, which both take as their inputs, in order.
    Regions: then, else; each gives the results. A size in which they differ is a named dimension of `types`.
    Differs from ONNX If-24: values from around it are operands.
    """

    types: Types
    decides: tuple[str, ...] = ()
    inputs: ClassVar[tuple[str, ...]] = ("condition", "operands*")

    def infer(self, condition: TensorType, *operands: TensorType) -> Types:  # type: ignore[override]
        if condition.dtype is not DType.BOOL:
            raise DTypeError(f"If: a condition of bools is needed, not {condition.dtype}")
        self.require(condition.size == 1, f"a condition of one element is needed, not {condition}")
        return self.types

    def check_regions(self, operands: Sequence[TensorType | None], regions: Sequence[Region]) -> None:
        self._require_count(regions, "then", "else")
        for region in regions:
            self._require_fit(f"operands of `{region.name}`", operands[1:], _inputs(region))
            self._require_fit(f"results of `{region.name}`", _results(region), self.types)

    def run(self, bodies: Sequence[Body], *arrays: Array) -> Any:
        then, other = bodies
        return tuple((then if arrays[0].item() else other)(*arrays[1:]))


def _check_iteration(inputs: Sequence[TensorType], results: Sequence[TensorType], name: str) -> None:
    wanted = [TensorType(DType.INT64, ()), TensorType(DType.BOOL, ())]
    if list(inputs[:2]) != wanted:
        raise GraphError(f"Loop: `{name}` takes the iteration (int64 scalar) and the condition (bool scalar) first")
    if not results or results[0].dtype is not DType.BOOL or results[0].size != 1:
        raise GraphError(f"Loop: the first result of `{name}` is the condition, a bool")


@operation
class Loop(_Control, Op):
    """Runs a body while a condition holds, at most `trip_count` times.

    Operands: trip_count, int64 (); condition, bool (); the initial values of the `carried` variables; what the body
              reads besides.
    Region:   body(iteration, condition, *carried, *read) -> (condition, *carried, *slices)
    Results:  the last values of the carried variables, and for each slice that the body gives, all of them stacked
              along a new first axis.
    A carried variable whose size changes has a symbolic size in the body's input and another one in `types`.
    Differs from ONNX Loop-24: both bounds are always there (the greatest int64, True), scalars, and values from around
    it are operands.
    """

    types: Types
    carried: int
    decides: tuple[str, ...] = ()
    inputs: ClassVar[tuple[str, ...]] = ("trip_count", "condition", "operands*")

    def infer(self, trip_count: TensorType, condition: TensorType, *operands: TensorType) -> Types:  # type: ignore[override]
        if trip_count.dtype is not DType.INT64 or condition.dtype is not DType.BOOL:
            raise DTypeError(f"Loop: bounds are an int64 and a bool, not {trip_count.dtype} and {condition.dtype}")
        self.require(trip_count.rank == 0 and condition.rank == 0, "its bounds are scalars")
        self.require(0 <= self.carried <= min(len(operands), len(self.types)), f"it has no {self.carried} variables")
        self.require(all(each.rank > 0 for each in self.types[self.carried :]), "stacked slices have an axis")
        return self.types

    def check_regions(self, operands: Sequence[TensorType | None], regions: Sequence[Region]) -> None:
        self._require_count(regions, "body")
        inputs, results = _inputs(regions[0]), _results(regions[0])
        _check_iteration(inputs, results, regions[0].name)
        slices = [TensorType(each.dtype, each.shape[1:]) for each in self.types[self.carried :]]
        self._require_fit("operands", operands[2:], inputs[2:])
        self._require_fit("results of the body", results[1:], [*self.types[: self.carried], *slices])
        self._require_fit("carried variables", results[1 : 1 + self.carried], inputs[2 : 2 + self.carried])

    def run(self, bodies: Sequence[Body], *arrays: Array) -> Any:
        (body,) = bodies
        going, carried, rest = arrays[1].item(), list(arrays[2 : 2 + self.carried]), arrays[2 + self.carried :]
        stacks: list[list[Array]] = [[] for _ in self.types[self.carried :]]
        iteration = 0
        while going and iteration < int(arrays[0]):
            condition, *results = body(np.asarray(iteration, np.int64), np.asarray(going), *carried, *rest)
            going, carried = condition.item(), results[: self.carried]
            for stack, item in zip(stacks, results[self.carried :], strict=True):
                stack.append(item)
            iteration += 1
        stacked = (_stacked(stack, kind, 0) for stack, kind in zip(stacks, self.types[self.carried :], strict=True))
        return *carried, *stacked


def _stacked(items: Sequence[Array], kind: TensorType, axis: int) -> Array:
    """The items along a new axis; where there is none, sizes that are not known are 0."""
    if items:
        return np.stack(items, axis)
    sizes: list[Dim] = [0 if isinstance(dim, Sym) else dim for dim in kind.shape]
    sizes[axis] = 0
    return np.zeros([int(size) for size in sizes], kind.dtype.numpy)  # type: ignore[arg-type]


@operation
class Scan(_Control, Op):
    """Runs a body for every slice of tensors of one length M, and stacks what it gives.

    Operands: the initial values of the `carried` variables; `scanned` tensors, of length M at their `axes`, taken from
              the end where `reverse` says so; what the body reads besides.
    Region:   body(*carried, *slices, *read) -> (*carried, *slices)
    Results:  the last values of the carried variables, and each slice that the body gives stacked at its axis of
              `output_axes`, last first where `output_reverse` says so.
    Carried variables keep their shapes.
    Differs from ONNX Scan-24: values from around it are operands; axes and directions are always stated.
    """

    types: Types
    carried: int
    scanned: int
    axes: tuple[int, ...]
    output_axes: tuple[int, ...]
    reverse: tuple[bool, ...]
    output_reverse: tuple[bool, ...]
    decides: tuple[str, ...] = ()
    inputs: ClassVar[tuple[str, ...]] = ("operands*",)

    def infer(self, *operands: TensorType) -> Types:  # type: ignore[override]
        self.require(self.carried >= 0 and self.carried <= len(self.types), f"it has no {self.carried} variables")
        self.require(0 < self.scanned <= len(operands) - self.carried, f"it has no {self.scanned} scanned operands")
        scanned, stacked = self._scanned(operands), self.types[self.carried :]
        for listed, count in ((self.axes, self.scanned), (self.reverse, self.scanned)):
            self.require(len(listed) == count, f"{count} operands are scanned, {len(listed)} entries stated")
        for listed in (self.output_axes, self.output_reverse):
            self.require(len(listed) == len(stacked), f"{len(stacked)} results, {len(listed)} entries stated")
        for kind, axis in (*zip(scanned, self.axes, strict=True), *zip(stacked, self.output_axes, strict=True)):
            self.require(0 <= axis < kind.rank, f"{kind} has no axis {axis}")
        lengths = {kind.shape[axis] for kind, axis in zip(scanned, self.axes, strict=True)}
        self.require(len({each for each in lengths if isinstance(each, int)}) <= 1, "scanned operands of one length")
        return self.types

    def _scanned(self, operands: Sequence[Any]) -> Sequence[Any]:
        return operands[self.carried : self.carried + self.scanned]

    def check_regions(self, operands: Sequence[TensorType | None], regions: Sequence[Region]) -> None:
        self._require_count(regions, "body")
        inputs, results = _inputs(regions[0]), _results(regions[0])
        slices = [_without(kind, axis) for kind, axis in zip(self._scanned(operands), self.axes, strict=True)]
        rest = operands[self.carried + self.scanned :]
        self._require_fit("operands", [*operands[: self.carried], *slices, *rest], inputs)
        stacked = zip(self.types[self.carried :], self.output_axes, strict=True)
        wanted = [*self.types[: self.carried], *(_without(kind, axis) for kind, axis in stacked)]
        self._require_fit("results of the body", results, wanted)
        self._require_fit("carried variables", results[: self.carried], inputs[: self.carried])

    def run(self, bodies: Sequence[Body], *arrays: Array) -> Any:
        (body,) = bodies
        carried, scanned = list(arrays[: self.carried]), self._scanned(arrays)
        rest = arrays[self.carried + self.scanned :]
        ordered = [
            np.flip(np.moveaxis(array, axis, 0), 0) if reverse else np.moveaxis(array, axis, 0)
            for array, axis, reverse in zip(scanned, self.axes, self.reverse, strict=True)
        ]
        stacks: list[list[Array]] = [[] for _ in self.types[self.carried :]]
        for slices in zip(*ordered, strict=True):
            results = body(*carried, *slices, *rest)
            carried = list(results[: self.carried])
            for stack, item in zip(stacks, results[self.carried :], strict=True):
                stack.append(item)
        stated = zip(stacks, self.types[self.carried :], self.output_axes, self.output_reverse, strict=True)
        return *carried, *(_stacked(stack[::-1] if back else stack, kind, axis) for stack, kind, axis, back in stated)


def _without(kind: TensorType, axis: int) -> TensorType:
    """The type of a slice."""
    return TensorType(kind.dtype, (*kind.shape[:axis], *kind.shape[axis + 1 :]))
