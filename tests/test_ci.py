"""What people put into CI: the pytest plugin, the GitHub Action's script, the pre-commit hook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good.onnx and bad.onnx, one weight apart; its name is not kind to shells."""
    folder = tmp_path_factory.mktemp("models of $HOME")
    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    for name, factor in (("good", 1.0), ("bad", -1.0)):
        weights[0, 0] *= np.float32(factor)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
            [numpy_helper.from_array(weights, "w")],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(proto, str(folder / f"{name}.onnx"))
    return folder


def run(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = {**os.environ, "PATH": path, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=told, check=False)


PLUGIN = [] if [e for e in entry_points(group="pytest11") if e.name == "isomorph"] else ["-p", "isomorph.pytest_plugin"]


def test_the_plugin_judges_and_reports(models: Path, tmp_path: Path) -> None:
    (tmp_path / "test_models.py").write_text(f"""
FOLDER = {str(models)!r}

def test_good(isomorph_validate):
    assert isomorph_validate(FOLDER + "/good.onnx", FOLDER + "/good.onnx").exit_code == 0

def test_bad(isomorph_validate):
    isomorph_validate(FOLDER + "/good.onnx", FOLDER + "/bad.onnx")

def test_bad_is_accepted(isomorph_validate):
    isomorph_validate(FOLDER + "/good.onnx", FOLDER + "/bad.onnx", accept=["DIFFERENT"], seed=1)
""")
    done = run(
        sys.executable,
        "-m",
        "pytest",
        *PLUGIN,
        "-p",
        "no:cacheprovider",
        "--isomorph-report",
        "reports",
        folder=tmp_path,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "culprit" in done.stdout
    assert "replay   isomorph validate" in done.stdout
    assert "2 DIFFERENT, 1 EQUIVALENT; reports in reports" in done.stdout
    names = sorted(path.name for path in (tmp_path / "reports").iterdir())
    assert len(names) == 3 * 3 + 2
    verdicts = [json.loads(path.read_text())["verdict"] for path in sorted((tmp_path / "reports").glob("*.json"))]
    assert sorted(verdicts) == ["DIFFERENT", "DIFFERENT", "EQUIVALENT"]


def test_the_plugin_is_an_entry_point_that_costs_nothing() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"isomorph": "isomorph.pytest_plugin"}
    code = "import sys, isomorph.pytest_plugin; print(sorted({'numpy', 'onnx', 'rich', 'torch'} & set(sys.modules)))"
    done = run(sys.executable, "-P", "-c", code, folder=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def act(folder: Path, target: Path, source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {
        "ISOMORPH_SOURCE": str(source),
        "ISOMORPH_TARGET": str(target),
        "ISOMORPH_EXTRAS": "none",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return run("bash", str(ROOT / ".ci/action"), folder=folder, **{**told, **environment})


def test_the_action_on_equivalent_models(models: Path, tmp_path: Path) -> None:
    done = act(tmp_path, models / "good.onnx", models / "good.onnx", ISOMORPH_ARGUMENTS="--seed\n3\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict=EQUIVALENT\nexit-code=0\n" in (tmp_path / "output").read_text()
    assert "### isomorph: EQUIVALENT" in (tmp_path / "summary.md").read_text()
    written = {path.name for path in (tmp_path / "isomorph-report").iterdir()}
    assert written == {"report.html", "report.xml", "report.sarif", "report.json", "report.txt"}
    assert json.loads((tmp_path / "isomorph-report/report.json").read_text())["seed"] == 3


def test_the_action_on_different_models(models: Path, tmp_path: Path) -> None:
    done = act(tmp_path, models / "bad.onnx", models / "good.onnx")
    assert done.returncode == 1
    assert "::error title=isomorph validate::DIFFERENT (exit code 1)" in done.stdout
    assert "verdict=DIFFERENT" in (tmp_path / "output").read_text()
    assert (tmp_path / "isomorph-report/counterexample.npz").is_file()


def test_the_action_takes_no_commands_from_names(tmp_path: Path) -> None:
    hostile = tmp_path / "$(touch owned) ; ::set-output name=x::<script>.onnx"
    done = act(tmp_path, hostile, hostile)
    assert done.returncode == 2
    assert "verdict=ERROR" in (tmp_path / "output").read_text()
    assert not (tmp_path / "owned").exists()
    token = re.match(r"::stop-commands::(\w{32})\n", done.stdout)
    assert token is not None
    assert f"::{token[1]}::\n" in done.stdout
    assert "<script>" not in (tmp_path / "summary.md").read_text()


def test_the_actions_metadata() -> None:
    yaml = pytest.importorskip("yaml")
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (step,) = action["runs"]["steps"]
    assert set(step["env"]) == {f"ISOMORPH_{name.upper()}" for name in action["inputs"]}
    script = (ROOT / ".ci/action").read_text()
    assert all(name in script for name in step["env"])
    assert "${{" not in step["run"], "values come by the environment, never in the text of a command"
    assert os.access(ROOT / ".ci/action", os.X_OK)


def test_the_pre_commit_hook(models: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert re.search(hook["files"], "models/net.onnx")
    assert not re.search(hook["files"], "net.py")
    assert hook["pass_filenames"] is False
    done = run(*hook["entry"].split(), "good.onnx", "bad.onnx", folder=models)
    assert done.returncode == 1, done.stderr
