"""Hostile zips and JSON: typed errors, nothing extracted, nothing allocated."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from isomorph.converters.archive import Archive, parse_json
from isomorph.errors import MalformedError, UnsafeError, UsageError


def make(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def test_members_are_read_and_located(path: Path) -> None:
    make(path, ("a/one", b"first"), ("a/two", bytes(range(100))))
    with Archive(path) as archive:
        assert archive.names() == ["a/one", "a/two"]
        assert "a/two" in archive
        assert archive.size("a/two") == 100
        offset, size = archive.span("a/two")
        assert path.read_bytes()[offset : offset + size] == bytes(range(100)) == archive.read("a/two")
        with pytest.raises(MalformedError, match="no member a/three"):
            archive.read("a/three")


def test_deflated_members_are_read_but_not_mapped(path: Path) -> None:
    make(path, ("config.json", b"x" * 10_000), method=zipfile.ZIP_DEFLATED)
    with Archive(path) as archive:
        assert archive.read("config.json") == b"x" * 10_000
        with pytest.raises(MalformedError, match="has to be stored"):
            archive.span("config.json")


def test_limits_hold(path: Path) -> None:
    make(path, ("bomb", bytes(1 << 20)), method=zipfile.ZIP_DEFLATED)
    with Archive(path) as archive, pytest.raises(MalformedError, match="1048576 bytes"):
        archive.read("bomb", limit=(1 << 20) - 1)
    with Archive(path, budget=3 << 19) as archive:
        archive.read("bomb", limit=1 << 20)
        with pytest.raises(MalformedError, match="budget"):
            archive.read("bomb")


def test_a_bomb_that_lies_about_its_size(path: Path) -> None:
    data = bytearray(make(path, ("bomb", bytes(1 << 20)), method=zipfile.ZIP_DEFLATED).read_bytes())
    central = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, 10)
    struct.pack_into("<I", data, 22, 10)
    path.write_bytes(data)
    with Archive(path) as archive, pytest.raises(MalformedError):
        archive.read("bomb")


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "C:/windows", "a\\..\\b", "a/..", ".."])
def test_names_that_lead_out(path: Path, name: str) -> None:
    make(path, (name, b"x"))
    with pytest.raises(UnsafeError):
        Archive(path)


def test_links_and_encryption(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeError, match="link"):
        Archive(path)
    data = bytearray(make(path, ("secret", b"x")).read_bytes())
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeError, match="encrypted"):
        Archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(path: Path) -> None:
    make(path, ("a", b"1"), ("a", b"2"))
    with pytest.raises(MalformedError, match="two members"):
        Archive(path)


def test_local_header_and_directory_must_agree(path: Path) -> None:
    good = make(path, ("name1", b"12345"), ("name2", b"67890")).read_bytes()
    for offset, value in ((30, b"X"), (14, b"\1\1"), (18, b"\x04"), (22, b"\x06"), (8, b"\x08"), (0, b"QK")):
        data = bytearray(good)
        data[offset : offset + len(value)] = value
        path.write_bytes(data)
        with pytest.raises(MalformedError):
            Archive(path)


def test_overlapping_members(path: Path) -> None:
    """Two records of the directory that point at the same bytes."""
    data = bytearray(make(path, ("same1", b"12345"), ("same2", b"12345")).read_bytes())
    second = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    path.write_bytes(data)
    with pytest.raises(MalformedError):
        Archive(path)


def test_bytes_around_the_archive(path: Path) -> None:
    good = make(path, ("a", b"1")).read_bytes()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("other", b"2")
    for data in (good + b"x", b"MZ" + good, good + inner.getvalue(), good[:-5], good[:20], b"", b"PK\x05\x06"):
        path.write_bytes(data)
        with pytest.raises(MalformedError):
            Archive(path)


def test_every_truncation_is_an_error(path: Path) -> None:
    good = make(path, ("a", b"123"), ("b", b"456")).read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(MalformedError):
            Archive(path)


def test_flipped_bits_never_crash(path: Path) -> None:
    good = make(path, ("a", b"123"), ("b", b"456"), method=zipfile.ZIP_DEFLATED).read_bytes()
    for index in range(len(good)):
        for bit in (0, 3, 7):
            data = bytearray(good)
            data[index] ^= 1 << bit
            path.write_bytes(data)
            try:
                with Archive(path) as archive:
                    for name in archive.names():
                        assert len(archive.read(name)) == 3
            except (MalformedError, UnsafeError):
                continue


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Archive(tmp_path / "missing.zip")
    with pytest.raises(UsageError):
        Archive(tmp_path)


def test_json() -> None:
    assert parse_json(b'{"a": [1, 2.5, "[{"], "b": null}', "it") == {"a": [1, 2.5, "[{"], "b": None}
    nested = b"[" * 60 + b"]" * 60
    assert parse_json(nested, "it")
    assert parse_json(b'"' + b"[" * 1000 + b'"', "it") == "[" * 1000
    assert parse_json(b"[Infinity]", "it", allow_nan=True) == [float("inf")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"\xff",
        b'{"a": 1, "a": 2}',
        b"[NaN]",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'["\\"' + b"[" * 1000,
        b"[" * 129 + b"]" * 129,
        b"9" * 5000,
        b"[1] [2]",
        b"\x00",
    ],
)
def test_json_that_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="it is"):
        parse_json(data, "it")
