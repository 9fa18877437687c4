"""Regions in the IR: text, verification, rewriting, evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isomorph.errors import GraphError, MalformedError
from isomorph.ir import (
    ArrayTensor,
    Builder,
    DType,
    Model,
    Origin,
    Parameter,
    Region,
    Scope,
    State,
    Sym,
    TensorType,
    ops,
)
from isomorph.ir.evaluate import evaluate
from isomorph.ir.layout import Layout
from isomorph.ir.passes.canonicalize import canonicalize, prune
from isomorph.ir.passes.fold import fold
from isomorph.ir.passes.layout import assign_layout
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.text import parse_model, print_model
from isomorph.ir.verify import verify

F = DType.FLOAT32
ROWS = (Sym("N"), 3)


def _branches() -> Model:
    """z = 2x + w where c, else 2x - w: the weight is read in three graphs."""
    b = Builder("branches")
    x, c = b.input("x", F, ROWS), b.input("c", DType.BOOL, ())
    w = Parameter("w", ArrayTensor(np.full(3, 2, np.float32)))
    with b.at(Scope(), Origin("test", "test")):
        y = b.emit(ops.Mul(), x, b.parameter(w))
        regions = []
        for name, op in (("then", ops.Add()), ("else", ops.Sub())):
            inner = b.region(name)
            a = inner.input("a", F, ROWS)
            inner.emit(ops.Exp(), a)  # nothing reads it
            inner.output("result", inner.emit(ops.Identity(), inner.emit(op, a, inner.parameter(w))))
            assert isinstance(inner.graph, Region)
            regions.append(inner.graph)
        (z,) = b.emit_many(ops.If((TensorType(F, ROWS),)), c, y, regions=regions)
    b.output("z", z)
    return b.finish()


def _doubling() -> Model:
    """A loop whose variable has twice as many rows after each turn, and that stacks its counter."""
    b = Builder("doubling")
    x, trips = b.input("x", F, ROWS), b.input("trips", DType.INT64, ())
    with b.at(Scope(), Origin("test", "test")):
        body = b.region("body")
        count, go = body.input("i", DType.INT64, ()), body.input("go", DType.BOOL, ())
        rows = body.input("rows", F, (Sym("L"), 3))
        body.output("go", go)
        body.output("rows", body.emit(ops.Concat(0), rows, rows))
        body.output("i", count)
        types = (TensorType(F, (Sym("M"), 3)), TensorType(DType.INT64, (Sym("K"),)))
        kept = b.constant(np.array(True))
        last, counts = b.emit_many(ops.Loop(types, 1, ("M", "K")), trips, kept, x, regions=[body.graph])  # type: ignore[list-item]
    b.output("rows", last)
    b.output("counts", counts)
    return b.finish()


def _running_sums() -> Model:
    """Sums of columns, from the last one on; the total is carried."""
    b = Builder("sums")
    x, start = b.input("x", F, (2, 4)), b.input("start", F, (2,))
    with b.at(Scope(), Origin("test", "test")):
        body = b.region("body")
        total, column = body.input("total", F, (2,)), body.input("column", F, (2,))
        made = body.emit(ops.Add(), total, column)
        body.output("total", made)
        body.output("sum", made)
        op = ops.Scan((start.type, x.type), 1, 1, (1,), (1,), (True,), (True,))
        total, sums = b.emit_many(op, start, x, regions=[body.graph])  # type: ignore[list-item]
    b.output("total", total)
    b.output("sums", sums)
    return b.finish()


MODELS: list[Callable[[], Model]] = [_branches, _doubling, _running_sums]


@pytest.mark.parametrize("make", MODELS)
def test_text_and_verification(make: Callable[[], Model]) -> None:
    model = make()
    verify(model)
    text = print_model(model, origins=True)
    again = parse_model(text)
    assert print_model(again, origins=True) == text


def test_a_weight_that_several_graphs_read_is_one_in_text() -> None:
    again = parse_model(print_model(_branches()))
    found = {value.parameter for graph in again.graph.graphs() for value in graph.parameters}
    assert len(found) == 1
    assert list(again.parameters()) == ["w"]


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("passes", [False, True])
def test_branches(condition: bool, passes: bool) -> None:
    model = _branches()
    if passes:
        model = canonicalize(fold(model))
        (node,) = (each for each in model.graph.nodes if each.regions)
        assert [len(region.nodes) for region in node.regions] == [1, 1]
        model = assign_layout(model, Layout.CHANNELS_LAST, lambda node: None)
        verify(model)
    x = np.ones((2, 3), np.float32)
    found = evaluate(model, {"x": x, "c": np.array(condition)})["z"]
    np.testing.assert_array_equal(found, 2 * x + (2 if condition else -2))


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_a_loop_that_grows(trips: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = evaluate(canonicalize(_doubling()), {"x": x, "trips": np.array(trips)})
    np.testing.assert_array_equal(found["rows"], np.concatenate([x] * 2**trips))
    np.testing.assert_array_equal(found["counts"], np.arange(trips))


def test_a_scan_from_the_end() -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = evaluate(_running_sums(), {"x": x, "start": np.array([1, 0], np.float32)}, precision=DType.FLOAT64)
    sums = np.cumsum(x[:, ::-1], 1)[:, ::-1] + [[1], [0]]
    assert found["sums"].dtype == np.float64
    np.testing.assert_array_equal(found["sums"], sums)
    np.testing.assert_array_equal(found["total"], sums[:, 0])


def test_what_a_target_lacks_is_decomposed_in_branches() -> None:
    b = Builder("m")
    x, c = b.input("x", F, (2, 3)), b.input("c", DType.BOOL, ())
    with b.at(Scope(), Origin("test", "test")):
        regions = []
        for name in ("then", "else"):
            inner = b.region(name)
            a = inner.input("a", F, (2, 3))
            inner.output("result", inner.emit(ops.HardSwish(), a))
            regions.append(inner.graph)
        (z,) = b.emit_many(ops.If((x.type,)), c, x, regions=regions)  # type: ignore[arg-type]
    b.output("z", z)
    legal = legalize(b.finish(), lambda node: "no" if isinstance(node.op, ops.HardSwish) else None, "test")
    verify(legal)
    assert not any(isinstance(node.op, ops.HardSwish) for node in legal.nodes())


def test_constants_in_regions_are_folded() -> None:
    b = Builder("m")
    x, c = b.input("x", F, (2,)), b.input("c", DType.BOOL, ())
    with b.at(Scope(), Origin("test", "test")):
        regions = []
        for name in ("then", "else"):
            inner = b.region(name)
            a = inner.input("a", F, (2,))
            two = inner.emit(ops.Add(), inner.constant(np.float32(1)), inner.constant(np.float32(1)))
            inner.output("result", inner.emit(ops.Mul(), a, two))
            regions.append(inner.graph)
        (z,) = b.emit_many(ops.If((x.type,)), c, x, regions=regions)  # type: ignore[arg-type]
    b.output("z", z)
    folded = prune(fold(b.finish()))
    assert [len(region.nodes) for region in folded.graph.nodes[0].regions] == [1, 1]


def _too_few_regions(model: Model) -> None:
    model.graph.nodes[-1].regions = model.graph.nodes[-1].regions[:1]


def _wrong_result(model: Model) -> None:
    region = model.graph.nodes[-1].regions[0]
    region.outputs = {"other": Builder("r").input("i", DType.INT64, ())}


def _reads_outside(model: Model) -> None:
    region = model.graph.nodes[-1].regions[0]
    region.nodes[0].inputs = (model.graph.inputs[0],)


@pytest.mark.parametrize("break_it", [_too_few_regions, _wrong_result, _reads_outside])
def test_verify_looks_into_regions(break_it: Callable[[Model], None]) -> None:
    model = _branches()
    break_it(model)
    with pytest.raises(GraphError):
        verify(model)


@pytest.mark.parametrize(
    "text", ["model m\n}", "model m\nregion r", "model m\ninput %x: bool[]\n%y: bool[] = If(%x, types=(bool[],)) {"]
)
def test_broken_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_model(text)


def test_state_in_text_and_verification() -> None:
    b = Builder("counter")
    count = b.input("count", F, ())
    with b.at(Scope(), Origin("test", "test")):
        b.output("count.next", b.emit(ops.Add(), count, b.constant(np.float32(1))))
    initial = Parameter("count", ArrayTensor(np.float32(0)), False, "buffer")
    model = b.finish(state={"count": State("count.next", initial)})
    verify(model)
    text = print_model(model)
    assert print_model(parse_model(text)) == text
    assert canonicalize(model).state == model.state
    model.state["count"] = State("missing")
    with pytest.raises(GraphError):
        verify(model)
