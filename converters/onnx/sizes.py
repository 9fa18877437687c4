"""Shape arithmetic: chains of Shape, Gather, Concat and integer arithmetic are evaluated symbolically when reading.

A rule here gets the known values of all operands (arrays of ints and Syms) and returns the known value of the result,
or None where the result depends on more than the shapes of the inputs. Sizes stay known through floating-point types as
long as they are whole numbers that these types hold exactly.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from isomorph.converters.onnx.codec import DTYPES
from isomorph.converters.onnx.reading import LARGEST_KNOWN, OnnxNode, Sizes, object_array
from isomorph.errors import MalformedError, ShapeError
from isomorph.ir import Dim, DType, Sym, TensorSource, Value
from isomorph.ir.op import normalize_axis
from isomorph.ir.shapes import dim_max, dim_min, provably_different

__all__ = ["check_size", "evaluate_sizes", "size_dtype"]

Rule = Callable[..., "Sizes | None"]


def evaluate_sizes(node: OnnxNode) -> Sizes | None:
    """The known value of the node's only output, or None."""
    if len(node.outputs) != 1:
        return None
    if node.kind == "Shape":
        return _shape(node)
    if node.kind == "Size" and _tensor_shape(node) is not None:
        return _scalar(_product(_tensor_shape(node) or ()))
    rule = _RULES.get(node.kind)
    if rule is None or not node.inputs or node.graph.effort > _MOST_EFFORT:
        return None
    operands = _operands(node)
    if operands is None or any(x is None for x in operands[: 1 if node.kind in _OPTIONAL else None]):
        return None
    try:
        result = rule(node, *operands)
    except (IndexError, ValueError, TypeError, ZeroDivisionError, OverflowError, ShapeError):
        return None
    if result is None or result.size > LARGEST_KNOWN or not all(map(_is_moderate, result.ravel())):
        return None
    node.graph.effort += result.size
    whole = not size_dtype(node).is_float or all(isinstance(item, Sym) or _is_exact(item) for item in result.ravel())
    return result if whole else None


_MOST_EFFORT = 1 << 20
"""Elements of sizes evaluated in one file; a model needs thousands, an attack millions."""
_LARGEST_SIZE = 1 << 63
_LARGEST_EXPRESSION = 1024
"""Atoms: a detector joins what it keeps of 90 classes, `min(kept1, 300) + …`."""
_DEEPEST_EXPRESSION = 32


def check_size(value: Value, where: str) -> None:
    """Raise MalformedError for a tensor with a size that no tensor has, or whose formula outgrows reading."""
    if not all(map(_is_moderate, value.shape)):
        raise MalformedError("the graph computes a tensor of absurd size", at=where)


def _is_moderate(item: Any) -> bool:
    """Whether a size fits in int64 and an expression is short, so that no chain of nodes grows it without bound."""
    if type(item) is int:
        return -_LARGEST_SIZE < item < _LARGEST_SIZE
    if not isinstance(item, Sym):
        return bool(abs(item) < _LARGEST_SIZE)
    return _atoms(item, _DEEPEST_EXPRESSION) <= _LARGEST_EXPRESSION


def _atoms(dim: Sym, depth: int) -> int:
    """Number of atoms in the expression; too large a number where it is deeper than `depth` or has a huge factor."""
    count = 0
    for monomial, factor in dim.terms:
        if depth == 0 or abs(factor) >= _LARGEST_SIZE:
            return _LARGEST_EXPRESSION + 1
        count += 1 + len(monomial)
        for atom in monomial:
            count += sum(_atoms(arg, depth - 1) for arg in atom.args if isinstance(arg, Sym))
            if count > _LARGEST_EXPRESSION:
                return count
    return count


def _operands(node: OnnxNode) -> list[Sizes | None] | None:
    """The known values of all operands, None for those left out; None if one is not known."""
    operands = [node.graph.known(name) if name else None for name in node.inputs]
    unknown = [name for operand, name in zip(operands, node.inputs, strict=True) if operand is None and name]
    if not unknown:
        return operands
    sizes_at_hand = any(name in node.graph.sizes and node.graph.size_dtypes[name].is_float for name in node.inputs)
    if not sizes_at_hand:
        return None
    numbers = [node.graph.known_numbers(name) if name else None for name in node.inputs]
    missing = any(number is None and name for number, name in zip(numbers, node.inputs, strict=True))
    return None if missing else numbers


