"""Live module -> Program -> Model: runs `torch.export.export` (without decompositions) and walks what it returns.

The only file here that imports torch. Tensors are shared with the module, not copied.
"""

from __future__ import annotations

import inspect
import logging
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isomorph.converters.torch.detection import exportable
from isomorph.converters.torch.failure import explain, suggestion
from isomorph.converters.torch.guards import assumptions
from isomorph.converters.torch.importer import import_program
from isomorph.converters.torch.program import (
    BLOCK_ARGUMENTS,
    Block,
    Computed,
    Opaque,
    Program,
    ProgramNode,
    Ref,
    output_names,
    ranges_of,
    read_scope,
)
from isomorph.converters.torch.symbols import Inexpressible, Symbols, name_symbols
from isomorph.converters.torch.undivided import undivided
from isomorph.errors import Unsupported, UnsupportedError, UsageError
from isomorph.ir import ArrayTensor, DerivedTensor, Dim, DType, Model, Parameter, Sym, TensorSource, TensorType

__all__ = ["capture", "capture_program"]


def capture(
    module: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    name: str | None = None,
) -> Model:
    """The model of a live `torch.nn.Module` in eval mode, or of a `torch.export.ExportedProgram`.

    args, kwargs    example inputs for torch.export.export (not needed for an ExportedProgram)
    dynamic_shapes  as for torch.export.export; the names of its `Dim`s become the names of the model's dimensions
    name            name of the model, by default the class of the module
    Raises          UsageError for a module in training mode or something that is no module; UnsupportedError if
                    torch.export fails (its message is quoted) or operations have no rule.
    """
    return import_program(capture_program(module, args, kwargs, dynamic_shapes=dynamic_shapes, name=name))


def capture_program(
    module: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    name: str | None = None,
) -> Program:
    """The exported program of a live module, as plain data."""
    exported = module
    if isinstance(module, torch.nn.Module):
        _require_eval(module)
        exported = _export(module, args, kwargs, dynamic_shapes)
    elif not isinstance(module, torch.export.ExportedProgram):
        raise UsageError(f"a torch.nn.Module or an ExportedProgram can be captured, not {type(module).__name__}")
    return _ProgramWalker(exported, dynamic_shapes, name).walk()


def _require_eval(module: Any) -> None:
    for path, each in module.named_modules():
        if each.training:
            raise UsageError(
                "the module is in training mode",
                at=f"{path or 'the root'} ({type(each).__name__})",
                advice="call module.eval() before you capture it: dropout and batch norm act differently in training",
            )


def _export(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, dynamic_shapes: Any) -> Any:
    try:
        with _attributed(), undivided(torch), exportable(torch):
            return torch.export.export(module, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes)
    except Exception as error:
        title = f"capture {type(module).__name__}"
        raise UnsupportedError(title, explain(error), advice=suggestion(error)) from error


class _OwnFiles:
    """The files of torch itself."""

    folder = str(Path(torch.__file__).parent) + os.sep

    def __contains__(self, file: str) -> bool:
        return file.startswith(self.folder) or file.startswith("<")


@contextmanager
def _attributed() -> Iterator[None]:
    """While it holds, torch notes the user's line, not its own, for what fixes a size, and logs no error twice."""
    shapes: Any = import_module("torch.fx.experimental.symbolic_shapes")
    known, level = getattr(shapes, "uninteresting_files", None), logging.root.manager.disable
    if known is not None:
        shapes.uninteresting_files = _OwnFiles
    logging.disable(max(level, logging.ERROR))
    try:
        yield
    finally:
        logging.disable(level)
        if known is not None:
            shapes.uninteresting_files = known


