"""The reader of `.pt2` files by itself: no torch, mapped weights, hostile files. Runs on the embedded model."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.torch.program import output_names
from isomorph.converters.torch.reader import read
from isomorph.errors import IsomorphError, MalformedError, UnsupportedError
from isomorph.ir import MappedTensor
from isomorph.ir.evaluate import evaluate

DIGITS = Path(__file__).resolve().parents[3] / "zoo" / "digits" / "digits-cnn.pt2"
ROOT = "digits-cnn"

Json = Any


@pytest.fixture
def edit(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the embedded model in which a JSON member was changed, or members were replaced (None: left out)."""

    def change(member: str = "", alter: Callable[[Json], None] | None = None, **replaced: bytes | None) -> Path:
        path = tmp_path / "edited.pt2"
        with zipfile.ZipFile(DIGITS) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                data: bytes | None = source.read(name)
                short = name.removeprefix(f"{ROOT}/")
                if short == member and alter is not None:
                    document = json.loads(data or b"")
                    alter(document)
                    data = json.dumps(document).encode()
                data = replaced.get(short.replace("/", "__").replace(".", "_"), data)
                if data is not None:
                    target.writestr(name, data)
        return path

    return change


MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


def test_the_embedded_model() -> None:
    model = read(DIGITS)
    assert model.name == "DigitsCnn"
    assert {str(name): str(kind) for name, kind in model.inputs.items()} == {"image": "float32[N, 1, 8, 8]"}
    answers = np.load(DIGITS.with_name("answers.npz"))
    logits = evaluate(model, {"image": answers["image"]})["output"]
    np.testing.assert_allclose(logits, answers["logits"], rtol=1e-4, atol=1e-4)
    assert all(isinstance(each.data, MappedTensor) for each in model.parameters().values())
    assert "norm1.running_mean" in model.parameters()
    assert "norm1.num_batches_tracked" not in model.parameters()


