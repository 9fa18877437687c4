"""The house: what is installed, what importing it costs, and that there is one copy of it."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import isomorph

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"isomorph": "isomorph", "ir": "isomorph.ir", "converters": "isomorph.converters"}
FOLDERS |= {"validators": "isomorph.validators", "zoo": "isomorph.zoo"}
HEAVY = ("numpy", "onnx", "onnxruntime", "h5py", "rich", "torch", "keras", "tensorflow", "jax", "scipy")
FRAMEWORKS = ("torch", "keras", "tensorflow", "jax")


def loaded_by(code: str, *arguments: str, folder: Path) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `code`; not those that are deferred (deferred.py)."""
    names = (
        "json.dumps(sorted({n.partition('.')[0] for n, m in sys.modules.items() if '_Deferred' not in str(type(m))}))"
    )
    script = f"import sys\n{code}\nimport json\nprint('MODULES', {names})"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES "))
    return set(json.loads(line.removeprefix("MODULES ")))


def test_every_folder_of_the_house_is_in_the_list_of_packages() -> None:
    found = set()
    for top, package in FOLDERS.items():
        for init in (ROOT / top).rglob("__init__.py"):
            found.add(".".join([package, *init.parent.relative_to(ROOT / top).parts]))
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_python_file_is_in_a_package() -> None:
    scripts = {ROOT / "zoo/digits/train.py"}
    for top in FOLDERS:
        strays = {file for file in (ROOT / top).rglob("*.py") if not (file.parent / "__init__.py").exists()}
        assert strays <= scripts


def test_there_is_one_copy_of_each_module() -> None:
    assert str(ROOT) not in {str(Path(entry or ".").resolve()) for entry in sys.path}
    assert importlib.import_module("isomorph.ir").Model is isomorph.Model


def test_importing_isomorph_loads_the_standard_library_only(tmp_path: Path) -> None:
    third_party = (
        loaded_by("import isomorph", folder=tmp_path) - set(sys.stdlib_module_names) - {"isomorph", "__mp_main__"}
    )
    assert third_party - loaded_by("", folder=tmp_path) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["convert", "--help"], ["zoo", "--help"], ["convrt"]])
def test_the_command_line_answers_before_anything_heavy_is_loaded(arguments: Sequence[str], tmp_path: Path) -> None:
    loaded = loaded_by("from isomorph.cli import main\nmain(sys.argv[1:])", *arguments, folder=tmp_path)
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_formats_and_doctor_load_no_framework(tmp_path: Path) -> None:
    loaded = loaded_by("from isomorph.cli import main\nmain(['formats'])\nmain(['doctor'])", folder=tmp_path)
    assert loaded.isdisjoint({*FRAMEWORKS, "onnx", "onnxruntime", "h5py"})


def test_converting_a_pt2_file_loads_no_framework(tmp_path: Path) -> None:
    code = "import isomorph\nisomorph.convert('zoo:digits-cnn.pt2', 'digits.onnx')"
    assert loaded_by(code, folder=tmp_path).isdisjoint({*FRAMEWORKS, "onnxruntime"})


def test_converting_a_keras_file_loads_no_framework(tmp_path: Path) -> None:
    code = "import isomorph\nisomorph.convert('zoo:digits-cnn.keras', 'digits.onnx')"
    assert loaded_by(code, folder=tmp_path).isdisjoint({*FRAMEWORKS, "onnxruntime"})


def test_every_public_name_is_there() -> None:
    assert [name for name in isomorph.__all__ if not hasattr(isomorph, name)] == []
    assert set(isomorph.__all__) <= set(dir(isomorph))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        isomorph.nothing  # noqa: B018


def test_the_version_is_the_installed_one() -> None:
    assert isomorph.__version__ == importlib.metadata.version("isomorph")


def test_python_m_isomorph(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isomorph", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"isomorph {isomorph.__version__}\n"


def test_constraints_fit_the_requirements() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            pinned[name.lower().replace("_", "-")] = version
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in map(Requirement, itertools.chain(PROJECT["project"]["dependencies"], *extras)):
        if requirement.name != "isomorph":
            assert requirement.specifier.contains(pinned[requirement.name.lower().replace("_", "-")]), str(requirement)


def test_a_wheel_has_every_file(tmp_path: Path, requires: Callable[..., None]) -> None:
    requires("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for top in FOLDERS:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    code = (
        "import os, sys; from setuptools import build_meta; os.chdir(sys.argv[1]); build_meta.build_wheel(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, source, tmp_path], capture_output=True, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    for top, package in FOLDERS.items():
        for file in (source / top).rglob("*"):
            if file.is_file() and "egg-info" not in str(file):
                assert f"{package.replace('.', '/')}/{file.relative_to(source / top).as_posix()}" in names
