"""The inert pickle interpreter, against CPython's pickler, and against pickles that mean harm."""

from __future__ import annotations

import collections
import contextlib
import importlib
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.torch.files.pickle import parse_pickle
from isomorph.converters.torch.files.rebuild import ArrayRecord, Called, Global, NotInert, Storage, TensorRecord
from isomorph.errors import MalformedError

dumps: Any = importlib.import_module("pickle").dumps  # the pickler that writes what is parsed here

VALUE = {
    "numbers": [0, -7, 255, 70000, 1 << 40, -(1 << 70), 1 << 200, 2.5, -0.0, True, None],
    "texts": ["", "é", "\n'\"\\", "x" * 300, b"", b"\x00\xff" * 200],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "sets": [{1, 2, "x"}, frozenset({1}), set()],
    "complex": 1 + 2j,
    (1, "key"): {},
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data(protocol: int) -> None:
    assert parse_pickle(dumps(VALUE, protocol), "test").value == VALUE


@pytest.mark.parametrize("protocol", range(6))
def test_mappings_are_dicts(protocol: int) -> None:
    made = collections.OrderedDict([("a", 1), ("b", collections.defaultdict(list, {"c": bytearray(b"d")}))])
    assert parse_pickle(dumps(made, protocol), "test").value == {"a": 1, "b": {"c": b"d"}}


ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(4, dtype=">i2"),
    np.array(["ab", "c"]),
    np.float32(3.5),
    np.zeros((0, 3), bool),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays(array: Any, protocol: int) -> None:
    record = parse_pickle(dumps(array, protocol), "test").value
    assert isinstance(record, ArrayRecord)
    np.testing.assert_array_equal(record.numpy(), array)


def test_arrays_of_objects_are_not_made() -> None:
    record = parse_pickle(dumps(np.array([1, "a"], dtype=object)), "test").value
    with pytest.raises(NotInert):
        record.numpy()


class Exploit:
    def __reduce__(self) -> Any:
        return importlib.import_module("os").system, ("touch pwned",)


@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_not_made(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call = parse_pickle(dumps([Exploit()], protocol), "test").value[0]
    assert isinstance(call, Called)
    assert call.callable in (Global("posix", "system"), Global("nt", "system"))
    assert call.args == ("touch pwned",)
    assert not list(tmp_path.iterdir())


class Thing:
    def __init__(self) -> None:
        self.weight = 3


@pytest.mark.parametrize("protocol", range(6))
def test_objects_are_calls_with_a_state(protocol: int) -> None:
    made = parse_pickle(dumps(Thing(), protocol), "test").value
    assert isinstance(made, Called)
    assert made.state == {"weight": 3}


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def storage(numel: int, kind: str = "FloatStorage") -> bytes:
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text("0")
        + text("cpu")
        + b"J"
        + numel.to_bytes(4, "little")
        + b"tQ"
    )


def tensor(numel: int, offset: int, size: bytes, stride: bytes) -> bytes:
    head = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(numel) + b"K" + bytes([offset])
    return b"\x80\x02" + head + size + stride + b"\x89NtR."


def test_tensors_are_records() -> None:
    record = parse_pickle(tensor(7, 1, b"K\x02K\x03\x86", b"K\x03K\x01\x86"), "test").value
    assert record.storage == Storage("0", "float32", 7)
    assert isinstance(record, TensorRecord)
    assert (record.offset, record.size, record.stride) == (1, (2, 3), (3, 1))


BAD_TENSORS = {
    "beyond the storage": tensor(6, 1, b"K\x02K\x03\x86", b"K\x03K\x01\x86"),
    "stride beyond": tensor(6, 0, b"K\x02K\x03\x86", b"K\x09K\x01\x86"),
    "negative size": tensor(6, 0, b"J\xff\xff\xff\xff\x85", b"K\x01\x85"),
    "more sizes than strides": tensor(6, 0, b"K\x02K\x03\x86", b"K\x01\x85"),
    "repeated without end": tensor(6, 0, b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85", b"K\x00\x85"),
    "size of another kind": tensor(6, 0, text("x"), b"K\x01\x85"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_that_lie(name: str) -> None:
    with pytest.raises(MalformedError):
        parse_pickle(BAD_TENSORS[name], "test")


LAUGHS = b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(60))
PAIRS = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40))
COLLIDING = b"".join(b"\x8a\x0a" + ((2**61 - 1) * i).to_bytes(10, "little") + b"N" for i in range(1, 999))
HOSTILE = {
    "empty": b"",
    "no stop": b"N",
    "stack underflow": b"a.",
    "under the mark": b"](a.",
    "two values": b"NN.",
    "billion laughs": b"](K\x01K\x01eq\x000" + LAUGHS + b"h\x3c.",
    "nine bytes for 2 GB": b"\x80\x02c__builtin__\nbytearray\n\x8a\x04\xff\xff\xff\x7f\x85R.",
    "long integer": b"\x8b\xff\xff\xff\x7f1.",
    "negative length": b"\x8b\xff\xff\xff\xff1.",
    "long text": b"\x8d" + b"\xff" * 7 + b"\x0fa.",
    "long digits": b"I" + b"9" * 5000 + b"\n.",
    "long name": b"c" + b"a" * 5000 + b"\nb\n.",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b")" + b"\x85" * 100_000 + b".",
    "marks": b"(" * 100_000 + b".",
    "cycle": b"]q\x00h\x00a.",
    "cycle by setitem": b"}q\x00K\x01h\x00s.",
    "double key": b"}" + text("a") + b"K\x01s" + text("a") + b"K\x02s.",
    "list as key": b"}]K\x01s.",
    "colliding keys": b"}(" + COLLIDING + b"u.",
    "tuple that takes ages to hash": b")q\x00" + PAIRS + b"}h\x28Ns.",
    "many memos": b"]" + b"\x94" * 1_200_000 + b".",
    "many sets": b"(" + b"\x8f" * 600_000 + b"l.",
    "extension": b"\x82\x01.",
    "outside buffer": b"\x97.",
    "frame beyond": b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "protocol 6": b"\x80\x06N.",
    "no opcode": b"\xff.",
    "memo that is not": b"h\x07.",
    "half a surrogate pair": b"V\\ud800\n.",
    "text that is no UTF-8": b"\x8c\x01\xff.",
    "persistent id of another kind": text("x") + b"Q.",
    "unknown storage": storage(1, "EvilStorage") + b".",
    "bytes behind it": b"N.N",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name: str) -> None:
    began = time.process_time()
    with pytest.raises(MalformedError, match="test") as caught:
        parse_pickle(HOSTILE[name], "test")
    assert "byte" in str(caught.value)
    assert time.process_time() - began < 5


def test_the_number_of_opcodes_is_bounded() -> None:
    began = time.process_time()
    with pytest.raises(MalformedError, match="opcodes"):
        parse_pickle(b"N0" * 1_500_000 + b".", "test")
    assert time.process_time() - began < 5


def test_several_pickles_in_a_row() -> None:
    data = dumps(1) + dumps("two")
    first = parse_pickle(data, "test", whole=False)
    assert (first.value, parse_pickle(data, "test", start=first.end).value) == (1, "two")


def test_mutated_pickles_raise_typed_errors() -> None:
    choice = random.Random(0)
    seeds = [dumps(VALUE, protocol) for protocol in range(6)] + [dumps(ARRAYS[0], 2), BAD_TENSORS["stride beyond"]]
    slowest = 0.0
    for _ in range(3000):
        data = bytearray(choice.choice(seeds))
        for _ in range(choice.randint(1, 6)):
            at = choice.randrange(len(data))
            data[at : at + choice.randint(0, 2)] = bytes([choice.randrange(256)])
        began = time.process_time()
        with contextlib.suppress(MalformedError):
            parse_pickle(bytes(data), "test")
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 1
