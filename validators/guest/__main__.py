"""`PYTHON validators/guest RUNNER MEMORY_LIMIT`: serve one model to the judge over standard input and output.

What is printed goes to standard error, so that a chatty framework cannot disturb the pipe.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from typing import Any

_PACKAGE = "isomorph_guest"
_RUNNERS = ("keras", "litert", "onnxruntime", "tensorflow", "torch")


def main(arguments: list[str]) -> int:
    """Answer until the judge closes the pipe."""
    name, limit = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    package = _import_package()
    channel_module = importlib.import_module(_PACKAGE + ".channel")
    read_fd, write_fd = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    channel = channel_module.Channel(read_fd, write_fd)
    settings = _confine(int(limit))
    model: Any = None
    while True:
        request = channel.receive()
        if request is None or request[0]["kind"] == "close":
            return 0
        body, tensors = request
        try:
            if body["kind"] == "open":
                model = _open(package, name, body)
                answer = model.signature()
                answer["environment"].update(settings)
                channel.send("signature", answer, [])
            elif body.get("precision") != "native":
                refusal = name + " in this interpreter has no float64 run"
                channel.send("error", _described(NotImplementedError(refusal)), [])
            else:
                outputs, taps = model.run({key: array for key, array, _ in tensors}, body.get("taps", []))
                found = [(key, array, "output") for key, array in outputs.items()]
                channel.send("result", {}, found + [(key, array, "tap") for key, array in taps.items()])
        except Exception as error:  # every failure of a framework becomes an answer; the judge reports it
            channel.send("error", _described(error), [])


def _import_package() -> Any:
    """This folder as a package of its own name: its files must not stand for the frameworks that they import."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != folder]
    location = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(_PACKAGE, location, submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        raise ImportError("cannot import " + location)
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)
    return package


def _open(package: Any, name: str, body: dict[str, Any]) -> Any:
    if name not in _RUNNERS:
        raise package.Refusal("no runner is named " + name, advice="one of " + ", ".join(_RUNNERS))
    return importlib.import_module(_PACKAGE + "." + name).open_model(body["model"], body["role"], body["device"])


def _confine(limit: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"python": ".".join(str(part) for part in sys.version_info[:3]), "memory_limit": None}
    settings["network"] = "not confined"
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        settings["memory_limit"] = limit
    except (ImportError, ValueError, OSError):
        settings["memory_limit"] = None
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if libc.unshare(0x40000000) == 0 or libc.unshare(0x50000000) == 0:  # CLONE_NEWNET, with CLONE_NEWUSER
            settings["network"] = "none (own namespace)"
    return settings


def _described(error: Exception) -> dict[str, Any]:
    kind = type(error).__name__
    if isinstance(error, MemoryError):
        return {"what": "out of memory", "because": str(error) or None, "exception": kind}
    if kind == "Refusal":
        details = vars(error)
        return {"what": details["what"], "because": details["because"], "try": details["advice"], "exception": kind}
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ModuleNotFoundError):
        what = f"{sys.executable} lacks the module {error.name}"
        return {"what": what, "because": None, "try": "install it there", "exception": kind}
    what = "{}: {}".format(kind, lines[0] if lines else "no message")
    if isinstance(error, NotImplementedError):
        what = lines[0] if lines else "not implemented"
    return {"what": what[:600], "because": lines[-1][:400] if len(lines) > 1 else None, "exception": kind}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
