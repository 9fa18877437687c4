"""What the ops refuse: a wrong node fails on the line that builds it, with a typed error."""

from __future__ import annotations

from typing import Any

import pytest

from isomorph.errors import DTypeError, GraphError, ShapeError
from isomorph.ir import DType, Sym, TensorType, ops

F32, I64, BOOL = DType.FLOAT32, DType.INT64, DType.BOOL
NONE, ONES = ((0, 0), (0, 0)), (1, 1)


def _x(*shape: Any, dtype: DType = F32) -> TensorType:
    return TensorType(dtype, shape)


IMAGE = _x(2, 4, 7, 9)
KERNEL = _x(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("op", "operands", "message"),
    [
        (ops.Conv((0, 1), NONE, ONES), (IMAGE, KERNEL), "strides"),
        (ops.Conv(ONES, NONE, (1, 0)), (IMAGE, KERNEL), "dilations"),
        (ops.Conv((1,), NONE, ONES), (IMAGE, KERNEL), "strides has 1 entries for 2"),
        (ops.Conv(ONES, NONE, ONES, 3), (IMAGE, KERNEL), "4 input channels"),
        (ops.Conv(ONES, NONE, ONES, 0), (IMAGE, _x(6, 0, 3, 3)), "group"),
        (ops.Conv(ONES, NONE, ONES), (IMAGE, _x(6, 4, 9, 3)), "does not fit into the data"),
        (ops.Conv(ONES, NONE, ONES), (IMAGE, KERNEL, _x(5)), "bias"),
        (ops.ConvTranspose(ONES, ((9, 9), (0, 0)), ONES, (0, 0)), (IMAGE, _x(4, 2, 3, 3)), "cut more off"),
        (ops.ConvTranspose((0, 1), NONE, ONES, (0, 0)), (IMAGE, _x(4, 2, 3, 3)), "strides"),
        (ops.MaxPool((0, 2), ONES, NONE, ONES), (IMAGE,), "kernel_shape"),
        (ops.MaxPool((2, 2), (2, 0), NONE, ONES), (IMAGE,), "strides"),
        (ops.AveragePool((9, 2), ONES, NONE, ONES), (IMAGE,), "does not fit"),
        (ops.AdaptiveAveragePool((0, 1)), (IMAGE,), "output_size"),
        (ops.AdaptiveMaxPool((1,)), (IMAGE,), "output_size"),
        (ops.GlobalMaxPool(), (_x(2, 3),), "rank 3"),
        (ops.GroupNormalization(0, 1e-5), (IMAGE,), "0 groups"),
        (ops.GroupNormalization(3, 1e-5), (IMAGE,), "4 channels in 3 groups"),
        (ops.BatchNormalization(1e-5), (IMAGE, None, None, _x(3), _x(3)), "4 channels"),
        (ops.LayerNormalization(1e-5, 3), (IMAGE, _x(7)), "do not broadcast"),
        (ops.LocalResponseNormalization(0), (IMAGE,), "window"),
        (ops.Linear(), (_x(2, 3), _x(4, 5)), "does not fit weight"),
        (ops.MatMul(), (_x(2, 3), _x(4, 5)), "inner sizes 3 and 4"),
        (ops.Gemm(), (_x(2, 3), _x(3, 4), _x(5)), "do not broadcast"),
        (ops.Einsum("ij,jk->ik"), (_x(2, 3), _x(4, 5)), "axis 'j'"),
        (ops.Einsum("ij"), (_x(2, 3),), "equation"),
        (ops.Add(), (_x(2, 3), _x(4)), "do not broadcast"),
        (ops.Add(), (_x(Sym("N")), _x(Sym("M"))), "do not broadcast"),
        (ops.PRelu(), (_x(3), _x(2, 3)), "slope"),
        (ops.Reshape((-1, 6)), (_x(2, 3),), "negative size"),
        (ops.Reshape((4, 2)), (_x(2, 3),), "6 elements"),
        (ops.Tile((2, -1)), (_x(2, 3),), "negative"),
        (ops.Expand((2, -1)), (_x(2, 3),), "negative"),
        (ops.Split(1, (4, -1)), (_x(2, 3),), "negative"),
        (ops.Split(1, (1, 1)), (_x(2, 3),), "do not add up"),
        (ops.Slice((0,), (0,), (1,), (0,)), (_x(2, 3),), "a step of 0"),
        (ops.Slice((0, 0), (0, 0), (1, 1), (1, 1)), (_x(2, 3),), "twice"),
        (ops.Transpose((0, 0)), (_x(2, 3),), "does not permute"),
        (ops.Squeeze((0,)), (_x(2, 3),), "not of size 1"),
        (ops.Concat(0), (_x(2, 3), _x(2, 4)), "differ at axis 1"),
        (ops.Concat(0), (), "at least one"),
        (ops.Pad(((0, 0),)), (_x(2, 3),), "1 pairs"),
        (ops.Pad(((-3, 0), (0, 0))), (_x(2, 3),), "cut more off"),
        (ops.DepthToSpace(0), (IMAGE,), "blocks of 0"),
        (ops.DepthToSpace(3), (IMAGE,), "no multiple of 9"),
        (ops.SpaceToDepth(2), (IMAGE,), "no multiple of 2"),
        (ops.Range(0, 1, -1, I64), (), "negative"),
        (ops.ConstantOfShape((2, -1), 0, I64), (), "negative"),
        (ops.Softmax(3), (_x(2, 3),), "out of range"),
        (ops.ReduceSum((0, -2)), (_x(2, 3),), "twice"),
        (ops.ReduceSum((2,)), (_x(2, 3),), "out of range"),
        (ops.GatherElements(), (_x(2, 3), _x(2, dtype=I64)), "rank"),
        (ops.GatherND(), (_x(2, 3), _x(2, 3, dtype=I64)), "index tuples"),
        (ops.ScatterElements(), (_x(2, 3), _x(1, 3, dtype=I64), _x(1, 2)), "differ"),
        (ops.ScatterND(), (_x(2, 3), _x(2, 3, dtype=I64), _x(2)), "index tuples"),
        (ops.OneHot(3), (_x(2, dtype=I64), _x(3)), "values"),
        (ops.TopK(4, 1), (_x(2, 3),), "4 elements"),
        (ops.Trilu(), (_x(2),), "matrices"),
        (ops.Resize((0, 3)), (IMAGE,), "not positive"),
        (ops.Resize((3, 3), scales=(0.0, 1.0)), (IMAGE,), "not positive"),
        (ops.ScaledDotProductAttention(), (_x(5, 8), _x(6, 7), _x(6, 4)), "differ in width"),
        (ops.ScaledDotProductAttention(), (_x(5, 8), _x(6, 8), _x(7, 4)), "differ in number"),
        (ops.ScaledDotProductAttention(), (_x(5, 8), _x(6, 8), _x(6, 4), _x(5, 5)), "do not broadcast"),
    ],
    ids=lambda value: value.name if hasattr(value, "infer") else None,
)
def test_shapes_that_do_not_fit(op: Any, operands: tuple[TensorType | None, ...], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        op.infer(*operands)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        (ops.Sqrt(), (_x(2, dtype=I64),)),
        (ops.Relu(), (_x(2, dtype=BOOL),)),
        (ops.Gelu(), (_x(2, dtype=I64),)),
        (ops.Add(), (_x(2), _x(2, dtype=I64))),
        (ops.And(), (_x(2), _x(2))),
        (ops.BitwiseAnd(), (_x(2), _x(2))),
        (ops.Where(), (_x(2), _x(2), _x(2))),
        (ops.Gather(), (_x(2), _x(2))),
        (ops.OneHot(3), (_x(2), _x(2))),
        (ops.Embedding(), (_x(2), _x(2, 3))),
        (ops.AveragePool((1,), (1,), ((0, 0),), (1,)), (_x(1, 1, 3, dtype=I64),)),
        (ops.Linear(), (_x(2, 3), _x(4, 3, dtype=DType.FLOAT16))),
    ],
    ids=lambda value: value.name if hasattr(value, "infer") else None,
)
def test_element_types_that_do_not_fit(op: Any, operands: tuple[TensorType, ...]) -> None:
    with pytest.raises(DTypeError):
        op.infer(*operands)


def test_the_errors_are_graph_errors() -> None:
    assert issubclass(ShapeError, GraphError)
    assert issubclass(DTypeError, GraphError)


def test_a_symbol_takes_the_size_that_it_meets() -> None:
    n = Sym("N")
    assert ops.Add().infer(_x(n, 4), _x(3, 1))[0].shape == (3, 4)
    assert ops.Add().infer(_x(n, 4), _x(1, 4))[0].shape == (n, 4)
    assert ops.Expand((1, 4)).infer(_x(n, 1))[0].shape == (n, 4)
    assert ops.Concat(0).infer(_x(n, 4), _x(2, 4))[0].shape == (n + 2, 4)
    assert ops.Conv((2, 1), ((1, 1), (0, 0)), ONES).infer(_x(n, 4, Sym("H"), 9), KERNEL)[0].shape == (
        n,
        6,
        (Sym("H") - 1) // 2 + 1,
        7,
    )
