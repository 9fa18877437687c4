"""TorchScript archive -> Model, without torch. See docs/formats/torchscript.md.

Nothing of the file runs: pickles and code are parsed, the code is inlined by a walk over its syntax tree in which only
sizes, numbers and lists have values.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from isomorph.converters.archive import Archive
from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script.archive import ScriptArchive
from isomorph.converters.torch.script.inline import Inliner
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.signature import Given, Inputs, Signature, leaves
from isomorph.converters.torch.script.source import demangled
from isomorph.converters.torch.script.values import NamedTuple, Object, Value, describe, is_tensor
from isomorph.converters.torch.state import next_name
from isomorph.errors import MalformedError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import Model, Parameter, State, Sym, TensorType
from isomorph.ir.text import print_model

__all__ = ["read"]

_STACK = 6000


def read(path: Path, *, inputs: Inputs | None = None, method: str = "forward") -> Model:
    """The model of a TorchScript archive (torch.jit.save, `_save_for_lite_interpreter`).

    inputs  shapes and element types of the arguments, which the archive lacks; see signature.py
    method  the method of the root module that is the model
    Raises  MalformedError, UnsafeError, UnsupportedError (everything that cannot be expressed), UsageError (an input
            without a shape; inputs that the model's own code refuses).
    """
    with Archive(path) as archive:
        try:
            with _deeper_stack():
                return _read(archive, inputs or {}, method)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            because = f"{type(error).__name__}: {error}"
            raise MalformedError("the archive does not follow the format", at=str(path), because=because) from error


@contextmanager
def _deeper_stack() -> Iterator[None]:
    """Room for the walk, whose depth the inliner bounds; Python's own frames take no C stack."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _STACK))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _read(archive: Archive, inputs: Inputs, method: str) -> Model:
    script = ScriptArchive(archive)
    code = script.library.class_of(script.root.title)
    if method not in code.methods:
        known = ", ".join(code.methods) or "none"
        raise UsageError(f"{archive.path.name} has no method {method}", advice=f"its methods are {known}")
    reading = _Reading(script, Signature.of(code.methods[method], script.root, inputs))
    model = reading.model(method)
    if reading.set:
        script = ScriptArchive(archive)
        again = _Reading(script, Signature.of(code.methods[method], script.root, inputs))
        again.preset(reading.set)
        if print_model(again.model(method)) != print_model(model) or again.set:
            reading.refuse_states()
    return model


class _Reading:
    """One walk of the archive.

    set  attributes that the code sets to what is known: (path of the owner, name) -> value. They are no state of the
         model if it is the same model afterwards (`_has_warned`)
    """

    def __init__(self, script: ScriptArchive, signature: Signature) -> None:
        self.set: dict[tuple[str, str], Value] = {}
        self._changed: list[tuple[Object, str, Value]] = []
        self.root = script.root
        self.signature = signature
        source = ("torch", f"TorchScript {script.version}".strip())
        title = demangled(self.root.title).rpartition(".")[2]
        self.session = Session(title, signature.tensors, signature.dims, source)
        self.inliner = Inliner(script.library, _placed(script.constants, self.session, {}), self.session)

    def model(self, method: str) -> Model:
        self.stored: dict[str, Parameter] = {name: self.root.attributes[name] for name in self.signature.states}
        for name in self.signature.states:
            self.root.attributes[name] = Ref(name)
        for name, number in self.signature.numbers.items():
            if name in self.root.attributes:
                self.root.attributes[name] = number
        _placed(self.root, self.session, {})
        before = _attributes(self.root)
        result = self.inliner.run(self.root, method, [self._argument(given) for given in self.signature.arguments])
        outputs = [(name, self._checked(name, leaf)) for name, leaf in leaves(result)]
        self._changed = self._changed_states(before)
        if not all(value is None or isinstance(value, bool | int | float | str) for _, _, value in self._changed):
            self.refuse_states()
        self.set = {(owner.path, name): value for owner, name, value in self._changed}
        outputs += [(next_name(name), self.root.attributes[name]) for name in self.signature.states]
        return self.session.finish(outputs, self._carried())

    def _carried(self) -> dict[str, State]:
        """The attributes that are inputs and outputs, each with its stored value where that has the shape."""
        types = dict(self.signature.tensors)
        carried = {}
        for name in self.signature.states:
            stored = self.stored[name]
            fits = types[name] == TensorType(stored.data.dtype, stored.data.shape)
            carried[name] = State(next_name(name), stored if fits else None)
        return carried

    def _argument(self, given: Value) -> Value:
        if isinstance(given, ast.expr):
            return self.inliner.value_of(given)
        if isinstance(given, list | tuple):
            return type(given)(self._argument(each) for each in given)
        if isinstance(given, dict):
            return {key: self._argument(each) for key, each in given.items()}
        if not isinstance(given, Given):
            return given
        return Ref(given.name) if given.number is None else self.session.item(Ref(given.name), given.number)

    def _checked(self, name: str, leaf: Value) -> Value:
        if not is_tensor(leaf) and not isinstance(leaf, bool | int | float | Sym):
            item = Unsupported("output", f"it is {describe(leaf)}", name)
            raise UnsupportedError("import the results", [item])
        return leaf

    def preset(self, values: Mapping[tuple[str, str], Value]) -> None:
        """Give attributes the values that a call before left them."""
        for (path, name), value in values.items():
            owner = self.root
            for part in path.split(".") if path else ():
                owner = owner.attributes[part]
            owner.attributes[name] = value

    def _changed_states(self, before: Mapping[tuple[Object, str], Value]) -> list[tuple[Object, str, Value]]:
        """The model's own attributes that are others after a call, but those that the user says are carried."""
        changed = []
        for owner, name in self.inliner.changed:
            after = owner.attributes[name]
            known = before.get((owner, name))
            if not owner.path and (name in self.signature.states or owner is not self.root):
                continue
            if not self._is_same(known, after):
                changed.append((owner, name, after))
        return changed

    def _is_same(self, before: Value, after: Value) -> bool:
        """Whether an attribute is what it was: the same number, or the same tensors, in lists as well."""
        if is_tensor(before) and is_tensor(after):
            same_cell = self.session.value(before) is self.session.value(after)
            return same_cell and self.session.value(after).parameter is not None
        if isinstance(before, list | tuple) and type(before) is type(after) and len(before) == len(after):
            return all(self._is_same(one, other) for one, other in zip(before, after, strict=True))
        return type(before) is type(after) and not is_tensor(after) and bool(before == after)

    def refuse_states(self) -> NoReturn:
        """Raise UnsupportedError with the attributes that are others after a call."""
        items, advice = [], []
        for owner, name, after in self._changed:
            path = f"{owner.path}.{name}".lstrip(".")
            items.append(Unsupported(path, f"the model changes this attribute, to {self._described(after)}"))
            if not owner.path:
                advice.append(f"--input {name}={self._shape(after)}")
        raise UnsupportedError(
            "express a model with a state", items, advice=" ".join(advice) if len(advice) == len(items) else None
        )

    def _described(self, value: Value) -> str:
        return f"a tensor {self.session.kind(value)}" if is_tensor(value) else repr(value)

    def _shape(self, value: Value) -> str:
        return ",".join(map(str, self.session.kind(value).shape)) if is_tensor(value) else str(value)


def _placed(value: Value, session: Session, done: dict[int, Value]) -> Value:
    """The value with tensors of the program for its parameters; objects, lists and dicts stay the same."""
    if isinstance(value, Parameter):
        return session.parameter(value)
    if id(value) in done:
        return value
    if isinstance(value, Object):
        done[id(value)] = value
        value.attributes.update({name: _placed(each, session, done) for name, each in value.attributes.items()})
    elif isinstance(value, list):
        done[id(value)] = value
        value[:] = [_placed(each, session, done) for each in value]
    elif isinstance(value, dict):
        done[id(value)] = value
        value.update({key: _placed(each, session, done) for key, each in value.items()})
    elif isinstance(value, NamedTuple):
        return NamedTuple.of(value.title, value.fields, tuple(_placed(each, session, done) for each in value))
    elif isinstance(value, tuple):
        return tuple(_placed(each, session, done) for each in value)
    return value


def _attributes(root: Object) -> dict[tuple[Object, str], Value]:
    """The attributes of all objects below the root, as they are now."""
    found: dict[tuple[Object, str], Value] = {}
    pending = [root]
    seen: set[int] = set()
    while pending:
        owner = pending.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in owner.attributes.items():
            if isinstance(value, Object):
                pending.append(value)
            elif isinstance(value, list):
                found[owner, name] = list(value)
            elif isinstance(value, dict):
                found[owner, name] = dict(value)
            else:
                found[owner, name] = value
    return found
