"""Mutated PyTorch files, read under an audit hook: python fuzz_files.py COUNT SEED FOLDER. Prints one JSON object.

A case takes a real file (tests/data, the digits of the zoo) and changes it: bits, lengths, members of the archive,
names of members, the program's JSON, opcodes of pickles, lines of TorchScript code. It is read, and all its weights are
fetched. The summary counts outcomes by the kind of change and lists what must not be: exceptions other than
IsomorphError, events of running code, writing, connecting or importing, the longest case, the growth of memory.
"""

from __future__ import annotations

import copy
import io
import json
import random
import resource
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isomorph.converters.formats import identify
from isomorph.converters.torch.files.checkpoint import read_checkpoint
from isomorph.converters.torch.files.pickle import parse_pickle
from isomorph.converters.torch.reader import read as read_pt2
from isomorph.converters.torch.script.reader import read as read_script
from isomorph.errors import IsomorphError
from isomorph.ir import DType

TESTS = Path(__file__).resolve().parents[2]
SEEDS = [
    *sorted((TESTS / "data" / "pt2").glob("*.pt2")),
    *sorted((TESTS / "data" / "checkpoints").glob("*.pt")),
    TESTS.parent / "zoo" / "digits" / "digits-cnn.pt2",
]
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.rmdir",
    "os.chmod", "os.link", "os.symlink", "os.putenv", "subprocess.", "socket.", "ctypes.", "shutil.", "pty.", "pickle.",
    "marshal.", "urllib.", "exec", "import", "code.__new__", "function.__new__", "signal.", "tempfile.",
)  # fmt: skip
PICKLE_CODES = b"()*.]}abcdeghijlopqrstu012NKMJGVXUTSIFLPQR" + bytes(range(0x80, 0x99))
NAMES = ("../../etc/passwd", "/etc/passwd", "a\\..\\b", "C:/x", "data.pkl", "", "x" * 4000, "\u202e", "./a", "a//b")
JUNK: list[Any] = [None, -1, 0, 1 << 70, 1.5, "", "s0", [], {}, True, [1], {"as_int": 2}, "Infinity", float("nan")]
CALL = b"cposix\nsystem\n(X\x09\x00\x00\x00touch pwntR"

Members = list[tuple[str, bytes]]


