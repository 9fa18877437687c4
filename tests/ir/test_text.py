"""The text form: what is printed is read back the same, and what is broken is located."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_cases import CASES, OpCase

from isomorph.errors import IsomorphError, MalformedError
from isomorph.ir import ArrayTensor, Builder, DimRange, DType, Model, Origin, Parameter, Scope, ScopeEntry, Sym, ops
from isomorph.ir.evaluate import evaluate
from isomorph.ir.text import parse_model, print_model

N = Sym("N")


def _network() -> Model:
    b = Builder("a net")
    x = b.input("x", DType.FLOAT32, (N, 3, Sym("batch size"), 8))
    w = b.parameter(Parameter("conv.weight", ArrayTensor(np.ones((4, 3, 1, 1), np.float32))))
    tied = b.parameter(Parameter("conv/bias", ArrayTensor(np.zeros(4, np.float32)), trainable=False, role="weight"))
    root, block = ScopeEntry("net", "my.Net"), ScopeEntry("net.0", "Block")
    first = Scope((root, block, ScopeEntry("net.0.conv", "torch.nn.Conv2d")))
    again = Scope((root, block, ScopeEntry("net.0.conv", "torch.nn.Conv2d", 1)))
    with b.at(first, Origin("torch", "aten.conv2d.default", "conv2d", "net.py", 7, "self.conv(x)", ("fold",))):
        y = b.emit(ops.Conv((1, 1), ((0, 0), (0, 0)), (1, 1)), x, w, tied, name="conv")
        y = b.emit(ops.Add(), y, b.constant(np.array([[0.1], [-np.inf]], np.float32)[:1, 0], "c"))
    with b.at(again, Origin("torch", "relu")):
        (y,) = b.emit_many(ops.Relu(), y, names=["out/relu:0"], node_name="relu node")
    with b.at(Scope(), Origin("torch", "view")):
        y = b.emit(ops.Reshape((N, (Sym("batch size") * 32))), y)
    b.output("y", y)
    b.output("an input", x)
    return b.finish(
        dims={"N": DimRange(1, 64), "batch size": DimRange(2)},
        metadata={"author": 'a "quote"\n'},
        source=("torch", "2.14"),
    )


def test_a_network_reads_like_this() -> None:
    assert (
        print_model(_network())
        == """model "a net"
