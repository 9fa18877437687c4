"""Frozen dataclasses that cost little to define."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from inspect import get_annotations
from typing import Any, TypeVar, dataclass_transform

__all__ = ["record"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """`dataclass(frozen=True, slots=True)` for which nothing is compiled.

    Methods are shared by all records; a class that adds no field is its base with another meaning. `dataclass` writes
    and compiles six functions for each class, of which a process that converts one model uses few: for 250 records a
    fifth of its start. Where instances are made, compared or hashed by the million, `dataclass` is the faster one.
    """
    own = [kind for kind in get_annotations(cls).values() if not str(kind).startswith("ClassVar")]
    if not own and any("__init__" in base.__dict__ for base in cls.__mro__[1:-1]):
        return cls
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__}: a record has no __post_init__; make it a dataclass")
    made = dataclass(init=False, eq=False, repr=False, slots=True)(cls)
    made.__init__ = _initializer(made)  # type: ignore[method-assign]
    for name, method in _METHODS.items():
        if name not in cls.__dict__ and getattr(made, name, None) is getattr(object, name, None):
            setattr(made, name, method)
    return made


def _initializer(cls: Any) -> Any:
    """`__init__(self, x, y=default)` that sets the slots of x and y, which the class refuses to have set."""
    listed = [(each.name, each.default, each.default_factory) for each in fields(cls)]
    setters = [getattr(cls, name).__set__ for name, _, _ in listed]
    count = len(listed)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        values: Any = args
        if len(args) != count or kwargs:
            values = list(args)
            for name, default, factory in listed[len(args) :]:
                if name in kwargs:
                    values.append(kwargs.pop(name))
                elif default is not MISSING:
                    values.append(default)
                elif factory is not MISSING:
                    values.append(factory())
                else:
                    raise TypeError(f"{cls.__qualname__} lacks its argument {name!r}")
            if len(args) > count:
                raise TypeError(f"{cls.__qualname__} takes {count} arguments, {len(args)} were given")
            if kwargs:
                names = [name for name, _, _ in listed]
                again = "twice its" if next(iter(kwargs)) in names else "an unknown"
                raise TypeError(f"{cls.__qualname__} is given {again} argument {next(iter(kwargs))!r}")
        for put, value in zip(setters, values, strict=True):
            put(self, value)

    return __init__


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