class _ProgramWalker:
    def __init__(self, exported: Any, dynamic_shapes: Any, name: str | None) -> None:
        self.exported = exported
        self.dynamic_shapes = dynamic_shapes
        self.name = name
        self.symbols = Symbols()
        self.expressions: dict[Any, Dim | Opaque] = {}
        self.types: dict[str, TensorType] = {}
        self.nodes: list[ProgramNode] = []
        self.refusals: list[Unsupported] = []
        self.updates: list[tuple[str, Any]] = []
        self.strides: dict[str, Any] = {}

    def walk(self) -> Program:
        exported = self.exported
        graph = exported.graph_module.graph
        placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
        specs = exported.graph_signature.input_specs
        users = [
            spec.arg.name
            for spec in specs
            if spec.kind.name == "USER_INPUT" and isinstance(placeholders[spec.arg.name].meta.get("val"), torch.Tensor)
        ]
        self.users = users
        ranges = ranges_of(
            (str(symbol), _bound(span.lower), _bound(span.upper)) for symbol, span in exported.range_constraints.items()
        )
        raw = [(each, self._type(placeholders[each].meta["val"])) for each in users]
        declared = _declared(self.dynamic_shapes, [kind.shape if kind else () for _, kind in raw])
        names = name_symbols([(each, kind.shape) for each, kind in raw if kind], declared, ranges)
        self.symbols = Symbols({symbol: Sym(title) for symbol, title in names.items()}, ranges)
        self.expressions.clear()
        parameters = self._parameters(specs)
        self._walk(exported.graph_module, "", {})
        outputs = self._outputs(graph)
        title = self.name or self._title(graph)
        dims = {names[symbol]: span for symbol, span in ranges.items() if symbol in names}
        inputs = [(each, self.types[each]) for each in users]
        version = torch.__version__.partition("+")[0]
        return Program(
            title,
            inputs,
            parameters,
            self.nodes,
            outputs,
            self.types,
            dims,
            self.refusals,
            ("torch", version),
            self.updates,
            self.strides,
            assumptions(getattr(exported, "_guards_code", ()), inputs, dims),
        )

    def _title(self, graph: Any) -> str:
        for node in graph.nodes:
            for key, (path, cls) in (node.meta.get("nn_module_stack") or {}).items():
                if key.startswith("L__self__") and not path:
                    return _class_name(cls).rpartition(".")[2]
        return "model"

    def _parameters(self, specs: Sequence[Any]) -> dict[str, Parameter]:
        """Parameters by tensor name; those with the same memory under the same strides are one."""
        shared: dict[Any, Parameter] = {}
        found: dict[str, Parameter] = {}
        for spec in specs:
            role = {"PARAMETER": "weight", "BUFFER": "buffer", "CONSTANT_TENSOR": "constant"}.get(spec.kind.name)
            if role is None:
                if spec.kind.name not in ("USER_INPUT", "TOKEN"):
                    self.refusals.append(Unsupported(spec.kind.name.lower(), "an input of this kind is not expressed"))
                continue
            tensor = self._tensor(spec.target)
            kept = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            key = kept if tensor.numel() and tensor.device.type != "meta" else (spec.target,)
            if key not in shared:
                trainable = role == "weight" and bool(tensor.requires_grad)
                shared[key] = Parameter(spec.target, _source(tensor), trainable, role)
            found[spec.arg.name] = shared[key]
        return found

    def _tensor(self, title: str) -> Any:
        state = self.exported.state_dict
        return state[title] if title in state else self.exported.constants[title]

    def _walk(self, module: Any, prefix: str, bound: dict[str, Any]) -> None:
        """Append the nodes of a graph, those of wrapped inner graphs in line."""
        for node in module.graph.nodes:
            if node.op == "placeholder":
                self._record(prefix + node.name, node.meta.get("val"))
            if node.op != "call_function" or (node.target is _GETITEM and _listed(node.args[0])):
                continue
            if getattr(node.target, "_name", "") in _WRAPPERS or str(node.target) in _WRAPPERS:
                self._inline(module, node, prefix, bound)
            else:
                self.nodes.append(self._node(node, prefix, bound))

    def _node(self, node: Any, prefix: str, bound: dict[str, Any]) -> ProgramNode:
        outputs = tuple(None if each is None else prefix + each for each in _output_names(node))
        values = node.meta.get("val")
        symbolic = isinstance(values, _NUMBERS)
        if isinstance(values, torch.Tensor):
            self._record(outputs[0], values)
        elif isinstance(values, list | tuple):
            for name, value in zip(outputs, values, strict=False):
                self._record(name, value)
        numbers = {
            name: self._number_of(value, name)
            for name, value in zip(outputs, values if isinstance(values, list | tuple) else (), strict=False)
            if name is not None and isinstance(value, _NUMBERS)
        }
        args = {name: self._value(value, prefix, bound) for name, value in _arguments(node).items()}
        stack = node.meta.get("nn_module_stack") or {}
        return ProgramNode(
            prefix + node.name,
            _target(node.target),
            args,
            () if symbolic else outputs,
            read_scope({key: (path, _class_name(cls)) for key, (path, cls) in stack.items()}),
            node.meta.get("stack_trace") or "",
            symbolic,
            self._number(node, prefix) if symbolic else None,
            numbers,
        )

    def _inline(self, module: Any, node: Any, prefix: str, bound: dict[str, Any]) -> None:
        """A block under `torch.no_grad()` or autocast, whose nodes run as if they stood outside."""
        where = next(index for index, arg in enumerate(node.args) if getattr(arg, "op", "") == "get_attr")
        inner = getattr(module, node.args[where].target)
        given = [self._value(each, prefix, bound) for each in node.args[where + 1 :]]
        placeholders = [each.name for each in inner.graph.nodes if each.op == "placeholder"]
        inside = dict(zip(placeholders, given, strict=True))
        below = f"{prefix}{node.name}."
        self._walk(inner, below, inside)
        (results,) = next(each for each in inner.graph.nodes if each.op == "output").args
        stack = node.meta.get("nn_module_stack") or {}
        scope = read_scope({key: (path, _class_name(cls)) for key, (path, cls) in stack.items()})
        for name, value in zip(_output_names(node), results, strict=True):
            if name is not None:
                self._record(prefix + name, value.meta.get("val"))
                alias = {"self": self._value(value, below, inside)}
                self.nodes.append(ProgramNode(prefix + name, "aten.alias.default", alias, (prefix + name,), scope))

    def _record(self, name: str | None, value: Any) -> None:
        kind = self._type(value) if isinstance(value, torch.Tensor) else None
        if name is not None and kind is not None:
            self.types[name] = kind
            strides = tuple(self._dim(step) for step in value.stride())
            if not any(isinstance(step, Opaque) for step in strides):
                self.strides[name] = strides

    def _type(self, value: Any) -> TensorType | None:
        """The type of a fake tensor, None where it is sparse or a size is inexpressible."""
        dims = [self._dim(size) for size in value.shape]
        if value.layout is not torch.strided or any(isinstance(dim, Opaque) for dim in dims):
            return None
        dtype = _dtype(value.dtype)
        return None if dtype is None else TensorType(dtype, tuple(dims))  # type: ignore[arg-type]

    def _dim(self, size: Any) -> Dim | Opaque:
        if isinstance(size, int):
            return size
        expression = size.node.expr
        if expression not in self.expressions:
            try:
                self.expressions[expression] = self.symbols.dim(_srepr(expression))
            except Inexpressible as reason:
                self.expressions[expression] = Opaque(f"{reason} is not expressed")
        return self.expressions[expression]

    def _value(self, value: Any, prefix: str, bound: Mapping[str, Any]) -> Any:
        if isinstance(value, torch.fx.Node):
            return self._reference(value, prefix, bound)
        if isinstance(value, list | tuple):
            items = tuple(self._value(each, prefix, bound) for each in value)
            sizes = next((each for each in items if isinstance(each, Opaque)), None)
            return items if sizes is None else sizes
        if value is None or isinstance(value, bool | int | float | complex | str):
            return value
        if isinstance(value, torch.dtype):
            return _dtype(value) or Opaque(f"the element type {value} is not expressed")
        if isinstance(value, torch.memory_format | torch.layout | torch.device):
            return type(value).__name__
        return Opaque(f"an argument of the type {type(value).__name__} is not expressed")

    def _block(self, module: Any, prefix: str) -> Block:
        """The inner graph of a branch or a loop."""
        saved, self.nodes = self.nodes, []
        self._walk(module, prefix, {})
        nodes, self.nodes = self.nodes, saved
        placeholders = [each for each in module.graph.nodes if each.op == "placeholder"]
        inputs = [
            (prefix + each.name, self._number(each, prefix) if isinstance(each.meta.get("val"), _NUMBERS) else None)
            for each in placeholders
        ]
        (results,) = next(each for each in module.graph.nodes if each.op == "output").args
        listed = results if isinstance(results, list | tuple) else (results,)
        return Block(inputs, nodes, tuple(self._value(each, prefix, {}) for each in listed))

    def _reference(self, node: Any, prefix: str, bound: Mapping[str, Any]) -> Any:
        if node.name in bound:
            return bound[node.name]
        if node.op == "get_attr":
            inner = getattr(node.graph.owning_module, node.target, None)
            if isinstance(inner, torch.fx.GraphModule):
                return self._block(inner, f"{prefix}{node.name}.")
            return Opaque(f"the attribute {node.target} is not expressed")
        return (
            self._number(node, prefix) if isinstance(node.meta.get("val"), _NUMBERS) else Ref(prefix + _own_name(node))
        )

    def _number(self, node: Any, prefix: str) -> Any:
        """The number that a node returns: an int, float or bool, a size, or one that is computed."""
        return self._number_of(node.meta["val"], prefix + node.name)

    def _number_of(self, known: Any, name: str) -> Any:
        if isinstance(known, bool | int | float):
            return known
        dim = self._dim(known) if isinstance(known, torch.SymInt) else None
        return dim if isinstance(dim, int | Sym) else Computed(name, str(known.node.expr))

    def _holder(self, spec: Any) -> str:
        """The tensor of the graph that an output is the new value of."""
        if spec.kind.name == "USER_INPUT_MUTATION":
            return str(spec.target)
        return next(
            str(each.arg.name) for each in self.exported.graph_signature.input_specs if each.target == spec.target
        )

    def _outputs(self, graph: Any) -> list[tuple[str, Any]]:
        (results,) = next(node for node in graph.nodes if node.op == "output").args
        values = []
        for spec, result in zip(self.exported.graph_signature.output_specs, results, strict=True):
            kind = spec.kind.name
            if kind == "USER_OUTPUT":
                values.append(self._value(result, "", {}))
            elif kind in _UPDATES:
                self.updates.append((self._holder(spec), self._value(result, "", {})))
            else:
                self.refusals.append(Unsupported(kind.lower(), "an output of this kind is not expressed"))
        signature = self.exported.module_call_graph[0].signature
        names = output_names(None if signature is None else _structure(signature.out_spec), len(values), self.users)
        return [(name, value) for name, value in zip(names, values, strict=True) if value is not None]


