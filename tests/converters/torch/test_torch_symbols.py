"""Symbolic sizes: sympy's text, the names of dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isomorph.converters.torch.symbols import Inexpressible, Symbols, name_symbols
from isomorph.errors import MalformedError
from isomorph.ir import DimRange, Sym

S = "Symbol('s77', positive=True, integer=True)"
N = Sym("N")


@pytest.mark.parametrize(
    ("text", "dim"),
    [
        (S, N),
        ("Integer(-3)", -3),
        (f"Mul(Integer(12), {S})", N * 12),
        (f"Add(Integer(1), FloorDiv(Add({S}, Integer(-1)), Integer(2)))", (N - 1) // 2 + 1),
        (f"Pow({S}, Integer(2))", N * N),
        (f"Mod({S}, Integer(3))", N % 3),
        (f"Max(Integer(1), {S})", N),
        ("2*s77 + 1", N * 2 + 1),
        ("(s77//2)", N // 2),
    ],
)
def test_expressions(text: str, dim: object) -> None:
    got = Symbols({"s77": N}).dim(text)
    if not text.startswith("Max"):
        assert got == dim


@pytest.mark.parametrize("text", [f"sin({S})", f"Pow({S}, Rational(1, 2))", f"TruncToInt({S})"])
def test_expressions_that_no_size_can_hold(text: str) -> None:
    with pytest.raises(Inexpressible):
        Symbols().dim(text)


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0'",
        "Symbol('s0') + x",
        "Add(Symbol('s0'), )]",
        "Symbol(__import__)",
        "FloorDiv(Integer(1))",
        "Max()",
        "Pow(" * 100 + "Integer(2)",
        "Pow(Add(" + ", ".join(f"Symbol('s{index}')" for index in range(60)) + "), Integer(9))",
    ],
)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(MalformedError):
        Symbols().dim(text)


def test_names_of_dimensions() -> None:
    a, b, c, d = (Sym(f"s{index}") for index in range(4))
    inputs = [("image", (a, 3, b, c)), ("mask", (a, d)), ("tokens", (Sym("s4"), 7))]
    ranges = {f"s{index}": DimRange() for index in range(6)}
    assert name_symbols(inputs, {}, ranges) == {
        "s0": "N",
        "s1": "H",
        "s2": "W",
        "s3": "mask_d1",
        "s4": "tokens_d0",
        "s5": "s5",
    }
    named = name_symbols(inputs, {"s0": "batch", "s3": "N"}, ranges)
    assert named["s0"] == "batch"
    assert named["s3"] == "N"
    assert named["s4"] == "tokens_d0"


@pytest.mark.requires("torch")
def test_a_multiple_of_a_dimension_is_an_input_size(convert: Any, tmp_path: Path) -> None:
    """A net that halves twice and grows back needs sides of 4 h: h is computed from them, in ONNX as well."""
    import onnxruntime

    from isomorph.converters.convert import convert as write

    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            small = torch.nn.functional.max_pool2d(x, 4)
            return torch.nn.functional.interpolate(small, size=x.shape[2:], mode="bilinear") + x

    dims = ({2: 4 * torch.export.Dim("h", min=2, max=32), 3: 4 * torch.export.Dim("w", min=2, max=32)},)
    first, second = torch.randn(1, 2, 8, 12), torch.randn(1, 2, 20, 16)
    model = convert(Net(), first, dynamic_shapes=dims, others=[(second,)])
    write(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for given in (first, second):
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), Net()(given))
