"""Writes ONNX files: deterministic bytes, readable names, provenance as structured metadata.

Node metadata `isomorph.scope` is a JSON list of [path, class, call], `isomorph.origin` a JSON object; the metadata of
the model keeps what the source carried.
A tensor that the model keeps from run to run (`Model.state`) is an input with an initializer of the same name, its
default, and an output; `isomorph.state` in the metadata of the model says which output is which input's next value.

See: onnx.proto (NodeProto.metadata_props, since IR version 10).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import TensorProto, helper

import isomorph.converters.onnx.families  # registers the rules
import isomorph.converters.onnx.reference  # noqa: F401  (computes what is preserved)
from isomorph import __version__
from isomorph.converters.files import atomic_path
from isomorph.converters.onnx.attention import refuse_attention
from isomorph.converters.onnx.codec import ELEMENT_TYPES, STATE, element_type, tensor_proto, value_info
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.functions import names_read
from isomorph.converters.onnx.norm import smallest_epsilon
from isomorph.converters.onnx.pool import window_attributes
from isomorph.converters.onnx.preserved import versions
from isomorph.converters.onnx.quant import refuse_quantization
from isomorph.converters.onnx.random import refuse_random
from isomorph.converters.onnx.resize import scales_give_sizes
from isomorph.converters.onnx.rotary import refuse_rotary
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.signal import refuse_dft, refuse_stft
from isomorph.converters.onnx.stream import Weight, elements, write_model
from isomorph.converters.rules import Target
from isomorph.errors import TargetExistsError, UsageError
from isomorph.ir import DType, Graph, Layout, Model, Node, Op, TensorSource, Value, ops

__all__ = ["DEFAULT_OPSET", "NEWEST_OPSET", "OLDEST_OPSET", "opset_for", "target", "write"]

OLDEST_OPSET = 13
NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), 28)
DEFAULT_OPSET = 24
"""The newest for which onnxruntime 1.32 runs every operator that is written: from 25 on it has neither a kernel nor a
function body for Swish, which is decomposed there. Measured with all rows of the op table at every opset from 13 to 28.
"""
EXTERNAL_DATA_FROM = 1 << 30
"""Weights of more bytes than this in total go to `NAME.onnx.data` (protobuf ends at 2 GiB)."""
_ALIGNMENT = 4096
_SMALL = 1024
"""Tensors of fewer bytes stay in the .onnx: runtimes read shapes and scales there."""
_PACKED = tuple(dtype for dtype in DType if dtype is DType.STRING or dtype.bits < 8)
"""Element types whose file form is not their memory form."""
_OLDEST_IR_VERSION = 10
"""The first IR version with metadata on nodes and tensors."""

_SINCE: dict[type[Op], int] = {
    ops.LayerNormalization: 17,
    ops.GroupNormalization: 21,
    ops.RMSNormalization: 23,
    ops.Gelu: 20,
    ops.HardSwish: 14,
    ops.Mish: 18,
    ops.Swish: 24,
    ops.Trilu: 14,
    ops.GridSample: 16,
    ops.AffineGrid: 20,
    ops.Col2Im: 18,
    ops.DeformConv: 19,
    ops.BitwiseAnd: 18,
    ops.BitwiseOr: 18,
    ops.BitwiseXor: 18,
    ops.BitwiseNot: 18,
    ops.TensorScatter: 24,
    ops.BitCast: 26,
    ops.CumProd: 26,
    ops.MultiHeadAttention: 23,
    ops.ScaledDotProductAttention: 23,
    ops.RotaryEmbedding: 23,
}
"""The opset that introduced an op in the form that the IR follows. See: the operator changelog of ONNX."""


_RUNS_UNTIL: dict[type[Op], int] = {
    ops.RoiAlign: 21,
    ops.MaxRoiPool: 21,
    ops.RandomNormal: 21,
    ops.RandomUniform: 21,
    ops.Bernoulli: 21,
    ops.Multinomial: 21,
}
"""The newest opset for whose definition of an operator onnxruntime 1.32 has a kernel, where that is not the default."""
_SLOW_FROM: dict[type[Op], int] = {ops.Swish: 24}
"""Operators that onnxruntime 1.32 expands, and the opset from which they are whole. EfficientNet-B0 takes 1.2 times as
long with Swish, which becomes Cast, Sigmoid and Mul, as with Sigmoid and Mul, which become one kernel. A file of ONNX
keeps them.
"""


def opset_for(model: Model) -> int:
    """The opset to write a model in where none is asked for: the default, or what onnxruntime runs all of it in.

    A file of ONNX keeps its own, so that what reads it reads the result; a newer one only where it has operators of
    other domains that the standard domain has from then on.
    """
    nodes = list(_all_nodes(model.graph))
    newest = min((_RUNS_UNTIL.get(type(node.op), DEFAULT_OPSET) for node in nodes), default=DEFAULT_OPSET)
    if model.source[0] == "onnx":
        stated = int(model.source[1].rpartition(" ")[2] or 0)
        needed = max((min(_SINCE.get(type(node.op), 0), DEFAULT_OPSET) for node in nodes), default=0)
        runs = min((_RUNS_UNTIL.get(type(node.op), NEWEST_OPSET) for node in nodes), default=NEWEST_OPSET)
        newest = min(runs, max(stated, needed)) if stated else newest
    else:
        newest = min([newest, *(_SLOW_FROM[type(node.op)] - 1 for node in nodes if type(node.op) in _SLOW_FROM)])
    kept = [versions(node) for node in nodes if isinstance(node.op, ops.Preserved)]
    oldest = max((low for low, _ in kept), default=OLDEST_OPSET)
    latest = min((high for _, high in kept), default=NEWEST_OPSET)
    chosen = max(OLDEST_OPSET, min(latest, max(oldest, newest)))
    return next((opset for opset in range(chosen, latest + 1) if _has_all(nodes, opset)), chosen)


def _has_all(nodes: Sequence[Node], opset: int) -> bool:
    """Whether ONNX of this opset has the element types, and for them the operators that cannot be put together."""
    dtypes = {value.dtype for node in nodes for value in (*node.operands(), *node.outputs)}
    return all(_takes("Identity", opset, dtype, 0, False) for dtype in dtypes) and not any(
        _refuse_types(node, opset) is not None
        or _is_younger(_ONNX_NAMES.get(type(node.op), node.op.name), _SINCE.get(type(node.op), 0), opset)
        for node in nodes
        if not node.op.can_decompose()
    )


@cache
def _is_younger(name: str, since: int, opset: int) -> bool:
    """Whether a newer opset introduced an operator of the name, or the form of it that the IR follows (`since`)."""
    if opset < since or not onnx.defs.has(name):
        return opset < since
    try:
        onnx.defs.get_schema(name, opset)
    except onnx.defs.SchemaError:
        return True
    return False


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from _all_nodes(region)


def target(opset: int | None = None) -> Target:
    """What ONNX of this opset can take. Raises UsageError for an opset that cannot be written."""
    chosen = _checked(opset)
    return Target("onnx", Layout.CHANNELS_FIRST, lambda node: _refuse(node, chosen))


def write(model: Model, path: Path, *, opset: int | None = None) -> None:
    """Write a prepared model to `path`; weights of more than 1 GB in all to `path` + ".data" beside it."""
    chosen = _checked(opset)
    export = Export(model, chosen)
    for node in model.graph.nodes:
        rule = rules.exporter(type(node.op))
        assert rule is not None, node.op
        export.begin(node)
        rule(export, node)
    sources: dict[str, TensorSource] = {packed.name: packed.data for packed in export.packed.values()}
    absent = _only_packed(export) | _only_inside(export)
    for value in export.weights:
        if value.parameter is not None and value not in absent:
            perm = export.stored_perms.get(value)
            data = value.parameter.data
            sources[export.name(value)] = data if perm is None else data.permuted(perm)
    sources.update(export.constants)
    sources.update((name, state.initial.data) for name, state in model.state.items() if state.initial is not None)
    graph = _graph(export)
    opsets = [helper.make_opsetid("", chosen)]
    ir_version = max(_OLDEST_IR_VERSION, helper.find_min_ir_version_for(opsets))
    opsets += [helper.make_opsetid(domain, number) for domain, number in sorted(_domains(model).items())]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    proto.producer_name, proto.producer_version = "isomorph", __version__
    for key in sorted(model.metadata):
        proto.metadata_props.add(key=key, value=model.metadata[key])
    if model.state:
        states = {name: state.output for name, state in model.state.items()}
        proto.metadata_props.add(key=STATE, value=json.dumps(states))
    if sum(source.nbytes for source in sources.values()) > EXTERNAL_DATA_FROM:
        _write_with_data(proto, sources, export, path)
        return
    weights = [_weight(name, source) for name, source in sources.items()]
    _annotate_weights(weights, export)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_model(file, proto, weights)


def _domains(model: Model) -> dict[str, int]:
    """The versions of the domains, other than ONNX's own, whose operators the model keeps."""
    found: dict[str, int] = {}
    for node in _all_nodes(model.graph):
        if isinstance(node.op, ops.Preserved):
            for domain, version in ((node.op.domain, node.op.version), *node.op.imports):
                found[domain] = max(version, found.get(domain, 0))
    return {domain: version for domain, version in found.items() if domain}


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


