"""Conditions on named sizes: read as text, never executed, and refuted by sizes within their ranges."""

import json

import pytest

from isomorph.errors import MalformedError
from isomorph.ir import DimRange
from isomorph.ir.conditions import CONDITIONS, Condition, conditions_of

RANGES = {"H": DimRange(64, 512), "W": DimRange(64, 512), "N": DimRange(1, 16)}


@pytest.mark.parametrize(
    ("text", "sizes", "holds"),
    [
        ("N == 2", {"N": 2}, True),
        ("trunc((128 / min(H, W))*float(H)) == 128", {"H": 128, "W": 160}, True),
        ("trunc((128 / min(H, W))*float(H)) == 128", {"H": 128, "W": 100}, False),
        ("1 < H <= 9 and not W == 3", {"H": 9, "W": 4}, True),
        ("H**2 % 3 == 1 or -W > 0", {"H": 2, "W": 1}, True),
        ("H // (W - W) == 1", {"H": 2, "W": 1}, False),
    ],
)
def test_holds(text: str, sizes: dict[str, int], holds: bool) -> None:
    assert Condition.parse(text).holds(sizes) is holds


@pytest.mark.parametrize("text", ["H*(W + 1) == H*W + H", "(N*H) % N == 0", "max(H, 64) == H", "H >= 64 and H < 513"])
def test_what_always_holds_has_no_counterexample(text: str) -> None:
    assert Condition.parse(text).counterexample(RANGES) is None


@pytest.mark.parametrize(
    "text", ["H == 64", "H != 512", "H <= W", "(288 / max(H, W)) >= (192 / min(H, W))", "N % 2 == 0"]
)
def test_counterexamples_are_within_the_ranges(text: str) -> None:
    condition = Condition.parse(text)
    found = condition.counterexample(RANGES)
    assert found is not None
    assert not condition.holds(found)
    assert all(RANGES[name].min <= size <= RANGES[name].max for name, size in found.items())


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "H.real == 1",
        "(lambda: 1)() == 1",
        "[H][0] == 1",
        "H == 'x'",
        "open(1) == 1",
        "2 ** H == 1",
        "2 ** 99999999 == 1",
        "((H ** 9) ** 9) ** 9 == 1",
        "H ==",
        "1" * 5000,
        "-" * 4000 + "1",
        "(" * 300 + "H" + ")" * 300,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Condition.parse(text)


@pytest.mark.parametrize("stated", ["", "{", "7", '{"a": 1}', "null"])
def test_metadata_that_is_no_list_states_nothing(stated: str) -> None:
    assert conditions_of({CONDITIONS: stated}) == []
    assert conditions_of({CONDITIONS: json.dumps(["N == 2", 3])}) == ["N == 2"]
