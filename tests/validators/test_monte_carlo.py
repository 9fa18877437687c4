"""Monte Carlo arithmetic: what noise measures, what it excuses, and that faults stay found in models that jump."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from isomorph.validators import Signature, TensorSpec, Verdict, judge
from isomorph.validators.compare import NOISE_ULPS, compare_float, unit_roundoff
from isomorph.validators.monte_carlo import DRAWS, Noise
from isomorph.validators.runner import FLOAT64, NATIVE, Result
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.runners.torch_live import CallableRunner

UNIT = unit_roundoff(np.dtype(np.float32))
Edit = Callable[[onnx.ModelProto], None]


def test_a_precision_is_spelled_and_read() -> None:
    noise = Noise(NOISE_ULPS * UNIT, 5)
    assert Noise.parse(str(noise)) == noise
    assert Noise.parse(FLOAT64) is None
    assert Noise.parse(NATIVE) is None


def gated() -> onnx.ModelProto:
    """x (N, 4, 9, 11) -> logits (N, 6): convolutions whose channels are gated as in squeeze and excitation. Inputs of
    the size of bytes saturate the gates."""
    rng = np.random.default_rng(5)
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        values = (rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=output, **attributes)

    nodes = [
        node("Conv", ["x", weight("w1", 8, 4, 3, 3), weight("b1", 8)], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["conv1"], "relu1"),
        node("GlobalAveragePool", ["relu1"], "squeezed"),
        node("Conv", ["squeezed", weight("w2", 4, 8, 1, 1), weight("b2", 4)], "reduced"),
        node("Relu", ["reduced"], "relu2"),
        node("Conv", ["relu2", weight("w3", 8, 4, 1, 1), weight("b3", 8)], "expanded"),
        node("Sigmoid", ["expanded"], "gate"),
        node("Mul", ["relu1", "gate"], "gated"),
        node("Conv", ["gated", weight("w4", 8, 8, 3, 3), weight("b4", 8)], "conv2"),
        node("Elu", ["conv2"], "elu"),
        node("Flatten", ["elu"], "flat"),
        node("Gemm", ["flat", weight("w5", 6, 8 * 7 * 9), weight("b5", 6)], "logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "gated",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 9, 11])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 6])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rounded(name: str, dtype: type = np.float16) -> Edit:
    """A weight that went through a narrower type."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        narrow = numpy_helper.to_array(tensor).astype(dtype).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(narrow, name))

    return edit


def replaced(name: str, kind: str, keep: int = 1) -> Edit:
    """An operator that became another one."""

    def edit(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.name == name)
        node.op_type = kind
        del node.input[keep:]
        del node.attribute[:]

    return edit


FAULTS: dict[str, Edit] = {
    "weights_of_the_stem_through_float16": rounded("w1"),
    "weights_of_the_gate_through_bfloat16": rounded("w3", ml_dtypes.bfloat16),
    "weights_after_the_gate_through_float16": rounded("w4"),
    "weights_of_the_head_through_float16": rounded("w5"),
    "gate_dropped": replaced("gated", "Identity"),
    "gate_is_a_hard_sigmoid": replaced("gate", "HardSigmoid"),
    "elu_is_a_relu": replaced("elu", "Relu"),
}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., OnnxRunner]:
    def open_model(model: onnx.ModelProto, role: str = "target") -> OnnxRunner:
        path = tmp_path / f"{role}.onnx"
        onnx.save(model, str(path))
        return OnnxRunner(path, role=role)

    return open_model


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_gated_model_is_found(name: str, opened: Callable[..., OnnxRunner]) -> None:
    faulty = gated()
    FAULTS[name](faulty)
    report = judge(opened(gated(), "reference"), opened(faulty))
    assert report.verdict is Verdict.DIFFERENT, report.reasons


def test_a_gated_model_is_equivalent_to_itself(opened: Callable[..., OnnxRunner]) -> None:
    report = judge(opened(gated(), "reference"), opened(gated()))
    assert report.verdict is Verdict.EQUIVALENT, report.reasons


def spread(runner: OnnxRunner | CallableRunner, feeds: Mapping[str, np.ndarray]) -> float:
    """What one unit of noise on every operation makes of the output, over what the source itself errs by."""
    (exact,) = runner.run(feeds, precision=FLOAT64).outputs.values()
    (plain,) = runner.run(feeds).outputs.values()
    seeds = range(DRAWS)
    noisy = [next(iter(runner.run(feeds, precision=str(Noise(UNIT, k))).outputs.values())) for k in seeds]
    own = float(np.sqrt(np.mean((plain - exact) ** 2)))
    return max(float(np.sqrt(np.mean((each - exact) ** 2))) for each in noisy) / own


