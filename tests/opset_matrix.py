"""The onnx package's backend cases, each written at every opset from 13 up: what passes the checker, runs, is refused.

python tests/opset_matrix.py               # every case: write docs/onnx-opsets.md anew; takes some minutes
python tests/opset_matrix.py --every 40    # one case in forty: print the page
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from backend_cases import Case, agree, cases, run
from ml_dtypes import bfloat16, finfo
from onnx.reference import ReferenceEvaluator

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.errors import UnsupportedError

__all__ = ["KINDS", "PAGE", "RANDOM", "Entry", "entries", "page"]

PAGE = Path(__file__).parents[1] / "docs" / "onnx-opsets.md"
KINDS = {
    "same": "onnxruntime gives the same results as for the original",
    "reference": "onnxruntime has no kernel, and onnx.reference gives the same results",
    "rounding": "other results, by less than 4 units of rounding of the largest number",
    "random": "drawn from a generator, which no two runtimes share",
    "not run": "neither has what the file needs",
    "refused": "not written: this opset cannot express it",
    "other": "other results",
    "invalid": "refused by `onnx.checker` with `full_check`",
}
_LIKE = {"RandomNormalLike", "RandomUniformLike"}
RANDOM = frozenset({"RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "Dropout"} | _LIKE)
"""Operators whose results are compared with nothing, unless they have been recorded."""
Results = list[Any] | None


class Entry(NamedTuple):
    """One case at one opset: one of `KINDS`, and why."""

    name: str
    opset: int
    kind: str
    why: tuple[str, ...] = ()


class _Original:
    """A case and what either runtime computes from its own file, asked once and only if it is needed."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case, self.path = case, path
        self._results: dict[str, Results] = {}
        self.random = any(node.op_type in RANDOM for node in onnx.ModelProto.FromString(case.model).graph.node)

    def results(self, runtime: str) -> Results:
        if runtime not in self._results:
            self._results[runtime] = _RUNTIMES[runtime](self.path, self.case.inputs)
        return self._results[runtime]

    def agrees(self, runtime: str, got: list[Any], alike: Callable[[Any, Any, Case], bool] = agree) -> bool:
        """Whether these are the recorded results, or those that the same runtime gives from the original."""
        if alike(got, self.case.expected, self.case):
            return True
        own = self.results(runtime)
        return own is not None and alike(got, own, self.case)


def _rounded_alike(got: Sequence[Any], wanted: Sequence[Any], case: Case) -> bool:
    """Whether floats differ by no more than rounding: 4 units of the largest number of each tensor."""
    for a, b in zip(map(np.asarray, got), map(np.asarray, wanted), strict=True):
        is_float = np.issubdtype(a.dtype, np.floating) or a.dtype == bfloat16
        if not is_float or a.dtype != b.dtype or a.shape != b.shape:
            return False
        x, y = a.astype(np.float64), b.astype(np.float64)
        if not np.allclose(x, y, rtol=0, atol=4 * float(finfo(a.dtype).eps) * float(np.abs(y).max(initial=0))):
            return False
    return True


def _reference(path: Path, inputs: Sequence[Any]) -> list[Any]:
    session = ReferenceEvaluator(str(path))
    return list(session.run(None, dict(zip(session.input_names, inputs, strict=False))))


def _attempt(runtime: Callable[[Path, Sequence[Any]], list[Any]], path: Path, inputs: Sequence[Any]) -> Results:
    try:
        return runtime(path, inputs)
    except Exception:  # both raise many kinds for what they lack, which says nothing of the file: the checker passed it
        return None


_RUNTIMES: dict[str, Callable[[Path, Sequence[Any]], Results]] = {
    "same": partial(_attempt, run),
    "reference": partial(_attempt, _reference),
}


def entries(folder: Path, every: int = 1) -> Iterator[Entry]:
    """One case in `every`, at every opset. A case that isomorph does not read raises its error."""
    source = folder / "source.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position, case in enumerate(cases()):
            if position % every == 0:
                source.write_bytes(case.model)
                yield from _at_every_opset(_Original(case, source), folder / "written.onnx")


def _at_every_opset(original: _Original, target: Path) -> Iterator[Entry]:
    """A file with the nodes of the one before it, by definitions that are no newer, is not run again."""
    model, said = reader.read(original.path), b""
    outcome: tuple[str, tuple[str, ...]] = ("", ())
    for opset in range(writer.OLDEST_OPSET, writer.NEWEST_OPSET + 1):
        try:
            writer.write(prepare(model, writer.target(opset)), target, opset=opset)
        except UnsupportedError as error:
            why = tuple(sorted({f"`{item.op}`: {item.reason}" for item in error.items}))
            yield Entry(original.case.name, opset, "refused", why)
            continue
        saying = _says(onnx.load(target), opset)
        if saying != said:
            said, outcome = saying, _outcome(original, target)
        yield Entry(original.case.name, opset, *outcome)


