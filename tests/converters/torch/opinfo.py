"""PyTorch's own OpInfo samples through torch.export, the importer and onnxruntime, against eager.

`run(entry, dtype)` takes every sample of an OpInfo entry (torch.testing._internal.common_methods_invocations.op_db)
in one element type: the call becomes a module whose inputs are the sample's tensors, all else is static. The module
is exported, captured and written to ONNX; what onnxruntime has no kernel for is evaluated in NumPy (ir/evaluate.py).
Integers and bools must be equal, floating point must agree with eager, or be as close to eager in float64 as eager is.

From the command line, a table (--json: to a file) with one line for each op and element type; a worker process that
dies is a line as well:

    python tests/converters/torch/opinfo.py --ops index_select,gather --dtypes float32,int64
    python tests/converters/torch/opinfo.py --failures --json opinfo.json      # all of op_db, only what does not pass
    python tests/converters/torch/opinfo.py --ops cumsum --samples 3 --verbose # the samples that do not pass
    python tests/converters/torch/opinfo.py --failures --record # all of op_db into the files
    python tests/converters/torch/opinfo.py --page # docs/torch-ops.md anew from the recorded results

The files are opinfo_results.json and docs/torch-ops.md; `--record` keeps what they have of other ops and element types.
What does not pass of an op that has a rule is a row with a reason in opinfo_limits.toml.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, Path(__file__).parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

from isomorph.converters.convert import prepare  # noqa: E402
from isomorph.converters.onnx import writer  # noqa: E402
from isomorph.converters.torch.capture import capture  # noqa: E402
from isomorph.errors import IsomorphError, UnsupportedError  # noqa: E402
from isomorph.ir import Model  # noqa: E402
from isomorph.ir.evaluate import evaluate  # noqa: E402

__all__ = ["DTYPES", "Limit", "Result", "core_aten", "entries", "limits", "page", "recorded", "run", "title"]

RESULTS = Path(__file__).with_name("opinfo_results.json")
LIMITS = Path(__file__).with_name("opinfo_limits.toml")
CORE = Path(__file__).with_name("core_aten.toml")
PAGE = ROOT / "docs" / "torch-ops.md"

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
)  # fmt: skip
BATCH = 12
"""Samples of one op that are exported as one program."""
_TOLERANCE = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1e-5, 1e-5),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (1.6e-2, 1.6e-2),
}
_WIDE = {
    **dict.fromkeys((torch.float16, torch.bfloat16, torch.float32), torch.float64),
    **dict.fromkeys((torch.complex32, torch.complex64), torch.complex128),
}
_UNINITIALIZED = frozenset({"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"})
"""Ops whose elements may be any; zeros are expected of them."""
_SHOWN = 4
"""Samples of each kind that --verbose prints."""
_ALLOWED_GROWTH = 4.0
"""How many times eager's own error, measured in float64, ours may be."""


@dataclass
class Result:
    """What became of the samples of one op in one element type.

    numpy    of those that passed: evaluated in NumPy, as onnxruntime lacks a kernel or `unwritten` tells why
    skipped  eager or torch.export itself cannot (random results, sizes that the data decide, no tensor returned)
    refused  reason -> samples, of which some have several reasons; wrong, crashed: one line for each sample
    """

    op: str
    dtype: str
    samples: int = 0
    passed: int = 0
    numpy: int = 0
    skipped: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)
    unwritten: Counter[str] = field(default_factory=Counter)
    """What the ONNX writer refuses of programs that the importer takes -> programs."""

    @property
    def fine(self) -> bool:
        return not (self.refused or self.wrong or self.crashed)

    @property
    def declined(self) -> int:
        """How many samples are refused."""
        return self.samples - self.passed - self.skipped - len(self.wrong) - len(self.crashed)

    def gaps(self) -> list[str]:
        """What does not pass, one line for each sample (for each reason of refusals)."""
        refused = [f"refused: {reason}" for reason in self.refused]
        return [*refused, *(f"wrong: {text}" for text in self.wrong), *(f"crashed: {text}" for text in self.crashed)]

    def line(self) -> str:
        counts = f"{self.samples:4d} samples {self.passed:4d} passed ({self.numpy} in NumPy) {self.skipped:3d} skipped"
        bad = f" {self.declined if self.refused else 0} refused {len(self.wrong)} wrong {len(self.crashed)} crashed"
        why = next(iter([*self.wrong, *self.crashed, *self.refused]), "")
        return f"{self.op:40s} {self.dtype:10s}{counts}{'' if self.fine else bad}  {why}"[:320]


