"""Archives that ask for too much: typed errors within seconds, nothing executed."""

from __future__ import annotations

import pickletools
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from isomorph.converters.torch.script import session, walk
from isomorph.converters.torch.script.reader import read
from isomorph.errors import IsomorphError, MalformedError, UnsupportedError, UsageError
from isomorph.ir import DType

INPUTS = {"x": ((2, 3), DType.FLOAT32)}
ROOT = b"\x80\x02c__torch__\nNet\n)\x81}(X\x08\x00\x00\x00trainingX\x00\x00\x00\x00ub."


def data(attributes: bytes = b"") -> bytes:
    """data.pkl of a module `__torch__.Net`; `attributes` are opcodes of pairs of keys and values."""
    return b"\x80\x02c__torch__\nNet\n)\x81}(" + attributes + b"ub."


def archive(
    path: Path,
    body: str,
    *,
    attributes: bytes = b"",
    constants: bytes = b"\x80\x02).",
    more: str = "",
    **members: bytes,
) -> Path:
    """An archive whose forward(self, x) has this body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    head = "class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
    code = f"{head}  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n{lines}\n{more}"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", data(attributes))
        file.writestr("m/code/__torch__.py", code)
        file.writestr("m/constants.pkl", constants)
        for name, content in members.items():
            file.writestr(f"m/{name}", content)
    return path


def test_a_plain_archive_is_read(tmp_path: Path) -> None:
    model = read(archive(tmp_path / "m.pt", "return torch.relu(x)"), inputs=INPUTS)
    assert [node.op.name for node in model.graph.nodes] == ["Relu"]


HOSTILE = {
    "endless": "while True:\n  y = 1\nreturn x",
    "endless-for": "for i in range(1000000000000):\n  y = 1\nreturn x",
    "huge-unroll": "for i in range(100000000):\n  x = torch.relu(x)\nreturn x",
    "nested-loops": "for i in range(100000):\n  for j in range(100000):\n    k = torch.add(i, j)\nreturn x",
    "recursion": "return (self).forward(x, )",
    "mutual": "return __torch__.f(x, )",
    "long-list": "y = [1]\nfor i in range(64):\n  y = torch.add(y, y)\nreturn x",
    "long-string": 'y = "a"\nfor i in range(64):\n  y = torch.add(y, y)\nreturn x',
    "repeated": "y = torch.mul([1], 1000000000000)\nreturn x",
    "big-number": "y = 2\nfor i in range(64):\n  y = torch.mul(y, y)\nreturn x",
    "shift": "y = torch.__lshift__(1, 1000000000000)\nreturn x",
    "power": "y = torch.pow(10., 100000)\nreturn x",
    "format": 'y = "{}"\nfor i in range(1000):\n  y = torch.format("{}{}", y, y)\nreturn torch.relu(x, y)',
    "replace": 'y = torch.replace(torch.mul("a", 1000000), "a", torch.mul("b", 1000000))\nreturn x',
    "join": 'y = torch.join(torch.mul("b", 1000000), torch.list(torch.mul("a", 1000000)))\nreturn x',
    "deep-brackets": "return " + "(" * 5000 + "x" + ")" * 5000,
    "deep-calls": "return " + "torch.relu(" * 400 + "x" + ")" * 400,
    "deep-unary": "return " + "not " * 5000 + "x",
    "deep-minus": "return " + "-" * 5000 + "1",
    "deep-blocks": "\n".join(" " * depth + "if True:" for depth in range(150)) + "\n" + " " * 150 + "pass",
    "deep-attributes": "return x" + ".a" * 20000,
    "deep-sum": "return " + "1+" * 20000 + "1",
    "deep-subscripts": "return x" + "[0]" * 20000,
    "import": "import os\nreturn x",
    "lambda": "y = lambda: 1\nreturn x",
    "comprehension": "y = [i for i in range(10)]\nreturn x",
    "dunder": "return x.__class__.__bases__",
    "builtins": "return __builtins__.eval(x)",
    "eval": 'return eval("1")',
    "getattr": 'return getattr(torch, "__loader__")',
    "getattr-string": 'y = getattr("a", "format")\nreturn y(x, )',
    "open": 'return open("/etc/passwd")',
    "system": 'return ops.os.system("true")',
    "unknown": "return torch.no_such_operator(x)",
    "no-name": "return y",
    "division": "y = torch.floordiv(1, 0)\nreturn x",
    "zero-step": "for i in range(1, 2, 0):\n  pass\nreturn x",
    "bad-index": "y = ([1, 2])[7]\nreturn x",
    "bad-key": 'y = ({"a": 1})["b"]\nreturn x',
    "bad-unpack": "a, b, = (1, 2, 3)\nreturn x",
    "no-constant": "return CONSTANTS.c7",
    "no-class": "y = __torch__.nothing.Here()\nreturn x",
    "bad-type": 'return torch.relu("x")',
    "memory": "return torch.zeros([100000, 100000, 100000, 100000])",
    "constant-memory": "return torch.tensor(torch.mul([1], 100000000))",
    "raise": 'ops.prim.RaiseException("no", "builtins.ValueError")\nreturn x',
    "null": "return None",
    "string": 'return "a"',
    "not-utf8": "return '\udcff'",
    "self-list": "y = annotate(List[Any], [])\nz = torch.append(y, y)\nreturn y",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_gives_a_typed_error(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_NODES", 5000)
    monkeypatch.setattr(walk, "MAX_STEPS", 200_000)
    path = tmp_path / "m.pt"
    more = "\n".join(f"def {one}(x: Tensor) -> Tensor:\n  return __torch__.{other}(x, )" for one, other in ("fg", "gf"))
    body = HOSTILE[name].encode("utf-8", "surrogateescape").decode("latin1")
    archive(path, body, more=more)
    began = time.perf_counter()
    try:
        read(path, inputs=INPUTS)
    except IsomorphError as error:
        assert isinstance(error, MalformedError | UnsupportedError | UsageError)
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize(
    "constants", [b"", b"\x80\x02.", b"\x80\x02K\x01.", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."]
)
def test_hostile_constants(tmp_path: Path, constants: bytes) -> None:
    with pytest.raises(IsomorphError):
        read(archive(tmp_path / "m.pt", "return CONSTANTS.c0", constants=constants), inputs=INPUTS)


def tensor(key: bytes, count: int, size: int) -> bytes:
    """Opcodes of a float32 tensor of `size` elements in a storage that claims `count`."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key + b"X\x03\x00\x00\x00cpuJ"
    storage += count.to_bytes(4, "little") + b"tQ"
    sizes = b"K\x00(J" + size.to_bytes(4, "little") + b"t(K\x01t\x89}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + sizes + b"tR"


