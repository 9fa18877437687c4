"""A move whose readers all agree is no objection: its elements only stand in another order than the source's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from isomorph.ir import Builder, DType, Model, Origin, Scope, Value, ops
from isomorph.ir.op import Op
from isomorph.validators.localization.taps import Taps


def chain(*steps: Op, shown: int | None = None, reads: int = 1) -> Model:
    """x through the steps, the last of which `reads` nodes read; step `shown` is an output, too."""
    b = Builder("test")
    with b.at(Scope(), Origin("test", "op", "x")):
        value: Value = b.input("x", DType.FLOAT32, (2, 3, 4))
        for place, op in enumerate(steps):
            value = b.emit(op, value, name=f"step{place}")
            if place == shown:
                b.output("shown", value)
        for place in range(reads):
            b.output(f"y{place}", b.emit(ops.Exp(), value, name=f"read{place}"))
    return b.finish()


def doubts(model: Model, differ: set[str], unknown: frozenset[str] | set[str] = frozenset(), **more: bool) -> list[str]:
    """What speaks against a target in which these values differ, and these were not compared."""

    def result(name: str) -> Any:
        return SimpleNamespace(doubtful=name in differ, unsettled=False, chaotic=False)

    names = {node: node.outputs[0].name for node in model.graph.nodes}
    results = {name: result(name) for name in names.values() if name not in unknown}
    for name in differ & set(results):
        vars(results[name]).update(more)
    return Taps(model, names, {}, results, {}).doubtful()


FLAT, SWAPPED = ops.Reshape((2, 12)), ops.Transpose((0, 2, 1))


def test_a_move_whose_readers_agree() -> None:
    assert doubts(chain(FLAT, reads=2), {"step0"}) == []
    assert doubts(chain(SWAPPED, FLAT), {"step0", "step1"}, {"step1"}) == []


def test_a_move_one_of_whose_readers_differs() -> None:
    assert doubts(chain(FLAT, reads=2), {"step0", "read1"}) == ["step0", "read1"]


def test_what_computes_is_no_move() -> None:
    assert doubts(chain(ops.Neg()), {"step0"}) == ["step0"]


def test_a_move_that_is_an_output() -> None:
    assert doubts(chain(FLAT, shown=0), {"step0"}) == ["step0"]
    assert doubts(chain(SWAPPED, FLAT, shown=1), {"step0"}, {"step1"}) == ["step0"]


def test_a_move_that_nothing_compared_reads() -> None:
    assert doubts(chain(FLAT), {"step0"}, {"read0"}) == ["step0"]
    assert doubts(chain(FLAT, reads=0, shown=0), {"step0"}) == ["step0"]


@pytest.mark.parametrize("reason", ["unsettled", "chaotic"])
def test_what_rounding_decides_is_no_objection(reason: str) -> None:
    assert doubts(chain(ops.Neg()), {"step0"}, **{reason: True}) == []
