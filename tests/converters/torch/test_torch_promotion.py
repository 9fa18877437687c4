"""Type promotion among tensors, tensors of shape (), Python numbers and symbolic sizes, against PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

DTYPES = (torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32, torch.float64)
NUMBERS = (True, 2, 2.5)


def values(shape: tuple[int, ...], dtype: Any) -> Any:
    made = torch.arange(1, 1 + int(torch.tensor(shape).prod())).reshape(shape)
    return made.to(dtype)


@pytest.mark.parametrize("left", DTYPES, ids=str)
def test_tensors_and_scalars(convert: Callable[..., Any], apply: Callable[..., Any], left: Any) -> None:
    x = values((2, 3), left)
    others = [values(shape, right) for right in DTYPES for shape in ((3,), ())]

    def call(x: Any, *others: Any) -> Any:
        made = [x * other for other in others] + [torch.add(other, x) for other in others]
        return (*made, *(x * number for number in NUMBERS), *(x + number for number in NUMBERS))

    convert(apply(call), x, *others)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_in_functions(convert: Callable[..., Any], apply: Callable[..., Any], dtype: Any) -> None:
    x = values((2, 3), dtype)

    def call(x: Any) -> Any:
        made = [torch.where(x > 1, x, number) for number in NUMBERS]
        if dtype is not torch.bool:
            made += [x.clamp(min=number) for number in (2, 2.5)] + [2**x, x**2, x / 2, x // 2, x % 2, 7 - x]
        return tuple(made)

    convert(apply(call), x)


@pytest.mark.parametrize("dtype", (torch.int32, torch.float16, torch.float32, torch.float64), ids=str)
def test_symbolic_sizes_are_numbers(convert: Callable[..., Any], apply: Callable[..., Any], dtype: Any) -> None:
    def call(x: Any) -> Any:
        size = x.shape[0]
        return x * size, x + size, x / size, x - size * 2, size - x, x // size, x > size, x**2 * (size // 2)

    sizes = ({0: torch.export.Dim("rows", min=2, max=9)},)
    convert(apply(call), values((4, 3), dtype), dynamic_shapes=(sizes,), others=[(values((5, 3), dtype),)])


DIVIDENDS = (-7, -1, 0, 1, 7, 8)
DIVISORS = (-3, -1, 2, 5)


@pytest.mark.parametrize("dtype", (torch.int8, torch.int32, torch.int64, torch.float32, torch.float64), ids=str)
def test_divisions_of_either_sign(convert: Callable[..., Any], apply: Callable[..., Any], dtype: Any) -> None:
    pairs = list(itertools.product(DIVIDENDS, DIVISORS))
    x = torch.tensor([left for left, _ in pairs]).to(dtype)
    y = torch.tensor([right for _, right in pairs]).to(dtype)

    def call(x: Any, y: Any) -> Any:
        return (
            x // y,
            x % y,
            torch.fmod(x, y),
            torch.div(x, y, rounding_mode="trunc"),
            torch.div(x, y, rounding_mode="floor"),
            x / y,
            x // -3,
            x % -3,
        )

    convert(apply(call), x, y)


@pytest.mark.parametrize("dtype", (torch.int8, torch.int32, torch.int64), ids=str)
def test_integers_wrap_around(convert: Callable[..., Any], apply: Callable[..., Any], dtype: Any) -> None:
    limits = torch.iinfo(dtype)
    x = torch.tensor([limits.min, limits.max, limits.max // 2, 3], dtype=dtype)
    convert(apply(lambda x: (x + x, x * 3, x - limits.max, -x, x**3, x.abs(), x << 2, x >> 1)), x)


def test_floats_that_are_not_finite(convert: Callable[..., Any], apply: Callable[..., Any]) -> None:
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([0.0, -0.0, 1.5, -1.5, inf, -inf, nan])
    left, right = (each.reshape(-1).clone() for each in torch.meshgrid(x, x, indexing="ij"))

    def call(x: Any, y: Any) -> Any:
        made = (torch.atan2(x, y), torch.hypot(x, y), torch.logaddexp(x, y), torch.fmax(x, y), torch.fmin(x, y))
        made += (torch.maximum(x, y), torch.copysign(x, torch.where(y.isnan(), 1.0, y)), torch.xlogy(x, y))
        return (*made, x.clamp(-1, 1), x.nan_to_num(), x.isposinf(), x.isneginf(), x.isfinite(), torch.signbit(x.abs()))

    convert(apply(call), left, right)
