"""Mixtures of experts: matrix products in groups of rows, and how many rows a group has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")


def _ends(*rows: int) -> Any:
    return torch.tensor(rows, dtype=torch.int32)


def test_groups_of_rows(convert: Callable[..., Any]) -> None:
    pytest.importorskip("transformers.integrations.moe")

    class Grouped(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4, 3, 5))

        def forward(self, x: Any, ends: Any) -> Any:
            return torch.ops.transformers.grouped_mm_fallback(x, self.weight, ends)

    others = [(torch.randn(6, 3), _ends(*ends)) for ends in ((0, 0, 0, 0), (1, 2, 3, 5), (6, 6, 6, 6), (0, 0, 0, 6))]
    rows = torch.export.Dim("R", min=2, max=64)
    convert(Grouped(), torch.randn(9, 3), _ends(2, 2, 5, 9), dynamic_shapes=({0: rows}, None), others=others)


@pytest.mark.parametrize(("bins", "low", "high"), [(7, -1.5, 2), (4, 0, 3), (1, -1, 1)])
def test_counts_of_equal_parts(
    bins: int, low: float, high: float, convert: Callable[..., Any], apply: Callable[..., Any]
) -> None:
    steps = torch.linspace(-3, 3, 600)
    function = apply(lambda x: torch.histc(x, bins=bins, min=low, max=high))
    convert(function, 2 * torch.randn(600), others=[(steps,), (steps.round(),), (torch.full((600,), torch.nan),)])
