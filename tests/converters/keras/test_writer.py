"""Small networks, written without Keras and loaded by it: their layers, names, weights, ties and outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.convert import prepare
from isomorph.converters.keras import writer
from isomorph.converters.keras.reader import read
from isomorph.errors import UnsupportedError
from isomorph.ir import (
    ArrayTensor,
    Builder,
    DType,
    Layout,
    Model,
    Op,
    Origin,
    Parameter,
    Scope,
    ScopeEntry,
    Sym,
    Value,
    ops,
)
from isomorph.ir.evaluate import evaluate

ONES, AROUND = (1, 1), ((1, 1), (1, 1))


class Net:
    """A builder with random weights and a module for each layer."""

    def __init__(self, name: str) -> None:
        self.b = Builder(name)
        self.rng = np.random.default_rng(len(name))

    def weight(
        self, name: str, *shape: int, trainable: bool = True, role: str = "weight", kind: Any = np.float32
    ) -> Value:
        data = self.rng.uniform(0.2, 1.0, shape).astype(kind)
        return self.b.parameter(Parameter(name, ArrayTensor(data), trainable, role))

    def emit(self, path: str, op: Op, *operands: Value | None, call: int = 0) -> Value:
        parts = path.split(".")
        entries = tuple(ScopeEntry(".".join(parts[: end + 1]), "", call) for end in range(len(parts)) if path)
        with self.b.at(Scope(entries), Origin("test", op.name, path)):
            return self.b.emit(op, *operands)

    def conv(self, path: str, x: Value, filters: int, *, group: int = 1, stride: int = 1) -> Value:
        assert isinstance(x.shape[1], int)
        kernel = self.weight(f"{path}.weight", filters, x.shape[1] // group, 3, 3)
        return self.emit(path, ops.Conv((stride, stride), AROUND, ONES, group), x, kernel)

    def norm(self, path: str, x: Value) -> Value:
        assert isinstance(x.shape[1], int)
        gamma, beta = (self.weight(f"{path}.{name}", x.shape[1]) for name in ("weight", "bias"))
        mean, var = (
            self.weight(f"{path}.{name}", x.shape[1], trainable=False, role="buffer") for name in ("mean", "var")
        )
        return self.emit(path, ops.BatchNormalization(1e-5), x, gamma, beta, mean, var)

    def done(self, *outputs: Value) -> Model:
        for place, value in enumerate(outputs):
            self.b.output(f"y{place}", value)
        return self.b.finish()


def residual() -> Model:
    """A residual block as torchvision writes it: one relu module called twice, the sum in the block's own forward."""
    net = Net("residual")
    x = net.b.input("image", DType.FLOAT32, (Sym("N"), 3, 8, 8))
    stem = net.conv("conv1", x, 4, stride=2)
    first = net.emit("layer1.0.relu", ops.Relu(), net.norm("layer1.0.bn1", net.conv("layer1.0.conv1", stem, 4)))
    second = net.norm("layer1.0.bn2", net.conv("layer1.0.conv2", first, 4, group=4))
    total = net.emit("layer1.0", ops.Add(), second, stem)
    last = net.emit("layer1.0.relu", ops.Relu(), total, call=1)
    flat = net.emit("", ops.Flatten(), net.emit("avgpool", ops.AdaptiveAveragePool(ONES), last))
    return net.done(net.emit("fc", ops.Linear(), flat, net.weight("fc.weight", 5, 4), net.weight("fc.bias", 5)))


def branches() -> Model:
    """Many layers of one class at different depths: the numbering of the weights file depends on Keras' own order."""
    net = Net("branches")
    x = net.b.input("x", DType.FLOAT32, (2, 3, 6, 6))
    short = net.conv("short", x, 3)
    long = net.conv("c", net.conv("b", net.conv("a", x, 3), 3), 3)
    middle = net.conv("e", net.conv("d", short, 3), 3)
    joined = net.emit("join", ops.Concat(1), long, short, middle)
    return net.done(net.conv("head", joined, 2), net.conv("side", middle, 2))


def scaled() -> Model:
    """Parameters that no layer owns: a scale for each channel, a token for each sample, positions, a scalar."""
    net = Net("scaled")
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), 6, 4))
    made = net.emit("block", ops.Mul(), x, net.weight("block.layer_scale", 4))
    token = net.emit("", ops.Expand((Sym("N"), 1, 4)), net.weight("class_token", 1, 1, 4))
    made = net.emit("", ops.Concat(1), token, made)
    made = net.emit("encoder", ops.Add(), made, net.weight("encoder.pos_embedding", 1, 7, 4))
    made = net.emit("", ops.Mul(), made, net.weight("temperature"))
    return net.done(net.emit("wide", ops.Add(), made, net.weight("wide.table", 7, 4, trainable=False)))


