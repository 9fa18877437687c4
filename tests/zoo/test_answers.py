"""Known answers: right ones pass, and each way of being wrong does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isomorph.zoo import check_answers, find
from isomorph.zoo.answers import known_inputs
from isomorph.zoo.manifest import Binding, File
from isomorph.zoo.recipes import recorded

DIGITS, _ = find("digits-cnn")


def logits() -> np.ndarray:
    return recorded("digits/answers.npz", "logits").copy()


def test_the_recorded_answers_pass() -> None:
    results = check_answers(DIGITS, lambda _: {"logits": logits()})
    assert [result.passed for result in results] == [True, True]
    assert results[0].error == 0


def _shifted(array: np.ndarray) -> np.ndarray:
    array[3, 7] += 2e-4
    return array


def _nan(array: np.ndarray) -> np.ndarray:
    array[0, 0] = np.nan
    return array


WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one element beyond the tolerance": _shifted,
    "a NaN": _nan,
    "all NaN": lambda array: np.full_like(array, np.nan),
    "infinite": lambda array: np.full_like(array, np.inf),
    "transposed": lambda array: array.T,
    "an axis too many": lambda array: array[None],
    "one row short": lambda array: array[:-1],
    "rows permuted": lambda array: array[::-1],
    "empty": lambda array: array[:0],
    "a scalar": lambda array: array[0, 0],
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_answers_do_not_pass(fault: str) -> None:
    results = check_answers(DIGITS, lambda _: {"logits": WRONG[fault](logits())})
    assert not results[0].passed


def test_a_wrong_label_does_not_pass() -> None:
    wrong = np.roll(logits(), 1, axis=1)
    labels = check_answers(DIGITS, lambda _: {"logits": wrong})[1]
    assert not labels.passed and labels.received == "0 of them"


def test_a_missing_output_is_reported_with_those_there_are() -> None:
    results = check_answers(DIGITS, lambda _: {"other": logits()})
    assert not any(result.passed for result in results)
    assert (results[0].expected, results[0].received) == ("an output logits", "outputs other")
    assert results[0].as_dict()["error"] is None


def test_names_and_axes_of_a_file_are_mapped() -> None:
    inputs = {"image": Binding("in", (0, 2, 3, 1))}
    file = File("x", "onnx", "x", 1, "0" * 64, inputs, {"logits": Binding("out", (1, 0))})
    seen = {}

    def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.update(given)
        return {"out": logits().T}

    assert all(result.passed for result in check_answers(DIGITS, run, file))
    assert {name: array.shape for name, array in seen.items()} == {"in": (16, 8, 8, 1)}


def test_a_peak_must_be_at_its_place(requires: Callable[..., None]) -> None:
    requires("skimage")
    pnet, _ = find("mtcnn-pnet")
    faces = np.zeros((1, 27, 27, 2), np.float32)
    faces[0, 11, 5, 1] = 0.9999995
    assert check_answers(pnet, lambda _: {"faces": faces})[0].passed
    [flat] = check_answers(pnet, lambda _: {"faces": faces[0]})
    assert not flat.passed and flat.received == "an array of shape (27, 27, 2)"
    faces[0, 5, 11, 1] = 1.0
    [moved] = check_answers(pnet, lambda _: {"faces": faces})
    assert not moved.passed and moved.received == "1 at (0, 5, 11)"


def test_the_batch_of_the_outputs_is_that_of_the_inputs() -> None:
    magika, _ = find("magika")
    types = np.zeros((2, 214), np.float32)
    results = check_answers(magika, lambda _: {"types": types})
    assert [(result.passed, result.expected) for result in results] == [(False, "an array of shape (1, 214)")] * 2


def test_known_inputs_have_the_declared_types() -> None:
    [answer] = DIGITS.answers
    image = known_inputs(DIGITS, answer)["image"]
    assert image.dtype == np.float32 and image.shape == (16, 1, 8, 8) and image.flags.c_contiguous
    assert (image.min(), image.max()) == (0, 1)
