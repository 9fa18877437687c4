"""torch.cond, while_loop, scan and map: their inner graphs become regions.

An inner graph reads its operands only. Weights among them stay the one parameter inside; other tensors are inputs of
the region; sizes are known inside as they are outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.program import Block
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Region, Sym, TensorType, Value, ops
from isomorph.ir.shapes import names_in

__all__ = ["Body"]

Operand = Any
"""A Value, or a number: an int or a Sym."""


@dataclass(frozen=True, slots=True)
class Body:
    """An inner graph, as a rule gets it; `importer` is the one that imports the graph around it."""

    importer: Any
    block: Block

    def inline(self, operands: Sequence[Operand]) -> list[Value]:
        """Import the inner graph in line; its results."""
        inner = self.importer.inside()
        results: list[Value] = inner.run_block(self.block, operands)
        return results

    def into(self, b: Lowering, operands: Sequence[Operand]) -> list[Value]:
        """Import the inner graph through a builder of a region; its results."""
        inner = self.importer.inside(b)
        results: list[Value] = inner.run_block(self.block, operands)
        return results

    def formal(self, position: int, given: Operand, b: Lowering) -> TensorType:
        """The type of an input: that of what is given, with symbolic sizes where the inner graph varies them."""
        kind = given.type if isinstance(given, Value) else TensorType(DType.INT64, ())
        name, number = self.block.inputs[position]
        recorded = self.importer.program.types.get(name)
        if number is not None or recorded is None or recorded.rank != kind.rank:
            return kind
        dims = (
            own if isinstance(own, Sym) and not own.names() <= b.bound else dim
            for own, dim in zip(recorded.shape, kind.shape, strict=True)
        )
        return TensorType(kind.dtype, tuple(dims))


def _region(b: Lowering, name: str) -> tuple[Lowering, Region]:
    inner = b.region(name)
    assert isinstance(inner.graph, Region)
    return inner, inner.graph


def _input(inner: Lowering, name: str, kind: TensorType) -> Value:
    """An input of a region; named sizes that it brings are known from here on."""
    value = inner.input(name, kind.dtype, kind.shape)
    inner.bound.update(names_in(dim for dim in kind.shape if isinstance(dim, Sym) and dim.line))
    return value


def _captured(inner: Lowering, operands: Sequence[Operand], read: Sequence[Value]) -> list[Operand]:
    """The operands as the region sees them: its inputs for what it reads, weights and numbers as they are."""
    formal = {value: _input(inner, value.name, value.type) for value in read}
    return [
        operand
        if not isinstance(operand, Value)
        else inner.parameter(operand.parameter)
        if operand.parameter is not None
        else formal[operand]
        for operand in operands
    ]


def _read(operands: Sequence[Operand]) -> list[Value]:
    """The operands that a region needs as inputs, each once."""
    return list(dict.fromkeys(each for each in operands if isinstance(each, Value) and each.parameter is None))


def _require_tensors(b: Lowering, *operands: Operand) -> None:
    known = all(isinstance(each, Value | int | Sym) and not isinstance(each, bool) for each in operands)
    b.require(known, "it passes something else than tensors and sizes")


def _types(b: Lowering, found: Sequence[TensorType]) -> tuple[tuple[TensorType, ...], tuple[str, ...]]:
    """The types of the results, as recorded where they are, and the dimensions that are first seen in them."""
    recorded = b.recorded if len(b.recorded) == len(found) else [None] * len(found)
    types = tuple(
        made if kind is None or kind.dtype is not made.dtype or kind.rank != made.rank else kind
        for made, kind in zip(found, recorded, strict=True)
    )
    names = dict.fromkeys(names_in(dim for kind in types for dim in kind.shape if isinstance(dim, Sym)))
    decided = tuple(name for name in names if name not in b.bound)
    b.bound.update(decided)
    return types, decided


def _joined(b: Lowering, left: Sequence[Value], right: Sequence[Value]) -> list[TensorType]:
    """Types of the results of two branches."""
    b.require(len(left) == len(right), "its branches return different numbers of tensors")
    for a, c in zip(left, right, strict=True):
        b.require(a.dtype is c.dtype and a.rank == c.rank, f"its branches return {a.type} and {c.type}")
    return [
        kind.type if kind.shape == other.shape else TensorType(kind.dtype, _differing(b, kind, other, position))
        for position, (kind, other) in enumerate(zip(left, right, strict=True))
    ]


def _differing(b: Lowering, left: Value, right: Value, position: int) -> tuple[Any, ...]:
    return tuple(
        a if a == c else Sym(f"{b.current}_{position}_d{axis}")
        for axis, (a, c) in enumerate(zip(left.shape, right.shape, strict=True))
    )


@rules.imports("higher_order.cond")
def cond(b: Lowering, pred: Any, true_fn: Body, false_fn: Body, operands: tuple[Operand, ...] = ()) -> Sequence[Value]:
    if isinstance(pred, bool):
        return (true_fn if pred else false_fn).inline(operands)
    _require_tensors(b, *operands)
    b.require(isinstance(pred, Value), "its condition is a number that is not computed here")
    read = _read(operands)
    regions, results = [], []
    for name, body in (("then", true_fn), ("else", false_fn)):
        inner, region = _region(b, name)
        made = body.into(inner, _captured(inner, operands, read))
        for position, value in enumerate(made):
            inner.output(f"result_{position}", value)
        regions.append(region)
        results.append(made)
    types, decided = _types(b, _joined(b, *results))
    return b.emit_many(ops.If(types, decided), b.cast(pred, DType.BOOL), *read, regions=regions)


FOREVER = int(np.iinfo(np.int64).max)


@rules.imports("higher_order.while_loop")
def while_loop(
    b: Lowering,
    cond_fn: Body,
    body_fn: Body,
    carried_inputs: tuple[Operand, ...],
    additional_inputs: tuple[Operand, ...] = (),
) -> Sequence[Value]:
    _require_tensors(b, *carried_inputs, *additional_inputs)
    initial = [each if isinstance(each, Value) else b.number(each, DType.INT64) for each in carried_inputs]
    going = _condition(b, cond_fn.inline([*initial, *additional_inputs]))
    read = _read(additional_inputs)
    inner, region = _region(b, "body")
    _input(inner, "iteration", TensorType(DType.INT64, ()))
    _input(inner, "condition", TensorType(DType.BOOL, ()))
    kinds = [body_fn.formal(position, each, b) for position, each in enumerate(carried_inputs)]
    variables: list[Operand] = [_input(inner, f"variable_{position}", kind) for position, kind in enumerate(kinds)]
    captured = _captured(inner, additional_inputs, read)
    made = body_fn.into(inner, [*variables, *captured])
    b.require(len(made) == len(initial), "its body returns another number of tensors than it takes")
    inner.output("condition", _condition(inner, cond_fn.into(inner, [*made, *captured])))
    for position, value in enumerate(made):
        inner.output(f"variable_{position}", value)
    types, decided = _types(b, [value.type for value in initial])
    trips = b.number(FOREVER, DType.INT64)
    op = ops.Loop(types, len(initial), decided)
    return b.emit_many(op, trips, going, *initial, *read, regions=[region])


@rules.imports("prim.Loop")
def loop(
    b: Lowering,
    trips: Operand | None,
    cond_fn: Body | None,
    body_fn: Body,
    *,
    carried_inputs: tuple[Value, ...],
    additional_inputs: tuple[Operand, ...] = (),
) -> Sequence[Value]:
    """A loop of TorchScript: `trips` iterations, or as long as cond_fn(*carried, *additional) holds.

    body_fn(iteration, *carried, *additional) -> (*carried, *slices); the slices of all iterations are stacked, to the
    types that are recorded.
    """
    _require_tensors(b, *additional_inputs)
    initial = list(carried_inputs)
    going = (
        b.number(True, DType.BOOL) if cond_fn is None else _condition(b, cond_fn.inline([*initial, *additional_inputs]))
    )
    read = _read(additional_inputs)
    inner, region = _region(b, "body")
    iteration = _input(inner, "iteration", TensorType(DType.INT64, ()))
    _input(inner, "condition", TensorType(DType.BOOL, ()))
    variables = [_input(inner, f"variable_{position}", value.type) for position, value in enumerate(initial)]
    captured = _captured(inner, additional_inputs, read)
    made = body_fn.into(inner, [iteration, *variables, *captured])
    last, slices = made[: len(initial)], made[len(initial) :]
    further = (
        inner.number(True, DType.BOOL)
        if cond_fn is None
        else _condition(inner, cond_fn.into(inner, [*last, *captured]))
    )
    inner.output("condition", further)
    for position, value in enumerate(made):
        inner.output(f"variable_{position}" if position < len(initial) else f"slice_{position - len(initial)}", value)
    stacked = [TensorType(value.dtype, (0, *value.shape)) for value in slices]
    types, decided = _types(b, [*(value.type for value in initial), *stacked])
    bound = b.number(FOREVER if trips is None else trips, DType.INT64)
    return b.emit_many(ops.Loop(types, len(initial), decided), bound, going, *initial, *read, regions=[region])


def _condition(b: Lowering, results: Sequence[Value]) -> Value:
    b.require(len(results) == 1, "its condition is not one value")
    return b.cast(b.reshape(results[0], ()), DType.BOOL)


@rules.imports("higher_order.scan")
def scan(
    b: Lowering,
    combine_fn: Body,
    init: tuple[Operand, ...],
    xs: tuple[Operand, ...],
    additional_inputs: tuple[Operand, ...] = (),
) -> Sequence[Value]:
    _require_tensors(b, *additional_inputs)
    b.require(all(isinstance(each, Value) for each in (*init, *xs)), "it goes over something else than tensors")
    b.require(len(xs) > 0, "it goes over no tensor")
    read = _read(additional_inputs)
    inner, region = _region(b, "body")
    carried: list[Operand] = [_input(inner, f"variable_{at}", value.type) for at, value in enumerate(init)]
    slices: list[Operand] = [
        _input(inner, f"slice_{at}", TensorType(value.dtype, value.shape[1:])) for at, value in enumerate(xs)
    ]
    made = combine_fn.into(inner, [*carried, *slices, *_captured(inner, additional_inputs, read)])
    for position, value in enumerate(made):
        inner.output(f"result_{position}", value)
    count, length = len(init), xs[0].shape[0]
    stacked = [TensorType(value.dtype, (length, *value.shape)) for value in made[count:]]
    types, decided = _types(b, [*(value.type for value in init), *stacked])
    no, first = (False,), (0,)
    ends = first * len(xs), first * len(stacked), no * len(xs), no * len(stacked)
    op = ops.Scan(types, count, len(xs), *ends, decided)
    return b.emit_many(op, *init, *xs, *read, regions=[region])


@rules.imports("higher_order.map_impl")
def map_impl(b: Lowering, f: Body, xs: tuple[Operand, ...], pos_args: tuple[Operand, ...] = ()) -> Sequence[Value]:
    return scan(b, f, (), xs, pos_args)


@rules.imports("higher_order.associative_scan")
def associative_scan(
    b: Lowering, combine_fn: Body, xs: tuple[Operand, ...], additional_inputs: tuple[Operand, ...] = ()
) -> Sequence[Value]:
    """y[0] = x[0], y[i] = combine(y[i - 1], x[i]): a scan over all but the first, which is put in front."""
    _require_tensors(b, *additional_inputs)
    b.require(len(xs) > 0 and all(isinstance(each, Value) for each in xs), "it goes over something else than tensors")
    first = [b.emit(ops.Slice((0,), (0,), (1,), (1,)), x) for x in xs]
    rest = [b.emit(ops.Slice((0,), (1,), (x.shape[0],), (1,)), x) for x in xs]
    read = _read(additional_inputs)
    inner, region = _region(b, "body")
    start = [b.reshape(value, value.shape[1:]) for value in first]
    carried: list[Operand] = [_input(inner, f"variable_{at}", value.type) for at, value in enumerate(start)]
    slices: list[Operand] = [_input(inner, f"slice_{at}", value.type) for at, value in enumerate(start)]
    made = combine_fn.into(inner, [*carried, *slices, *_captured(inner, additional_inputs, read)])
    for position, value in enumerate([*made, *made]):
        inner.output(f"result_{position}", value)
    count = len(xs)
    types = tuple(value.type for value in (*start, *rest))
    ends = (0,) * count, (0,) * count, (False,) * count, (False,) * count
    results = b.emit_many(ops.Scan(types, count, count, *ends), *start, *rest, *read, regions=[region])
    return [b.emit(ops.Concat(0), head, tail) for head, tail in zip(first, results[count:], strict=True)]