def _annotate_weights(weights: Sequence[Weight], export: Export) -> None:
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


def _checked(opset: int | None) -> int:
    chosen = DEFAULT_OPSET if opset is None else opset
    if not OLDEST_OPSET <= chosen <= NEWEST_OPSET:
        raise UsageError(f"cannot write opset {chosen}", advice=f"choose --opset {OLDEST_OPSET} to {NEWEST_OPSET}")
    return chosen


def _refuse(node: Node, opset: int) -> str | None:
    op = node.op
    if rules.exporter(type(op)) is None:
        return "ONNX has no such operator"
    if opset < _SINCE.get(type(op), 0):
        return f"opset {opset} has it only from {_SINCE[type(op)]} on"
    if getattr(op, "layout", Layout.CHANNELS_FIRST) is not Layout.CHANNELS_FIRST:
        return "ONNX has windowed operators for channels-first data only"
    if (
        isinstance(
            op,
            ops.BatchNormalization
            | ops.InstanceNormalization
            | ops.GroupNormalization
            | ops.LocalResponseNormalization,
        )
        and op.axis != 1
    ):
        return f"ONNX has it for channels on axis 1, not {op.axis}"
    check = _CHECKS.get(type(op))
    reason = check(node, opset) if check is not None else None
    return reason if reason is not None else _refuse_types(node, opset)


