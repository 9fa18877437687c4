"""Weights on their way into a file: which of them it has, what it says of each, and which lie beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import TensorProto

from isomorph.converters.files import atomic_path
from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.functions import names_read
from isomorph.converters.onnx.stream import Weight, elements, write_model
from isomorph.converters.onnx.tensors import packed_elements, tensor_proto
from isomorph.errors import TargetExistsError
from isomorph.ir import DType, TensorSource, Value

__all__ = ["lie_beside", "sources_of", "write_alone", "write_with_data"]

_ALIGNMENT = 4096
_SMALL = 1024
"""Tensors of fewer bytes stay in the .onnx: runtimes read shapes and scales there."""
_PACKED = tuple(dtype for dtype in DType if dtype is DType.STRING or dtype.bits < 8)
"""Element types whose file form is not their memory form."""


def _only_inside(export: Export) -> set[Value]:
    """The parameters that are in the file as attributes of nodes alone."""
    read = names_read(export.nodes)
    return {value for value in export.inside_nodes - export.outputs if export.name(value) not in read}


def _only_packed(export: Export) -> set[Value]:
    """The parameters that are in the file as parts of packed ones alone."""
    read = names_read(export.nodes)
    merged = {packed.name for packed in export.packed.values()}
    parts = {part for packed in export.packed.values() for part in packed.parts} - export.outputs
    return {part for part in parts if export.name(part) in merged or export.name(part) not in read}


def _weight(name: str, source: TensorSource) -> Weight:
    if source.dtype in _PACKED:
        return Weight(tensor_proto(name, source), None)
    return Weight(onnx.TensorProto(name=name, dims=source.shape, data_type=element_type(source.dtype)), source)


def _annotate(weights: Sequence[Weight], export: Export) -> None:
    """Say of each weight what a reader cannot see: the order it is stored in, whether it is a buffer or frozen."""
    known = {export.name(value): value for value in export.weights}
    packed = {each.name: each.notes for each in export.packed.values()}
    for tensor in (weight.proto for weight in weights):
        if tensor.name in packed:
            for key, text in packed[tensor.name].items():
                tensor.metadata_props.add(key=key, value=text)
            continue
        value = known.get(tensor.name)
        if value is None or value.parameter is None:
            continue
        if value in export.stored_perms:
            tensor.metadata_props.add(key="isomorph.perm", value=str(list(export.stored_perms[value])))
        if value.parameter.role != "weight":
            tensor.metadata_props.add(key="isomorph.role", value=value.parameter.role)
        elif not value.parameter.trainable:
            tensor.metadata_props.add(key="isomorph.trainable", value="false")


def write_with_data(proto: onnx.ModelProto, sources: dict[str, TensorSource], export: Export, path: Path) -> None:
    """Write NAME.onnx and NAME.onnx.data. Both are complete and on disk under other names before either is renamed:
    the data first, so that NAME.onnx never names data that is not there.
    """
    data_path = path.with_name(f"{path.name}.data")
    if data_path.exists() and not path.exists():
        raise TargetExistsError(f"the target exists: {data_path}", advice="remove it, or choose another name")
    before = _identity(data_path)
    try:
        with atomic_path(path) as temporary, atomic_path(data_path) as temporary_data:
            with temporary_data.open("wb") as data:
                weights = _stream_data(sources, data, data_path.name)
            _annotate(weights, export)
            with temporary.open("wb") as file:
                write_model(file, proto, weights)
    except BaseException:
        if before is None:  # else the data was not renamed yet, or belongs to the model that was to be replaced
            data_path.unlink(missing_ok=True)
        elif _identity(data_path) != before:
            path.unlink(missing_ok=True)  # the old model's data is gone; without it, the file would be a wrong model
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from one that took its name, None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _stream_data(sources: dict[str, TensorSource], file: BinaryIO, location: str) -> list[Weight]:
    weights = []
    for name, source in sources.items():
        if source.nbytes < _SMALL or source.dtype is DType.STRING:
            weights.append(_weight(name, source))
            continue
        file.write(bytes(-file.tell() % _ALIGNMENT))
        tensor = onnx.TensorProto(name=name, dims=source.shape, data_type=element_type(source.dtype))
        tensor.data_location = TensorProto.EXTERNAL
        offset = file.tell()
        for chunk in elements(source) if source.dtype.bits >= 8 else packed_elements(source):
            file.write(chunk)
        entries = {"location": location, "offset": str(offset), "length": str(file.tell() - offset)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        weights.append(Weight(tensor, None))
    return weights


def sources_of(export: Export) -> dict[str, TensorSource]:
    """The elements of every initializer, by its name in the file."""
    sources: dict[str, TensorSource] = {packed.name: packed.data for packed in export.packed.values()}
    absent = _only_packed(export) | _only_inside(export)
    for value in export.weights:
        if value.parameter is not None and value not in absent:
            perm = export.stored_perms.get(value)
            data = value.parameter.data
            sources[export.name(value)] = data if perm is None else data.permuted(perm)
    sources.update(export.constants)
    state = export.model.state.items()
    sources.update((name, each.initial.data) for name, each in state if each.initial is not None)
    return sources


def lie_beside(sources: Iterable[TensorSource], threshold: int) -> bool:
    """Whether the weights are more bytes than this, and one of them is large enough to lie in another file."""
    sizes = [0 if source.dtype is DType.STRING else source.nbytes for source in sources]
    return sum(sizes) > threshold and max(sizes, default=0) >= _SMALL


def write_alone(proto: onnx.ModelProto, sources: dict[str, TensorSource], export: Export, path: Path) -> None:
    """Write NAME.onnx with all weights in it."""
    weights = [_weight(name, source) for name, source in sources.items()]
    _annotate(weights, export)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_model(file, proto, weights)
