"""Tables of the judge's power and calibration.

python benchmarks/judge_page.py POWER.jsonl CALIBRATION.jsonl PAGE.md
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["grade", "main", "page"]

IDENTICAL = 1e-9
SOLID, ROUNDING = 128.0, 32.0
GRADES = {
    "changed": "changes the function: Δ at least 128 times what rounding does to the clean file",
    "slight": "between 32 and 128 times",
    "rounding": "below 32 times: no float32 run can tell it from another order of summation",
    "same": "changes nothing: Δ at most 1e-9 of the output in float64",
    "unknown": "could not be evaluated in float64",
}
Line = dict[str, Any]


def grade(line: Line) -> str:
    """What a mutant is, by its float64 runs alone."""
    if line["effect"] is None:
        return "unknown"
    if float(line["effect"]) <= IDENTICAL:
        return "same"
    amplitude = float(line["amplitude"])
    return "changed" if amplitude >= SOLID else "slight" if amplitude >= ROUNDING else "rounding"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("power", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    power, calibration = (_read(path) for path in (options.power, options.calibration))
    options.page.write_text(page(power, calibration), encoding="utf-8")
    return 0


def _read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def page(power: Sequence[Line], calibration: Sequence[Line]) -> str:
    """The page in Markdown."""
    mutants = [line for line in power if line["fault"] != "none" and line["outcome"] == "judged"]
    refused = sum(line.get("outcome") in ("refused", "broken") for line in power)
    others = [line for line in calibration if float(line.get("amplitude") or 0) >= SOLID]
    calibration = [line for line in calibration if line not in others]
    parts = [
        _INTRODUCTION.format(versions=_versions(), models=len({line["model"] for line in power})),
        _power(mutants, refused),
        _calibration(calibration, others),
        _tools(mutants, calibration),
        _kinds(mutants),
        _models(mutants, calibration),
        _exceptions(mutants, calibration),
    ]
    return "\n\n".join(parts) + "\n"


def _versions() -> str:
    named = ("torch", "onnx", "onnxruntime", "keras", "numpy")
    return ", ".join(f"{name} {version(name)}" for name in named) + f", Python {platform.python_version()}"


def _power(mutants: Sequence[Line], refused: int) -> str:
    kinds, models = {line["fault"] for line in mutants}, {line["model"] for line in mutants}
    rows = []
    for name, meaning in GRADES.items():
        group = [line for line in mutants if grade(line) == name]
        verdicts = Counter(line["verdict"] for line in group)
        strict = Counter(line.get("strict", line["verdict"]) for line in group)
        words = ("DIFFERENT", "INCONCLUSIVE", "EQUIVALENT")
        rows.append([meaning, len(group), *(verdicts[word] for word in words), strict["EQUIVALENT"]])
    changed = [line for line in mutants if grade(line) == "changed"]
    found = [line for line in changed if line["verdict"] == "DIFFERENT"]
    named = [line for line in found if line.get("hit")]
    passed = [line for line in changed if line.get("strict", line["verdict"]) == "EQUIVALENT"]
    summary = (
        f"{len(mutants)} mutants of {len(kinds)} kinds of fault in {len(models)} models"
        f" ({refused} more were refused by the runtime: no verdict). Of the {len(changed)} that change the function,"
        f" **{_share(len(found), len(changed))} are DIFFERENT**; with `--strict` {len(passed)} are EQUIVALENT. The op"
        f" that was made wrong is the culprit named first in **{_share(len(named), len(found))}** of those found."
    )
    head = ["mutant", "count", "DIFFERENT", "INCONCLUSIVE", "EQUIVALENT", "EQUIVALENT with `--strict`"]
    return f"## Power\n\n{summary}\n\n{_table(head, rows)}"


def _calibration(pairs: Sequence[Line], others: Sequence[Line]) -> str:
    judged = [line for line in pairs if line["verdict"] != "broken"]
    false = sum(line["verdict"] == "DIFFERENT" for line in judged)
    words = ("EQUIVALENT", "INCONCLUSIVE", "DIFFERENT")
    rows = []
    for name in dict.fromkeys(line["variant"] for line in judged):
        group = [line for line in judged if line["variant"] == name]
        verdicts = Counter(line["verdict"] for line in group)
        ratios = sorted(float(line["ratio"]) for line in group)
        rows.append([name, len(group), *(verdicts[word] for word in words), f"{ratios[-1]:.3g}"])
    summary = (
        f"{len(judged)} pairs of a source and a correct target, each with inputs of its own seed:"
        f" **{false} false DIFFERENT ({false / max(1, len(judged)):.2%})**,"
        f" {sum(line['verdict'] == 'EQUIVALENT' for line in judged)} EQUIVALENT."
    )
    strict = [line["strict"] for line in judged if line.get("strict")]
    if strict:
        summary += f" With `--strict` {sum(word == 'EQUIVALENT' for word in strict)} of the {len(strict)} asked are."
    if others:
        named = ", ".join(f"{line['model']} by {line['variant']} ({line['verdict']})" for line in others)
        summary += f" Left out is what float64 runs of both files show to be another function: {named}."
    return f"## Calibration\n\n{summary}\n\n{_table(['target', 'pairs', *words, 'largest ratio'], rows)}"


def _tools(mutants: Sequence[Line], pairs: Sequence[Line]) -> str:
    changed = [line for line in mutants if grade(line) == "changed"]
    clean = [line for line in pairs if line["verdict"] != "broken"]
    judged = [("isomorph, DIFFERENT", lambda line: line["verdict"] == "DIFFERENT")]
    judged += [("isomorph, not EQUIVALENT", lambda line: line["verdict"] != "EQUIVALENT")]
    rows = [[name, *_rates(changed, clean, accuses)] for name, accuses in judged]
    names = next((list(line["others"]) for line in clean if "others" in line), [])
    rows += [[name, *_rates(changed, clean, _accuses(name))] for name in names]
    head = ["rule", "faults that it finds", "of", "false alarms", "of"]
    return f"## Beside other tools' rules\n\n{_RULES}\n\n{_table(head, rows)}"


def _accuses(rule: str) -> Callable[[Line], bool | None]:
    def accuses(line: Line) -> bool | None:
        passed = line.get("others", {}).get(rule)
        return None if not isinstance(passed, bool) else not passed

    return accuses


def _rates(changed: Sequence[Line], clean: Sequence[Line], accuses: Callable[[Line], bool | None]) -> list[str]:
    cells = []
    for group in (changed, clean):
        said = [answer for line in group if (answer := accuses(line)) is not None]
        cells += [f"{sum(said) / max(1, len(said)):.1%}", str(len(said))]
    return cells


def _kinds(mutants: Sequence[Line]) -> str:
    by: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in mutants:
        by[line["family"], line["fault"]].append(line)
    rows = []
    for (family, name), group in sorted(by.items()):
        rows.append([family, name.replace("_", " "), *_counts(group)])
    head = ["family", "fault", "mutants", "change the function", "DIFFERENT", "named first"]
    return f"## By kind of fault\n\n{_table(head, rows)}"


def _counts(group: Iterable[Line]) -> list[int]:
    group = list(group)
    changed = [line for line in group if grade(line) == "changed"]
    found = [line for line in changed if line["verdict"] == "DIFFERENT"]
    return [len(group), len(changed), len(found), sum(bool(line.get("hit")) for line in found)]


def _models(mutants: Sequence[Line], pairs: Sequence[Line]) -> str:
    kinds = {line["model"]: line["kind"] for line in (*mutants, *pairs)}
    rows = []
    for name, kind in kinds.items():
        clean = [line for line in pairs if line["model"] == name and line["verdict"] != "broken"]
        equivalent = sum(line["verdict"] == "EQUIVALENT" for line in clean)
        rows.append([name, kind, *_counts(x for x in mutants if x["model"] == name), len(clean), equivalent])
    head = ["model", "kind", "mutants", "change the function", "DIFFERENT", "named first", "clean pairs", "EQUIVALENT"]
    return f"## By model\n\n{_table(head, rows)}"


def _exceptions(mutants: Sequence[Line], pairs: Sequence[Line]) -> str:
    missed = [line for line in mutants if grade(line) == "changed" and line["verdict"] != "DIFFERENT"]
    rows = [
        [
            line["model"], line["fault"].replace("_", " "), line["op"], f"{float(line['effect']):.2g}",
            f"{float(line['amplitude']):.3g}", line["verdict"], line.get("strict", ""), _first(line),
        ]
        for line in missed
    ]  # fmt: skip
    head = ["model", "fault", "op", "effect", "amplitude", "verdict", "with `--strict`", "reason"]
    found = [line for line in mutants if grade(line) == "changed" and line["verdict"] == "DIFFERENT"]
    wrong = [line for line in found if not line.get("hit")]
    names = [
        [line["model"], line["fault"].replace("_", " "), f"{line['op']} `{line['node']}`", _said(line)]
        for line in wrong
    ]
    others = [line for line in pairs if line["verdict"] not in ("EQUIVALENT", "broken")]
    clean = [[line["model"], line["variant"], line["verdict"], line["ratio"], _first(line)] for line in others]
    return "\n\n".join(
        [
            "## Everything that was not found, named or passed",
            _table(head, rows),
            _table(["model", "fault", "wrong op", "named instead"], names),
            _table(["model", "target", "verdict", "ratio", "reason"], clean),
        ]
    )


def _said(line: Line) -> str:
    return f"{line['named_op']} `{line['named']}`" if line.get("named") else str(line.get("note", "nobody"))


def _first(line: Line) -> str:
    return (line.get("reasons") or [""])[0].replace("|", "\\|")[:160]


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.2%} ({part} of {whole})"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return f"None ({', '.join(head)})."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


_INTRODUCTION = """# How well the judge judges

