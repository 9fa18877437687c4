"""What a pickle describes, as inert data: names, calls that nobody makes, storages, tensors, arrays.

A pickle says "import this name and call it with these arguments". Here a name stays a `Global` and a call a `Called`;
about forty well-known callables have a plain meaning (an OrderedDict is a dict, `torch._utils._rebuild_tensor_v2` is a
`TensorRecord`), which is written down below and nowhere else. Nothing is imported and nothing is called.

Source: torch/_utils.py, torch/_tensor.py, torch/jit/_pickle.py, torch/serialization.py (what `__reduce_ex__` and
`persistent_id` write), numpy's `__reduce__` of arrays, dtypes and scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isomorph.ir import DType

__all__ = [
    "ArrayRecord",
    "Attributed",
    "Called",
    "DTypeRecord",
    "Global",
    "NotInert",
    "Storage",
    "TensorRecord",
    "element_type",
    "hashable",
    "itemsize",
    "meaning",
    "storage_of",
]


class NotInert(ValueError):
    """The arguments of a well-known callable do not fit it; the message says why."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle would import: `Global("torch", "float32")`."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Called:
    """What a call would return, had it been made.

    callable  usually a Global
    state     what BUILD would hand to `__setstate__`; None without one
    items     what APPENDS or ADDITEMS would add
    pairs     what SETITEMS would set
    """

    callable: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[Any, Any] = field(default_factory=dict)
    state: Any = None
    items: list[Any] = field(default_factory=list)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Called({self.callable if isinstance(self.callable, Global) else '…'})"


class Attributed(dict[Any, Any]):
    """An OrderedDict or defaultdict; `state` is what BUILD sets, such as {"_metadata": versions} of a state dict."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of elements that lies outside of the pickle, named by `key`.

    dtype     torch's name of the element type; "uint8" with `untyped` where the storage is bytes without a type
    view      (key, offset, numel) of the legacy format's views of another storage, else None
    """

    key: str
    dtype: str
    numel: int
    location: str = "cpu"
    untyped: bool = False
    view: tuple[str, int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the block, or of the view."""
        return (self.view[2] if self.view else self.numel) * itemsize(self.dtype)

    @property
    def start(self) -> int:
        """Bytes of the block before the view."""
        return self.view[1] * itemsize(self.dtype) if self.view else 0


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A strided tensor: element (i, j, …) is `storage[offset + i * stride[0] + j * stride[1] + …]`.

    storage    None for a tensor on the meta device, an ArrayRecord for one that was saved through NumPy
    dtype      torch's name
    quantizer  the quantizer's parameters of a quantized tensor, None for any other
    The elements lie inside the storage; that was checked.
    """

    storage: Storage | ArrayRecord | None
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    parameter: bool = False
    quantizer: tuple[Any, ...] | None = None

    @property
    def count(self) -> int:
        return math.prod(self.size)


@dataclass(eq=False, slots=True)
class DTypeRecord:
    """A NumPy dtype: `code` such as "f4", `order` one of < > | =."""

    code: str
    order: str = "="
    plain: bool = True

    def numpy(self) -> np.dtype[Any]:
        """The dtype. Raises NotInert for objects, records and anything else that is not numbers or text."""
        if not self.plain or self.code[:1] not in _NUMPY_KINDS or self.order not in "<>|=":
            raise NotInert(f"arrays of the NumPy type {self.code!r} are not plain data")
        size = self.code[1:]
        if not size.isdecimal() or len(size) > 4:
            raise NotInert(f"{self.code!r} is no NumPy type")
        try:
            return np.dtype((self.order if self.order != "|" else "") + self.code)
        except TypeError as error:
            raise NotInert(str(error)) from None


_NUMPY_KINDS = ("b", "i", "u", "f", "c", "S", "U")


@dataclass(eq=False, slots=True)
class ArrayRecord:
    """A NumPy array or scalar whose elements are in the pickle."""

    dtype: DTypeRecord | None = None
    shape: tuple[int, ...] = ()
    fortran: bool = False
    data: Any = None

    def numpy(self) -> np.ndarray[Any, Any]:
        """The elements, a read-only view of the pickle's bytes. Raises NotInert where they are not plain data."""
        if self.dtype is None or not isinstance(self.data, bytes):
            raise NotInert("an array's elements are not plain data")
        kind = self.dtype.numpy()
        if math.prod(self.shape) * kind.itemsize != len(self.data) or not kind.itemsize:
            raise NotInert(f"an array of {kind}{list(self.shape)} has {len(self.data)} bytes")
        return np.frombuffer(self.data, kind).reshape(self.shape, order="F" if self.fortran else "C")


_ITEMSIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex128": 16, "complex64": 8, "complex32": 4,
    "qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1, "bits8": 1, "bits16": 2, "bits1x8": 1,
    "bits2x4": 1, "bits4x2": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1,
}  # fmt: skip
"""Bytes an element takes, by torch's name of the type."""

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}  # fmt: skip