_UPDATES = ("BUFFER_MUTATION", "PARAMETER_MUTATION", "USER_INPUT_MUTATION")
_GETITEM = operator.getitem
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)
_WRAPPERS = frozenset({"wrap_with_set_grad_enabled", "wrap_with_autocast"})


def _structure(spec: Any) -> str | None:
    """The text of a pytree, as a file has it; None where it holds a type that torch cannot write either."""
    try:
        return str(torch.utils._pytree.treespec_dumps(spec))
    except NotImplementedError:
        return None


def _listed(node: Any) -> bool:
    """Whether a node returns several tensors, so that its `getitem`s only name them."""
    return (
        isinstance(node.meta.get("val"), list | tuple)
        or getattr(node.target, "_name", "") in _WRAPPERS
        or str(node.target) in _WRAPPERS
    )


def _own_name(node: Any) -> str:
    """The name of a tensor; of a second `getitem` of the same element the first one's."""
    if node.op == "call_function" and node.target is _GETITEM:
        names = _output_names(node.args[0])
        return names[node.args[1]] or str(node.name)
    return str(node.name)


def _output_names(node: Any) -> list[str | None]:
    """Names of what a node returns: its own, or those of the `getitem`s that take its elements."""
    values = node.meta.get("val")
    taken: dict[int, str] = {}
    for user in node.users:
        if user.target is _GETITEM:
            taken.setdefault(user.args[1], user.name)
    if not isinstance(values, list | tuple):
        if taken and values is None:
            return [taken.get(index) for index in range(max(taken) + 1)]
        return [node.name]
    return [
        None if value is None else taken.get(index, f"{node.name}_unused_{index}") for index, value in enumerate(values)
    ]


