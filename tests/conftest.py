"""What every test file relies on: one copy of isomorph, one thread, and skips that say what is missing.

`ISOMORPH_REQUIRE=all` (or a list, `torch,keras`) turns the skip for a missing package into a failure; `all` and
`network` also run the tests that fetch real models through the registry client that the user has configured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The repository root holds ir/, converters/ ...: on the path, `import ir` would make a second copy of every class.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

for name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
):
    os.environ.setdefault(name, "1")
for name, value in (("CUDA_VISIBLE_DEVICES", ""), ("JAX_PLATFORMS", "cpu"), ("TF_CPP_MIN_LOG_LEVEL", "3")):
    os.environ.setdefault(name, value)

import pytest  # noqa: E402 (after the threads are pinned)

EXTRAS = {
    "torch": "torch",
    "torchvision": "test",
    "keras": "keras",
    "jax": "keras",
    "tensorflow": "tensorflow",
    "jsonschema": "test",
    "sklearn": "test",
    "skimage": "test",
}
"""Optional package -> the extra that installs it."""


def wanted() -> list[str]:
    """What ISOMORPH_REQUIRE asks for."""
    return os.environ.get("ISOMORPH_REQUIRE", "").split(",")


def require(*packages: str) -> None:
    """Skip the running test if one of the packages is missing; fail it where ISOMORPH_REQUIRE asks for the package."""
    for package in packages:
        if find_spec(package) is not None:
            continue
        text = f"needs {package}: pip install 'isomorph[{EXTRAS.get(package, 'test')}]'"
        if "all" in wanted() or package in wanted():
            pytest.fail(f"{text} (ISOMORPH_REQUIRE={os.environ['ISOMORPH_REQUIRE']})", pytrace=False)
        pytest.skip(text)


@pytest.fixture
def requires() -> Callable[..., None]:
    """`requires("torch")` inside a test. For a whole test or file: `pytestmark = pytest.mark.requires("torch")`."""
    return require


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take longer than a minute")
    parser.addoption("--network", action="store_true", help="also run the tests that fetch from package registries")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker in ("slow", "network"):
        required = marker == "network" and bool({"all", marker} & set(wanted()))
        if not (config.getoption(f"--{marker}") or required):
            skip = pytest.mark.skip(reason=f"run with --{marker}")
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        require(*mark.args)
