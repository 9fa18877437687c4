"""The conversion: read -> canonicalize -> fold -> lay out -> legalize -> write, and what each step did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isomorph.converters.files import check_target
from isomorph.converters.formats import Format, by_name, by_suffix, identify
from isomorph.converters.rules import Target
from isomorph.converters.simplification import Change, changed, simplify
from isomorph.errors import MalformedError, UsageError
from isomorph.ir import DType, Layout, Model, Op, OpaqueType, Shape, TensorType
from isomorph.ir.conditions import Condition, conditions_of
from isomorph.ir.ops.activation import Swish
from isomorph.ir.ops.norm import GroupNormalization
from isomorph.ir.ops.preserved import Preserved
from isomorph.ir.ops.shape import Transpose
from isomorph.ir.passes.batch_norm import fold_batch_norm
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.fold import fold
from isomorph.ir.passes.layout import assign_layout, is_in_layout, keep_layout
from isomorph.ir.passes.legalize import legalize, without_dropout
from isomorph.ir.passes.movement import pick_elements
from isomorph.ir.passes.raising.recurrent import raise_recurrent
from isomorph.ir.passes.stored import store_reshaped
from isomorph.ir.verify import verify
from isomorph.records import record

if TYPE_CHECKING:
    from isomorph.converters.onnx.form import OnnxForm

__all__ = [
    "Conversion",
    "Inputs",
    "LayoutChoice",
    "Progress",
    "Wishes",
    "convert",
    "describe_type",
    "load",
    "prepare",
    "save",
]

Inputs = Mapping[str, tuple[Shape, DType | None]]
"""Shapes (and element types) that override what the source says of its inputs."""
Progress = Callable[[str], None]
"""Called with the name of each step when it begins."""
LayoutChoice = Literal["keep", "native"]


@dataclass(slots=True)
class Conversion:
    """What a conversion did. `model` is what was written, `source_model` what was read."""

    source: str
    target: str
    source_format: str
    target_format: str
    source_model: Model
    model: Model
    steps: list[tuple[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def transposes(self) -> int:
        """Nodes of the written model that move data from one axis order to another (parameters do not count)."""
        nodes = self.model.graph.nodes
        return sum(
            isinstance(node.op, Transpose) and not all(value.is_parameter for value in node.operands())
            for node in nodes
        )

    @property
    def parameters(self) -> int:
        """Number of elements of all weights and buffers of the source, tied ones once."""
        parameters = self.source_model.parameters().values()
        return sum(parameter.data.size for parameter in parameters if parameter.role != "constant")

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; the keys are stable."""
        return {
            "source": {"path": self.source, "format": self.source_format, "nodes": len(self.source_model.graph.nodes)},
            "target": {"path": self.target, "format": self.target_format, "nodes": len(self.model.graph.nodes)},
            "inputs": _signature(self.model.inputs),
            "outputs": _signature(self.model.outputs),
            "parameters": self.parameters,
            "transposes": self.transposes,
            "steps": [{"name": name, "seconds": round(seconds, 6)} for name, seconds in self.steps],
            "notes": list(self.notes),
            "changes": [change.as_dict() for change in self.changes],
        }


def _signature(types: Mapping[str, TensorType]) -> dict[str, Any]:
    return {name: describe_type(kind) for name, kind in types.items()}


def describe_type(kind: TensorType) -> dict[str, Any]:
    """For `--json`: dtype and shape; of what is no tensor of known rank its type and the dtype inside."""
    if isinstance(kind, OpaqueType):
        return {"dtype": str(kind.dtype), "shape": None, "type": str(kind)}
    return {"dtype": str(kind.dtype), "shape": [dim if isinstance(dim, int) else str(dim) for dim in kind.shape]}


def load(path: str | Path, *, format: str | None = None, inputs: Inputs | None = None) -> Model:
    """Read a model file; nothing of it is executed and no framework is imported.

    `format` names the format where content and suffix do not tell; `inputs` overrides input shapes and element types.
    """
    path = Path(path)
    chosen = identify(path) if format is None else by_name(format)
    model: Model = chosen.load_reader()(path, inputs=inputs)
    return model


