"""Outputs that are drawn at random: ONNX models of known relation in onnxruntime, and the tests of distributions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.errors import UsageError
from isomorph.validators import Report, Verdict, judge, validate
from isomorph.validators.distribution import AGREE, DIFFER, compare_draws
from isomorph.validators.report import Report as Judged
from isomorph.validators.reports import render
from isomorph.validators.runner import ModelFile
from isomorph.validators.runners.onnxruntime import OnnxRunner

Step = tuple[str, list[str], list[str], dict[str, object]]
WEIGHTS = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)


def model(*steps: Step, kind: int = TensorProto.FLOAT, width: int = 8, **constants: object) -> onnx.ModelProto:
    """y (N, width) from x (N, 6) by these steps behind h = x @ w."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"])]
    nodes += [helper.make_node(op, inputs, outputs, **attributes) for op, inputs, outputs, attributes in steps]
    arrays = {"w": WEIGHTS, **constants}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", kind, ["N", width])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def noisy(scale: float, step: str = "Add") -> onnx.ModelProto:
    return model(("RandomNormalLike", ["h"], ["r"], {"scale": scale}), (step, ["h", "r"], ["y"], {}))


def dropped(ratio: float) -> onnx.ModelProto:
    return model(("Dropout", ["h", "p", "t"], ["y"], {}), p=np.float32(ratio), t=np.bool_(True))


def tossed(factor: float) -> onnx.ModelProto:
    steps: list[Step] = [
        ("Mul", ["h", "f"], ["g"], {}),
        ("Sigmoid", ["g"], ["s"], {}),
        ("Bernoulli", ["s"], ["y"], {"dtype": int(TensorProto.INT64)}),
    ]
    return model(*steps, kind=TensorProto.INT64, f=np.float32(factor))


def sampled(temperature: float) -> onnx.ModelProto:
    steps: list[Step] = [
        ("Div", ["h", "f"], ["g"], {}),
        ("Multinomial", ["g"], ["y"], {"sample_size": 3, "dtype": int(TensorProto.INT64)}),
    ]
    return model(*steps, kind=TensorProto.INT64, width=3, f=np.float32(temperature))


def of_one_draw() -> onnx.ModelProto:
    """The same noise on all eight units."""
    shape = np.array([1, 1], np.int64)
    steps: list[Step] = [
        ("ConstantOfShape", ["shape"], ["c"], {}),
        ("RandomNormalLike", ["c"], ["r"], {"scale": 0.5}),
        ("Add", ["h", "r"], ["y"], {}),
    ]
    return model(*steps, shape=shape)


Judge = Callable[..., Report]


@pytest.fixture
def judged(tmp_path: Path) -> Judge:
    def run(source: onnx.ModelProto, target: onnx.ModelProto, **options: object) -> Judged:
        paths = [tmp_path / "source.onnx", tmp_path / "target.onnx"]
        for proto, path in zip((source, target), paths, strict=True):
            onnx.save(proto, str(path))
        onnxruntime.set_seed(3)
        left, right = OnnxRunner(paths[0], role="reference"), OnnxRunner(paths[1], role="target")
        return judge(left, right, **options)  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize(
    "proto", [noisy(0.5), dropped(0.3), tossed(1.0), sampled(1.0)], ids=["noise", "drop", "toss", "draw"]
)
def test_the_same_model_is_equivalent(judged: Judge, proto: onnx.ModelProto) -> None:
    report = judged(proto, proto)
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
    assert report.outputs[0].draws
    assert "drawn at random" in report.notes[-1]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (noisy(0.5), noisy(0.6)),
        (noisy(0.5), noisy(0.5, "Sub")),
        (noisy(0.5), of_one_draw()),
        (dropped(0.3), dropped(0.32)),
        (tossed(1.0), tossed(1.5)),
        (sampled(1.0), sampled(2.0)),
    ],
    ids=["scale", "sign", "shared", "ratio", "chance", "temperature"],
)
def test_faults(
    judged: Judge, source: onnx.ModelProto, target: onnx.ModelProto, request: pytest.FixtureRequest
) -> None:
    """Noise that is symmetric is the same with the other sign."""
    expected = Verdict.EQUIVALENT if "sign" in request.node.callspec.id else Verdict.DIFFERENT
    report = judged(source, target)
    assert report.verdict is expected, report.outputs[0].draws


