"""Emits the nodes of a program one by one through the importer: every tensor's type is known as soon as it is made.

The inliner decides what comes next; this decides how it is said in the vocabulary of exported programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from isomorph.converters.frames import user_frame
from isomorph.converters.torch.importer import Importer
from isomorph.converters.torch.program import Block, Computed, Program, ProgramNode, Ref
from isomorph.converters.torch.script.recording import Recording, free_in, memory_of, root_of
from isomorph.converters.torch.script.results import count_of, decided_types, evaluated
from isomorph.converters.torch.script.schemas import Schema
from isomorph.converters.torch.script.values import SCALAR_TYPES, Device, Number, Rows, SizeTensor, Value, is_tensor
from isomorph.converters.torch.storage import Cell, mutates
from isomorph.errors import MalformedError, Unsupported, UnsupportedError
from isomorph.ir import Dim, DimRange, DType, Model, Origin, Parameter, Scope, State, Sym, TensorType
from isomorph.ir import Value as IRValue
from isomorph.ir.tensors import ArrayTensor

__all__ = ["MAX_NODES", "Session"]

MAX_NODES = 50_000
_DEEPEST_BLOCK = 6


class Session:
    """One program in the making. `where` is set by the inliner before each node: (scope, stack trace)."""

    def __init__(
        self, name: str, inputs: Sequence[tuple[str, TensorType]], dims: Mapping[str, DimRange], source: tuple[str, str]
    ) -> None:
        self.program = Program(name, list(inputs), {}, [], [], {}, dict(dims), [], source)
        self.importer = Importer(self.program)
        self.importer.begin()
        self.where: tuple[Scope, str] = (Scope(), "")
        self._names = {name for name, _ in inputs}
        self._counts: dict[str, int] = {}
        self._nodes = 0
        self._constants: dict[bytes, Ref] = {}
        self._sizes: dict[Dim, Ref] = {}
        self._titles: dict[Parameter, Ref] = {}
        self._idle: set[int] = set()
        self._recordings: list[Recording] = []
        self._shared: dict[str, str] = {}
        self._signed: dict[str, DimRange] = {}
        self._formals: dict[int, dict[str, IRValue]] = {}
        self.growing: dict[int, Value] = {}
        """Lists that the loop at hand appends to, by identity: what is in them is not known."""
        self.tracked: dict[int, Value] = {}
        """Lists with Rows in them, by identity."""

    @property
    def dims(self) -> dict[str, DimRange]:
        """Ranges of the named dimensions so far; a number that is taken out of data may be negative."""
        return {**self.program.dims, **self.importer.own_dims, **self._signed}

    def parameter(self, parameter: Parameter) -> Ref:
        """The tensor of the program that a parameter is; the same parameter always gives the same one."""
        ref = self._titles.get(parameter)
        if ref is None:
            ref = self._titles[parameter] = Ref(self._fresh(f"p_{parameter.name}".replace(".", "_")))
            self.program.parameters[ref.name] = parameter
        return ref

    def constant(self, array: np.ndarray) -> Ref:
        """A new tensor of known elements."""
        key = str(array.dtype).encode() + str(array.shape).encode() + array.tobytes()
        if key not in self._constants:
            parameter = Parameter(self._fresh("constant"), ArrayTensor(array), trainable=False, role="constant")
            self._constants[key] = self.parameter(parameter)
        return self.node("aten.lift_fresh_copy.default", {"self": self._constants[key]})

    def value(self, ref: Ref) -> IRValue:
        """The IR value of a tensor. Raises UnsupportedError with all that is missing if it could not be imported."""
        self._reach(ref.name, len(self._recordings))
        value = self.importer.value(ref.name)
        if value is None:
            self.stop()
        return value

    def kind(self, tensor: Ref | SizeTensor) -> TensorType:
        """Element type and shape of a tensor."""
        return TensorType(DType.INT64, ()) if isinstance(tensor, SizeTensor) else self.value(tensor).type

    def stop(self) -> NoReturn:
        """Raise what the importer has noted: the code cannot be followed any further."""
        raise UnsupportedError(f"import {self.program.name}", self.importer.items)

    def note(self, op: str, reason: str, where: str) -> NoReturn:
        """Note one more thing that cannot be expressed, and stop."""
        self.importer.items.append(Unsupported(op, reason, where))
        self.stop()

    def call(self, schema: Schema, bound: Mapping[str, Value]) -> Value:
        """Emit an operation; its result as the code sees it."""
        known = {argument.name: argument for argument in schema.arguments}
        args = {
            name: self._argument(value, known[name].kind)
            for name, value in bound.items()
            if not known[name].is_default(value)  # those are absent in exported programs
        }
        returns = schema.returns
        if returns == ("Tensor[]",):
            count = count_of(schema.target, args, self.kind)
            if count is not None:
                return list(self.nodes(schema.target, args, count))
            return self._unbound(schema, args)
        if not all(kind == "Tensor" for kind in returns):
            self._unknown(schema)
        made = self.nodes(schema.target, args, len(returns))
        return made[0] if len(made) == 1 else tuple(made) if made else None

    def _unbound(self, schema: Schema, args: Mapping[str, Any]) -> list[Value]:
        """Tensors along an axis whose size varies."""
        if schema.target != "aten.unbind.int":
            self._unknown(schema)
        source, axis = args["self"], args.get("dim", 0)
        shape = self.kind(source).shape
        moved = self.node("aten.movedim.int", {"self": source, "source": axis, "destination": 0}) if axis else source
        made: list[Value] = [Rows(moved, shape[axis])]
        self.tracked[id(made)] = made
        return made

    # branches

    def begin_block(self) -> None:
        """From here on operations are recorded for an inner graph, and imported on trial, to know their types."""
        if len(self._recordings) >= _DEEPEST_BLOCK:
            raise MalformedError(
                f"branches that the data decide are nested deeper than {_DEEPEST_BLOCK}", at=self.here()
            )
        self._recordings.append(Recording(self.importer, len(self.importer.items), dict(self._sizes)))
        with self.importer.b.at(Scope(), Origin("torch", "prim.If")):
            self.importer = self.importer.inside(self.importer.b.region("branch"))

    def end_block(self) -> Recording:
        """End the innermost recording."""
        recording = self._recordings.pop()
        reached = self._formals.pop(id(recording), {})
        for name, formal in reached.items():
            cell = self.importer.cells.get(name)
            if cell is not None and (cell.value is not formal or cell.stale):
                recording.changed.append(name)
        self.importer = recording.importer
        self._refuse_shared_memory(recording, reached)
        self._sizes = recording.sizes
        del self.importer.items[recording.noted :]
        return recording

    def _refuse_shared_memory(self, recording: Recording, reached: Mapping[str, IRValue]) -> None:
        """Refuse an inner graph that changes a tensor from outside and reads another one of the same memory: each is an
        input of its own there, and the other one would be out of date."""
        cells = self.importer.cells
        for name in (*recording.changed, *recording.let):
            family = cells[name].family if name in cells else []
            if any(other != name and any(cells.get(other) is each for each in family) for other in reached):
                reason = "a branch or loop changes a tensor in place and reads another one of its memory from outside"
                self.note("prim.If", reason, self.here())

    def original(self, recording: Recording, ref: Ref) -> Ref:
        """The tensor from outside that a result of in-place operations in a branch is; else the tensor itself."""
        source = memory_of(ref.name, recording, ())
        return ref if source is None else Ref(source)

    def block_result(self, recording: Recording, value: Value) -> Any:
        """A value as a result of an inner graph; sizes in tensors are made there."""
        if isinstance(value, SizeTensor):
            name = self._fresh("size")
            args = {"s": value.dim, "dtype": DType.INT64}
            recording.nodes.append(ProgramNode(name, "aten.scalar_tensor.default", args, (name,), *self.where))
            recording.made.add(name)
            return Ref(name)
        return _plain(value)

    def choose(
        self,
        condition: Computed,
        blocks: Sequence[tuple[Recording, tuple[Any, ...]]],
        kinds: Sequence[type | None],
        changed: Sequence[str],
    ) -> list[Value]:
        """Emit the choice between two inner graphs.

        kinds    the type of each result, None for a tensor
        changed  tensors from outside that they change in place; the last results are their new values
        """
        tensors, numbers = self._free(blocks)
        own = {name: self._fresh(f"{name}_given") for name in changed}
        inputs: list[tuple[str, Any]] = [(own.get(each.name, each.name), None) for each in tensors]
        inputs += [(self._fresh("number"), each) for each in numbers]
        copies = [
            ProgramNode(name, "aten.clone.default", {"self": Ref(given)}, (name,), *self.where)
            for name, given in own.items()
        ]
        inner = [Block(list(inputs), [*copies, *recording.nodes], results) for recording, results in blocks]
        name = self._next("prim.If")
        outputs = [self._fresh(f"{name}_{index}") for index in range(len(kinds))]
        made = [
            Ref(output)
            if kind is None
            else self.new_number()
            if kind is int
            else Number(kind, Computed(output, output))
            for output, kind in zip(outputs, kinds, strict=True)
        ]
        args = {"pred": condition, "true_fn": inner[0], "false_fn": inner[1], "operands": (*tensors, *numbers)}
        called = {output: _plain(each) for output, each in zip(outputs, made, strict=True) if not isinstance(each, Ref)}
        node = ProgramNode(name, "higher_order.cond", args, tuple(outputs), *self.where, numbers=called)
        noted = len(self.importer.items)
        self._step(node)
        self._idle.update(range(noted, len(self.importer.items)))
        self._share(outputs[: len(outputs) - len(changed)], blocks)
        return made

    def _free(self, blocks: Sequence[tuple[Recording, tuple[Any, ...]]]) -> tuple[list[Ref], list[Computed]]:
        """The tensors and numbers from outside that inner graphs read."""
        free: dict[Any, None] = {}
        for recording, results in blocks:
            for argument in (*(each for node in recording.nodes for each in node.args.values()), *results):
                free.update(dict.fromkeys(free_in(argument, recording.made, self.program.parameters)))
        return [each for each in free if isinstance(each, Ref)], [each for each in free if isinstance(each, Computed)]

    # loops

    def formal(self, base: str, kind: TensorType) -> Ref:
        """An input of the inner graph that is recorded."""
        name = self._fresh(f"{base}_given")
        self.importer.cells[name] = Cell(self.importer.b.input(name, kind.dtype, kind.shape))
        self._recordings[-1].made.add(name)
        self._recordings[-1].inputs.append(name)
        return Ref(name)

    def let(self, name: str, given: Ref) -> None:
        """In the inner graph that is recorded, a tensor from outside is what is given."""
        self._step(ProgramNode(self._fresh("memory"), "aten.clone.default", {"self": given}, (name,), *self.where))
        self._recordings[-1].let.append(name)

    def is_written(self, name: str) -> bool:
        """Whether a tensor of the inner graph that is recorded is changed in place there."""
        recording = self._recordings[-1]
        changed = [node.args.get("self", node.args.get("input")) for node in recording.nodes if mutates(node.target)]
        return any(isinstance(each, Ref) and root_of(each.name, recording) == name for each in changed)

    def as_tensor(self, value: Value, kind: TensorType) -> Ref:
        """A tensor, or a number as a tensor of this type."""
        if is_tensor(value):
            return self.tensor(value)
        return self.node("aten.scalar_tensor.default", {"s": _plain(value), "dtype": kind.dtype})

    def loop(
        self,
        blocks: Sequence[tuple[Recording, tuple[Any, ...]]],
        carried: Sequence[Ref],
        *,
        trips: Dim | None,
        stacked: Sequence[TensorType],
    ) -> list[Ref]:
        """Emit a loop: its body, after its condition where it has one. Both take what is carried, and the body the
        number of the iteration before it.

        Returns the last values of what is carried, and other results of all iterations, stacked to these types.
        """
        tensors, numbers = self._free(blocks)
        shared: list[tuple[str, Any]] = [(each.name, None) for each in tensors]
        shared += [(self._fresh("number"), each) for each in numbers]
        inner = [
            Block([*((name, None) for name in recording.inputs), *shared], list(recording.nodes), results)
            for recording, results in blocks
        ]
        name = self._next("prim.Loop")
        outputs = [self._fresh(f"{name}_{index}") for index in range(len(carried) + len(stacked))]
        self.program.types.update(zip(outputs[len(carried) :], stacked, strict=True))
        args = {
            "trips": trips,
            "cond_fn": inner[0] if len(inner) > 1 else None,
            "body_fn": inner[-1],
            "carried_inputs": tuple(carried),
            "additional_inputs": (*tensors, *numbers),
        }
        noted = len(self.importer.items)
        self._step(ProgramNode(name, "prim.Loop", args, tuple(outputs), *self.where))
        self._idle.update(range(noted, len(self.importer.items)))
        return [Ref(output) for output in outputs]

    def _share(self, outputs: Sequence[str], blocks: Sequence[tuple[Recording, tuple[Any, ...]]]) -> None:
        """Note results that may be the memory of a tensor from outside: changing either in place is refused."""
        for output, results in zip(outputs, zip(*(results for _, results in blocks), strict=True), strict=False):
            for (recording, _), result in zip(blocks, results, strict=True):
                if isinstance(result, Ref):
                    source = memory_of(result.name, recording)
                    if source is not None:
                        self._shared[output] = self._shared[source] = source

    def _reach(self, name: str, level: int) -> None:
        """Let a tensor from outside be known in the inner graph at this level, as an input."""
        importers = [each.importer for each in self._recordings] + [self.importer]
        importer = importers[level]
        if level == 0 or name in importer.cells or name in self.program.parameters:
            return
        self._reach(name, level - 1)
        outer = importers[level - 1].value(name)
        if outer is None:
            self.stop()
        formal = importer.b.input(name, outer.dtype, outer.shape)
        importer.cells[name] = Cell(formal)
        self._formals.setdefault(id(self._recordings[level - 1]), {})[name] = formal

    def _step(self, node: ProgramNode) -> None:
        """Import a node, and record it where a branch is followed."""
        if mutates(node.target):
            changed = node.args.get("self", node.args.get("input"))
            if isinstance(changed, Ref) and changed.name in self._shared:
                reason = "it changes a tensor in place that may be another one, depending on a branch"
                self.note(node.target, reason, self.here())
            if isinstance(changed, Ref) and self._recordings:
                name = root_of(changed.name, self._recordings[-1])
                if name in self.program.parameters:
                    title = self.program.parameters[name].name
                    self.note(node.target, f"it changes `{title}` in place, in a branch or loop", self.here())
        if self._recordings:
            for argument in node.args.values():
                for each in free_in(argument, set(), {}):
                    if isinstance(each, Ref):
                        self._reach(each.name, len(self._recordings))
            recording = self._recordings[-1]
            recording.nodes.append(node)
            recording.made.update(name for name in (*node.outputs, node.name) if name)
            recording.made.update(each.node for each in node.numbers.values() if isinstance(each, Computed))
        self.importer.step(node)

    def here(self) -> str:
        """The module and the user's line, for an error."""
        scope, trace = self.where
        file, line, code = user_frame(trace)
        return Origin("torch", "", "", file, line, code).describe(scope)

    def _unknown(self, schema: Schema) -> NoReturn:
        reason = f"what it returns, {', '.join(schema.returns)}, is not followed"
        self.note(schema.target, reason, self.here())

    def node(self, target: str, args: Mapping[str, Any]) -> Ref:
        """Emit an operation with one result."""
        return self.nodes(target, args, 1)[0]

    def nodes(self, target: str, args: Mapping[str, Any], count: int) -> list[Ref]:
        """Emit an operation with `count` results."""
        name = self._next(target)
        outputs = [name] if count == 1 else [self._fresh(f"{name}_{index}") for index in range(count)]
        scope, trace = self.where
        self._record(target, args, outputs)
        noted = len(self.importer.items)
        self._step(ProgramNode(name, target, dict(args), tuple(outputs), scope, trace))
        if not mutates(target):
            self._idle.update(range(noted, len(self.importer.items)))
        elif any(self.importer.value(output) is None for output in outputs):
            self._idle.clear()  # what it changes is not what the importer holds: nothing may be dropped
        return [Ref(output) for output in outputs]

    def _record(self, target: str, args: Mapping[str, Any], outputs: Sequence[str]) -> None:
        """Record the types of results whose sizes the data decide, with new names for these."""
        types = decided_types(target, args, self.kind, self.new_size)
        if types is not None:
            self.program.types.update(zip(outputs, types, strict=False))

    def new_number(self) -> Sym:
        """A named integer that the data decide."""
        number = self.new_size()
        self._signed[str(number)] = DimRange(-(1 << 63))
        return number

    def new_size(self) -> Sym:
        """A named size that the data decide."""
        count = 0
        while f"u{count}" in self.program.dims:
            count += 1
        self.program.dims[f"u{count}"] = DimRange(0)
        return Sym(f"u{count}")

    def number(self, target: str, operands: Sequence[Value], kind: type) -> Value:
        """Emit arithmetic on numbers; the result is a Sym if it is an integer."""
        name = self._next(target)
        args = {str(index): _plain(operand) for index, operand in enumerate(operands)}
        computed = Computed(name, f"{target}({', '.join(str(operand) for operand in args.values())})")
        scope, trace = self.where
        self._step(ProgramNode(name, target, args, (), scope, trace, True, computed))
        if kind is int:
            return self.importer._number(computed)
        return Number(kind, computed)

    def item(self, tensor: Ref | SizeTensor, kind: type) -> Value:
        """The only element of a tensor as a number of the kind; known if it depends on no input."""
        if isinstance(tensor, SizeTensor):
            return self.convert(tensor.dim, kind)
        type_ = self.kind(tensor)
        if any(size != 1 for size in type_.shape):
            raise MalformedError(f"one element is taken out of a tensor of shape {list(type_.shape)}", at=self.here())
        known = self.known(tensor)
        if known is not None:
            return kind(known.reshape(-1)[0].item())
        own = bool if type_.dtype is DType.BOOL else float if type_.dtype.is_float else int
        name = self._next("item")
        result: Any = self.new_number() if own is int else Computed(name, name)
        scope, trace = self.where
        self._step(ProgramNode(name, "aten.item.default", {"self": tensor}, (), scope, trace, True, result))
        return self.convert(result if own is int else Number(own, result), kind)

    def convert(self, number: Value, kind: type) -> Value:
        """A number as int(), float() or bool() of it."""
        if isinstance(number, Sym):
            if kind is int:
                return number
            return (
                self.number("_operator.ne", (number, 0), bool)
                if kind is bool
                else self.number("torch.sym_float", (number,), float)
            )
        if isinstance(number, Number):
            if number.kind is kind:
                return number
            target = {int: "builtins.int", float: "builtins.float", bool: "_operator.ne"}[kind]
            return self.number(target, (number, 0) if kind is bool else (number,), kind)
        return kind(number)

    def tensor(self, value: Value) -> Ref:
        """A tensor of the program for a tensor of any kind."""
        if isinstance(value, SizeTensor):
            if value.dim not in self._sizes:
                args = {"s": value.dim, "dtype": DType.INT64}
                self._sizes[value.dim] = self.node("aten.scalar_tensor.default", args)
            return self._sizes[value.dim]
        if not isinstance(value, Ref):
            raise MalformedError("a tensor is expected", at=self.here())
        return value

    def known(self, ref: Ref) -> np.ndarray | None:
        """The elements of a tensor that depends on no input and on no weights, if it is small; else None."""
        return evaluated(self.value(ref), {}, 0)

    def finish(self, outputs: Sequence[tuple[str, Value]], state: Mapping[str, State]) -> Model:
        """The model with these outputs; `state` says which of them are the next values of which inputs."""
        self.importer.state.update(state)
        self.program.outputs = [(name, _plain(self.tensor(v) if is_tensor(v) else v)) for name, v in outputs]
        given = [value for _, value in self.program.outputs if isinstance(value, Ref)]
        if all(self.importer.value(ref.name) is not None for ref in given):
            # what no result depends on need not be expressed
            self.importer.items[:] = [item for at, item in enumerate(self.importer.items) if at not in self._idle]
        return self.importer.finish()

    def _argument(self, value: Value, kind: str) -> Any:
        """A value as the rules take it: element types as DType, lists as tuples, tensors as Ref."""
        plain = kind.rstrip("?")
        if isinstance(value, list | tuple):
            element = plain.partition("[")[0] + ("?" if "?[" in plain else "")
            return tuple(self._argument(item, element) for item in value)
        if plain == "ScalarType" and isinstance(value, int):
            if value not in SCALAR_TYPES:
                self.note("ScalarType", f"the element type with code {value} is not expressed", self.here())
            return SCALAR_TYPES[value]
        if plain in ("Layout", "MemoryFormat", "Device") and value is not None:
            return {"Layout": "layout", "MemoryFormat": "memory_format"}.get(plain, "device")
        if is_tensor(value):
            number = {"int": int, "SymInt": int, "float": float, "bool": bool}.get(plain)
            if plain == "Scalar":
                number = float if self.kind(value).dtype.is_float else int
            return self.tensor(value) if number is None else _plain(self.item(value, number))
        if plain == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return _plain(value)

    def _next(self, target: str) -> str:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise MalformedError(f"the code unrolls to more than {MAX_NODES} operations", at=self.here())
        base = target.split(".")[1] if target.count(".") else target
        return self._fresh(base.strip("_") or "op")

    def _fresh(self, base: str) -> str:
        """A name that no tensor has yet."""
        name, count = base, self._counts.get(base, 0)
        while name in self._names or self.importer.b.is_taken(name):
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._names.add(name)
        return name


def _plain(value: Value) -> Any:
    if isinstance(value, Number):
        return value.computed
    if isinstance(value, Device):
        return "device"
    return value