def save(
    model: Model,
    path: str | Path,
    *,
    format: str | None = None,
    opset: int | None = None,
    layout: LayoutChoice = "keep",
    simplify: bool = False,
    fold_batch_norm: bool = False,
    onnx: OnnxForm | None = None,
    force: bool = False,
) -> Model:
    """Write a model in the format of `path`; returns the model as it was written (legalized and laid out)."""
    path = Path(path)
    chosen = _target_format(path, format)
    check_target(path, force=force)
    writer = chosen.load_writer()
    opset = _opset(writer, model, opset)
    wished = _wished(chosen, onnx)
    prepared = prepare(model, writer.target(opset), Wishes(layout, simplify, fold_batch_norm))
    writer.write(prepared, path, opset=opset, **wished)
    return prepared


@record
class Wishes:
    """What a user asks of a conversion beyond the target.

    layout           "keep": inputs and outputs keep the source's axis order; "native": they may take the target's
    simplify         also within a format; between formats it is always done
    fold_batch_norm  into the layer before it
    """

    layout: LayoutChoice = "keep"
    simplify: bool = False
    fold_batch_norm: bool = False


def prepare(model: Model, target: Target, wishes: Wishes | None = None, changes: list[Change] | None = None) -> Model:
    """The model as a writer wants it: canonical, in the target's layout, only ops that the target takes.

    `changes` gets what simplifying did. Raises UnsupportedError that lists every node that the target cannot have.
    """
    verify(model)
    wishes = wishes or Wishes()
    made: list[Change] = [] if changes is None else changes
    simplifies = wishes.simplify or model.source[0] != target.name
    simple = canonicalize(model)
    if simplifies:  # within a format, what computes a weight stays: it may be small and the weight large
        simple = fold(simple)
    made += changed("constants", model, simple)
    if simplifies:
        simple = _simplified(simple, target, made)
    if wishes.fold_batch_norm:
        before, simple = simple, fold_batch_norm(simple)
        made += changed("batch normalization after a layer", before, simple)
    if not simplifies and wishes.layout == "keep" and is_in_layout(simple, target.layout):
        laid_out = keep_layout(simple)  # a round trip moves neither data nor weights
    else:
        laid_out = assign_layout(simple, target.layout, target.refuse, native=wishes.layout == "native")
    if simplifies:
        laid_out = pick_elements(laid_out)
    prepared = canonicalize(legalize(laid_out, target.refuse, target.name), raise_layers=False)
    verify(prepared)
    return prepared


def _simplified(model: Model, target: Target, changes: list[Change]) -> Model:
    raised = raise_recurrent(model, target.refuse)  # before the first step, of zeros, is folded
    changes += changed("recurrent layers that are spelled out", model, raised)
    known = fold(without_dropout(raised, target.refuse), roles=_FOLDED.get(target.name, ("constant",)))
    changes += changed("Dropout, and what follows from weights alone", raised, known)
    expanded = _EXPANDED.get(target.name, ())
    simple = simplify(
        known, changes, lambda node: "runtimes expand it" if isinstance(node.op, expanded) else target.refuse(node)
    )
    if model.source[0] != target.name or target.name not in _FOLDED:
        return simple
    stored = store_reshaped(simple)
    changes += changed("reshapes of weights", simple, stored)
    return stored


_FOLDED = {"onnx": ("constant", "buffer", "weight")}
"""Roles of the parameters that may be computed with once and for all, by target: ONNX files are not trained."""
_EXPANDED: dict[str, tuple[type[Op], ...]] = {"onnx": (GroupNormalization, Swish)}
"""Ops that runtimes of a target put together from others, slower than as sources spell them: none are raised there."""


