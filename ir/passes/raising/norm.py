"""Normalization that a source spells out (see moments.py).

    w * (x / root mean square of x)                     ->  RMSNormalization(x, w)         over the last axis
    x normalized, w * (…), … + b                        ->  LayerNormalization(x, w, b)    over the last axes
    x normalized                                        ->  InstanceNormalization(x)       over all axes but 0 and one

The same formula in float32; rounding may differ in the last place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Add, Div, Mul
from isomorph.ir.ops.norm import InstanceNormalization, LayerNormalization, RMSNormalization
from isomorph.ir.ops.pool import GlobalAveragePool
from isomorph.ir.ops.reduce import ReduceMean
from isomorph.ir.ops.shape import Reshape
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.group_norm import in_shape, raise_group_norms, raise_groups_of_last
from isomorph.ir.passes.raising.moments import Normalized, read_affine, read_normalized, read_scaled
from isomorph.ir.passes.raising.scores import Readers

__all__ = ["raise_norms"]


def raise_norms(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with the layers above, and GroupNormalization, where their formulas are spelled out.

    A target that refuses RMSNormalization gets our spelling of it, which runtimes recognize.
    """
    if any(isinstance(node.op, ReduceMean | GlobalAveragePool) for node in model.graph.nodes):
        model = raise_groups_of_last(model, refuse)
        readers = Readers(model.graph)

        def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
            found = _read(node)
            for y in () if found is None else _raised(b, found, _is_of_groups(node, found, readers), readers):
                if not refuses(refuse, y) or _is_of_root(y):
                    return (y,)
            return None

        model = _add_biases(prune(rewrite(model, "raise_norms", change)))
    return raise_group_norms(model, refuse)


def _is_of_root(y: Value) -> bool:
    return y.producer is not None and isinstance(y.producer.op, RMSNormalization)


def _read(node: Node) -> Normalized | None:
    """What a node normalizes, and the scale that it multiplies it by."""
    if len(node.outputs) != 1 or node.output.dtype is not DType.FLOAT32:
        return None
    if isinstance(node.op, Add):
        found = read_affine(node)
        return found if found is not None and found.x.type == node.output.type else None
    if not isinstance(node.op, Mul | Div):
        return None
    for scale, product in (node.inputs, node.inputs[::-1]) if isinstance(node.op, Mul) else ():
        found = read_normalized(product.producer) if product is not None and product.producer is not None else None
        if found is None or scale is None or found.x.type != node.output.type or not _fits(scale, found):
            continue
        return Normalized(found.x, found.axes, found.epsilon, found.centered, scale)
    spelled = read_scaled(node)
    if spelled is not None and spelled.x.type == node.output.type and spelled.scale is not None:
        return spelled if _fits(spelled.scale, spelled) else None
    found = read_normalized(node)
    return found if found is not None and found.centered and found.x.type == node.output.type else None


def _fits(vector: Value, found: Normalized) -> bool:
    """Whether a value has an element for each that is normalized together, and nothing else but axes of size 1."""
    shape = found.x.shape[found.axes[0] :]
    missing = vector.rank - len(shape)
    return _last(found) and 0 <= missing <= found.axes[0] and vector.shape == (*(1,) * missing, *shape)


def _last(found: Normalized) -> bool:
    """Whether the axes are the last ones."""
    return found.axes == tuple(range(found.x.rank - len(found.axes), found.x.rank))


def _is_of_groups(node: Node, found: Normalized, readers: Readers) -> bool:
    """Whether what is normalized stands between two reshapes."""
    users = readers.of(node.output)
    return operand(found.x, Reshape) is not None and len(users) == 1 and isinstance(users[0].op, Reshape)


def _raised(b: Rewriter, found: Normalized, of_groups: bool, readers: Readers) -> Iterator[Value]:
    """The layers that it may be, as far as its scale and bias fit them."""
    x, axis = b.new(found.x), found.axes[0]
    vectors = [value for value in (found.scale, found.bias) if value is not None]
    if not all(_fits(value, found) for value in vectors):
        return
    shape = found.x.shape[axis:]
    scale, bias = (value and in_shape(b, value, shape, readers) for value in (found.scale, found.bias))
    if not found.centered:
        if len(found.axes) == 1:
            yield b.emit(RMSNormalization(found.epsilon, axis), x, scale)
        return
    channels = [place for place in range(1, x.rank) if place not in found.axes]
    separate = len(channels) == 1 and 0 not in found.axes and isinstance(x.shape[channels[0]], int) and not vectors
    if separate and (of_groups or x.rank > 3 or not _last(found)):
        yield b.emit(InstanceNormalization(found.epsilon, channels[0]), x)
    if _last(found) and (scale is not None or all(isinstance(dim, int) for dim in x.shape[axis:])):
        yield b.emit(LayerNormalization(found.epsilon, axis), x, scale, bias)


def _add_biases(model: Model) -> Model:
    """The model with vectors that are added to a LayerNormalization alone as its bias."""
    if not any(isinstance(node.op, LayerNormalization) for node in model.graph.nodes):
        return model
    users, shown = model.graph.users(), set(model.graph.outputs.values())

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if not isinstance(node.op, Add):
            return None
        for y, bias in (node.inputs, node.inputs[::-1]):
            norm = y.producer if y is not None and y not in shown and len(users[y]) == 1 else None
            if y is None or bias is None or norm is None or not isinstance(norm.op, LayerNormalization):
                continue
            if len(norm.inputs) < 3 and bias.shape == y.shape[norm.op.axis :]:
                operands = [value and b.new(value) for value in (*norm.inputs, None)[:2]]
                return (b.emit(norm.op, *operands, b.new(bias)),)
        return None

    return prune(rewrite(model, "raise_norms", change))
