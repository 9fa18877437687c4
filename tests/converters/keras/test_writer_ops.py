"""Every row of the table of ops, written, loaded by Keras and run, gives the outputs of the reference evaluation.

Read back by the reader it does, too, with an input as a literal as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Data, Literal, OpCase

from isomorph.converters.convert import prepare
from isomorph.converters.keras import reader, writer
from isomorph.errors import UnsupportedError
from isomorph.ir.evaluate import evaluate

pytestmark = pytest.mark.requires("keras", "jax")

REFUSED = {
    "div_int": "toward zero",
    "div_int_negative": "toward zero",
    "conv_all_attributes": "strides and dilations at once",
    "conv_channels_last": "strides and dilations at once",
    "conv_1d": "strides and dilations at once",
    "conv_transpose_all_attributes": "groups",
    "arg_max_last": "last of equal",
    "arg_min_last": "last of equal",
    "top_k": "last axis",
    "top_k_smallest": "last axis",
    "gather_nd": "no operation",
    "gather_nd_batch": "no operation",
    "dims": "without inputs",
    "dims_scalar": "without inputs",
    "range": "without inputs",
    "range_float": "without inputs",
    "constant_of_shape": "without inputs",
    "stft": "channels first",
    "stft_window": "channels first",
    "stft_whole": "channels first",
    **dict.fromkeys(
        ("random_uniform", "random_uniform_double", "random_normal", "random_normal_narrow", "random_normal_half"),
        "no operation",
    ),
    **dict.fromkeys(("bernoulli", "bernoulli_bool", "multinomial"), "no operation"),
}
"""What Keras cannot say, and a word of the reason that the error gives."""

UNROLLED = {
    "rnn_relu", "rnn_clip", "gru_lengths", "gru_clip", "lstm_lengths", "lstm_peepholes", "lstm_coupled",
    "lstm_functions", "lstm_clip", "lstm_projected",
}  # fmt: skip
"""What no layer of Keras does; as operations it needs a static number of steps."""


WITHOUT_OPERATION = {
    "BindDim", "BitShift", "Compress", "ConvInteger", "CumProd", "Det", "MaxPoolWithIndices",
    "MaxRoiPool", "NonMaxSuppression", "NonZero", "RoiAlign", "ScatterElements", "ScatterND",
    "TensorScatter", "Unique",
}  # fmt: skip


def refusal(case: OpCase) -> str | None:
    return "no operation" if case.op.name in WITHOUT_OPERATION else REFUSED.get(case.id)


def source(arrays: dict[str, Any], order: list[str]) -> dict[str, Any]:
    return {f"x{place}": arrays[name] for place, name in enumerate(order)}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all models that can be written, half of them with a symbolic batch, run by Keras."""
    folder = tmp_path_factory.mktemp("ops")
    for place, case in enumerate(CASES):
        if refusal(case) is not None:
            continue
        model = prepare(case.model(symbolic=place % 2 == 0 and case.id not in UNROLLED), writer.target())
        writer.write(model, folder / f"{case.id}.keras")
        order = [value.name for value in model.graph.inputs]
        np.savez(folder / f"{case.id}.npz", **source(case.arrays(), order))
    script = Path(__file__).with_name("load_models.py")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("case", [case for case in CASES if refusal(case) is None], ids=lambda case: case.id)
def test_outputs(case: OpCase, loaded: Path) -> None:
    said = json.loads((loaded / "report.json").read_text())[case.id]
    assert "error" not in said, said
    found = np.load(loaded / f"{case.id}.out.npz")
    for place, expected in enumerate(evaluate(case.model(), case.arrays()).values()):
        actual = found[f"y{place}"]
        assert actual.shape == expected.shape
        # Keras on jax promotes to int32
        assert said["dtypes"][place] in (str(expected.dtype), str(expected.dtype).replace("int64", "int32"))
        narrow = expected.dtype.itemsize < 4 and expected.dtype.kind not in "biu"
        tolerance = {"rtol": 1e-2, "atol": 1e-2} if narrow else {"rtol": 2e-5, "atol": 2e-6}
        wide = expected.astype(np.float64)
        np.testing.assert_allclose(actual.astype(np.float64), wide, **tolerance)


@pytest.mark.parametrize("case", [case for case in CASES if refusal(case) is not None], ids=lambda case: case.id)
def test_refusals(case: OpCase, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        writer.write(prepare(case.model(), writer.target()), tmp_path / "model.keras")
    assert refusal(case) in caught.value.items[0].reason
    assert not list(tmp_path.iterdir())


def with_literals() -> Iterator[tuple[str, OpCase]]:
    """Each row that can be written, and each with one of its inputs as a literal."""
    for case in CASES:
        if refusal(case) is not None:
            continue
        yield case.id, case
        places = [place for place, operand in enumerate(case.operands) if type(operand) is Data]
        for place in places if len(places) > 1 else ():
            operands = list(case.operands)
            drawn = operands[place]
            assert drawn is not None
            operands[place] = Literal(drawn.sample(np.random.default_rng(place)), drawn.dtype)
            yield f"{case.id}-literal{place}", replace(case, operands=tuple(operands))


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in with_literals()])
def test_what_is_written_is_read_back(case: OpCase, tmp_path: Path) -> None:
    model = case.model()
    prepared = prepare(model, writer.target())
    writer.write(prepared, tmp_path / "model.keras")
    back = reader.read(tmp_path / "model.keras")
    arrays = case.arrays()
    names = zip(back.graph.inputs, prepared.graph.inputs, strict=True)
    given = {value.name: arrays[ours.name] for value, ours in names}
    for expected, actual in zip(evaluate(model, arrays).values(), evaluate(back, given).values(), strict=True):
        assert actual.shape == expected.shape
        narrow = expected.dtype.itemsize < 4 and expected.dtype.kind not in "biu"
        tolerance = {"rtol": 1e-2, "atol": 1e-2} if narrow else {"rtol": 2e-5, "atol": 1e-5}
        np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), **tolerance)
