"""The onnx package's own operator cases: read -> IR -> write -> run must pass wherever onnxruntime passes the original.

A case whose ops isomorph does not read is refused, never converted wrongly. Where a case feeds what isomorph needs
constant (axes, sizes, scales), its operands but the first become initializers with the recorded values.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from isomorph.converters.convert import prepare
from isomorph.converters.onnx import reader, writer
from isomorph.errors import UnsupportedError
from isomorph.ir import Model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.model import TestCase
    from onnx.backend.test.case.node import collect_testcases

READ_AT_LEAST = 1012
READ_WITH_CONSTANTS_AT_LEAST = 253

LIMITATIONS = {
    "the IR has no such op": """
        BitCast BitShift CumProd Det EyeLike Hardmax ImageDecoder LpPool MatMulInteger QLinearMatMul ReverseSequence
        TensorScatter TfIdfVectorizer""",
    "tensors of strings": "RegexFullMatch StringConcat StringNormalizer StringSplit",
    "sequences, maps and optionals": "OptionalGetElement OptionalHasElement input",
    "a loop that grows a tensor by what the data say": "Slice loop_body",
    "what the IR's op leaves out (masks, batch statistics, a region of interest, computed sizes, a stated kernel)":
        "BatchNormalization ConstantOfShape DeformConv Dropout MaxPool MaxUnpool Resize Scan",
    "ONNX takes no bfloat16 here": "Compress Einsum Unique",
    "an opset older than 7": "opset",
    "other domains than ONNX's own": "ai.onnx.ml ai.onnx.preview",
}  # fmt: skip
"""Why operators of the cases are refused. An operator that is no longer refused must leave this table."""


def run(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip([item.name for item in session.get_inputs()], inputs, strict=False))))


def agree(got: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """The tolerances of the onnx package's own runner."""

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        close = a.dtype.kind in "fc"
        return bool(np.allclose(a, b, rtol=1e-3, atol=1e-7, equal_nan=True) if close else (a == b).all())

    return len(got) == len(expected) and all(same(a, b) for a, b in zip(got, expected, strict=True))


def runs_as_recorded(path: Path, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> bool:
    try:
        return agree(run(path, inputs), outputs)
    except Exception:  # onnxruntime raises many kinds for what it lacks; such a case says nothing of isomorph
        return False


def with_constants(model: onnx.ModelProto, inputs: list[np.ndarray]) -> onnx.ModelProto:
    """The model with all inputs but the first as initializers."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for item, array in list(zip(made.graph.input, inputs, strict=True))[1:]:
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), item.name))
        made.graph.input.remove(item)
    return made


def converted(case: TestCase, path: Path) -> tuple[Model, bool]:
    """The model ready to be written, and whether its operands had to be constant."""
    try:
        return prepare(reader.read(path), writer.target()), False
    except UnsupportedError as error:
        inputs = case.data_sets[0][0]
        if len(inputs) < 2 or len(case.model.graph.input) != len(inputs):
            raise error from None
        path.write_bytes(with_constants(case.model, inputs).SerializeToString())
        return prepare(reader.read(path), writer.target()), True


@pytest.mark.filterwarnings("ignore")
def test_every_case_that_is_read_computes_the_same(tmp_path: Path) -> None:
    original, written = tmp_path / "original.onnx", tmp_path / "written.onnx"
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        inputs, outputs = case.data_sets[0]
        if not all(isinstance(item, np.ndarray) for item in [*inputs, *outputs]):
            continue
        original.write_bytes(case.model.SerializeToString())
        try:
            model, constant = converted(case, original)
        except UnsupportedError as error:
            refused.update(item.op for item in error.items)
            continue
        original.write_bytes(case.model.SerializeToString())
        if not runs_as_recorded(original, inputs, outputs):
            continue
        writer.write(model, written)
        counts["read with constant operands" if constant else "read"] += 1
        if not agree(run(written, inputs[:1] if constant else inputs), outputs):
            wrong.append(case.name)
    print(dict(counts), f"refused: {refused.total()}")
    assert not wrong
    assert counts["read"] >= READ_AT_LEAST, counts
    assert counts["read with constant operands"] >= READ_WITH_CONSTANTS_AT_LEAST, counts
    expected = {name for names in LIMITATIONS.values() for name in names.split()}
    assert {_family(name) for name in refused} == expected


def _family(name: str) -> str:
    """An operator's name, the domain of one of another domain, or the first word of a refusal of the whole file."""
    for domain in ("ai.onnx.ml", "ai.onnx.preview"):
        if name.startswith(domain):
            return domain
    return name.split(maxsplit=1)[0]
