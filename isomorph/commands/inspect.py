"""`isomorph inspect`: what a model file contains."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isomorph.converters.torch.files.checkpoint import Checkpoint
    from isomorph.ir import Model, Node
    from isomorph.sources import Source

__all__ = ["command"]

_TREE_DEPTH = 3
_OPS_SHOWN = 12
_TENSORS_SHOWN = 40


@click.command("inspect")
@click.argument("model")
@click.option("--from", "format", metavar="FORMAT", help="Format of MODEL, where its content does not tell.")
@click.option(
    "--text", "as_text", is_flag=True, help="Print every node, in the text form of the intermediate representation."
)
@click.option("--json", "as_json", is_flag=True, help="Print the overview as JSON.")
def command(model: str, format: str | None, as_text: bool, as_json: bool) -> int:
    """Show what MODEL contains: signature, parameters, operations, module tree. Nothing of it is run.

    MODEL is a path, zoo:NAME or python:MODULE:CALLABLE (your own code, which is called). Of a checkpoint, which has
    weights only, the tensors are listed.
    """
    from isomorph import screen
    from isomorph.sources import locate

    if as_text and as_json:
        raise click.UsageError("--text and --json exclude each other")
    with screen.progress(quiet=as_json) as progress:
        located = locate(model, format=format, progress=progress)
        if located.path is None:
            screen.note(f"calling your code: {located.reference}")
        progress("read")
        if located.holds_weights:
            return _inspect_weights(located, as_text=as_text, as_json=as_json)
        read = located.model()
    if as_text:
        from isomorph.ir.text import print_model

        click.echo(print_model(read))
    elif as_json:
        screen.print_json(_overview(located.given, read))
    else:
        _show(located.given, read)
    return 0


def _inspect_weights(located: Source, *, as_text: bool, as_json: bool) -> int:
    """A checkpoint: its tensors. `--text` and `--json` list all of them."""
    from isomorph import screen
    from isomorph.converters.torch.files.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(located.file)
    if as_json:
        entries = [
            {"name": entry.name, "dtype": entry.dtype, "shape": list(entry.shape), "bytes": entry.nbytes}
            for entry in checkpoint.entries.values()
        ]
        content = {
            "command": "inspect",
            "model": located.given,
            "format": "checkpoint",
            "layout": checkpoint.layout,
            "bytes": checkpoint.nbytes,
            "tensors": entries,
            "others": dict(checkpoint.others),
            "exit_code": 0,
        }
        screen.print_json(content)
        return 0
    _show_weights(located.given, checkpoint, most=None if as_text else _TENSORS_SHOWN)
    return 0


def _show_weights(given: str, checkpoint: Checkpoint, most: int | None) -> None:
    from rich.text import Text

    from isomorph import screen
    from isomorph.printable import printable

    entries = list(checkpoint.entries.values())
    count = sum(math.prod(entry.shape) for entry in entries)
    others = [f"{name} = {value}" for name, value in checkpoint.others.items()]
    rows: list[tuple[str, str | Text]] = [
        ("format", f"checkpoint ({checkpoint.layout}): weights without a program"),
        ("tensors", f"{len(entries):,} with {count:,} elements, {checkpoint.nbytes / 1e6:,.2f} MB"),
        *(("other", text) for text in others[:most]),
        *([("other", f"... {len(others) - most} more")] if most is not None and len(others) > most else []),
    ]
    table = screen.columns("tensor", "dtype", "shape", "bytes")
    for entry in entries[:most]:
        table.add_row(printable(entry.name), entry.dtype, str(list(entry.shape)), f"{entry.nbytes:,}")
    if most is not None and len(entries) > most:
        table.add_row(f"... {len(entries) - most} more (--text lists all)", "", "", "")
    screen.show(Text(given, style="bold"), screen.fields(rows), *([table] if entries else []))


@dataclass(slots=True)
class _Module:
    """A module of the tree: its class, the nodes and weights in it and below."""

    cls: str = ""
    nodes: int = 0
    parameters: int = 0
    children: dict[str, _Module] = field(default_factory=dict)

    def as_dict(self, name: str) -> dict[str, Any]:
        children = [child.as_dict(key) for key, child in self.children.items()]
        return {
            "name": name,
            "class": self.cls,
            "nodes": self.nodes,
            "parameters": self.parameters,
            "children": children,
        }


def _tree(model: Model) -> _Module:
    """Modules by path. A weight counts where the first node that reads it is."""
    root, counted = _Module(), set()
    for node in model.nodes():
        weights = 0
        for value in node.operands():
            if value.parameter is not None and value.parameter.role != "constant" and value.parameter not in counted:
                counted.add(value.parameter)
                weights += value.parameter.data.size
        at = root
        for module in (root, *_path(root, node.scope.entries)):
            at = module
            at.nodes += 1
            at.parameters += weights
    return root


def _path(root: _Module, entries: Any) -> list[_Module]:
    modules, above, at = [], "", root
    for entry in entries:
        if not entry.path:
            root.cls = entry.cls
            continue
        name = entry.path.removeprefix(f"{above}.") if above else entry.path
        at = at.children.setdefault(name, _Module(entry.cls))
        modules.append(at)
        above = entry.path
    return modules


def _counts(model: Model) -> tuple[int, int, int]:
    """Elements of weights, of those that train, and bytes of everything."""
    parameters = [parameter for parameter in model.parameters().values() if parameter.role != "constant"]
    trainable = sum(
        parameter.data.size for parameter in parameters if parameter.trainable and parameter.role == "weight"
    )
    size = sum(parameter.data.nbytes for parameter in model.parameters().values())
    return sum(parameter.data.size for parameter in parameters), trainable, size


def _overview(given: str, model: Model) -> dict[str, Any]:
    from isomorph.converters.convert import describe_type

    total, trainable, size = _counts(model)
    return {
        "command": "inspect",
        "model": given,
        "name": model.name,
        "format": model.source[0],
        "version": model.source[1],
        "inputs": {name: describe_type(kind) for name, kind in model.inputs.items()},
        "outputs": {name: describe_type(kind) for name, kind in model.outputs.items()},
        "state": {name: state.output for name, state in model.state.items()},
        "dims": {name: [bounds.min, bounds.max] for name, bounds in model.dims.items()},
        "parameters": total,
        "trainable": trainable,
        "bytes": size,
        "nodes": sum(1 for _ in model.nodes()),
        "ops": dict(Counter(_kind(node) for node in model.nodes()).most_common()),
        "preserved": _preserved(model),
        "modules": _tree(model).as_dict(""),
        "metadata": dict(model.metadata),
        "exit_code": 0,
    }


def _kind(node: Node) -> str:
    """The op's name; of a preserved operator its own."""
    from isomorph.ir.ops import Preserved

    return node.op.title if isinstance(node.op, Preserved) else node.op.name


