"""What a source spells out becomes one op; what only looks like it does not. Sharing of equal computations."""

from __future__ import annotations

import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import Builder, DType, Model, Sym, Value, ops
from isomorph.ir.passes.raising.heads import pack_heads
from isomorph.ir.passes.raising.norm import raise_norms
from isomorph.ir.passes.share import share

N = Sym("N")
F32 = DType.FLOAT32


def norm(
    *,
    power: bool = False,
    inverse: str = "reciprocal",
    axis: int = 2,
    keepdims: bool = True,
    epsilon: float = 1e-6,
    exponent: float = 2.0,
    other: bool = False,
    wide: bool = False,
) -> Model:
    def make(b: Builder) -> Value:
        x, y = b.input("x", F32, (N, 4, 4)), b.input("y", F32, (N, 4, 4))
        square = b.emit(ops.Pow(), x, number(b, exponent)) if power else b.emit(ops.Mul(), x, y if other else x)
        mean = b.emit(ops.ReduceMean((axis,), keepdims), square)
        shifted = b.emit(ops.Add(), number(b, epsilon), mean)
        if inverse == "reciprocal":
            z = b.emit(ops.Mul(), x, b.emit(ops.Reciprocal(), b.emit(ops.Sqrt(), shifted)))
        elif inverse == "power":
            z = b.emit(ops.Mul(), b.emit(ops.Pow(), shifted, number(b, -0.5)), x)
        else:
            z = b.emit(ops.Div(), x, b.emit(ops.Sqrt(), shifted))
        w = weight(b, "w", 4, 4) if wide else weight(b, "w", 4)
        return b.emit(ops.Add(), b.emit(ops.Mul(), w, z), y)

    return built(make)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("inverse", ["reciprocal", "power", "division"])
def test_root_mean_square_normalization(power: bool, inverse: str) -> None:
    model = norm(power=power, inverse=inverse)
    raised = raise_norms(model)
    assert kinds(raised) == {"RMSNormalization": 1, "Add": 1}
    agree(model, raised)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(norm(axis=1), id="another axis"),
        pytest.param(norm(other=True), id="a product of two tensors"),
        pytest.param(norm(power=True, exponent=3.0), id="a cube"),
        pytest.param(norm(epsilon=-1e-6), id="a negative epsilon"),
        pytest.param(norm(wide=True), id="a weight of two axes"),
    ],
)
def test_what_is_no_root_mean_square_normalization(model: Model) -> None:
    assert kinds(raise_norms(model)) == kinds(model)


def shared(copies: int = 2, *, of_values: int = 2, axis: int = 2) -> Model:
    def make(b: Builder) -> Value:
        q = b.input("q", F32, (N, 4, 5, 8))
        k, v = (b.input(name, F32, (N, 4 // copies, 6, 8)) for name in ("k", "v"))

        def repeat(x: Value, count: int, axis: int) -> Value:
            apart = b.emit(ops.Unsqueeze((axis,)), x)
            shape = (*apart.shape[:axis], count, *apart.shape[axis + 1 :])
            return b.emit(ops.Reshape((N, 4, 6, 8)), b.emit(ops.Expand(shape), apart))

        keys, values = repeat(k, copies, axis), repeat(v, of_values, 2)
        return b.emit(ops.ScaledDotProductAttention(), q, keys, values)

    return built(make)


def test_heads_of_keys_that_queries_share_are_not_copied() -> None:
    model = shared()
    raised = pack_heads(model)
    assert kinds(raised) == {"ScaledDotProductAttention": 1}
    assert raised.graph.nodes[0].op == ops.ScaledDotProductAttention(group=2)
    agree(model, raised)


def test_heads_that_are_repeated_in_another_order_stay() -> None:
    model = shared(axis=1)  # k0 k1 k0 k1, not k0 k0 k1 k1
    assert kinds(pack_heads(model)) == kinds(model)


def test_equal_computations_are_made_once() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 4))
        once, again = (b.emit(ops.Cos(), b.emit(ops.Mul(), x, number(b, 2.0))) for _ in range(2))
        return b.emit(ops.Add(), once, again)

    model = built(make)
    made = share(model)
    assert kinds(made) == {"Mul": 1, "Cos": 1, "Add": 1}
    assert len(made.graph.parameters) == 1
    agree(model, made)


def test_what_differs_is_not_shared() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, 4))
        zeros = [b.emit(ops.Div(), x, number(b, zero)) for zero in (0.0, -0.0)]
        sums = [b.emit(ops.ReduceSum((1,), keepdims), x) for keepdims in (True, False)]
        layers = [b.emit(ops.Linear(), x, weight(b, "w", 4, 4)) for _ in range(2)]
        drops = [b.emit(ops.Dropout(0.5), x) for _ in range(2)]
        for index, value in enumerate([*zeros, *sums, *layers, *drops]):
            b.output(f"y{index}", value)
        return x

    model = built(make)
    assert kinds(share(model)) == kinds(model)
