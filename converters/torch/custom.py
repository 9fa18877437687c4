"""Rules of your own: an operator of `torch.library`, or a whole module class, as IR ops.

    from isomorph.converters.torch.custom import torch_module, torch_op
    from isomorph.ir import ops

    @torch_op("mylib::scaled_relu")
    def scaled_relu(b, x, scale=1.0):
        return b.emit(ops.Mul(), b.emit(ops.Relu(), x), b.number(scale, x.dtype))

    @torch_module("mylib.nn.RootMeanSquare")
    def root_mean_square(b, call):
        (x,) = call.inputs
        return b.emit(ops.RMSNormalization(axis=x.rank - 1, epsilon=1e-6), x, call.parameters["weight"])

A rule of an operator gets its arguments by the names of the operator's schema, as the rules here do (see rules.py). A
rule of a module stands for all operations inside a call of that module; it gets a `ModuleCall`.

A library that brings rules names the module that registers them in its entry points; they are imported once, when a
program is imported:

    [project.entry-points."isomorph.torch"]
    mylib = "mylib.isomorph_rules"
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.program import Program, ProgramNode, Ref, short_class
from isomorph.converters.torch.rules import ImportRule, rules
from isomorph.converters.torch.storage import IDENTITIES, MAYBE_VIEWS, VIEWS, base_name, mutated_argument, mutates
from isomorph.ir import ScopeEntry, TensorType, Value

__all__ = [
    "GROUP", "CallSite", "ModuleCall", "ModuleRule", "call_sites", "load_extensions", "rule_of", "torch_module",
    "torch_op",
]  # fmt: skip

GROUP = "isomorph.torch"
"""The entry points of libraries that bring rules."""

Rule = TypeVar("Rule", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a module, as its rule sees it.

    path        of the module in the model: "encoder.layers.3"
    inputs      the tensors that the call reads from outside, in the order of their first use
    outputs     the types of the tensors that are read outside afterwards, where torch recorded them. The rule returns
                one value for each
    parameters  the parameters and buffers that the call reads, by their names in the module
    """

    path: str
    inputs: tuple[Value, ...]
    outputs: tuple[TensorType | None, ...]
    parameters: Mapping[str, Value]


ModuleRule = Callable[[Lowering, ModuleCall], Value | Sequence[Value]]

_MODULES: dict[str, ModuleRule] = {}


def torch_op(name: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for the operator "namespace::name" or "namespace::name.overload".

    Raises ValueError for a name without a namespace, and for an operator that has a rule already.
    """
    space, colons, operator = name.partition("::")
    if not colons or not space or not operator:
        raise ValueError(f"{name!r} is no operator: write it as namespace::name or namespace::name.overload")
    plain, _, overload = operator.partition(".")
    return rules.imports(f"{space}.{plain}.{overload or 'default'}")


def torch_module(cls: type | str) -> Callable[[Rule], Rule]:
    """Register the decorated function for a module class, given as such or by its qualified name.

    Raises ValueError for a class that has a rule already.
    """
    name = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"

    def register(rule: Rule) -> Rule:
        if short_class(name) in _MODULES:
            raise ValueError(f"two rules for the module class {name}")
        _MODULES[short_class(name)] = rule
        return rule

    return register


@cache
def load_extensions() -> None:
    """Import the rules that installed libraries bring. What an extension raises is its own, and not caught."""
    if any(_declares(folder) for folder in sys.path):
        from importlib.metadata import entry_points

        for point in entry_points(group=GROUP):
            point.load()


def _declares(folder: str) -> bool:
    """Whether a distribution in the folder names the group; cheaper than to parse what all of them declare."""
    try:
        return any(
            f"[{GROUP}]".encode() in file.read_bytes() for file in Path(folder or ".").glob("*.*-info/entry_points.txt")
        )
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class CallSite:
    """A call in a program that the rule of a module class stands for.

    nodes       all operations of the call, in order
    inputs      names of the tensors that come from outside
    parameters  names of tensors of the model, by their names in the module
    outputs     names of the tensors that are read outside, in the order of their making
    """

    rule: ModuleRule
    entry: ScopeEntry
    nodes: tuple[ProgramNode, ...]
    inputs: tuple[str, ...]
    parameters: Mapping[str, str]
    outputs: tuple[str, ...]

    def changes(self) -> str:
        """A tensor from outside, or a parameter, that the call changes in place; "" if there is none."""
        outer = {name: name for name in self.inputs} | {given: name for name, given in self.parameters.items()}
        for node in self.nodes:
            operand = mutated_argument(node)
            source = outer.get(operand.name, "") if isinstance(operand, Ref) else ""
            if source and mutates(node.target):
                return source
            if source and base_name(node.target) in VIEWS | MAYBE_VIEWS | IDENTITIES:
                outer.update((name, source) for name in node.outputs if name)
        return ""


def call_sites(program: Program) -> dict[str, CallSite]:
    """{name of the first operation: call} of all calls of module classes that have a rule, the outermost ones."""
    load_extensions()
    if not _MODULES:
        return {}
    groups: dict[ScopeEntry, list[ProgramNode]] = {}
    for node in program.nodes:
        entry = next((each for each in node.scope.entries if each.cls in _MODULES), None)
        if entry is not None:
            groups.setdefault(entry, []).append(node)
    return {nodes[0].name: _site(program, entry, nodes) for entry, nodes in groups.items()}


def _site(program: Program, entry: ScopeEntry, nodes: Sequence[ProgramNode]) -> CallSite:
    made = {name for node in nodes for name in node.outputs if name}
    inside = set(map(id, nodes))
    inputs: dict[str, None] = {}
    parameters: dict[str, str] = {}
    for name in (name for node in nodes for name in _names(tuple(node.args.values()))):
        if name in program.parameters:
            parameters[program.parameters[name].name.removeprefix(f"{entry.path}.")] = name
        elif name not in made:
            inputs[name] = None
    outside = [tuple(node.args.values()) for node in program.nodes if id(node) not in inside]
    read = {name for arguments in outside for name in _names(arguments)}
    read.update(_names(tuple(value for _, value in program.outputs)))
    outputs = tuple(name for node in nodes for name in node.outputs if name in read and name is not None)
    return CallSite(_MODULES[entry.cls], entry, tuple(nodes), tuple(inputs), parameters, outputs)


def _names(argument: Any) -> Iterator[str]:
    if isinstance(argument, Ref):
        yield argument.name
    elif isinstance(argument, tuple):
        for item in argument:
            yield from _names(item)


def rule_of(target: str) -> ImportRule | None:
    """The rule of an operation; extensions are loaded before an operation is said to have none."""
    known = rules.importer(target)
    if known is None:
        load_extensions()
    return known or rules.importer(target)
