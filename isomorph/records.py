"""Frozen dataclasses that cost little until they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from inspect import get_annotations
from typing import Any, TypeVar, cast, dataclass_transform

__all__ = ["record"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """`dataclass(frozen=True, slots=True)` whose `__init__` is compiled when the first instance is made.

    The other methods are shared by all records. A class that adds no field is its base with another meaning.
    `dataclass` compiles six functions for each class, of which a process that converts one model uses few: for the 250
    records that it imports that took a fifth of its start. Where instances are compared or hashed by the million,
    `dataclass` is the faster one.
    """
    own = [kind for kind in get_annotations(cls).values() if not str(kind).startswith("ClassVar")]
    if not own and any("__init__" in base.__dict__ for base in cls.__mro__[1:-1]):
        return cls
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__}: a record has no __post_init__; make it a dataclass")
    made = dataclass(init=False, eq=False, repr=False, slots=True)(cls)
    made.__init__ = _first_init  # type: ignore[method-assign]
    for name, method in _METHODS.items():
        if name not in cls.__dict__ and getattr(made, name, None) is getattr(object, name, None):
            setattr(made, name, method)
    return made


def _first_init(self: Any, *args: Any, **kwargs: Any) -> None:
    """Compile the `__init__` of the class that this stands in, put it there, and call it."""
    owner: Any = next(kind for kind in type(self).__mro__ if "__init__" in kind.__dict__)
    owner.__init__ = _compiled(owner)
    owner.__init__(self, *args, **kwargs)


def _compiled(owner: type) -> Any:
    """As `dataclass` writes it: (self, x, y=default) sets what the class refuses to have set."""
    scope: dict[str, Any] = {"_set": object.__setattr__, "_absent": MISSING}
    formal, lines = ["self"], []
    for each in fields(cast(Any, owner)):
        name, value = each.name, each.name
        if each.default is not MISSING:
            scope[f"_{name}"] = each.default
            formal.append(f"{name}=_{name}")
        elif each.default_factory is not MISSING:
            scope[f"_{name}"] = each.default_factory
            formal.append(f"{name}=_absent")
            value = f"_{name}() if {name} is _absent else {name}"
        else:
            formal.append(name)
        lines.append(f"    _set(self, {name!r}, {value})")
    exec("\n".join([f"def __init__({', '.join(formal)}):", *(lines or ["    pass"])]), scope)
    made = scope["__init__"]
    made.__qualname__ = f"{owner.__qualname__}.__init__"
    return made


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _eq(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash((type(self), _values(self)))


def _repr(self: Any) -> str:
    listed = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({listed})"


def _setattr(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
    return type(self), _values(self)


_METHODS: dict[str, Callable[..., Any]] = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__reduce__": _reduce,
}
