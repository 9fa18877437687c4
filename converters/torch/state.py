"""What a program changes that outlives the run: its buffers, and the tensors of its caller.

Each becomes an input and an output of the model. A program says so in its signature (functionalized programs), or by
operations in place on a buffer, an input, or views of them.
"""

from __future__ import annotations

from collections.abc import Collection

from isomorph.converters.torch.program import Program, ProgramNode, Ref
from isomorph.converters.torch.storage import IDENTITIES, MAYBE_VIEWS, VIEWS, base_name, mutated_argument, mutates

__all__ = ["changed", "input_name", "next_name"]


def changed(program: Program) -> list[str]:
    """Names of the tensors of the signature whose memory the program changes: parameters first, then inputs."""
    written = {name for name, _ in program.updates}
    roots: dict[str, str] = {}
    for node in program.nodes:
        root = _root(node, roots)
        if root is None:
            continue
        if mutates(node.target):
            written.add(root)
        for name in node.outputs:
            if name is not None:
                roots[name] = root
    return [name for name in (*program.parameters, *(name for name, _ in program.inputs)) if name in written]


def _root(node: ProgramNode, roots: dict[str, str]) -> str | None:
    """The tensor whose memory the results of a node may share."""
    target, operand = base_name(node.target), mutated_argument(node)
    shares = target in IDENTITIES or target in VIEWS or target in MAYBE_VIEWS or mutates(node.target)
    return roots.get(operand.name, operand.name) if shares and isinstance(operand, Ref) else None


def input_name(path: str, inputs: Collection[str]) -> str:
    """Name of the input for a buffer: its path, made different from the names of the arguments."""
    name, count = path, 0
    while name in inputs:
        count += 1
        name = f"{path}_{count}"
    return name


def next_name(name: str) -> str:
    """Name of the output with what a buffer or an input is after the run."""
    return f"{name}.next"
