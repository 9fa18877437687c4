"""An exported PyTorch program as plain data, whether it was read from a file or captured from a live module.

The two producers (reader.py parses a `.pt2`, capture.py walks a `torch.export.ExportedProgram`) make the same
`Program`; importer.py turns it into a `Model`. Nothing here knows torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from isomorph.errors import Unsupported
from isomorph.ir import Dim, DimRange, Parameter, Scope, ScopeEntry, TensorType

__all__ = [
    "BLOCK_ARGUMENTS", "Block", "Computed", "Opaque", "Program", "ProgramNode", "Ref", "output_names", "range_of",
    "ranges_of", "read_scope", "short_class",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor of the program, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A number that the program computes from data, or from sizes in a way that no `Dim` can hold.

    node        name of the node that computes it
    expression  torch's own text of it: equal for equal numbers
    """

    node: str
    expression: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """An argument that has no plain value; reading it is refused with this reason."""

    reason: str


@dataclass(slots=True)
class Block:
    """An inner graph, of a branch or a loop. It reads its inputs only; names of tensors are unique in the program.

    inputs   (name, number): None for a tensor, else what the inner graph calls the number: int, Sym or Computed
    outputs  Ref and plain numbers
    """

    inputs: list[tuple[str, Any]]
    nodes: list[ProgramNode]
    outputs: tuple[Any, ...]


BLOCK_ARGUMENTS = {
    "higher_order.cond": ("pred", "true_fn", "false_fn", "operands"),
    "higher_order.while_loop": ("cond_fn", "body_fn", "carried_inputs", "additional_inputs"),
    "higher_order.scan": ("combine_fn", "init", "xs", "additional_inputs"),
    "higher_order.map_impl": ("f", "xs", "pos_args"),
    "higher_order.associative_scan": ("combine_fn", "xs", "additional_inputs"),
}
"""Arguments by position of operators with inner graphs, which have no schema."""


@dataclass(slots=True)
class ProgramNode:
    """One operation.

    name      as in the FX graph
    target    "aten.conv2d.default", "_operator.mul" …
    args      by the names of the operator's schema; arguments left at their defaults are absent. Values are Ref, None,
              bool, int, float, Sym, str, DType, Computed, Opaque, Block, and tuples of these
    outputs   names of the tensors that it returns, lists of tensors unrolled; None where one is not returned
    numbers   what the program calls the outputs that are numbers, by their names: Sym or Computed
    symbolic  whether it returns one number and no tensors
    result    that number: known already (an int, a Sym of sizes) or `Computed`
    scope     the module that called it
    trace     the recorded stack trace, innermost frame last
    """

    name: str
    target: str
    args: dict[str, Any]
    outputs: tuple[str | None, ...]
    scope: Scope
    trace: str = ""
    symbolic: bool = False
    result: Any = None
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Program:
    """A program: inputs and outputs in the order of the signature, nodes in the order of execution.

    types       as torch recorded them, for all tensors whose sizes are expressible
    parameters  by the name of the tensor in the graph; tied weights are one `Parameter` under several names
    outputs     (name, value); a value is a Ref or a plain number
    refusals    what the signature asks for and the IR cannot express
    strides     of the tensors as torch recorded them, where known, in elements
    updates     (tensor, value): what the signature says that a buffer or an input is after the run
    assumptions conditions on named sizes that the program was made under and that not all sizes in `dims` fulfil
    """

    name: str
    inputs: list[tuple[str, TensorType]]
    parameters: dict[str, Parameter]
    nodes: list[ProgramNode]
    outputs: list[tuple[str, Any]]
    types: dict[str, TensorType]
    dims: dict[str, DimRange] = field(default_factory=dict)
    refusals: list[Unsupported] = field(default_factory=list)
    source: tuple[str, str] = ("torch", "")
    updates: list[tuple[str, Any]] = field(default_factory=list)
    strides: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)