def test_noise_measures_what_the_source_errs_by(opened: Callable[..., OnnxRunner]) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 9, 11)).astype(np.float32)
    assert 0.25 < spread(opened(gated(), "reference"), {"x": x}) < 8
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.SiLU(inplace=True), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(8 * 7 * 9, 6)).eval()
    assert 0.25 < spread(CallableRunner(network, (torch.from_numpy(x),)), {"x": x, "input": x}) < 8


def test_noise_leaves_copies_and_differences_of_equals_exact() -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 3
            return torch.cat([y - y, (y == y.clone()).to(x), x.sort().values])

    x = np.random.default_rng(0).standard_normal(7).astype(np.float32)
    runner = CallableRunner(Same(), (torch.from_numpy(x),))
    (noisy,) = runner.run({"x": x}, precision=str(Noise(1e-3, 0))).outputs.values()
    np.testing.assert_array_equal(noisy, np.concatenate([np.zeros(7), np.ones(7), np.sort(x.astype(np.float64))]))


def test_noise_does_not_reach_the_weights() -> None:
    torch.manual_seed(0)
    runner = CallableRunner(torch.nn.BatchNorm2d(3).eval(), (torch.ones(2, 3, 4, 5),))
    x = np.ones((2, 3, 4, 5), np.float32)
    before, _, after = (runner.run({"input": x}, precision=p).outputs for p in (FLOAT64, str(Noise(0.1, 0)), FLOAT64))
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


class Threshold:
    """x (N, 64) -> x, ten times it where a sum that cancels is above zero: which, an order of summation decides.

    `near` is how far the sum is from zero, relative to its terms; the families of inputs other than `edges` are far.
    """

    def __init__(self, order: Sequence[int], factor: float = 1.0) -> None:
        self.order = list(order)
        self.factor = factor

    def signature(self) -> Signature:
        spec = TensorSpec("x", "float32", ("N", 64))
        return Signature((spec,), (TensorSpec("y", "float32", ("N", 64)),), {"N": (1, None)})

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        x = inputs["x"]
        noise = Noise.parse(precision)
        wide = x.astype(np.float64 if precision != NATIVE else np.float32)
        terms = wide[:, self.order]
        if noise is not None:
            rng = np.random.default_rng(noise.seed)
            terms = terms * (1 + rng.uniform(-noise.amplitude, noise.amplitude, terms.shape))
        total = terms.cumsum(axis=1)[:, -1:]
        level = x.astype(np.float64).sum(axis=1, keepdims=True) if np.isin(255.0, x) else -1e9
        with np.errstate(over="ignore"):
            y = wide * np.where(total > level, 10.0, 1.0).astype(wide.dtype)
        return Result({"y": (y * wide.dtype.type(self.factor)).astype(wide.dtype)})


def test_a_jump_within_the_bound_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    source = Threshold(range(64))
    verdicts = {judge(source, Threshold(rng.permutation(64))).verdict for _ in range(8)}
    assert verdicts == {Verdict.EQUIVALENT}
    assert judge(source, Threshold(range(64), factor=1.001)).verdict is Verdict.DIFFERENT


def test_the_tail_of_a_sigmoid_is_no_difference(tmp_path: Path) -> None:
    class Tail(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x - 16)

    nodes = [helper.make_node("Sub", ["x", "c"], ["s"]), helper.make_node("Sigmoid", ["s"], ["y"])]
    kind = [TensorProto.FLOAT, [2, 50]]
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("x", *kind)],
        [helper.make_tensor_value_info("y", *kind)],
        [numpy_helper.from_array(np.float32(16), "c")],
    )
    path = tmp_path / "tail.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    source = CallableRunner(Tail(), (torch.zeros(2, 50),))
    assert judge(source, OnnxRunner(path, role="target")).verdict is not Verdict.DIFFERENT


def test_rows_that_change_places_are_left_out() -> None:
    rng = np.random.default_rng(0)
    exact = rng.uniform(0, 64, (300, 4))
    single = exact.astype(np.float32)
    swapped = single[[*range(100), 101, 100, *range(102, 300)]]
    found = compare_float(exact, [single, swapped], swapped, UNIT)
    assert found.undecided == 8
    assert found.worst < 2
    assert found.accuracy < 1e-6
    bent = swapped.copy()
    bent[200] *= np.float32(1.001)
    assert compare_float(exact, [single, swapped], bent, UNIT).worst > 128


def test_more_jumps_than_ties_may_be_are_compared() -> None:
    rng = np.random.default_rng(0)
    exact = rng.uniform(0, 64, (300, 4))
    single = exact.astype(np.float32)
    found = compare_float(exact, [single, single[::-1]], single, UNIT)
    assert found.undecided == 0
    assert found.accuracy > 0.1
