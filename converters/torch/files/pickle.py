"""Pickles, protocols 0 to 5, parsed as data: nothing is imported, nothing is called.

    value = parse_pickle(archive.read("archive/data.pkl"), "archive/data.pkl").value

The result is plain Python data (None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex) and the
inert records of rebuild.py: `Global`, `Called`, `Storage`, `TensorRecord`, `ArrayRecord`.

A pickle is a program of a small stack machine (the opcodes are documented in the source of CPython's pickletools), so a
short file can ask for much. What bounds it: the number of opcodes, the bytes that all results take (in proportion to
the bytes read), the open marks, the length of integers, the kinds of keys, and (`tree=True`) the size of the
result with every shared part counted as often as it is reached, so that who walks it needs no care.

Python 2's 8-bit strings are str where they are UTF-8, else bytes. Attributes of tensors (BUILD) are dropped.
"""

from __future__ import annotations

import codecs
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from isomorph.converters.torch.files.rebuild import (
    ArrayRecord,
    Attributed,
    Called,
    DTypeRecord,
    Global,
    NotInert,
    hashable,
    meaning,
    storage_of,
)
from isomorph.errors import MalformedError

__all__ = ["Pickled", "parse_pickle"]

_MOST_OPCODES = 2_000_000
_MOST_MARKS = 4096
_MOST_BYTES = 64 << 20
_BYTES_PER_BYTE = 32
_LONGEST_INTEGER = 1024
_LONGEST_NAME = 1024
_LONGEST_LINE = 1 << 20
_DEEPEST = 256
_EXPANSION = 16
_SIZED = (list, tuple, set, frozenset, dict, bytes)


@dataclass(frozen=True, slots=True)
class Pickled:
    """A parsed pickle: its value, and the offset behind its last byte."""

    value: Any
    end: int


def parse_pickle(
    data: bytes | mmap.mmap,
    what: str,
    *,
    start: int = 0,
    whole: bool = True,
    persistent: Callable[[Any], Any] = storage_of,
    tree: bool = True,
) -> Pickled:
    """The value of the pickle that begins at `start`.

    what        names the data in errors: a file, a member of an archive
    whole       refuse bytes behind the pickle
    persistent  gives the meaning of a persistent id (default: torch's storages); may raise NotInert
    tree        refuse cycles, a nesting deeper than 256, and sharing that makes a walk longer than 16 steps an opcode
    Raises MalformedError with the byte offset.
    """
    machine = _Machine(data, what, start, persistent)
    value = machine.run()
    if whole and machine.at != len(data):
        machine.fail(f"{len(data) - machine.at} bytes follow the pickle")
    if tree:
        _check_tree(value, machine, _EXPANSION * machine.count + 1000)
    return Pickled(value, machine.at)


