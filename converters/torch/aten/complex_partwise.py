"""Operations on complex tensors that treat the real and the imaginary parts alike, or are linear in two operands."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from isomorph.converters.torch.aten import (  # noqa: F401 (their rules are registered first)
    conv,
    create,
    cumulative,
    diagonal,
    elementwise,
    fold,
    gradient,
    join,
    rearrange,
    reduce,
    scatter,
    search,
    split,
    statistics,
)
from isomorph.converters.torch.aten import product as _product  # noqa: F401
from isomorph.converters.torch.aten.complex import PARTS, Complex, recorded_parts
from isomorph.converters.torch.aten.complex_elementwise import absolute, add, multiplied
from isomorph.converters.torch.aten.complex_linear import bilinear, matmul
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules, rules
from isomorph.ir import Value, ops

_PARTWISE = (
    "ravel.default", "atleast_1d.default", "atleast_2d.default", "atleast_3d.default", "column_stack.default",
    "hstack.default", "vstack.default", "dstack.default", "unsafe_chunk.default", "unsafe_split.Tensor",
    "unsafe_split_with_sizes.default", "hsplit.int", "hsplit.array", "vsplit.int", "vsplit.array", "dsplit.int",
    "dsplit.array", "tensor_split.indices", "diag.default", "diag_embed.default", "diagflat.default",
    "diagonal_scatter.default", "block_diag.default", "meshgrid.default", "meshgrid.indexing", "take_along_dim.default",
    "unfold.default", "as_strided.default", "pixel_shuffle.default", "pixel_unshuffle.default",
    "channel_shuffle.default", "im2col.default", "positive.default", "trace.default", "sum_to_size.default",
    "diff.default", "scatter.src", "scatter_add.default", "index_copy.default", "index_add.default",
    "index_put.default", "index_put_.default", "index_fill.int_Scalar", "select_scatter.default",
    "slice_scatter.default", "fill.Scalar", "fill_.Scalar", "fill.Tensor", "fill_.Tensor", "zero_.default",
    "copy.default", "copy_.default", "atleast_1d.Sequence", "atleast_2d.Sequence", "atleast_3d.Sequence",
    "_chunk_cat.default", "cartesian_prod.default", "combinations.default", "linalg_diagonal.default",
    "tensor_split.tensor_indices_or_sections", "repeat_interleave.self_Tensor", "put.default", "put_.default",
    "masked_scatter.default", "masked_scatter_.default", "index_fill.int_Tensor", "detach_.default",
    "trapezoid.dx", "trapz.dx", "cumulative_trapezoid.dx", "gradient.scalarint", "gradient.scalararray",
    "gradient.array", "gradient.scalarrayint", "gradient.scalarrayarray", "gradient.tensorarrayint",
    "gradient.tensorarray",
)  # fmt: skip
"""Moves and sums: what happens to the real parts happens to the imaginary ones."""


_DATA = frozenset({"self", "tensors", "value", "values", "src", "source", "fill_value", "prepend", "append", "y", "A"})
"""Arguments that hold elements: a real one has imaginary parts of 0. Others are indices, masks, axes and the like."""


def _part(b: Lowering, value: Any, place: int) -> Any:
    """The real (0) or imaginary (1) part of elements."""
    if isinstance(value, Complex):
        return value.parts(b)[place]
    if isinstance(value, complex | float | int):
        return (value.real, value.imag)[place]
    if isinstance(value, tuple):
        return tuple(_part(b, each, place) for each in value)
    if isinstance(value, Value) and place:
        return b.emit(ops.Expand(value.shape), b.number(0, value.dtype))
    return value


def _is_complex(value: Any) -> bool:
    return isinstance(value, Complex | complex) or (isinstance(value, tuple) and any(map(_is_complex, value)))


def _register_partwise(target: str) -> None:
    rule = rules.importer(target)
    if rule is None or complex_rules.importer(target) is not None:
        return

    @complex_rules.imports(target)
    @wraps(rule)
    def partwise(b: Lowering, **arguments: Any) -> Any:
        assert rule is not None
        for name, value in arguments.items():
            b.require(name in _DATA or not _is_complex(value), f"complex numbers as `{name}`")
        both = [
            {name: _part(b, value, place) if name in _DATA else value for name, value in arguments.items()}
            for place in (0, 1)
        ]
        with recorded_parts(b):
            real, imaginary = (rule(b, **given) for given in both)
        if isinstance(real, Value):
            return Complex(None, (real, imaginary))  # type: ignore[arg-type]
        return [Complex(None, pair) for pair in zip(real, imaginary, strict=True)]  # type: ignore[arg-type]


for _name in _PARTWISE:
    _register_partwise(f"aten.{_name}")

_BILINEAR = {
    "conv1d.default": ("input", "weight"), "conv2d.default": ("input", "weight"), "conv3d.default": ("input", "weight"),
    "conv1d.padding": ("input", "weight"), "conv2d.padding": ("input", "weight"), "conv3d.padding": ("input", "weight"),
    "conv_transpose1d.default": ("input", "weight"), "conv_transpose2d.input": ("input", "weight"),
    "conv_transpose3d.input": ("input", "weight"), "tensordot.default": ("self", "other"),
    "inner.default": ("self", "other"), "kron.default": ("self", "other"), "outer.default": ("self", "vec2"),
    "cross.default": ("self", "other"), "linalg_cross.default": ("self", "other"), "trapezoid.x": ("y", "x"),
    "trapz.x": ("y", "x"), "cumulative_trapezoid.x": ("y", "x"),
}  # fmt: skip
"""The two operands in which an operation is linear."""


def _register_bilinear(target: str, first: str, second: str) -> None:
    rule = rules.importer(target)
    if rule is None or complex_rules.importer(target) is not None:
        return

    @complex_rules.imports(target)
    @wraps(rule)
    def product(b: Lowering, **arguments: Any) -> Any:
        bias = arguments.pop("bias", None)

        def of_parts(x: Value, y: Value) -> Value:
            assert rule is not None
            with recorded_parts(b):
                return rule(b, **{**arguments, first: x, second: y})  # type: ignore[return-value]

        made = bilinear(b, of_parts, arguments[first], arguments[second])
        if bias is None:
            return made
        spread = (bias.shape[0], *(1,) * (arguments[second].rank - 2))
        if isinstance(bias, Complex):
            real, imaginary = bias.parts(b)
            return add(b, made, Complex(None, (b.reshape(real, spread), b.reshape(imaginary, spread))))
        return add(b, made, b.reshape(bias, spread))


for _name, (_first, _second) in _BILINEAR.items():
    _register_bilinear(f"aten.{_name}", _first, _second)


@complex_rules.imports("aten.addmm.default", "aten.addmv.default", "aten.baddbmm.default")
def added_product(
    b: Lowering,
    self: Complex,
    mat1: Complex | None = None,
    mat2: Complex | None = None,
    beta: complex = 1,
    alpha: complex = 1,
    mat: Complex | None = None,
    vec: Complex | None = None,
    batch1: Complex | None = None,
    batch2: Complex | None = None,
) -> Complex:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1): beta self + alpha mat1 mat2"""
    left = next((each for each in (mat1, mat, batch1) if each is not None), None)
    right = next((each for each in (mat2, vec, batch2) if each is not None), None)
    made = matmul(b, left, right)  # type: ignore[arg-type]
    part = PARTS[made.dtype]
    if beta == 0:
        return made if alpha == 1 else multiplied(b, made, alpha, part)
    return add(b, self if beta == 1 else multiplied(b, self, beta, part), made, alpha)