def test_reading_imports_no_framework() -> None:
    code = (
        "import sys; from pathlib import Path; from isomorph.converters.torch.reader import read; "
        f"print(len(read(Path({str(DIGITS)!r})).graph.nodes)); "
        "print([name for name in ('torch', 'onnx', 'keras', 'tensorflow', 'sympy', 'h5py') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    count, loaded = done.stdout.split("\n")[:2]
    assert int(count) > 10
    assert loaded == "[]"


def test_input_names_are_checked() -> None:
    model = read(DIGITS, inputs={"image": ((7, 1, 8, 8), None)})
    assert model.outputs["output"].shape == (7, 10)


def _weight(document: Json) -> Json:
    return document["config"]["conv1.weight"]


def _meta(**changes: Any) -> Callable[[Json], None]:
    return lambda document: _weight(document)["tensor_meta"].update(changes)


def _sizes(*sizes: int) -> list[Json]:
    return [{"as_int": size} for size in sizes]


WEIGHT_ATTACKS: dict[str, Callable[[Json], None]] = {
    "huge": _meta(sizes=_sizes(1 << 40, 1 << 40), strides=_sizes(1 << 40, 1)),
    "huge-by-stride-0": _meta(sizes=_sizes(1 << 40, 9), strides=_sizes(0, 1)),
    "stride-outside": _meta(strides=_sizes(9, 9, 3, 1000)),
    "negative-stride": _meta(strides=_sizes(9, 9, 3, -1)),
    "negative-size": _meta(sizes=_sizes(16, 1, -3, -3)),
    "offset-outside": _meta(storage_offset={"as_int": 1}),
    "negative-offset": _meta(storage_offset={"as_int": -1}),
    "symbolic-size": _meta(sizes=[{"as_expr": {"expr_str": "s0"}}]),
    "wider-type": _meta(dtype=8),
    "bool-size": _meta(sizes=_sizes(True, 1, 3, 3)),  # type: ignore[arg-type]
    "fewer-strides": _meta(strides=_sizes(9, 9)),
    "path-up": lambda document: _weight(document).update(path_name="../../../etc/passwd"),
    "absolute-path": lambda document: _weight(document).update(path_name="/etc/passwd"),
    "no-path": lambda document: _weight(document).pop("path_name"),
    "list": lambda document: document.update(config=[]),
    "null": lambda document: document["config"].update({"conv1.weight": None}),
    "missing": lambda document: document["config"].pop("conv1.weight"),
}


@pytest.mark.parametrize("name", WEIGHT_ATTACKS)
def test_weights_that_lie(name: str, edit: Any) -> None:
    with pytest.raises(MalformedError):
        read(edit(WEIGHTS, WEIGHT_ATTACKS[name]))


def test_a_pickle_that_is_none(edit: Any) -> None:
    with pytest.raises(MalformedError, match="pickle"):
        read(edit(WEIGHTS, lambda document: _weight(document).update(use_pickle=True)))


def test_unknown_element_types_are_unsupported(edit: Any) -> None:
    with pytest.raises(UnsupportedError, match="code 33"):
        read(edit(WEIGHTS, _meta(dtype=33)))


def _node(document: Json, index: int = 0) -> Json:
    return document["graph_module"]["graph"]["nodes"][index]


def _argument(value: Json, position: int = 3) -> Callable[[Json], None]:
    return lambda document: _node(document)["inputs"][position].update(arg=value)


MODEL_ATTACKS: dict[str, Callable[[Json], None]] = {
    "no-graph": lambda document: document["graph_module"].pop("graph"),
    "graph-list": lambda document: document["graph_module"].update(graph=[]),
    "undefined-tensor": _argument({"as_tensor": {"name": "nowhere"}}, 0),
    "number-for-tensor": _argument({"as_int": 3}, 0),
    "tensor-for-numbers": _argument({"as_tensor": {"name": "image"}}),
    "text-for-numbers": _argument({"as_string": "x"}),
    "zero-strides": _argument({"as_ints": [0, 0]}),
    "short-strides": _argument({"as_ints": [1, 1, 1]}),
    "two-tags": _argument({"as_int": 1, "as_none": True}),
    "unknown-argument": lambda document: _node(document)["inputs"][0].update(name="surprise"),
    "missing-argument": lambda document: _node(document)["inputs"].pop(1),
    "too-many-outputs": lambda document: _node(document)["outputs"].append({"as_tensor": {"name": "more"}}),
    "wrong-type": lambda document: document["graph_module"]["graph"]["tensor_values"]["conv2d"].update(dtype=5),
    "wrong-shape": lambda document: document["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"].pop(),
    "no-version": lambda document: document.pop("schema_version"),
    "not-an-expression": lambda document: document["graph_module"]["graph"]["tensor_values"]["image"][
        "sizes"
    ].__setitem__(0, {"as_expr": {"expr_str": "Symbol('s0', __import__('os'))"}}),
    "deep-expression": lambda document: document["graph_module"]["graph"]["tensor_values"]["image"][
        "sizes"
    ].__setitem__(0, {"as_expr": {"expr_str": "Add(" * 5000 + "Integer(1)" + ")" * 5000}}),
    "deep-structure": lambda document: document["graph_module"]["module_call_graph"][0]["signature"].update(
        out_spec="[1, " + '{"type": "t", "context": null, "children_spec": [' * 50_000
    ),
    "missing-output": lambda document: document["graph_module"]["signature"]["output_specs"][0]["user_output"].update(
        arg={"as_tensor": {"name": "nowhere"}}
    ),
}


@pytest.mark.parametrize("name", MODEL_ATTACKS)
def test_programs_that_break_the_schema(name: str, edit: Any) -> None:
    with pytest.raises(IsomorphError) as caught:
        read(edit(MODEL, MODEL_ATTACKS[name]))
    assert caught.value.exit_code == 4


def test_unknown_operations_and_versions(edit: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"os\.system"):
        read(edit(MODEL, lambda document: _node(document).update(target="os.system")))
    with pytest.raises(UnsupportedError, match=r"9\.20"):
        read(edit(MODEL, lambda document: document["schema_version"].update(major=9)))
    with pytest.raises(UnsupportedError, match="big-endian"):
        read(edit(byteorder=b"big"))


def test_documents_that_are_no_json(edit: Any) -> None:
    for data in (b"", b"[" * 100_000, b"\xff\xfe", b"{}", b"[]", b"null"):
        with pytest.raises(MalformedError):
            read(edit(models__model_json=data))
    with pytest.raises(UnsupportedError, match="no exported program"):
        read(edit(models__model_json=None))
    with pytest.raises(MalformedError):
        read(edit(data__weights__weight_0=None))


def test_truncated_files(tmp_path: Path) -> None:
    good = DIGITS.read_bytes()
    for size in (0, 4, 100, len(good) // 2, len(good) - 100, len(good) - 1):
        path = tmp_path / "short.pt2"
        path.write_bytes(good[:size])
        with pytest.raises(MalformedError):
            read(path)


def test_fuzzed_programs_raise_typed_errors(edit: Any) -> None:
    """Random edits of the program's JSON: whatever happens is an IsomorphError, or a model."""
    choice = random.Random(0)
    junk: list[Json] = [None, -1, 0, 1 << 70, 1.5, "", "s0", [], {}, True, [1], {"as_int": 2}, "Infinity"]

    def alter(document: Json) -> None:
        for _ in range(choice.randint(1, 4)):
            place = document
            while isinstance(place, dict | list) and place:
                keys = list(place) if isinstance(place, dict) else range(len(place))
                key = choice.choice(list(keys))
                if choice.random() < 0.15 or not isinstance(place[key], dict | list):
                    place[key] = choice.choice(junk)
                    break
                place = place[key]

    for _ in range(150):
        try:
            read(edit(choice.choice([MODEL, MODEL, WEIGHTS]), alter))
        except IsomorphError:
            continue


STRUCTURES = {
    "dict": ("builtins.dict", '["first", "se cond"]', ["first", "se_cond"]),
    "default dict": ("collections.defaultdict", '["builtins.list", ["first", "second"]]', ["first", "second"]),
    "data class": ("m.Data", '[["first", "second"], []]', ["first", "second"]),
    "data class with a None": ("m.Data", '[["first", "second"], ["third"]]', ["first", "second"]),
    "named tuple": ("collections.namedtuple", "m.Pair", ["output_0", "output_1"]),
    "text of the user's": ("m.Own", "(a|b", ["output_0", "output_1"]),
    "number of the user's": ("m.Own", "3", ["output_0", "output_1"]),
    "tuple": ("builtins.tuple", "null", ["output_0", "output_1"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_names_of_returned_structures(name: str) -> None:
    kind, context, expected = STRUCTURES[name]
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf, leaf]}])
    assert output_names(spec, 2) == expected
