"""The models themselves: embedded without a network, the others from the registry, judged in their native runtimes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable

import pytest

from isomorph.errors import IntegrityError
from isomorph.zoo import Entry, catalogue, entries, find, resolve, verify
from isomorph.zoo.manifest import Embedded

NEEDS = {"pt2": "torch", "keras": "keras", "h5": "keras", "onnx": "onnxruntime"}
EMBEDDED = [
    f"{entry.name}.{file.suffix}" for entry in entries() if isinstance(entry.source, Embedded) for file in entry.files
]
FETCHED = [
    f"{entry.name}.{file.suffix}"
    for entry in entries()
    if not isinstance(entry.source, Embedded)
    for file in entry.files
]
RUNNABLE = [name for name in FETCHED if find(name)[1].format in NEEDS]


def _runtime(name: str) -> str:
    return NEEDS[find(name)[1].format]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models_answer(name: str, requires: Callable[..., None]) -> None:
    requires(_runtime(name))
    verification = verify(f"zoo:{name}", run=True)
    assert verification.answers
    assert verification.passed, verification.as_dict()


def test_embedded_models_are_small() -> None:
    sizes = [file.size for entry in entries() if isinstance(entry.source, Embedded) for file in entry.files]
    assert sum(sizes) < 1_000_000 and max(sizes) < 150_000


def test_embedded_models_name_no_place_of_the_machine_that_made_them() -> None:
    for name in EMBEDDED:
        data = resolve(name).read_bytes()
        contents = [data]
        if zipfile.is_zipfile(resolve(name)):
            with zipfile.ZipFile(resolve(name)) as archive:
                contents = [archive.read(member) for member in archive.namelist()]
        for content in contents:
            assert not re.search(rb"site-packages|/home/|File [\\\\]?.?/", content), name


def test_a_damaged_installation_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    with pytest.raises(IntegrityError, match="missing"):
        resolve("zoo:digits-cnn")


@pytest.mark.network
@pytest.mark.parametrize("name", FETCHED)
def test_fetched_models_match_their_checksums(name: str) -> None:
    assert resolve(f"zoo:{name}").stat().st_size == find(name)[1].size


@pytest.mark.network
@pytest.mark.parametrize("name", RUNNABLE)
def test_fetched_models_answer(name: str, requires: Callable[..., None]) -> None:
    requires(_runtime(name), "skimage")
    verification = verify(f"zoo:{name}", run=True)
    assert verification.answers
    assert verification.passed, verification.as_dict()


def test_every_model_has_an_answer() -> None:
    def expectations(entry: Entry) -> int:
        return sum(len(answer.expectations) for answer in entry.answers)

    assert all(expectations(entry) > 0 for entry in entries())
