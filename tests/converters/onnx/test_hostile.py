"""Hostile and damaged ONNX files: a typed error or a model, soon, in little memory, and nothing read from outside."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.converters.onnx import reader
from isomorph.errors import MalformedError, ModelError, UnsafeError, UnsupportedError, UsageError

SECONDS, MEGABYTES = 2.0, 256


@pytest.fixture(autouse=True)
def bounded() -> Any:
    """Each test reads its files within a bound of memory (what the process has grown by)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def read(path: Path) -> object:
    began = time.perf_counter()
    try:
        return reader.read(path)
    finally:
        assert time.perf_counter() - began < SECONDS


def small() -> onnx.ModelProto:
    """Conv -> Relu -> Reshape by computed sizes -> Gemm."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)),
        "b": rng.normal(size=4),
        "fc": rng.normal(size=(5, 4 * 6 * 6)),
    }
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    tensors += [
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([-1], np.int64), "rest"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[0, 0, 0, 0], strides=[1, 1], group=1),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Shape", ["r"], ["s"], name="shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], name="gather", axis=0),
        helper.make_node("Concat", ["n", "rest"], ["to"], name="concat", axis=0),
        helper.make_node("Reshape", ["r", "to"], ["f"], name="reshape"),
        helper.make_node("Gemm", ["f", "fc"], ["y"], name="gemm", transB=1, alpha=1.0),
    ]
    return model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], tensors)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[Any]],
    outputs: list[str],
    tensors: list[TensorProto] | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        tensors or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def store(proto: onnx.ModelProto | bytes, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def refused(
    proto: onnx.ModelProto, folder: Path, kind: type[Exception] = MalformedError, match: str | None = None
) -> None:
    with pytest.raises(kind, match=match):
        read(store(proto, folder))


def test_the_small_model_is_read(tmp_path: Path) -> None:
    assert read(store(small(), tmp_path))


def test_every_truncation(tmp_path: Path) -> None:
    data = small().SerializeToString()
    for length in range(0, len(data), max(1, len(data) // 300)):
        with pytest.raises((MalformedError, UnsupportedError)):
            read(store(data[:length], tmp_path))


@pytest.mark.parametrize("seed", range(8))
def test_flipped_and_shuffled_bytes(seed: int, tmp_path: Path) -> None:
    """200 mutations each: a bit, a byte, a run, a copied or removed piece; in the graph, not in the weights only."""
    rng = random.Random(seed)
    proto = small()
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > 400:
            tensor.raw_data = tensor.raw_data[: 4 * 4]
            del tensor.dims[:]
            tensor.dims.extend([4, 1])
    data = proto.SerializeToString()
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(damaged))
            kind = rng.randrange(4)
            if kind == 0:
                damaged[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                damaged[place] = rng.choice((0, 1, 127, 128, 255))
            elif kind == 2:
                del damaged[place : place + rng.randint(1, 8)]
            else:
                source = rng.randrange(len(damaged))
                damaged[place:place] = damaged[source : source + rng.randint(1, 8)]
        with contextlib.suppress(ModelError, UsageError):
            read(store(bytes(damaged), tmp_path))


def test_mutated_messages(tmp_path: Path) -> None:
    """1,500 models that are valid protobuf: attributes, names, operators and sizes are exchanged."""
    rng = random.Random(7)
    kinds = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    for _ in range(1500):
        proto = small()
        for _ in range(rng.randint(1, 3)):
            node = rng.choice(proto.graph.node)
            change = rng.randrange(6)
            if change == 0:
                node.op_type = rng.choice(kinds)
            elif change == 1:
                node.input[rng.randrange(len(node.input))] = rng.choice(["", "x", "w", "y", "zero", "n", "rest"])
            elif change == 2:
                node.attribute.append(_any_attribute(rng))
            elif change == 3 and node.attribute:
                name = rng.choice(node.attribute).name
                del node.attribute[:]
                node.attribute.append(_any_attribute(rng, name))
            elif change == 4:
                tensor = rng.choice(proto.graph.initializer)
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, 1, -1, 3, 1 << 40, (1 << 63) - 1))
            else:
                proto.opset_import[0].version = rng.choice((0, 1, 7, 9, 11, 13, 18, 22, 28, 99))
        with contextlib.suppress(ModelError, UsageError):
            read(store(proto, tmp_path))


def _any_attribute(rng: random.Random, name: str | None = None) -> onnx.AttributeProto:
    values: list[Any] = [
        0,
        -1,
        1 << 62,
        -(1 << 63),
        1.5,
        float("nan"),
        float("inf"),
        "text",
        "",
        [0],
        [-1, -1],
        [1 << 62] * 4,
        [0.5],
        ["a"],
        [1] * 64,
        TensorProto(dims=[1 << 40], data_type=1),
        helper.make_graph([], "empty", [], []),
    ]
    names = [
        "axis",
        "axes",
        "pads",
        "strides",
        "dilations",
        "kernel_shape",
        "group",
        "to",
        "perm",
        "value",
        "mode",
        "epsilon",
    ]
    return helper.make_attribute(name or rng.choice(names), rng.choice(values))


@pytest.mark.parametrize("dims", [[1 << 40, 1 << 40], [1 << 42], [0, 1 << 62, 1 << 62], [-1], [(1 << 63) - 1] * 9])
@pytest.mark.parametrize("external", [False, True])
def test_an_initializer_of_terabytes(dims: list[int], external: bool, tmp_path: Path) -> None:
    proto = small()
    tensor = proto.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend(dims)
    if external:
        (tmp_path / "w.bin").write_bytes(b"\0" * 64)
        _external(tensor, "w.bin")
    refused(proto, tmp_path)


def _external(tensor: TensorProto, location: str, **entries: object) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))


def _beside(folder: Path) -> bytes:
    return small().graph.initializer[0].raw_data


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../secret.bin",
        "a/../../secret.bin",
        "..\\secret.bin",
        "a\\..\\..\\secret.bin",
        "C:\\secret.bin",
        "",
        "file:///etc/passwd",
        "w.bin\0.txt",
        "\\\\host\\share",
        "./../secret.bin",
        "..",
        ".",
        "./",
        "w.bin/../../secret.bin",
        "a/./../../secret.bin",
        "/proc/self/environ",
        "/dev/zero",
        "//host/share/secret.bin",
        "w.bin:stream",
    ],
)
def test_external_data_outside_of_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(_beside(tmp_path))
    proto = small()
    _external(proto.graph.initializer[0], location)
    refused(proto, folder, UnsafeError)


@pytest.mark.parametrize("kind", ["symlink", "linked folder", "hard link", "fifo", "folder", "device"])
def test_external_data_that_is_no_plain_file(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(_beside(tmp_path))
    location, target = "w.bin", folder / "w.bin"
    if kind == "symlink":
        target.symlink_to(secret)
    elif kind == "linked folder":
        (folder / "sub").symlink_to(tmp_path)
        location = "sub/secret.bin"
    elif kind == "hard link":
        os.link(secret, target)
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("/dev/zero")
    proto = small()
    _external(proto.graph.initializer[0], location)
    refused(proto, folder, UnsafeError)


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": 1 << 40},
        {"offset": -8},
        {"length": 7},
        {"length": 1 << 40},
        {"offset": "x"},
        {"length": "1e3"},
        {"offset": 8},
        {"offset": "9" * 5000},
    ],
)
def test_external_data_outside_of_its_file(entries: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(_beside(tmp_path))
    proto = small()
    _external(proto.graph.initializer[0], "w.bin", **entries)
    refused(proto, tmp_path)


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    proto = small()
    _external(proto.graph.initializer[0], "absent.bin")
    refused(proto, tmp_path, match="not there")


def test_external_data_in_an_attribute(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "value")
    _external(tensor, "w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(12))
    refused(model([helper.make_node("Constant", [], ["y"], value=tensor)], {"x": [1]}, ["y"]), tmp_path, ModelError)


def test_external_data_below_the_folder_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    proto = small()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 12 + proto.graph.initializer[0].raw_data)
    _external(proto.graph.initializer[0], "sub/w.bin", offset=12)
    wanted = small().graph.initializer[0].raw_data
    read_model: Any = read(store(proto, tmp_path))
    assert read_model.parameters()["w"].data.numpy().tobytes() == wanted


def test_cycles_missing_producers_and_doubled_names(tmp_path: Path) -> None:
    def node(kind: str, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, outputs)

    shape = {"x": [2, 3]}
    refused(model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], shape, ["b"]), tmp_path)
    refused(model([node("Relu", ["a"], ["a"])], shape, ["a"]), tmp_path)
    refused(model([node("Relu", ["nothing"], ["y"])], shape, ["y"]), tmp_path)
    refused(model([node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])], shape, ["y"]), tmp_path)
    refused(model([node("Relu", ["x"], ["x"])], shape, ["x"]), tmp_path)
    refused(model([node("Split", ["x"], ["a", "a"])], shape, ["a"]), tmp_path)
    refused(model([node("Relu", ["x"], ["y"])], shape, ["y", "y"]), tmp_path)
    refused(model([node("Relu", ["x"], ["y"])], shape, ["z"]), tmp_path)
    refused(model([node("Relu", ["x"], ["y"])], shape, []), tmp_path)
    refused(model([node("Relu", ["x"], [])], shape, ["x"]), tmp_path)
    refused(model([node("Relu", ["x", "x"], ["y"])], shape, ["y"]), tmp_path)
    doubled = [numpy_helper.from_array(np.zeros(3, np.float32), "w")] * 2
    refused(model([node("Add", ["x", "w"], ["y"])], shape, ["y"], doubled), tmp_path)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [0, 2]}),
        ("MaxPool", {"kernel_shape": [-1, 2]}),
        ("MaxPool", {"kernel_shape": [2]}),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [0, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [-1, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [-1, 0, 0, 0]}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1] * 9}),
        ("MaxPool", {"kernel_shape": [99, 99]}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [0, 0]}),
        ("MaxPool", {"kernel_shape": [1 << 62] * 2}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1 << 62] * 4}),
        ("MaxPool", {"kernel_shape": [2.0, 2.0]}),
        ("MaxPool", {"kernel_shape": "2x2"}),
        ("MaxPool", {}),
        ("Transpose", {"perm": [0, 0, 1, 2]}),
        ("Transpose", {"perm": [0]}),
        ("Softmax", {"axis": 9}),
        ("Softmax", {"axis": "last"}),
        ("Cast", {}),
        ("Concat", {"axis": 7}),
        ("LeakyRelu", {"alpha": [0.1]}),
        ("LeakyRelu", {"alpha": "steep"}),
        ("Flatten", {"axis": 5}),
        ("DepthToSpace", {"blocksize": 0}),
        ("DepthToSpace", {"blocksize": -2}),
        ("LRN", {"size": 0}),
        ("LRN", {}),
        ("Split", {"num_outputs": 0}),
        ("Split", {"num_outputs": -1}),
        ("Split", {"num_outputs": 1 << 40}),
        ("ReduceMean", {"keepdims": "yes"}),
        ("Gelu", {"approximate": 3}),
        ("LayerNormalization", {"axis": 9}),
    ],
)
def test_absurd_attributes(kind: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    refused(model([node], {"x": [2, 4, 6, 6]}, ["y"]), tmp_path)


@pytest.mark.parametrize("axis", [-(1 << 62), -5, 5, 1 << 62])
def test_broadcasting_of_opset_6_beyond_the_axes(axis: int, tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "b"], ["y"], axis=axis, broadcast=1)
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "b")
    refused(model([node], {"x": [2, 4, 6, 6]}, ["y"], [tensor], opset=6), tmp_path)


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    data = small().SerializeToString()
    for name in (b"conv", b"relu", b"fc"):
        with pytest.raises(ModelError):
            read(store(data.replace(name, b"\xff\xfe\xfd\xfc"[: len(name)]), tmp_path))
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], auto_pad="NOTSET")
    damaged = model([node], {"x": [2, 4, 6, 6]}, ["y"]).SerializeToString().replace(b"NOTSET", b"\xff" * 6)
    with pytest.raises(ModelError):
        read(store(damaged, tmp_path))


def _deep_graph(levels: int) -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [], [helper.make_value_info("r", onnx.TypeProto())]
    )
    for level in range(levels):
        node = helper.make_node("If", ["c"], [f"o{level}"], then_branch=branch, else_branch=branch)
        info = helper.make_value_info(f"o{level}", onnx.TypeProto())
        branch = helper.make_graph([node], "b", [], [info])
    condition = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return model([node], {"x": [2, 3]}, ["y"], [condition])


def test_branches_in_branches(tmp_path: Path) -> None:
    with contextlib.suppress(ModelError):
        read(store(_deep_graph(10), tmp_path))


@pytest.mark.parametrize("depth", [50, 200, 20_000])
def test_nested_messages(depth: int, tmp_path: Path) -> None:
    """Graphs in attributes in graphs: tag and length of each level around the last."""
    body = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            body = tag + _varint(len(body)) + body
    proto = b"\x08\x0a" + b"\x3a" + _varint(len(body)) + body
    with pytest.raises(ModelError):
        read(store(proto, tmp_path))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def _constants(**arrays: Any) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(array, np.int64), name) for name, array in arrays.items()]


def _squaring(kind: str, count: int) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, [f"v{step}", f"v{step}"], [f"v{step + 1}"]) for step in range(count)]


def _outer_products(count: int) -> list[onnx.NodeProto]:
    """x (n, 1) times its transpose, flattened to (n * n, 1): the size squares each time."""
    nodes = []
    for step in range(count):
        nodes += [
            helper.make_node("Transpose", [f"v{step}"], [f"t{step}"]),
            helper.make_node("Mul", [f"v{step}", f"t{step}"], [f"m{step}"]),
            helper.make_node("Reshape", [f"m{step}", "column"], [f"v{step + 1}"]),
        ]
    return nodes


BOMBS: dict[str, Callable[[], onnx.ModelProto]] = {
    "ConstantOfShape": lambda: model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])], {"x": [1]}, ["y"], _constants(s=[1 << 40, 1 << 40])
    ),
    "ConstantOfShape of integers": lambda: model(
        [
            helper.make_node("ConstantOfShape", ["s"], ["a"], value=numpy_helper.from_array(np.array([1], np.int64))),
            helper.make_node("Add", ["a", "a"], ["y"]),
        ],
        {"x": [1]},
        ["y"],
        _constants(s=[1 << 31]),
    ),
    "Range": lambda: model(
        [helper.make_node("Range", ["a", "b", "c"], ["y"])], {"x": [1]}, ["y"], _constants(a=0, b=1 << 62, c=1)
    ),
    "Range with a step of 0": lambda: model(
        [helper.make_node("Range", ["a", "b", "c"], ["y"])], {"x": [1]}, ["y"], _constants(a=0, b=9, c=0)
    ),
    "Expand": lambda: model(
        [helper.make_node("Expand", ["a", "s"], ["b"]), helper.make_node("Add", ["b", "b"], ["y"])],
        {"x": [1]},
        ["y"],
        _constants(a=[1], s=[1 << 40]),
    ),
    "Tile": lambda: model(
        [helper.make_node("Tile", ["a", "s"], ["y"])], {"x": [1]}, ["y"], _constants(a=[1], s=[1 << 62])
    ),
    "outer sum": lambda: model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        {"x": [1]},
        ["y"],
        _constants(a=np.zeros((4096, 1)), b=np.zeros((1, 4096))),
    ),
    "Gather grows": lambda: model(
        [helper.make_node("Gather", ["a", "b"], ["y"], axis=0)],
        {"x": [1]},
        ["y"],
        _constants(a=np.zeros((1, 4096)), b=np.zeros(4096)),
    ),
    "squared integers": lambda: model(_squaring("Mul", 64), {"x": [1]}, ["v64"], _constants(v0=[3])),
    "squared sizes": lambda: model(
        [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("ReduceSum", ["s"], ["v0"]), *_squaring("Mul", 40)],
        {"x": ["A", "B", "C", "D"]},
        ["v40"],
    ),
    "squared powers of a size": lambda: model(
        [helper.make_node("Shape", ["x"], ["v0"]), *_squaring("Mul", 40)], {"x": ["A"]}, ["v40"]
    ),
    "squared sums": lambda: model(
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "i"], ["a"]),
            helper.make_node("Gather", ["s", "j"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["v0"]),
            *_squaring("Mul", 40),
        ],
        {"x": ["A", "B"]},
        ["v40"],
        _constants(i=[0], j=[1]),
    ),
    "long chain of quotients": lambda: model(
        [
            helper.make_node("Shape", ["x"], ["v0"]),
            *(
                helper.make_node(("Div", "Mod", "Add")[step % 3], [f"v{step}", "k"], [f"v{step + 1}"])
                for step in range(3000)
            ),
        ],
        {"x": ["A"]},
        ["v3000"],
        _constants(k=[7]),
    ),
    "long chain of large arrays": lambda: model(
        [helper.make_node("Add", [f"v{step}", "v0"], [f"v{step + 1}"]) for step in range(3000)],
        {"x": [1]},
        ["v3000"],
        _constants(v0=np.zeros(4096)),
    ),
    "outer products": lambda: model(_outer_products(48), {"v0": [2, 1]}, ["v48"], _constants(column=[-1, 1])),
    "outer products of a symbol": lambda: model(
        _outer_products(48), {"v0": ["A", 1]}, ["v48"], _constants(column=[-1, 1])
    ),
    "folded pool": lambda: model(
        [
            helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[1, 1], strides=[1 << 30] * 2, pads=[1 << 30] * 4),
            helper.make_node("Cast", ["b"], ["c"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["x", "c"], ["y"]),
        ],
        {"x": [1]},
        ["y"],
        [numpy_helper.from_array(np.zeros((1, 1, 4, 4), np.float32), "a")],
    ),
    "folded Einsum": lambda: model(
        [
            helper.make_node("Einsum", ["a", "a", "a", "a"], ["b"], equation="i,j,k,l->"),
            helper.make_node("Cast", ["b"], ["c"], to=TensorProto.INT64),
            helper.make_node("ConstantOfShape", ["c"], ["y"]),
        ],
        {"x": [1]},
        ["y"],
        [numpy_helper.from_array(np.zeros(4096, np.float32), "a")],
    ),
    "folded LRN": lambda: model(
        [
            helper.make_node("LRN", ["a"], ["b"], size=(1 << 31) - 1),
            helper.make_node("Cast", ["b"], ["c"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["x", "c"], ["y"]),
        ],
        {"x": [1]},
        ["y"],
        [numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "a")],
    ),
    "OneHot of huge depth": lambda: model(
        [helper.make_node("OneHot", ["i", "d", "v"], ["y"])], {"x": [1]}, ["y"], _constants(i=[0], d=1 << 62, v=[0, 1])
    ),
    "Pad": lambda: model(
        [helper.make_node("Pad", ["a", "p"], ["y"])], {"x": [1]}, ["y"], _constants(a=[1], p=[1 << 62, 1 << 62])
    ),
    "Resize": lambda: model(
        [helper.make_node("Resize", ["x", "", "s"], ["y"])],
        {"x": [1, 1, 4, 4]},
        ["y"],
        [numpy_helper.from_array(np.array([1, 1, 1e30, float("inf")], np.float32), "s")],
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path) -> None:
    """A file of a few kilobytes must not make the reader allocate or compute for long; reading it may succeed."""
    with contextlib.suppress(ModelError):
        read(store(BOMBS[name](), tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "N" * 100_000,
        "(" * 5000 + "N" + ")" * 5000,
        "N*" * 5000 + "N",
        "N//" * 300 + "2",
        "(a+b+c+d)*" * 50 + "1",
        "-",
        "9" * 5000,
        "",
        "N\0",
        "../x",
        "max(N",
    ],
)
def test_names_of_sizes(text: str, tmp_path: Path) -> None:
    with contextlib.suppress(ModelError):
        read(store(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [text, 3]}, ["y"]), tmp_path))


def test_functions_that_call_each_other(tmp_path: Path) -> None:
    """Recursion without end, and 2^30 nodes by doubling."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    call = helper.make_node("F0", ["x"], ["y"], domain="my")
    endless = helper.make_function(
        "my", "F0", ["a"], ["b"], [helper.make_node("F0", ["a"], ["b"], domain="my")], opsets
    )
    doubling = [
        helper.make_function(
            "my",
            f"F{level}",
            ["a"],
            ["b"],
            [
                helper.make_node(f"F{level + 1}", ["a"], ["h"], domain="my"),
                helper.make_node(f"F{level + 1}", ["h"], ["b"], domain="my"),
            ],
            opsets,
        )
        for level in range(30)
    ]
    last = helper.make_function("my", "F30", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets)
    for functions in ([endless], [*doubling, last]):
        proto = model([call], {"x": [2]}, ["y"])
        proto.opset_import.extend(opsets[1:])
        proto.functions.extend(functions)
        refused(proto, tmp_path, ModelError)


@pytest.mark.parametrize("opset", [0, 29, 1000, -1])
def test_opsets_that_isomorph_does_not_know(opset: int, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    refused(model([node], {"x": [2]}, ["y"], opset=opset), tmp_path, UnsupportedError, "opset")


def test_a_file_that_names_no_opset(tmp_path: Path) -> None:
    proto = small()
    del proto.opset_import[:]
    refused(proto, tmp_path, ModelError, "opset")


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 33)  # a hole: takes no space
    with pytest.raises(MalformedError, match="2 GiB"):
        read(path)
