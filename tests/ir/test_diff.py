"""Differences that are made on purpose, one at a time: each is found, named, and nothing else is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isomorph.ir import (
    ArrayTensor,
    Builder,
    DimRange,
    DType,
    Model,
    Op,
    Origin,
    Parameter,
    Scope,
    State,
    Sym,
    TensorType,
    ops,
)
from isomorph.ir.diff import SCHEMA, Difference, diff_models
from isomorph.ir.diff.align import common_subsequence, longest_chain
from isomorph.ir.diff.content import compare_elements, content_digest, find_permutation, is_reshaped, order_free_mix

HERE = (Scope(()), Origin("test", "test"))


def tensor(seed: int, *shape: int) -> ArrayTensor:
    return ArrayTensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def chain(
    depth: int = 4,
    *,
    seed: int = 0,
    names: str = "layer",
    drop: int | None = None,
    tanh_after: int | None = None,
    batch: str = "N",
    changed: int | None = None,
    input_name: str = "x",
) -> Model:
    """Residual blocks x + relu(x w^T + b)."""
    b = Builder("chain")
    x = b.input(input_name, DType.FLOAT32, (Sym(batch), 4))
    with b.at(*HERE):
        for k in range(depth):
            if k == drop:
                continue
            data = tensor(100 * seed + k, 4, 4)
            if k == changed:
                data.numpy()[1, 2] += 0.5
            w = b.parameter(Parameter(f"{names}.{k}.weight", data))
            c = b.parameter(Parameter(f"{names}.{k}.bias", ArrayTensor(np.zeros(4, np.float32))))
            x = b.emit(ops.Add(), x, b.emit(ops.Relu(), b.emit(ops.Linear(), x, w, c)))
            if k == tanh_after:
                x = b.emit(ops.Tanh(), x)
        b.output("y", x)
    return b.finish()


def changes(difference: Difference) -> list[tuple[str, str | None]]:
    return [(each.change, each.op.a or each.op.b) for each in difference.nodes]


def test_equal_models_are_identical() -> None:
    difference = diff_models(chain(), chain())
    assert difference.identical and difference.same
    assert (difference.kinds, difference.same_nodes, difference.same_parameters) == ((), 12, 8)


def test_a_model_is_identical_with_itself() -> None:
    model = chain()
    assert diff_models(model, model).identical


def test_renamed_weights_are_renamed_and_nothing_else() -> None:
    difference = diff_models(chain(), chain(names="block"))
    assert difference.kinds == ("names",) and difference.same
    assert {each.change for each in difference.parameters} == {"renamed"}
    assert [each.names.b for each in difference.parameters][:2] == ["block.0.weight", "block.0.bias"]


def test_one_changed_element_is_counted_and_measured() -> None:
    difference = diff_models(chain(), chain(changed=2))
    assert difference.kinds == ("weights",) and not difference.same
    (found,) = difference.parameters
    assert (found.change, found.names.a) == ("changed", "layer.2.weight")
    assert found.numbers is not None
    assert (found.numbers.differing, found.numbers.elements) == (1, 16)
    assert found.numbers.absolute == pytest.approx(0.5, rel=1e-6)


def test_retrained_weights_leave_the_network_the_same() -> None:
    difference = diff_models(chain(), chain(seed=1))
    assert difference.kinds == ("weights",)
    assert [each.names.b for each in difference.parameters] == [f"layer.{k}.weight" for k in range(4)]


@pytest.mark.parametrize("dropped", [0, 1, 3])
@pytest.mark.parametrize("seed", [0, 1], ids=["same weights", "retrained"])
def test_a_removed_block_is_removed(dropped: int, seed: int) -> None:
    difference = diff_models(chain(), chain(seed=seed, drop=dropped))
    gone = [each for each in difference.nodes if each.change == "removed"]
    assert sorted(each.op.a or "" for each in gone) == ["Add", "Linear", "Relu"]
    assert {each.names.a for each in difference.parameters if each.change == "removed"} == {
        f"layer.{dropped}.weight",
        f"layer.{dropped}.bias",
    }
    assert not [each for each in difference.nodes if each.change in ("added", "changed")]


def test_an_added_node_shows_who_reads_it() -> None:
    difference = diff_models(chain(), chain(tanh_after=1))
    assert [each for each in changes(difference) if each[0] != "rewired"] == [("added", "Tanh")]
    assert {operand.b for each in difference.nodes for operand in each.operands} == {"tanh"}


def test_another_name_of_a_dimension_is_a_name() -> None:
    assert diff_models(chain(), chain(batch="batch")).kinds == ("names",)


def test_a_renamed_input_is_an_interface_that_differs() -> None:
    difference = diff_models(chain(), chain(input_name="data"))
    (found,) = difference.interface
    assert (found.what, found.change, found.names.a, found.names.b) == ("input", "renamed", "x", "data")
    assert difference.same_nodes == 12


def conv(*, strides: int = 1, op: type[Op] = ops.Relu) -> Model:
    b = Builder("conv")
    x = b.input("x", DType.FLOAT32, (1, 3, 9, 9))
    with b.at(*HERE):
        kernel = b.parameter(Parameter("w", tensor(0, 5, 3, 3, 3)))
        y = b.emit(ops.Conv(strides=(strides, strides), pads=((1, 1), (1, 1)), dilations=(1, 1)), x, kernel, None)
        b.output("y", b.emit(op(), y))
    return b.finish()


def test_a_changed_stride_is_one_attribute_and_what_follows_from_it() -> None:
    difference = diff_models(conv(), conv(strides=2))
    (found,) = difference.nodes
    assert (found.change, found.attributes) == ("changed", {"strides": ("(1, 1)", "(2, 2)")})
    assert [(each.names.a, each.b) for each in difference.values] == [
        ("conv", "float32[1, 5, 5, 5]"),
        ("relu", "float32[1, 5, 5, 5]"),
    ]
    assert [each.what for each in difference.interface] == ["output"]


def test_another_op_in_the_same_place_is_one_change() -> None:
    difference = diff_models(conv(), conv(op=ops.Sigmoid))
    (found,) = difference.nodes
    assert (found.change, found.op.a, found.op.b) == ("changed", "Relu", "Sigmoid")


def test_a_type_of_weights_that_changed_is_told_with_the_rounding() -> None:
    half = ArrayTensor(tensor(0, 5, 3, 3, 3).numpy().astype(np.float16))
    b = Builder("conv")
    x = b.input("x", DType.FLOAT16, (1, 3, 9, 9))
    with b.at(*HERE):
        op = ops.Conv(strides=(1, 1), pads=((1, 1), (1, 1)), dilations=(1, 1))
        b.output("y", b.emit(ops.Relu(), b.emit(op, x, b.parameter(Parameter("w", half)), None)))
    (found,) = diff_models(conv(), b.finish()).parameters
    assert (found.a, found.b) == ("float32[5, 3, 3, 3]", "float16[5, 3, 3, 3]")
    assert found.numbers is not None and 0 < found.numbers.relative < 2**-10


def branches(seeds: list[int], order: list[int] | None = None) -> Model:
    """Many branches that look alike, added up."""
    b = Builder("branches")
    x = b.input("x", DType.FLOAT32, (2, 4))
    with b.at(*HERE):
        made = {k: b.emit(ops.Linear(), x, b.parameter(Parameter(f"w{k}", tensor(seeds[k], 4, 4)))) for k in range(8)}
        b.output("y", b.emit(ops.Concat(1), *(made[k] for k in order or range(8))))
    return b.finish()


def test_equal_branches_are_paired_one_to_one() -> None:
    assert diff_models(branches([0] * 8), branches([0] * 8)).identical


def test_branches_follow_their_weights_not_their_names() -> None:
    difference = diff_models(branches(list(range(8))), branches(list(range(8))[::-1], order=list(range(8))[::-1]))
    assert difference.kinds == ("names",)
    assert [(each.names.a, each.names.b) for each in difference.parameters] == [
        (f"w{k}", f"w{7 - k}") for k in range(8)
    ]


def test_branches_in_another_order_are_another_network() -> None:
    difference = diff_models(branches(list(range(8))), branches(list(range(8)), order=[1, 0, *range(2, 8)]))
    (found,) = difference.nodes
    assert (found.change, [each.position for each in found.operands]) == ("rewired", [0, 1])


def test_operands_of_a_sum_may_change_places() -> None:
    def model(crossed: bool) -> Model:
        b = Builder("sum")
        x, y = (b.input(name, DType.FLOAT32, (2, 4)) for name in "xy")
        with b.at(*HERE):
            pair = (b.emit(ops.Relu(), x), b.emit(ops.Tanh(), y))
            b.output("z", b.emit(ops.Add(), *(pair[::-1] if crossed else pair)))
        return b.finish()

    assert diff_models(model(False), model(True)).identical


def tied(shared: bool, second: int = 0) -> Model:
    b = Builder("tied")
    x = b.input("x", DType.FLOAT32, (2, 4))
    with b.at(*HERE):
        w = b.parameter(Parameter("w", tensor(0, 4, 4)))
        v = w if shared else b.parameter(Parameter("v", tensor(second, 4, 4)))
        b.output("y", b.emit(ops.Linear(), b.emit(ops.Linear(), x, w), v))
    return b.finish()


def test_untied_weights_are_told_apart() -> None:
    difference = diff_models(tied(True), tied(False))
    assert [(tie.a, tie.b) for tie in difference.ties] == [(("w",), ("w", "v"))]
    assert difference.kinds == ("training",) and difference.same
    assert difference.parameters == ()
    changed = diff_models(tied(False, 3), tied(True)).parameters
    assert [(each.change, each.names.a, each.names.b) for each in changed] == [("changed", "v", "w")]


def branch(*, value: float = 2.0, other: bool = False) -> Model:
    """An If whose branches scale by a weight."""
    b = Builder("branch")
    condition = b.input("c", DType.BOOL, ())
    x = b.input("x", DType.FLOAT32, (3,))
    regions = []
    for name in ("then", "else"):
        inner = b.region(name)
        a = inner.input("a", DType.FLOAT32, (3,))
        with inner.at(*HERE):
            factor = inner.parameter(Parameter(f"{name}.w", ArrayTensor(np.full(3, value, np.float32))))
            y = inner.emit(ops.Mul(), a, factor)
            inner.output("y", inner.emit(ops.Relu(), y) if other and name == "else" else y)
        regions.append(inner.graph)
    with b.at(*HERE):
        kind = TensorType(DType.FLOAT32, (3,))
        (y,) = b.emit_many(ops.If(types=(kind,)), condition, x, regions=regions)
        b.output("y", y)
    return b.finish()


def test_regions_are_compared_inside() -> None:
    assert diff_models(branch(), branch()).identical
    weights = diff_models(branch(), branch(value=3.0))
    assert weights.kinds == ("weights",)
    assert [each.names.a for each in weights.parameters] == ["then.w", "else.w"]
    added = diff_models(branch(), branch(other=True))
    assert [(each.change, each.op.b, each.region) for each in added.nodes] == [("added", "Relu", "if.else")]


def test_state_dimensions_metadata_and_training_are_compared() -> None:
    def model(limit: int, initial: float, trainable: bool, note: str) -> Model:
        b = Builder("counter")
        x = b.input("x", DType.FLOAT32, (Sym("N"), 4))
        with b.at(*HERE):
            w = b.parameter(Parameter("w", tensor(0, 4, 4), trainable))
            b.output("next", b.emit(ops.Linear(), x, w))
        made = b.finish()
        made.dims["N"] = DimRange(1, limit)
        made.metadata["note"] = note
        made.state["x"] = State("next", Parameter("x0", ArrayTensor(np.full((1, 4), initial, np.float32)), False))
        return made

    difference = diff_models(model(8, 0.0, True, "a"), model(9, 1.0, False, "b"))
    assert difference.kinds == ("interface", "weights", "training", "metadata")
    assert [(each.what, each.a, each.b) for each in difference.interface] == [("dimension", "1 to 8", "1 to 9")]
    assert [each.names.a for each in difference.parameters] == ["w", "x0"]
    assert difference.metadata == {"note": ("a", "b")}


def test_models_without_nodes_or_parameters() -> None:
    def model(name: str) -> Model:
        b = Builder("empty")
        b.output("y", b.input(name, DType.FLOAT32, ()))
        return b.finish()

    assert diff_models(model("x"), model("x")).identical
    assert diff_models(model("x"), chain()).kinds[:2] == ("interface", "network")


def test_the_json_form_can_be_written_and_is_deterministic() -> None:
    pair = chain(), chain(seed=1, drop=1, names="v", batch="B")
    first, second = (json.dumps(diff_models(*pair).as_dict()) for _ in range(2))
    assert first == second
    content = json.loads(first)
    assert content["schema"] == SCHEMA
    assert content["same"] is False


def test_digests_know_type_shape_and_every_bit() -> None:
    zeros = np.zeros((2, 3), np.float32)
    variants = [zeros, -zeros, zeros.reshape(3, 2), zeros.view(np.int32), zeros.astype(np.float16)]
    assert len({content_digest(ArrayTensor(each)) for each in variants}) == len(variants)
    wide = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turned = ArrayTensor(np.ascontiguousarray(wide.transpose(2, 0, 1))).permuted((1, 2, 0))
    assert content_digest(turned) == content_digest(ArrayTensor(wide))


@pytest.mark.parametrize("dtype", [each for each in DType if each is not DType.STRING], ids=str)
def test_every_element_type_is_compared(dtype: DType) -> None:
    low, high = (0, 1) if dtype is not DType.FLOAT8_E8M0FNU else (1, 2)  # that type has powers of two alone
    first = np.array([[low, high, high], [low, high, low]]).astype(dtype.numpy)
    second = first.copy()
    second[1, 1] = dtype.numpy.type(low)
    a, b = ArrayTensor(first), ArrayTensor(second)
    numbers = compare_elements(a, b)
    assert numbers is not None
    assert (numbers.differing, numbers.absolute) == (1, 1.0)
    moved = ArrayTensor(np.ascontiguousarray(first.T))
    assert find_permutation(a, moved) == (1, 0)
    assert find_permutation(a, b) is None
    assert order_free_mix(a) == order_free_mix(moved)
    assert is_reshaped(a, ArrayTensor(first.reshape(6)))


def test_strings_are_compared() -> None:
    a, b = (ArrayTensor(np.array(texts, object)) for texts in (["x", "y"], ["x", "z"]))
    assert content_digest(a) != content_digest(b)
    numbers = compare_elements(a, b)
    assert numbers is not None and numbers.differing == 1


def test_nans_infinities_and_wide_integers() -> None:
    a = ArrayTensor(np.array([np.nan, np.inf, 1.0, 0.0], np.float32))
    b = ArrayTensor(np.array([1.0, np.inf, np.nan, -0.0], np.float32))
    numbers = compare_elements(a, b)
    assert numbers is not None
    assert (numbers.differing, numbers.nan_a, numbers.nan_b, numbers.absolute) == (3, 1, 1, 0.0)
    low, high = (ArrayTensor(np.array([each], np.int64)) for each in (-(2**63), 2**63 - 1))
    far = compare_elements(low, high)
    assert far is not None and far.absolute == float(2**64 - 1)


def test_chains_and_subsequences() -> None:
    assert longest_chain([(0, 5), (1, 1), (2, 2), (3, 0), (4, 9)]) == [(1, 1), (2, 2), (4, 9)]
    assert longest_chain([]) == []
    assert common_subsequence([1, 2, 3, 4], [2, 9, 4]) == [(1, 0), (3, 2)]
    assert common_subsequence([1], [2]) == []