class _Call(torch.nn.Module):
    """Several samples of one op: their tensors are the inputs, their results the outputs; complex ones as pairs."""

    def __init__(self, op: Any, samples: Sequence[_Sample]) -> None:
        super().__init__()
        self.op = op
        self.samples = samples

    def forward(self, *tensors: Any) -> Any:
        leaves = [tensor for sample in self.samples for tensor in sample.tensors]
        given = iter([_whole(tensor, leaf) for tensor, leaf in zip(tensors, leaves, strict=True)])
        return tuple(tuple(map(_paired, _tensors(sample.call(self.op, given)))) for sample in self.samples)


def _paired(tensor: Any) -> Any:
    """Real numbers as they are, complex ones (…) as pairs (…, 2)."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _whole(tensor: Any, leaf: Any) -> Any:
    return torch.view_as_complex(tensor) if leaf.is_complex() else tensor


class _Sample:
    def __init__(self, sample: Any) -> None:
        self.leaves, self.spec = torch.utils._pytree.tree_flatten(((sample.input, *sample.args), dict(sample.kwargs)))
        self.tensors = [leaf.detach() for leaf in self.leaves if isinstance(leaf, torch.Tensor)]
        self.expected: list[Any] = []

    def call(self, op: Any, tensors: Iterator[Any], dtype: Any = None) -> Any:
        """The op of these tensors; `dtype` replaces floating-point element types among the arguments."""
        leaves = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]
        if dtype is not None:
            leaves = [dtype if isinstance(leaf, torch.dtype) and leaf.is_floating_point else leaf for leaf in leaves]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self.spec)
        return op(*args, **kwargs)

    def eager(self, op: Any) -> list[Any]:
        with torch.no_grad():
            return _tensors(self.call(op, iter([each.clone() for each in self.tensors])))

    def reference(self, op: Any) -> list[Any]:
        """Eager in float64."""
        wide = [each.to(_WIDE.get(each.dtype, each.dtype)) for each in self.tensors]
        leaves = [_WIDE.get(leaf, leaf) if isinstance(leaf, torch.dtype) else leaf for leaf in self.leaves]
        given = iter(wide)
        args, kwargs = torch.utils._pytree.tree_unflatten(
            [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], self.spec
        )
        with torch.no_grad():
            return _tensors(op(*args, **kwargs))

    def __str__(self) -> str:
        shown = [
            f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
            if isinstance(leaf, torch.Tensor)
            else repr(leaf)
            for leaf in self.leaves
        ]
        return f"({', '.join(shown)})"[:160]


def _tensors(result: Any) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(result)
    if not leaves or not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise _NoTensors
    return leaves


class _NoTensors(Exception):
    """The op returns something else than tensors."""


def title(entry: Any) -> str:
    """The name of an OpInfo entry, with its variant."""
    return f"{entry.name}.{entry.variant_test_name}" if entry.variant_test_name else str(entry.name)


def entries(names: Sequence[str] = ()) -> dict[str, Any]:
    """The OpInfo entries by title; of these names (with all variants, or titles) only."""
    from torch.testing._internal.common_methods_invocations import op_db

    return {title(entry): entry for entry in op_db if not names or entry.name in names or title(entry) in names}


def dtypes_of(entry: Any) -> list[str]:
    """The element types that the op supports on the CPU and that we look at."""
    supported = {str(dtype).removeprefix("torch.") for dtype in entry.dtypes}
    return [dtype for dtype in DTYPES if dtype in supported]


def run(entry: Any, dtype: str, limit: int | None = None, *, dynamic: bool = False) -> Result:
    """Judge the samples (the first `limit`) of an entry in one element type; `dynamic`: with symbolic sizes."""
    result = Result(title(entry), dtype)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = []
            for sample in entry.sample_inputs("cpu", getattr(torch, dtype), requires_grad=False):
                if limit is not None and len(found) >= limit:
                    break
                found.append(_Sample(sample))
        except Exception as error:  # (samples that this machine cannot make)
            result.skips[f"no samples: {type(error).__name__}"] += 1
            return result
        result.samples = len(found)
        kept = [sample for sample in found if _expected(entry.op, sample, result)]
        if entry.name in _UNINITIALIZED:
            for sample in kept:
                sample.expected = [torch.zeros_like(each) for each in sample.expected]
        for start in range(0, len(kept), BATCH):
            _judge(entry.op, kept[start : start + BATCH], result, dynamic=dynamic)
    return result


def _expected(op: Any, sample: _Sample, result: Result) -> bool:
    """Whether eager gives tensors, the same ones twice."""
    try:
        state = torch.get_rng_state()
        sample.expected = sample.eager(op)
        if not torch.equal(state, torch.get_rng_state()):
            raise RuntimeError("random")
    except Exception as error:  # (anything that eager does not take)
        reason = "random" if str(error) == "random" else "not a tensor" if isinstance(error, _NoTensors) else "eager"
        result.skipped += 1
        result.skips[reason] += 1
        return False
    return True


def _judge(op: Any, samples: Sequence[_Sample], result: Result, *, dynamic: bool) -> None:
    """All samples as one program; one by one where that does not pass."""
    try:
        if len(samples) > 1 and _attempt(op, samples, result, dynamic=dynamic):
            return
    except Exception:  # (whatever it is, it is found again below, for its sample)
        result.unwritten.clear()
    for sample in samples:
        _judge_one(op, sample, result, dynamic=dynamic)


def _judge_one(op: Any, sample: _Sample, result: Result, *, dynamic: bool) -> None:
    try:
        _attempt(op, [sample], result, dynamic=dynamic, alone=True)
    except _Skip as skip:
        result.skipped += 1
        result.skips[str(skip)] += 1
    except UnsupportedError as error:
        for reason in {f"{item.op}: {item.reason}" for item in error.items}:
            result.refused[reason] += 1
    except Exception as error:  # (a crash is a result)
        text = str(error) if isinstance(error, IsomorphError) else f"{type(error).__name__}: {error}"
        result.crashed.append(f"{sample}: {' '.join(text.split())}"[:400])


class _Skip(Exception):
    pass


def _attempt(op: Any, samples: Sequence[_Sample], result: Result, *, dynamic: bool, alone: bool = False) -> bool:
    """Convert and compare; counts only what passes, and alone also what is wrong."""
    tensors = tuple(_paired(each.clone()) for sample in samples for each in sample.tensors)
    sizes = (tuple(_symbolic(tensor) for tensor in tensors),) if dynamic else None
    try:
        with torch.no_grad():
            exported = torch.export.export(_Call(op, samples).eval(), tensors, dynamic_shapes=sizes)
    except Exception as error:
        raise _Skip(f"torch.export: {type(error).__name__}") from error
    model = capture(exported)
    if any(type(node.op).__module__.endswith(".random") for node in model.graph.nodes):
        raise _Skip("random")
    names = list(model.inputs)
    feeds = {name: _array(tensor) for name, tensor in zip(names, _fed(exported, tensors), strict=True)}
    found, in_numpy = _computed(model, feeds, result)
    wanted = [tensor for sample in samples for tensor in sample.expected]
    del found[len(wanted) :]  # (behind the results: the arguments that the op changes)
    differences = [
        text for sample, arrays in _grouped(found, samples) if (text := _difference(op, sample, arrays)) is not None
    ]
    assert len(found) == len(wanted)
    if differences and not alone:
        return False
    result.passed += len(samples) - len(differences)
    result.numpy += (len(samples) - len(differences)) * in_numpy
    result.wrong.extend(differences)
    return True


def _symbolic(tensor: Any) -> dict[int, Any]:
    """A symbol for each size of 2 or more, as far as torch.export keeps it."""
    return {axis: torch.export.Dim.AUTO for axis, size in enumerate(tensor.shape) if size > 1}


def _fed(exported: Any, tensors: Sequence[Any]) -> list[Any]:
    """The tensors that are inputs of the program."""
    return [
        tensor for spec, tensor in zip(exported.graph_signature.user_inputs, tensors, strict=True) if spec is not None
    ]


def _grouped(found: Sequence[Any], samples: Sequence[_Sample]) -> Iterator[tuple[_Sample, list[Any]]]:
    rest = iter(found)
    for sample in samples:
        yield sample, [next(rest) for _ in sample.expected]


def _array(tensor: Any) -> Any:
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _computed(model: Model, feeds: dict[str, Any], result: Result) -> tuple[list[Any], bool]:
    """(results, whether NumPy computed them), by onnxruntime if ONNX and it can."""
    try:
        session = _session(model)
    except (_NoKernel, UnsupportedError) as error:
        if isinstance(error, UnsupportedError):
            result.unwritten.update({f"{item.op}: {item.reason}" for item in error.items})
        return list(evaluate(model, feeds).values()), True
    wanted = {each.name for each in session.get_inputs()}
    outcome = session.run(list(model.outputs), {name: array for name, array in feeds.items() if name in wanted})
    return list(outcome), False


class _NoKernel(Exception):
    pass


def _session(model: Model) -> Any:
    if any(str(kind.dtype) == "bfloat16" for kind in (*model.inputs.values(), *model.outputs.values())):
        raise _NoKernel
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / "model.onnx"
        writer.write(prepare(model, writer.target(None)), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
        except Exception as error:
            if "NOT_IMPLEMENTED" in str(error):
                raise _NoKernel(str(error)) from error
            raise


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _difference(op: Any, sample: _Sample, found: Sequence[Any]) -> str | None:
    """None if the arrays are what eager gave, else a line that says what differs."""
    for position, (array, tensor) in enumerate(zip(found, map(_paired, sample.expected), strict=True)):
        want = _array(tensor)
        if array.dtype != want.dtype or array.shape != want.shape:
            return f"{sample} [{position}]: {array.dtype}{list(array.shape)}, not {want.dtype}{list(want.shape)}"
        if not tensor.dtype.is_floating_point:
            if not np.array_equal(array, want):
                return f"{sample} [{position}]: {_first(array, want, array != want)}"
            continue
        got, expected = array.astype(np.float64), want.astype(np.float64)
        rtol, atol = _TOLERANCE[tensor.dtype]
        near = np.isclose(got, expected, rtol, atol, equal_nan=True)
        if not near.all() and not _as_close(op, sample, position, got, expected, near):
            return f"{sample} [{position}]: {_first(array, want, ~near)}"
    return None


def _as_close(  # noqa: PLR0917
    op: Any, sample: _Sample, position: int, got: Any, expected: Any, near: Any
) -> bool:
    """Whether, where they differ, ours is about as close to eager in float64 as eager itself is."""
    try:
        exact = _array(_paired(sample.reference(op)[position])).astype(got.dtype)
    except Exception:  # (no reference: then the plain tolerance decides)
        return False
    if exact.shape != got.shape:
        return False
    with np.errstate(all="ignore"):
        ours, theirs = np.abs(got - exact), np.abs(expected - exact)
        bound = np.maximum(theirs, theirs[np.isfinite(theirs)].max(initial=0))
        return bool(np.all(near | (ours <= _ALLOWED_GROWTH * bound)))


def _first(array: Any, want: Any, differs: Any) -> str:
    where = np.argwhere(differs)[0] if np.ndim(differs) else ()
    index = tuple(int(each) for each in where)
    return (
        f"{int(np.sum(differs))} of {np.size(want)} differ, first at {list(index)}: {array[index]}, not {want[index]}"
    )


@dataclass(frozen=True)
class Limit:
    """A row of opinfo_limits.toml: gaps like `match` of ops like `op` (and of `dtypes`, if named) have this reason.

    witness  (entry, element type) that shows it with a sample beyond those that are recorded
    """

    op: str
    match: str
    reason: str
    dtypes: tuple[str, ...] = ()
    witness: tuple[str, str] | None = None

    def covers(self, op: str, dtype: str, gap: str) -> bool:
        known = not self.dtypes or dtype in self.dtypes
        return known and fnmatchcase(op, self.op) and re.search(self.match, gap) is not None


def limits() -> list[Limit]:
    """The rows of opinfo_limits.toml."""
    rows = tomllib.loads(LIMITS.read_text())["limit"]
    tuples = {"dtypes", "witness"}
    return [Limit(**{name: tuple(value) if name in tuples else value for name, value in row.items()}) for row in rows]


def core_aten() -> dict[str, Any]:
    """core_aten.toml: the version of torch, the number of core overloads, and which of them have no rule, and why."""
    return tomllib.loads(CORE.read_text())


def _core_section() -> list[str]:
    core = core_aten()
    without: dict[str, list[str]] = {}
    for name, reason in core["without_a_rule"].items():
        without.setdefault(reason, []).append(name.removeprefix("aten."))
    ruled = core["overloads"] - len(core["numbers"]) - len(core["without_a_rule"])
    return [
        "## The core ATen set",
        "",
        f"Of the {core['overloads']} overloads that torch {core['torch']} tags as core (those that write into an `out`"
        f" argument aside), {ruled} have a rule and {len(core['numbers'])} give numbers that the importer computes. The"
        f" other {len(core['without_a_rule'])} have none:",
        "",
        *(f"- {reason}: {', '.join(names)}" for reason, names in without.items()),
        "",
    ]


_COUNTS = ("samples", "passed", "numpy", "skipped", "refused", "wrong", "crashed")


def recorded() -> dict[str, dict[str, dict[str, Any]]]:
    """{op: {dtype: {"counts": [samples, passed, numpy, skipped, refused, wrong, crashed], "gaps": [line, …]}}}"""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _record(results: Sequence[Result]) -> None:
    known = recorded()
    for each in results:
        counts = [each.samples, each.passed, each.numpy, each.skipped]
        counts += [each.declined if each.refused else 0, len(each.wrong), len(each.crashed)]
        kept: dict[str, str] = {}
        for gap in each.gaps():  # one line for each kind of gap is enough to tell its reason
            kept.setdefault(re.sub(r"[\d\W]+", " ", gap)[-60:] if not gap.startswith("refused") else gap, gap[:200])
        known.setdefault(each.op, {})[each.dtype] = {"counts": counts, "gaps": list(kept.values())[:6]}
    rows = []
    for op in sorted(known):
        lines = [f"  {json.dumps(dtype)}: {json.dumps(known[op][dtype])}" for dtype in DTYPES if dtype in known[op]]
        rows.append(f"{json.dumps(op)}: {{\n" + ",\n".join(lines) + "\n}")
    RESULTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


_HEAD = """# PyTorch operations