class _Machine:
    """The stack machine. `stack` holds values, `marks` the heights at which MARK was pushed."""

    def __init__(self, data: bytes | mmap.mmap, what: str, start: int, persistent: Callable[[Any], Any]) -> None:
        self.data = data
        self.what = what
        self.start = self.at = self.opcode_at = start
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.spent = 0
        self.allowed = _MOST_BYTES
        self.count = 0

    def fail(self, reason: str) -> NoReturn:
        raise MalformedError(
            f"{self.what} is not a pickle that can be read", at=f"byte {self.opcode_at}", because=reason
        )

    def run(self) -> Any:
        try:
            return self._run()
        except NotInert as error:
            self.fail(str(error))
        except (IndexError, struct.error, UnicodeError, ValueError, OverflowError) as error:
            self.fail(f"{type(error).__name__}: {error}"[:200])

    def _run(self) -> Any:
        data, size = self.data, len(self.data)
        for self.count in range(1, _MOST_OPCODES + 1):
            at = self.opcode_at = self.at
            if at >= size:
                self.fail("it ends before its STOP opcode")
            code = data[at]
            self.at = at + 1
            if code == _STOP:
                break
            step = _OPCODES.get(code)
            if step is None:
                self.fail(f"{code:#04x} is no opcode")
            step(self)
        else:
            self.fail(f"it has more than {_MOST_OPCODES} opcodes")
        if len(self.stack) != 1 or self.marks:
            self.fail(f"{len(self.stack)} values are left at the end")
        return self.stack[0]

    # what opcodes are made of

    def spend(self, size: int) -> None:
        """Count the memory that a result takes."""
        self.spent += size
        if self.spent > self.allowed:
            self.allowed = _MOST_BYTES + _BYTES_PER_BYTE * (self.at - self.start)
            if self.spent > self.allowed:
                self.fail(f"its values take more than {self.allowed} bytes, out of proportion to its size")

    def push(self, value: Any, size: int = 32) -> None:
        self.spent += size
        if self.spent > self.allowed:
            self.spend(0)
        self.stack.append(value)

    def pop(self) -> Any:
        self.above(1)
        return self.stack.pop()

    def above(self, count: int) -> None:
        """Raise unless `count` values lie above the last mark."""
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            self.fail("the stack is empty")

    def top(self) -> Any:
        self.above(1)
        return self.stack[-1]

    def popped(self) -> list[Any]:
        """The values above the last mark, which goes with them."""
        if not self.marks:
            self.fail("there is no mark")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        self.spend(8 * len(values))
        return values

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data) - self.at:
            self.fail(f"{count} bytes are announced, {len(self.data) - self.at} are left")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self, longest: int = _LONGEST_LINE) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            self.fail("a line does not end")
        found = bytes(self.data[self.at : end])
        self.at = end + 1
        return found

    def text(self, raw: bytes) -> str:
        return raw.decode("utf-8")

    def remember(self, index: int) -> None:
        if index < 0:
            self.fail("a memo has a negative number")
        self.spend(0 if index in self.memo else 104)
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            self.fail(f"there is no memo {index}")
        self.push(self.memo[index], 8)

    def name(self, module: Any, name: Any) -> Global:
        if not (isinstance(module, str) and isinstance(name, str)) or max(len(module), len(name)) > _LONGEST_NAME:
            self.fail("the name of a global is not a short text")
        return Global(module, name)

    def call(self, callable: Any, args: Any, kwargs: Any = None) -> None:
        if isinstance(callable, Global) and callable.module.startswith("__torch__") and not isinstance(args, tuple):
            args = (args,)  # a member of an Enum of TorchScript is called with its bare value
        if not isinstance(args, tuple) or not isinstance(kwargs, dict | None):
            self.fail("arguments are not a tuple")
        value = meaning(callable, args, kwargs)
        each = 104 if isinstance(value, dict | set | frozenset) else 8
        self.push(value, 160 + (each * len(value) if isinstance(value, _SIZED) else 0))

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            self.fail("a key has no value")
        target = self.top()
        if isinstance(target, Called):
            target.pairs.extend(zip(values[::2], values[1::2], strict=True))
            return
        if not isinstance(target, dict):
            self.fail(f"items are set on a {type(target).__name__}")
        self.spend(64 * len(values))
        for key, value in zip(values[::2], values[1::2], strict=True):
            if hashable(key) in target:
                self.fail(f"the key {str(key)[:80]!r} is given twice")
            target[key] = value

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list | Called):
            self.fail(f"values are appended to a {type(target).__name__}")
        self.spend(8 * len(values))
        (target.items if isinstance(target, Called) else target).extend(values)

    def add(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set | Called):
            self.fail(f"values are added to a {type(target).__name__}")
        self.spend(64 * len(values))
        if isinstance(target, Called):
            target.items.extend(values)
        else:
            target.update(map(hashable, values))

    def build(self) -> None:
        self.above(2)
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Called | Attributed):
            target.state = state
        elif isinstance(target, ArrayRecord):
            _build_array(target, state)
        elif isinstance(target, DTypeRecord):
            _build_dtype(target, state)