def itemsize(dtype: str) -> int:
    """Bytes an element takes. Raises NotInert for a name that torch does not have."""
    if dtype not in _ITEMSIZES:
        raise NotInert(f"{dtype!r} is no element type of torch")
    return _ITEMSIZES[dtype]


def element_type(dtype: str) -> DType | None:
    """The DType of torch's name, None where it has no counterpart (quantized, packed)."""
    return DType(dtype) if dtype in DType._value2member_map_ and dtype in _ITEMSIZES else None


def hashable(key: Any, depth: int = 2) -> Any:
    """The key itself, if it can be hashed and compared in no time whatever the file says; records go by identity.

    Raises NotInert for huge integers (their hashes can be made to collide) and for containers other than small tuples.
    """
    if isinstance(key, int):
        if abs(key) >= (1 << 61) - 1:
            raise NotInert("an integer key is too large")
    elif isinstance(key, tuple):
        if len(key) > 16 or not depth:
            raise NotInert("a key is a large tuple")
        for each in key:
            hashable(each, depth - 1)
    elif not isinstance(key, _KEYS):
        raise NotInert(f"a {type(key).__name__} cannot be a key")
    return key


_KEYS = (str, bytes, float, complex, type(None), Global, Called, Storage, TensorRecord, ArrayRecord, DTypeRecord)


def storage_of(identity: Any) -> Any:
    """The meaning of torch's persistent ids.

    ("storage", type, key, location, numel[, view]), view None or (key, offset, numel); ("module", object, …) is the
    object itself, whose source code the old format kept beside it. Raises NotInert for anything else.
    """
    if not isinstance(identity, tuple) or not identity:
        raise NotInert("a persistent id is not a tuple")
    kind = identity[0].decode() if isinstance(identity[0], bytes) else identity[0]
    if kind == "module" and len(identity) >= 2:
        return identity[1]
    if kind != "storage" or len(identity) not in (5, 6) or not isinstance(identity[1], Global):
        raise NotInert(f"a persistent id of the kind {str(kind)[:40]!r} with {len(identity)} parts is not torch's")
    name = identity[1].name
    if identity[1].module not in ("torch", "torch.cuda", "torch.storage") or name not in _STORAGES:
        raise NotInert(f"{identity[1]} is no storage of torch")
    view = identity[5] if len(identity) == 6 else None
    if view is not None:
        if not isinstance(view, tuple) or len(view) != 3:
            raise NotInert("the view of a storage is not (key, offset, size)")
        view = (_key(view[0]), _natural(view[1]), _natural(view[2]))
        if view[1] + view[2] > _natural(identity[4]):
            raise NotInert("the view of a storage reaches beyond it")
    location = identity[3] if isinstance(identity[3], str) else "cpu"
    return Storage(_key(identity[2]), _STORAGES[name], _natural(identity[4]), location, name == "UntypedStorage", view)


def meaning(callable: Any, args: tuple[Any, ...], kwargs: dict[Any, Any] | None = None) -> Any:
    """What a call stands for: plain data where the callable is well known, a `Called` otherwise.

    Raises NotInert where the arguments of a well-known callable do not fit.
    """
    if isinstance(callable, Global) and not kwargs:
        known = _MEANINGS.get((callable.module, callable.name))
        if known is not None:
            try:
                return known(*args)
            except TypeError as error:
                raise NotInert(f"{callable} with {len(args)} arguments: {error}") from None
    return Called(callable, args, dict(kwargs or {}))