def _refuse_types(node: Node, opset: int) -> str | None:
    """The element types of operands and results against the operator's schema, where the IR's operands are ONNX's."""
    if isinstance(node.op, ops.OneHot | ops.Embedding | ops.Recurrent | ops.Preserved) or node.regions:
        return None
    name = _ONNX_NAMES.get(type(node.op), node.op.name)
    for values, outputs in ((node.inputs, False), (node.outputs, True)):
        for position, value in enumerate(values):
            if value is not None and not _takes(name, opset, value.dtype, position, outputs):
                return f"opset {opset} has it not for {value.dtype}"
    return None


@cache
def _takes(name: str, opset: int, dtype: DType, position: int, outputs: bool) -> bool:
    """Whether the ONNX operator of this name, if there is one, takes (or gives) this element type there."""
    try:
        schema = onnx.defs.get_schema(name, opset)
    except onnx.defs.SchemaError:
        return True
    formal = schema.outputs if outputs else schema.inputs
    return not formal or _TYPE_NAMES[dtype] in formal[min(position, len(formal) - 1)].types


_ONNX_NAMES: dict[type[Op], str] = {
    ops.Linear: "Gemm",
    ops.LocalResponseNormalization: "LRN",
    ops.MaxPoolWithIndices: "MaxPool",
}
_TYPE_NAMES = {dtype: f"tensor({TensorProto.DataType.Name(code).lower()})" for dtype, code in ELEMENT_TYPES.items()}


def _refuse_linear(node: Node, opset: int) -> str | None:
    x = node.inputs[0]
    return None if x is not None and x.rank == 2 else "Gemm takes matrices only"