source "torch" "2.14"
metadata "author" = "a \\"quote\\"\\n"
dim N: 1 to 64
dim `batch size`: 2 to any
input %x: float32[N, 3, `batch size`, 8]
weight %conv.weight: float32[4, 3, 1, 1]
weight %"conv/bias": float32[4] frozen
constant %c: float32[1] = {0.1}
scope @net: my.Net
scope @net.0: Block in @net
scope @net.0.conv: torch.nn.Conv2d in @net.0
scope @net.0.conv~1: torch.nn.Conv2d call 1 in @net.0
%conv: float32[N, 4, `batch size`, 8] = Conv(%x, %conv.weight, %"conv/bias", strides=(1, 1), pads=((0, 0), (0, 0)), \
dilations=(1, 1)) @net.0.conv
%add: float32[N, 4, `batch size`, 8] = Add(%conv, %c) @net.0.conv
%"out/relu:0": float32[N, 4, `batch size`, 8] = Relu(%add) @net.0.conv~1 as "relu node"
%reshape: float32[N, 32*`batch size`] = Reshape(%"out/relu:0", shape=(N, 32*`batch size`))
output y = %reshape
output "an input" = %x
"""
    )


@pytest.mark.parametrize("origins", [False, True])
def test_a_network_comes_back(origins: bool) -> None:
    model = _network()
    text = print_model(model, origins=origins)
    back = parse_model(text)
    assert print_model(back, origins=origins) == text
    assert [node.scope for node in back.graph.nodes] == [node.scope for node in model.graph.nodes]
    assert [node.op for node in back.graph.nodes] == [node.op for node in model.graph.nodes]
    if origins:
        assert [node.origin for node in back.graph.nodes] == [node.origin for node in model.graph.nodes]
    assert back.dims == model.dims
    assert back.metadata == model.metadata
    assert not back.parameters()["conv/bias"].trainable
    assert back.parameters()["conv.weight"].data.numpy().shape == (4, 3, 1, 1)
    assert str(model) == print_model(model)


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_op_comes_back(case: OpCase, symbolic: bool) -> None:
    try:
        model = case.model(symbolic=symbolic)
    except IsomorphError:
        pytest.skip("the case fixes its first axis")
    text = print_model(model, origins=True)
    back = parse_model(text)
    assert print_model(back, origins=True) == text
    assert [node.op for node in back.graph.nodes] == [node.op for node in model.graph.nodes]
    if all(parameter.role == "constant" and parameter.data.size <= 16 for parameter in model.parameters().values()):
        arrays = case.arrays()
        for name, array in evaluate(back, arrays).items():
            np.testing.assert_array_equal(array, evaluate(model, arrays)[name])


@pytest.mark.parametrize(
    "dtype", [dtype for dtype in DType if dtype is not DType.STRING and not dtype.is_complex], ids=str
)
def test_small_constants_come_back_to_the_bit(dtype: DType) -> None:
    values = np.array([0, 1, 1, 3, 1 / 3, 7]).astype(dtype.numpy)
    b = Builder("constants")
    with b.at(Scope(), Origin("test", "Identity")):
        b.output("y", b.emit(ops.Identity(), b.constant(values)))
    back = parse_model(print_model(b.finish()))
    assert back.parameters()["constant"].data.digest() == ArrayTensor(values).digest()


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("frobnicate %x", "line 2, column 1", "unknown statement"),
        ("input %x: float33[3]", "line 2, column 11", "unknown element type"),
        ("input %x: float32[-3]", "line 2, column 19", "a size expected"),
        ("input %x: float32[3", "line 2, column 20", "',' expected"),
        ("input %x float32[3]", "line 2, column 10", "':' expected"),
        ("input %x: float32[3] $", "line 2, column 22", "unexpected character"),
        ("input %x: float32[(3 // 0)]", "line 2, column 26", "division by zero"),
        ("input %x: float32[" + "(" * 99 + "3", "line 2, column", "nested deeper"),
        ("input %x: float32[" + "9" * 99 + "]", "line 2, column 19", "too long"),
        ("output y = %x", "line 2, column 12", "read before it is defined"),
        ("%y: float32[] = Range()", "line 2, column 17", "lacks the attribute start, step, length, dtype"),
        ("%y: float32[] = Konv()", "line 2, column 17", "unknown op Konv"),
        ("%y: float32[] = Dims(dims=(1, 2), scalar=True)", "line 2, column 17", "a scalar takes one dimension"),
        ("%y: int64[1] = Dims(dims=3)", "line 2, column 16", "of the wrong kind"),
        ("%y: int64[1] = Dims(dims=(3,), size=2)", "line 2, column 32", "no attribute 'size'"),
        ("%y: int64[1] = Dims(dims=(3,)) @nowhere", "line 2, column 32", "the scope @nowhere is not declared"),
        ("%y: int64[1], %z: int64[1] = Dims(dims=(3,))", "line 2, column 30", "has 1 outputs, 2 are named"),
        ("%y: float32[2] = Range(start=0, step=1, length=2, dtype=float99)", "line 2, column 57", "unknown DType"),
        ("%y: float32[] = Relu(%y)", "line 2, column 17", "reads its own output"),
        ("constant %c: int8[2] = {1}", "line 2, column 24", "2 elements expected"),
        ("constant %c: int8[1] = {inf}", "line 2, column 24", "1 elements expected"),
        ("constant %c: int8[1] = {300}", "line 2, column 24", "no elements of int8"),
        ("weight %c: float32[N]", "line 2, column 8", "a parameter of symbolic shape"),
        ('source "a', "line 2, column 8", "unexpected character"),
        ('source "a" "\\q"', "line 2, column 12", "broken escape"),
    ],
)
def test_an_error_says_where(line: str, where: str, what: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_model(f"model m\n{line}\n")
    assert caught.value.at is not None
    assert caught.value.at.startswith(where)
    assert what in caught.value.what


_FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "model",
            "m",
            "input",
            "%x",
            ":",
            "float32",
            "[",
            "]",
            "3",
            "N",
            ",",
            "\n",
            "=",
            "Relu",
            "(",
            ")",
            "@a",
            "scope",
            "output",
            "y",
            "Reshape",
            "shape",
            "-",
            "//",
            "%",
            "*",
            "`",
            '"',
            "constant",
            "{",
            "}",
            "1e9",
            "dim",
            "to",
            "any",
            "!",
            "as",
            "None",
            "\\",
            "~1",
        ]
    ),
    max_size=40,
)


@given(_FRAGMENTS)
def test_garbage_gives_a_model_or_a_typed_error(fragments: list[str]) -> None:
    with suppress(IsomorphError):
        parse_model(" ".join(fragments))


def test_comments_and_blank_lines_are_passed_over() -> None:
    model = parse_model("# a comment\n\nmodel m  # named m\n  input %x: float32[]\noutput x = %x")
    assert model.name == "m"
    assert model.outputs["x"].shape == ()
