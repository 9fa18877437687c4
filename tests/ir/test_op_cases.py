"""Every row of the table against the laws of the IR: inference, permutation, decomposition, verification."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, OpCase

from isomorph.errors import GraphError, ShapeError
from isomorph.ir import OPS, DType, Layout, LayoutRule, Model, Sym, TensorType, Value, ops, rewrite
from isomorph.ir.evaluate import bind, evaluate, evaluate_op
from isomorph.ir.layout import Perm, to_channels_first, to_channels_last
from isomorph.ir.verify import verify

EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def test_every_op_has_a_row_and_an_evaluation() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    plain = {name: op for name, op in OPS.items() if not op.has_regions()}  # for the others see test_control.py
    del plain["Preserved"]  # an operator of a source format: see tests/converters/onnx/test_preserved.py
    assert {case.op.name for case in CASES} == set(plain)
    assert [name for name, op in plain.items() if not op.can_evaluate()] == []


@EVERY
def test_infer_gives_the_types_that_evaluate_gives(case: OpCase) -> None:
    model = case.model()
    verify(model)
    results = evaluate(model, case.arrays())
    for name, kind in model.outputs.items():
        assert len(kind.shape) == results[name].ndim
        decided = case.op.defines()
        for dim, size in zip(kind.shape, results[name].shape, strict=True):
            assert dim == size or (isinstance(dim, Sym) and dim.names() <= decided)
        assert results[name].dtype == kind.dtype.numpy


@EVERY
def test_infer_with_a_symbolic_batch_gives_the_same_sizes(case: OpCase) -> None:
    try:
        model = case.model(symbolic=True)
    except ShapeError:
        pytest.skip("the case fixes its first axis")
    verify(model)
    arrays = case.arrays()
    expected = evaluate(case.model(), arrays)
    for name, array in evaluate(model, arrays).items():
        np.testing.assert_array_equal(array, expected[name])


@EVERY
def test_evaluate_runs_in_float64(case: OpCase) -> None:
    arrays = case.arrays()
    single = evaluate(case.model(), arrays)
    double = evaluate(case.model(), arrays, precision=DType.FLOAT64)
    for name, array in double.items():
        if np.issubdtype(single[name].dtype, np.floating):
            assert array.dtype == np.float64
            np.testing.assert_allclose(single[name], array, rtol=1e-4 if single[name].itemsize > 2 else 2e-3, atol=1e-5)


def _decomposed(model: Model) -> Model:
    def change(b: Any, node: Any) -> Any:
        operand = node.inputs[0] if node.inputs else None
        types = _OF_TYPES.get(node.op.name)
        if not node.op.can_decompose() or (types is not None and operand is not None and operand.dtype not in types):
            return None
        values = node.op.decompose(b, *b.new_inputs(node))
        return (values,) if isinstance(values, Value) else values

    return rewrite(model, "decompose", change)


def _double(case: OpCase) -> OpCase:
    """The case in float64, so that the scalars of a decomposition are not rounded to float32."""
    operands = tuple(
        replace(operand, dtype=DType.FLOAT64) if operand is not None and operand.dtype is DType.FLOAT32 else operand
        for operand in case.operands
    )
    return replace(case, op=bind(case.op, {}, DType.FLOAT64), operands=operands)


_NARROW = {DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32, DType.UINT32}
_SIGNED = {DType.INT8, DType.INT16, DType.INT32, DType.INT64}
_OF_TYPES = {**dict.fromkeys(("Add", "Sub", "Mul", "Div"), _NARROW), "BitShift": _SIGNED}
"""The element types for which these ops are put together from others."""


def _decomposes(case: OpCase) -> bool:
    first = case.operands[0] if case.operands else None
    types = _OF_TYPES.get(case.op.name)
    return case.op.can_decompose() and (types is None or (first is not None and first.dtype in types))


DECOMPOSABLE = [case for case in CASES if _decomposes(case) and not getattr(case.op, "fmod", False)]


@pytest.mark.parametrize("case", DECOMPOSABLE, ids=lambda case: case.id)
@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
def test_decompose_computes_what_evaluate_computes(
    case: OpCase, symbolic: bool, request: pytest.FixtureRequest
) -> None:
    if reason := case.limitation("decompose"):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    case = _double(case)
    try:
        model = case.model(symbolic=symbolic)
    except ShapeError:
        pytest.skip("the case fixes its first axis")
    decomposed = _decomposed(model)
    verify(decomposed)
    assert decomposed.outputs == model.outputs
    assert [node.op for node in decomposed.graph.nodes] != [node.op for node in model.graph.nodes]
    arrays = case.arrays()
    expected = evaluate(model, arrays)
    for name, array in evaluate(decomposed, arrays).items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_allclose(array, expected[name], rtol=1e-12, atol=1e-12)


def _data_operands(case: OpCase, arrays: list[Any], rank: int) -> list[Any]:
    """The operands: those of an element-by-element op or a Concat, all of which the law permutes, under one rank."""
    if case.op.layout_rule is LayoutRule.ELEMENTWISE or isinstance(case.op, ops.Concat):
        return [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in arrays]
    return arrays


def _result_perm(case: OpCase, rank: int, result_rank: int, perm: Perm) -> Perm:
    """The permutation of the output: without the axes that the op drops."""
    if result_rank == rank:
        return perm
    op: Any = case.op
    dropped = op.axes if hasattr(op, "axes") else (op.axis,) if hasattr(op, "axis") else op.layout.spatial_axes(rank)
    kept = [axis for axis in perm if axis not in dropped]
    return tuple(sorted(kept).index(axis) for axis in kept)


def _operands(case: OpCase) -> list[Any]:
    model = case.model()
    arrays = case.arrays()
    (node,) = model.graph.nodes
    return [
        None if value is None else arrays[value.name] if value.parameter is None else value.parameter.data.numpy()
        for value in node.inputs
    ]


PERMUTABLE = [case for case in CASES if case.op.layout_rule is not LayoutRule.FIXED]


@pytest.mark.parametrize("case", PERMUTABLE, ids=lambda case: case.id)
def test_permuted_op_on_permuted_data_gives_the_permuted_result(case: OpCase) -> None:
    arrays = _operands(case)
    rank = max(array.ndim for array in arrays if array is not None)
    elementwise = case.op.layout_rule is LayoutRule.ELEMENTWISE or isinstance(case.op, ops.Concat)
    operands = _data_operands(case, arrays, rank)
    rank = operands[0].ndim
    if case.op.layout_rule is LayoutRule.BOUND:
        to_last = case.op.layout is Layout.CHANNELS_FIRST  # type: ignore[attr-defined]
        perms = [to_channels_last(rank) if to_last else to_channels_first(rank)]
    else:
        perms = list(itertools.permutations(range(rank)))
    plain = evaluate_op(case.op, *operands)
    for perm in perms:
        op = case.op.permuted(perm)
        if op is None and perm[0] != 0:
            assert isinstance(case.op, ops.InstanceNormalization | ops.GroupNormalization), (
                "only these name the batch axis"
            )
            continue
        assert op is not None
        count = len(operands) if elementwise else 1
        moved = evaluate_op(op, *(array.transpose(perm) for array in operands[:count]), *operands[count:])
        for before, after in zip(plain, moved, strict=True):
            wanted = before.transpose(_result_perm(case, rank, before.ndim, perm))
            np.testing.assert_allclose(after, wanted, rtol=1e-4, atol=1e-5)


def test_a_channel_permutation_that_is_no_layout_is_refused() -> None:
    assert ops.GlobalAveragePool().permuted((0, 2, 1, 3)) is None


def test_half_precision_accumulates_in_single() -> None:
    x = np.full((1, 4096), 0.1, np.float16)
    assert float(ops.ReduceSum((1,)).evaluate(x)[0, 0]) == pytest.approx(4096 * float(x[0, 0]), rel=1e-3)
    import ml_dtypes

    y = ops.Linear().evaluate(x.astype(ml_dtypes.bfloat16), np.ones((1, 4096), ml_dtypes.bfloat16))
    assert y.dtype == ml_dtypes.bfloat16
    assert float(y[0, 0]) == pytest.approx(409.6, rel=1e-2)


def test_a_symbolic_attribute_is_bound_before_it_is_evaluated() -> None:
    from isomorph.ir import Sym

    op = ops.Reshape((Sym("N"), 6))
    with pytest.raises(ShapeError, match="is not known here"):
        evaluate_op(op, np.zeros((2, 6), np.float32))
    assert bind(op, {"N": 4}) == replace(op, shape=(4, 6))
    with pytest.raises(ShapeError, match="dimension N is not known"):
        bind(op, {})


def test_adaptive_pool_says_why_it_has_no_decomposition() -> None:
    case = replace(next(case for case in CASES if case.id == "adaptive_average_pool_uneven"))
    (kind,) = case.op.infer(TensorType(DType.FLOAT32, (2, 4, 700, 900)))
    assert kind.shape == (2, 4, 3, 4)
    wide = replace(
        case, op=ops.AdaptiveAveragePool((65, 4)), operands=(replace(case.operands[0], shape=(1, 1, 100, 8)),)
    )  # type: ignore[type-var]
    with pytest.raises(GraphError, match="65 uneven windows"):
        _decomposed(wide.model())
