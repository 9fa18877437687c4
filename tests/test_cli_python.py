"""`python:MODULE:CALLABLE`: the user's own code as a source."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("torch")

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.head = torch.nn.Linear(5, 2)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))

class Lookup(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(11, 4)

    def forward(self, ids, scale):
        return self.table(ids) * scale

class Odd(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x) + torch.linalg.eigvalsh(x @ x.mT)

class Fixed(torch.nn.Module):
    def forward(self, x):
        x = x.reshape(2, -1)
        return x

def fixed():
    return Fixed().eval(), (torch.zeros(2, 3, 4),)

def module():
    torch.manual_seed(0)
    return Net().eval()

class Nested(torch.nn.Module):
    def forward(self, x, pair, scale=None, *, options=None, flag=True):
        y = (x + pair[0]) * scale
        return {"y": y + options["bias"] if flag else y}

def nested():
    torch.manual_seed(0)
    x, a, b, bias = (torch.randn(2, 4) for _ in range(4))
    return Nested().eval(), (x, (a, b)), {"options": {"bias": bias}, "scale": torch.tensor(2.0), "flag": True}

def with_arguments():
    return module(), (torch.zeros(2, 3, 8, 8),)

def lookup():
    torch.manual_seed(0)
    return Lookup().eval()

def odd():
    return Odd().eval(), (torch.randn(2, 3, 3),)

def number():
    return 42

def broken():
    raise RuntimeError("out of cheese")

class holder:
    made = Net().eval()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nets")
    (made / "nets.py").write_text(NETS)
    (made / "imports.py").write_text("import cheese\n")
    return made


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "isomorph", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def inputs(folder: Path, *arguments: str) -> dict[str, dict[str, object]]:
    done = run(folder, "convert", *arguments, "--json", "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "calling your code" in done.stderr
    content = json.loads(done.stdout)
    assert content["steps"][0]["name"] == "capture"
    assert content["verdict"] is None
    found: dict[str, dict[str, object]] = content["inputs"]
    return found


def test_a_module_with_shapes_from_the_command_line(folder: Path) -> None:
    found = inputs(folder, "python:nets:module", "m.onnx", "--input", "x=1,3,8,8")
    assert found == {"x": {"dtype": "float32", "shape": [1, 3, 8, 8]}}


def test_named_sizes_become_symbolic(folder: Path) -> None:
    found = inputs(folder, "python:nets:module", "n.onnx", "--input", "x=N,3,H,W")
    assert found == {"x": {"dtype": "float32", "shape": ["N", 3, "H", "W"]}}
    found = inputs(folder, "python:nets:with_arguments", "o.onnx", "--input", "x=N,3,8,8")
    assert found == {"x": {"dtype": "float32", "shape": ["N", 3, 8, 8]}}


def test_dynamic_sizes_and_their_ranges(folder: Path) -> None:
    found = inputs(folder, "python:nets:with_arguments", "d.onnx", "--dynamic", "x=0:N:1..64,2:H:4..,3:2*W")
    assert found == {"x": {"dtype": "float32", "shape": ["N", 3, "H", "2*W"]}}


@pytest.mark.parametrize(
    ("source", "dynamic", "code", "expected"),
    [
        ("python:nets:with_arguments", "x=0", 2, "names no axis and size"),
        ("python:nets:with_arguments", "x=0:3", 2, "3 does not vary"),
        ("python:nets:with_arguments", "x=0:N:9..2", 2, "no size is from 9 to 2"),
        ("python:nets:with_arguments", "0:N", 2, "the name is missing"),
        ("python:nets:with_arguments", "y=0:N", 2, "takes no input 'y'"),
        ("python:nets:fixed", "x=0:N", 4, "`N`: the code only works where this size is 2"),
    ],
)
def test_dynamic_sizes_that_cannot_be(folder: Path, source: str, dynamic: str, code: int, expected: str) -> None:
    done = run(folder, "convert", source, "e.onnx", "--dynamic", dynamic)
    assert done.returncode == code, done.stderr
    assert expected in done.stderr
    if code == 4:
        assert "at nets.py:27 in forward" in done.stderr


def test_dynamic_sizes_are_not_for_files(folder: Path) -> None:
    inputs(folder, "python:nets:with_arguments", "f.onnx")
    done = run(folder, "convert", "f.onnx", "g.onnx", "--dynamic", "x=0:N")
    assert done.returncode == 2
    assert "its sizes were fixed when it was exported" in done.stderr


def test_several_inputs_and_element_types(folder: Path) -> None:
    found = inputs(folder, "python:nets:lookup", "l.onnx", "--input", "ids=N,7:int64", "--input", "scale=:float32")
    assert found["ids"] == {"dtype": "int64", "shape": ["N", 7]}
    assert found["scale"] == {"dtype": "float32", "shape": []}


def test_nested_and_keyword_arguments_are_judged(folder: Path) -> None:
    done = run(folder, "convert", "python:nets:nested", "k.onnx", "--validate", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(done.stdout)
    assert content["verdict"] == "EQUIVALENT"
    assert set(content["inputs"]) == {"x", "pair_0", "pair_1", "options_bias", "scale"}


def test_an_attribute_that_is_a_module(folder: Path) -> None:
    assert inputs(folder, "python:nets:holder.made", "h.onnx", "--input", "x=1,3,8,8")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["python:nothing:make"], 2, "no Python module 'nothing'"),
        (["python:nets:modul"], 2, "nets has no 'modul'"),
        (["python:nets:number"], 2, "returned int, not a torch.nn.Module"),
        (["python:nets:module"], 2, "--input x=N,3,224,224"),
        (["python:nets:module", "--input", "y=1,3,8,8"], 2, "takes no input 'y'"),
        (["python:imports:make"], 2, "ModuleNotFoundError: No module named 'cheese'"),
        (["python:nets:broken"], 2, "RuntimeError: out of cheese"),
        (["python:nets:odd"], 4, "svdvals"),
    ],
)
def test_what_can_go_wrong(folder: Path, arguments: list[str], code: int, expected: str) -> None:
    done = run(folder, "convert", arguments[0], "wrong.onnx", *arguments[1:])
    assert expected in done.stderr
    assert done.returncode == code
    assert "bug of isomorph" not in done.stderr
    assert not (folder / "wrong.onnx").exists()


def test_an_unsupported_model_lists_every_operation_with_its_line(folder: Path) -> None:
    done = run(folder, "convert", "python:nets:odd", "odd.onnx", "--json")
    assert done.returncode == 4
    error = json.loads(done.stdout)
    assert error["error"] == "UnsupportedError"
    assert len(error["items"]) >= 2
    assert all("nets.py" in item["where"] for item in error["items"])


def test_the_judge_runs_the_same_code(folder: Path) -> None:
    done = run(folder, "convert", "python:nets:with_arguments", "judged.onnx", "--validate", "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "EQUIVALENT" in done.stdout