def flip(data: bytes, choice: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(choice.randint(1, 8) if made else 0):
        made[choice.randrange(len(made))] ^= 1 << choice.randrange(8)
    return bytes(made)


def cut(data: bytes, choice: random.Random) -> bytes:
    return data[: choice.randrange(len(data) + 1)]


def splice(data: bytes, choice: random.Random) -> bytes:
    at, start = choice.randrange(len(data) + 1), choice.randrange(len(data) + 1)
    piece = data[start : start + choice.randint(1, 200)] if choice.random() < 0.7 else bytes(choice.randint(1, 64))
    return data[:at] + piece + data[at + choice.choice([0, len(piece)]) :]


def change_json(data: bytes, choice: random.Random) -> bytes:
    document = json.loads(data)
    for _ in range(choice.randint(1, 4)):
        place = document
        while isinstance(place, dict | list) and place:
            key = choice.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if choice.random() < 0.15 or not isinstance(place[key], dict | list):
                place[key] = copy.deepcopy(choice.choice(JUNK))
                break
            place = place[key]
    return json.dumps(document).encode()


def change_pickle(data: bytes, choice: random.Random) -> bytes:
    """Opcodes replaced, doubled, left out; a call of os.system put in."""
    made = bytearray(data)
    for _ in range(choice.randint(1, 5) if made else 0):
        at, kind = choice.randrange(len(made)), choice.random()
        if kind < 0.5:
            made[at] = choice.choice(PICKLE_CODES)
        elif kind < 0.7:
            made[at:at] = bytes([choice.choice(PICKLE_CODES)])
        elif kind < 0.85 and len(made) > 1:
            del made[at]
        else:
            made[at:at] = choice.choice(
                [CALL, b"\x8b\xff\xff\xff\x7f", b"](h\x00h\x00eq\x00" * 20, b"(" * 50, b"]" * 500]
            )
    return bytes(made)


def members_of(data: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def archive_of(members: Members, method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names that are given twice are meant
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return made.getvalue()


def change_member(members: Members, choice: random.Random) -> Members:
    """One member changed according to what it is; a nested archive in the same way."""
    fit = [at for at, (name, _) in enumerate(members) if name.endswith((".json", ".pkl", ".pt", ".py"))]
    at = choice.choice(fit or [0])
    name, data = members[at]
    if name.endswith(".json"):
        data = change_json(data, choice)
    elif data.startswith(b"PK\x03\x04"):
        data = archive_of(change_member(members_of(data), choice))
    elif name.endswith(".pkl"):
        data = change_pickle(data, choice)
    else:
        data = choice.choice([flip, splice, cut])(data, choice)
    return [*members[:at], (name, data), *members[at + 1 :]]


def change_archive(members: Members, choice: random.Random) -> Members:
    """Members swapped, left out, doubled, renamed."""
    made = list(members)
    one, other = choice.randrange(len(made)), choice.randrange(len(made))
    kind = choice.randrange(4)
    if kind == 0:
        made[one], made[other] = (made[one][0], made[other][1]), (made[other][0], made[one][1])
    elif kind == 1:
        del made[one]
    elif kind == 2:
        made.append((made[one][0], made[other][1]))
    else:
        made[one] = (choice.choice(NAMES), made[one][1])
    return made


def safetensors() -> bytes:
    """A small safetensors file."""
    shapes = {"a": ("F32", [2, 3], 24), "b": ("BF16", [4], 8), "c": ("I64", [0, 7], 0), "d": ("U8", [5], 5)}
    header, at = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(range(at))


def change_header(data: bytes, choice: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = change_json(data[8 : 8 + length], choice)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def mutate(data: bytes, choice: random.Random) -> tuple[str, bytes]:
    """(kind of change, changed file)."""
    zipped = data.startswith(b"PK\x03\x04")
    if data[8:9] == b"{" and choice.random() < 0.6:
        return "header", change_header(data, choice)
    kind = choice.choice(
        ["flip", "cut", "splice", *(["member"] * 5 + ["archive", "deflate"] if zipped else ["pickle"] * 3)]
    )
    if kind == "pickle":
        return kind, change_pickle(data[:1200], choice) + data[1200:]
    if kind == "member":
        return kind, archive_of(change_member(members_of(data), choice))
    if kind == "archive":
        return kind, archive_of(change_archive(members_of(data), choice))
    if kind == "deflate":
        return kind, archive_of(change_member(members_of(data), choice), zipfile.ZIP_DEFLATED)
    return kind, {"flip": flip, "cut": cut, "splice": splice}[kind](data, choice)


def read(path: Path) -> None:
    """Read as the command line would, then fetch every tensor."""
    format = identify(path).name
    if format == "pt2":
        for parameter in read_pt2(path).parameters().values():
            parameter.data.numpy()
    elif format == "torchscript":
        for parameter in read_script(path, inputs={"x": ((2, 4), DType.FLOAT32)}).parameters().values():
            parameter.data.numpy()
    else:
        for entry in read_checkpoint(path).entries.values():
            entry.data().numpy()


def main(count: int, seed: int, folder: Path) -> dict[str, Any]:
    choice = random.Random(seed)
    contents = {path.name: path.read_bytes() for path in SEEDS}
    contents["made.safetensors"] = safetensors()
    for path in SEEDS:  # everything that is imported late is imported now
        try:
            read(path)
        except IsomorphError:
            continue
    parse_pickle(b"Vx\n.", "warm-up")
    events: list[str] = []
    watched = [False]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[1], str) and any(letter in args[1] for letter in "wax+")
        if watched[0] and (writes or event.startswith(FORBIDDEN)):
            events.append(f"{event} {str(args)[:120]}")

    sys.addaudithook(watch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    slowest = (0.0, "")
    for number in range(count):
        name = choice.choice(list(contents))
        kind, data = mutate(contents[name], choice)
        path = folder / f"case{Path(name).suffix}"
        path.write_bytes(data)
        outcome = attempt(path, watched, failures, f"{number} {name} {kind}")
        outcomes[f"{kind}: {outcome[0]}"] += 1
        slowest = max(slowest, (outcome[1], f"{number} {name} {kind}"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "cases": count,
        "outcomes": dict(sorted(outcomes.items())),
        "failures": failures,
        "events": events[:20],
        "slowest_seconds": round(slowest[0], 3),
        "slowest": slowest[1],
        "memory_growth_mb": round(grown / 1024, 1),
    }


def attempt(path: Path, watched: list[bool], failures: list[str], title: str) -> tuple[str, float]:
    """(what came of it, seconds of processor time)."""
    began = time.process_time()
    watched[0] = True
    try:
        read(path)
        outcome = "read"
    except IsomorphError as error:
        outcome = type(error).__name__
        str(error).encode()
    except Exception as error:
        outcome = f"!{type(error).__name__}"
        failures.append(f"{title}: {type(error).__name__}: {str(error)[:200]}")
    finally:
        watched[0] = False
    return outcome, time.process_time() - began


if __name__ == "__main__":
    run: Callable[[int, int, Path], dict[str, Any]] = main
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])), indent=1))