def large() -> Model:
    """A parameter of many rows, and a literal of many elements."""
    net = Net("large")
    x = net.b.input("x", DType.FLOAT32, (1, 80, 80, 2))
    made = net.emit("mean", ops.Sub(), x, net.weight("mean.image", 80, 80, 2, trainable=False, role="buffer"))
    return net.done(net.emit("", ops.Mul(), made, net.weight("grid", 80, 80, 1, trainable=False, role="constant")))


def tied() -> Model:
    """One layer called twice, and with a bias; an embedding whose table is also the matrix of two heads."""
    net = Net("tied")
    x = net.b.input("tokens", DType.INT32, (Sym("N"), 5))
    table = net.weight("embed.weight", 7, 4)
    hidden = net.emit("embed", ops.Embedding(), x, table)
    w = net.weight("twice.weight", 4, 4)
    hidden = net.emit("twice", ops.Linear(), net.emit("twice", ops.Linear(), hidden, w), w, call=1)
    decoded = net.emit("decoder", ops.Linear(), hidden, table, net.weight("decoder.bias", 7))
    apart = net.emit("apart", ops.Linear(), hidden, w, net.weight("apart.bias", 4))
    return net.done(net.emit("head", ops.Linear(), hidden, table), decoded, apart)


def frozen() -> Model:
    """A frozen layer, and a layer with a frozen bias."""
    net = Net("frozen")
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), 3))
    whole = net.weight("backbone.weight", 4, 3, trainable=False), net.weight("backbone.bias", 4, trainable=False)
    hidden = net.emit("backbone", ops.Linear(), x, *whole)
    parts = net.weight("head.weight", 2, 4), net.weight("head.bias", 2, trainable=False)
    return net.done(net.emit("head", ops.Linear(), hidden, *parts))


def half(kind: DType) -> Callable[[], Model]:
    def build() -> Model:
        net = Net(f"half_{kind}")
        x = net.b.input("x", kind, (Sym("N"), 3))
        w, b = net.weight("fc.weight", 4, 3, kind=kind.numpy), net.weight("fc.bias", 4, kind=kind.numpy)
        return net.done(net.emit("act", ops.Relu(), net.emit("fc", ops.Linear(), x, w, b)))

    return build


def several() -> Model:
    """Two inputs and one that nothing reads; two outputs of one operation, and an output that is an input."""
    net = Net("several")
    a = net.b.input("a.first", DType.FLOAT32, (Sym("N"), 4))
    net.b.input("unused", DType.FLOAT32, (Sym("N"), 2))
    c = net.b.input("c", DType.INT64, (Sym("N"), 4))
    with net.b.at(Scope(()), Origin("test", "Split")):
        left, right = net.b.emit_many(ops.Split(1, (1, 3)), a)
    moved = net.emit("", ops.Reshape((Sym("N"), 2, 2)), c)
    return net.done(left, right, c, moved)


def bare() -> Model:
    """ONNX names its values by path and has no modules."""
    b = Builder("bare")
    x = b.input("input:0", DType.FLOAT32, (1, 3, 8, 8))
    with b.at(Scope(()), Origin("onnx", "Relu")):
        y = b.emit(ops.Relu(), x, name="/features/act 1/Relu_output_0")
        z = b.emit(ops.MaxPool((3, 3), (2, 2), AROUND, ONES, layout=Layout.CHANNELS_FIRST), y, name="pool")
    b.output("pool", z)
    return b.finish()


def positions() -> Model:
    """A position embedding of batch 1 is added to tokens of an open batch."""
    net = Net("positions")
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), 4, 6))
    table = net.weight("position", 1, 4, 6)
    return net.done(net.emit("", ops.Softmax(axis=2), net.emit("", ops.Add(), x, table)))


def whole_numbers() -> Model:
    """Literal integers and bools that no other tensor stands beside: places in a table, and an output."""
    net = Net("whole_numbers")
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), 3, 6))
    places = net.b.constant(np.arange(2, 5, dtype=np.int64)[None], "places")
    found = net.emit("positions", ops.Embedding(), places, net.weight("positions.weight", 9, 6))
    flags = net.b.constant(np.asarray([[True], [False], [True]]), "flags")
    return net.done(net.emit("", ops.Add(), x, found), net.emit("", ops.Not(), flags))


