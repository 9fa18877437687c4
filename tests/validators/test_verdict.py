"""What the judge says of small ONNX models whose relation is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.errors import UsageError
from isomorph.validators import Report, Verdict, judge
from isomorph.validators.compare import compare_exact
from isomorph.validators.runners.onnxruntime import OnnxRunner
from isomorph.validators.verdict import CaseResult, decide

Judge = Callable[..., Report]
F32, I64 = TensorProto.FLOAT, TensorProto.INT64


def model(
    steps: Sequence[tuple[str, list[str], str, dict[str, object]]],
    output: tuple[str, int, list[object]],
    constants: dict[str, np.ndarray] | None = None,
    input_type: int = F32,
    shape: Sequence[object] = ("N", 6),
) -> onnx.ModelProto:
    nodes = [helper.make_node(op, inputs, [name], **attributes) for op, inputs, name, attributes in steps]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", input_type, list(shape))],
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def judged(tmp_path: Path) -> Judge:
    def run(source: onnx.ModelProto, target: onnx.ModelProto, **options: object) -> Report:
        paths = [tmp_path / "source.onnx", tmp_path / "target.onnx"]
        for proto, path in zip((source, target), paths, strict=True):
            onnx.save(proto, str(path))
        left, right = OnnxRunner(paths[0], role="reference"), OnnxRunner(paths[1], role="target")
        return judge(left, right, **options)  # type: ignore[arg-type]

    return run


WEIGHTS = {"w": np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)}
LINEAR = model([("MatMul", ["x", "w"], "y", {})], ("y", F32, ["N", 4]), WEIGHTS)


def classifier(weights: np.ndarray) -> onnx.ModelProto:
    steps: list[tuple[str, list[str], str, dict[str, object]]] = [
        ("MatMul", ["x", "w"], "h", {}),
        ("ArgMax", ["h"], "y", {"axis": 1, "keepdims": 0}),
    ]
    return model(steps, ("y", I64, ["N"]), {"w": weights})


def test_decisions_are_asked_for_in_number(judged: Judge) -> None:
    """Nine cases of up to three rows are 18 decisions; a class whose scores are 2 % too high changes few of them."""
    heavier = WEIGHTS["w"] * np.float32([1, 1.02, 1, 1])
    assert judged(classifier(WEIGHTS["w"]), classifier(heavier)).verdict is Verdict.DIFFERENT
    report = judged(classifier(WEIGHTS["w"]), classifier(WEIGHTS["w"]))
    assert report.verdict is Verdict.EQUIVALENT
    assert len(report.cases) == 9 + 16
    assert len(set(report.cases)) == len(report.cases)


def test_a_half_precision_source_is_the_measure_of_its_own_class(judged: Judge) -> None:
    """Each operation may round once more in float16 (5e-4); weights that are 1 % larger do not come from that."""
    f16 = TensorProto.FLOAT16

    def layer(weights: np.ndarray) -> onnx.ModelProto:
        constants = {"w": weights.astype(np.float16)}
        return model([("MatMul", ["x", "w"], "y", {})], ("y", f16, ["N", 4]), constants, input_type=f16)

    assert judged(layer(WEIGHTS["w"]), layer(WEIGHTS["w"])).verdict is Verdict.EQUIVALENT
    report = judged(layer(WEIGHTS["w"]), layer(WEIGHTS["w"] * 1.01))
    assert report.verdict is Verdict.DIFFERENT
    assert "the source itself is fp16" in " ".join(report.notes)
    wide = model(
        [("Cast", ["x"], "z", {"to": F32}), ("MatMul", ["z", "w"], "y", {})],
        ("y", F32, ["N", 4]),
        WEIGHTS,
        input_type=f16,
    )
    for declared in (None, "fp16"):
        report = judged(layer(WEIGHTS["w"]), wide, precision=declared)
        assert report.verdict is Verdict.DIFFERENT
        assert report.reasons == ["output `y` is float16, `y` of the target is float32"]


def test_sizes_that_the_target_does_not_take_are_stated(judged: Judge) -> None:
    one = model([("MatMul", ["x", "w"], "y", {})], ("y", F32, [1, 4]), WEIGHTS, shape=(1, 6))
    report = judged(LINEAR, one)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.notes == ["the target takes `N` of 1 only; nothing is said of other sizes"]
    assert judged(one, LINEAR).notes == []


def test_itself(judged: Judge) -> None:
    report = judged(LINEAR, LINEAR)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.exit_code == 0


def test_report_is_the_same_twice_and_json_safe(judged: Judge) -> None:
    first, second = (judged(LINEAR, LINEAR).as_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)


def test_an_output_that_is_always_nan_proves_nothing(judged: Judge) -> None:
    nan = model(
        [("Abs", ["x"], "a", {}), ("Sub", ["m", "a"], "s", {}), ("Sqrt", ["s"], "y", {})],
        ("y", F32, ["N", 6]),
        {"m": np.float32([-1])},
    )
    report = judged(nan, nan)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "NaN" in report.reasons[0]


def test_nan_where_the_source_has_none_is_different(judged: Judge) -> None:
    root = model([("Sqrt", ["x"], "r", {}), ("Mul", ["r", "r"], "y", {})], ("y", F32, ["N", 6]))
    plain = model([("Identity", ["x"], "y", {})], ("y", F32, ["N", 6]))
    assert judged(plain, root).verdict is Verdict.DIFFERENT


def test_a_constant_output_proves_nothing(judged: Judge) -> None:
    zero = model([("Mul", ["x", "z"], "y", {})], ("y", F32, ["N", 6]), {"z": np.float32([0])})
    other = model([("Mul", ["z", "x"], "y", {})], ("y", F32, ["N", 6]), {"z": np.float32([0])})
    report = judged(zero, other)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "does not depend" in report.reasons[0]


def test_an_output_that_hardly_depends_on_the_input_proves_nothing(judged: Judge) -> None:
    steps = [("Mul", ["x", "tiny"], "t", {}), ("Add", ["t", "one"], "y", {})]
    flat = model(steps, ("y", F32, ["N", 6]), {"tiny": np.float32([1e-9]), "one": np.float32([1])})
    assert judged(flat, flat).verdict is Verdict.INCONCLUSIVE


def test_chaos_proves_nothing(judged: Judge) -> None:
    steps: list[tuple[str, list[str], str, dict[str, object]]] = [("Sigmoid", ["x"], "v0", {})]
    for i in range(60):
        steps += [
            ("Sub", ["one", f"v{i}"], f"s{i}", {}),
            ("Mul", [f"v{i}", f"s{i}"], f"m{i}", {}),
            ("Mul", ["four", f"m{i}"], f"v{i + 1}", {}),
        ]
    chaos = model(steps, ("v60", F32, ["N", 6]), {"one": np.float32([1]), "four": np.float32([4])})
    report = judged(chaos, chaos)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "rounding" in report.reasons[0]


def test_a_relative_error_of_one_in_ten_thousand_is_different(judged: Judge) -> None:
    off = model([("MatMul", ["x", "w"], "y", {})], ("y", F32, ["N", 4]), {"w": WEIGHTS["w"] * np.float32(1.0001)})
    assert judged(LINEAR, off).verdict is Verdict.DIFFERENT


def test_one_wrong_channel_among_many_is_different(judged: Judge) -> None:
    rng = np.random.default_rng(1)
    w = rng.standard_normal((6, 2000)).astype(np.float32)
    bent = w.copy()
    bent[:, 1234] *= np.float32(1 + 1e-4)
    source, target = (model([("MatMul", ["x", "w"], "y", {})], ("y", F32, ["N", 2000]), {"w": v}) for v in (w, bent))
    report = judged(source, target)
    assert report.verdict is Verdict.DIFFERENT
    worst = report.as_dict()["outputs"][0]["worst"]
    assert worst["group"] == "axis 1, slice 1234"


def test_another_order_of_summation_is_equivalent(judged: Judge) -> None:
    rng = np.random.default_rng(2)
    w, order = rng.standard_normal((512, 8)).astype(np.float32), rng.permutation(512)
    plain = model([("MatMul", ["x", "w"], "y", {})], ("y", F32, ["N", 8]), {"w": w}, shape=("N", 512))
    steps = [("Gather", ["x", "i"], "g", {"axis": 1}), ("MatMul", ["g", "w"], "y", {})]
    shuffled = model(steps, ("y", F32, ["N", 8]), {"w": w[order], "i": order.astype(np.int64)}, shape=("N", 512))
    assert judged(plain, shuffled).verdict is Verdict.EQUIVALENT


def test_float16_weights_are_different_and_named(judged: Judge) -> None:
    target = model(
        [("MatMul", ["x", "w"], "y", {})],
        ("y", F32, ["N", 4]),
        {"w": WEIGHTS["w"].astype(np.float16).astype(np.float32)},
    )
    report = judged(LINEAR, target)
    assert report.verdict is Verdict.DIFFERENT
    assert "float16" in report.as_dict()["outputs"][0]["resembles"]


def test_integer_outputs_must_be_equal(judged: Judge) -> None:
    steps = [("MatMul", ["x", "w"], "m", {}), ("ArgMax", ["m"], "y", {"axis": 1, "keepdims": 0})]
    source = model(steps, ("y", I64, ["N"]), WEIGHTS)
    rolled = model(steps, ("y", I64, ["N"]), {"w": np.roll(WEIGHTS["w"], 1, axis=1)})
    assert judged(source, source).verdict is Verdict.EQUIVALENT
    assert judged(source, rolled).verdict is Verdict.DIFFERENT


def test_integer_inputs_stay_inside_the_table(judged: Judge) -> None:
    table = {"t": np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)}
    lookup = model([("Gather", ["t", "x"], "y", {})], ("y", F32, ["N", 6, 4]), table, input_type=I64)
    report = judged(lookup, lookup)
    assert report.verdict is Verdict.EQUIVALENT


def test_another_rank_or_dtype_is_different(judged: Judge) -> None:
    flat = model(
        [("MatMul", ["x", "w"], "m", {}), ("Unsqueeze", ["m", "a"], "y", {})],
        ("y", F32, ["N", 1, 4]),
        {**WEIGHTS, "a": np.int64([1])},
    )
    wide = model(
        [("MatMul", ["x", "w"], "m", {}), ("Cast", ["m"], "y", {"to": TensorProto.DOUBLE})],
        ("y", TensorProto.DOUBLE, ["N", 4]),
        WEIGHTS,
    )
    for target in (flat, wide):
        assert judged(LINEAR, target).verdict is Verdict.DIFFERENT


def test_no_float64_run_is_never_equivalent(judged: Judge) -> None:
    node = helper.make_node("Trilu", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", F32, ["N", 6])],
        [helper.make_tensor_value_info("y", F32, ["N", 6])],
    )
    triangle = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8
    )
    report = judged(triangle, triangle)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "no float64 run" in report.reasons[0]
    identity = model([("Identity", ["x"], "y", {})], ("y", F32, ["N", 6]))
    assert judged(triangle, identity).verdict is Verdict.DIFFERENT


def test_data_of_the_user(judged: Judge) -> None:
    rng = np.random.default_rng(0)
    report = judged(LINEAR, LINEAR, data={"x": rng.standard_normal((5, 6)).astype(np.float32)})
    assert report.cases[-2:] == ["data N=5", "calibrated N=5"]
    with pytest.raises(UsageError, match="shape"):
        judged(LINEAR, LINEAR, data={"x": rng.standard_normal((5, 7)).astype(np.float32)})


def test_outputs_that_are_always_empty_prove_nothing(judged: Judge) -> None:
    nothing = {"from": np.int64([6]), "to": np.int64([6]), "axis": np.int64([1])}
    steps: list[tuple[str, list[str], str, dict[str, object]]] = [("Slice", ["x", "from", "to", "axis"], "y", {})]
    report = judged(model(steps, ("y", F32, ["N", 0]), nothing), model(steps, ("y", F32, ["N", 0]), nothing))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "empty" in report.reasons[0]


def test_a_case_full_of_ties_says_nothing() -> None:
    labels = np.arange(100)
    clear = CaseResult("clear", compare_exact(labels, [labels], labels), 1.0, 0.0)
    tied = CaseResult("tied", compare_exact(labels, [labels[::-1]], labels[::-1]), 1.0, 0.0)
    assert decide("y", "y", [clear, tied, tied, tied], exact=True).verdict is Verdict.EQUIVALENT
    assert decide("y", "y", [clear, *[tied] * 4], exact=True).verdict is Verdict.INCONCLUSIVE
    wrong = CaseResult("wrong", compare_exact(labels, [labels], labels[::-1]), 1.0, 0.0)
    assert decide("y", "y", [clear, wrong, tied], exact=True).verdict is Verdict.DIFFERENT


def test_witnesses_may_speak_for_an_output_with_ties_but_not_for_one_of_ties_alone() -> None:
    labels = np.arange(100)
    half = np.concatenate([labels[:50], labels[:49:-1]])
    tied = CaseResult("tied", compare_exact(labels, [half], half), 1.0, 0.0)
    lost = CaseResult("lost", compare_exact(labels, [labels[::-1]], labels[::-1]), 1.0, 0.0)
    assert decide("y", "y", [tied, lost], exact=True).mute
    assert not decide("y", "y", [lost], exact=True).mute