_LARGEST_EXACT = 1 << 24


def _is_exact(item: Any) -> bool:
    """Whether a number is whole and small enough for float32 to hold it exactly."""
    return float(item).is_integer() and abs(item) <= _LARGEST_EXACT


def size_dtype(node: OnnxNode) -> DType:
    """The element type of what `evaluate_sizes` returned."""
    if node.kind in ("Shape", "Size"):
        return DType.INT64
    if node.kind in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not"):
        return DType.BOOL
    if node.kind == "Cast":
        return DTYPES[node.attribute("to")]
    value = node.attribute("value")
    if isinstance(value, TensorSource):
        return value.dtype
    return node.graph.size_dtype(node.inputs[1 if node.kind == "Where" else 0])


def _tensor_shape(node: OnnxNode) -> Sequence[Dim] | None:
    name = node.inputs[0]
    constant = node.graph.constants.get(name)
    if name in node.graph.values:
        return node.graph.values[name].shape
    if name in node.graph.sizes:
        return node.graph.sizes[name].shape
    return None if constant is None or name in node.graph.perms else constant.data.shape


def _shape(node: OnnxNode) -> Sizes | None:
    shape = _tensor_shape(node)
    if shape is None:
        return None
    return object_array(list(shape)[slice(node.attribute("start", 0), node.attribute("end"))])


def _scalar(dim: Dim) -> Sizes:
    made = np.empty((), object)
    made[()] = dim
    return made


def _product(dims: Sequence[Dim]) -> Dim:
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def _elementwise(function: Callable[..., Any], *operands: Sizes) -> Sizes:
    if math.prod(np.broadcast_shapes(*(operand.shape for operand in operands))) > LARGEST_KNOWN:
        raise ValueError("more elements than sizes have")
    made = np.frompyfunc(function, len(operands), 1)(*operands)
    return made if isinstance(made, np.ndarray) else _scalar(made)


def _divide(a: Dim, b: Dim) -> Dim:
    """ONNX truncates; sizes are not negative, so that is floor division, except between ints of other signs."""
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a // b


def _quotient(a: Dim, b: Dim) -> Dim:
    """a / b between sizes in a floating-point type, where it is whole for all sizes."""
    if b == 0 or a % b != 0:
        raise TypeError("not certain to be whole")
    return a // b


def _equal(a: Dim, b: Dim) -> bool:
    """Whether sizes are equal. A symbolic size is not negative, a named one at least 1; what is not certain raises."""
    if a == b:
        return True
    if isinstance(a, Sym) or isinstance(b, Sym):
        negative = (isinstance(a, int) and a < 0) or (isinstance(b, int) and b < 0)
        if not negative and not provably_different(a, b):
            raise TypeError("not certain")
    return False


def _order(function: Callable[[int, int], bool]) -> Callable[[Dim, Dim], bool]:
    """A comparison that is certain between ints, and between sizes whose difference is one."""

    def compare(a: Dim, b: Dim) -> bool:
        difference = a - b
        if isinstance(difference, Sym):
            raise TypeError("not certain")
        return function(difference, 0)

    return compare


def _gather(node: OnnxNode, data: Sizes, indices: Sizes) -> Sizes | None:
    axis = normalize_axis(node.attribute("axis", 0), data.ndim)
    if data.size // max(1, data.shape[axis]) * indices.size > LARGEST_KNOWN:
        return None
    taken = np.take(data, indices.astype(np.int64), axis=axis)
    return taken if isinstance(taken, np.ndarray) else _scalar(taken)


def _slice(node: OnnxNode, data: Sizes, *bounds: Sizes) -> Sizes:
    given: list[Sizes | None] = [*bounds, None, None, None, None]
    starts, ends, axes, steps = given[:4]
    if starts is None or ends is None:
        starts, ends, axes = (object_array(node.attribute(key, [0])) for key in ("starts", "ends", "axes"))
    index: list[slice] = [slice(None)] * data.ndim
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = position if axes is None else int(axes[position])
        index[axis] = slice(int(start), int(end), 1 if steps is None else int(steps[position]))
    return data[tuple(index)]


def _axes(node: OnnxNode, axes: Sizes | None) -> tuple[int, ...] | None:
    if axes is not None:
        return tuple(int(axis) for axis in axes)
    given = node.attribute("axes")
    return None if given is None else tuple(given)