def _refuse_lp(node: Node, opset: int) -> str | None:
    """ONNX gives 0 where the norm is 0; the IR does so with the smallest epsilon (see read_lp_normalization)."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.LpNormalization) and x is not None
    plain = len(op.axes) == 1 and op.epsilon == smallest_epsilon(x.dtype)
    return None if plain else "LpNormalization has one axis and no epsilon"


def _refuse_lrn(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.LocalResponseNormalization)
    return None if node.op.size % 2 else "runtimes take windows of odd sizes only"


def _refuse_double(node: Node, opset: int) -> str | None:
    x = node.inputs[0]
    return "ONNX takes the statistics in float32" if x is not None and x.dtype is DType.FLOAT64 else None


def _refuse_scatter(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.ScatterElements | ops.ScatterND)
    since = {"none": 0, "add": 16, "mul": 16}.get(node.op.reduction, 18)
    return f"opset {opset} has the reduction {node.op.reduction!r} only from {since} on" if opset < since else None


def _refuse_resize(node: Node, opset: int) -> str | None:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Resize) and x is not None
    known = x.type.is_static and node.output.type.is_static
    if known and x.dtype in (DType.BOOL, DType.INT16, DType.INT64, DType.FLOAT64):
        return f"onnxruntime has no kernel for {x.dtype}"
    if op.antialias and opset < 18:
        return f"opset {opset} has antialias only from 18 on"
    return None if scales_give_sizes(op, x.shape[2:]) else "ONNX computes other sizes from its scales"


_WITHOUT_KERNEL: dict[type[Op], frozenset[DType]] = {
    ops.Where: frozenset({DType.BOOL, DType.INT16}),
    ops.Trilu: frozenset({DType.UINT8, DType.INT8, DType.INT16}),
    ops.Pad: frozenset({DType.INT16}),
    ops.DepthToSpace: frozenset({DType.BOOL, DType.INT16, DType.INT32, DType.INT64}),
    ops.SpaceToDepth: frozenset({DType.BOOL, DType.INT16, DType.INT32, DType.INT64}),
    ops.OneHot: frozenset({DType.BOOL, DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.FLOAT64}),
}
"""Element types for which ONNX has an operator and onnxruntime 1.32 no kernel (on the CPU): the op is put together."""


def _refuse_kernel(node: Node, opset: int) -> str | None:
    lacking = _WITHOUT_KERNEL[type(node.op)]
    return f"onnxruntime has no kernel for {node.output.dtype}" if node.output.dtype in lacking else None


def _refuse_pad(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.Pad)
    if (reason := _refuse_kernel(node, opset)) is not None and all(
        isinstance(size, int) for pair in node.op.pads for size in pair
    ):
        return reason
    return f"opset {opset} has the mode 'wrap' only from 19 on" if node.op.mode == "wrap" and opset < 19 else None


def _refuse_reshape(node: Node, opset: int) -> str | None:
    """Before opset 14 a size of 0 means the operand's size on that axis."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Reshape) and x is not None
    copied = all(axis < x.rank and x.shape[axis] == 0 for axis, dim in enumerate(op.shape) if dim == 0)
    return None if copied or opset >= 14 else f"opset {opset} has sizes of 0 only from 14 on"


def _refuse_swish(node: Node, opset: int) -> str | None:
    return "onnxruntime has no kernel for it, and its function body ends at opset 24" if opset > 24 else None


def _refuse_cast(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.Cast)
    if node.origin.framework == "onnx":
        return None
    text = node.op.to is DType.STRING or any(value.dtype is DType.STRING for value in node.operands())
    return "how numbers are spelled as text differs between runtimes" if text else None


def _refuse_global(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.GlobalAveragePool | ops.GlobalMaxPool)
    return None if node.op.keepdims else "ONNX's global pools keep the reduced axes"


def _refuse_average(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.AveragePool)
    dilated = any(step != 1 for step in node.op.dilations)
    return f"opset {opset} has no dilations here" if dilated and opset < 19 else _refuse_ceil(node, opset)


def _refuse_lp_pool(node: Node, opset: int) -> str | None:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.LpPool) and x is not None
    if opset < 18 and (op.ceil_mode or any(step != 1 for step in op.dilations)):
        return f"opset {opset} has dilations and ceil_mode only from 18 on"
    return _refuse_ceil(node, opset) if x.dtype is DType.FLOAT32 else f"onnxruntime has no kernel for {x.dtype}"


def _refuse_ceil(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.AveragePool | ops.MaxPool | ops.LpPool) and node.inputs[0] is not None
    if window_attributes(node.op, node.inputs[0].shape[2:], opset) is None:
        return f"opset {opset} keeps a last window that lies in the padding"
    return None


def _refuse_recurrent(node: Node, opset: int) -> str | None:
    named = node.op.operands(node.inputs)  # type: ignore[attr-defined]
    x = node.inputs[0]
    if named.get("proj") is not None:
        return "ONNX has no projection of the state"
    if x is not None and x.dtype is DType.FLOAT64:
        return "onnxruntime has no kernel for float64"
    if x is not None and not _takes(node.op.name, opset, x.dtype, 0, False):
        return f"opset {opset} has it not for {x.dtype}"
    return None


def _refuse_indices(node: Node, opset: int) -> str | None:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.MaxPoolWithIndices) and x is not None
    if window_attributes(op.plain(), x.shape[2:], opset) is None:
        return f"opset {opset} keeps a last window that lies in the padding"
    return None


def _refuse_sampling(node: Node, opset: int) -> str | None:
    x = node.inputs[0]
    volume = x is not None and x.rank != 4 and opset < 20
    return f"opset {opset} samples images only" if volume else None


