"""The onnx package's own backend cases through isomorph: read, written and run again, evaluated, printed and parsed.

python tests/backend_cases.py    # write docs/onnx-cases.md anew; takes a minute
"""

from __future__ import annotations

import ctypes
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.errors import IsomorphError, UnsupportedError
from isomorph.ir import Model, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.text import parse_model, print_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.model import TestCase
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

__all__ = ["DIFFERENCES", "PAGE", "Case", "Outcome", "agree", "cases", "outcomes", "page", "run"]

PAGE = Path(__file__).parents[1] / "docs" / "onnx-cases.md"


DIFFERENCES = {
    "bernoulli": "random: the record is of the reference's own generator",
    "bf16": "bfloat16: the record rounds after other steps",
    "fp16": "float16: the record rounds after other steps",
    "dft_inverse_opset19": "the record's rounding of numbers near 0, where onnxruntime differs from it, too",
    "if_opt": "the reference gives an optional sequence as a list in a list",
    "gradient_of": "the reference has no Gradient",
}
"""Why evaluation does not give what is recorded, by a part of the case's name."""


@dataclass(slots=True)
class Outcome:
    """What became of one case.

    refused    why isomorph does not read or write it, "" if it does
    kept       (operator, reason) of each operator that is kept as it is
    runs       whether onnxruntime gives the recorded results from the original file, and `same` from the one written
    evaluated  whether the model in NumPy gives the recorded results; `why` not
    text       whether its text form gives it back
    """

    name: str
    refused: str = ""
    kept: list[tuple[str, str]] = field(default_factory=list)
    runs: bool = False
    same: bool = False
    evaluated: bool = False
    why: str = ""
    text: bool = False


class Case(NamedTuple):
    """A model with inputs and the results that are recorded for them."""

    name: str
    model: bytes
    inputs: Sequence[Any]
    expected: Sequence[Any]
    rtol: float
    atol: float


def cases() -> Iterator[Case]:
    """Every case and every packaged small model, one after the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            inputs, expected = ([_value(item) for item in items] for items in case.data_sets[0])
            yield Case(case.name, case.model.SerializeToString(), inputs, expected, case.rtol, case.atol)
        for kind in ("simple", "pytorch-operator", "pytorch-converted"):
            for each in load_model_tests(kind=kind):
                yield _packaged(each)


def outcomes(folder: Path) -> Iterator[Outcome]:
    """What becomes of every case."""
    for case in cases():
        yield _outcome(case, folder)


def _packaged(each: TestCase) -> Case:
    folder = Path(each.model_dir)
    model = onnx.load(folder / "model.onnx")
    first = folder / "test_data_set_0"
    weights = {tensor.name for tensor in model.graph.initializer}
    fed = [item for item in model.graph.input if item.name not in weights]
    inputs = [_recorded(first / f"input_{position}.pb", item) for position, item in enumerate(fed)]
    expected = [_recorded(first / f"output_{position}.pb", item) for position, item in enumerate(model.graph.output)]
    return Case(each.name, (folder / "model.onnx").read_bytes(), inputs, expected, each.rtol, max(each.atol, 1e-6))


def _recorded(path: Path, item: onnx.ValueInfoProto) -> Any:
    if item.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _outcome(case: Case, folder: Path) -> Outcome:
    original, written = folder / "original.onnx", folder / "written.onnx"
    outcome, inputs, expected = Outcome(case.name), case.inputs, case.expected
    original.write_bytes(case.model)
    outcome.runs = _runs(original, inputs, expected, case)
    try:
        model = reader.read(original)
    except IsomorphError as error:
        outcome.refused = outcome.why = _reason(error)
        return outcome
    outcome.kept = [(node.op.title, node.op.reason) for node in model.nodes() if isinstance(node.op, ops.Preserved)]
    printed = print_model(model)
    outcome.text = print_model(parse_model(printed)) == printed
    _evaluate(outcome, case, model)
    try:
        opset = writer.opset_for(model)
        writer.write(prepare(model, writer.target(opset)), written, opset=opset)
    except UnsupportedError as error:
        outcome.refused = _reason(error)
        return outcome
    outcome.same = outcome.runs and agree(run(written, inputs), expected, case)
    return outcome


def _evaluate(outcome: Outcome, case: Case, model: Model) -> None:
    feeds = {value.name: array for value, array in zip(model.graph.inputs, case.inputs, strict=True)}
    try:
        outcome.evaluated = agree(list(evaluate(model, feeds).values()), case.expected, case)
        outcome.why = "" if outcome.evaluated else _difference(case.name)
    except IsomorphError as error:
        outcome.why = _reason(error)


def _difference(name: str) -> str:
    return next((why for part, why in DIFFERENCES.items() if part in name), "other numbers")


def _reason(error: IsomorphError) -> str:
    if isinstance(error, UnsupportedError):
        return "; ".join(sorted({f"`{item.op}`: {item.reason}" for item in error.items}))
    return error.what


def _value(item: Any) -> Any:
    """A recorded tensor as an array, a sequence as a list."""
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, np.generic) else item


def _runs(path: Path, inputs: Sequence[Any], expected: Sequence[Any], case: Case) -> bool:
    try:
        return agree(run(path, inputs), expected, case)
    except Exception:  # onnxruntime raises many kinds for what it lacks; such a case says nothing of isomorph
        return False


def run(path: Path, inputs: Sequence[Any]) -> list[Any]:
    """What onnxruntime computes, of every element type. It raises many kinds of errors for what it lacks."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = dict(zip([item.name for item in session.get_inputs()], inputs, strict=False))
    foreign = any(isinstance(value, np.ndarray) and value.dtype.kind == "V" for value in feeds.values())
    if not foreign and not any(_FOREIGN.search(item.type) for item in session.get_outputs()):
        return list(session.run(None, feeds))
    values = {name: _ort_value(np.asarray(array, order="C")) for name, array in feeds.items()}
    return [_array(value) for value in session.run_with_ort_values(None, values)]


