"""Slices whose bounds are sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")


def _last(x: Any, y: Any) -> Any:
    return x[:, -y.shape[1] :] + y


def _all_but_last(x: Any, y: Any) -> Any:
    return x[:, : -y.shape[1]].sum(1) + y.sum(1)


def _narrowed(x: Any, y: Any) -> Any:
    return x.narrow(1, -y.shape[1], y.shape[1]) - y


@pytest.mark.parametrize("function", [_last, _all_but_last, _narrowed], ids=lambda function: str(function.__name__))
def test_bounds_counted_from_the_end(
    function: Callable[..., Any], convert: Callable[..., Any], apply: Callable[..., Any]
) -> None:
    size, total = torch.export.Dim("S", min=2, max=9), torch.export.Dim("T", min=10, max=30)
    others = [(torch.randn(2, 17), torch.randn(2, 7))]
    shapes = {"args": ({1: total}, {1: size})}
    convert(apply(function), torch.randn(2, 12), torch.randn(2, 5), dynamic_shapes=shapes, others=others)


def test_the_whole_axis_counted_from_the_end(convert: Callable[..., Any], apply: Callable[..., Any]) -> None:
    size = torch.export.Dim("S", min=2, max=9)
    model = convert(
        apply(lambda x: x[:, -x.shape[1] :].relu()),
        torch.randn(2, 5),
        dynamic_shapes={"args": ({1: size},)},
        others=[(torch.randn(2, 8),)],
    )
    assert [type(node.op).__name__ for node in model.graph.nodes] == ["Relu"]
