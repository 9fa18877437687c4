"""The table of ops: one row for each op and each way of using it. Tests of the IR, importers and exporters run over it.

    for case in CASES:
        model = case.model()          # one node; `Data` operands are inputs, `Weight` and `Literal` are parameters
        inputs = case.arrays(seed=0)  # arrays by input name

A limitation is a row of `Limitation`s, never a missing row.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from isomorph.ir import (
    ArrayTensor,
    Builder,
    DimRange,
    DType,
    Layout,
    Model,
    Op,
    Origin,
    Parameter,
    Scope,
    ScopeEntry,
    Sym,
    ops,
)

__all__ = ["CASES", "Data", "Limitation", "Literal", "OpCase", "Weight"]

Array = npt.NDArray[Any]
F32, F64, I32, I64, U8, BOOL = DType.FLOAT32, DType.FLOAT64, DType.INT32, DType.INT64, DType.UINT8, DType.BOOL
FIRST, LAST = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST


@dataclass(frozen=True)
class Data:
    """An operand that is an input of the model: uniform random values in [low, high)."""

    shape: tuple[int, ...]
    dtype: DType = F32
    low: float = -2.0
    high: float = 2.0

    def sample(self, rng: np.random.Generator) -> Array:
        if self.dtype is BOOL:
            return rng.random(self.shape) < 0.5
        if self.dtype.is_integer:
            return rng.integers(int(self.low), int(self.high), self.shape).astype(self.dtype.numpy)
        return rng.uniform(self.low, self.high, self.shape).astype(self.dtype.numpy)


@dataclass(frozen=True)
class Weight(Data):
    """An operand that is a trained parameter."""


@dataclass(frozen=True)
class Literal:
    """An operand that is a constant of the graph."""

    value: Any
    dtype: DType = F32

    def sample(self, rng: np.random.Generator) -> Array:
        return np.asarray(self.value).astype(self.dtype.numpy)


Operand = Data | Literal | None


@dataclass(frozen=True)
class Limitation:
    """What does not work: `where` names the test or the framework that should fail, `reason` says why."""

    where: str
    reason: str


@dataclass(frozen=True)
class OpCase:
    """One use of one op."""

    id: str
    op: Op
    operands: tuple[Operand, ...]
    limitations: tuple[Limitation, ...] = field(default=())

    def model(self, *, symbolic: bool = False) -> Model:
        """A model of one node. With `symbolic`, the batch is "N": the first axis of the first `Data` operand,
        and of those that are as long there.
        """
        batch = next(
            (operand.shape[0] for operand in self.operands if isinstance(operand, Data) and operand.shape), None
        )
        b = Builder(self.id)
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        values = []
        for index, operand in enumerate(self.operands):
            if operand is None:
                values.append(None)
            elif isinstance(operand, Data) and not isinstance(operand, Weight):
                first = (Sym("N"),) if symbolic and operand.shape[:1] == (batch,) else operand.shape[:1]
                values.append(b.input(f"x{index}", operand.dtype, (*first, *operand.shape[1:])))
            else:
                weight = isinstance(operand, Weight)
                role = "weight" if weight else "constant"
                data = ArrayTensor(operand.sample(rng))
                values.append(b.parameter(Parameter(f"layer.p{index}", data, trainable=weight, role=role)))
        scope = Scope((ScopeEntry("layer", self.op.name),))
        with b.at(scope, Origin("test", self.op.name, self.id)):
            outputs = b.emit_many(self.op, *values)
        for index, value in enumerate(outputs):
            b.output(f"y{index}", value)
        return b.finish(dims={name: DimRange(0) for name in self.op.defines()})

    def arrays(self, seed: int = 0) -> dict[str, Array]:
        """Inputs by name."""
        rng = np.random.default_rng((seed, zlib.crc32(self.id.encode())))
        return {
            f"x{index}": operand.sample(rng)
            for index, operand in enumerate(self.operands)
            if isinstance(operand, Data) and not isinstance(operand, Weight)
        }

    def limitation(self, where: str) -> str | None:
        """The reason why this case fails there, None if it works."""
        return next((limit.reason for limit in self.limitations if limit.where == where), None)


def _case(name: str, op: Op, *operands: Operand, limits: tuple[Limitation, ...] = ()) -> OpCase:
    return OpCase(name, op, operands, limits)


_WHOLE = Limitation("decompose", "a choice between floating-point numbers is in every target; others are put together")
_WRITTEN = Limitation("decompose", "writing elements is in every target; combining them is put together from it")
_X = Data((2, 3, 4))
_POSITIVE = Data((2, 3, 4), low=0.1, high=3.0)
_UNIT = Data((2, 3, 4), low=-0.95, high=0.95)
_IMAGE = Data((2, 4, 7, 9))
_IMAGE_LAST = Data((2, 7, 9, 4))


def _unary() -> list[OpCase]:
    plain = (
        "Abs", "Neg", "Sign", "Identity", "Floor", "Ceil", "Round", "Erf", "Exp", "Sin", "Cos", "Tan", "Atan", "Sinh",
        "Cosh", "Asinh", "Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Sigmoid", "LogSigmoid", "HardSigmoid",
        "HardSwish", "Swish", "Mish", "Softplus", "Softsign", "Tanh", "ThresholdedRelu", "Shrink", "Gelu", "Dropout",
        "IsNaN", "IsInf", "Erfc", "Expm1",
    )  # fmt: skip
    rows = [_case(name.lower(), getattr(ops, name)(), _X) for name in plain]
    rows += [_case(name.lower(), getattr(ops, name)(), _POSITIVE) for name in ("Sqrt", "Log", "Log1p", "Reciprocal")]
    rows += [_case(name.lower(), getattr(ops, name)(), _UNIT) for name in ("Asin", "Acos", "Atanh")]
    rows += [
        _case("acosh", ops.Acosh(), Data((2, 3, 4), low=1.1, high=4.0)),
        _case("not", ops.Not(), Data((2, 3), BOOL)),
        _case("bitwise_not", ops.BitwiseNot(), Data((2, 3), I32, -9, 9)),
        _case("abs_int", ops.Abs(), Data((2, 3), I64, -9, 9)),
        _case("relu_int", ops.Relu(), Data((2, 3), I32, -9, 9)),
        _case("gelu_tanh", ops.Gelu("tanh"), _X),
        _case("leaky_relu_steep", ops.LeakyRelu(0.3), _X),
        _case("elu_alpha", ops.Elu(1.7), _X),
        _case("celu_alpha", ops.Celu(0.6), _X),
        _case("hard_sigmoid_torch", ops.HardSigmoid(1 / 6, 0.5), Data((2, 3, 4), low=-5, high=5)),
        _case("hard_swish_wide", ops.HardSwish(), Data((2, 3, 4), low=-5, high=5)),
        _case("swish_alpha", ops.Swish(1.702), _X),
        _case("softshrink", ops.Shrink(0.5, 0.5), _X),
        _case("clip", ops.Clip(-0.5, 1.0), _X),
        _case("clip_low", ops.Clip(min=0.25), _X),
        _case("clip_high", ops.Clip(max=0.25), _X),
        _case("clip_open", ops.Clip(), _X),
        _case("clip_int", ops.Clip(-3, 4), Data((2, 3), I32, -9, 9)),
        _case("softmax", ops.Softmax(2), _X),
        _case("softmax_inner", ops.Softmax(1), _X),
        _case("log_softmax", ops.LogSoftmax(2), _X),
        _case("prelu", ops.PRelu(), _X, Weight((3, 1))),
        _case("prelu_single", ops.PRelu(), _X, Weight((1,))),
        *(_case(f"cast_{to}", ops.Cast(to), _X) for to in (F64, DType.FLOAT16, DType.BFLOAT16, I32, I64, BOOL)),
        _case("cast_bool_to_float", ops.Cast(F32), Data((2, 3), BOOL)),
        _case("cast_uint8_to_float", ops.Cast(F32), Data((2, 3), U8, 0, 255)),
    ]
    return rows


def _binary() -> list[OpCase]:
    other = Data((3, 1), low=0.5, high=2.0)
    rows = [
        _case(name.lower(), getattr(ops, name)(), _X, other)
        for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod")
    ]
    rows += [_case(f"{name.lower()}_full", getattr(ops, name)(), _X, _X) for name in ("Add", "Mul")]
    whole = Data((2, 5), I32, -3, 3)
    comparisons = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    rows += [_case(name.lower(), getattr(ops, name)(), whole, Data((5,), I32, -3, 3)) for name in comparisons]
    rows += [
        _case(name.lower(), getattr(ops, name)(), Data((2, 5), BOOL), Data((5,), BOOL)) for name in ("And", "Or", "Xor")
    ]
    bits = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    rows += [
        _case(name.lower(), getattr(ops, name)(), Data((2, 5), I32, 0, 99), Data((5,), I32, 0, 99)) for name in bits
    ]
    return [
        *rows,
        _case("add_scalar", ops.Add(), _X, Literal(0.5)),
        _case("add_weight", ops.Add(), _X, Weight((3, 4))),
        _case("div_int", ops.Div(), Data((4, 5), I64, -9, 9), Data((4, 5), I64, 1, 5)),
        _case("div_int_negative", ops.Div(), Data((4, 5), I64, -9, 9), Data((4, 5), I64, -5, -1)),
        _case("mod_int", ops.Mod(), Data((4, 5), I64, -9, 9), Data((4, 5), I64, -5, -1)),
        _case("mod_float_fmod", ops.Mod(fmod=True), _X, other),
        _case("mod_int_fmod", ops.Mod(fmod=True), Data((4, 5), I64, -9, 9), Data((4, 5), I64, 1, 5)),
        _case("pow", ops.Pow(), _POSITIVE, Data((3, 1))),
        _case("pow_square", ops.Pow(), _X, Literal(2.0)),
        _case("pow_int_exponent", ops.Pow(), _X, Literal(3, I64)),
        _case("pow_int", ops.Pow(), Data((2, 3), I64, -4, 5), Literal(3, I64)),
        _case("where", ops.Where(), Data((3, 4), BOOL), _X, Data((4,)), limits=(_WHOLE,)),
    ]


def _conv() -> list[OpCase]:
    w, b = Weight((6, 4, 3, 2)), Weight((6,))
    ones, none = (1, 1), ((0, 0), (0, 0))
    every = ops.Conv((2, 1), ((1, 0), (2, 1)), (1, 2))
    return [
        _case("conv", ops.Conv(ones, none, ones), _IMAGE, w, b),
        _case("conv_no_bias", ops.Conv(ones, none, ones), _IMAGE, w),
        _case("conv_pointwise", ops.Conv(ones, none, ones), _IMAGE, Weight((5, 4, 1, 1)), Weight((5,))),
        _case("conv_all_attributes", every, _IMAGE, w, b),
        _case("conv_channels_last", ops.Conv((2, 1), ((1, 0), (2, 1)), (1, 2), layout=LAST), _IMAGE_LAST, w, b),
        _case("conv_grouped", ops.Conv(ones, ((1, 1), (0, 0)), ones, 2), _IMAGE, Weight((6, 2, 3, 3)), b),
        _case(
            "conv_depthwise", ops.Conv((2, 2), ((1, 1), (1, 1)), ones, 4), _IMAGE, Weight((4, 1, 3, 3)), Weight((4,))
        ),
        _case("conv_depthwise_multiplier", ops.Conv(ones, none, ones, 4), _IMAGE, Weight((8, 1, 3, 3)), Weight((8,))),
        _case("conv_same_upper", ops.Conv((2, 2), "same_upper", ones), _IMAGE, w, b),
        _case("conv_same_lower", ops.Conv((2, 2), "same_lower", ones), _IMAGE, w, b),
        _case("conv_1d", ops.Conv((2,), ((1, 1),), (2,)), Data((2, 4, 11)), Weight((6, 4, 3)), b),
        _case(
            "conv_3d",
            ops.Conv((1, 2, 1), ((1, 1), (0, 0), (0, 1)), (1, 1, 1)),
            Data((1, 2, 4, 5, 6)),
            Weight((3, 2, 2, 3, 2)),
        ),
        _case(
            "conv_transpose", ops.ConvTranspose((2, 2), none, ones, (0, 0)), _IMAGE, Weight((4, 5, 3, 2)), Weight((5,))
        ),
        _case(
            "conv_transpose_all_attributes",
            ops.ConvTranspose((3, 2), ((1, 0), (1, 2)), (1, 2), (1, 0), 2),
            _IMAGE,
            Weight((4, 3, 3, 2)),
            Weight((6,)),
        ),
        _case(
            "conv_transpose_channels_last",
            ops.ConvTranspose((2, 2), ((1, 1), (0, 1)), ones, (1, 1), layout=LAST),
            _IMAGE_LAST,
            Weight((4, 5, 3, 2)),
            Weight((5,)),
        ),
        _case("conv_transpose_1d", ops.ConvTranspose((2,), ((1, 1),), (1,), (0,)), Data((2, 4, 5)), Weight((4, 3, 4))),
        _case(
            "separable_conv",
            ops.SeparableConv((1, 2), "same_upper", ones, LAST),
            _IMAGE_LAST,
            Weight((8, 1, 3, 3)),
            Weight((5, 8, 1, 1)),
            Weight((5,)),
        ),
    ]


def _pool() -> list[OpCase]:
    ones, none, some = (1, 1), ((0, 0), (0, 0)), ((1, 1), (0, 1))
    rows = []
    for name, pool in (("max_pool", ops.MaxPool), ("average_pool", ops.AveragePool)):
        rows += [
            _case(name, pool((2, 3), (2, 3), none, ones), _IMAGE),
            _case(f"{name}_padded", pool((3, 3), (2, 2), some, ones), _IMAGE),
            _case(f"{name}_ceil", pool((3, 2), (2, 2), ((1, 1), (0, 0)), ones, ceil_mode=True), _IMAGE),
            _case(f"{name}_ceil_drops", pool(ones, (3, 5), none, ones, ceil_mode=True), _IMAGE),
            _case(f"{name}_dilated", pool((2, 3), (1, 2), none, (2, 2)), _IMAGE),
            _case(f"{name}_same", pool((3, 2), (2, 2), "same_upper", ones), _IMAGE),
            _case(f"{name}_same_lower", pool((3, 2), (2, 2), "same_lower", ones), _IMAGE),
            _case(f"{name}_channels_last", pool((3, 3), (2, 2), some, ones, layout=LAST), _IMAGE_LAST),
            _case(f"{name}_1d", pool((3,), (2,), ((1, 1),), (1,)), Data((2, 4, 11))),
            _case(f"{name}_3d", pool((2, 2, 2), (2, 1, 2), ((0, 0), (1, 1), (0, 0)), (1, 1, 1)), Data((1, 2, 4, 5, 6))),
        ]
    rows += [
        _case("lp_pool", ops.LpPool((2, 3), (2, 3), none, ones), _IMAGE),
        _case("lp_pool_cubes", ops.LpPool((3, 3), (2, 2), some, ones, p=3), _IMAGE),
        _case("lp_pool_dilated", ops.LpPool((2, 3), (1, 2), none, (2, 2), p=1), _IMAGE),
        _case("lp_pool_same", ops.LpPool((3, 2), (2, 2), "same_lower", ones), _IMAGE),
        _case("lp_pool_last", ops.LpPool((3, 3), (2, 2), some, ones, layout=LAST), _IMAGE_LAST),
        _case(
            "lp_pool_ceil",
            ops.LpPool((3, 2), (2, 2), ((1, 1), (0, 0)), ones, ceil_mode=True),
            _IMAGE,
        ),
    ]
    index = ops.MaxPoolWithIndices
    rows += [
        _case("max_pool_with_indices", index((2, 3), (2, 3), none, ones), _IMAGE),
        _case("max_pool_with_indices_padded", index((3, 3), (2, 2), some, ones), _IMAGE),
        _case("max_pool_with_indices_ceil", index((3, 2), (2, 2), ((1, 1), (0, 0)), (1, 2), ceil_mode=True), _IMAGE),
        _case("max_pool_with_indices_1d", index((3,), (2,), ((1, 1),), (1,)), Data((2, 4, 11))),
    ]
    for name, pool in (("global_average_pool", ops.GlobalAveragePool), ("global_max_pool", ops.GlobalMaxPool)):
        rows += [_case(name, pool(), _IMAGE), _case(f"{name}_flat", pool(keepdims=False, layout=LAST), _IMAGE_LAST)]
    for name, pool in (("adaptive_average_pool", ops.AdaptiveAveragePool), ("adaptive_max_pool", ops.AdaptiveMaxPool)):
        rows += [
            _case(f"{name}_one", pool((1, 1)), _IMAGE),
            _case(f"{name}_even", pool((4, 3)), Data((2, 4, 8, 9))),
            _case(f"{name}_uneven", pool((3, 4)), _IMAGE),
            _case(f"{name}_larger", pool((10, None)), _IMAGE),
            _case(f"{name}_same", pool((7, None)), _IMAGE),
            _case(f"{name}_channels_last", pool((1, 4), LAST), _IMAGE_LAST),
        ]
    include = ops.AveragePool((3, 2), (2, 2), ((1, 1), (0, 0)), ones, ceil_mode=True, count_include_pad=True)
    return [
        *rows,
        _case("average_pool_include_pad", ops.AveragePool((3, 3), (2, 2), some, ones, count_include_pad=True), _IMAGE),
        _case("average_pool_include_pad_ceil", include, _IMAGE),
    ]


def _norm() -> list[OpCase]:
    image, last = Data((2, 6, 3, 5)), Data((2, 3, 5, 6))
    c = Weight((6,))
    variance = Weight((6,), low=0.2, high=2.0)
    return [
        _case("batch_norm", ops.BatchNormalization(1e-3), image, c, c, c, variance),
        _case("batch_norm_plain", ops.BatchNormalization(1e-3), image, None, None, c, variance),
        _case("batch_norm_last", ops.BatchNormalization(1e-3, 3), last, c, c, c, variance),
        _case("batch_norm_matrix", ops.BatchNormalization(1e-3), Data((3, 6)), c, c, c, variance),
        _case("instance_norm", ops.InstanceNormalization(1e-5), image, c, c),
        _case("instance_norm_plain", ops.InstanceNormalization(1e-5), image),
        _case("instance_norm_last", ops.InstanceNormalization(1e-5, 3), last, c, c),
        _case("group_norm", ops.GroupNormalization(3, 1e-5), image, c, c),
        _case("group_norm_last", ops.GroupNormalization(2, 1e-5, 3), last, c, c),
        _case("layer_norm", ops.LayerNormalization(1e-5, 3), last, c, c),
        _case("layer_norm_two_axes", ops.LayerNormalization(1e-5, 2), last, Weight((5, 6)), Weight((5, 6))),
        _case("layer_norm_no_bias", ops.LayerNormalization(1e-5, 3), last, c),
        _case("rms_norm", ops.RMSNormalization(1e-6, 3), last, c),
        _case("lp_norm", ops.LpNormalization((1,), 2, 1e-12), image),
        _case("lp_norm_one", ops.LpNormalization((1, 2), 1), image),
        _case("local_response_norm", ops.LocalResponseNormalization(3, 0.1, 0.75, 2.0), image),
        _case("local_response_norm_even", ops.LocalResponseNormalization(4, 0.1, 0.5, 1.0, 3), last),
    ]


def _linear() -> list[OpCase]:
    return [
        _case("linear", ops.Linear(), Data((3, 5)), Weight((4, 5)), Weight((4,))),
        _case("linear_no_bias", ops.Linear(), Data((3, 5)), Weight((4, 5))),
        _case("linear_rank_3", ops.Linear(), Data((2, 3, 5)), Weight((4, 5)), Weight((4,))),
        _case("matmul", ops.MatMul(), Data((2, 3, 5)), Data((2, 5, 4))),
        _case("matmul_broadcast", ops.MatMul(), Data((2, 1, 3, 5)), Data((4, 5, 2))),
        _case("matmul_vector", ops.MatMul(), Data((2, 3, 5)), Data((5,))),
        _case("gemm", ops.Gemm(), Data((3, 5)), Weight((5, 4)), Weight((4,))),
        _case("gemm_all_attributes", ops.Gemm(0.5, 2.0, True, True), Data((5, 3)), Weight((4, 5)), Weight((3, 1))),
        _case("einsum", ops.Einsum("bij,bjk->bik"), Data((2, 3, 5)), Data((2, 5, 4))),
        _case("einsum_ellipsis", ops.Einsum("...ij,kj->...ik"), Data((2, 2, 3, 5)), Data((4, 5))),
        _case("einsum_sum", ops.Einsum("bij->jb"), Data((2, 3, 5))),
        _case("det", ops.Det(), Data((2, 3, 3))),
        _case("embedding", ops.Embedding(), Data((2, 5), I64, 0, 7), Weight((7, 4))),
    ]


def _reduce() -> list[OpCase]:
    names = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")
    rows = []
    for name in names:
        op = getattr(ops, f"Reduce{name}")
        rows.append(_case(f"reduce_{name.lower()}", op((1,)), _X))
        rows.append(_case(f"reduce_{name.lower()}_drop", op((0, 2), keepdims=False), _X))
    ties = Data((3, 6, 2), I32, 0, 3)
    for name, arg in (("arg_max", ops.ArgMax), ("arg_min", ops.ArgMin)):
        rows += [_case(name, arg(1), ties), _case(f"{name}_last", arg(1, keepdims=False, select_last_index=True), ties)]
    return [
        *rows,
        _case("reduce_sum_int", ops.ReduceSum((1,)), Data((2, 5), I64, -9, 9)),
        _case("reduce_mean_none", ops.ReduceMean(()), _X),
        _case("cumprod", ops.CumProd(1), _X),
        _case("cumprod_exclusive_reverse", ops.CumProd(2, exclusive=True, reverse=True), _X),
        _case("cumsum", ops.CumSum(1), _X),
        _case("cumsum_exclusive_reverse", ops.CumSum(2, exclusive=True, reverse=True), _X),
    ]


def _shape() -> list[OpCase]:
    blocks, blocks_last = Data((2, 12, 3, 4)), Data((2, 3, 4, 12))
    grown, grown_last = Data((2, 3, 4, 6)), Data((2, 4, 6, 3))
    around = ((0, 0), (1, 2), (2, 1))
    return [
        _case("reshape", ops.Reshape((4, 6)), _X),
        _case("flatten", ops.Flatten(), _X),
        _case("flatten_end", ops.Flatten(3), _X),
        _case("transpose", ops.Transpose((2, 0, 1)), _X),
        _case("squeeze", ops.Squeeze((1, 3)), Data((2, 1, 3, 1))),
        _case("unsqueeze", ops.Unsqueeze((0, 3)), _X),
        _case("slice", ops.Slice((1, 2), (1, 0), (3, 4), (1, 2)), _X),
        _case("slice_negative", ops.Slice((2,), (-3,), (-1,), (1,)), _X),
        _case("slice_reverse", ops.Slice((2,), (None,), (None,), (-1,)), _X),
        _case("slice_clamped", ops.Slice((1, 2), (-99, 1), (99, None), (1, 1)), _X),
        _case("split", ops.Split(2, (1, 3)), _X),
        _case("concat", ops.Concat(1), _X, Data((2, 2, 4)), Weight((2, 1, 4))),
        _case("pad", ops.Pad(around, value=0.5), _X),
        _case("pad_reflect", ops.Pad(around, "reflect"), _X),
        _case("pad_edge", ops.Pad(around, "edge"), _X),
        _case("pad_wrap", ops.Pad(around, "wrap"), _X),
        _case("pad_negative", ops.Pad(((0, 0), (-1, 2), (0, -1))), _X),
        _case("expand", ops.Expand((5, 2, 3, 4)), Data((2, 1, 4))),
        _case("expand_keeps", ops.Expand((1, 1)), _X),
        _case("tile", ops.Tile((1, 2, 3)), _X),
        _case("depth_to_space", ops.DepthToSpace(2), blocks),
        _case("depth_to_space_crd", ops.DepthToSpace(2, "CRD"), blocks),
        _case("depth_to_space_last", ops.DepthToSpace(2, layout=LAST), blocks_last),
        _case("depth_to_space_crd_last", ops.DepthToSpace(2, "CRD", LAST), blocks_last),
        _case("space_to_depth", ops.SpaceToDepth(2), grown),
        _case("space_to_depth_last", ops.SpaceToDepth(2, LAST), grown_last),
        _case("bind_dim", ops.BindDim(3), Data((), I64, 3, 4)),
        _case("dims", ops.Dims((3, 4))),
        _case("dims_scalar", ops.Dims((3,), scalar=True)),
        _case("constant_of_shape", ops.ConstantOfShape((2, 3), 1.5, F32)),
        _case("range", ops.Range(2, 3, 5, I64)),
        _case("range_float", ops.Range(0.5, 0.25, 4, F32)),
    ]


def _index() -> list[OpCase]:
    x = Data((3, 5, 4))
    rows = [
        _case("gather", ops.Gather(1), x, Data((2, 3), I64, 0, 5)),
        _case("gather_scalar", ops.Gather(0), x, Literal(-1, I64)),
        _case("gather_literal", ops.Gather(2), x, Literal([3, 0], I64)),
        _case("gather_elements", ops.GatherElements(1), x, Data((3, 2, 4), I64, -5, 5)),
        _case("gather_nd", ops.GatherND(), x, Data((6, 2), I64, 0, 3)),
        _case("gather_nd_batch", ops.GatherND(1), x, Data((3, 2, 1), I64, 0, 5)),
        _case(
            "scatter_elements",
            ops.ScatterElements(1),
            x,
            Literal([[[0, 1, 2, 3]], [[4, 3, 2, 1]]], I64),
            Data((2, 1, 4)),
            limits=(_WRITTEN,),
        ),
        _case("scatter_nd", ops.ScatterND(), x, Literal([[0, 1], [2, 4]], I64), Data((2, 4)), limits=(_WRITTEN,)),
        _case("one_hot", ops.OneHot(5), Data((2, 3), I64, -7, 7), Literal([0.25, 2.0])),
        _case("one_hot_axis", ops.OneHot(5, 0), Data((2, 3), I64, 0, 5), Literal([0, 1], I64)),
        _case("hardmax", ops.Hardmax(2), x),
        _case("hardmax_inner", ops.Hardmax(1), Data((3, 5, 2))),
        _case("top_k", ops.TopK(2, 1), x),
        _case("top_k_ties", ops.TopK(4, 1), Data((3, 6), I32, 0, 3)),
        _case("top_k_smallest", ops.TopK(4, 1, largest=False), Data((3, 6), I32, 0, 3)),
        _case("non_zero", ops.NonZero(Sym("count")), Data((3, 4), I64, 0, 2)),
        _case("non_zero_bool", ops.NonZero(Sym("count")), Data((3, 4), BOOL)),
        _case("compress", ops.Compress(2, 1), x, Literal([False, True, False, True, False], BOOL)),
        _case("compress_data", ops.Compress(Sym("count"), 0), x, Data((3,), BOOL)),
        _case("compress_flat", ops.Compress(Sym("count")), Data((3, 4)), Data((10,), BOOL)),
        _case("unique", ops.Unique(Sym("count")), Data((3, 4), I64, 0, 5)),
        _case("unique_axis", ops.Unique(Sym("count"), 1), Data((2, 6), I64, 0, 2)),
        _case("unique_unsorted", ops.Unique(Sym("count"), None, sorted=False), Data((12,), I64, 0, 5)),
        _case("unique_bytes", ops.Unique(Sym("count")), Data((12,), U8, 0, 5)),
        _case("trilu", ops.Trilu(), x),
        _case("trilu_bytes", ops.Trilu(), Data((4, 4), U8, 0, 9)),
        _case("where_bools", ops.Where(), Data((3, 4), BOOL), Data((3, 4), BOOL), Data((4,), BOOL)),
        _case("where_short", ops.Where(), Data((3, 4), BOOL), Data((3, 4), DType.INT16), Data((4,), DType.INT16)),
        _case("trilu_lower", ops.Trilu(-1, upper=False), x),
        _case("trilu_above", ops.Trilu(1), Data((4, 4), I64, 1, 9)),
    ]
    for reduction in ("add", "mul", "max", "min"):
        rows.append(
            _case(
                f"scatter_elements_{reduction}",
                ops.ScatterElements(0, reduction),
                x,
                Literal([[[1, 1]]], I64),
                Data((1, 1, 2)),
            )
        )
        rows.append(
            _case(f"scatter_nd_{reduction}", ops.ScatterND(reduction), x, Literal([[1], [1]], I64), Data((2, 5, 4)))
        )
        rows.append(
            _case(
                f"scatter_elements_{reduction}_twice",
                ops.ScatterElements(1, reduction),
                x,
                Literal([[[1, 1], [-1, 0], [1, -1]]], I64),
                Data((1, 3, 2)),
            )
        )
    return rows


def _resize() -> list[OpCase]:
    rows = [
        _case(f"resize_nearest_{mode}", ops.Resize((9, 4), coordinates="half_pixel", nearest_mode=mode), _IMAGE)
        for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ]
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        rows.append(
            _case(f"resize_linear_{coordinates}", ops.Resize((10, 5), mode="linear", coordinates=coordinates), _IMAGE)
        )
    return [
        *rows,
        _case(
            "resize_nearest_asymmetric", ops.Resize((14, 18), coordinates="asymmetric", nearest_mode="floor"), _IMAGE
        ),
        _case("resize_linear_scales", ops.Resize((9, 11), scales=(1.3, 1.3), mode="linear"), _IMAGE),
        _case("resize_linear_last", ops.Resize((14, 5), mode="linear", layout=LAST), _IMAGE_LAST),
        _case(
            "resize_linear_antialias", ops.Resize((3, 4), mode="linear", antialias=True, exclude_outside=True), _IMAGE
        ),
        _case("resize_cubic", ops.Resize((10, 5), mode="cubic"), _IMAGE),
        _case(
            "resize_cubic_outside", ops.Resize((10, 5), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=True), _IMAGE
        ),
        _case("resize_cubic_antialias", ops.Resize((3, 4), mode="cubic", antialias=True, exclude_outside=True), _IMAGE),
        _case("resize_linear_1d", ops.Resize((9,), mode="linear"), Data((2, 3, 6))),
    ]


def _sample() -> list[OpCase]:
    x, grid = Data((2, 3, 5, 6)), Data((2, 4, 3, 2), low=-1.4, high=1.4)
    volume, places = Data((2, 3, 4, 5, 6)), Data((2, 3, 4, 2, 3), low=-1.4, high=1.4)
    rows = []
    for padding in ("zeros", "border", "reflection"):
        for mode in ("linear", "nearest", "cubic"):
            rows.append(_case(f"grid_sample_{mode}_{padding}", ops.GridSample(mode, padding), x, grid))
            aligned = ops.GridSample(mode, padding, align_corners=True)
            rows.append(_case(f"grid_sample_{mode}_{padding}_aligned", aligned, x, grid))
        rows.append(_case(f"grid_sample_3d_{padding}", ops.GridSample("linear", padding), volume, places))
    for aligned in (False, True):
        suffix = "_aligned" if aligned else ""
        rows.append(_case(f"affine_grid{suffix}", ops.AffineGrid((4, 5), aligned), Data((2, 2, 3))))
        rows.append(_case(f"affine_grid_3d{suffix}", ops.AffineGrid((4, 5, 3), aligned), Data((2, 3, 4))))
        rows.append(_case(f"affine_grid_line{suffix}", ops.AffineGrid((1, 5), aligned), Data((2, 2, 3))))
    none, ones = ((0, 0), (0, 0)), (1, 1)
    return [
        *rows,
        _case("col2im", ops.Col2Im((5, 6), (2, 3), ones, none, ones), Data((2, 18, 16))),
        _case("col2im_all", ops.Col2Im((5, 6), (2, 3), (2, 1), ((1, 1), (0, 2)), (2, 1)), Data((2, 12, 18))),
    ]


def _vision() -> list[OpCase]:
    boxes, scores = (
        np.array([[[0, 0, 4, 4], [0, 0, 4, 5], [1, 1, 3, 9], [6, 6, 8, 8], [8, 8, 6, 6.5]]]),
        Data((1, 2, 5)),
    )
    x, places = Data((2, 4, 9, 8)), Literal([0, 1, 1], I64)
    rois = np.array([[0.5, 1, 6, 5], [2, 2, 2.5, 9], [-3, -2, 12, 7]])
    size = Sym("count")
    offset, w = Data((2, 12, 8, 7), low=-1, high=1), Weight((6, 4, 2, 3))
    return [
        _case("non_max_suppression", ops.NonMaxSuppression(size, 9, 0.4), Literal(boxes), scores),
        _case("non_max_suppression_bounds", ops.NonMaxSuppression(size, 2, 0.7, 0.1), Literal(boxes), scores),
        _case(
            "non_max_suppression_center",
            ops.NonMaxSuppression(size, 9, 0.3, None, center_point_box=True),
            Literal(np.abs(boxes)),
            scores,
        ),
        _case("roi_align", ops.RoiAlign((3, 2), 2, 0.5), x, Literal(rois), places),
        _case("roi_align_adaptive", ops.RoiAlign((3, 2)), x, Literal(rois), places),
        _case("roi_align_output", ops.RoiAlign((3, 2), 2, 1.0, "avg", "output_half_pixel"), x, Literal(rois), places),
        _case("roi_align_max", ops.RoiAlign((3, 2), 2, 1.0, "max"), x, Literal(rois), places),
        _case("max_roi_pool", ops.MaxRoiPool((3, 2), 0.5), x, Literal(np.insert(rois * 2, 0, [0, 1, 1], 1))),
        _case("deform_conv", ops.DeformConv((1, 1), ((0, 0), (0, 1)), (1, 1)), x, w, offset),
        _case(
            "deform_conv_groups",
            ops.DeformConv((2, 1), ((1, 0), (0, 0)), (1, 2), 2, 2),
            x,
            Weight((6, 2, 2, 3)),
            Data((2, 24, 5, 4), low=-1, high=1),
            Weight((6,)),
            Data((2, 12, 5, 4)),
        ),
    ]


def _attention() -> list[OpCase]:
    q, k, v = Data((2, 3, 5, 8)), Data((2, 3, 6, 8)), Data((2, 3, 6, 4))
    packed, keys, one = Data((2, 5, 12)), Data((2, 6, 12)), Data((2, 6, 4))
    partly = np.tri(5, 6, 2, dtype=bool)
    nothing = np.array([[True] * 6] * 3 + [[False] * 6] * 2)
    later = np.arange(6) > 1
    angles, few = Data((2, 5, 4)), Data((2, 5, 2))
    return [
        _case("attention", ops.ScaledDotProductAttention(), q, k, v),
        _case("attention_causal", ops.ScaledDotProductAttention(causal=True), q, k, v),
        _case("attention_scale", ops.ScaledDotProductAttention(scale=0.25), q, k, v),
        _case("attention_mask", ops.ScaledDotProductAttention(), q, k, v, Data((5, 6))),
        _case("attention_bool_mask", ops.ScaledDotProductAttention(), q, k, v, Literal(partly, BOOL)),
        _case("attention_dynamic_mask", ops.ScaledDotProductAttention(), q, k, v, Data((2, 1, 5, 6), BOOL)),
        _case("attention_all_masked", ops.ScaledDotProductAttention(), q, k, v, Literal(nothing, BOOL)),
        _case("heads", ops.MultiHeadAttention(3, 3), packed, keys, keys),
        _case(
            "heads_shared",
            ops.MultiHeadAttention(6, 3, causal=True, scale=0.3),
            packed,
            Data((2, 6, 6)),
            Data((2, 6, 6)),
        ),
        _case("heads_mask", ops.MultiHeadAttention(3, 3), packed, keys, keys, Literal(partly, BOOL)),
        _case("heads_dynamic_mask", ops.MultiHeadAttention(3, 1), packed, one, one, Data((2, 1, 5, 6), BOOL)),
        _case("attention_group", ops.ScaledDotProductAttention(group=2), Data((2, 6, 5, 8)), k, v),
        _case("attention_causal_mask", ops.ScaledDotProductAttention(causal=True), q, k, v, Literal(later, BOOL)),
        _case("rotary", ops.RotaryEmbedding(), q, angles, angles),
        _case("rotary_interleaved", ops.RotaryEmbedding(interleaved=True), q, angles, angles),
        _case("rotary_part", ops.RotaryEmbedding(), q, few, few),
        _case("rotary_packed", ops.RotaryEmbedding(3), Data((2, 5, 24)), angles, angles),
        _case("rotary_packed_part", ops.RotaryEmbedding(3, interleaved=True), Data((2, 5, 24)), few, few),
    ]


def _signal() -> list[OpCase]:
    real, pairs = Data((2, 10, 3, 1)), Data((2, 6, 3, 2))
    frames = Data((2, 23, 1))
    return [
        _case("dft", ops.DFT(1), real),
        _case("dft_pairs", ops.DFT(1), pairs),
        _case("dft_last", ops.DFT(2), pairs),
        _case("dft_inverse", ops.DFT(1, inverse=True), pairs),
        _case("dft_onesided", ops.DFT(1, onesided=True), real),
        _case("dft_onesided_inverse", ops.DFT(1, inverse=True, onesided=True), pairs),
        _case("dft_onesided_inverse_odd", ops.DFT(1, inverse=True, onesided=True, length=11), pairs),
        _case("dft_cut", ops.DFT(1, length=7), real),
        _case("dft_filled_up", ops.DFT(1, length=13, onesided=True), real),
        _case("dft_long", ops.DFT(1, onesided=True), Data((2, 1024, 1), low=-0.05, high=0.05)),
        _case("stft", ops.STFT(3, 8), frames),
        _case("stft_window", ops.STFT(4, 5), frames, Weight((5,))),
        _case("stft_whole", ops.STFT(2, 6, onesided=False), Data((2, 23, 2))),
    ]


def _quant() -> list[OpCase]:
    x, scale, scales = Data((2, 3, 4)), Literal(0.013), Literal((0.01, 0.02, 0.05))
    steps, start = Data((2, 3, 4), U8, 0, 255), Literal(121, U8)
    starts = Literal((3, -5, 0), DType.INT8)
    blocks = Literal(np.linspace(0.01, 0.05, 12).reshape(2, 3, 2))
    return [
        _case("quantize", ops.QuantizeLinear(U8), x, scale, start),
        _case("quantize_no_start", ops.QuantizeLinear(DType.INT8), x, scale),
        _case("quantize_axis", ops.QuantizeLinear(DType.INT8, 1), x, scales, starts),
        _case("quantize_blocks", ops.QuantizeLinear(DType.INT8, 2, 2), x, blocks),
        _case("quantize_int16", ops.QuantizeLinear(DType.INT16), x, Literal(0.0001)),
        _case("dequantize", ops.DequantizeLinear(F32), steps, scale, start),
        _case("dequantize_axis", ops.DequantizeLinear(F32, 1), Data((2, 3, 4), DType.INT8, -128, 127), scales, starts),
        _case("dequantize_blocks", ops.DequantizeLinear(F32, 2, 2), Data((2, 3, 4), DType.INT8, -128, 127), blocks),
        _case("dequantize_int32", ops.DequantizeLinear(F32), Data((2, 3), I32, -900, 900), scale),
        _case("quantize_dynamic", ops.DynamicQuantizeLinear(), x),
    ]


def _recurrent() -> list[OpCase]:
    x, lengths, state = Data((5, 3, 4)), Literal((5, 1, 3), I32), Data((1, 3, 2))
    states = Data((2, 3, 2))

    def way(gates: int, width: int = 2) -> tuple[Weight, ...]:
        return Weight((gates * 2, 4)), Weight((gates * 2, width)), Weight((gates * 2,)), Weight((gates * 2,))

    one = (None,) * 4
    hard = ops.LSTM(activations=("HardSigmoid", "Softsign", "Elu"), alphas=(0.3, 0.0, 1.5), betas=(0.4, 0.0, 0.0))
    return [
        _case("rnn", ops.RNN(), x, *way(1)),
        _case("rnn_reverse", ops.RNN("reverse", batch_first=True), x, *way(1)[:2]),
        _case("rnn_relu", ops.RNN("bidirectional", activations=("Relu", "Tanh")), x, *way(1), *way(1), lengths),
        _case("rnn_clip", ops.RNN(clip=0.5), x, *way(1)),
        _case("gru", ops.GRU(), x, *way(3), *one, None, state),
        _case("gru_reset_after", ops.GRU(gates="rzh", linear_before_reset=True), x, *way(3)),
        _case("gru_both", ops.GRU("bidirectional", batch_first=True), Data((3, 5, 4)), *way(3), *way(3), None, states),
        _case("gru_lengths", ops.GRU("reverse", linear_before_reset=True), x, *way(3), *one, lengths),
        _case("gru_clip", ops.GRU(clip=0.5), x, *way(3)),
        _case("lstm", ops.LSTM(), x, *way(4)),
        _case(
            "lstm_states", ops.LSTM(gates="ifco", batch_first=True), Data((3, 5, 4)), *way(4), *one, None, state, state
        ),
        _case("lstm_both", ops.LSTM("bidirectional", "ifco", True), x, *way(4), *way(4)),
        _case("lstm_lengths", ops.LSTM("bidirectional"), x, *way(4), *way(4), lengths, states, states),
        _case("lstm_peepholes", ops.LSTM("reverse"), x, *way(4), *one, None, None, None, Weight((6,))),
        _case("lstm_half", ops.LSTM("bidirectional"), x, *way(4), *way(4), None, states),
        _case("lstm_coupled", ops.LSTM(input_forget=True), x, *way(4)),
        _case("lstm_functions", hard, x, *way(4)),
        _case("lstm_clip", ops.LSTM(clip=0.5), x, *way(4)),
        _case(
            "lstm_projected", ops.LSTM(), x, *way(4, 3), *one, None, Data((1, 3, 3)), state, None, None, Weight((3, 2))
        ),
    ]


def _random() -> list[OpCase]:
    """Draws that leave no choice: what they give does not depend on the runtime's numbers."""
    sure = Literal([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    classes = Literal([[-1e9, 0.0, -1e9], [0.0, -1e9, -1e9]])
    return [
        _case("random_uniform", ops.RandomUniform((2, 3), F32, 0.5, 0.5)),
        _case("random_uniform_double", ops.RandomUniform((2, 3), F64, 2.0, 2.0)),
        _case("random_normal", ops.RandomNormal((2, 3), F32, 1.5, 0.0)),
        _case("random_normal_narrow", ops.RandomNormal((2, 3), F32, 1.5, 1e-30)),
        _case("random_normal_half", ops.RandomNormal((2, 3), DType.FLOAT16, 1.5, 1e-30)),
        _case("bernoulli", ops.Bernoulli(F32), sure),
        _case("bernoulli_bool", ops.Bernoulli(BOOL), sure),
        _case("multinomial", ops.Multinomial(4), classes),
    ]


def _bits() -> list[OpCase]:
    places = Data((5,), U8, 0, 10)
    return [
        _case("bit_shift_left", ops.BitShift("left"), Data((2, 5), U8, 0, 255), places),
        _case(
            "bit_shift_right",
            ops.BitShift("right"),
            Data((2, 5), DType.UINT32, 0, 9999),
            Data((5,), DType.UINT32, 0, 9),
        ),
        _case("bit_cast", ops.BitCast(DType.UINT32), Data((2, 3), I32, -9, 9)),
        _case("bit_shift_left_signed", ops.BitShift("left"), Data((2, 5), I32, -999, 999), Data((5,), I32, -1, 40)),
        _case("bit_shift_right_signed", ops.BitShift("right"), Data((2, 5), I64, -999, 999), Data((5,), I64, -1, 70)),
    ]


def _integer() -> list[OpCase]:
    one, zeros = (1, 1), ((0, 0), (0, 0))
    x, w = Data((2, 4, 7, 9), U8, 0, 255), Weight((6, 2, 3, 2), U8, 0, 255)
    start = Literal(117, U8)
    return [
        _case("matmul_integer", ops.MatMulInteger(), Data((2, 3, 4), U8, 0, 255), Weight((4, 5), U8, 0, 255)),
        _case(
            "matmul_integer_zero",
            ops.MatMulInteger(),
            Data((3, 4), U8, 0, 255),
            Weight((4, 5), U8, 0, 255),
            start,
            Weight((5,), U8, 0, 255),
        ),
        _case("conv_integer", ops.ConvInteger(one, zeros, one, 2), x, w),
        _case("conv_integer_zero", ops.ConvInteger((2, 1), ((1, 1), (0, 1)), one, 2), x, w, start, start),
        _case("conv_integer_same", ops.ConvInteger((2, 2), "same_lower", one, 2), x, w, start),
    ]


def _steps() -> list[OpCase]:
    return [
        _case("reverse_sequence", ops.ReverseSequence(), Data((5, 3, 2)), Literal([5, 0, 3], I64)),
        _case("reverse_sequence_batch", ops.ReverseSequence(True), Data((3, 5)), Literal([1, 4, 2], I64)),
        _case("tensor_scatter", ops.TensorScatter(2), Data((2, 3, 6, 4)), Data((2, 3, 2, 4)), Literal([1, 4], I64)),
        _case("tensor_scatter_begin", ops.TensorScatter(1), Data((2, 6, 4)), Data((2, 3, 4))),
        _case(
            "tensor_scatter_circular",
            ops.TensorScatter(1, "circular"),
            Data((2, 6, 4)),
            Data((2, 3, 4)),
            Literal([1, 5], I64),
        ),
    ]


CASES: list[OpCase] = [
    *_unary(), *_binary(), *_conv(), *_pool(), *_norm(), *_linear(), *_reduce(), *_shape(), *_index(), *_resize(),
    *_attention(), *_signal(), *_quant(), *_random(), *_sample(), *_vision(), *_recurrent(),
    *_bits(), *_integer(), *_steps(),
]  # fmt: skip
