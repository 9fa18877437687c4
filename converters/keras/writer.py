"""Writes a model as a `.keras` file of real layers, without Keras: configuration, weights, and where layers come from.

A `.keras` file is a zip of metadata.json, config.json and model.weights.h5 (keras/src/saving/saving_lib.py,
`_save_model_to_fileobj`). The weights file has a group layers/<class>[_<n>]/vars for each layer, numbered for each
class in the order of `model.layers` (`_save_container_state`), with datasets 0, 1, ...: the trainable weights, then
the others (keras/src/layers/layer.py, `save_own_variables`). isomorph.json is ours; Keras passes over it.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from isomorph.converters.files import atomic_path
from isomorph.converters.keras import (  # noqa: F401  (the family files register their rules)
    activation,
    attention,
    conv,
    elementwise,
    index,
    linear,
    norm,
    pool,
    recurrent_export,
    reduce,
    resize,
    shape,
)
from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.rules import refusals, rules
from isomorph.converters.keras.serialize import Entry, Tensor, keras_order, model_json, snake_case
from isomorph.converters.rules import Target
from isomorph.errors import GraphError, Unsupported, UnsupportedError
from isomorph.ir import DType, Layout, Model, Node
from isomorph.ir.passes.fold import fold

__all__ = ["target", "write"]

_KERAS_VERSION = "3.15.1"
_DATE = (1980, 1, 1, 0, 0, 0)


def target(opset: int | None = None) -> Target:
    """Channels-last, and what no layer or operation of Keras can say; `opset` has no meaning here."""
    return Target("keras", Layout.CHANNELS_LAST, refuse)


def refuse(node: Node) -> str | None:
    """Why a node cannot be written as it is, None where it can."""
    refusal = refusals.get(type(node.op))
    reason = refusal(node) if refusal is not None else None
    if reason is not None:
        return reason
    if rules.exporter(type(node.op)) is None:
        return "Keras has no layer and no operation for it"
    strange = (value.dtype for value in (*node.operands(), *node.outputs) if value.dtype not in _DTYPES)
    return next((f"Keras has no tensors of {dtype}" for dtype in strange), None)


_DTYPES = {
    DType.FLOAT64, DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT64, DType.INT32, DType.INT16, DType.INT8,
    DType.UINT64, DType.UINT32, DType.UINT16, DType.UINT8, DType.BOOL,
}  # fmt: skip


def write(model: Model, path: Path, *, opset: int | None = None) -> list[str]:
    """Write `model` to `path`, and say what the file could not keep. The same model always gives the same bytes.

    Raises UnsupportedError that lists every node that cannot be written; then no file is left.
    """
    out, inputs, outputs = _build(fold(model))
    entries = keras_order(out.entries, outputs)
    config = model_json(_model_name(model.name), entries, inputs, outputs)
    metadata = {"keras_version": _KERAS_VERSION, "date_saved": "1980-01-01@00:00:00"}
    notes = {"layers": out.notes, "pairing": _pairing(model, inputs, outputs), "untied": out.untied}
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("metadata.json", metadata), ("config.json", config), ("isomorph.json", notes)):
            archive.writestr(zipfile.ZipInfo(name, _DATE), json.dumps(data))
        with tempfile.TemporaryFile(dir=path.parent) as file:
            _write_weights(file, entries)
            _store(archive, "model.weights.h5", file)
    return [
        f"{name} is in {len(layers)} layers, which train apart: {', '.join(layers)}"
        for name, layers in out.untied.items()
    ]


def _build(model: Model) -> tuple[Emitter, list[Tensor], list[Tensor]]:
    """Layers and operations for all nodes, and the tensors that go in and come out."""
    failures = [
        Unsupported(node.op.name, reason, node.describe())
        for node in model.graph.nodes
        if (reason := refuse(node)) is not None
    ]
    failures += [Unsupported("state", "Keras has no input that is kept from run to run", name) for name in model.state]
    if failures:
        raise UnsupportedError("write this model to keras", failures)
    out = Emitter(model.graph)
    inputs = [out.input(value) for value in model.graph.inputs]
    for node in model.graph.nodes:
        rule = rules.exporter(type(node.op))
        if rule is None:
            raise GraphError(f"{node.op.name} lost its export rule")
        made = rule(out, node)
        for value, tensor in zip(node.outputs, [made] if isinstance(made, Tensor) else made, strict=True):
            out.bind(value, tensor)
    return out, inputs, out.outputs()


def _model_name(name: str) -> str:
    return name.replace("/", "_") or "model"


def _pairing(model: Model, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Any:
    """How the signature relates to the source's, under the names that inputs and outputs have in this file."""
    stated = json.loads(model.metadata.get("isomorph.pairing", "{}"))
    names = {
        "inputs": dict(
            zip((value.name for value in model.graph.inputs), (tensor.entry.name for tensor in inputs), strict=True)
        ),
        "outputs": dict(zip(model.graph.outputs, (tensor.entry.name for tensor in outputs), strict=True)),
    }
    if not stated:
        stated = {
            kind: [{"source": name, "target": name, "perm": None} for name in renamed]
            for kind, renamed in names.items()
        }
    return {
        kind: [{**item, "target": names[kind].get(item["target"], item["target"])} for item in stated.get(kind, [])]
        for kind in names
    }


def _write_weights(file: IO[bytes], entries: Sequence[Entry]) -> None:
    """model.weights.h5, one weight in memory at a time."""
    used: Counter[str] = Counter()
    with h5py.File(file, "w") as root:
        layers = root.create_group("layers")
        root.create_group("vars")
        for entry in entries:
            if not entry.is_layer:
                continue
            kind = snake_case(entry.cls)
            place = f"{kind}_{used[kind]}" if used[kind] else kind
            used[kind] += 1
            group = layers.create_group(f"{place}/vars")
            group.attrs["name"] = entry.name
            counts: Counter[str] = Counter()
            for weight in entry.weights:
                array = np.ascontiguousarray(weight.data.numpy())
                inside = f"{place}/{weight.owner}/vars" if weight.owner else f"{place}/vars"
                number, counts[weight.owner] = counts[weight.owner], counts[weight.owner] + 1
                dataset = layers.create_dataset(f"{inside}/{number}", data=array, track_times=False)
                if weight.data.dtype is DType.BFLOAT16:
                    dataset.attrs["dtype"] = "bfloat16"


def _store(archive: zipfile.ZipFile, name: str, file: IO[bytes]) -> None:
    """Append a file as a stored member."""
    size = file.seek(0, 2)
    file.seek(0)
    with archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=size >= 1 << 31) as member:
        while block := file.read(1 << 22):
            member.write(block)