@pytest.mark.parametrize(
    ("count", "size", "stored"), [(4, 5, 16), (1000, 1000, 16), (2**31 - 1, 2**31 - 1, 16), (4, 4, 15)]
)
def test_tensors_beyond_their_storage(tmp_path: Path, count: int, size: int, stored: int) -> None:
    attributes = b"X\x01\x00\x00\x00w" + tensor(b"0", count, size)
    pickletools.dis(data(attributes), out=open("/dev/null", "w"))  # noqa: SIM115, PTH123 (well-formed)
    path = archive(tmp_path / "m.pt", "return self.w", attributes=attributes, **{"data/0": bytes(stored)})
    with pytest.raises(MalformedError):
        read(path, inputs=INPUTS)


def test_a_tensor_within_its_storage(tmp_path: Path) -> None:
    attributes = b"X\x01\x00\x00\x00w" + tensor(b"0", 3, 3)
    code = "w = self.w\nreturn torch.add(x, w)"
    path = archive(tmp_path / "m.pt", code, attributes=attributes, **{"data/0": bytes(12)})
    assert str(read(path, inputs=INPUTS).outputs["output"]) == "float32[2, 3]"


def test_missing_members(tmp_path: Path) -> None:
    attributes = b"X\x01\x00\x00\x00w" + tensor(b"0", 3, 3)
    with pytest.raises(MalformedError, match="no member"):
        read(archive(tmp_path / "m.pt", "return self.w", attributes=attributes), inputs=INPUTS)


def test_a_module_of_unknown_class(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", b"\x80\x02c__torch__.os\nsystem\n)\x81}b.")
        file.writestr("m/code/__torch__.py", "")
        file.writestr("m/constants.pkl", b"\x80\x02).")
    with pytest.raises(MalformedError, match="no code for the class"):
        read(path, inputs=INPUTS)


def test_mutated_archives(tmp_path: Path) -> None:
    """Bytes changed at random in every member: a model or a typed error."""
    import random

    attributes = b"X\x01\x00\x00\x00w" + tensor(b"0", 3, 3)
    body = "w = self.w\ny = torch.add(x, w)\nfor i in range(3):\n  y = torch.mul(y, i)\nreturn y"
    path = archive(tmp_path / "m.pt", body, attributes=attributes, **{"data/0": bytes(12)})
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    chance = random.Random(7)
    outcomes: dict[str, int] = {}
    for _ in range(300):
        changed: dict[str, Any] = dict(members)
        name = chance.choice([name for name in members if members[name]])
        content = bytearray(changed[name])
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        changed[name] = bytes(content[: chance.randint(1, len(content))] if chance.random() < 0.2 else content)
        with zipfile.ZipFile(path, "w") as file:
            for member, each in changed.items():
                file.writestr(member, each)
        try:
            read(path, inputs=INPUTS)
            outcome = "read"
        except IsomorphError as error:
            outcome = type(error).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert sum(outcomes.values()) == 300
