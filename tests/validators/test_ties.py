"""Sorted outputs with near ties: rows that may change places are no difference, others are."""

from collections.abc import Callable, Mapping

import numpy as np

from isomorph.validators.compare import TIES, Comparison, compare_exact, compare_float, undecidable, unit_roundoff
from isomorph.validators.runner import Result, Signature, TensorSpec
from isomorph.validators.ties import contested
from isomorph.validators.trial import judge
from isomorph.validators.verdict import CaseResult, Verdict, decide

UNIT = unit_roundoff(np.dtype(np.float32))
COUNT = 400


def detections(noise: float = 1e-6) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Outputs sorted by score, of which rows 10 and 11 are nearly tied, in float64, and six runs with noise."""
    rng = np.random.default_rng(0)
    scores = np.linspace(1.0, 0.1, COUNT)
    scores[11] = scores[10] - 1e-7
    reference = {"scores": scores, "labels": rng.integers(0, 9, COUNT), "boxes": rng.uniform(0, 100, (COUNT, 4))}
    reference["labels"][10:12] = 1, 2
    noisy = [reference | {"scores": scores + rng.uniform(-noise, noise, COUNT)} for _ in range(6)]
    return reference, noisy


def swapped(array: np.ndarray, first: int, second: int) -> np.ndarray:
    array = array.copy()
    array[[first, second]] = array[[second, first]]
    return array


def test_rows_that_are_contested() -> None:
    reference, noisy = detections()
    rows = contested("labels", reference, noisy)
    assert rows is not None
    assert np.flatnonzero(rows).tolist() == [10, 11]
    boxes = contested("boxes", reference, noisy)
    assert boxes is not None
    assert boxes.shape == (COUNT, 4)
    assert boxes.any(axis=1).tolist() == rows.tolist()


def test_what_is_not_sorted_orders_nothing() -> None:
    reference, noisy = detections()
    reference["scores"] = swapped(reference["scores"], 3, 300)
    assert contested("labels", reference, noisy) is None
    assert contested("labels", {"labels": reference["labels"]}, []) is None


def test_swapped_rows_of_a_near_tie_are_equal() -> None:
    reference, noisy = detections()
    labels = swapped(reference["labels"], 10, 11)
    tied = contested("labels", reference, noisy)
    assert compare_exact(reference["labels"], [], labels).worst == np.inf
    found = compare_exact(reference["labels"], [], labels, tied=tied)
    assert found.worst == 0
    assert found.tolerance <= TIES
    boxes = swapped(reference["boxes"], 10, 11).astype(np.float32)
    tied = contested("boxes", reference, noisy)
    assert compare_float(reference["boxes"], [reference["boxes"].astype(np.float32)], boxes, UNIT).worst > 1e3
    assert compare_float(reference["boxes"], [reference["boxes"].astype(np.float32)], boxes, UNIT, tied=tied).worst < 8


def test_other_rows_still_count() -> None:
    reference, noisy = detections()
    for first, second in ((10, 12), (50, 51)):
        labels = reference["labels"].copy()
        labels[[first, second]] = 10, 11
        assert (
            compare_exact(reference["labels"], [], labels, tied=contested("labels", reference, noisy)).worst == np.inf
        )
        boxes = swapped(reference["boxes"], first, second).astype(np.float32)
        samples = [reference["boxes"].astype(np.float32)]
        tied = contested("boxes", reference, noisy)
        assert compare_float(reference["boxes"], samples, boxes, UNIT, tied=tied).worst > 1e3


def test_a_shift_is_a_tie_where_the_source_shifts() -> None:
    reference, _ = detections()
    labels = reference["labels"]

    def shifted(place: int) -> np.ndarray:
        return np.concatenate([labels[:place], [9], labels[place:-1]])

    found = compare_exact(labels, [labels, shifted(200)], shifted(100))
    assert found.worst == 0
    assert found.tolerance > TIES  # the case says nothing
    assert compare_exact(labels, [labels], shifted(100)).worst == np.inf
    assert compare_exact(labels, [labels, shifted(COUNT - 2)], shifted(100)).worst == np.inf
    assert compare_exact(labels, [labels, shifted(200)], (labels + 1) % 9).worst == np.inf


def test_too_many_ties_prove_nothing() -> None:
    reference, noisy = detections(noise=1e-2)
    boxes = reference["boxes"][::-1].astype(np.float32)
    tied = contested("boxes", reference, noisy)
    found = compare_float(reference["boxes"], [reference["boxes"].astype(np.float32)], boxes, UNIT, tied=tied)
    assert found.accuracy >= 1.0
    assert compare_exact(reference["labels"], [], reference["labels"][::-1], tied=tied[:, 0]).tolerance > TIES  # type: ignore[index]


class _Rows:
    """A source that keeps `rows(precision)` of its input's rows, or a target that keeps `rows("")`."""

    def __init__(self, rows: Callable[[str], int]) -> None:
        self.rows = rows

    def signature(self) -> Signature:
        inputs, outputs = TensorSpec("x", "float32", (9, 4)), TensorSpec("y", "float32", ("kept", 4))
        return Signature((inputs,), (outputs,), {"kept": (0, 9)})

    def run(self, inputs: Mapping[str, np.ndarray], *, precision: str = "native", **_: object) -> Result:
        x = inputs["x"].astype(np.float64 if precision != "native" else np.float32)
        return Result({"y": x[: self.rows(precision)]}, {})


def test_a_number_of_rows_that_rounding_decides_is_no_difference() -> None:
    steady, wavering = (lambda precision: 5), (lambda precision: 6 if precision.startswith("monte") else 5)
    assert judge(_Rows(steady), _Rows(steady)).verdict is Verdict.EQUIVALENT
    assert judge(_Rows(steady), _Rows(lambda _: 6)).verdict is Verdict.DIFFERENT
    report = judge(_Rows(wavering), _Rows(lambda _: 6))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("rounding decides" in note for note in report.notes)
    assert (
        judge(_Rows(lambda precision: 5 if precision == "native" else 6), _Rows(steady)).verdict is Verdict.INCONCLUSIVE
    )


def test_witnesses_may_speak_where_some_cases_compare_nothing() -> None:
    chaotic = CaseResult("normal", Comparison({"rms": 1.0}, 0.4, 0.4, 1.0, (0,), 0.0, 0.0), 1.0, UNIT)
    nothing = CaseResult("unit", undecidable(), 1.0, UNIT)
    assert decide("y", "y", [chaotic, nothing], exact=False).mute
    assert not decide("y", "y", [nothing, nothing], exact=False).mute