def test_a_side_that_draws_nothing(judged: Judge) -> None:
    still = model(("Identity", ["h"], ["y"], {}))
    report = judged(dropped(0.3), still)
    assert report.verdict is Verdict.DIFFERENT
    assert "the source draws random numbers, the target gives the same each time" in report.reasons[0]
    assert judged(still, dropped(0.3)).verdict is Verdict.DIFFERENT


def test_noise_that_hides_the_model(judged: Judge) -> None:
    """Other weights would give the same distribution, as far as 512 draws tell."""
    report = judged(noisy(1000.0), noisy(1000.0))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "hides what the model makes of the input" in report.reasons[0]


def test_strict_proves_nothing_of_draws(judged: Judge) -> None:
    report = judged(dropped(0.3), dropped(0.3), strict=True)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "--strict" in report.reasons[0]


def test_reports_and_certificates(tmp_path: Path) -> None:
    onnx.save(dropped(0.3), str(tmp_path / "m.onnx"))
    file = ModelFile(tmp_path / "m.onnx", "onnx")
    first, second = (validate(file, file).as_dict() for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["outputs"][0]["draws"][0]["draws"] == 512
    assert "Distance of the distributions" in render(first, "html")
    assert "in distribution" in render(first, "junit")
    with pytest.raises(UsageError, match="drawn at random"):
        validate(file, file, certificate=tmp_path / "c.json")
    assert not list(tmp_path.glob("c.json*"))


def draws(kind: str, n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    base = np.random.default_rng(5).standard_normal(size)
    normal = rng.standard_normal((n, size))
    return {
        "normal": normal,
        "scaled": 1.1 * normal,
        "shifted": normal + 0.2 * base,
        "heavy": rng.standard_cauchy((n, size)),
        "shared": rng.standard_normal((n, 1)) * np.ones(size),
        "dropped": np.where(rng.random((n, size)) < 0.1, 0, base / 0.9),
        "dropped rarely": np.where(rng.random((n, size)) < 0.01, 0, base),
        "dropped a bit less": np.where(rng.random((n, size)) < 0.08, 0, base / 0.9),
        "dropped in fours": np.where(rng.random((n, size // 4)).repeat(4, 1) < 0.1, 0, base / 0.9),
        "with NaN": np.where(rng.random((n, size)) < 0.2, np.nan, normal),
        "with infinities": np.where(rng.random((n, size)) < 0.2, -np.inf, normal),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["normal", "heavy", "shared", "dropped", "dropped rarely", "dropped in fours", "with NaN", "with infinities"],
)
@pytest.mark.parametrize("size", [4, 64])
def test_equal_distributions_agree(kind: str, size: int) -> None:
    rng = np.random.default_rng(1)
    rounded = 1 + 2.0**-20 * rng.standard_normal(size)
    for _ in range(5):
        source, target = draws(kind, 512, size, rng), draws(kind, 512, size, rng) * rounded
        found = compare_draws("", source, target, unit=2.0**-24)
        assert found.worst[1] < AGREE, found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("normal", "scaled"),
        ("normal", "shifted"),
        ("normal", "shared"),
        ("normal", "heavy"),
        ("dropped", "dropped a bit less"),
        ("dropped", "dropped in fours"),
        ("dropped", "dropped rarely"),
        ("normal", "with NaN"),
        ("with NaN", "with infinities"),
    ],
)
def test_other_distributions_differ(one: str, other: str) -> None:
    rng = np.random.default_rng(2)
    found = compare_draws("", draws(one, 512, 256, rng), draws(other, 512, 256, rng), unit=2.0**-24)
    assert found.worst[1] >= DIFFER, found