# --- real results ----------------------------------------------------------------------------------------------------


def _register_of_size(target: str) -> None:
    """Operations that see of a number only how large it is."""
    rule = rules.importer(target)
    if rule is None:
        return

    @complex_rules.imports(target)
    @wraps(rule)
    def of_size(b: Lowering, self: Complex, **arguments: Any) -> Any:
        assert rule is not None
        return rule(b, absolute(b, self), **arguments)


_register_of_size("aten.linalg_vector_norm.default")
_register_of_size("aten.norm.Scalar")
_register_of_size("aten.norm.ScalarOpt_dim")


def _register_test(name: str, join_parts: Callable[[Lowering, Value, Value], Value]) -> None:
    target = f"aten.{name}.default"
    rule = rules.importer(target)
    if rule is None:
        return

    @complex_rules.imports(target)
    def test(b: Lowering, self: Complex) -> Value:
        assert rule is not None
        real, imaginary = self.parts(b)
        return join_parts(b, rule(b, real), rule(b, imaginary))  # type: ignore[arg-type]

    test.__doc__ = f"{name}(Tensor self)"


_register_test("isnan", lambda b, x, y: b.emit(ops.Or(), x, y))
_register_test("isinf", lambda b, x, y: b.emit(ops.Or(), x, y))
_register_test("isfinite", lambda b, x, y: b.emit(ops.And(), x, y))


def _register_spread(name: str) -> None:
    rule = rules.importer(f"aten.var.{name}")
    if rule is None:
        return

    @complex_rules.imports(f"aten.var.{name}")
    @wraps(rule)
    def variance(b: Lowering, self: Complex, **arguments: Any) -> Value:
        assert rule is not None
        real, imaginary = (rule(b, part, **arguments) for part in self.parts(b))
        return b.emit(ops.Add(), real, imaginary)  # type: ignore[arg-type]

    variances[name] = variance


variances: dict[str, Callable[..., Value]] = {}
"""The rules of var, by overload."""

_register_spread("correction")
_register_spread("dim")
_register_spread("default")
