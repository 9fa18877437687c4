"""Checkpoints of all kinds: what they hold, which part of them is a module's, and files that lie."""

from __future__ import annotations

import importlib
import json
import re
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.formats import identify
from isomorph.converters.torch.files.checkpoint import Checkpoint, read_checkpoint, select
from isomorph.converters.torch.files.pickle import parse_pickle
from isomorph.converters.torch.files.safetensors import read_header
from isomorph.errors import MalformedError, UnsafeError, UnsupportedError, UsageError
from isomorph.ir import MappedTensor

dumps: Any = importlib.import_module("pickle").dumps
FILES = Path(__file__).resolve().parents[2] / "data" / "checkpoints"


def arrays(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: entry.data().numpy() for name, entry in checkpoint.entries.items()}


def test_both_layouts_of_torch_save_hold_the_same() -> None:
    new, old = read_checkpoint(FILES / "zip.pt"), read_checkpoint(FILES / "legacy.pt")
    assert (new.layout, old.layout) == ("zip", "legacy")
    assert new.others == {"epoch": "3", "names": "list of 2"}
    found = {name.removeprefix("state_dict."): array for name, array in arrays(new).items()}
    assert list(found) == list(old.entries)
    for name, array in arrays(old).items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(found["turned"], np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(found["repeated"], [[1, 2]] * 3)
    np.testing.assert_array_equal(found["steps"], [1, 3])
    assert found["half"].dtype.name == "bfloat16"
    assert found["empty"].shape == (0, 3)
    assert all(isinstance(entry.data(), MappedTensor) for entry in new.entries.values())


def test_a_pickled_module_is_its_tensors() -> None:
    module, state = read_checkpoint(FILES / "module.pt"), read_checkpoint(FILES / "legacy.pt")
    assert set(module.entries) == set(state.entries) - {"half", "turned", "repeated", "empty"}
    np.testing.assert_array_equal(arrays(module)["first.weight"], arrays(state)["first.weight"])


class Own(dict[str, Any]):
    """A dict with attributes, of a class that nobody needs to have."""


def test_objects_are_walked_and_not_made(tmp_path: Path) -> None:
    own = Own(inner=np.arange(3))
    own.more = [np.ones(2), "text"]  # type: ignore[attr-defined]
    path = tmp_path / "own.pkl"
    path.write_bytes(dumps({"model": own, "state": types.SimpleNamespace(weight=np.zeros((2, 2)), epoch=3)}))
    checkpoint = read_checkpoint(path)
    assert {name: entry.shape for name, entry in checkpoint.entries.items()} == {
        "model.inner": (3,),
        "model.more.0": (2,),
        "state.weight": (2, 2),
    }
    assert "not called" in checkpoint.others["model"]


def test_other_kinds_of_tensors_are_listed_and_refused_by_name() -> None:
    checkpoint = read_checkpoint(FILES / "kinds.pt")
    assert {name: entry.dtype for name, entry in checkpoint.entries.items()} == {
        "quantized": "quint8",
        "plain": "float32",
    }
    assert "sparse" in checkpoint.others
    with pytest.raises(UnsupportedError, match="quantized"):
        checkpoint.entries["quantized"].data()


def test_torchscript_is_no_checkpoint() -> None:
    with pytest.raises(UnsupportedError, match="TorchScript"):
        read_checkpoint(FILES / "script.pt")


def test_reading_imports_no_framework() -> None:
    code = (
        "import sys; from pathlib import Path; from isomorph.converters.torch.files.checkpoint import read_checkpoint; "
        f"print(len(read_checkpoint(Path({str(FILES / 'zip.pt')!r})).entries)); "
        "print([name for name in ('torch', 'pickle', 'onnx', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    count, loaded = done.stdout.split("\n")[:2]
    assert int(count) == 12
    assert "torch" not in loaded


def test_old_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    tar = tmp_path / "model.pth"
    tar.write_bytes(b"sys_info".ljust(257, b"\0") + b"ustar".ljust(255, b"\0"))
    with pytest.raises(UnsupportedError, match=r"torch 0\.1"):
        read_checkpoint(tar)
    legacy = (FILES / "legacy.pt").read_bytes()
    big = tmp_path / "big.pt"
    big.write_bytes(re.sub(rb"(?<=little_endianq.)\x88", b"\x89", legacy, flags=re.DOTALL))
    with pytest.raises(UnsupportedError, match="little-endian"):
        read_checkpoint(big)


def test_legacy_files_that_lie(tmp_path: Path) -> None:
    good = (FILES / "legacy.pt").read_bytes()
    path = tmp_path / "bad.pt"
    for size in (0, 10, 100, 700, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(MalformedError):
            read_checkpoint(path)
    end = 0
    for _ in range(5):  # the pickles; the number of elements of the first storage follows
        end = parse_pickle(good, "legacy.pt", start=end, whole=False).end
    for count in (-1, 0, 1 << 40):
        path.write_bytes(good[:end] + count.to_bytes(8, "little", signed=True) + good[end + 8 :])
        with pytest.raises(MalformedError, match="inconsistent"):
            read_checkpoint(path)


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def old_file(path: Path, view: bytes, offset: int, size: int) -> Path:
    """What torch 0.4 wrote of a tensor on a view of a storage of 6 floats."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06" + view + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + bytes([75, offset, 75, size]) + b"\x85K\x01\x85tR"
    content = b"\x80\x02}" + text("w") + tensor + b"s."
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}]
    pickles = [*map(dumps, head), content, dumps(["0"])]
    path.write_bytes(b"".join(pickles) + struct.pack("<q", 6) + np.arange(6, dtype=np.float32).tobytes())
    return path


def test_views_of_storages_of_old_files(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    view = b"(" + text("1") + b"K\x02K\x03t"  # 3 elements from element 2 on
    assert arrays(read_checkpoint(old_file(path, view, 0, 3)))["w"].tolist() == [2, 3, 4]
    assert arrays(read_checkpoint(old_file(path, view, 1, 2)))["w"].tolist() == [3, 4]
    assert arrays(read_checkpoint(old_file(path, b"N", 1, 5)))["w"].tolist() == [1, 2, 3, 4, 5]
    for bad in (b"(" + text("1") + b"K\x04K\x03t", b"(" + text("1") + b"K\x02t", b"K\x01"):
        with pytest.raises(MalformedError):
            read_checkpoint(old_file(path, bad, 0, 3))
    for offset, size in ((1, 3), (0, 4)):
        with pytest.raises(MalformedError, match="beyond its storage"):
            read_checkpoint(old_file(path, view, offset, size))


def written(path: Path, tensors: Any, data: bytes = b"", header: bytes | None = None) -> Path:
    """A safetensors file."""
    text = json.dumps(tensors).encode() if header is None else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_safetensors(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    tensors = {
        "__metadata__": {"format": "pt"},
        "b": entry("F32", [2, 3], 4, 28),
        "a": entry("BF16", [2], 0, 4),
        "none": entry("I64", [0, 5], 28, 28),
        "packed": entry("F4", [4], 28, 30),
    }
    path = written(tmp_path / "model.safetensors", tensors, b"\x80\x3f\x00\x40" + values.tobytes() + b"\x12\x34")
    assert identify(path).name == "safetensors"
    checkpoint = read_checkpoint(path)
    assert checkpoint.others == {"format": "pt"}
    np.testing.assert_array_equal(checkpoint.entries["b"].data().numpy(), values.reshape(2, 3))
    np.testing.assert_array_equal(checkpoint.entries["a"].data().numpy().astype(np.float32), [1, 2])
    assert checkpoint.entries["none"].data().numpy().shape == (0, 5)
    with pytest.raises(UnsupportedError, match="F4"):
        checkpoint.entries["packed"].data()


BAD_HEADERS: dict[str, Any] = {
    "overlap": ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6)),
    "gap": ({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 4, 6)}, bytes(6)),
    "beyond": ({"a": entry("U8", [8], 0, 8)}, bytes(4)),
    "bytes behind": ({"a": entry("U8", [2], 0, 2)}, bytes(4)),
    "backwards": ({"a": entry("U8", [0], 4, 0)}, bytes(4)),
    "negative": ({"a": entry("U8", [-1], 0, 4)}, bytes(4)),
    "huge": ({"a": entry("F32", [1 << 40, 1 << 40], 0, 4)}, bytes(4)),
    "huge with a zero": ({"a": entry("F32", [1 << 62, 1 << 62, 1], 0, 0)}, b""),
    "half a byte": ({"a": entry("F4", [3], 0, 2)}, bytes(2)),
    "unknown type": ({"a": entry("Q9", [1], 0, 4)}, bytes(4)),
    "type that is a list": ({"a": {**entry("U8", [4], 0, 4), "dtype": ["U8"]}}, bytes(4)),
    "float size": ({"a": entry("U8", [1.0], 0, 1)}, bytes(1)),  # type: ignore[list-item]
    "more fields": ({"a": {**entry("U8", [1], 0, 1), "file": "/etc/passwd"}}, bytes(1)),
    "no object": ({"a": 3}, b""),
    "metadata": ({"__metadata__": {"a": 1}}, b""),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_safetensors_that_lie(name: str, tmp_path: Path) -> None:
    tensors, data = BAD_HEADERS[name]
    with pytest.raises(MalformedError):
        read_header(written(tmp_path / "bad.safetensors", tensors, data))


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    name = "a\x1b]0;owned\x07\x1b[2J\u202eb"
    path = written(tmp_path / "model.safetensors", {name: entry("U8", [0], 0, 0)})
    command = [sys.executable, "-P", "-m", "isomorph", "inspect", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert "\\x1b]0;owned\\x07\\x1b[2J\\u202eb" in shown
    assert not any(character in shown for character in "\x1b\x07\u202e")


def test_safetensors_headers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    double = b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": 1}'
    for header in (b"", b"[]", b" {}", b"{" * 100_000, double, b'{"a": NaN}', b"\xff"):
        with pytest.raises(MalformedError):
            read_header(written(path, None, header=header))
    for content in (b"", b"1234", struct.pack("<Q", 1 << 40) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(MalformedError):
            read_header(path)


def sharded(folder: Path, table: Any) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return index


def test_shards(tmp_path: Path) -> None:
    for number in (1, 2):
        written(tmp_path / f"model-{number}.safetensors", {f"w{number}": entry("U8", [1], 0, 1)}, bytes([number]))
    index = sharded(tmp_path, {"w2": "model-2.safetensors", "w1": "model-1.safetensors"})
    assert identify(index).name == "safetensors"
    checkpoint = read_checkpoint(index)
    assert checkpoint.layout == "safetensors in 2 files"
    assert {name: array.tolist() for name, array in arrays(checkpoint).items()} == {"w2": [2], "w1": [1]}


def test_shards_stay_beside_their_index(tmp_path: Path) -> None:
    inside, outside = tmp_path / "model", tmp_path / "outside.safetensors"
    inside.mkdir()
    written(outside, {"w": entry("U8", [1], 0, 1)}, b"x")
    (inside / "link.safetensors").symlink_to(outside)
    for name in ("../outside.safetensors", str(outside), "link.safetensors", "", "..", "a/b", "a\\b", "a\0b"):
        with pytest.raises(UnsafeError):
            read_checkpoint(sharded(inside, {"w": name}))
    with pytest.raises(UsageError, match="not beside it"):
        read_checkpoint(sharded(inside, {"w": "absent.safetensors"}))
    for table in ([], {"w": 3}, None):
        with pytest.raises(MalformedError):
            read_checkpoint(sharded(inside, table))


def test_links_of_a_cache_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    written(blobs / "1", {"w": entry("U8", [1], 0, 1)}, b"\x07")
    sharded(blobs, {"w": "model-1.safetensors"})
    (snapshot / "model-1.safetensors").symlink_to(blobs / "1")
    (snapshot / "model.safetensors.index.json").symlink_to(blobs / "model.safetensors.index.json")
    assert arrays(read_checkpoint(snapshot / "model.safetensors.index.json"))["w"].tolist() == [7]


def test_the_part_of_a_module(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    names = ["model.module.a", "model.module.b", "ema.a", "optimizer.a.exp"]
    tensors = {name: entry("U8", [1], at, at + 1) for at, name in enumerate(names)}
    checkpoint = read_checkpoint(written(path, tensors, bytes(4)))
    assert select(checkpoint, ["a", "b"]).prefix == "model.module."
    assert list(select(checkpoint, ["a"], prefix="ema").entries) == ["a"]
    with pytest.raises(UsageError, match="2 times"):
        select(checkpoint, ["a"])
    with pytest.raises(UsageError, match="nothing in common"):
        select(checkpoint, ["c"])
    with pytest.raises(UsageError, match="below"):
        select(checkpoint, ["a"], prefix="nowhere")
    exact = read_checkpoint(written(path, {name: entry("U8", [0], 0, 0) for name in ("a", "module.a")}))
    assert select(exact, ["a"]).prefix == ""