def first_sample() -> Model:
    """The first sample of an open batch, without the batch axis."""
    net = Net("first_sample")
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), 4, 6))
    first = net.emit("", ops.Squeeze((0,)), net.emit("", ops.Slice((0,), (0,), (1,), (1,)), x))
    return net.done(net.emit("", ops.MatMul(), x, net.emit("", ops.Transpose((1, 0)), first)))


def resampled() -> Model:
    """Bilinear resampling of images of any size: by whole factors, and to a known size."""
    net = Net("resampled")
    x = net.b.input("x", DType.FLOAT32, (Sym("N"), Sym("H"), Sym("W"), 2))
    sizes, last = (Sym("H") * 2, Sym("W") * 3), Layout.CHANNELS_LAST
    whole = net.emit("whole", ops.Resize(sizes, None, "linear", "half_pixel", layout=last), x)
    return net.done(whole, net.emit("known", ops.Resize((4, 5), None, "linear", "half_pixel", layout=last), x))


NETS: dict[str, Callable[[], Model]] = {
    "residual": residual, "branches": branches, "scaled": scaled, "large": large, "tied": tied, "frozen": frozen,
    "several": several, "bare": bare, "positions": positions, "whole_numbers": whole_numbers,
    "first_sample": first_sample, "resampled": resampled, "float16": half(DType.FLOAT16),
    "bfloat16": half(DType.BFLOAT16),
    "float64": half(DType.FLOAT64),
}  # fmt: skip