_NN_MODULE = re.compile(r"torch\.nn\.modules\.\w+\.(\w+)")


@lru_cache(1024)
def short_class(name: str) -> str:
    """torch.nn.modules.conv.Conv2d -> torch.nn.Conv2d"""
    return _NN_MODULE.sub(r"torch.nn.\1", name)


def read_scope(stack: Mapping[str, tuple[str, str]]) -> Scope:
    """The Scope of torch's `nn_module_stack`, {key: (path, class)} from the root in; the root is left out.

    The key of a repeated call ends in `@1`, `@2` …
    """
    entries = []
    for key, (path, cls) in stack.items():
        if not path or path == key:
            continue
        head, _, call = key.rpartition("@")
        entries.append(
            ScopeEntry(path.partition("@")[0], short_class(cls), int(call) if head and call.isdigit() else 0)
        )
    return Scope(tuple(entries))


def range_of(low: int | None, high: int | None) -> DimRange:
    """The range of a dimension as torch records it. A size of 0 is left out; a bound beyond 2^62 is none."""
    return DimRange(max(1, low or 0), None if high is None or high >= 1 << 62 else high)


_BY_DATA = re.compile(r"u\d+")
_NUMBER = re.compile(r"zu?f\d+")


def ranges_of(bounds: Iterable[tuple[str, int | None, int | None]]) -> dict[str, DimRange]:
    """Ranges by symbol, from (symbol, lowest, highest). Sizes that the data decide (`u0`) may be 0; floats are none."""
    ranges = {}
    for symbol, low, high in bounds:
        if _BY_DATA.fullmatch(symbol):
            ranges[symbol] = DimRange(max(0, low or 0), range_of(low, high).max)
        elif not _NUMBER.fullmatch(symbol):
            ranges[symbol] = range_of(low, high)
    return ranges


def output_names(spec: str | None, count: int, inputs: Collection[str] = ()) -> list[str]:
    """Names for the `count` leaves of the returned structure, from the text of its pytree.

    "output" for a single tensor, "output_0" … for a tuple, the keys of a dict, joined by "_" where they are nested.
    What would bear the name of an input, as a cache that is taken and returned, is called "NAME.out".
    """
    paths: list[tuple[str, ...]] = []
    if spec:
        _, root = json.loads(spec)
        _leaves(root, (), paths)
    if len(paths) != count:
        paths = [(str(index),) for index in range(count)] if count > 1 else [()]
    names = []
    for path in paths:
        parts = path if path and not path[0].isdigit() else ("output", *path)
        name = "_".join(parts)
        name = f"{name}.out" if name in inputs else name
        while name in names:
            name += "_"
        names.append(name)
    return names


def _leaves(spec: Mapping[str, Any], path: tuple[str, ...], found: list[tuple[str, ...]]) -> None:
    if spec["type"] is None:
        found.append(path)
        return
    children = spec["children_spec"]
    keys = _keys(spec["type"], spec["context"], len(children))
    for key, child in zip(keys, children, strict=True):
        _leaves(child, (*path, key), found)


def _keys(kind: Any, context: Any, count: int) -> list[str]:
    """Names of a node's children: the keys of a dict, the fields of a data class; positions for all else.

    The context of a dict is the list of its keys, of a default dict [factory, keys], of a data class [fields, fields
    that are None]. What the user's own containers write is anything.
    """
    positions = [str(index) for index in range(count)]
    if not isinstance(context, str) or kind in ("builtins.tuple", "builtins.list"):
        return positions
    try:
        named = json.loads(context)
    except ValueError:  # the name of a named tuple's class, or a text of the user's
        return positions
    lists = [named, *(part for part in named if isinstance(part, list))] if isinstance(named, list) else []
    for names in lists:
        if len(names) == count and all(isinstance(name, str | int) for name in names):
            return [re.sub(r"\W", "_", str(name)) for name in names]
    return positions
