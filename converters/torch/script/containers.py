"""TorchScript's lists, dicts and strings: operations whose first argument is one, on the values themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isomorph.converters.torch.script.values import Value
from isomorph.errors import MalformedError

__all__ = ["CHANGING", "MAX_LENGTH", "find"]

MAX_LENGTH = 1 << 20
"""The most elements of a list or dict and characters of a string."""

CHANGING = frozenset(
    {
        "_set_item", "append", "extend", "insert", "add_", "pop", "clear", "reverse", "Delete", "remove", "sort",
        "setdefault", "update",
    }
)  # fmt: skip
"""Operations that change the list or dict that is their first argument."""

Operation = Callable[..., Value]


def find(owner: Value, name: str) -> Operation | None:
    """The operation `name` of a list, dict, tuple or string; None if these have no such."""
    if isinstance(owner, list):
        return _LISTS.get(name)
    if isinstance(owner, dict):
        return _DICTS.get(name)
    if isinstance(owner, str):
        return _string(name)
    if isinstance(owner, tuple):
        return _TUPLES.get(name)
    return None


def _bounded(length: int) -> None:
    if length > MAX_LENGTH:
        raise MalformedError(f"the code makes a list or string of {length} elements, more than {MAX_LENGTH}")


def _item(owner: Any, index: Any) -> Value:
    if not isinstance(index, int):
        raise MalformedError(f"a list is indexed by {index}", because="the index is not known when converting")
    try:
        return owner[index]
    except IndexError:
        raise MalformedError(f"the index {index} is out of the range of a list of {len(owner)}") from None


def _set(owner: list[Value], index: Any, value: Value) -> list[Value]:
    _item(owner, index)
    owner[index] = value
    return owner


def _append(owner: list[Value], value: Value) -> list[Value]:
    _bounded(len(owner) + 1)
    owner.append(value)
    return owner


def _extend(owner: list[Value], other: list[Value]) -> list[Value]:
    _bounded(len(owner) + len(other))
    owner.extend(list(other))
    return owner


def _insert(owner: list[Value], index: int, value: Value) -> None:
    _bounded(len(owner) + 1)
    owner.insert(index, value)


def _added(left: Any, right: Any) -> Any:
    _bounded(len(left) + len(right))
    return left + right


def _repeated(owner: Any, count: Any) -> Any:
    if isinstance(count, list | str) and isinstance(owner, int):
        owner, count = count, owner
    if not isinstance(count, int):
        raise MalformedError(f"a list is repeated {count} times", because="the number is not known when converting")
    _bounded(len(owner) * max(count, 0))
    return owner * count


def _popped(owner: list[Value], index: int = -1) -> Value:
    value = _item(owner, index)
    del owner[index]
    return value


def _sliced(owner: Any, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    begin, stop = (None if each is None else min(max(each, -(1 << 62)), 1 << 62) for each in (start, end))
    return owner[begin:stop:step]


def _deleted(owner: Any, index: Any) -> None:
    if isinstance(owner, dict):
        _entry(owner, index)
    else:
        _item(owner, index)
    del owner[index]


def _removed(owner: list[Value], value: Value) -> None:
    if value not in owner:
        raise MalformedError(f"{value} is removed from a list that does not have it")
    owner.remove(value)


def _sorted(owner: list[Value], reverse: bool = False) -> list[Value]:
    try:
        return sorted(owner, reverse=reverse)
    except TypeError as error:
        raise MalformedError("a list cannot be sorted", because=str(error)) from None


def _sort(owner: list[Value], reverse: bool = False) -> None:
    owner[:] = _sorted(owner, reverse)


def _total(owner: list[Value]) -> Value:
    return sum(owner)


def _index_of(owner: list[Value], value: Value) -> int:
    if value not in owner:
        raise MalformedError(f"{value} is not in the list")
    return owner.index(value)


def _entry(owner: dict[Value, Value], key: Value) -> Value:
    if key not in owner:
        raise MalformedError(f"a dict has no key {key!r}")
    return owner[key]


def _put(owner: dict[Value, Value], key: Value, value: Value) -> None:
    _bounded(len(owner) + 1)
    try:
        owner[key] = value
    except TypeError:
        raise MalformedError("a dict has a key that is neither a string nor a number") from None


def _taken(owner: dict[Value, Value], key: Value, *default: Value) -> Value:
    return owner.pop(key, default[0]) if default else owner.pop(key, _entry(owner, key))


def _updated(owner: dict[Value, Value], other: Any) -> None:
    owner.update(other if isinstance(other, dict) else dict(other))


def _copied_dict(owner: dict[Value, Value]) -> dict[Value, Value]:
    return dict(owner)


def _replaced(owner: str, old: str, new: str, most: int = -1) -> str:
    count = owner.count(old) if most < 0 else min(owner.count(old), most)
    _bounded(len(owner) + count * len(new))
    return owner.replace(old, new, most)


def _joined(owner: str, parts: list[str]) -> str:
    _bounded(len(owner) * len(parts) + sum(len(part) for part in parts))
    return owner.join(parts)


_LISTS: dict[str, Operation] = {
    "__getitem__": _item,
    "select": _item,
    "_set_item": _set,
    "append": _append,
    "extend": _extend,
    "insert": _insert,
    "add": _added,
    "add_": _extend,
    "mul": _repeated,
    "pop": _popped,
    "slice": _sliced,
    "len": len,
    "list": list,
    "copy": list,
    "clear": lambda owner: owner.clear(),
    "reverse": lambda owner: owner.reverse(),
    "Delete": _deleted,
    "remove": _removed,
    "sort": _sort,
    "sorted": _sorted,
    "index": _index_of,
    "count": lambda owner, value: owner.count(value),
    "__contains__": lambda owner, value: value in owner,
    "eq": lambda owner, other: owner == other,
    "ne": lambda owner, other: owner != other,
    "sum": _total,
    "any": any,
    "all": all,
    "dict": dict,
}
_DICTS: dict[str, Operation] = {
    "__getitem__": _entry,
    "_set_item": _put,
    "len": len,
    "keys": list,
    "values": lambda owner: list(owner.values()),
    "items": lambda owner: list(owner.items()),
    "get": lambda owner, key, default=None: owner.get(key, default),
    "setdefault": lambda owner, key, default: owner.setdefault(key, default),
    "pop": _taken,
    "__contains__": lambda owner, key: key in owner,
    "update": _updated,
    "clear": lambda owner: owner.clear(),
    "copy": _copied_dict,
    "dict": _copied_dict,
    "list": list,
    "Delete": _deleted,
}
_TUPLES: dict[str, Operation] = {
    "__getitem__": _item,
    "len": len,
    "slice": _sliced,
    "eq": lambda owner, other: owner == other,
    "ne": lambda owner, other: owner != other,
    "list": list,
}
_STRING_METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "isalnum", "isalpha", "isdecimal", "isdigit", "isidentifier",
        "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "lower", "lstrip", "partition",
        "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
        "title", "upper",
    }
)  # fmt: skip
_STRINGS: dict[str, Operation] = {
    "__getitem__": _item,
    "slice": _sliced,
    "add": _added,
    "mul": _repeated,
    "len": len,
    "eq": lambda owner, other: owner == other,
    "ne": lambda owner, other: owner != other,
    "lt": lambda owner, other: owner < other,
    "gt": lambda owner, other: owner > other,
    "le": lambda owner, other: owner <= other,
    "ge": lambda owner, other: owner >= other,
    "__contains__": lambda owner, other: other in owner,
    "list": list,
    "ord": ord,
    "replace": _replaced,
    "join": _joined,
}


def _string(name: str) -> Operation | None:
    if name in _STRINGS:
        return _STRINGS[name]
    if name not in _STRING_METHODS:
        return None

    def method(owner: str, *arguments: Any) -> Any:
        try:
            result = getattr(owner, name)(*arguments)
        except (TypeError, ValueError) as error:
            raise MalformedError(f"`{name}` of a string", because=str(error)) from None
        _bounded(len(result) if isinstance(result, str | list | tuple) else 0)
        return result

    return method
