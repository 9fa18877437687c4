"""Rules against eager over PyTorch's own OpInfo samples, and the core ATen set.

The ops are those of which the recorded results (opinfo_results.json) have a sample that passes. A sample that does not
pass needs a row in opinfo_limits.toml, and a row needs such a sample: a limitation that is gone must be taken out.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")


def _driver() -> ModuleType:
    path = Path(__file__).with_name("opinfo.py")
    spec = importlib.util.spec_from_file_location("opinfo", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["opinfo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


opinfo = _driver()
RESULTS = opinfo.recorded()
LIMITS = opinfo.limits()
READ = [
    (op, dtype) for op, rows in RESULTS.items() for dtype, row in rows.items() if row["counts"][1] and row["counts"][0]
]
FEW = 4
"""Samples of each op and element type that are looked at where time is short."""
QUICK = ("float32", "int64", "bool")


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    return opinfo.entries()


def _judge(entries: dict[str, Any], op: str, dtype: str, count: int | None) -> None:
    if op not in entries:
        pytest.skip(f"torch {torch.__version__} has no OpInfo entry {op}")
    result = opinfo.run(entries[op], dtype, count)
    reasons = []
    for gap in result.gaps():
        reason = next((limit.reason for limit in LIMITS if limit.covers(op, dtype, gap)), None)
        assert reason is not None, f"{op} of {dtype}: {gap}"
        reasons.append(reason)
    if reasons:
        pytest.xfail("; ".join(dict.fromkeys(reasons)))


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        (op, dtype)
        for number, (op, dtype) in enumerate(READ)
        if dtype in QUICK or number % (4 if dtype == "float16" else 40) == 0
    ],
)
def test_first_samples(entries: dict[str, Any], op: str, dtype: str) -> None:
    _judge(entries, op, dtype, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "dtype"), READ)
def test_all_samples(entries: dict[str, Any], op: str, dtype: str) -> None:
    _judge(entries, op, dtype, None)


def test_each_gap_has_a_reason() -> None:
    unknown = [
        f"{op} of {dtype}: {gap}"
        for op, dtype in READ
        for gap in RESULTS[op][dtype]["gaps"]
        if not any(limit.covers(op, dtype, gap) for limit in LIMITS)
    ]
    assert not unknown, "\n".join(unknown)


def _row(limit: Any) -> str:
    return f"{limit.op}: {limit.match}"


@pytest.mark.slow
@pytest.mark.parametrize("limit", [limit for limit in LIMITS if limit.witness], ids=_row)
def test_each_witness_shows_its_limit(entries: dict[str, Any], limit: Any) -> None:
    op, dtype = limit.witness
    assert any(limit.covers(op, dtype, gap) for gap in opinfo.run(entries[op], dtype).gaps())


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if not limit.witness], ids=_row)
def test_each_limit_is_needed(limit: Any) -> None:
    gaps = ((op, dtype, gap) for op, dtype in READ for gap in RESULTS[op][dtype]["gaps"])
    assert any(limit.covers(*gap) for gap in gaps), "no recorded sample has this limitation any more"


def test_page_is_current() -> None:
    assert opinfo.PAGE.read_text() == opinfo.page(RESULTS)


def _core_overloads() -> set[str]:
    """The overloads tagged as core, without those that write into an `out` argument."""
    found = set()
    for name in torch._C._dispatch_get_all_op_names():  # (dir of torch.ops.aten has only those that were used)
        namespace, _, operator = name.partition("::")
        packet, _, overload = operator.partition(".")
        if (
            namespace == "aten"
            and torch.Tag.core in getattr(getattr(torch.ops.aten, packet), overload or "default").tags
        ):
            found.add(f"aten.{packet}.{overload or 'default'}")
    return {name for name in found if not name.endswith("out")}


def test_core_aten_has_rules() -> None:
    from isomorph.converters.torch import importer, numbers  # noqa: F401 (registers the rules)
    from isomorph.converters.torch.rules import complex_rules, rules

    core, stated = _core_overloads(), opinfo.core_aten()
    missing = {name for name in core if rules.importer(name) is None and complex_rules.importer(name) is None}
    known = {*stated["numbers"], *stated["without_a_rule"]}
    assert missing <= known
    if torch.__version__.startswith(f"{stated['torch']}."):
        assert (len(core), missing) == (stated["overloads"], known)
