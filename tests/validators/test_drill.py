"""The fault drill: a runner that dies, hangs, babbles, fills its memory or contradicts itself is one clear error with
exit code 3 or 4, and never a verdict EQUIVALENT."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from isomorph.cli import main
from isomorph.errors import IsomorphError, RunnerError
from isomorph.validators import ModelFile, RunnerChoice, Signature, TensorSpec, Verdict, Worker, judge
from isomorph.validators.runner import NATIVE, Result

WEIGHTS = (np.arange(12) - 5.5).reshape(4, 3).astype(np.float32)

# A runner in the standard library alone: y = x @ w. `{misbehaviour}` stands where it answers a request.
PROGRAM = """#!{python} -SE
import array, json, os, struct, sys, time

def read(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data

def send(kind, body=None, values=None, shape=(), dtype="float32", name="y", role="output"):
    tensors = [] if values is None else [dict(name=name, dtype=dtype, shape=list(shape), role=role)]
    header = json.dumps(dict(body or {{}}, kind=kind, tensors=tensors)).encode()
    data = b"" if values is None else array.array("d" if dtype == "float64" else "f", values).tobytes()
    os.write(1, b"ISO1" + struct.pack("<I", len(header)) + header + data)

W = {weights}
runs = 0
while True:
    header = json.loads(read(struct.unpack("<4sI", read(8))[1]))
    feeds = [array.array("f", read(4 * t["shape"][0] * t["shape"][1])) for t in header["tensors"]]
    if header["kind"] == "open":
        x = dict(name="x", dtype="float32", shape=["N", 4], bounds=None)
        y = dict(name="y", dtype="float32", shape=["N", 3], bounds=None)
        signature = dict(inputs=[x], outputs=[y], dims={{"N": [1, None]}}, parameters=12, environment={{}}, notes=[])
        {opening}
        send("signature", signature)
        continue
    runs += 1
    x, n = feeds[0], header["tensors"][0]["shape"][0]
    y = [sum(x[4 * i + k] * W[k][j] for k in range(4)) for i in range(n) for j in range(3)]
    {running}
    send("result", {{}}, y, [n, 3])
"""


class Source:
    """The same function in this process."""

    def signature(self) -> Signature:
        x, y = TensorSpec("x", "float32", ("N", 4)), TensorSpec("y", "float32", ("N", 3))
        return Signature((x,), (y,), {"N": (1, None)}, 12)

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        kind = np.float32 if precision == NATIVE else np.float64
        return Result({"y": inputs["x"].astype(kind) @ WEIGHTS.astype(kind)})


def program(folder: Path, opening: str = "pass", running: str = "pass") -> Worker:
    script = folder / "runner"
    text = PROGRAM.format(python=sys.executable, weights=WEIGHTS.tolist(), opening=opening, running=running)
    script.write_text(text)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    model = folder / "model.bin"
    model.write_bytes(b"")
    choice = RunnerChoice("program", python=str(script))
    return Worker(ModelFile(model, "unknown"), role="target", choice=choice, timeout=20.0, memory=400 << 20)


def test_a_program_that_behaves(tmp_path: Path) -> None:
    with program(tmp_path) as worker:
        assert judge(Source(), worker).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("running", "said"),
    [
        ("runs == 4 and os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("sys.exit(5)", "exit code 5"),
        ("os.write(1, b'epoch 1/10: loss 0.3' * 9)", "not a message"),
        ("os.write(1, b'ISO1' + struct.pack('<I', 3) + b'{]}')", "not JSON"),
        ("os.write(1, b'ISO1' + struct.pack('<I', 2) + b'[]')", "header"),
        ("send('signature', signature); continue", "where `result` was due"),
        ("send('result', {}, y, [n, 3], name='z'); continue", "the outputs ['z'] where its signature has ['y']"),
        ("send('result', {}); continue", "the outputs [] where its signature has ['y']"),
        ("send('result', {}, y, [3, n]) if n != 3 else send('result', {}, y, [9]); continue", "the shape"),
        ("send('result', {}, y, [3 * n]); continue", "the shape"),
        ("send('result', {}, y, [n, 3], dtype='float64'); continue", "float64 for `y`"),
        ("send('result', {}, y, [n, -3]); continue", "cannot be read"),
        ("send('result', {}, y, [n, 3], dtype='float31'); continue", "malformed tensor"),
        ("send('result', {}, y, [1 << 40, 1 << 40]); continue", "cannot be read"),
        ("send('error', {'what': 'the device burns', 'exception': 'Fire'}); continue", "the device burns"),
        ("send('error', {'what': 'no', 'exception': 'NotImplementedError'}); continue", "could not run"),
    ],
)
def test_a_program_that_does_not(running: str, said: str, tmp_path: Path) -> None:
    with program(tmp_path, running=running) as worker, pytest.raises(RunnerError) as error:
        judge(Source(), worker)
    assert said in str(error.value)
    assert error.value.exit_code == 3
    assert len(str(error.value).splitlines()) <= 6


@pytest.mark.parametrize(
    ("opening", "said"),
    [
        ("time.sleep(60)", "did not answer within 1 s"),
        ("del signature['outputs']", "signature that cannot be read"),
        ("y['dtype'] = 'float31'", "signature that cannot be read"),
        ("y['shape'] = [-1, 3]", "signature that cannot be read"),
        ("signature['inputs'] = [x, x]", "a name stands twice"),
        ("signature['dims'] = []", "signature that cannot be read"),
        ("send('error', {'what': 'there is no device `cuda` here', 'exception': 'X'}); continue", "no device"),
    ],
)
def test_a_program_that_does_not_open(opening: str, said: str, tmp_path: Path) -> None:
    with program(tmp_path, opening=opening) as worker, pytest.raises(RunnerError) as error:
        if "sleep" in opening:
            worker._timeout = 1.0
        judge(Source(), worker)
    assert said in str(error.value)


def test_a_hanging_run(tmp_path: Path) -> None:
    with program(tmp_path, running="runs == 3 and time.sleep(60)") as worker, pytest.raises(RunnerError) as error:
        worker.signature()
        worker._timeout = 1.0
        judge(Source(), worker)
    assert "did not answer within 1 s" in error.value.what
    assert "--timeout" in str(error.value)


def test_a_full_memory(tmp_path: Path) -> None:
    with program(tmp_path, running="hoard = bytearray(1 << 30)") as worker, pytest.raises(RunnerError) as error:
        judge(Source(), worker)
    assert "MemoryError" in str(error.value)


@pytest.mark.parametrize("where", ["y = [float('nan')] * len(y)", "y[0] = float('nan')"])
def test_nan_where_the_source_has_numbers(where: str, tmp_path: Path) -> None:
    with program(tmp_path, running=where) as worker:
        report = judge(Source(), worker)
    assert report.verdict is Verdict.DIFFERENT
    assert any("nan" in reason.lower() for reason in report.reasons)


def test_nan_on_both_sides_proves_nothing(tmp_path: Path) -> None:
    class Broken(Source):
        def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
            return Result({"y": super().run(inputs, precision=precision).outputs["y"] * np.nan})

    with program(tmp_path, running="y = [float('nan')] * len(y)") as worker:
        assert judge(Broken(), worker).verdict is Verdict.INCONCLUSIVE


def test_a_dead_worker_gives_the_same_answer_again(tmp_path: Path) -> None:
    with program(tmp_path, running="sys.exit(5)") as worker:
        for _ in range(3):
            with pytest.raises(RunnerError, match="exit code 5") as error:
                worker.run({"x": np.zeros((1, 4), np.float32)})
            assert error.value.fatal


def test_children_end_with_it(tmp_path: Path) -> None:
    child = tmp_path / "child"
    opening = f"import subprocess; open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))"
    with program(tmp_path, opening=opening) as worker:
        worker.signature()
    status = Path(f"/proc/{child.read_text()}/stat")
    deadline = time.monotonic() + 20
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


@pytest.mark.parametrize(("device", "said"), [("cuda", "no device `cuda`"), ("quantum", "no device `quantum`")])
def test_a_missing_device(device: str, said: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(path))
    with (
        Worker(ModelFile(path, "onnx"), role="target", choice=RunnerChoice(device=device)) as worker,
        pytest.raises(RunnerError) as error,
    ):
        worker.signature()
    assert said in str(error.value)
    assert "--device cpu" in str(error.value)


def test_an_interpreter_without_the_framework(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -SE "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    choice = RunnerChoice("onnxruntime", python=str(python))
    with Worker(ModelFile(tmp_path / "m.onnx", "onnx"), role="target", choice=choice) as worker:
        with pytest.raises(IsomorphError) as error:
            worker.signature()
        assert error.value.exit_code in (3, 4)
        assert "No module named 'numpy'" in str(error.value)
        assert "install numpy" in str(error.value)


@pytest.mark.parametrize("running", ["os.kill(os.getpid(), 9)", "time.sleep(60)", "os.write(1, b'loss 0.3 ' * 9)"])
def test_the_command_line(running: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One error of at most six lines, exit code 3, no traceback; with --json the same as data."""
    program(tmp_path, running=running).close()
    runner, model = f"program={tmp_path / 'runner'}", str(tmp_path / "model.bin")
    options = ["--runner", f"source={runner}", "--runner", f"target={runner}", "--timeout", "2", "--memory", "400"]
    assert main(["validate", model, model, *options]) == 3
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "EQUIVALENT" not in said.out
    assert said.err.startswith("error: the program process")
    assert len(said.err.strip().splitlines()) <= 6
    assert main(["validate", model, model, *options, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["error"], told["exit_code"]) == ("RunnerError", 3)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and RLIMIT_FSIZE are Linux's")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json"], "No space left on device"),
        (["--report", "r.html"], "r.html: File too large"),
        (["--certificate", "c.json"], "c.json.npz: File too large"),
    ],
)
def test_a_full_disk_is_no_verdict(options: list[str], said: str, tmp_path: Path) -> None:
    """Exit code 4 and one line; no half a file is left, and 1, which is DIFFERENT, is not what Python ends with."""
    import resource

    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Tanh", ["x"], ["y"])], "g", [x], [y])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, str(tmp_path / "m.onnx"))
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-B", "-m", "isomorph", "validate", "m.onnx", "m.onnx", *options]
    full = Path("/dev/full").open("w") if options == ["--json"] else subprocess.DEVNULL  # noqa: SIM115
    done = subprocess.run(
        command,
        cwd=tmp_path,
        stdout=full,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1), done.stderr
    assert said in done.stderr
    assert sorted(tmp_path.iterdir()) == before