def convert(
    source: str | Path | Model,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    inputs: Inputs | None = None,
    opset: int | None = None,
    layout: LayoutChoice = "keep",
    simplify: bool = False,
    fold_batch_norm: bool = False,
    onnx: OnnxForm | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a model file (or a captured Model) to another format. Nothing of the model is run.

    layout           "keep": inputs and outputs keep the source's axis order; "native": they may take the target's
    simplify         fewer nodes also within a format; between formats it is always done
    fold_batch_norm  into the convolution or dense layer before it
    onnx             how a file of ONNX is written where there is a choice
    Raises: UsageError, TargetExistsError, the ModelErrors of reader and writer. On an error no file is left.
    """
    target = Path(target)
    chosen = _target_format(target, target_format)
    check_target(target, force=force)
    wished = _wished(chosen, onnx)
    clock, changes = _Clock(progress), list[Change]()
    if isinstance(source, Model):
        model, name, origin = source, source.name, source.source[0]
    else:
        path = Path(source)
        source_kind = identify(path) if source_format is None else by_name(source_format)
        _check_distinct(path, target)
        name, origin = str(path), source_kind.name
        with clock("read"):
            model = source_kind.load_reader()(path, inputs=inputs)
    writer = chosen.load_writer()
    opset = _opset(writer, model, opset)
    wanted: Target = writer.target(opset)
    with clock("prepare"):
        prepared = prepare(model, wanted, Wishes(layout, simplify, fold_batch_norm), changes)
    with clock("write"):
        lost: list[str] = writer.write(prepared, target, opset=opset, **wished)
    opsets = _opset_notes(model, chosen, opset)
    notes = [*_assumed(prepared), *_notes(prepared, wanted.layout), *opsets, *_preserved(prepared), *lost]
    return Conversion(name, str(target), origin, chosen.name, model, prepared, clock.steps, notes, changes)


def _opset(writer: Any, model: Model, opset: int | None) -> int | None:
    """The opset that is asked for, else the one that the writer chooses for the model, where its format has opsets."""
    choose = getattr(writer, "opset_for", None)
    return choose(model) if opset is None and choose is not None else opset


def _wished(chosen: Format, onnx: OnnxForm | None) -> dict[str, Any]:
    """What is asked of the writer beyond the opset. Raises UsageError for another format than ONNX."""
    if onnx is None:
        return {}
    if chosen.name != "onnx":
        raise UsageError(f"forms of ONNX are asked of {chosen.title}", advice="leave them out, or write to .onnx")
    return {"form": onnx}


def _target_format(path: Path, name: str | None) -> Format:
    chosen = by_name(name) if name is not None else by_suffix(path)
    if chosen is None:
        raise UsageError(
            f"the suffix {path.suffix!r} of the target names no format",
            at=str(path),
            advice="choose a suffix such as .onnx, or pass --to",
        )
    chosen.load_writer()
    return chosen


def _check_distinct(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and source.samefile(target):
        raise UsageError(f"source and target are the same file: {target}")


def _notes(model: Model, layout: Layout) -> list[str]:
    import json

    pairing = json.loads(model.metadata.get("isomorph.pairing", "{}"))
    return [
        f"{kind[:-1]} {entry['target']} is {layout}: source axes {entry['perm']}"
        for kind in ("inputs", "outputs")
        for entry in pairing.get(kind, [])
        if entry["perm"] is not None
    ]


def _assumed(model: Model) -> list[str]:
    """What the source fixed of sizes that are symbolic, each with sizes for which it is not so."""
    notes = []
    for text in conditions_of(model.metadata):
        try:
            broken = Condition.parse(text).counterexample(model.dims)
        except MalformedError:  # about more than sizes
            notes.append(f"it is right only where {text}")
            continue
        if broken is not None:
            sizes = ", ".join(f"{name} = {size}" for name, size in broken.items())
            notes.append(f"it is right only where {text}, as the source itself; not for {sizes}")
    return notes


def _opset_notes(model: Model, target: Format, opset: int | None) -> list[str]:
    """A new opset is said where a file stays in its format."""
    stated = model.source[1]
    changes = model.source[0] == target.name and opset is not None and stated != f"opset {opset}"
    return [f"{stated} of the source becomes opset {opset}"] if changes else []


def _preserved(model: Model) -> list[str]:
    """What is written as the source has it, because isomorph does not read it."""
    found = {(node.op.title, node.op.reason): None for node in model.nodes() if isinstance(node.op, Preserved)}
    return [f"{title} is written as it stands in the source: {reason}" for title, reason in found]


class _Clock:
    def __init__(self, progress: Progress | None) -> None:
        self.steps: list[tuple[str, float]] = []
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._progress is not None:
            self._progress(name)
        began = time.perf_counter()
        yield
        self.steps.append((name, time.perf_counter() - began))
