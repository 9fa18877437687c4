"""Whatever happens to a runner's process is one clear error, never a verdict."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import faults
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isomorph.errors import RunnerError, UsageError
from isomorph.validators import Capture, ModelFile, RunnerChoice, Verdict, Worker, validate


@pytest.fixture
def clean(tmp_path: Path) -> ModelFile:
    path = tmp_path / "clean.onnx"
    onnx.save(faults.build(), str(path))
    return ModelFile(path, "onnx")


def impostor(folder: Path, body: str) -> str:
    """An interpreter that ignores what it is asked to run."""
    script = folder / "interpreter"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time\nsys.stdin.buffer.read(8)\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("sys.stderr.write('no such backend\\n'); sys.exit(7)", "exit code 7"),
        (
            "sys.stdout.write('Hello from a chatty framework\\n' * 9); sys.stdout.flush(); time.sleep(9)",
            "not a message",
        ),
        ("time.sleep(60)", "did not answer within 1 s"),
        ("sys.stdout.buffer.write(b'ISO1\\xff\\xff\\xff\\xff'); sys.stdout.flush(); time.sleep(9)", "not a message"),
        ("sys.stdout.buffer.write(b'ISO1\\x02\\x00\\x00\\x00[]'); sys.stdout.flush(); time.sleep(9)", "header"),
    ],
)
def test_a_broken_process(body: str, said: str, clean: ModelFile, tmp_path: Path) -> None:
    with (
        Worker(clean, role="target", timeout=1.0, choice=RunnerChoice(python=impostor(tmp_path, body))) as worker,
        pytest.raises(RunnerError) as error,
    ):
        worker.signature()
    assert said in str(error.value)
    assert error.value.exit_code == 3
    assert error.value.runner == "onnxruntime"


def test_a_model_that_fills_its_memory(tmp_path: Path) -> None:
    nodes = [helper.make_node("Expand", ["x", "s"], ["y"])]
    sizes = helper.make_tensor("s", TensorProto.INT64, [2], [1 << 16, 1 << 16])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [sizes],
    )
    path = tmp_path / "bomb.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with Worker(ModelFile(path, "onnx"), role="target", memory=2 << 30) as worker, pytest.raises(RunnerError):
        worker.run({"x": np.ones((1, 1), np.float32)})


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x00" * 100)
    with Worker(ModelFile(path, "onnx"), role="target") as worker, pytest.raises(RunnerError, match="could not run"):
        worker.signature()


def test_a_format_without_a_runner(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runner"):
        Worker(ModelFile(tmp_path / "x.safetensors", "safetensors"), role="target")


def test_the_network_is_cut_or_said_not_to_be(clean: ModelFile) -> None:
    with Worker(clean, role="target") as worker:
        environment = worker.signature().environment
    assert environment["network"] in ("none (own namespace)", "not confined")
    assert environment["threads"] == 1


def test_onnx_against_itself_in_processes(clean: ModelFile) -> None:
    report = validate(clean, clean)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.seconds > 0


def test_a_module_of_the_users_own_code(clean: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    (tmp_path / "users_model.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.line = torch.nn.Linear(4, 3)\n"
        "        self.drop = torch.nn.Dropout()\n"
        "    def forward(self, x):\n"
        "        return self.drop(self.line(x).to(torch.float32))\n"
        "def still():\n"
        "    torch.manual_seed(0)\n"
        "    return Net().eval(), (torch.zeros(2, 4),)\n"
        "def training():\n"
        "    torch.manual_seed(0)\n"
        "    return Net().train(), (torch.zeros(2, 4),)\n"
    )
    monkeypatch.chdir(tmp_path)
    still, training = Capture("users_model:still"), Capture("users_model:training")
    assert validate(still, still).verdict is Verdict.EQUIVALENT
    report = validate(training, still)
    assert report.verdict is Verdict.DIFFERENT
    assert "the source draws random numbers, the target gives the same each time" in report.reasons[0]
