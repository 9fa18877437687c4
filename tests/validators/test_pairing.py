"""Pairs of inputs and outputs: given by --map, by name, by position; nothing is permuted silently, and what would make
two models agree is suggested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from isomorph.errors import UsageError
from isomorph.validators import Signature, TensorSpec, Verdict, judge
from isomorph.validators.pairing import Map, pair, parse_map
from isomorph.validators.runner import NATIVE, Result

KERNEL = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


class Formula:
    """A runner made of a NumPy function from arrays to arrays."""

    def __init__(
        self,
        inputs: Mapping[str, tuple[int | str, ...]],
        outputs: Mapping[str, tuple[int | str, ...]],
        compute: Callable,
    ) -> None:
        self._signature = Signature(
            tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items()),
            tuple(TensorSpec(name, "float32", shape) for name, shape in outputs.items()),
            {"N": (1, None), "H": (1, None), "W": (1, None)},
            100,
        )
        self._compute = compute

    def signature(self) -> Signature:
        return self._signature

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        kind = np.float32 if precision == NATIVE else np.float64
        values = self._compute(*(inputs[spec.name].astype(kind) for spec in self._signature.inputs))
        return Result({s.name: np.asarray(v) for s, v in zip(self._signature.outputs, values, strict=True)})


def first(x: np.ndarray) -> list[np.ndarray]:
    """(N, 3, H, W) -> (N, 5, H, W), a convolution of one cell."""
    return [np.einsum("nchw,co->nohw", x, KERNEL.astype(x.dtype))]


def last(x: np.ndarray) -> list[np.ndarray]:
    """The same, channels last."""
    return [np.einsum("nhwc,co->nhwo", x, KERNEL.astype(x.dtype))]


CHANNELS_FIRST = Formula({"x": ("N", 3, "H", "W")}, {"y": ("N", 5, "H", "W")}, first)
CHANNELS_LAST = Formula({"serving_default_x:0": ("N", "H", "W", 3)}, {"out": ("N", "H", "W", 5)}, last)


def test_a_map() -> None:
    assert parse_map("x=serving_default_x[0,2,3,1]") == Map("x", "serving_default_x", (0, 2, 3, 1))
    assert parse_map("a:0=b") == Map("a:0", "b")
    assert parse_map("output:x=x") == Map("x", "x", None, "output")
    assert str(parse_map("input:x=y[1, 0]")) == "input:x=y[1,0]"
    for text in ("x", "=y", "x=", "x=y[0,0]", "x=y[1,2]", "x=y[0,,1]"):
        with pytest.raises(UsageError, match="cannot read --map"):
            parse_map(text)


def test_layouts_paired_by_maps() -> None:
    maps = ["x=serving_default_x[0,2,3,1]", "y=out[0,2,3,1]"]
    report = judge(CHANNELS_FIRST, CHANNELS_LAST, maps=maps)
    assert report.verdict is Verdict.EQUIVALENT
    assert [p.how for p in (*report.pairing.inputs, *report.pairing.outputs)] == ["given", "given"]
    assert any("with axes [0, 2, 3, 1] (given)" in note for note in report.notes)


def test_layouts_without_maps_are_different_and_the_maps_are_suggested() -> None:
    report = judge(CHANNELS_FIRST, CHANNELS_LAST)
    assert report.verdict is Verdict.DIFFERENT
    assert report.maps == ["x=serving_default_x:0[0,2,3,1]", "y=out[0,2,3,1]"]
    assert judge(CHANNELS_FIRST, CHANNELS_LAST, maps=report.maps).verdict is Verdict.EQUIVALENT


def test_swapped_outputs_and_inputs() -> None:
    def straight(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        return [a - 2 * b, a + b]

    def crossed(b: np.ndarray, a: np.ndarray) -> list[np.ndarray]:
        return [a + b, a - 2 * b]

    shapes: dict[str, tuple[int | str, ...]] = {"a": ("N", 3), "b": ("N", 3)}
    source = Formula(shapes, {"p": ("N", 3), "q": ("N", 3)}, straight)
    target = Formula({"u": ("N", 3), "v": ("N", 3)}, {"r": ("N", 3), "s": ("N", 3)}, crossed)
    report = judge(source, target)
    assert report.verdict is Verdict.DIFFERENT
    assert report.maps == ["a=v", "b=u", "p=s", "q=r"]
    assert judge(source, target, maps=report.maps).verdict is Verdict.EQUIVALENT
    assert judge(source, target, maps=["a=v", "p=s"]).verdict is Verdict.EQUIVALENT


def test_another_order_of_the_same_names() -> None:
    def forth(a: np.ndarray) -> list[np.ndarray]:
        return [a * 2, a * 3]

    def back(a: np.ndarray) -> list[np.ndarray]:
        return [a * 3, a * 2]

    source = Formula({"a": ("N", 3)}, {"p": ("N", 3), "q": ("N", 3)}, forth)
    target = Formula({"a": ("N", 3)}, {"q": ("N", 3), "p": ("N", 3)}, back)
    report = judge(source, target)
    assert report.verdict is Verdict.DIFFERENT
    assert "another order" in report.reasons[0]
    assert judge(source, target, maps=report.maps).verdict is Verdict.EQUIVALENT
    target._signature = replace(target._signature, ordered=False)
    assert judge(source, target).verdict is Verdict.EQUIVALENT
    assert judge(target, source).verdict is Verdict.EQUIVALENT


def test_nothing_is_suggested_where_nothing_helps() -> None:
    target = Formula({"x": ("N", 3, "H", "W")}, {"y": ("N", 5, "H", "W")}, lambda x: [first(x)[0] * 1.1])
    report = judge(CHANNELS_FIRST, target)
    assert (report.verdict, report.maps) == (Verdict.DIFFERENT, [])


def test_maps_that_fit_nothing() -> None:
    mine, theirs = CHANNELS_FIRST.signature(), CHANNELS_LAST.signature()
    for text, said in [
        ("z=out", "names no input of both sides"),
        ("x=out", "names no input of both sides"),
        ("x=serving_default_x[1,0]", "has 4 axes"),
    ]:
        with pytest.raises(UsageError, match=said):
            pair(mine, theirs, [parse_map(text)], None)
    both = Formula({"x": ("N", 3)}, {"x": ("N", 3)}, lambda x: [x]).signature()
    with pytest.raises(UsageError, match="inputs or outputs"):
        pair(both, both, [parse_map("x=x")], None)
    assert pair(both, both, [parse_map("output:x=x")], None).outputs[0].how == "given"
    with pytest.raises(UsageError, match="mapped already"):
        pair(both, both, [parse_map("output:x=x"), parse_map("output:x=x")], None)