def _refuse_grid(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.AffineGrid)
    alone = node.op.align_corners and 1 in node.op.size
    return "the corners of a single cell are at -1 there, not at 0" if alone else None


def _refuse_regions(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.RoiAlign)
    older = opset < 16 and node.op.coordinates == "half_pixel"
    return f"opset {opset} has half_pixel only from 16 on" if older else None


def _refuse_dropout(node: Node, opset: int) -> str | None:
    """A file of ONNX is for inference; one that has Dropout keeps it."""
    return None if node.origin.framework == "onnx" else "it does nothing at inference"


def _refuse_preserved(node: Node, opset: int) -> str | None:
    op = node.op
    assert isinstance(op, ops.Preserved)
    if op.framework != "onnx":
        return f"it is an operator of {op.framework}"
    low, high = versions(node)
    return None if low <= opset <= high else f"opset {opset} defines it otherwise than opset {op.version}"


def _refuse_mod(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.Mod)
    x = node.inputs[0]
    return (
        "Mod of floating-point numbers needs fmod" if x is not None and x.dtype.is_float and not node.op.fmod else None
    )


_CHECKS: dict[type[Op], Callable[[Node, int], str | None]] = {
    ops.Linear: _refuse_linear,
    ops.LpNormalization: _refuse_lp,
    ops.GlobalAveragePool: _refuse_global,
    ops.GlobalMaxPool: _refuse_global,
    ops.AveragePool: _refuse_average,
    ops.MaxPool: _refuse_ceil,
    ops.LpPool: _refuse_lp_pool,
    ops.MaxPoolWithIndices: _refuse_indices,
    ops.GridSample: _refuse_sampling,
    ops.RoiAlign: _refuse_regions,
    ops.AffineGrid: _refuse_grid,
    ops.Mod: _refuse_mod,
    ops.RNN: _refuse_recurrent,
    ops.GRU: _refuse_recurrent,
    ops.LSTM: _refuse_recurrent,
    ops.LocalResponseNormalization: _refuse_lrn,
    ops.LayerNormalization: _refuse_double,
    ops.GroupNormalization: _refuse_double,
    ops.RMSNormalization: _refuse_double,
    ops.ScatterElements: _refuse_scatter,
    ops.ScatterND: _refuse_scatter,
    ops.Resize: _refuse_resize,
    **dict.fromkeys(_WITHOUT_KERNEL, _refuse_kernel),
    ops.Pad: _refuse_pad,
    ops.Reshape: _refuse_reshape,
    ops.Swish: _refuse_swish,
    ops.QuantizeLinear: refuse_quantization,
    ops.DequantizeLinear: refuse_quantization,
    ops.RandomNormal: refuse_random,
    ops.Bernoulli: refuse_random,
    ops.Multinomial: refuse_random,
    ops.DFT: refuse_dft,
    ops.STFT: refuse_stft,
    ops.Cast: _refuse_cast,
    ops.MultiHeadAttention: refuse_attention,
    ops.RotaryEmbedding: refuse_rotary,
    ops.ScaledDotProductAttention: refuse_attention,
    ops.Dropout: _refuse_dropout,
    ops.Preserved: _refuse_preserved,
}


def _graph(export: Export) -> onnx.GraphProto:
    model = export.model
    inputs = [value_info(value.name, value.type) for value in model.graph.inputs]
    outputs, seen = [], set()
    for name, value in model.graph.outputs.items():
        if export.name(value) != name:
            export.nodes.append(
                helper.make_node("Identity", [export.name(value)], [name], name=export.fresh(f"{name}.identity"))
            )
        outputs.append(value_info(name, value.type))
        seen.add(name)
    made = {name for node in export.nodes for name in node.output}
    infos = [
        value_info(export.name(value), value.type)
        for node in model.graph.nodes
        for value in node.outputs
        if export.name(value) in made and export.name(value) not in seen
    ]
    return helper.make_graph(export.nodes, model.name or "model", inputs, outputs, value_info=infos)


def _write_with_data(proto: onnx.ModelProto, sources: dict[str, TensorSource], export: Export, path: Path) -> None:
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
            _annotate_weights(weights, export)
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
        if source.nbytes < _SMALL or source.dtype in _PACKED:
            weights.append(_weight(name, source))
            continue
        file.write(bytes(-file.tell() % _ALIGNMENT))
        tensor = onnx.TensorProto(name=name, dims=source.shape, data_type=element_type(source.dtype))
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": location, "offset": str(file.tell()), "length": str(source.nbytes)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        for chunk in elements(source):
            file.write(chunk)
        weights.append(Weight(tensor, None))
    return weights
