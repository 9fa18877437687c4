"""Sampling at places that are data: grid_sample and the grids of affine maps."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, Value, ops

_MODES: tuple[Literal["linear", "nearest", "cubic"], ...] = ("linear", "nearest", "cubic")
_PADDINGS: tuple[Literal["zeros", "border", "reflection"], ...] = ("zeros", "border", "reflection")


@rules.imports(
    "aten.grid_sampler.default",
    "aten.grid_sampler_2d.default",
    "aten.grid_sampler_3d.default",
    "aten._grid_sampler_2d_cpu_fallback.default",
)
def grid_sampler(
    b: Lowering, input: Value, grid: Value, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Value:
    """grid_sampler(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool align_corners)

    Modes by number: bilinear, nearest, bicubic; zeros, border, reflection.
    """
    op = ops.GridSample(_MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)
    return b.emit(op, input, grid)


@rules.imports("aten.affine_grid_generator.default")
def affine_grid_generator(b: Lowering, theta: Value, size: Sequence[Dim], align_corners: bool) -> Value:
    """affine_grid_generator(Tensor theta, SymInt[] size, bool align_corners): size is that of the images"""
    return b.emit(ops.AffineGrid(tuple(size[2:]), align_corners), theta)
