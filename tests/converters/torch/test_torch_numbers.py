"""Numbers that a program computes from data or sizes: `.item()`, fractions of sizes, sizes that no expression holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.onnx.writer import write
from isomorph.ir import ops

torch = pytest.importorskip("torch")


def _count(x: Any) -> Any:
    count = x.sum().to(torch.int64).item()
    torch._check(count >= 0)
    return torch.zeros(count, 3) + x.shape[0], count


PROGRAMS: dict[str, Callable[..., Any]] = {
    "item-as-size": _count,
    "item-as-factor": lambda x: x * x.max().item(),
    "fraction-of-a-size": lambda x: x / (x.shape[0] * 2.5),
    "root-of-a-size": lambda x: x * torch.sym_sqrt(x.shape[0]),
    "truncated-fraction": lambda x: torch.ones(torch.sym_int(x.shape[0] * 0.5) + 1, 2),
    "sizes-as-outputs": lambda x: (x, x.shape[0] * 2, x.shape[0] * 0.5),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_computed_numbers(convert: Callable[..., Any], apply: Callable[..., Any], name: str, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    module = apply(PROGRAMS[name])
    batch = torch.export.Dim("N", min=4)
    x = torch.rand(7, 4)
    model = convert(module, torch.rand(5, 4), dynamic_shapes={"args": ({0: batch},)}, others=[(x,)])
    write(model, tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    results = module(x)
    wanted = results if isinstance(results, tuple) else (results,)
    for got, want in zip(session.run(None, {"args_0": x.numpy()}), wanted, strict=True):
        np.testing.assert_allclose(got, np.asarray(want), rtol=1e-6)


def test_equal_sizes_are_one_dimension(convert: Callable[..., Any], apply: Callable[..., Any]) -> None:
    def program(x: Any) -> Any:
        half = torch.sym_int(x.shape[0] * 0.5)
        return torch.ones(half, 2), torch.zeros(torch.sym_int(x.shape[0] * 0.5), 3)

    model = convert(apply(program), torch.rand(6, 4), dynamic_shapes={"args": ({0: torch.export.Dim("N", min=4)},)})
    assert [node.op.name for node in model.graph.nodes].count("BindDim") == 1
    first, second = model.outputs.values()
    assert first.shape[0] == second.shape[0]


def test_dead_sizes_are_pruned(convert: Callable[..., Any], apply: Callable[..., Any]) -> None:
    from isomorph.ir.passes.canonicalize import prune

    def program(x: Any) -> Any:
        torch._check(x.sum().to(torch.int64).item() >= 0)
        return x + 1

    model = convert(apply(program), torch.rand(6, 4))
    assert any(isinstance(node.op, ops.BindDim) for node in model.graph.nodes)
    assert not any(isinstance(node.op, ops.BindDim) for node in prune(model).graph.nodes)
