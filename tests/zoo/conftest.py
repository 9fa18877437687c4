"""Fixtures of the zoo's tests: a cache of their own, and a registry that is a folder of wheels built by the tests.

pip finds the folder through the settings that a user would use.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from isomorph.zoo import catalogue
from isomorph.zoo.manifest import Manifest, parse_manifest

_TEMPLATE = """
schema = 1

[[model]]
name = "tiny"
title = "A file that stands for a model"
task = "none"
licence = "MIT"
credit = "the tests"
source = {{ kind = "pypi", package = "isomorph-test-tiny", version = "1.0" }}

[[model.file]]
suffix = "onnx"
format = "onnx"
member = "tiny/model.onnx"
size = {size}
sha256 = "{sha256}"

[[model.input]]
name = "x"
shape = ["N", 2]
dtype = "float32"
meaning = "anything"

[[model.output]]
name = "y"
shape = ["N", 2]
dtype = "float32"
meaning = "the same"

[[model.answer]]
name = "ones"
origin = "by hand"
inputs.x = [
    {{ step = "sine", amplitude = 0.0, frequency = 1.0, rate = 4.0, length = 2 }},
    {{ step = "normalize", mean = -1.0, deviation = 1.0 }},
    {{ step = "expand", axes = [0] }},
]

[[model.answer.expect]]
output = "y"
meaning = "one and one"
reduce = [{{ step = "take", axis = 0, index = 0 }}]
values = [1.0, 1.0]
tolerance = 1e-6
"""


@dataclass(frozen=True)
class Registry:
    """A folder of wheels."""

    folder: Path

    def manifest(self, payload: bytes) -> str:
        """The text of a manifest of one model, `tiny`, whose file is this payload."""
        return _TEMPLATE.format(size=len(payload), sha256=hashlib.sha256(payload).hexdigest())

    def write(self, members: Mapping[str, bytes], *, tag: str = "py3-none-any") -> Path:
        """Write a valid wheel, isomorph-test-tiny 1.0, with these members."""
        info = "isomorph_test_tiny-1.0.dist-info"
        files = {
            **members,
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: isomorph-test-tiny\nVersion: 1.0\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        }
        record = "".join(f"{path},sha256={_urlsafe(data)},{len(data)}\n" for path, data in files.items())
        path = self.folder / f"isomorph_test_tiny-1.0-{tag}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
            for member, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
                wheel.writestr(member, data)
        return path


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ISOMORPH_CACHE", str(root))
    return root


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A folder that pip, as the user has configured it, takes for the only registry there is."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Registry(folder)


@pytest.fixture
def use_manifest(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Manifest]:
    """Replaces the zoo's manifest by this text."""

    def use(text: str) -> Manifest:
        manifest = parse_manifest(text, "manifest.toml")
        monkeypatch.setattr(catalogue, "load_manifest", lambda: manifest)
        return manifest

    return use
