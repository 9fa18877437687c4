"""A sample of the damaged files of mutated_files.py: typed errors only, soon, in memory bounded by the file's size.

The whole set: python tests/mutated_files.py
"""

from __future__ import annotations

from mutated_files import trials

FILES = 300
SEED = 7


def test_damaged_files_end_in_a_model_or_in_a_typed_error() -> None:
    results = list(trials(SEED, range(FILES)))
    assert [each.index for each in results] == list(range(FILES))
    assert {each.index: each.failure for each in results if each.failure} == {}
    outcomes = {each.outcome for each in results}
    assert {"model", "MalformedError", "UnsupportedError", "UnsafeError"} <= outcomes