def _natural(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise NotInert(f"a size is expected, not {str(value)[:40] if isinstance(value, int | str) else type(value)}")
    return value


def _naturals(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise NotInert("sizes are expected")
    return tuple(_natural(value) for value in values)


def _key(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(_natural(abs(value)))
    if not isinstance(value, str) or len(value) > 256:
        raise NotInert("the key of a storage is no short text")
    return value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, grad: Any = False, *rest: Any) -> TensorRecord:
    """_rebuild_tensor(storage, offset, size, stride); _v2 adds requires_grad, backward hooks, metadata."""
    if not isinstance(storage, Storage):
        raise NotInert("a tensor has no storage")
    return _strided(storage, storage.dtype, offset, size, stride, grad)


def _tensor_v3(  # noqa: PLR0917 (the order is torch's)
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> TensorRecord:
    if not isinstance(storage, Storage):
        raise NotInert("a tensor has no storage")
    return _strided(storage, _dtype(dtype), offset, size, stride, grad)


def _strided(  # noqa: PLR0917 (the order is torch's)
    storage: Storage, dtype: str, offset: Any, size: Any, stride: Any, grad: Any, **more: Any
) -> TensorRecord:
    first, sizes, strides = _natural(offset), _naturals(size), _naturals(stride)
    if len(sizes) != len(strides):
        raise NotInert(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
    count = math.prod(sizes)
    extent = 1 + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) if count else 0
    if (first + extent) * itemsize(dtype) > storage.nbytes and count:
        raise NotInert(
            f"a tensor {dtype}{list(sizes)}, strides {list(strides)}, from element {first} "
            f"reaches beyond its storage of {storage.nbytes} bytes"
        )
    if count * itemsize(dtype) > max(storage.nbytes, _MOST_REPEATED):
        raise NotInert(f"a tensor repeats {storage.nbytes} bytes of storage to {dtype}{list(sizes)}")
    return TensorRecord(storage, dtype, first, sizes, strides, bool(grad), **more)


_MOST_REPEATED = 1 << 24
"""Bytes to which a tensor may repeat the elements of its storage, by strides of 0 or overlapping ones."""


def _dtype(value: Any) -> str:
    """torch's name of a dtype that is a Global."""
    if not isinstance(value, Global) or value.module != "torch":
        raise NotInert("an element type is expected")
    itemsize(value.name)
    return value.name


def _quantized(  # noqa: PLR0917 (the order is torch's)
    storage: Any, offset: Any, size: Any, stride: Any, quantizer: Any, grad: Any = False, *rest: Any
) -> TensorRecord:
    if not isinstance(storage, Storage) or not isinstance(quantizer, tuple):
        raise NotInert("a quantized tensor has no storage or no quantizer")
    return _strided(storage, storage.dtype, offset, size, stride, grad, quantizer=quantizer)


def _parameter(data: Any, grad: Any = True, *rest: Any) -> Any:
    """_rebuild_parameter(data, requires_grad, hooks), …_with_state adds the attributes."""
    return replace(data, requires_grad=bool(grad), parameter=True) if isinstance(data, TensorRecord) else data


def _meta(dtype: Any, size: Any, stride: Any, grad: Any = False) -> TensorRecord:
    return TensorRecord(None, _dtype(dtype), 0, _naturals(size), _naturals(stride), bool(grad))


def _from_numpy(array: Any, dtype: Any, device: Any, grad: Any = False) -> TensorRecord:
    if not isinstance(array, ArrayRecord) or array.dtype is None:
        raise NotInert("a tensor has no array")
    steps = [math.prod(array.shape[axis + 1 :]) for axis in range(len(array.shape))]
    return TensorRecord(array, _dtype(dtype), 0, array.shape, tuple(steps), bool(grad))


def _from_type(function: Any, kind: Any, args: Any, state: Any = None) -> Any:
    """torch._tensor._rebuild_from_type(_v2)(function, type, args, state): the tensor, as one of another class."""
    if not isinstance(args, tuple):
        raise NotInert("the arguments of a tensor are not a tuple")
    made = meaning(function, args)
    plain = isinstance(kind, Global) and kind.module.startswith("torch.nn.parameter")
    return replace(made, parameter=True) if plain and isinstance(made, TensorRecord) else made


def _mapping(*args: Any) -> Attributed:
    """OrderedDict([[key, value], …]); a defaultdict's first argument is its factory."""
    if args and not isinstance(args[0], list | tuple | dict):
        args = args[1:]
    made = Attributed()
    if not args:
        return made
    for pair in args[0].items() if isinstance(args[0], dict) else args[0]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise NotInert("a mapping is given by something else than pairs of a key and a value")
        if hashable(pair[0]) in made:
            raise NotInert(f"the key {str(pair[0])[:80]!r} is given twice")
        made[pair[0]] = pair[1]
    return made


def _sequence(make: Callable[[Iterable[Any]], Any]) -> Callable[..., Any]:
    def build(values: Sequence[Any] = ()) -> Any:
        if not isinstance(values, list | tuple | set | frozenset):
            raise NotInert("a list is expected")
        return make(map(hashable, values) if make in (set, frozenset) else values)

    return build


def _encoded(text: Any, encoding: Any = "utf-8") -> bytes:
    """_codecs.encode("…", "latin1"): how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise NotInert("bytes are given by something else than text in latin1 or utf-8")
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise NotInert(str(error)) from None


def _bytearray(data: Any = b"", *encoding: Any) -> bytes:
    if isinstance(data, str):
        return _encoded(data, *encoding)
    if not isinstance(data, bytes):
        raise NotInert("bytes are made of something else than bytes")
    return data


def _complex(real: Any, imaginary: Any = 0.0) -> complex:
    if not isinstance(real, float | int) or not isinstance(imaginary, float | int):
        raise NotInert("numbers are expected")
    return complex(real, imaginary)


def _numpy_dtype(code: Any, *flags: Any) -> DTypeRecord:
    text = code.decode("latin1") if isinstance(code, bytes) else code
    if not isinstance(text, str) or len(text) > 16:
        raise NotInert("a NumPy type is not a short text")
    order = text[:1] if text[:1] in "<>|=" and text else "="
    return DTypeRecord(text.lstrip("<>|="), order)


def _numpy_scalar(dtype: Any, data: Any = None) -> ArrayRecord:
    return ArrayRecord(dtype if isinstance(dtype, DTypeRecord) else None, (), data=data)


def _numpy_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> ArrayRecord:
    return ArrayRecord(dtype if isinstance(dtype, DTypeRecord) else None, _naturals(shape), order == "F", data)


def _reconstructed(cls: Any, base: Any = None, state: Any = None) -> Any:
    """copyreg._reconstructor(cls, object, None): an instance without arguments."""
    return Called(cls, () if state is None else (state,))


def _tagged(value: Any, tag: Any = None) -> Any:
    """torch.jit._pickle.restore_type_tag(value, type): the type is what the schema says anyway."""
    return value


_UTILS = "torch._utils"
_MEANINGS: dict[tuple[str, str], Callable[..., Any]] = {
    (_UTILS, "_rebuild_tensor"): _tensor,
    (_UTILS, "_rebuild_tensor_v2"): _tensor,
    (_UTILS, "_rebuild_tensor_v3"): _tensor_v3,
    (_UTILS, "_rebuild_parameter"): _parameter,
    (_UTILS, "_rebuild_parameter_with_state"): _parameter,
    (_UTILS, "_rebuild_qtensor"): _quantized,
    (_UTILS, "_rebuild_meta_tensor_no_storage"): _meta,
    (_UTILS, "_rebuild_device_tensor_from_numpy"): _from_numpy,
    (_UTILS, "_rebuild_device_tensor_from_cpu_tensor"): lambda data, *rest: data,
    ("torch._tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch", "Size"): _sequence(tuple),
    ("torch.jit._pickle", "build_intlist"): _sequence(list),
    ("torch.jit._pickle", "build_doublelist"): _sequence(list),
    ("torch.jit._pickle", "build_boollist"): _sequence(list),
    ("torch.jit._pickle", "build_tensorlist"): _sequence(list),
    ("torch.jit._pickle", "restore_type_tag"): _tagged,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): _numpy_dtype,
    **{
        (f"numpy.{core}.{name}", function): known
        for core in ("core", "_core")
        for name, function, known in (
            ("multiarray", "_reconstruct", lambda *args: ArrayRecord()),
            ("multiarray", "scalar", _numpy_scalar),
            ("numeric", "_frombuffer", _numpy_buffer),
        )
    },
    **{(module, "_reconstructor"): _reconstructed for module in ("copyreg", "copy_reg")},
    **{
        (module, name): known
        for module in ("builtins", "__builtin__")
        for name, known in (
            ("set", _sequence(set)),
            ("frozenset", _sequence(frozenset)),
            ("list", _sequence(list)),
            ("tuple", _sequence(tuple)),
            ("dict", _mapping),
            ("bytearray", _bytearray),
            ("bytes", _bytearray),
            ("complex", _complex),
        )
    },
}