<!-- Generated by `python tests/converters/torch/opinfo.py --page` from tests/converters/torch/opinfo_results.json. -->

Samples of PyTorch's own OpInfo tests, each exported by `torch.export`, imported, written to ONNX, run by onnxruntime
(in NumPy where that has no kernel) and compared with eager: integers and bools exactly, floating point by the tolerance
of its type. *Skipped* are random results and samples that eager or `torch.export` refuses. *Refused* is what isomorph
declines with a reason; *open* are samples that onnxruntime or isomorph gets wrong: each has a row with a reason in
tests/converters/torch/opinfo_limits.toml.
"""


def page(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The text of docs/torch-ops.md."""
    read = {op: rows for op, rows in results.items() if any(row["counts"][1] for row in rows.values())}
    sums = np.asarray([row["counts"] for rows in read.values() for row in rows.values()]).reshape(-1, 7).sum(0)
    total = dict(zip(_COUNTS, (int(count) for count in sums), strict=True))
    lines = [
        _HEAD,
        f"{len(read)} of {len(results)} OpInfo entries are read: {total['passed']:,} of {total['samples']:,} samples"
        f" pass ({total['numpy']:,} in NumPy), {total['skipped']:,} are skipped, {total['refused']:,} refused and"
        f" {total['wrong'] + total['crashed']:,} open.",
        "",
        *_core_section(),
        "## Entries that are read",
        "",
        "| op | element types | samples | passed | skipped | refused | open |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for op, rows in read.items():
        counts = [sum(row["counts"][index] for row in rows.values()) for index in range(7)]
        kinds = ", ".join(dtype for dtype, row in rows.items() if row["counts"][1])
        lines.append(f"| {op} | {kinds} | {counts[0]} | {counts[1]} | {counts[3]} | {counts[4]} | {sum(counts[5:])} |")
    unread = {op: rows for op, rows in results.items() if op not in read and any(row["gaps"] for row in rows.values())}
    beyond = [op for op in results if op not in read and op not in unread]
    lines += ["", "## Entries that are not read", "", *_reasons(unread), "", "## Beyond `torch.export`, or random", ""]
    return "\n".join([*lines, ", ".join(beyond) + "."]) + "\n"


def _reasons(unread: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """A line for each reason, with the entries for which it is the first one."""
    by_reason: dict[str, list[str]] = {}
    for op, rows in unread.items():
        gap = next(row["gaps"][0] for row in rows.values() if row["gaps"])
        kind, _, text = gap.partition(": ")
        reason = text.partition(": ")[2].removesuffix(" of complex numbers") if kind == "refused" else "it is open"
        by_reason.setdefault(reason, []).append(op)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [f"- {reason}: {', '.join(ops)}" for reason, ops in ordered]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default="", help="names or titles, separated by commas; all by default")
    parser.add_argument("--dtypes", default="", help=f"of {','.join(DTYPES)}")
    parser.add_argument("--samples", type=int, help="only the first of each op and element type")
    parser.add_argument("--dynamic", action="store_true", help="export with symbolic sizes")
    parser.add_argument("--failures", action="store_true", help="print only what does not pass")
    parser.add_argument("--verbose", action="store_true", help="print every sample that does not pass")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--record", action="store_true", help=f"add to {RESULTS.name} and write {PAGE.name}")
    parser.add_argument("--page", action="store_true", help=f"only write {PAGE.name} from {RESULTS.name}")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page(recorded()))
        return
    names = [name for name in given.ops.split(",") if name]
    dtypes = given.dtypes.split(",") if given.dtypes else list(DTYPES)
    jobs = [(name, dtype) for name, entry in entries(names).items() for dtype in dtypes_of(entry) if dtype in dtypes]
    if given.worker:
        _work(given.samples, dynamic=given.dynamic)
        return
    results = []
    for result in _supervised(jobs, given.samples, dynamic=given.dynamic):
        results.append(result)
        if not (given.failures and result.fine):
            print(result.line(), flush=True)
        if given.verbose:
            for texts in (result.wrong, result.crashed, list(result.refused)):
                for text in (*texts[:_SHOWN], *([f"... {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else ())):
                    print("    ", text)
            for text in (*result.skips, *result.unwritten):
                print("     (", text, ")", sep="")
    total = Counter[str]()
    for result in results:
        total.update({"samples": result.samples, "passed": result.passed, "skipped": result.skipped})
        total.update({"numpy": result.numpy, "refused": result.declined if result.refused else 0})
        total.update({"wrong": len(result.wrong), "crashed": len(result.crashed)})
    print(f"{len({each.op for each in results})} ops:", ", ".join(f"{count} {name}" for name, count in total.items()))
    if given.record:
        _record(results)
        PAGE.write_text(page(recorded()))
    if given.json:
        given.json.write_text(json.dumps([vars(each) for each in results], indent=1) + "\n")


def _supervised(jobs: Sequence[tuple[str, str]], limit: int | None, *, dynamic: bool) -> Iterator[Result]:
    """The results of the jobs, from a worker process that is started again behind a job at which it dies."""
    pending = list(jobs)
    command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
    while pending:
        extra = [*([] if limit is None else ["--samples", str(limit)]), *(["--dynamic"] if dynamic else [])]
        worker = subprocess.Popen(
            [*command, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write("\n".join(" ".join(job) for job in pending) + "\n")
        worker.stdin.close()
        for line in worker.stdout:
            if line.startswith("{"):
                fields = json.loads(line)
                fields.update({name: Counter(fields[name]) for name in ("refused", "skips", "unwritten")})
                yield Result(**fields)
                pending.pop(0)
        if worker.wait() and pending:
            yield Result(*pending.pop(0), crashed=[f"the process died with code {worker.returncode}"])


def _work(limit: int | None, *, dynamic: bool) -> None:
    known = entries()
    for line in sys.stdin.read().splitlines():
        name, dtype = line.rsplit(" ", 1)
        print(json.dumps(vars(run(known[name], dtype, limit, dynamic=dynamic))), flush=True)


if __name__ == "__main__":
    main()
