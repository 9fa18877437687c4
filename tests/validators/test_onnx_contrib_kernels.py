"""Float64 kernels for com.microsoft give what onnxruntime gives in float32; what they do not cover is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from contrib_cases import CONTRIB as CASES
from contrib_cases import Contrib, real, single, whole
from onnx import helper, numpy_helper, parser

from isomorph import convert, validate
from isomorph.validators import Verdict
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.precision import NAMES, Precision
from isomorph.validators.runners.onnx_double import DoubleModel

X, GAMMA = real(3, 7, 6), real(6)
KEYS = {"q": real(3, 5, 12), "k": real(3, 5, 12), "v": real(3, 5, 12)}
SUMMED = ("y", "", "", "sum")
ODD = [
    Contrib("fast_gelu_one", "FastGelu", {"x": real(1, 33)}),
    Contrib("fused_matmul_vector", "FusedMatMul", {"x": real(2, 5, 7), "z": real(7)}, {"alpha": -2.5}),
    Contrib(
        "fused_matmul_batches",
        "FusedMatMul",
        {"x": real(5, 3, 2, 7), "z": real(3, 2, 4, 7)},
        {"transBatchA": 1, "transB": 1, "alpha": 0.3},
    ),
    Contrib(
        "fused_conv_odd",
        "FusedConv",
        {"x": real(2, 4, 7, 5), "w": real(6, 2, 3, 1)},
        {"group": 2, "strides": [2, 1], "dilations": [2, 1], "pads": [1, 0, 2, 0], "kernel_shape": [3, 1],
         "activation": "HardSigmoid", "activation_params": [0.3, 0.4]},
    ),
    Contrib("fused_conv_line", "FusedConv", {"x": real(2, 3, 9), "w": real(5, 3, 4)}, {"activation": "Tanh"}),
    Contrib(
        "fused_gemm_turned",
        "FusedGemm",
        {"x": real(5, 3), "w": real(4, 5), "wb": real(3, 1)},
        {"transA": 1, "transB": 1, "beta": 0.5, "activation": "Sigmoid"},
    ),
    Contrib("skip_one_row", "SkipLayerNormalization", {"x": X, "z": real(7, 6), "w": GAMMA}, {"epsilon": 0.1}, SUMMED),
    Contrib("skip_no_beta", "SkipLayerNormalization", {"x": X, "z": X, "w": GAMMA, "b": None, "c": real(6)}, {}),
    Contrib("skip_tokens", "SkipSimplifiedLayerNormalization", {"x": X[0], "z": X[1], "w": GAMMA}, {}, SUMMED),
    Contrib("rms_axes", "SimplifiedLayerNormalization", {"x": X, "w": real(7, 6)}, {"axis": 1}, ("y", "i"), ""),
    Contrib(
        "attention_cache",
        "Attention",
        {"x": real(2, 3, 8), "w": real(8, 24), "wb": real(24), "m": None, "past": real(2, 2, 2, 4, 4)},
        {"num_heads": 2, "unidirectional": 1},
        ("y", "present"),
    ),
    Contrib("multi_head_three", "MultiHeadAttention", KEYS, {"num_heads": 3}),
    Contrib(
        "multi_head_lengths",
        "MultiHeadAttention",
        {**KEYS, "wb": real(36), "m": np.array([2, 5, 1], np.int32)},
        {"num_heads": 3, "mask_filter_value": -3.0},
    ),
    Contrib(
        "rotary_interleaved",
        "RotaryEmbedding",
        {"x": real(2, 5, 24), "p": whole(0, 9, 2, 5, dtype=np.int64), "w0": real(9, 4), "w1": real(9, 4)},
        {"interleaved": 1},
    ),
    Contrib(
        "qlinear_add_signed",
        "QLinearAdd",
        {"x": whole(-128, 127, 3, 1, dtype=np.int8), "ws": single(0.1), "wz": single(-7, np.int8),
         "z": whole(-128, 127, 1, 5, dtype=np.int8), "wr": single(0.02), "wy": single(5, np.int8), "wt": single(0.06)},
    ),
    Contrib(
        "qlinear_average_pads",
        "QLinearAveragePool",
        {"x": whole(0, 255, 1, 3, 7, 5), "ws": single(0.02), "wz": single(9, np.uint8), "wt": single(0.0173)},
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ),
    Contrib(
        "qlinear_average_last",
        "QLinearAveragePool",
        {"x": whole(0, 255, 1, 7, 5, 3), "ws": single(0.02), "wz": single(9, np.uint8), "wt": single(0.0173)},
        {"kernel_shape": [3, 2], "channels_last": 1},
    ),
    Contrib(
        "qlinear_global_last",
        "QLinearGlobalAveragePool",
        {"x": whole(0, 255, 2, 7, 5, 3), "ws": single(0.02), "wz": single(9, np.uint8), "wt": single(0.0173),
         "wu": single(3, np.uint8)},
        {"channels_last": 1},
    ),
    Contrib(
        "qgemm_columns",
        "QGemm",
        {"x": whole(0, 255, 5, 3), "ws": single(0.02), "wz": single(9, np.uint8),
         "w": whole(-128, 127, 4, 5, dtype=np.int8), "wr": np.float32([0.1, 0.2, 0.3, 0.4]),
         "wy": whole(-3, 3, 4, dtype=np.int8), "wc": whole(-500, 500, 4, dtype=np.int32)},
        {"transA": 1, "transB": 1, "alpha": 0.7},
    ),
    Contrib("dynamic_bare", "DynamicQuantizeMatMul", {"x": X, "w": whole(0, 255, 6, 5), "ws": single(0.1)}),
    Contrib(
        "matmul_float_zeros",
        "MatMulNBits",
        {"x": real(3, 40), "w": whole(0, 255, 6, 3, 8), "ws": real(6, 3), "wz": real(6, 3)},
        {"N": 6, "K": 40, "bits": 4, "block_size": 16},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", [*CASES, *ODD], ids=lambda case: case.id)
def test_against_onnxruntime(case: Contrib, tmp_path: Path) -> None:
    """Within 1e-6 relative RMS; codes are the same but for quotients close to a half."""
    path = tmp_path / "case.onnx"
    onnx.save(case.model(), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    got = DoubleModel(path).run(case.inputs(), names)
    for name, raw in zip(names, session.run(None, case.inputs()), strict=True):
        ours, theirs = (case.stated(name, each).astype(np.float64) for each in (got[name], raw))
        assert ours.shape == theirs.shape
        assert got[name].dtype == (np.float64 if raw.dtype == np.float32 else raw.dtype)
        if raw.dtype == np.float32:
            assert np.sqrt(np.mean((ours - theirs) ** 2)) <= 1e-6 * np.sqrt(np.mean(theirs**2))
        else:
            apart = np.abs(ours - theirs)
            assert apart.max(initial=0) <= 1 and np.mean(apart > 0) < 0.05


MASK3N = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], np.int32)
REFUSED = [
    (Contrib("a", "QuickGelu", {"x": X}, {"beta": 1.0}), "QuickGelu with attribute `beta`"),
    (Contrib("a", "FusedConv", {"x": real(1, 2, 5), "w": real(2, 2, 3)}, {"activation": "Elu"}), "activation 'Elu'"),
    (Contrib("a", "FusedGemm", {"x": real(2, 3), "w": real(3, 2)}, {"activation": "LeakyRelu"}), "'LeakyRelu' of"),
    (Contrib("a", "Attention", {"x": X, "w": real(6, 18)}, {"num_heads": 2, "do_rotary": 1}), "`do_rotary`"),
    (Contrib("a", "MultiHeadAttention", {"q": real(2, 5, 2, 3, 4)}, {"num_heads": 2}), "in one operand"),
    (Contrib("a", "MultiHeadAttention", {**KEYS, "b": None, "m": MASK3N}, {"num_heads": 3}), "a mask"),
    (Contrib("a", "SkipSimplifiedLayerNormalization", {"x": X, "z": X, "w": GAMMA}, {}, ("y", "m")), "result 1"),
    (
        Contrib("a", "MatMulNBits", {"x": X, "w": X, "ws": X, "wz": None, "wg": X}, {"N": 2, "K": 2, "block_size": 16}),
        "operand 4",
    ),
    (Contrib("a", "DequantizeLinear", {"x": whole(0, 9, 3), "ws": real(3)}), "no `axis`"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED, ids=lambda value: getattr(value, "kind", ""))
def test_what_is_not_covered(case: Contrib, message: str, tmp_path: Path) -> None:
    onnx.save(case.model(), tmp_path / "case.onnx")
    with pytest.raises(NotImplementedError, match=message):
        DoubleModel(tmp_path / "case.onnx").run(case.inputs(), list(case.outputs))


def test_a_function_of_the_model_is_what_the_model_says(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>
    own (float[3] x) => (float[3] y) { y = com.microsoft.Gelu (x) }
    <domain: "com.microsoft", opset_import: ["": 18]>
    Gelu (x) => (y) { y = Neg (x) }
    """
    onnx.save(parser.parse_model(text), tmp_path / "own.onnx")
    x = real(3)
    np.testing.assert_array_equal(DoubleModel(tmp_path / "own.onnx").run({"x": x}, ["y"])["y"], -x.astype(np.float64))


