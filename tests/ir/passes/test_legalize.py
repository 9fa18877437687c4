"""Legalization: decompose until supported, all failures in one error."""

import numpy as np
import pytest

from isomorph.errors import UnsupportedError
from isomorph.ir import ArrayTensor, Builder, DType, Node, Origin, Parameter, Scope, ScopeEntry, ops
from isomorph.ir.passes.legalize import legalize


def refuse(node: Node) -> str | None:
    return f"the target has no {node.op.name}" if node.op.name in {"Linear", "TopK", "CumSum"} else None


def test_a_refused_op_is_decomposed() -> None:
    b = Builder("net")
    x = b.input("x", DType.FLOAT32, (2, 3))
    w = b.parameter(Parameter("w", ArrayTensor(np.zeros((4, 3), np.float32))))
    with b.at(Scope(), Origin("test", "test")):
        b.output("y", b.emit(ops.Linear(), x, w, name="fc"))
    model = legalize(b.finish(), refuse, "test")
    (node,) = model.graph.nodes
    assert node.op == ops.Gemm(trans_b=True)
    assert node.output.name == "fc"
    assert node.origin.passes == ("legalize",)


def test_every_failure_is_listed_with_its_place() -> None:
    b = Builder("net")
    x = b.input("x", DType.FLOAT32, (2, 3))
    scope = Scope((ScopeEntry("layer1.head", "Head"),))
    with b.at(scope, Origin("torch", "aten.cumsum.default", file="model.py", line=7, code="y = x.cumsum(1)")):
        y = b.emit(ops.CumSum(axis=1), x)
    with b.at(scope, Origin("torch", "aten.topk.default", file="model.py", line=8)):
        y, _ = b.emit_many(ops.TopK(k=2), y)
    b.output("y", y)
    with pytest.raises(UnsupportedError) as caught:
        legalize(b.finish(), refuse, "test")
    assert [item.op for item in caught.value.items] == ["CumSum", "TopK"]
    text = str(caught.value)
    assert "layer1.head (Head)  model.py:7  `y = x.cumsum(1)`" in text
    assert "model.py:8" in text
