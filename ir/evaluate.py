"""A whole model in NumPy: the reference interpreter. Slow, exact to the ops' docstrings, and free of frameworks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from isomorph.errors import DTypeError, GraphError, ShapeError
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, Region, Value
from isomorph.ir.op import Op, OpaqueType, TensorType
from isomorph.ir.ops.shape import BindDim
from isomorph.ir.shapes import Dim, Sym, format_shape, substitute

__all__ = ["Observer", "bind", "bind_dims", "evaluate", "evaluate_op"]

Array = npt.NDArray[Any]
Observer = Callable[[Node, tuple[Array, ...]], None]
OpT = TypeVar("OpT", bound=Op)


def evaluate(
    model: Model, inputs: Mapping[str, Array], *, precision: DType | None = None, observe: Observer | None = None
) -> dict[str, Array]:
    """The outputs of the model by name, for arrays by input name.

    precision  compute every floating-point value in this type (FLOAT64 for a reference run), casts included
    inputs     states may be left out: they have their initial values
    observe    is called with each node and its outputs, in order; not with those in regions
    Raises ShapeError or DTypeError for inputs that do not fit, GraphError for an op without an evaluation.
    """
    graph = model.graph
    initial = {name: state.initial.data.numpy() for name, state in model.state.items() if state.initial is not None}
    inputs = {**initial, **inputs}
    results = _run(graph, inputs, bind_dims(graph, inputs), precision, observe)
    return dict(zip(graph.outputs, results, strict=True))


def _run(
    graph: Graph,
    inputs: Mapping[str, Array],
    sizes: dict[str, int],
    precision: DType | None,
    observe: Observer | None = None,
) -> tuple[Array, ...]:
    """The outputs of a graph in order; `sizes` has the dimensions known so far, and gets those found on the way."""
    values: dict[Value, Array] = {
        value: _source(value, inputs, precision) for value in (*graph.inputs, *graph.parameters)
    }
    last = {value: node for node in graph.nodes for value in node.operands()}
    kept = set(graph.outputs.values())
    for node in graph.nodes:
        operands = [None if value is None else values[value] for value in node.inputs]
        if isinstance(node.op, BindDim) and operands[0] is not None:
            sizes.update(dict.fromkeys(node.op.defines(), int(operands[0])))
        op = bind(node.op, sizes, precision)
        if node.regions:
            bodies = [_body(region, sizes, precision) for region in node.regions]
            results = tuple(np.asarray(result) for result in op.run(bodies, *operands))  # type: ignore[arg-type]
        else:
            results = evaluate_op(op, *operands)
        for value, array in zip(node.outputs, results, strict=True):
            _check_shape(node, value, array, sizes)
            values[value] = array
        if observe is not None:
            observe(node, results)
        for value in (*node.operands(), *node.outputs):
            if last.get(value, node) is node and value not in kept:
                values.pop(value, None)
    return tuple(values[value] for value in graph.outputs.values())


def _body(region: Region, sizes: Mapping[str, int], precision: DType | None) -> Callable[..., tuple[Array, ...]]:
    """A region as a function of its inputs. What sizes it finds on the way are forgotten when it returns."""
    names = [value.name for value in region.inputs]

    def call(*arrays: Array) -> tuple[Array, ...]:
        inputs = dict(zip(names, arrays, strict=True))
        return _run(region, inputs, bind_dims(region, inputs, sizes), precision)

    return call


def _bound_type(kind: TensorType, sizes: Mapping[str, int], precision: DType | None) -> TensorType:
    """A type with the sizes that are known, and in the precision asked for."""
    if isinstance(kind, OpaqueType):
        return kind
    dtype = precision if precision is not None and kind.dtype.is_float else kind.dtype
    return TensorType(dtype, tuple(substitute(dim, sizes) for dim in kind.shape))


def evaluate_op(op: Op, *operands: Array | None) -> tuple[Array, ...]:
    """The outputs of one op whose attributes are static, as arrays; overflow raises no warning."""
    if not op.can_evaluate():
        raise GraphError(f"{op.name} has no evaluation in NumPy")
    with np.errstate(all="ignore"):
        results = op.evaluate(*operands)
    made = results if isinstance(results, tuple) else (results,)
    return tuple(each if op.takes_opaque else np.asarray(each) for each in made)


def bind(op: OpT, sizes: Mapping[str, int], precision: DType | None = None) -> OpT:
    """The op with symbolic attributes replaced by numbers, and floating-point element types by `precision`.

    A size that the op itself defines stays symbolic.
    """
    changed = {}
    own = op.defines()
    for field in fields(op):
        before = getattr(op, field.name)
        decided = isinstance(before, Sym) and before.names() <= own
        after = before if decided else _bound(before, sizes, precision)
        if after is not before:
            changed[field.name] = after
    return replace(op, **changed) if changed else op


def _bound(value: Any, sizes: Mapping[str, int], precision: DType | None) -> Any:
    if isinstance(value, Sym):
        return _known(value, sizes)
    if isinstance(value, TensorType):
        return _bound_type(value, sizes, precision)
    if isinstance(value, DType) and precision is not None and value.is_float:
        return precision
    if isinstance(value, tuple):
        bound = tuple(_bound(item, sizes, precision) for item in value)
        return value if all(new is old for new, old in zip(bound, value, strict=True)) else bound
    return value


def _known(dim: Dim, sizes: Mapping[str, int]) -> int:
    result = substitute(dim, sizes)
    if isinstance(result, Sym):
        raise ShapeError(
            f"the dimension {dim} is not known", because=f"no input's shape gives {', '.join(sorted(result.names()))}"
        )
    return result


def bind_dims(graph: Graph, inputs: Mapping[str, Array], known: Mapping[str, int] | None = None) -> dict[str, int]:
    """The sizes of the named dimensions, from the shapes of the inputs and, of a region, those known around it.

    Raises ShapeError where shapes do not fit.
    """
    missing = {value.name for value in graph.inputs} ^ set(inputs)
    if missing:
        raise GraphError(f"inputs do not match the model's: {', '.join(sorted(missing))} is missing or too much")
    sizes: dict[str, int] = dict(known or {})
    tensors = [value for value in graph.inputs if not isinstance(value.type, OpaqueType)]
    for value in tensors:
        shape = np.shape(inputs[value.name])
        if len(shape) != value.rank:
            raise ShapeError(f"input {value} was given an array of shape {format_shape(shape)}")
        for dim, size in zip(value.shape, shape, strict=True):
            if isinstance(dim, Sym) and dim.name is not None:
                sizes.setdefault(dim.name, size)
    for value in tensors:
        for dim, size in zip(value.shape, np.shape(inputs[value.name]), strict=True):
            if isinstance(dim, Sym) and dim.line is not None:
                name, factor, offset = dim.line
                sizes.setdefault(name, (size - offset) // factor)
    for value in tensors:
        shape = np.shape(inputs[value.name])
        wanted = tuple(substitute(dim, sizes) for dim in value.shape)
        if wanted != shape:
            raise ShapeError(
                f"input {value} was given an array of shape {format_shape(shape)}",
                because=f"it should be {format_shape(wanted)}",
            )
    return sizes


def _source(value: Value, inputs: Mapping[str, Array], precision: DType | None) -> Array:
    if isinstance(value.type, OpaqueType):
        return inputs[value.name]
    array = np.asarray(inputs[value.name]) if value.parameter is None else value.parameter.data.numpy()
    if precision is not None and value.dtype.is_float:
        return array.astype(precision.numpy, copy=False)
    if value.dtype is not DType.STRING and array.dtype != value.dtype.numpy:
        raise DTypeError(f"input {value} was given an array of {array.dtype}")
    return array


def _check_shape(node: Node, value: Value, array: Array, sizes: dict[str, int]) -> None:
    """Compare with the recorded shape; a named dimension that no input gives takes the size found here."""
    if isinstance(value.type, OpaqueType):
        return
    for dim, size in zip(value.shape, array.shape, strict=False):
        if isinstance(dim, Sym) and dim.name is not None:
            sizes.setdefault(dim.name, size)
    recorded = tuple(substitute(dim, sizes) for dim in value.shape)
    if recorded != array.shape:
        raise ShapeError(
            f"`{node.op.name}` computed a tensor of shape {format_shape(array.shape)} for {value}",
            at=node.describe(),
            because=f"with {', '.join(f'{name} = {size}' for name, size in sizes.items())}" if sizes else None,
        )