def _build_array(array: ArrayRecord, state: Any) -> None:
    """ndarray.__setstate__((version, shape, dtype, in Fortran order, bytes or list))."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise NotInert("the state of an array is not (version, shape, type, order, data)")
    shape, dtype, fortran, data = state[-4:]
    if not isinstance(dtype, DTypeRecord) or not isinstance(shape, tuple) or len(shape) > 64:
        raise NotInert("the state of an array has no type or no shape")
    if not all(isinstance(size, int) and 0 <= size < 1 << 62 for size in shape):
        raise NotInert("an array has sizes that are not")
    data = data.encode("latin1") if isinstance(data, str) else data
    array.dtype, array.shape, array.fortran, array.data = dtype, shape, bool(fortran), data


def _build_dtype(dtype: DTypeRecord, state: Any) -> None:
    """dtype.__setstate__((version, byte order, subarray, names, fields, size, alignment, flags))."""
    if not isinstance(state, tuple) or len(state) < 5:
        raise NotInert("the state of a NumPy type is not a tuple")
    order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
    if not isinstance(order, str) or len(order) != 1:
        raise NotInert("a NumPy type has no byte order")
    dtype.order = order
    dtype.plain = state[2] is None and not state[3] and not state[4]


def _short_string(machine: _Machine, raw: bytes) -> None:
    """An 8-bit string of Python 2."""
    try:
        machine.push(raw.decode("utf-8"), 56 + len(raw))
    except UnicodeDecodeError:
        machine.push(raw, 40 + len(raw))


def _long(machine: _Machine, size: int) -> None:
    if not 0 <= size <= _LONGEST_INTEGER:
        machine.fail(f"an integer of {size} bytes is too long")
    machine.push(int.from_bytes(machine.take(size), "little", signed=True), 32 + size)


def _decimal(machine: _Machine, digits: bytes) -> int:
    digits = digits.removesuffix(b"L").strip()
    if len(digits) > _LONGEST_INTEGER or not digits.removeprefix(b"-").isdigit():
        machine.fail("an integer is not written in digits, or in too many")
    return int(digits)


def _int(machine: _Machine) -> None:
    digits = machine.line()
    machine.push(digits == b"01" if digits in (b"00", b"01") else _decimal(machine, digits))


def _string(machine: _Machine) -> None:
    quoted = machine.line()
    if len(quoted) < 2 or quoted[:1] != quoted[-1:] or quoted[:1] not in (b"'", b'"'):
        machine.fail("a string has no quotes")
    _short_string(machine, bytes(codecs.escape_decode(quoted[1:-1])[0]))


def _unicode(machine: _Machine) -> None:
    raw = machine.line()
    text = raw.decode("raw-unicode-escape")
    text.encode("utf-8")  # raises for half a surrogate pair
    machine.push(text, 56 + 4 * len(raw))


def _binary_text(form: str) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        raw = machine.take(machine.number(form))
        machine.push(machine.text(raw), 56 + len(raw))

    return step


def _binary_bytes(form: str) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        raw = machine.take(machine.number(form))
        machine.push(raw, 40 + len(raw))

    return step


def _pair(machine: _Machine) -> tuple[Any, Any]:
    machine.above(2)
    second = machine.stack.pop()
    return machine.stack.pop(), second


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.above(count)
        values = tuple(machine.stack[len(machine.stack) - count :])
        del machine.stack[len(machine.stack) - count :]
        machine.push(values, 40 + 8 * count)

    return step


def _mark(machine: _Machine) -> None:
    if len(machine.marks) >= _MOST_MARKS:
        machine.fail(f"more than {_MOST_MARKS} marks are open")
    machine.marks.append(len(machine.stack))


def _pop(machine: _Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def _pop_mark(machine: _Machine) -> None:
    machine.popped()


def _dict(machine: _Machine) -> None:
    values = machine.popped()
    machine.push({}, 64)
    machine.set_items(values)


def _frozenset(machine: _Machine) -> None:
    values = machine.popped()
    machine.push(frozenset(map(hashable, values)), 216 + 64 * len(values))


def _frame(machine: _Machine) -> None:
    size = machine.number("<Q")
    if size > len(machine.data) - machine.at:
        machine.fail("a frame reaches beyond the data")


def _protocol(machine: _Machine) -> None:
    if machine.number("<B") > 5:
        machine.fail("its protocol is not 0 to 5")


def _global(machine: _Machine) -> None:
    module, name = machine.line(_LONGEST_NAME), machine.line(_LONGEST_NAME)
    machine.push(machine.name(machine.text(module), machine.text(name)), 128)


def _stack_global(machine: _Machine) -> None:
    machine.push(machine.name(*_pair(machine)), 128)


def _instance(machine: _Machine) -> None:
    module, name = machine.line(_LONGEST_NAME), machine.line(_LONGEST_NAME)
    args = tuple(machine.popped())
    machine.call(machine.name(machine.text(module), machine.text(name)), args)


def _object(machine: _Machine) -> None:
    values = machine.popped()
    if not values:
        machine.fail("an object has no class")
    machine.call(values[0], tuple(values[1:]))


def _new_with_keywords(machine: _Machine) -> None:
    kwargs = machine.pop()
    callable, args = _pair(machine)
    machine.call(callable, args, kwargs)


def _persistent(machine: _Machine, identity: Any) -> None:
    machine.push(machine.persistent(identity), 160)


def _set_item(machine: _Machine) -> None:
    machine.set_items(list(_pair(machine)))


def _refused(reason: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.fail(reason)


_STOP = ord(".")
_EXTENSION = _refused("it names code by a number of copyreg's registry")
_OUT_OF_BAND = _refused("it has buffers outside of the pickle")

_OPCODES: dict[int, Callable[[_Machine], None]] = {
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): _pop_mark,
    ord("2"): lambda m: m.push(m.top(), 8),
    ord("F"): lambda m: m.push(float(m.line(64))),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("I"): _int,
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B"), 8),
    ord("L"): lambda m: m.push(_decimal(m, m.line())),
    ord("M"): lambda m: m.push(m.number("<H")),
    0x8A: lambda m: _long(m, m.number("<B")),
    0x8B: lambda m: _long(m, m.number("<i")),
    ord("N"): lambda m: m.push(None, 8),
    0x88: lambda m: m.push(True, 8),
    0x89: lambda m: m.push(False, 8),
    ord("S"): _string,
    ord("T"): lambda m: _short_string(m, m.take(m.number("<i"))),
    ord("U"): lambda m: _short_string(m, m.take(m.number("<B"))),
    ord("V"): _unicode,
    ord("X"): _binary_text("<I"),
    0x8C: _binary_text("<B"),
    0x8D: _binary_text("<Q"),
    ord("B"): _binary_bytes("<I"),
    ord("C"): _binary_bytes("<B"),
    0x8E: _binary_bytes("<Q"),
    0x96: _binary_bytes("<Q"),
    ord("]"): lambda m: m.push([], 64),
    ord("l"): lambda m: m.push(m.popped(), 64),
    ord("a"): lambda m: m.extend([m.pop()]),
    ord("e"): lambda m: m.extend(m.popped()),
    ord(")"): lambda m: m.push((), 8),
    ord("t"): lambda m: m.push(tuple(m.popped()), 40),
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("}"): lambda m: m.push({}, 64),
    ord("d"): _dict,
    ord("s"): _set_item,
    ord("u"): lambda m: m.set_items(m.popped()),
    0x8F: lambda m: m.push(set(), 216),
    0x90: lambda m: m.add(m.popped()),
    0x91: _frozenset,
    ord("p"): lambda m: m.remember(_decimal(m, m.line(32))),
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("g"): lambda m: m.recall(_decimal(m, m.line(32))),
    ord("h"): lambda m: m.recall(m.number("<B")),
    ord("j"): lambda m: m.recall(m.number("<I")),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): lambda m: m.call(*_pair(m)),
    0x81: lambda m: m.call(*_pair(m)),
    0x92: _new_with_keywords,
    ord("i"): _instance,
    ord("o"): _object,
    ord("b"): lambda m: m.build(),
    ord("P"): lambda m: _persistent(m, m.text(m.line(_LONGEST_NAME))),
    ord("Q"): lambda m: _persistent(m, m.pop()),
    0x80: _protocol,
    0x95: _frame,
    0x82: _EXTENSION,
    0x83: _EXTENSION,
    0x84: _EXTENSION,
    0x97: _OUT_OF_BAND,
    0x98: _OUT_OF_BAND,
}


def _parts(value: Any) -> Iterator[Any]:
    """What a value holds, one step down."""
    if isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value
        yield from value.values()
        if isinstance(value, Attributed):
            yield value.state
    elif isinstance(value, Called):
        yield from (value.callable, value.args, value.kwargs, value.state, value.items)
        for pair in value.pairs:
            yield from pair
    elif isinstance(value, ArrayRecord):
        yield value.data


_CONTAINERS = (list, tuple, set, frozenset, dict, Called, ArrayRecord)


def _check_tree(value: Any, machine: _Machine, most: int) -> None:
    """Raise if a walk through the value would not end, go too deep, or take more than `most` steps."""
    if not isinstance(value, _CONTAINERS):
        return
    sizes: dict[int, tuple[int, int]] = {}  # by identity: (steps, depth) of what is done
    open_: set[int] = {id(value)}
    path: list[tuple[Any, Iterator[Any], list[int]]] = [(value, _parts(value), [1, 1])]
    while path:
        holder, rest, total = path[-1]
        part = next(rest, path)
        if part is path:
            path.pop()
            open_.discard(id(holder))
            done = sizes[id(holder)] = (total[0], total[1])
            if path:
                _include(path[-1][2], done)
        elif not isinstance(part, _CONTAINERS):
            total[0] += 1
        elif id(part) in sizes:
            _include(total, sizes[id(part)])
        elif id(part) in open_:
            machine.fail("a value holds itself")
        else:
            open_.add(id(part))
            path.append((part, _parts(part), [1, 1]))
        if total[0] > most:
            machine.fail(f"its values take more than {most} steps to walk, by sharing")
        if total[1] > _DEEPEST or len(path) > _DEEPEST:
            machine.fail(f"its values are nested deeper than {_DEEPEST}")


def _include(total: list[int], part: tuple[int, int]) -> None:
    total[0] += part[0]
    total[1] = max(total[1], part[1] + 1)
