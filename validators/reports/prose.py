"""What several forms of report say in the same words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["clean", "culprits", "number", "runtime", "setting", "title", "worst_ratio"]


def title(content: Mapping[str, Any]) -> str:
    """The two models in one line."""
    return f"{content['source']['model']} -> {content['target']['model']}"


def runtime(side: Mapping[str, Any]) -> str:
    """Version of what ran a side, "?" where it did not say."""
    return str(side["environment"].get("runtime", "?"))


def culprits(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The ops that are to blame, in topological order."""
    first = content.get("culprit")
    if first and first["op"]:
        yield first
        yield from first["others"]


def worst_ratio(output: Mapping[str, Any]) -> float | None:
    """The largest ratio of an output over its cases; None where nothing was compared."""
    ratios = [float(ratio) for case in output.get("cases", ()) for ratio in case["ratios"].values()]
    return max(ratios, default=None)


def number(value: Any) -> str:
    """Three significant digits, thousands with a comma ("6,990"); what JSON has as text ("inf") as it is."""
    if value is None or isinstance(value, str):
        return value or "–"
    short = f"{float(value):.3g}"
    return f"{float(short):,.0f}" if 1000 <= abs(float(short)) < 1e6 else short


def setting(key: str, value: Any) -> str:
    """A value of an environment for people: bytes as GB, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value / 1e9:.1f} GB" if key == "memory_limit" and isinstance(value, int) else str(value)


def clean(text: str) -> str:
    """Without the characters that XML 1.0 forbids: control characters and unpaired surrogates become U+FFFD."""
    return "".join(each if _allowed(ord(each)) else "\ufffd" for each in text)


def _allowed(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