def sample(model: Model) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    made = {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        made[value.name] = (
            rng.normal(size=shape) if value.dtype.is_float else rng.integers(0, 7, shape)
        ).astype(value.dtype.numpy)  # fmt: skip
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All networks, written."""
    made = tmp_path_factory.mktemp("nets")
    for name, build in NETS.items():
        writer.write(prepare(build(), writer.target()), made / f"{name}.keras")
    return made


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, Any]:
    """What Keras says of them."""
    for name, build in NETS.items():
        given = sample(build()).values()
        arrays = [array.astype(np.float32) if array.dtype.name == "bfloat16" else array for array in given]
        np.savez(folder / f"{name}.npz", **{f"x{place}": array for place, array in enumerate(arrays)})
    script = Path(__file__).with_name("load_models.py")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), "again"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def notes(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("isomorph.json"))


@pytest.mark.requires("keras", "jax")
@pytest.mark.parametrize("name", NETS)
def test_keras_computes_the_same(name: str, folder: Path, loaded: dict[str, Any]) -> None:
    said = loaded[name]
    assert "error" not in said, said
    assert said["same_again"]
    model = NETS[name]()
    open_batches = [isinstance(value.shape[0], Sym) for value in model.graph.outputs.values()]
    assert [batch is None for batch in said["batches"]] == open_batches
    found = np.load(folder / f"{name}.out.npz")
    expected = list(evaluate(model, sample(model)).values())
    assert len(expected) == len(found.files)
    for place, array in enumerate(expected):
        actual = found[f"y{place}"]
        assert actual.shape == array.shape
        tolerance = 2e-2 if array.dtype.itemsize < 4 else 2e-5
        np.testing.assert_allclose(actual.astype(np.float64), array.astype(np.float64), rtol=tolerance, atol=tolerance)
    wanted = {
        id(parameter): parameter.data.size for parameter in model.parameters().values() if parameter.role != "constant"
    }
    extra = {"tied": 16, "large": 6400}.get(name, 0)  # a matrix held twice; a literal too large for the configuration
    assert said["weights"] == sum(wanted.values()) + extra


@pytest.mark.requires("keras", "jax")
def test_layers_and_names(loaded: dict[str, Any]) -> None:
    assert loaded["residual"]["operations"] == [
        ["InputLayer", "image"],
        ["Permute", "image_channels_last"],
        ["ZeroPadding2D", "conv1_pad"],
        ["Conv2D", "conv1"],
        ["Conv2D", "layer1_0_conv1"],
        ["BatchNormalization", "layer1_0_bn1"],
        ["ReLU", "layer1_0_relu"],
        ["DepthwiseConv2D", "layer1_0_conv2"],
        ["BatchNormalization", "layer1_0_bn2"],
        ["Add", "layer1_0_add"],
        ["ReLU", "layer1_0_relu_1"],
        ["GlobalAveragePooling2D", "avgpool"],
        ["Flatten", "flatten"],
        ["Dense", "fc"],
    ]


@pytest.mark.requires("keras", "jax")
def test_free_parameters_are_held_by_embeddings(loaded: dict[str, Any]) -> None:
    said = loaded["scaled"]
    held = [name for cls, name in said["operations"] if cls == "Embedding"]
    assert sorted(held) == ["block_layer_scale", "class_token", "encoder_pos_embedding", "temperature", "wide_table"]
    assert said["trainable"] == 4 + 4 + 28 + 1


@pytest.mark.requires("keras", "jax")
def test_ties_and_flags(folder: Path, loaded: dict[str, Any]) -> None:
    names = [name for _, name in loaded["tied"]["operations"]]
    assert names.count("twice") == 1 and "twice_1" not in names
    assert ["ReversibleEmbedding", "embed"] in loaded["tied"]["operations"]
    assert notes(folder / "tied.keras")["untied"] == {"twice.weight": ["twice", "apart"]}
    assert notes(folder / "residual.keras")["untied"] == {}
    assert loaded["frozen"]["trainable"] == 8 + 2
    assert notes(folder / "frozen.keras")["layers"]["head"]["frozen"] == ["head.bias"]


@pytest.mark.requires("keras", "jax")
def test_signature_keeps_its_order(folder: Path, loaded: dict[str, Any]) -> None:
    said = loaded["several"]
    assert said["inputs"] == ["a_first", "unused", "c"]
    assert len(set(said["outputs"])) == 4
    pairing = notes(folder / "several.keras")["pairing"]
    assert [item["target"] for item in pairing["inputs"]] == said["inputs"]
    assert [item["source"] for item in pairing["inputs"]] == ["a.first", "unused", "c"]
    assert [item["target"] for item in pairing["outputs"]] == said["outputs"]


def test_layers_say_where_they_come_from(folder: Path) -> None:
    layer = notes(folder / "residual.keras")["layers"]["layer1_0_bn1"]
    assert layer["scope"][-1] == ["layer1.0.bn1", "", 0]
    assert layer["origin"]["framework"] == "test"
    assert layer["parameters"] == [f"layer1.0.bn1.{name}" for name in ("weight", "bias", "mean", "var")]


def test_bytes_are_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.keras"
    writer.write(prepare(residual(), writer.target()), again)
    assert again.read_bytes() == (folder / "residual.keras").read_bytes()


def test_members_are_stored(folder: Path) -> None:
    with zipfile.ZipFile(folder / "residual.keras") as archive:
        assert {item.compress_type for item in archive.infolist()} == {zipfile.ZIP_STORED}
        assert sorted(archive.namelist()) == ["config.json", "isomorph.json", "metadata.json", "model.weights.h5"]


def test_every_refusal_is_listed_and_no_file_is_left(tmp_path: Path) -> None:
    net = Net("refused")
    x = net.b.input("x", DType.FLOAT32, (1, 2, 9, 9))
    lowest = net.emit("lowest", ops.ArgMin(1, select_last_index=True), x)
    found = net.emit("where", ops.ArgMax(1, select_last_index=True), lowest)
    with pytest.raises(UnsupportedError) as caught:
        writer.write(prepare(net.done(found), writer.target()), tmp_path / "model.keras")
    assert [(item.op, item.where) for item in caught.value.items] == [("ArgMin", "lowest"), ("ArgMax", "where")]
    assert not list(tmp_path.iterdir())


def test_writing_imports_no_framework() -> None:
    code = (
        "import sys, isomorph.converters.keras.writer\n"
        "print([name for name in ('keras', 'torch', 'tensorflow', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NETS)
def test_what_was_written_is_read_back(name: str, folder: Path) -> None:
    model, back = NETS[name](), read(folder / f"{name}.keras")
    given = sample(model)
    renamed = {value.name: array for value, array in zip(back.graph.inputs, given.values(), strict=True)}
    for expected, actual in zip(evaluate(model, given).values(), evaluate(back, renamed).values(), strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=1e-4)


def test_free_parameters_are_read_back_as_parameters(folder: Path) -> None:
    model = read(folder / "scaled.keras")
    assert not any(isinstance(node.op, ops.Embedding) for node in model.graph.nodes)
    shapes = {name: parameter.data.shape for name, parameter in model.parameters().items()}
    assert shapes["encoder_pos_embedding/embeddings"] == (1, 7, 4)
