"""The steps of recipes, against scikit-image and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isomorph.errors import UsageError
from isomorph.zoo.recipes import STEPS, evaluate, read_recipe
from isomorph.zoo.tables import Table


def recipe(*steps: dict[str, object]) -> np.ndarray:
    return evaluate(read_recipe([Table(step, "recipe") for step in steps]))


def test_shrink_is_the_local_mean_of_scikit_image(requires: Callable[..., None]) -> None:
    requires("skimage")
    from skimage import data, transform

    shrunk = recipe({"step": "photograph", "name": "astronaut"}, {"step": "shrink", "factor": 8})
    np.testing.assert_allclose(shrunk, transform.downscale_local_mean(data.astronaut(), (8, 8, 1)), rtol=1e-12)


def test_crop_grey_and_normalize(requires: Callable[..., None]) -> None:
    requires("skimage")
    from skimage import data

    got = recipe(
        {"step": "photograph", "name": "astronaut"},
        {"step": "crop", "top": 54, "left": 161, "height": 2, "width": 3},
        {"step": "grey"},
        {"step": "normalize", "mean": 127.5, "deviation": 127.5},
        {"step": "expand", "axes": [0, 3]},
    )
    red, green, blue = np.moveaxis(data.astronaut()[54:56, 161:164].astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert got.shape == (1, 2, 3, 1)
    np.testing.assert_allclose(got[0, ..., 0], (luma / 255 - 0.5) * 2, atol=1e-12)


def test_sine() -> None:
    got = recipe({"step": "sine", "amplitude": 0.5, "frequency": 1.0, "rate": 4.0, "length": 5})
    np.testing.assert_allclose(got, [0, 0.5, 0, -0.5, 0], atol=1e-15)


def test_ends_of_a_short_text() -> None:
    got = recipe({"step": "text", "content": " ab\n"}, {"step": "ends", "count": 5, "block": 8, "padding": 256})
    assert got.tolist() == [*b"ab\n", 256, 256, 256, 256, *b" ab"]


def test_ends_of_a_long_text_look_at_one_block() -> None:
    got = recipe(
        {"step": "text", "content": "    abcdefgh    "}, {"step": "ends", "count": 3, "block": 6, "padding": 256}
    )
    assert got.tolist() == [*b"ab", 256, 256, *b"gh"]


def test_mean_take_and_transpose() -> None:
    steps = read_recipe(
        [
            Table({"step": "transpose", "axes": [1, 0, 2]}, "recipe"),
            Table({"step": "take", "axis": 0, "index": 2}, "recipe"),
            Table({"step": "mean", "axes": [1]}, "recipe"),
        ]
    )
    array = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(evaluate(steps, array), array[:, 2].mean(1))


@pytest.mark.parametrize("step", ["grey", "mean", "take"])
def test_a_transformation_cannot_come_first(step: str) -> None:
    fields = {"mean": {"axes": [0]}, "take": {"axis": 0, "index": 0}}.get(step, {})
    with pytest.raises(UsageError, match="cannot be the first"):
        recipe({"step": step, **fields})


def test_every_step_says_what_it_computes() -> None:
    assert all(kind.__doc__ for kind in STEPS.values())
