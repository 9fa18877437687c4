"""Zeros before a convolution become its padding; other values, other axes and layers of their own do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_graphs import agree, built, kinds

from isomorph.ir import Builder, DType, Layout, Origin, Scope, Sym, Value, ops
from isomorph.ir.origin import ScopeEntry
from isomorph.ir.passes.padding import merge_padding

N, H = Sym("N"), Sym("S")
CONV = ops.Conv((2, 1), ((1, 0), (0, 2)), (1, 1))
SPATIAL = ((0, 0), (0, 0), (1, 2), (0, 3))


def padded(b: Builder, op: ops.Pad, conv: ops.Conv = CONV) -> tuple[Value, Value]:
    first = conv.layout is Layout.CHANNELS_FIRST
    x = b.input("x", DType.FLOAT32, (N, 3, H, 7) if first else (N, H, 7, 3))
    w = b.constant(np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32), "w")
    between = b.emit(op, x)
    return between, b.emit(conv, between, w)


@pytest.mark.parametrize("layout", list(Layout))
def test_zeros_are_merged(layout: Layout) -> None:
    pads = SPATIAL if layout is Layout.CHANNELS_FIRST else ((0, 0), (1, 2), (0, 3), (0, 0))
    model = built(lambda b: padded(b, ops.Pad(pads), replace(CONV, layout=layout))[1])
    after = merge_padding(model)
    assert kinds(after) == {"Conv": 1}
    assert after.graph.nodes[0].op == replace(CONV, layout=layout, pads=((2, 2), (0, 5)))
    agree(model, after)


NEAR_MISSES: dict[str, Callable[[Builder], Value]] = {
    "another value": lambda b: padded(b, ops.Pad(SPATIAL, value=1.0))[1],
    "another mode": lambda b: padded(b, ops.Pad(SPATIAL, mode="edge"))[1],
    "cells cut off": lambda b: padded(b, ops.Pad(((0, 0), (0, 0), (-1, 2), (0, 0))))[1],
    "a batch padded, too": lambda b: padded(b, ops.Pad(((0, 1), (0, 0), (1, 2), (0, 0))))[1],
    "a symbolic number of zeros": lambda b: padded(b, ops.Pad(((0, 0), (0, 0), (1, H), (0, 0))))[1],
    "pads by name": lambda b: padded(b, ops.Pad(SPATIAL), replace(CONV, pads="same_upper"))[1],
    "read twice": lambda b: b.emit(
        ops.Add(), *(b.emit(ops.ReduceSum((0, 1, 2, 3), keepdims=False), each) for each in padded(b, ops.Pad(SPATIAL)))
    ),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_stay(case: str) -> None:
    model = built(NEAR_MISSES[case])
    assert merge_padding(model) is model


def test_layer_of_its_own_stays() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", DType.FLOAT32, (N, 3, 8, 7))
        w = b.constant(np.ones((4, 3, 3, 2), np.float32), "w")
        with b.at(Scope((ScopeEntry("pad", "torch.nn.ZeroPad2d"),)), Origin("test", "op", "x")):
            x = b.emit(ops.Pad(SPATIAL), x)
        return b.emit(CONV, x, w)

    model = built(make)
    assert merge_padding(model) is model