def _says(model: onnx.ModelProto, opset: int) -> bytes:
    """The graph, and since when the standard domain defines each of its operators as it does at this opset."""
    kinds = sorted({node.op_type for node in _nodes(model.graph) if not node.domain})
    since = [(kind, onnx.defs.get_schema(kind, opset).since_version) for kind in kinds]
    return repr(since).encode() + model.graph.SerializeToString(deterministic=True)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for item in node.attribute:
            if item.HasField("g"):
                yield from _nodes(item.g)


def _outcome(original: _Original, target: Path) -> tuple[str, tuple[str, ...]]:
    try:
        onnx.checker.check_model(str(target), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return "invalid", (str(error),)
    for name, runtime in _RUNTIMES.items():
        got = runtime(target, original.case.inputs)
        if got is not None and original.agrees(name, got):
            return name, ()
        if got is not None:
            rounded = original.agrees(name, got, _rounded_alike)
            return ("random" if original.random else "rounding" if rounded else "other"), (name,)
    return "not run", ()


def page(found: Sequence[Entry]) -> str:
    """The text of docs/onnx-opsets.md."""
    counts = Counter((entry.opset, entry.kind) for entry in found)
    totals = Counter(entry.kind for entry in found)
    opsets = range(writer.OLDEST_OPSET, writer.NEWEST_OPSET + 1)
    names = len({entry.name for entry in found})
    shown = [kind for kind in KINDS if totals[kind] or kind in ("other", "invalid")]
    rows = [[str(opset), *(f"{counts[opset, kind]:,}" for kind in shown)] for opset in opsets]
    lines = [
        "# The backend cases at every opset",
        "",
        "<!-- Generated by `python tests/opset_matrix.py`. -->",
        "",
        f"{names:,} cases of onnx {onnx.__version__}, each written at every opset from {opsets[0]} to {opsets[-1]}:",
        f"{len(found):,} attempts, run by onnxruntime {onnxruntime.__version__} on the CPU. A file with the nodes",
        "of the one before it, by the same definitions, is not run again.",
        "",
        *(f"- **{kind}**: {KINDS[kind]}" for kind in shown),
        "",
        *_table(["opset", *shown], [*rows, ["all", *(f"{totals[kind]:,}" for kind in shown)]]),
        "",
        "## Refused",
        "",
        "With the opsets at which it is, and the number of cases.",
        "",
        *_table(["operator and reason", "opsets", "cases"], list(_refusals(found))),
        "",
    ]
    rounded = sorted({entry.name for entry in found if entry.kind == "rounding"})
    if rounded:
        listed = ", ".join(f"`{name}`" for name in rounded)
        lines += [
            "## Rounded otherwise",
            "",
            f"At the opsets that put them together from other operators: {listed}.",
            "",
        ]
    wrong = [entry for entry in found if entry.kind in ("other", "invalid")]
    if wrong:
        rows = [[entry.name, str(entry.opset), entry.kind, *entry.why] for entry in wrong]
        lines += ["## Wrong", "", *_table(["case", "opset", "kind", "why"], rows), ""]
    return "\n".join(lines)


def _refusals(found: Sequence[Entry]) -> Iterator[list[str]]:
    """Reasons without the number of the opset that was asked for, the opsets and how many cases; most cases first."""
    where: dict[str, tuple[set[int], set[str]]] = {}
    for entry in found:
        for why in entry.why if entry.kind == "refused" else ():
            opsets, names = where.setdefault(_short(why, entry.opset), (set(), set()))
            opsets.add(entry.opset)
            names.add(entry.name)
    for reason, (opsets, names) in sorted(where.items(), key=lambda item: (-len(item[1][1]), item[0])):
        yield [reason, _ranges(opsets), str(len(names))]


def _short(why: str, opset: int) -> str:
    """Without what differs from case to case: the opset asked for, why an operator is kept as it stands."""
    operator, _, reason = why.partition(": ")
    reason = re.sub(r"^.*so it stays as onnx has it; ", "kept as it stands; ", reason)
    return f"{operator}: " + re.sub(rf"\bopset {opset}\b", "the opset", reason)


def _ranges(numbers: set[int]) -> str:
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measured = list(entries(Path(scratch), arguments.every))
    if arguments.every == 1:
        PAGE.write_text(page(measured))
    else:
        print(page(measured))
