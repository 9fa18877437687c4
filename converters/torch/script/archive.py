"""The contents of a TorchScript archive: the tree of modules, the constants, the code.

    <root>/data.pkl         the root module, its submodules and attributes
    <root>/constants.pkl    a tuple of the tensors that the code calls CONSTANTS.c0, CONSTANTS.c1 …
    <root>/data/, constants/   one stored member for each block of elements
    <root>/code/            the code, beside each file the user's lines (….debug_pkl)
    <root>/version          the file format's version; extra/ and bytecode.pkl are not read

The pickles are parsed, not loaded (converters/torch/files/pickle.py); elements are mapped when they are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isomorph.converters.archive import Archive
from isomorph.converters.torch.files.pickle import parse_pickle
from isomorph.converters.torch.files.rebuild import Called, Global, Storage, TensorRecord, element_type, itemsize
from isomorph.converters.torch.script.source import ClassCode, Library
from isomorph.converters.torch.script.values import Device, EnumValue, NamedTuple, Object, Value
from isomorph.errors import MalformedError, Unsupported, UnsupportedError
from isomorph.ir import MappedTensor, Parameter
from isomorph.ir.tensors import ArrayTensor, TensorSource

__all__ = ["ScriptArchive"]

_CODE_LIMIT = 64 << 20
_PICKLE_LIMIT = 256 << 20
_SMALL = 16


class ScriptArchive:
    """An open archive, read: `root` is the root module, `constants` the tensors of the code, `library` the code.

    Tensors are `Parameter`s; those with the same elements in the file are one, named by the first path that reaches it.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.folder = _folder(archive)
        order = f"{self.folder}/byteorder"
        if order in archive and archive.read(order, limit=64).strip() != b"little":
            item = Unsupported("byteorder", "the weights are big-endian")
            raise UnsupportedError(f"read {archive.path.name}", [item])
        self._shared: dict[Any, Parameter] = {}
        self._objects: dict[int, Object] = {}
        self.library = Library(self._code_members(), self._read_code, self._debug)
        self.root = self._root()
        self.constants = self._constants()

    @property
    def version(self) -> str:
        member = f"{self.folder}/version"
        return (
            self._archive.read(member, limit=64).decode("ascii", "replace").strip() if member in self._archive else ""
        )

    def _code_members(self) -> dict[str, str]:
        prefix = f"{self.folder}/code/"
        return {
            name.removeprefix(prefix): name
            for name in self._archive
            if name.startswith(prefix) and name.endswith(".py")
        }

    def _read_code(self, member: str) -> bytes:
        return self._archive.read(member, limit=_CODE_LIMIT)

    def _debug(self, member: str) -> Any:
        if member not in self._archive:
            return None
        return parse_pickle(self._archive.read(member, limit=_PICKLE_LIMIT), member).value

    def _pickle(self, name: str) -> Any:
        member = f"{self.folder}/{name}.pkl"
        return parse_pickle(self._archive.read(member, limit=_PICKLE_LIMIT), member).value

    def _root(self) -> Object:
        root = self._plain(self._pickle("data"), "", "data")
        if not isinstance(root, Object):
            raise MalformedError("data.pkl holds no module", at=str(self._archive.path))
        return root

    def _constants(self) -> list[Value]:
        if f"{self.folder}/constants.pkl" not in self._archive:
            return []
        values = self._pickle("constants")
        if not isinstance(values, tuple | list):
            raise MalformedError("constants.pkl holds no tuple", at=str(self._archive.path))
        return [self._plain(value, f"c{index}", "constants") for index, value in enumerate(values)]

    def _plain(self, value: Any, path: str, folder: str) -> Value:
        """A pickled value as the code sees it; `path` is where it hangs below the root."""
        if isinstance(value, TensorRecord):
            return self._tensor(value, path, folder)
        if isinstance(value, Called):
            return self._called(value, path, folder)
        if isinstance(value, list):
            return [self._plain(item, f"{path}.{index}", folder) for index, item in enumerate(value)]
        if isinstance(value, tuple):
            return tuple(self._plain(item, f"{path}.{index}", folder) for index, item in enumerate(value))
        if isinstance(value, dict):
            return {key: self._plain(item, f"{path}.{key}", folder) for key, item in value.items()}
        if value is None or isinstance(value, bool | int | float | complex | str):
            return value
        raise MalformedError(f"the attribute {path} is a {type(value).__name__}", at=f"{folder}.pkl")

    def _called(self, value: Called, path: str, folder: str) -> Value:
        if not isinstance(value.callable, Global):
            raise MalformedError(f"the attribute {path} is made by a call of a call", at=f"{folder}.pkl")
        title = str(value.callable)
        if title == "torch.device":
            name, *index = value.args
            return Device(str(name), index[0] if index else None)
        if not title.startswith("__torch__."):
            item = Unsupported(title, "an attribute of this kind is not read", path)
            raise UnsupportedError(f"read {self._archive.path.name}", [item])
        code = self.library.find(title)
        if isinstance(code, ClassCode) and code.kind == "NamedTuple":
            items = value.args[0] if len(value.args) == 1 and isinstance(value.args[0], tuple) else value.args
            plain = tuple(self._plain(item, f"{path}.{index}", folder) for index, item in enumerate(items))
            return NamedTuple.of(title, tuple(code.attributes), plain)
        if isinstance(code, ClassCode) and code.kind == "Enum":
            return EnumValue(title, "", value.args[0] if value.args else None)
        return self._object(value, title, path, folder)

    def _object(self, value: Called, title: str, path: str, folder: str) -> Object:
        if id(value) not in self._objects:
            made = self._objects[id(value)] = Object(title, path=path)
            if title.startswith("__torch__.torch.classes."):
                return made
            state = value.state
            if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
                item = Unsupported(title, "an object with a __setstate__ of its own", path)
                raise UnsupportedError(f"read {self._archive.path.name}", [item])
            code = self.library.find(title)
            known = code if isinstance(code, ClassCode) else None
            for name, item in state.items():
                plain = self._plain(item, f"{path}.{name}" if path else name, folder)
                if isinstance(plain, Parameter) and known is not None:
                    _assign_role(plain, name, known)
                made.attributes[name] = plain
        return self._objects[id(value)]

    def _tensor(self, record: TensorRecord, path: str, folder: str) -> Parameter:
        """The parameter of a tensor; bounds were checked against the storage, and are against the member here."""
        dtype = element_type(record.dtype)
        if dtype is None or record.quantizer is not None or not isinstance(record.storage, Storage):
            item = Unsupported(path, f"a tensor of the element type {record.dtype} has no counterpart", path)
            raise UnsupportedError(f"read {self._archive.path.name}", [item])
        storage = record.storage
        member = f"{self.folder}/{folder}/{storage.key}"
        key = (member, record.offset, dtype, record.size, record.stride) if record.count else (id(record),)
        if key not in self._shared:
            data: TensorSource
            if record.count:
                offset, available = self._archive.span(member)
                needed = storage.numel * itemsize(storage.dtype)
                if needed > available:
                    because = f"{storage.numel} elements of {storage.dtype}, the member has {available} bytes"
                    raise MalformedError(f"the storage of {path} is too short", at=member, because=because)
                start = offset + record.offset * dtype.itemsize
                data = MappedTensor(self._archive.path, start, dtype, record.size, _strides(record))
            else:
                data = ArrayTensor(np.empty(record.size, dtype.numpy))
            role = "constant" if record.count <= _SMALL or not dtype.is_float else "weight"
            self._shared[key] = Parameter(path, data, trainable=False, role=role)
        parameter = self._shared[key]
        parameter.trainable = parameter.trainable or record.requires_grad
        return parameter


def _assign_role(parameter: Parameter, name: str, code: ClassCode) -> None:
    if name in code.parameters:
        parameter.role = "weight"
    elif name in code.attributes and not parameter.trainable:
        parameter.role = "buffer"


def _strides(record: TensorRecord) -> tuple[int, ...] | None:
    """The strides, None where they are those of C order."""
    expected, step = [], 1
    for size in reversed(record.size):
        expected.append(step)
        step *= size
    pairs = zip(record.size, record.stride, reversed(expected), strict=True)
    return None if all(size == 1 or stride == wanted for size, stride, wanted in pairs) else record.stride


def _folder(archive: Archive) -> str:
    """The folder that holds everything."""
    found = [name.removesuffix("/data.pkl") for name in archive if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1 or not any(name.startswith(f"{found[0]}/code/") for name in archive):
        raise MalformedError(
            "the archive holds no TorchScript", at=str(archive.path), because="no data.pkl or no code/"
        )
    return found[0]