def test_within_a_branch_and_a_function(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 18, "com.microsoft": 1, "own": 1]>
    g (float[3] x, bool c) => (float[3] y, float[3] z) {
        y = If (c) <
            then_branch = a () => (float[3] p) { p = com.microsoft.QuickGelu (x) },
            else_branch = b () => (float[3] q) { q = Neg (x) }
        >
        z = own.F (x)
    }
    <domain: "own", opset_import: ["": 18, "com.microsoft": 1]>
    F (x) => (y) { y = com.microsoft.QuickGelu (x) }
    """
    onnx.save(parser.parse_model(text), tmp_path / "nested.onnx")
    x = real(3)
    got = DoubleModel(tmp_path / "nested.onnx").run({"x": x, "c": np.array(True)}, ["y", "z"])
    for each in got.values():
        np.testing.assert_allclose(each, x / (1 + np.exp(-1.702 * x.astype(np.float64))), rtol=1e-7)


def block() -> onnx.ModelProto:
    """Half a transformer block as onnxruntime's optimizer leaves it."""
    rng = np.random.default_rng(3)
    sizes: dict[str, tuple[int, ...]] = {"wq": (16, 16), "w1": (16, 32), "b1": (32,), "w2": (32, 16), "b2": (16,)}
    weights = {name: rng.normal(size=size) / 4 for name, size in sizes.items()}
    weights |= {f"gamma{n}": 1 + rng.normal(size=16) / 8 for n in "12"} | {
        f"beta{n}": rng.normal(size=16) for n in "12"
    }
    micro: dict[str, Any] = {"domain": "com.microsoft"}
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("FusedMatMul", ["q", "x"], ["scores"], transB=1, alpha=0.25, **micro),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "x"], ["mixed"]),
        helper.make_node("SkipLayerNormalization", ["mixed", "x", "gamma1", "beta1"], ["h", "", "", "sum"], **micro),
        helper.make_node("MatMul", ["h", "w1"], ["wide"]),
        helper.make_node("FastGelu", ["wide", "b1"], ["bent"], **micro),
        helper.make_node("MatMul", ["bent", "w2"], ["narrow"]),
        helper.make_node("SkipLayerNormalization", ["narrow", "sum", "gamma2", "beta2", "b2"], ["y"], **micro),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 5, 16]) for name in "xy"]
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "block", ends[:1], ends[1:], stored), opset_imports=opsets, ir_version=8
    )