def _arguments(node: Any) -> dict[str, Any]:
    """The arguments by the names of the operator's schema."""
    positions = BLOCK_ARGUMENTS.get(_target(node.target))
    if positions is not None:
        return {**dict(zip(positions, node.args, strict=False)), **node.kwargs}
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        names = [argument.name for argument in schema.arguments]
    else:
        try:
            names = list(inspect.signature(node.target).parameters)
        except (TypeError, ValueError):
            names = [f"argument_{index}" for index in range(len(node.args))]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _srepr(expression: Any) -> str:
    """A sympy expression as torch writes it into files."""
    sympy: Any = import_module("sympy")
    return str(sympy.srepr(expression))


def _class_name(cls: Any) -> str:
    return cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"


def _target(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.name()}"
    return f"{target.__module__}.{target.__name__}"


def _dtype(dtype: Any) -> DType | None:
    name = str(dtype).removeprefix("torch.")
    return DType(name) if name in DType._value2member_map_ else None


def _bound(bound: Any) -> int | None:
    """A bound of a range as an int, None for infinity."""
    try:
        return int(bound)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None


def _declared(dynamic_shapes: Any, shapes: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """{symbol: name} for the `Dim`s that the user named, where there is one entry for each input."""
    entries = list(dynamic_shapes.values() if isinstance(dynamic_shapes, Mapping) else dynamic_shapes or ())
    declared: dict[str, str] = {}
    if len(entries) != len(shapes):
        return declared
    for entry, shape in zip(entries, shapes, strict=True):
        axes = (
            entry.items() if isinstance(entry, Mapping) else enumerate(entry) if isinstance(entry, list | tuple) else ()
        )
        for axis, dim in axes:
            size = shape[axis] if isinstance(axis, int) and axis < len(shape) else None
            title = getattr(getattr(dim, "root", dim), "__name__", None)
            if title and isinstance(size, Sym) and size.line is not None:
                declared.setdefault(size.line[0], title)
    return declared


def _source(tensor: Any) -> TensorSource:
    """A tensor's elements: NumPy's view of its memory; fetched to the CPU on demand where they lie elsewhere."""
    dtype = _dtype(tensor.dtype)
    if dtype is None or tensor.layout is not torch.strided:
        raise UnsupportedError(
            "capture", [Unsupported(str(tensor.dtype), "this element type or layout has no counterpart")]
        )
    if tensor.device.type != "cpu":
        return DerivedTensor(dtype, tuple(tensor.shape), (), lambda: _view(tensor.detach().cpu(), dtype))
    return ArrayTensor(_view(tensor.detach(), dtype))


_WORDS = {1: torch.uint8, 2: torch.int16}


def _view(tensor: Any, dtype: DType) -> np.ndarray[Any, Any]:
    if np.dtype(dtype.numpy).isbuiltin == 1:
        return tensor.numpy()  # type: ignore[no-any-return]
    words = tensor.view(_WORDS[dtype.itemsize]).numpy()
    return words.view(dtype.numpy)  # type: ignore[no-any-return]
