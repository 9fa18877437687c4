"""Sparse tensors: values and where they lie. The IR has dense ones; the elements that are not stated are 0.

    values (NNZ,), indices (NNZ,) in C order or (NNZ, rank), dims   ->   a tensor of the shape dims

See: onnx.proto, SparseTensorProto.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from isomorph.converters.onnx.tensors import tensor_source
from isomorph.errors import MalformedError, Unsupported, UnsupportedError
from isomorph.ir import DerivedTensor, DType, TensorSource

__all__ = ["dense_source"]

_ALWAYS_DENSE = 1 << 24
_MOST_SPREAD = 1024
"""A dense tensor of more bytes than _ALWAYS_DENSE takes at most so many times the bytes of what is stated."""


def dense_source(proto: onnx.SparseTensorProto, folder: Path | None) -> TensorSource:
    """The tensor with its zeros, made when it is read. Raises MalformedError, UnsafeError, UnsupportedError."""
    where = f"sparse tensor {proto.values.name!r}"
    shape = tuple(int(size) for size in proto.dims)
    values, indices = tensor_source(proto.values, folder), tensor_source(proto.indices, folder)
    if any(size < 0 for size in shape) or math.prod(max(size, 1) for size in shape) >= 1 << 59:
        raise MalformedError(f"{where} has the shape {list(shape)}")
    if len(values.shape) != 1 or indices.shape not in (values.shape, (*values.shape, len(shape))):
        raise MalformedError(f"{where} has values {list(values.shape)} at indices {list(indices.shape)}")
    if indices.dtype is not DType.INT64:
        raise MalformedError(f"{where} has indices of {indices.dtype}, not int64")
    size = math.prod(shape) * values.dtype.itemsize
    if size > max(_ALWAYS_DENSE, _MOST_SPREAD * (values.nbytes + indices.nbytes)):
        reason = f"{values.size} values in a tensor of {size} bytes; isomorph has dense tensors only"
        raise UnsupportedError("read onnx", [Unsupported("sparse tensor", reason, proto.values.name)])
    _check(indices.numpy(), shape, where)
    return DerivedTensor(values.dtype, shape, (values, indices), lambda data, at: _dense(data, at, shape))


def _check(indices: npt.NDArray[Any], shape: tuple[int, ...], where: str) -> None:
    """Every index lies in the tensor, and each element is stated once."""
    limits = np.asarray(shape if indices.ndim == 2 else math.prod(shape), np.int64)
    if (indices < 0).any() or (indices >= limits).any():
        raise MalformedError(f"{where} has an index outside of {list(shape)}")
    flat = _flat(indices, shape)
    if np.unique(flat).size != flat.size:
        raise MalformedError(f"{where} states an element twice")


def _flat(indices: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Indices in C order."""
    if indices.ndim == 1:
        return indices
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    flat: npt.NDArray[Any] = indices @ np.asarray(strides, np.int64)
    return flat


def _dense(values: npt.NDArray[Any], indices: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    made = (
        np.zeros(math.prod(shape), values.dtype) if values.dtype != object else np.full(math.prod(shape), b"", object)
    )
    made[_flat(indices, shape)] = values
    return made.reshape(shape)
