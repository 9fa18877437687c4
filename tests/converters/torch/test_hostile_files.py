"""Files that mean harm, read under an audit hook in a process of their own: typed errors, and nothing else happens."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from isomorph.converters.torch.files.checkpoint import read_checkpoint
from isomorph.converters.torch.reader import read
from isomorph.errors import IsomorphError

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "data"


def fuzz(count: int, seed: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "fuzz_files.py"), str(count), str(seed), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def check(summary: dict[str, Any], folder: Path) -> None:
    assert summary["failures"] == []
    assert summary["events"] == []
    assert summary["slowest_seconds"] < 5
    assert summary["memory_growth_mb"] < 200
    assert not (folder / "pwn").exists()


def test_mutated_files(tmp_path: Path) -> None:
    check(fuzz(200, 0, tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_thousand_mutated_files(seed: int, tmp_path: Path) -> None:
    check(fuzz(1000, seed, tmp_path), tmp_path)


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in members.items():
            target.writestr(zipfile.ZipInfo(name), data, method)
    return path


CALLS = {
    "os.system": b"cposix\nsystem\n(X\x09\x00\x00\x00touch pwntR.",
    "eval": b"c__builtin__\neval\n(X\x03\x00\x00\x001+1tR.",
    "exec by INST": b"(X\x04\x00\x00\x00passibuiltins\nexec\n.",
    "getattr chain": b"cbuiltins\ngetattr\n(cos\nenviron\nX\x03\x00\x00\x00gettR.",
    "torch.load": b"ctorch\nload\n(X\x0b\x00\x00\x00/etc/passwdtR.",
    "from bytes": b"ctorch.storage\n_load_from_bytes\n(C\x02N.tR.",
    "numpy reader": b"cnumpy\nload\n(X\x0b\x00\x00\x00/etc/passwdtR.",
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", ["zip", "bare", "value"])
def test_pickles_that_call(name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    pickle = (
        b"\x80\x02}X\x01\x00\x00\x00a" + CALLS[name][:-1] + b"s." if place == "value" else b"\x80\x02" + CALLS[name]
    )
    if place == "bare":
        path.write_bytes(pickle)
    else:
        archive(path, {"model/data.pkl": pickle, "model/byteorder": b"little"})
    assert not read_checkpoint(path).entries
    assert [each.name for each in tmp_path.iterdir()] == ["model.pth"]


ROOTS = ("../data.pkl", "/data.pkl", "..\\data.pkl", "C:/data.pkl", "a/../../data.pkl")


@pytest.mark.parametrize("name", ROOTS)
def test_members_that_lead_out(name: str, tmp_path: Path) -> None:
    for other in ("model/data.pkl", "model/models/model.json"):
        path = archive(tmp_path / "model.pt", {other: b"\x80\x02}.", name: b"x"})
        for reader in (read, read_checkpoint):
            with pytest.raises(IsomorphError):
                reader(path)


def bombs(folder: Path) -> dict[str, Path]:
    zeros = bytes(1 << 26)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("model/data.pkl", zeros)
    padded = b"{" + b" " * (1 << 25) + b"}"
    flat = b"\x80\x02]q\x00(" + b"h\x00" * 1_000_000 + b"e."
    return {
        "deflated pickle": archive(folder / "a.pt", {"m/data.pkl": zeros}, zipfile.ZIP_DEFLATED),
        "nested": archive(folder / "b.pt2", {
            "serialized_exported_program.json": b"{}", "serialized_state_dict.pt": inner.getvalue()
        }),
        "deflated JSON": archive(
            folder / "e.pt2", {"serialized_exported_program.json": padded}, zipfile.ZIP_DEFLATED
        ),
        "deep JSON": archive(folder / "c.pt2", {"serialized_exported_program.json": b"[" * 1_000_000}),
        "flat pickle": archive(folder / "d.pt", {"m/data.pkl": flat}),
    }  # fmt: skip


def test_bombs_are_refused_in_no_time(tmp_path: Path) -> None:
    for name, path in bombs(tmp_path).items():
        began = time.process_time()
        with pytest.raises(IsomorphError):
            read(path) if path.suffix == ".pt2" else read_checkpoint(path)
        assert time.process_time() - began < 5, name


def test_storages_are_not_shared_with_other_members(tmp_path: Path) -> None:
    """Two members at one place of the file, and one that is announced larger than it is."""
    with zipfile.ZipFile(DATA / "checkpoints" / "zip.pt") as source:
        members = {name: source.read(name) for name in source.namelist()}
    path = archive(tmp_path / "model.pt", members)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")  # the last entry of the directory: let it lie where the first member lies
    data[at + 42 : at + 46] = bytes(4)
    path.write_bytes(bytes(data))
    with pytest.raises(IsomorphError):
        read_checkpoint(path)
    short = {name: content[:-4] if "/data/" in name else content for name, content in members.items()}
    checkpoint = read_checkpoint(archive(tmp_path / "short.pt", short))
    with pytest.raises(IsomorphError, match="beyond its data"):
        for each in checkpoint.entries.values():
            each.data()
