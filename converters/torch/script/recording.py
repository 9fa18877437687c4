"""A branch as it is recorded: its operations, and which tensors and numbers they take from outside."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from isomorph.converters.torch.importer import Importer
from isomorph.converters.torch.program import Computed, ProgramNode, Ref
from isomorph.converters.torch.storage import IDENTITIES, MAYBE_VIEWS, VIEWS, base_name, mutates
from isomorph.ir import Dim

__all__ = ["Recording", "free_in", "memory_of", "root_of"]


@dataclass(slots=True)
class Recording:
    """A branch while it is followed, and afterwards.

    importer   of the graph around it
    nodes      its operations, in order
    made       names of the tensors and numbers that they make
    changed    tensors from outside that it changes in place
    inputs     tensors that it is given, where it is of a loop; `let` are the tensors from outside among them
    """

    importer: Importer
    noted: int
    sizes: dict[Dim, Ref]
    nodes: list[ProgramNode] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    changed: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    let: list[str] = field(default_factory=list)


def free_in(argument: Any, made: Collection[str], parameters: Collection[str]) -> Iterator[Ref | Computed]:
    """The tensors and numbers in an argument that are not made inside."""
    if isinstance(argument, tuple):
        for each in argument:
            yield from free_in(each, made, parameters)
    name = argument.name if isinstance(argument, Ref) else argument.node if isinstance(argument, Computed) else None
    if name is not None and name not in made and name not in parameters:
        yield argument


def root_of(name: str, recording: Recording, through: Collection[str] = VIEWS | MAYBE_VIEWS) -> str:
    """The tensor whose memory a tensor of a branch may be: itself, or what it is a view of."""
    made_by = {output: node for node in recording.nodes for output in node.outputs}
    while name in made_by:
        node = made_by[name]
        target = base_name(node.target)
        operand = node.args.get("self", node.args.get("input"))
        if not isinstance(operand, Ref) or not (target in through or target in IDENTITIES or mutates(node.target)):
            return name
        name = operand.name
    return name


def memory_of(name: str, recording: Recording, through: Collection[str] = VIEWS | MAYBE_VIEWS) -> str | None:
    """The tensor from outside whose memory a tensor of a branch may be; None if it is the branch's own."""
    root = root_of(name, recording, through)
    return None if root in recording.made else root
