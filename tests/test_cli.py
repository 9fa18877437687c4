"""The command line as a user meets it: exit codes, typos, pipes, terminals, interruption."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isomorph.cli import COMMANDS, main
from isomorph.converters.formats import FORMATS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in this process, in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    signal.signal(signal.SIGTERM, before)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def environment() -> dict[str, str]:
    """This process's, without what would decide about colours."""
    return {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}


def start(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """The command in a process of its own, with Ctrl-C in force (a job in the background inherits it ignored)."""
    command = [sys.executable, "-P", "-m", "isomorph", *arguments]
    pipe = subprocess.PIPE
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env={**environment(), **settings}
        )
    finally:
        signal.signal(signal.SIGINT, kept)


def in_terminal(folder: Path, *arguments: str, **settings: str) -> str:
    """What a terminal of 100 columns receives, escape sequences and all."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "isomorph", *arguments],
        cwd=folder,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**environment(), "TERM": "xterm-256color", "COLUMNS": "100", **settings},
    )
    os.close(follower)
    chunks = []
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(leader)
    process.wait()
    return b"".join(chunks).decode()


def test_help_lists_every_command_with_its_own_first_line(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE)
        assert run(name, "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["convrt", "a.onnx", "b.keras"], "Did you mean 'convert'?"),
        (["zoo", "lst"], "Did you mean 'list'?"),
        (["convert", "a.onnx", "b.keras", "--valdate"], "--validate"),
        (["convert", "modle.onnx", "b.keras"], "did you mean model.onnx?"),
        (["convert", "model.onnx", "b.keras", "--from", "onx"], "did you mean 'onnx'?"),
        (["convert", "model.onnx", "b.kers"], "--to"),
        (["convert", "model.onnx", "b", "--to", "kears"], "did you mean 'keras'?"),
        (["convert", "zoo:digit-cnn", "b.onnx"], "did you mean zoo:digits-cnn?"),
        (["convert", "digits-cnn.pt2", "b.onnx"], "did you mean zoo:digits-cnn.pt2?"),
        (["convert", "python:nets", "b.onnx"], "python:MODULE:CALLABLE"),
        (["convert", "model.onnx", "nowhere/b.keras"], "mkdir -p nowhere"),
        (["convert", "model.onnx"], "Missing argument 'TARGET'"),
        (["convert", "model.onnx", "b.keras", "--input", "1,3"], "NAME=SHAPE"),
        (["convert", "model.onnx", "b.keras", "--input", "x=1,-1"], "give a size that may vary a name"),
        (["convert", "model.onnx", "b.keras", "--input", "x=1,,3"], "a size is missing"),
        (["convert", "model.onnx", "b.keras", "--input", "x=1:flaot32"], "unknown element type 'flaot32'"),
        (["convert", "model.onnx", "b.keras", "--input", "x=1", "--input", "x=2"], "twice"),
        (["convert", "model.onnx", "b.keras", "--data", "model.onnx"], "--data is for --validate"),
        (["validate", "--json", "model.onnx", "b.keras"], "is not a .json file"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_exits_with_2(run: Run, arguments: list[str], expected: str) -> None:
    Path("model.onnx").write_bytes(b"")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 6
    assert names(Path()) == ["model.onnx"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.onnx"),
        (b"\x08\x0a\x12\x04half", "half.onnx"),
        (b"PK\x03\x04 and nothing more", "cut.pt2"),
        (b"PK\x03\x04 and nothing more", "cut.keras"),
        (b"\x89HDF\r\n\x1a\n and nothing more", "cut.h5"),
        (b"\x80\x02}q\x00.", "model.pth"),
        (b"what is this", "model.xyz"),
    ],
)
def test_a_file_that_cannot_be_read_exits_with_4_and_leaves_nothing(run: Run, content: bytes, name: str) -> None:
    Path(name).write_bytes(content)
    code, out, err = run("convert", name, "out.onnx" if not name.endswith("onnx") else "out.keras")
    assert "bug of isomorph" not in err
    assert (code, out) == (2 if name == "model.pth" else 4, "")
    assert names(Path()) == [name]


def test_an_error_as_json(run: Run) -> None:
    code, out, err = run("convert", "zoo:digit-cnn", "b.onnx", "--json")
    assert (code, err) == (2, "")
    error = json.loads(out)
    assert error["error"] == "UsageError"
    assert error["exit_code"] == 2
    assert error["try"] == "did you mean zoo:digits-cnn?"
    assert json.loads(run("convrt", "--json")[1])["exit_code"] == 2
    assert "exclude each other" in json.loads(run("inspect", "zoo:digits-cnn", "--text", "--json")[1])["what"]


def test_an_existing_target_is_kept(run: Run) -> None:
    Path("out.onnx").write_bytes(b"precious")
    code, _, err = run("convert", "zoo:digits-cnn.pt2", "out.onnx")
    assert code == 2
    assert "--force" in err
    assert Path("out.onnx").read_bytes() == b"precious"


def test_a_bug_is_reported_as_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from isomorph.converters import formats

    monkeypatch.setattr(formats, "FORMATS", None)
    code, _, err = run("formats")
    assert code == 70
    assert "bug of isomorph" in err
    assert "Traceback" not in err
    monkeypatch.setenv("ISOMORPH_TRACEBACK", "1")
    assert "Traceback" in run("formats")[2]


@pytest.mark.parametrize("arguments", [["formats"], ["doctor"], ["zoo", "list"], ["zoo", "show", "digits-cnn"]])
def test_listings_as_text_and_as_json(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert all(line == line.rstrip() and "\x1b" not in line for line in out.splitlines())
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["command"] == " ".join(arguments[:2] if arguments[0] == "zoo" else arguments)


def test_formats_lists_every_format(run: Run) -> None:
    out = run("formats")[1]
    assert all(word in out for format in FORMATS for word in format.title.split())  # a narrow terminal wraps titles
    listed = json.loads(run("formats", "--json")[1])["formats"]
    assert {row["name"] for row in listed} == {format.name for format in FORMATS}


def test_doctor_says_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from isomorph import runtimes
    from isomorph.commands import doctor

    monkeypatch.setattr(
        runtimes, "find_spec", lambda name: None if name in ("torch", "tensorflow", "jax") else object()
    )
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1.0")
    out = run("doctor")[1]
    assert "pip install 'isomorph[torch]'" in out
    assert re.search(r"runs torch +needs torch", out)
    assert re.search(r"runs keras +needs tensorflow or jax or torch", out)


def test_colours_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    assert "\x1b[" in in_terminal(tmp_path, "zoo", "list")
    plain = in_terminal(tmp_path, "zoo", "list", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert "\x1b[31m" in in_terminal(tmp_path, "convrt")
    assert "\x1b[" not in in_terminal(tmp_path, "convrt", NO_COLOR="1")
    out, err = start(tmp_path, "convrt").communicate()
    assert "\x1b" not in out + err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    process = start(tmp_path, "formats", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == ""


SLOW = """
import pathlib, time
def make():
    pathlib.Path("started").touch()
    time.sleep(60)
"""


@pytest.mark.requires("torch")
@pytest.mark.parametrize(("sent", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_leaves_nothing_behind(tmp_path: Path, sent: signal.Signals, expected: int) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    process = start(tmp_path, "convert", "python:slow:make", "out.onnx", PYTHONDONTWRITEBYTECODE="1")
    while not (tmp_path / "started").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == expected
    assert "Traceback" not in err
    assert names(tmp_path) == ["slow.py", "started"]