def _preserved(model: Model) -> dict[str, str]:
    """The operators that are kept as the source has them, and why."""
    from isomorph.ir.ops import Preserved

    return {node.op.title: node.op.reason for node in model.nodes() if isinstance(node.op, Preserved)}


def _show(given: str, model: Model) -> None:
    from rich.text import Text

    from isomorph import screen

    total, trainable, size = _counts(model)
    ops = Counter(map(_kind, model.nodes())).most_common()
    shown = ", ".join(f"{count} {name}" for name, count in ops[:_OPS_SHOWN])
    rest = f", {len(ops) - _OPS_SHOWN} other kinds" if len(ops) > _OPS_SHOWN else ""
    rows: list[tuple[str, str | Text]] = [
        ("format", " ".join(part for part in model.source if part)),
        *(("input", f"{name} {kind}") for name, kind in model.inputs.items()),
        *(("output", f"{name} {kind}") for name, kind in model.outputs.items()),
        *(("state", f"{name} -> {state.output}") for name, state in model.state.items()),
        ("parameters", f"{total:,} ({trainable:,} trainable), {size / 1e6:,.2f} MB"),
        ("nodes", f"{sum(count for _, count in ops)}: {shown}{rest}"),
        *(("preserved", f"{title}: {reason}") for title, reason in _preserved(model).items()),
    ]
    root = _tree(model)
    tree = [Text(), _branches(root, model.name or "model")] if root.children else []
    screen.show(Text.assemble((given, "bold"), f"  {model.name}" if model.name else ""), screen.fields(rows), *tree)


def _branches(root: _Module, name: str) -> Any:
    from rich.tree import Tree

    tree = Tree(_label(name, root), guide_style="dim")

    def grow(branch: Tree, module: _Module, depth: int) -> None:
        for key, child in module.children.items():
            below = branch.add(_label(key, child))
            if depth < _TREE_DEPTH:
                grow(below, child, depth + 1)
            elif child.children:
                below.add(f"... {len(child.children)} more")

    grow(tree, root, 1)
    return tree


def _label(name: str, module: _Module) -> Any:
    from rich.text import Text

    from isomorph.printable import printable

    name, cls = printable(name), printable(module.cls.rpartition(".")[2])
    weights = f"  {module.parameters:,}" if module.parameters else ""
    return Text.assemble((name, "bold"), f" {cls}" if cls else "", (weights, "cyan"))
