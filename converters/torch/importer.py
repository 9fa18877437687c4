"""Program -> Model, by the rules of the family files. The same for files and for captured modules."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

from isomorph.converters.frames import user_frame
from isomorph.converters.torch.aten import (
    activation,
    attention,
    bessel,
    bits,
    classification,
    complex_composed,
    complex_create,
    complex_elementwise,
    complex_functions,
    complex_linear,
    complex_partwise,
    complex_products,
    complex_shape,
    control,
    conv,
    create,
    cumulative,
    diagonal,
    distance,
    dropout,
    elementwise,
    elimination,
    embedding,
    error,
    experts,
    factorization,
    fold,
    fourier,
    gamma,
    gradient,
    index,
    join,
    linear,
    loss,
    norm,
    orthogonal,
    pad,
    pool,
    product,
    quant,
    random,
    rearrange,
    recurrent,
    reduce,
    resize,
    sample,
    scatter,
    search,
    shape,
    signal,
    sort,
    special,
    split,
    statistics,
    steps,
    transcendental,
    transformer,
    unpool,
    vision,
)
from isomorph.converters.torch.aten.complex import Complex, pairs_of
from isomorph.converters.torch.aten.control import Body
from isomorph.converters.torch.autocast import autocast
from isomorph.converters.torch.custom import CallSite, ModuleCall, call_sites, rule_of
from isomorph.converters.torch.guards import assumptions_as_metadata
from isomorph.converters.torch.lowering import Lowering, Refusal
from isomorph.converters.torch.numbers import ITEMS, as_value
from isomorph.converters.torch.numbers import RULES as NUMBER_RULES
from isomorph.converters.torch.program import Block, Computed, Opaque, Program, ProgramNode, Ref
from isomorph.converters.torch.rules import REASONS, ImportRule, complex_rules
from isomorph.converters.torch.state import changed, input_name, next_name
from isomorph.converters.torch.storage import (
    IDENTITIES,
    MAYBE_VIEWS,
    VIEWS,
    Cell,
    base_name,
    mutated_argument,
    mutates,
    shares,
    write,
)
from isomorph.errors import GraphError, MalformedError, Unsupported, UnsupportedError
from isomorph.ir import DimRange, DType, Model, Origin, Parameter, Scope, State, Sym, TensorType, Value, ops
from isomorph.ir.shapes import names_in

__all__ = ["FAMILIES", "Importer", "import_program"]

FAMILIES = (
    activation, attention, bessel, bits, classification, complex_composed, complex_create, complex_elementwise,
    complex_functions, complex_linear, complex_partwise, complex_products, complex_shape, control, conv, create,
    cumulative, diagonal, distance, dropout, elementwise, elimination, embedding, error, experts, factorization, fold,
    fourier, gamma, gradient, index, join, linear, loss, norm, orthogonal, pad, pool, product, quant, random, rearrange,
    recurrent, reduce, resize, sample, scatter, search, shape, signal, sort, special, split, statistics, steps,
    transcendental, transformer, unpool, vision,
)  # fmt: skip
"""The modules whose import registers the rules."""

_WITHOUT_EFFECT = frozenset(
    {
        "aten._assert_async",
        "aten._assert_scalar",
        "aten._assert_tensor_metadata",
        "aten.sym_constrain_range",
        "aten.sym_constrain_range_for_size",
    }
)


def import_program(program: Program) -> Model:
    """The model of an exported program.

    Raises UnsupportedError that lists every operation without a rule and everything that a rule refused, each with the
    user's module and line; MalformedError where arguments do not fit an operation's schema.
    """
    return Importer(program).run()


class Importer:
    """Imports a program, whole (`run`), or node by node where the next node depends on the types of the last ones:

    importer.begin(); importer.step(node); importer.value(name).shape …; importer.finish()
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        reserved = {name for node in program.nodes for name in node.outputs if name} | {
            name for name, _ in program.inputs
        }
        self.b = Lowering(program.name, reserved)
        self.cells: dict[str, Cell] = {}
        self.items: list[Unsupported] = list(program.refusals)
        self.taken: set[str] = set()
        self.numbers: dict[str, Any] = {}
        self.pending: dict[str, ProgramNode] = {}
        self.own_dims: dict[str, DimRange] = {}
        self._sizes: dict[str, Sym] = {}
        self.depth = 0
        self.pairs: dict[Parameter, Parameter] = {}
        self.sites = call_sites(program)
        self.covered: set[str] = set()
        self.state: dict[str, State] = {}
        self.holders: dict[str, Cell] = {}

    def run(self) -> Model:
        self.begin()
        for node in self.program.nodes:
            self.step(node)
        return self.finish()

    def begin(self) -> None:
        """Declare the inputs."""
        for name, kind in self.program.inputs:
            if kind.dtype.is_complex:
                self.items.append(Unsupported("input", _COMPLEX_INPUT, name))
                self.cells[name] = Cell(None)
                continue
            value = self.b.input(name, kind.dtype, kind.shape)
            self.b.claim(value, name)
            self.taken.add(name)
            self.b.bound.update(names_in(line for line in kind.shape if isinstance(line, Sym) and line.line))
            self.cells[name] = Cell(value, root=f"input {name}")
        self._states()

    def _states(self) -> None:
        """Declare what the program changes: a buffer becomes an input, under its own name, with its value as default.

        Tensors that are one parameter are one input.
        """
        inputs = {name for name, _ in self.program.inputs}
        declared: dict[Parameter, Cell] = {}
        for name in changed(self.program):
            parameter = self.program.parameters.get(name)
            if name in inputs:
                self.state[name] = State(next_name(name))
                self.holders[name] = self.cells[name]
            elif parameter is not None and parameter not in declared:
                title = input_name(parameter.name, inputs)
                value = self.b.input(title, parameter.data.dtype, parameter.data.shape)
                self.b.claim(value, title)
                self.taken.add(title)
                self.state[value.name] = State(next_name(value.name), parameter)
                declared[parameter] = self.holders[value.name] = Cell(value, root=f"state {parameter.name}")
        for name, parameter in self.program.parameters.items():
            if parameter in declared:
                self.cells[name] = declared[parameter]

    def _next_states(self) -> None:
        """The outputs for what the program changes."""
        updates = {id(self.cells.get(name)): value for name, value in self.program.updates}
        for name, cell in self.holders.items():
            try:
                given = updates.get(id(cell))
                value = cell.read(self._remake) if given is None else self._argument(given)
            except (Refusal, _Missing) as refusal:
                if str(refusal) or not self.items:
                    reason = str(refusal) or "the rule of an operation that changes it does not compute it"
                    self.items.append(Unsupported("state", reason, name))
                continue
            if isinstance(value, Value):
                self.b.output(self.state[name].output, value)
            elif not self.items:
                self.items.append(Unsupported("state", "its new value cannot be computed", name))

    def inside(self, b: Lowering | None = None) -> Importer:
        """An importer of an inner graph: in line, or through the builder `b` of a region. Refusals are noted here."""
        inner = copy(self)
        inner.b = self.b if b is None else b
        inner.cells, inner.taken, inner.sites = {}, set() if b is not None else self.taken, {}
        inner.numbers, inner.pending = dict(self.numbers), dict(self.pending)
        inner._sizes = dict(self._sizes)
        return inner

    def run_block(self, block: Block, operands: Sequence[Any]) -> list[Value]:
        """Import an inner graph with these operands, Values and numbers; its results."""
        saved = self.b.current, self.b.recorded
        if len(operands) != len(block.inputs):
            raise MalformedError(f"an inner graph takes {len(block.inputs)} operands, {len(operands)} are given")
        for (name, number), given in zip(block.inputs, operands, strict=True):
            if number is None:
                value = given if isinstance(given, Value) else self.b.number(given, DType.INT64)
                self.cells[name] = Cell(value, root=f"operand {name}")
            else:
                self._let(number, given)
        for node in block.nodes:
            self.step(node)
        self.b.recorded = []
        results = [self._argument(each) for each in block.outputs]
        if not all(isinstance(each, Value | bool | int | float | Sym) for each in results):
            raise Refusal("an inner graph returns something else than tensors and numbers")
        with self.b.at(Scope(), Origin("torch", "results", self.b.current)):
            made = [as_value(self.b, each) for each in results]
        self.b.current, self.b.recorded = saved
        return made

    def _let(self, number: Any, given: Any) -> None:
        """Let a number of the program be what is given, a Value or a number."""
        if isinstance(number, Computed):
            self.numbers[number.node] = given
        elif isinstance(number, Sym) and number != given and number.name is not None:
            with self.b.at(Scope(), Origin("torch", "sym_int", number.name)):
                self.b.bind(number, as_value(self.b, given))

    def step(self, node: ProgramNode) -> None:
        """Import the next node."""
        site = self.sites.get(node.name)
        if site is not None:
            self.covered.update(each.name for each in site.nodes)
            self._call(site)
        if node.name in self.covered:
            return
        if node.symbolic:
            self._declare(node)
        elif base_name(node.target) not in _WITHOUT_EFFECT:
            self._import(node)

    def value(self, name: str) -> Value | None:
        """What a tensor of the program is now; None if an operation that it depends on cannot be expressed."""
        try:
            return self._read(name)
        except (Refusal, _Missing):
            return None

    def finish(self) -> Model:
        """The model, after the last node. Raises UnsupportedError with everything that could not be expressed."""
        self._outputs()
        self._next_states()
        if self.items:
            raise UnsupportedError(f"import {self.program.name}", self.items)
        dims = {name: span for name, span in self.program.dims.items() if name in self.b.bound}
        dims.update(self.own_dims)
        model = self.b.finish(dims=dims, source=self.program.source, state=self.state)
        model.metadata.update(assumptions_as_metadata(self.program.assumptions))
        return model

    def _import(self, node: ProgramNode) -> None:
        """Import one node; what cannot be expressed is noted, and its outputs are missing from then on."""
        rule = self._rule(node)
        if rule is None and complex_rules.importer(node.target) is not None and self._lacks(tuple(node.args.values())):
            self._miss(node)
            return
        if rule is None:
            of = " of complex numbers" if self._is_complex(node) else ""
            why = f": {reason}" if (reason := REASONS.get(base_name(node.target))) else ""
            self._note(node, f"there is no rule for this operation{of}{why}")
            self._miss(node)
            return
        try:
            self._share(node, rule)
        except Refusal as refusal:
            self._note(node, str(refusal))
            self._miss(node)
        except _Missing:
            self._miss(node)

    def _call(self, site: CallSite) -> None:
        """Import a call of a module by the rule of its class."""
        first = site.nodes[0]
        title = site.outputs[0] if site.outputs else first.name
        try:
            if changed := site.changes():
                raise Refusal(f"it changes {changed} in place, for which the rule of a module does not stand")
            types = tuple(self.program.types.get(name) for name in site.outputs)
            parameters = {name: self._read(given) for name, given in site.parameters.items()}
            call = ModuleCall(site.entry.path, tuple(map(self._read, site.inputs)), types, parameters)
            self.b.current, self.b.recorded = title, list(types)
            file, line, code = user_frame(first.trace)
            scope = Scope(first.scope.entries[: first.scope.entries.index(site.entry) + 1])
            with self.b.at(scope, Origin("torch", site.entry.cls, title, file, line, code)):
                result = site.rule(self.b, call)
            values = [result] if isinstance(result, Value) else list(result)
            if len(values) != len(site.outputs):
                raise Refusal(f"its rule gives {len(values)} values, the call has {', '.join(site.outputs)}")
            for name, value in zip(site.outputs, values, strict=True):
                self._settle(replace(first, name=title, target=site.entry.cls), name, value)
                self.cells[name] = Cell(value)
        except (Refusal, _Missing) as refusal:
            if str(refusal):
                self._note(replace(first, target=site.entry.cls), str(refusal))
            self.cells.update((name, Cell(None)) for name in site.outputs)

    def _rule(self, node: ProgramNode) -> ImportRule | None:
        return complex_rules.importer(node.target) if self._is_complex(node) else rule_of(node.target)

    def _is_complex(self, node: ProgramNode) -> bool:
        """Whether an operand or a result is a tensor of complex numbers."""
        recorded = (self.program.types.get(name or "") for name in node.outputs)
        return any(kind is not None and kind.dtype.is_complex for kind in recorded) or self._has_complex(
            tuple(node.args.values())
        )

    def _lacks(self, argument: Any) -> bool:
        """Whether an operand is missing, so that nobody knows if it would be complex."""
        if isinstance(argument, Ref):
            cell = self.cells.get(argument.name)
            return cell is not None and cell.value is None
        return isinstance(argument, tuple) and any(map(self._lacks, argument))

    def _has_complex(self, argument: Any) -> bool:
        if isinstance(argument, Ref):
            known = self.cells.get(argument.name) or self.program.parameters.get(argument.name)
            if isinstance(known, Parameter):
                return known.data.dtype.is_complex
            return known is not None and isinstance(known.value, Complex)
        return isinstance(argument, tuple) and any(map(self._has_complex, argument))

    def _share(self, node: ProgramNode, rule: ImportRule) -> None:
        """Apply the rule, and keep track of the memory that the results share."""
        target = base_name(node.target)
        operand = self._operand_cell(node)
        values = self._apply(node, rule)
        if operand is not None and target in IDENTITIES:
            self.cells[self._single(node)] = operand
        elif operand is not None and mutates(node.target):
            self._mutate(node, operand, values[0])
        else:
            for name, value in zip(node.outputs, values, strict=True):
                if name in node.numbers and value is not None:
                    self._let(node.numbers[name], value)
            drawn = bool(node.args.get("train"))  # dropout in training makes a tensor of its own
            view = operand is not None and not drawn and (target in VIEWS or target in MAYBE_VIEWS)
            for position, (name, value) in enumerate(zip(node.outputs, values, strict=True)):
                if name is not None:
                    shared = view and self._shares(node, operand, name, value)
                    base = operand if shared is not False else None
                    self.cells[name] = Cell(value, base, node, position, certain=bool(shared))

    def _shares(self, node: ProgramNode, operand: Cell | None, name: str, value: Any) -> bool | None:
        """Whether the result of an operation that may return a view has the memory of its operand; None: it may."""
        if base_name(node.target) in VIEWS:
            return True
        given = mutated_argument(node)
        if operand is None or not isinstance(operand.value, Value) or not isinstance(value, Value):
            return None
        strides = self.program.strides
        return shares(node, (operand.value.type, strides.get(given.name)), (value.type, strides.get(name)))

    def _view_of(self, node: ProgramNode, position: int, base: Value) -> Value:
        """An output of a view operation, of another base than its own."""
        rule = self._rule(node)
        if rule is None:
            raise _Missing
        saved = self.b.current, self.b.recorded
        given = {name: self._argument(value) for name, value in node.args.items() if name not in ("self", "input")}
        self.b.current = node.name
        self.b.recorded = [self.program.types.get(name or "") for name in node.outputs]
        with self._at(node):
            result = rule(self.b, **given, **{name: base for name in ("self", "input") if name in node.args})
        self.b.current, self.b.recorded = saved
        value = result if isinstance(result, Value) else result[position]
        if not isinstance(value, Value):
            raise _Missing
        return value

    def _single(self, node: ProgramNode) -> str:
        if len(node.outputs) != 1 or node.outputs[0] is None:
            raise MalformedError(f"`{node.target}` returns one tensor", at=node.name)
        return node.outputs[0]

    def _operand_cell(self, node: ProgramNode) -> Cell | None:
        operand = mutated_argument(node)
        return self.cells.get(operand.name) if isinstance(operand, Ref) else None

    def _mutate(self, node: ProgramNode, cell: Cell, value: Any) -> None:
        if cell.root.startswith(("buffer", "weight", "operand")):
            raise Refusal(f"it changes the {cell.root} in place, which is not expressed here")
        if value is None or cell.value is None:
            raise _Missing
        if isinstance(value, Complex) or isinstance(cell.value, Complex):
            self._mutate_complex(node, cell, value)
            return
        kept = self.b.cast(value, cell.value.dtype)
        if kept.shape != cell.value.shape:
            with self._at(node):
                kept = self.b.emit(ops.Expand(cell.value.shape), kept)
        with self._at(node):
            write(self.b, cell, kept, self._view_of)
        if node.outputs and node.outputs[0] is not None:
            self.cells[node.outputs[0]] = cell

    def _mutate_complex(self, node: ProgramNode, cell: Cell, value: Any) -> None:
        before = cell.value
        if type(value) is not type(before) or value.shape != before.shape or value.dtype is not before.dtype:
            raise Refusal("it changes a tensor of complex numbers in place, to one of another type or shape")
        with self._at(node):
            write(self.b, cell, value, self._view_of)
        if node.outputs and node.outputs[0] is not None:
            self.cells[node.outputs[0]] = cell

    def _apply(self, node: ProgramNode, rule: ImportRule) -> list[Value | None]:
        """The values of the node's outputs, by its rule: named after them, checked against the recorded types."""
        self.b.current = node.name
        recorded = [self.program.types.get(name or "") for name in node.outputs]
        self.b.recorded = [] if node.target.startswith("higher_order.") else recorded
        arguments = {name: self._argument(value) for name, value in node.args.items()}
        self.b.recorded = recorded
        known, needed = _parameters(rule)
        if not known >= arguments.keys() or not needed <= arguments.keys():
            self._misfit(node, f"it was given {', '.join(arguments)}", None)
        with self._at(node):
            try:
                result = rule(self.b, **autocast(self.b, node.target, arguments, recorded[0] if recorded else None))
            except GraphError as error:
                error.at = error.at or self._where(node)
                raise
            except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
                if _computed(tuple(node.args.values())):
                    raise Refusal("an argument that is computed from data or sizes") from error
                self._misfit(node, f"{type(error).__name__}: {error}", error)
        values: list[Value | None] = [result] if isinstance(result, Value | Complex) else list(result)
        if len(values) != len(node.outputs):
            self._misfit(node, f"{len(node.outputs)} outputs are named, it has {len(values)}", None)
        for name, value in zip(node.outputs, values, strict=True):
            if name is not None and value is not None:
                self._settle(node, name, value)
                self.b.bound.update(names_in(dim for dim in value.shape if isinstance(dim, Sym) and dim.line))
        return values

    def _misfit(self, node: ProgramNode, because: str, error: Exception | None) -> None:
        raise MalformedError(
            f"the arguments of `{node.target}` do not fit it", at=self._where(node), because=because
        ) from error

    def _settle(self, node: ProgramNode, name: str, value: Any) -> None:
        """Name the value as the program does, and compare its type with the recorded one."""
        tensor = value.value if isinstance(value, Complex) else value
        made_here = tensor is not None and tensor.producer is not None and tensor.producer.origin.name == node.name
        if tensor is not None and made_here and name not in self.taken and tensor.name not in self.taken:
            self.b.claim(tensor, name)
            self.taken.add(name)
        recorded = self.program.types.get(name)
        if recorded is None:
            return
        if not _agrees(recorded, value.type):
            raise GraphError(
                f"`{node.target}` gives {value.type}, the program records {recorded}",
                at=self._where(node),
                because=f"tensor {name}",
            )
        if isinstance(value, Value) and value.producer is not None and recorded.shape != value.shape:
            dims = (
                known if isinstance(known, int) else dim for known, dim in zip(recorded.shape, value.shape, strict=True)
            )
            value.type = TensorType(value.dtype, tuple(dims))

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._read(argument.name)
        if isinstance(argument, tuple):
            return tuple(self._argument(item) for item in argument)
        if isinstance(argument, Opaque):
            raise Refusal(argument.reason)
        if isinstance(argument, Block):
            return Body(self, argument)
        if isinstance(argument, Computed):
            return self._number(argument)
        if isinstance(argument, Sym) and not argument.names() <= self.b.bound:
            raise Refusal(f"it depends on the size {argument}, which is not known here")
        return argument

    def _declare(self, node: ProgramNode) -> None:
        """Note a node that returns a number. What is taken out of a tensor is read now, the rest when it is used."""
        if base_name(node.target) not in ITEMS:
            self.pending[node.name] = node
            return
        try:
            value = self._argument(node.args["self"])
        except (Refusal, _Missing) as refusal:
            if str(refusal):
                self._note(node, str(refusal))
            return
        self.b.current = node.name
        with self._at(node):
            scalar = self.b.reshape(value, ())
            if not isinstance(node.result, Sym):
                self.numbers[node.name] = _python_number(self.b, scalar)
            elif node.result.name is not None and node.result.name not in self.b.bound:
                self.b.bind(node.result, scalar)

    def _number(self, given: Computed) -> Any:
        """A number that is computed: a Sym for an integer, else a tensor of shape () that promotes nothing."""
        node = self.pending.get(given.node)
        if given.node not in self.numbers and node is not None:
            saved = self.b.current, self.b.recorded
            self.numbers[given.node] = self._calculate(node)
            self.b.current, self.b.recorded = saved
        if given.node not in self.numbers:
            raise _Missing
        number = self.numbers[given.node]
        if isinstance(number, Value) and number.dtype is DType.INT64:
            return self._size(given, number)
        if isinstance(number, Value) and number.dtype is DType.FLOAT64 and self.b.recorded:
            kinds = [kind.dtype for kind in self.b.recorded if kind is not None and kind.dtype.is_float]
            with self.b.at(Scope(), Origin("torch", "sym_float", given.node)):
                return self.b.cast(number, kinds[0] if kinds else DType.FLOAT32)
        return number

    def _calculate(self, node: ProgramNode) -> Any:
        rule = NUMBER_RULES.get(node.target)
        if rule is None:
            raise Refusal(f"the number {node.name} is computed by `{node.target}`, which has no rule")
        self.depth += 1
        if self.depth > _DEEPEST_NUMBER:
            raise MalformedError(f"the number {node.name} is computed from a chain of {_DEEPEST_NUMBER} others")
        try:
            self.b.recorded = []
            operands = [self._argument(value) for value in node.args.values()]
            self.b.current = node.name
            with self._at(node):
                return rule(self.b, *operands)
        finally:
            self.depth -= 1

    def _size(self, given: Computed, number: Value) -> Sym:
        """A named dimension for an integer that no expression over sizes can say; equal expressions are one."""
        if given.expression not in self._sizes:
            count, name = 0, "d0"
            while name in self.program.dims or name in self.own_dims:
                count += 1
                name = f"d{count}"
            self.own_dims[name] = DimRange(0)
            self._sizes[given.expression] = Sym(name)
            with self.b.at(Scope(), Origin("torch", "sym_int", given.node)):
                self.b.bind(Sym(name), number)
        return self._sizes[given.expression]

    def _read(self, name: str) -> Value:
        cell = self.cells.get(name)
        if cell is None:
            parameter = self.program.parameters.get(name)
            if parameter is None:
                raise MalformedError(f"the tensor {name} is read before it is made")
            title = f"{'weight' if parameter.role == 'weight' else 'buffer'} {parameter.name}"
            held = parameter.data.dtype.is_complex
            made = Complex(self.b.parameter(self._pairs(parameter))) if held else self.b.parameter(parameter)
            cell = self.cells[name] = Cell(made, root=title)
        value: Value = cell.read(self._remake)
        if value is None:
            raise _Missing
        return value

    def _pairs(self, parameter: Parameter) -> Parameter:
        """A complex parameter as pairs, the same for all its names."""
        if parameter not in self.pairs:
            self.pairs[parameter] = pairs_of(parameter)
        return self.pairs[parameter]

    def _remake(self, node: ProgramNode, position: int) -> Value:
        """An output of a view, computed again from what its base is now."""
        rule = self._rule(node)
        if rule is None:
            raise _Missing
        saved = self.b.current, self.b.recorded
        value = self._apply(node, rule)[position]
        self.b.current, self.b.recorded = saved
        if value is None:
            raise _Missing
        return value

    def _outputs(self) -> None:
        for name, given in self.program.outputs:
            try:
                value = self._argument(given)
            except (Refusal, _Missing) as refusal:
                if str(refusal) or not self.items:
                    reason = str(refusal) or "the rule of its operation does not compute it"
                    self.items.append(Unsupported("output", reason, name))
                continue
            if isinstance(value, Complex):
                self.items.append(Unsupported("output", _COMPLEX_OUTPUT, name))
                continue
            if not isinstance(value, Value):
                origin = Origin("torch", "output", name)
                self.b.current = name
                with self.b.at(Scope(), origin):
                    kind = (
                        DType.BOOL
                        if isinstance(value, bool)
                        else DType.FLOAT32
                        if isinstance(value, float)
                        else DType.INT64
                    )
                    value = self.b.emit(ops.Identity(), self.b.number(value, kind))
            self.b.output(name, value)

    def _at(self, node: ProgramNode) -> Any:
        file, line, code = user_frame(node.trace)
        return self.b.at(node.scope, Origin("torch", node.target, node.name, file, line, code))

    def _where(self, node: ProgramNode) -> str:
        file, line, code = user_frame(node.trace)
        return Origin("torch", node.target, node.name, file, line, code).describe(node.scope)

    def _note(self, node: ProgramNode, reason: str) -> None:
        self.items.append(Unsupported(node.target, reason, self._where(node)))

    def _miss(self, node: ProgramNode) -> None:
        for name in node.outputs:
            if name is not None:
                self.cells[name] = Cell(None)


