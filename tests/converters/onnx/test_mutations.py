"""A sample of the damaged files of mutated_files.py: typed errors only, soon, in memory bounded by the file's size.

The whole set: python tests/mutated_files.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mutated_files import attempt, trials
from onnx_corpus import Original, corpus
from onnx_mutations import Mutant

FILES = 300
SEED = 7


@pytest.mark.parametrize("original", corpus(), ids=lambda original: original.name)
def test_undamaged_files_end_in_a_model(original: Original, tmp_path: Path) -> None:
    assert attempt(0, Mutant(original, (), original.data), tmp_path).outcome == "model"


def test_damaged_files_end_in_a_model_or_in_a_typed_error() -> None:
    results = list(trials(SEED, range(FILES)))
    assert [each.index for each in results] == list(range(FILES))
    assert {each.index: each.failure for each in results if each.failure} == {}
    outcomes = {each.outcome for each in results}
    assert {"model", "MalformedError", "UnsupportedError", "UnsafeError"} <= outcomes
