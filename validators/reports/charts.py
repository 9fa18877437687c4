"""Inline SVG of the HTML report: error histograms against the budget, and the error along the graph.

No scripts, no fonts, no style attributes; colours come from the page's classes, so that they follow its scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from isomorph.validators.reports.prose import clean, number

__all__ = ["histogram", "trace"]

_WIDTH, _HEIGHT = 360.0, 168.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 8.0, 8.0, 18.0, 34.0
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def histogram(
    target: Sequence[int], source: Sequence[int], edges: Sequence[float], limits: tuple[float, float], name: str
) -> str:
    """Elements by error over budget: the target as bars, the source as a line. Heights are logarithms of counts."""
    bins = len(target)
    step = (_WIDTH - _LEFT - _RIGHT) / bins
    floor = _HEIGHT - _BOTTOM
    most = max((*target, *source, 1))

    def top(count: int) -> float:
        return floor - (floor - _TOP) * math.log1p(count) / math.log1p(most)

    def place(edge: float) -> float:
        """The x of a lower edge of a bin."""
        return _LEFT + step * (1 + next(i for i, each in enumerate(edges) if each >= edge))

    bars = [
        f'<rect class="bar" x="{_LEFT + step * i + 1:.1f}" y="{top(count):.1f}" width="{step - 2:.1f}" '
        f'height="{floor - top(count):.1f}"><title>{count:,} of the target {escape(_range(edges, i))}</title></rect>'
        for i, count in enumerate(target)
        if count
    ]
    corners = [f"{_LEFT + step * (i + side):.1f},{top(count):.1f}" for i, count in enumerate(source) for side in (0, 1)]
    equal, unequal = (place(limit) for limit in limits)
    parts = [
        *_zones((_LEFT, equal, unequal, _WIDTH - _RIGHT), floor),
        *bars,
        f'<polyline class="trace" points="{" ".join(corners)}"/>',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>',
        *_ticks(edges, place, limits, floor, step),
        _text(_WIDTH / 2, _HEIGHT - 2, "error, in budgets", "middle"),
        _text(_LEFT, 11, f"{most:,} elements", "start"),
    ]
    label = f"Errors of {name}: {_summary(target, edges, limits)}"
    return _svg("histogram", (_WIDTH, _HEIGHT), label, parts)


def _summary(counts: Sequence[int], edges: Sequence[float], limits: tuple[float, float]) -> str:
    equal, unequal = (1 + next(i for i, each in enumerate(edges) if each >= limit) for limit in limits)
    within, between, beyond = sum(counts[:equal]), sum(counts[equal:unequal]), sum(counts[unequal:])
    return f"{within:,} elements below {limits[0]:g} budgets, {between:,} between, {beyond:,} from {limits[1]:g} on"


def _range(edges: Sequence[float], index: int) -> str:
    if index == 0:
        return "are exact"
    low = number(edges[index - 1])
    return f"err by {low} to {number(edges[index])} budgets" if index < len(edges) else f"err by {low} budgets or more"


def _zones(borders: Sequence[float], floor: float) -> Iterator[str]:
    for kind, left, right in zip(("good", "open", "bad"), borders, borders[1:], strict=False):
        size = f'x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{floor - _TOP:.1f}"'
        yield f'<rect class="zone {kind}" {size}/>'


def _ticks(
    edges: Sequence[float], place: Callable[[float], float], limits: tuple[float, float], floor: float, step: float
) -> Iterator[str]:
    yield _text(_LEFT + step / 2, floor + 14, "0", "middle")
    for edge in edges[1:]:
        exponent = round(math.log2(edge))
        if edge in limits:  # neighbours: the lower one is set to the left, the upper one to the right
            side, anchor = (4, "end") if edge == limits[0] else (-4, "start")
            yield _text(place(edge) + side, floor + 14, f"{edge:g}", anchor)
        elif exponent in (-9, -1, 15, 25):
            yield _text(place(edge), floor + 14, _power(exponent), "middle")


def _power(exponent: int) -> str:
    return "½" if exponent == -1 else f"2{str(exponent).translate(_SUPERSCRIPT)}"


def trace(layers: Sequence[Mapping[str, Any]], limits: tuple[float, float]) -> str:
    """Error over budget of each value, in topological order; wide graphs scroll."""
    height, left, right, top, bottom = 210.0, 34.0, 12.0, 12.0, 24.0
    width = max(_WIDTH, left + right + 9.0 * len(layers))
    ratios = [_positive(layer["ratio"]) for layer in layers]
    low, high = math.log2(0.25), math.log2(max(512.0, *ratios)) + 0.5
    floor = height - bottom
    step = (width - left - right) / max(1, len(layers))

    def y(ratio: float) -> float:
        return floor - (floor - top) * (max(low, math.log2(ratio)) - low) / (high - low)

    points = [(left + step * (i + 0.5), y(ratio)) for i, ratio in enumerate(ratios)]
    parts = [
        f'<polyline class="path" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}"/>',
        *(
            _limit(kind, y(limit), limit, left, width - right)
            for kind, limit in zip(("open", "bad"), limits, strict=True)
        ),
        _text(left - 6, y(1.0) + 4, "1", "end"),
        f'<line class="axis" x1="{left}" x2="{width - right:.1f}" y1="{floor}" y2="{floor}"/>',
        *(_dot(layer, point) for layer, point in zip(layers, points, strict=True)),
        _text(left, height - 6, "first operation", "start"),
        _text(width - right, height - 6, "last", "end"),
    ]
    wrong = sum(layer["state"] != "right" for layer in layers)
    guilty = sum(layer["state"] == "culprit" for layer in layers)
    label = (
        f"Error over budget of {len(layers)} values along the graph: {wrong} beyond {limits[1]:g}, {guilty} culprits"
    )
    return _svg("graph", (width, height), label, parts, fixed=width > _WIDTH)


def _positive(ratio: Any) -> float:
    value = float(ratio)
    return min(value, 2.0**60) if value > 0 else 2.0**-10


def _limit(kind: str, y: float, limit: float, left: float, right: float) -> str:
    line = f'<line class="limit {kind}" x1="{left}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(left - 6, y + 4, f"{limit:g}", "end")


def _dot(layer: Mapping[str, Any], point: tuple[float, float]) -> str:
    x, y = point
    said = f"{layer['op']} {layer['target']}: {number(layer['ratio'])} budgets, {layer['state']}"
    title = f"<title>{escape(clean(said))}</title>"
    if layer["state"] == "culprit":
        corners = f"{x:.1f},{y - 7:.1f} {x + 7:.1f},{y:.1f} {x:.1f},{y + 7:.1f} {x - 7:.1f},{y:.1f}"
        return f'<polygon class="dot culprit" points="{corners}">{title}</polygon>'
    return f'<circle class="dot {layer["state"]}" cx="{x:.1f}" cy="{y:.1f}" r="3.2">{title}</circle>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(kind: str, size: tuple[float, float], label: str, parts: Sequence[str], *, fixed: bool = False) -> str:
    """`fixed` keeps the size in pixels, so that a wide drawing scrolls instead of shrinking."""
    width, height = size
    pixels = f' width="{width:.0f}" height="{height:.0f}"' if fixed else ""
    opened = f'<svg class="{kind}{" fixed" if fixed else ""}" role="img" viewBox="0 0 {width:.0f} {height:.0f}"{pixels}'
    return f'{opened} aria-label="{escape(label)}">{"".join(parts)}</svg>'