Generated by `benchmarks/judge_page.py` from what `benchmarks/judge_power.py` and `benchmarks/judge_calibration.py`
wrote; nothing here is by hand. {versions}.

{models} models (`benchmarks/judge/models.py`): small networks of our own, of torchvision, timm and transformers, a
quantized one, packaged ones with trained weights, two of Keras. Each is converted to ONNX; a fault
(`benchmarks/judge/faults`) is an edit of that file as a converter could have made it. Each kind is made at one seeded
place of each model that has one; of the larger models with a seeded sample of the kinds (`--limit`). Whether it changes
the function is decided by float64 runs of both files in which no code of the judge takes part
(`benchmarks/judge/truth.py`): *effect* is the largest change of an output over its largest element, *amplitude* the
same change over what float32 rounding does to the clean file, on up to 18 cases of seeds that no trial uses. The judge
sees the source and the faulty file, with default settings; mutants that are not DIFFERENT are judged once more with
`--strict`. The culprit named first counts as right if it is the edited op, or its piece (the ops between it and the
nearest values that both sides have) contains it."""

_RULES = """The same mutants that change the function and the same clean pairs, by the rules of other tools, on the one
kind of input that each uses (`benchmarks/judge/rules.py`; not the tools themselves): `numpy.allclose(rtol=1e-3,
atol=1e-5)` on normal inputs; Polygraphy's `CompareFunc.simple` (an element fails that exceeds both rtol and atol of
1e-5; inputs uniform on [0, 1]); `torch.onnx.export(verify=True)` (fails from 5e-3 absolute or 1e-1 relative; normal
inputs); onnx2tf's `--check_onnx_tf_outputs_elementwise_close` (atol 1e-4, inputs of ones)."""

if __name__ == "__main__":
    sys.exit(main())