class _Missing(Exception):
    pass


_DEEPEST_NUMBER = 200

_COMPLEX_INPUT = "models take no complex numbers; let it take pairs (…, 2) of real ones, and use torch.view_as_complex"
_COMPLEX_OUTPUT = "models return no complex numbers; return torch.view_as_real of it"


def _computed(argument: Any) -> bool:
    """Whether an argument is or holds a computed number."""
    return isinstance(argument, Computed | Sym) or (isinstance(argument, tuple) and any(map(_computed, argument)))


def _python_number(b: Lowering, value: Value) -> Value:
    """The element of a tensor in the type that Python has for it."""
    if value.dtype is DType.BOOL:
        return value
    return b.cast(value, DType.FLOAT64 if value.dtype.is_float else DType.INT64)


@cache
def _parameters(rule: ImportRule) -> tuple[frozenset[str], frozenset[str]]:
    """(all, required) names of the arguments that a rule takes."""
    listed = list(inspect.signature(rule).parameters.values())[1:]
    needed = (each.name for each in listed if each.default is inspect.Parameter.empty)
    return frozenset(each.name for each in listed), frozenset(needed)


def _agrees(recorded: TensorType, made: TensorType) -> bool:
    """Whether two types can be the same; symbolic sizes may be written differently."""
    if recorded.dtype is not made.dtype or recorded.rank != made.rank:
        return False
    pairs: Sequence[Any] = list(zip(recorded.shape, made.shape, strict=True))
    return all(isinstance(left, Sym) or isinstance(right, Sym) or left == right for left, right in pairs)
