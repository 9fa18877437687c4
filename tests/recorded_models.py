"""ONNX models with recorded results through isomorph: read, evaluated, written, run again, and compared graph by graph.

The models are those of recorded_sets.py.

ISOMORPH_DATA=FOLDER python tests/recorded_models.py    # write docs/onnx-models.md anew; takes two minutes
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from backend_cases import run
from onnx import numpy_helper
from recorded_sets import SETS, Recorded

from isomorph.converters.convert import load, save
from isomorph.converters.normal import normal_form
from isomorph.errors import IsomorphError
from isomorph.ir import Model
from isomorph.ir.diff import Difference, diff_models
from isomorph.ir.evaluate import evaluate

__all__ = ["PAGE", "REASONS", "Outcome", "outcome", "page"]

REASONS = {
    "test_gradient_of": "kept and written back; neither onnxruntime nor the onnx package computes Gradient",
    "test_strnorm_model_monday": "onnxruntime needs the system's locale en_US.UTF-8, which is not there",
    "average_pooling": "the record counts the padding, as PyTorch does; AveragePool of opset 6 does not",
    "basic-pitch": "evaluated in NumPy, one of three answers is 6.6e-5 from the record, which allows 1e-5: "
    "logarithms of powers near 0 in float32",
}
"""Why a model does not give what is recorded for it."""
_OLDEST_THAT_RUNS = 7
PAGE = Path(__file__).parents[1] / "docs" / "onnx-models.md"


@dataclass(slots=True)
class Outcome:
    """What became of one model.

    runs       whether onnxruntime gives the recorded results from the original file; `same`: from the one written
    evaluated  whether the IR, evaluated in NumPy, gives them; `unevaluated`: why it cannot be evaluated
    opset      of the original
    refused    why isomorph does not read or write it, "" if it does
    graph      differences of the graphs and interfaces of both files in normal form, one line each
    weights    names of the tensors that both files have whose type, shape or bits differ
    lost       what else is gone: metadata, the names of inputs, outputs, tensors and nodes that were not folded
    """

    name: str
    runs: bool = False
    same: bool = False
    evaluated: bool = False
    unevaluated: str = ""
    opset: int = 0
    refused: str = ""
    graph: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def round_trip(self) -> bool:
        return not (self.refused or self.graph or self.weights or self.lost)


def outcome(recorded: Recorded, folder: Path) -> Outcome:
    """What becomes of a model; `folder` is for the file that is written."""
    found, written = Outcome(recorded.name), folder / "written.onnx"
    found.runs = _runs(recorded, recorded.path)
    try:
        model = load(recorded.path)
        save(model, written, force=True)
        again = load(written)
    except IsomorphError as error:
        found.refused = error.what
        return found
    try:
        found.evaluated = recorded.gives(lambda inputs: _evaluated(model, inputs))
    except IsomorphError as error:
        found.unevaluated = error.what
    found.same = _runs(recorded, written)
    difference = diff_models(normal_form(model), normal_form(again), single=True)
    found.graph = list(_graph_differences(difference))
    before, after = onnx.load(recorded.path), onnx.load(written)
    found.opset = next((each.version for each in before.opset_import if each.domain in ("", "ai.onnx")), 1)
    found.weights = _changed_weights(before.graph, after.graph)
    found.lost = [*_lost_metadata(model, again), *_lost_names(before.graph, after.graph, difference)]
    return found


def _runs(recorded: Recorded, path: Path) -> bool:
    try:
        return recorded.gives(lambda inputs: run(path, inputs))
    except Exception:  # onnxruntime raises many kinds for what it lacks; such a model says nothing of isomorph
        return False


def _evaluated(model: Model, inputs: Sequence[Any]) -> list[Any]:
    names = [value.name for value in model.graph.inputs]
    return list(evaluate(model, dict(zip(names, inputs, strict=True))).values())


def _graph_differences(found: Difference) -> Iterator[str]:
    for each in found.interface:
        yield f"{each.what} {each.names.a or each.names.b} {each.change}"
    for node in found.nodes:
        if set(node.attributes) == {"version"} and not node.operands:
            continue  # kept as it stands, in the words of the opset that is written
        yield f"`{node.op.a or node.op.b}` {node.change}" + (f" to `{node.op.b}`" if node.op.a != node.op.b else "")
    for value in found.values:
        yield f"value {value.names.a or value.names.b} {value.change}"
    for parameter in found.parameters:
        if parameter.change != "renamed":
            yield f"{parameter.names.a or parameter.names.b} {parameter.change}"


def _changed_weights(before: onnx.GraphProto, after: onnx.GraphProto) -> list[str]:
    """Of the tensors that both files have, by name, those that differ; read by the onnx package."""
    written = {tensor.name: tensor for tensor in after.initializer}
    return [
        tensor.name
        for tensor in before.initializer
        if tensor.name in written and _content(tensor) != _content(written[tensor.name])
    ]


def _content(tensor: onnx.TensorProto) -> tuple[int, tuple[int, ...], bytes | list[Any]]:
    array = numpy_helper.to_array(tensor)
    return tensor.data_type, tuple(tensor.dims), array.tolist() if array.dtype == object else array.tobytes()


def _lost_metadata(before: Model, after: Model) -> Iterator[str]:
    for key, text in before.metadata.items():
        if after.metadata.get(key) != text:
            yield f"metadata {key}"


def _lost_names(before: onnx.GraphProto, after: onnx.GraphProto, found: Difference) -> Iterator[str]:
    """Names that the file states and that are others in what is written; those of nodes that are folded go."""
    weights = {tensor.name for tensor in before.initializer}
    inputs = [item.name for item in before.input if item.name not in weights]
    if [item.name for item in after.input] != inputs:
        yield "names of inputs"
    if [item.name for item in after.output] != [item.name for item in before.output]:
        yield "names of outputs"
    stated = weights | {node.name for node in before.node} | {name for node in before.node for name in node.output}
    for each in found.renames:
        if each.names.a in stated:
            yield f"{each.what} {each.names.a}, now {each.names.b}"
    for parameter in found.parameters:
        if parameter.change == "renamed" and parameter.names.a in stated:
            yield f"tensor {parameter.names.a}, now {parameter.names.b}"


def page(found: Mapping[str, Sequence[Outcome]]) -> str:
    """The text of docs/onnx-models.md."""
    lines = [
        "# ONNX models with recorded results",
        "",
        "<!-- Generated by `ISOMORPH_DATA=FOLDER python tests/recorded_models.py`. -->",
        "",
        "Models that nobody here wrote, with the results that were recorded for them: those that",
        f"onnx {onnx.__version__} packages, those of OpenCV's tests, and the zoo's.",
        f"onnxruntime {onnxruntime.__version__} runs them on the CPU.",
        "",
        "| | " + " | ".join(found) + " |",
        "|---|" + "---:|" * len(found),
    ]
    rows: dict[str, Callable[[Outcome], bool]] = {
        "models": lambda each: True,
        "onnxruntime gives the recorded results from the original file": lambda each: each.runs,
        "… and from the file that isomorph writes after reading it": lambda each: each.same,
        "the model that isomorph reads, evaluated in NumPy, gives them": lambda each: each.evaluated,
        "the graph of the written file is the original's": lambda each: not (each.refused or each.graph),
        "every tensor has the same type, shape and bits": lambda each: not (each.refused or each.weights),
        "names and metadata are kept": lambda each: not (each.refused or each.lost),
        "refused": lambda each: bool(each.refused),
    }
    lines += [f"| {title} | " + " | ".join(str(sum(map(row, each))) for each in found.values()) + " |"
              for title, row in rows.items()]  # fmt: skip
    lines += [
        "",
        "Graphs are compared by `isomorph diff` in normal form: what is folded in either (sizes, constants, a",
        "Dropout) is no difference, nor is the opset. Tensors are compared by the onnx package's own reader. Names",
        "are those that the file states; a node without a name gets one.",
        "",
        "## What is otherwise",
        "",
        "| model | what |",
        "|---|---|",
    ]
    listed = [each for outcomes in found.values() for each in outcomes]
    lines += [f"| {each.name} | {_what(each)} |" for each in listed if _what(each)]
    old = [each for each in listed if each.opset < _OLDEST_THAT_RUNS and not each.runs and each.same]
    lines += [
        "",
        "onnxruntime lacks kernels for the operators of opset 6 and older:",
        f"{len(old)} of these models give the recorded results there only after isomorph has written them.",
    ]
    return "\n".join(lines) + "\n"


def _what(each: Outcome) -> str:
    said = [f"refused: {each.refused}"] if each.refused else []
    reason = next((text for name, text in REASONS.items() if each.name.startswith(name)), "")
    if reason and not (each.same and each.evaluated):
        said.append(reason)
    elif not each.same and not each.refused:
        said.append("onnxruntime runs neither file" if not each.runs else "onnxruntime gives other results")
    if not each.evaluated and not each.refused and not reason:
        said.append(each.unevaluated or "evaluates to other results")
    listed = [*each.graph, *(f"tensor {name}" for name in each.weights), *each.lost]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return "; ".join([*said, *listed[:3]]) + more


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(
            page({title: [outcome(each, Path(scratch)) for each in models()] for title, models in SETS.items()})
        )
