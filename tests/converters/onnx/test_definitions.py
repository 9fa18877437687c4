"""At which opsets a node means what it means at its own: definitions that are alike, and those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from isomorph.converters.onnx import definitions
from isomorph.converters.onnx.definitions import Use, history, opsets_for
from isomorph.ir import DType, OpaqueType, TensorType

FLOAT, HALF, BRAIN, BYTE, INT64, TEXT = (
    TensorType(dtype, (2, 3))
    for dtype in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.UINT8, DType.INT64, DType.STRING)
)
NEWEST = 28


def use(kind: str, inputs: list[TensorType | None], output: TensorType = FLOAT, **attributes: Any) -> Use:
    names = [f"x{position}" if each is not None else "" for position, each in enumerate(inputs)]
    types = {name: each for name, each in zip(names, inputs, strict=True) if each is not None}
    return Use(kind, attributes, names, ["y"], {**types, "y": output})


ROWS = {
    "only types grew": (use("ConstantOfShape", [INT64]), 24, (9, NEWEST)),
    "a type that came later": (use("Identity", [BRAIN], BRAIN), 21, (13, NEWEST)),
    "a sequence": (
        use("Identity", [OpaqueType.of("sequence", FLOAT)], OpaqueType.of("sequence", FLOAT)),
        19,
        (14, NEWEST),
    ),
    "an attribute at its default": (use("Reshape", [FLOAT, INT64], allowzero=0), 21, (13, NEWEST)),
    "an attribute that is set": (use("Reshape", [FLOAT, INT64], allowzero=1), 21, (14, NEWEST)),
    "up past added attributes": (use("Cast", [FLOAT], HALF, to=10), 13, (13, NEWEST)),
    "an operand that came later": (use("Pad", [FLOAT, INT64, FLOAT, INT64]), 19, (18, NEWEST)),
    "an operand that is left out": (use("Pad", [FLOAT, INT64, FLOAT]), 19, (13, NEWEST)),
    "a value that came later": (use("Pad", [FLOAT, INT64], mode="wrap"), 21, (19, NEWEST)),
    "an attribute that became an operand": (use("ReduceMax", [FLOAT, INT64]), 20, (18, NEWEST)),
    "a default that changed": (use("Softmax", [FLOAT]), 13, (13, NEWEST)),
    "windows that are rounded up": (use("MaxPool", [FLOAT], ceil_mode=1, kernel_shape=[2, 2]), 22, (22, NEWEST)),
    "windows that are not": (use("MaxPool", [FLOAT], kernel_shape=[2, 2]), 22, (12, NEWEST)),
    "equal parts": (use("Split", [FLOAT], num_outputs=2), 18, (18, NEWEST)),
    "stated parts": (use("Split", [FLOAT, INT64]), 18, (13, NEWEST)),
    "a remainder of floats": (use("Mod", [FLOAT, FLOAT], fmod=0), 28, (28, NEWEST)),
    "a remainder of integers": (use("Mod", [INT64, INT64], INT64, fmod=0), 28, (13, NEWEST)),
}


@pytest.mark.parametrize("name", ROWS)
def test_opsets_around_its_own(name: str) -> None:
    node, opset, wanted = ROWS[name]
    low, high = opsets_for(node, opset)
    assert (low, min(high, NEWEST)) == wanted


def test_types_that_are_not_known_must_stay() -> None:
    inside = Use("Identity", {}, ["x"], ["y"], {})
    assert opsets_for(inside, 21)[0] == 21


@pytest.mark.parametrize("kind", sorted(definitions._ALIKE))
def test_what_is_reviewed_is_there(kind: str) -> None:
    known = {schema.since_version for schema in history(kind)}
    assert set(definitions._ALIKE[kind]) <= known
