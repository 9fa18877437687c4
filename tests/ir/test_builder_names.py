"""Names: unique, stable, and kept where the source states them."""

import numpy as np

from isomorph.ir import ArrayTensor, Builder, DType, Node, Origin, Parameter, Rewriter, Scope, Value, ops, rewrite


def test_names_are_made_unique_in_the_order_of_creation() -> None:
    b = Builder("net")
    x = b.input("x", DType.FLOAT32, (2,))
    with b.at(Scope(), Origin("test", "test")):
        names = [b.emit(ops.Relu(), x).name for _ in range(3)]
        assert b.emit(ops.Relu(), x, name="x").name == "x_1"
    assert names == ["relu", "relu_1", "relu_2"]


def test_a_reserved_name_is_left_for_its_bearer() -> None:
    b = Builder("net")
    b.reserve(["relu"])
    x = b.input("x", DType.FLOAT32, (2,))
    with b.at(Scope(), Origin("test", "test")):
        first, second = b.emit(ops.Relu(), x), b.emit(ops.Relu(), x)
    assert first.name == "relu_1"
    assert b.keep(second, "relu").name == "relu"
    assert b.keep(first, "relu").name == "relu_1"


def test_a_pass_keeps_the_names_of_what_it_replaces() -> None:
    b = Builder("net")
    x = b.input("x", DType.FLOAT32, (2,))
    w = b.parameter(Parameter("w", ArrayTensor(np.ones(2, np.float32))))
    with b.at(Scope(), Origin("test", "test")):
        y = b.emit(ops.Mul(), b.emit(ops.Relu(), x), w, name="scaled")
    b.output("y", y)

    def double(made: Rewriter, node: Node) -> tuple[Value, ...] | None:
        if not isinstance(node.op, ops.Relu):
            return None
        return (made.emit(ops.Relu(), made.emit(ops.Relu(), made.new(x))),)

    graph = rewrite(b.finish(), "double", double).graph
    assert [node.output.name for node in graph.nodes] == ["relu_1", "relu", "scaled"]
    assert [value.name for value in graph.parameters] == ["w"]
    assert [node.origin.passes for node in graph.nodes] == [("double",), ("double",), ()]