def _squeeze(node: OnnxNode, data: Sizes, axes: Sizes | None = None) -> Sizes:
    squeezed = np.squeeze(data, axis=_axes(node, axes))
    return squeezed if isinstance(squeezed, np.ndarray) else _scalar(squeezed)


def _unsqueeze(node: OnnxNode, data: Sizes, axes: Sizes | None = None) -> Sizes:
    return np.expand_dims(data, _axes(node, axes) or (0,))


def _concat(node: OnnxNode, *operands: Sizes) -> Sizes:
    return np.concatenate(operands, axis=node.attribute("axis", 0))


def _cast(node: OnnxNode, data: Sizes) -> Sizes | None:
    dtype = DTYPES.get(node.attribute("to"))
    if dtype is None or dtype.itemsize < 4:
        return None
    if dtype.is_float or dtype is DType.INT64 or dtype is DType.INT32:
        return _elementwise(lambda item: int(item) if isinstance(item, bool) else item, data)
    return None


def _reshape(node: OnnxNode, data: Sizes, shape: Sizes) -> Sizes:
    return data.reshape([int(size) for size in shape])


def _range(node: OnnxNode, start: Sizes, limit: Sizes, delta: Sizes) -> Sizes | None:
    bounds = [start.item(), limit.item(), delta.item()]
    if not all(isinstance(bound, int) for bound in bounds) or len(range(*bounds)) > LARGEST_KNOWN:
        return None
    return object_array(list(range(*bounds)))


def _constant_of_shape(node: OnnxNode, shape: Sizes) -> Sizes | None:
    value = node.attribute("value")
    fill = value.numpy().ravel()[0] if isinstance(value, TensorSource) else np.float32(0)
    sizes = [int(size) for size in shape]
    if not np.issubdtype(fill.dtype, np.integer) or _product(sizes) > LARGEST_KNOWN:  # type: ignore[operator]
        return None
    made = np.empty(sizes, object)
    made[...] = int(fill)
    return made


def _where(node: OnnxNode, condition: Sizes, a: Sizes, b: Sizes) -> Sizes:
    return _elementwise(lambda chosen, left, right: left if chosen else right, condition, a, b)


def _reduce_prod(node: OnnxNode, data: Sizes, axes: Sizes | None = None) -> Sizes | None:
    if data.ndim != 1:
        return None
    total = _scalar(_product(list(data)))
    return total.reshape(1) if node.attribute("keepdims", 1) else total


def _arithmetic_quotient(node: OnnxNode, a: Sizes, b: Sizes) -> Sizes:
    return _elementwise(_quotient if size_dtype(node).is_float else _divide, a, b)


def _remainder(node: OnnxNode, a: Sizes, b: Sizes) -> Sizes | None:
    return None if node.attribute("fmod", 0) else _elementwise(lambda x, y: x % y, a, b)


def _unary(function: Callable[[Any], Any]) -> Rule:
    return lambda node, a: _elementwise(function, a)


def _binary(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda node, a, b: _elementwise(function, a, b)


_RULES: dict[str, Rule] = {
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _arithmetic_quotient,
    "Mod": _remainder,
    "Equal": _binary(_equal),
    "Less": _binary(_order(operator.lt)),
    "LessOrEqual": _binary(_order(operator.le)),
    "Greater": _binary(_order(operator.gt)),
    "GreaterOrEqual": _binary(_order(operator.ge)),
    "And": _binary(lambda a, b: a and b),
    "Or": _binary(lambda a, b: a or b),
    "Not": _unary(lambda a: not a),
    "Min": lambda node, *operands: _fold(dim_min, operands),
    "Max": lambda node, *operands: _fold(dim_max, operands),
    "Neg": _unary(lambda a: -a),
    "Floor": lambda node, a: a,
    "Ceil": lambda node, a: a,
    "Round": lambda node, a: a,
    "Identity": lambda node, a: a,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Cast": _cast,
    "Reshape": _reshape,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Where": _where,
    "ReduceProd": _reduce_prod,
}


_OPTIONAL = ("Slice", "Squeeze", "Unsqueeze", "ReduceProd")
"""Rules that take operands that are left out, behind the first."""


def _fold(function: Callable[[Dim, Dim], Dim], operands: Sequence[Sizes]) -> Sizes:
    result = operands[0]
    for operand in operands[1:]:
        result = _elementwise(function, result, operand)
    return result