_FOREIGN = re.compile(r"tensor\((bfloat16|u?int[24]|float[48]\w+)\)")
"""Tensors of element types that NumPy has not itself; onnxruntime hands them over as memory only, two int4 a byte."""


def _ort_value(array: np.ndarray) -> Any:
    if array.dtype.kind != "V":
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    proto = numpy_helper.from_array(array)
    value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), proto.data_type)
    ctypes.memmove(value.data_ptr(), proto.raw_data, len(proto.raw_data))
    return value


def _array(value: Any) -> np.ndarray:
    if not _FOREIGN.search(value.data_type()):
        return np.asarray(value.numpy())
    proto = onnx.TensorProto(data_type=value.element_type(), dims=value.shape())
    proto.raw_data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy_helper.to_array(proto)


def agree(got: Sequence[Any], expected: Sequence[Any], case: Case) -> bool:
    """The onnx package's own tolerances: those of the case."""
    return len(got) == len(expected) and all(_same(a, b, case) for a, b in zip(got, expected, strict=True))


def _same(got: Any, expected: Any, case: Case) -> bool:
    if isinstance(got, list) or isinstance(expected, list):
        return isinstance(got, list) and isinstance(expected, list) and agree(got, expected, case)
    if got is None or expected is None:
        return got is expected
    a, b = np.asarray(got), np.asarray(expected)
    if a.dtype.kind in "OU" and b.dtype.kind in "OU":
        return a.shape == b.shape and [_text(item) for item in a.flat] == [_text(item) for item in b.flat]
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "V":
        a, b = a.astype(np.float64), b.astype(np.float64)
    close = a.dtype.kind in "fc"
    return bool(np.allclose(a, b, rtol=case.rtol, atol=case.atol, equal_nan=True) if close else (a == b).all())


def _text(item: Any) -> Any:
    return item.decode() if isinstance(item, bytes) else item


def page(found: Sequence[Outcome]) -> str:
    """The text of docs/onnx-cases.md."""
    runs, same = sum(each.runs for each in found), sum(each.same for each in found)
    evaluated, refused = sum(each.evaluated for each in found), [each for each in found if each.refused]
    keeping = sum(bool(each.kept) for each in found)
    kept = Counter(title for each in found for title in {title for title, _ in each.kept})
    reasons = {title: Counter(why for each in found for kind, why in each.kept if kind == title) for title in kept}
    lines = [
        "# The onnx package's backend cases",
        "",
        "<!-- Generated by `python tests/backend_cases.py`. -->",
        "",
        f"{len(found):,} cases of onnx {onnx.__version__}, the small models that it packages among them, run by",
        f"onnxruntime {onnxruntime.__version__} on the CPU.",
        "",
        "| | cases |",
        "|---|---:|",
        f"| onnxruntime gives the recorded results from the original file | {runs:,} |",
        f"| … and from the file that isomorph writes after reading it | {same:,} |",
        f"| the model that isomorph reads, evaluated in NumPy, gives the recorded results | {evaluated:,} |",
        f"| with an operator that is kept as it stands | {keeping:,} |",
        f"| refused | {len(refused):,} |",
        "",
        "## Refused",
        "",
        *(_table("case", "why", [(each.name, each.refused) for each in refused])),
        "",
        "## Evaluated with other results",
        "",
        *_table("case", "why", [(each.name, each.why) for each in found if not each.evaluated and not each.refused]),
        "",
        "## Kept as they stand",
        "",
        "Operators that are written back to ONNX and refused, by name and with this reason, by every other target.",
        "",
        *_table("operator", "cases", [(title, str(kept[title])) for title in sorted(kept)], reasons),
    ]
    return "\n".join(lines) + "\n"


def _table(
    first: str, second: str, rows: Sequence[tuple[str, str]], reasons: dict[str, Counter[str]] | None = None
) -> Iterator[str]:
    yield f"| {first} | {second} |" + (" most often because |" if reasons else "")
    yield "|---|---|" + ("---|" if reasons else "")
    for left, right in rows:
        why = f" {_cell(reasons[left].most_common(1)[0][0])} |" if reasons else ""
        yield f"| {_cell(left)} | {_cell(right)} |{why}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(page(list(outcomes(Path(scratch)))))