def test_noise_moves_the_run_and_keeps_its_meaning(tmp_path: Path) -> None:
    onnx.save(block(), tmp_path / "block.onnx")
    double, x = DoubleModel(tmp_path / "block.onnx"), real(2, 5, 16)
    exact = double.run({"x": x}, ["y"])["y"]
    for noise in (Noise(1e-6, 0), *(Noise(1.0, 0, Precision.of(name)) for name in NAMES)):
        moved = double.run({"x": x}, ["y"], noise)["y"]
        assert 0 < np.abs(moved - exact).max() < 1.0, noise


def test_the_judge_on_a_fused_block(tmp_path: Path) -> None:
    """Its conversion is EQUIVALENT; with one output channel of a weight negated it is DIFFERENT."""
    source, target, mutant = (tmp_path / f"{name}.onnx" for name in ("source", "target", "mutant"))
    onnx.save(block(), source)
    convert(source, target)
    report = validate(source, target)
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
    broken = block()
    weight = next(tensor for tensor in broken.graph.initializer if tensor.name == "w1")
    values = numpy_helper.to_array(weight).copy()
    values[:, 5] *= -1
    weight.CopyFrom(numpy_helper.from_array(values, "w1"))
    onnx.save(broken, tmp_path / "broken.onnx")
    convert(tmp_path / "broken.onnx", mutant)
    assert validate(source, mutant).verdict is Verdict.DIFFERENT
