"""Packages of others whose `__init__` runs when one of its own names is first asked for.

`import onnx` imports all of onnx: its checker, its printer, a downloader. A command needs its messages, its schemas and
its helper, a third of the time. What is missing in Python 3.11 for that is `lazy import` (PEP 810): until its
`__init__` has run, a deferred package imports a submodule by itself, takes the names of one module from there, and for
any other name becomes what it is. Only the command line does this, in its own process and before it imports anything.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["defer"]

_NAMES = "__deferred_names__"


class _Deferred(ModuleType):
    """A package that is imported, but not executed."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            if find_spec(f"{self.__name__}.{name}") is not None:
                return import_module(f"{self.__name__}.{name}")
            found = import_module(self.__dict__[_NAMES]).__dict__
            if name in found:
                self.__dict__[name] = found[name]
                return found[name]
        elif name not in ("__all__", "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _execute(self)
        return getattr(self, name)


def _execute(package: ModuleType) -> None:
    """Run the package's `__init__`, as its import would have done."""
    package.__class__ = ModuleType
    spec = package.__spec__
    assert spec is not None and spec.loader is not None, package
    del package.__dict__[_NAMES]
    spec.loader.exec_module(package)


def defer(package: str, names: str) -> None:
    """Let `import package` execute nothing until a name is read that is neither a submodule nor one of the module
    `names`. Nothing happens if the package is imported already or not installed.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None or spec.loader is None or not spec.submodule_search_locations:
        return
    module = module_from_spec(spec)
    module.__class__ = _Deferred
    module.__dict__[_NAMES] = names
    sys.modules[package] = module
