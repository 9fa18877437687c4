"""`isomorph doctor`: what is installed here and what works with it. No framework is imported."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import click

from isomorph import __version__

__all__ = ["command"]

_PACKAGES = {
    "base": ("numpy", "ml_dtypes", "onnx", "onnxruntime", "h5py", "click", "rich"),
    "torch": ("torch",),
    "keras": ("keras", "jax"),
    "tensorflow": ("tensorflow", "keras"),
}

_DEVICES = {
    "onnxruntime": "import onnxruntime as o; d = [p.split('Exec')[0] for p in o.get_available_providers()]",
    "torch": "import torch as t; d = ['CPU', *(t.cuda.get_device_name(i) for i in range(t.cuda.device_count()))]",
    "jax": "import jax; d = [str(device) for device in jax.devices()]",
    "tensorflow": "import tensorflow as t; d = [p.name.split(':', 1)[1] for p in t.config.list_physical_devices()]",
}
_DEVICES_TIMEOUT = 60.0


@click.command("doctor")
@click.option(
    "--devices", is_flag=True, help="Also ask each framework for its devices (starts each of them; takes seconds)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(devices: bool, as_json: bool) -> int:
    """Say which Python, packages, formats and runners there are here, and what to install for the rest."""
    from isomorph import screen

    with screen.progress(quiet=as_json) as progress:
        findings = _findings(devices, progress)
    if as_json:
        screen.print_json({"command": "doctor", **findings, "exit_code": 0})
    else:
        _show(findings)
    return 0


def _findings(devices: bool, progress: Any) -> dict[str, Any]:
    from isomorph.converters.formats import FORMATS
    from isomorph.runtimes import RUNTIMES, missing

    runners = {name: missing(name) for name in RUNTIMES}
    return {
        "isomorph": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {extra: {name: _version(name) for name in names} for extra, names in _PACKAGES.items()},
        "formats": [
            {
                "name": kind.name,
                "reads": kind.reads,
                "writes": kind.writes,
                "judged": not runners.get(kind.runner or "", ["-"]),
            }
            for kind in FORMATS
            if kind.reads or kind.writes
        ],
        "runners": {name: {"works": not missing, "missing": missing} for name, missing in runners.items()},
        "devices": _ask_devices(progress) if devices else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ask_devices(progress: Any) -> dict[str, list[str]]:
    """Ask each installed framework in a process of its own; one that fails says why."""
    answers = {}
    for name, code in _DEVICES.items():
        if find_spec(name) is None:
            continue
        progress(f"asking {name}")
        command = [sys.executable, "-P", "-c", f"{code}; import json; print(json.dumps(d))"]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_DEVICES_TIMEOUT, env=environment, check=True
            )
            answers[name] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            answers[name] = [f"no answer within {_DEVICES_TIMEOUT:g} s"]
        except (subprocess.CalledProcessError, ValueError, IndexError) as error:
            last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            answers[name] = [f"failed: {last[-1] if last else 'no answer'}"]
    return answers


def _show(findings: dict[str, Any]) -> None:
    from rich.text import Text

    from isomorph import screen

    rows: list[tuple[str, str | Text]] = [
        ("python", f"{findings['python']}  {findings['executable']}"),
        ("platform", f"{findings['platform']}, {findings['cpus']} CPUs"),
    ]
    for extra, packages in findings["packages"].items():
        rows.append((extra, _packages(packages, extra)))
    rows.append(("reads", " ".join(kind["name"] for kind in findings["formats"] if kind["reads"])))
    rows.append(("writes", " ".join(kind["name"] for kind in findings["formats"] if kind["writes"])))
    for name, state in findings["runners"].items():
        works = (
            Text("works", style="green")
            if state["works"]
            else Text(f"needs {' and '.join(state['missing']).replace('|', ' or ')}", style="yellow")
        )
        rows.append((f"runs {name}", works))
    for name, devices in (findings["devices"] or {}).items():
        rows.append((f"{name} on", ", ".join(devices)))
    screen.show(Text(f"isomorph {findings['isomorph']}", style="bold"), screen.fields(rows))


def _packages(packages: dict[str, str | None], extra: str) -> Any:
    from rich.text import Text

    have = ", ".join(f"{name} {found}" for name, found in packages.items() if found)
    missing = [name for name, found in packages.items() if not found]
    advice = "reinstall isomorph" if extra == "base" else f"pip install 'isomorph[{extra}]'"
    return Text.assemble(
        have, "; " if have and missing else "", (f"missing {', '.join(missing)}: {advice}" if missing else "", "yellow")
    )
