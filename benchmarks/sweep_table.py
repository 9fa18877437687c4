"""Render the results of torch_sweep.py: `python benchmarks/sweep_table.py RESULTS --output docs/sweep-torch.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["latest", "outcome"]


def latest(path: Path) -> list[dict[str, Any]]:
    """The last line for each model and kind of shapes."""
    found = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        found[line["name"], line["shapes"]] = line
    return list(found.values())


def outcome(line: dict[str, Any]) -> tuple[str, str]:
    """(state, reason): "EQUIVALENT", "DIFFERENT", "INCONCLUSIVE"; "not exported" where torch.export refuses;
    "refused" where we do; "failed" for a crash or time-out of ours; "not built" where the model itself fails."""
    if "crash" in line:
        return "not built", str(line["crash"])
    export, ours, judged = (line.get(step, {}) for step in ("export", "ours", "judged"))
    if "error" in export:
        return "not exported", str(export["error"])
    if "crash" in ours:
        return "failed", str(ours["crash"])
    if "error" in ours:
        reasons = [f"{reason}" + (f" (x{count})" if count > 1 else "") for reason, count in ours["reasons"].items()]
        return "refused", "; ".join(reasons)
    if "crash" in judged:
        return "not judged", str(judged["crash"])
    if "error" in judged:
        return "not judged", "; ".join(judged["reasons"])
    return str(judged["verdict"]), "; ".join(judged["reasons"][:2])
