"""Weights are stored in the shape that they are read in."""

from __future__ import annotations

import pytest
from small_graphs import agree, built, kinds, weight

from isomorph.ir import Builder, DType, Sym, Value, ops
from isomorph.ir.passes.stored import store_reshaped

F32 = DType.FLOAT32


@pytest.mark.parametrize("chain", [False, True])
def test_a_reshaped_weight_keeps_its_name(chain: bool) -> None:
    def make(b: Builder) -> Value:
        w = weight(b, "layer.bias", 2, 3)
        w = b.emit(ops.Reshape((3, 2)), w) if chain else w
        return b.emit(ops.Add(), b.input("x", F32, (Sym("N"), 6, 1)), b.emit(ops.Reshape((6, 1)), w))

    model = built(make)
    stored = store_reshaped(model)
    assert kinds(stored) == {"Add": 1}
    assert {value.name: value.shape for value in stored.graph.parameters} == {"layer.bias": (6, 1)}
    assert [parameter.name for parameter in stored.parameters().values()] == ["layer.bias"]
    agree(model, stored)


@pytest.mark.parametrize("reader", ["another node", "an output", "twice"])
def test_a_weight_that_something_else_reads_stays(reader: str) -> None:
    def make(b: Builder) -> Value:
        x, w = b.input("x", F32, (Sym("N"), 6, 1)), weight(b, "w", 2, 3)
        flat = b.emit(ops.Reshape((6, 1)), w)
        if reader == "another node":
            b.output("double", b.emit(ops.Add(), w, w))
        elif reader == "an output":
            b.output("shown", flat)
        else:
            x = b.emit(ops.Add(), x, b.emit(ops.Reshape((1, 6, 1)), w))
        return b.emit(ops.Add(), x, flat)

    model = built(make)
    assert kinds(store_reshaped(model)) == kinds(model)
