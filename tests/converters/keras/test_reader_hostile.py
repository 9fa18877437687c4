"""Files from strangers: whatever a configuration or a weights file asks for, the reader answers with a typed error."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from isomorph.converters.keras.reader import read
from isomorph.errors import MalformedError, ModelError, UnsafeError, UnsupportedError
from isomorph.ir import Model
from isomorph.ir.evaluate import evaluate

INPUT = {"class_name": "InputLayer", "config": {"batch_shape": [None, 3], "dtype": "float32", "name": "x"}, "name": "x"}
FORBIDDEN = ("exec", "compile", "marshal.loads", "pickle.find_class", "subprocess.Popen", "os.system", "socket.connect")
watching = False
caught: list[str] = []


def _importing() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _audit(event: str, args: tuple[object, ...]) -> None:
    """Note forbidden events, except where Python loads an installed module for the first time."""
    if not watching:
        return
    if (event in FORBIDDEN and not _importing()) or (event == "open" and "canary" in str(args[0])):
        caught.append(event)


sys.addaudithook(_audit)


def watched(path: Path) -> Model:
    """`read`, during which no code is executed or compiled, nothing connects and no canary is opened."""
    global watching  # noqa: PLW0603  (an audit hook cannot be removed)
    caught.clear()
    watching = True
    try:
        return read(path)
    finally:
        watching = False
        assert caught == []


def dense(**config: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": "d", "units": 2, "activation": "linear", **config}, "name": "d"}


def node(*sources: str) -> list[dict[str, Any]]:
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}} for source in sources]
    return [{"args": tensors, "kwargs": {}}]


def functional(*layers: dict[str, Any], output: str = "d") -> dict[str, Any]:
    first = {**INPUT, "inbound_nodes": []}
    config = {"name": "m", "layers": [first, *layers], "input_layers": [["x", 0, 0]], "output_layers": [[output, 0, 0]]}
    return {"module": "keras", "class_name": "Functional", "config": config}


def plain(group: Any) -> None:
    group["layers/dense/vars/0"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    group["layers/dense/vars/1"] = np.zeros(2, np.float32)


def archive(folder: Path, config: Any, weights: Callable[[Any], None] = plain, *, text: str | None = None) -> Path:
    with h5py.File(folder / "w.h5", "w") as file:
        weights(file)
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        made.writestr("config.json", json.dumps(config) if text is None else text)
        made.write(folder / "w.h5", "model.weights.h5")
    return path


GOOD = functional({**dense(), "inbound_nodes": node("x")})


def test_the_harmless_model_reads(tmp_path: Path) -> None:
    model = watched(archive(tmp_path, GOOD))
    made = evaluate(model, {"x": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(made["d"], [[6, 9], [6, 9]])
    assert list(model.parameters()) == ["d/kernel", "d/bias"]


CODE = {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}
OLD_CODE = {"name": "d", "function": ["4wEAAAA=", None, None], "function_type": "lambda"}
INSIDE = {"class_name": "Lambda", "config": {"name": "e"}}
CUSTOM = [
    ("lambda", {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "d", "function": CODE}}),
    ("lambda_keras2", {"class_name": "Lambda", "config": OLD_CODE}),
    (
        "saved",
        {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"name": "d", "filepath": "/tmp/canary"}},
    ),
    ("module", {"class_name": "system", "module": "os", "config": {"name": "d"}, "registered_name": None}),
    ("builtins", {"class_name": "function", "module": "builtins", "config": {"name": "d"}, "registered_name": "exec"}),
    ("lookalike", {"class_name": "Dense", "module": "kerasx.layers", "config": {"name": "d", "units": 2}}),
    ("registered", {"class_name": "Mine", "module": None, "registered_name": "pkg>Mine", "config": {"name": "d"}}),
    ("unknown", {"class_name": "Mine", "config": {"name": "d"}}),
    ("wrapped", {"class_name": "TimeDistributed", "config": {"name": "d", "layer": INSIDE}}),
]


@pytest.mark.parametrize("layer", [layer for _, layer in CUSTOM], ids=[name for name, _ in CUSTOM])
def test_code_and_custom_classes_are_refused(tmp_path: Path, layer: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as caught_error:
        watched(archive(tmp_path, functional({**layer, "name": "d", "inbound_nodes": node("x")})))
    assert any(item.where in ("d", "d/e") for item in caught_error.value.items)


def test_every_unknown_layer_is_listed(tmp_path: Path) -> None:
    layers = [{"class_name": name, "config": {"name": name}, "inbound_nodes": node("x")} for name in ("A", "B", "C")]
    with pytest.raises(UnsupportedError) as caught_error:
        watched(archive(tmp_path, functional(*layers, output="A")))
    assert [item.op for item in caught_error.value.items] == ["A", "B", "C"]


def test_what_reads_the_second_output_of_a_refused_layer_is_not_malformed(tmp_path: Path) -> None:
    config = {"name": "a", "indices_or_sections": 2, "axis": 1}
    split = {"class_name": "Split", "module": "keras.src.ops.numpy", "config": config, "inbound_nodes": node("x")}
    second = [{"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": ["a", 0, 1]}}], "kwargs": {}}]
    with pytest.raises(UnsupportedError, match="for 3 elements") as caught_error:
        watched(archive(tmp_path, functional({**split, "name": "a"}, {**dense(), "inbound_nodes": second})))
    assert [item.op for item in caught_error.value.items] == ["ops.Split"]


def test_quantized_layers_are_refused(tmp_path: Path) -> None:
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8", "source_name": "float32"}}
    with pytest.raises(UnsupportedError, match=r"quantized weights \(int8\)"):
        watched(archive(tmp_path, functional({**dense(dtype=policy), "inbound_nodes": node("x")})))


def test_a_function_among_the_arguments_is_unsafe(tmp_path: Path) -> None:
    call = [{"args": [{"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}], "kwargs": {}}]
    with pytest.raises(UnsafeError):
        watched(archive(tmp_path, functional({**dense(), "inbound_nodes": call})))


def deep(levels: int) -> dict[str, Any]:
    model: dict[str, Any] = dense()
    for _ in range(levels):
        model = {"class_name": "Sequential", "config": {"name": "d", "layers": [model]}, "name": "d"}
    return functional({**model, "inbound_nodes": node("x")})


NO_HISTORY = [{"args": [{"class_name": "__keras_tensor__", "config": {}}], "kwargs": {}}]
NEGATIVE = [{**INPUT, "config": {"batch_shape": [None, -3]}}, dense()]
MALFORMED = [
    ("circle", functional({**dense(), "inbound_nodes": node("d")})),
    ("absent_layer", functional({**dense(), "inbound_nodes": node("nowhere")})),
    ("absent_output", functional({**dense(), "inbound_nodes": node("x")}, output="nowhere")),
    ("same_name", functional({**dense(), "inbound_nodes": node("x")}, {**dense(), "inbound_nodes": node("x")})),
    ("no_layers", {"class_name": "Functional", "config": {"name": "m"}}),
    ("not_a_model", {"class_name": "Dense", "config": {}}),
    ("a_list", []),
    ("config_text", functional({"class_name": "Dense", "config": "x", "name": "d", "inbound_nodes": node("x")})),
    ("nodes_text", functional({**dense(), "inbound_nodes": "x"})),
    ("nodes_number", functional({**dense(), "inbound_nodes": [1]})),
    ("history", functional({**dense(), "inbound_nodes": NO_HISTORY})),
    ("deep", deep(60)),
    ("negative_shape", {"class_name": "Sequential", "config": {"name": "m", "layers": NEGATIVE}}),
]  # fmt: skip


@pytest.mark.parametrize("config", [config for _, config in MALFORMED], ids=[name for name, _ in MALFORMED])
def test_broken_configurations(tmp_path: Path, config: Any) -> None:
    with pytest.raises(MalformedError):
        watched(archive(tmp_path, config))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"class_name": "Functional"', "\ufeff{}", "null", "1e999"])
def test_broken_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(MalformedError):
        watched(archive(tmp_path, None, text=text))


def external_link(file: Any) -> None:
    file["layers/dense/vars/0"] = h5py.ExternalLink("canary.h5", "/secret")


def external_group(file: Any) -> None:
    file["layers/dense"] = h5py.ExternalLink("canary.h5", "/")


def soft_link(file: Any) -> None:
    plain(file)
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense/vars/1")


def external_storage(file: Any) -> None:
    file.create_dataset("layers/dense/vars/0", (3, 2), "f4", external=[("canary.bin", 0, 24)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("canary.h5", "secret", (3, 2))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


UNSAFE = (external_link, external_group, soft_link, external_storage, virtual)


@pytest.mark.parametrize("weights", UNSAFE, ids=lambda weights: weights.__name__)
def test_weights_that_reach_out_of_the_file(tmp_path: Path, weights: Callable[[Any], None]) -> None:
    path = archive(tmp_path, GOOD, weights)
    (tmp_path / "canary.bin").write_bytes(b"canary")
    with pytest.raises(UnsafeError):
        watched(path)


def missing(file: Any) -> None:
    file["layers/dense/vars/0"] = np.zeros((3, 2), np.float32)


def one_more(file: Any) -> None:
    plain(file)
    file["layers/dense/vars/2"] = np.zeros(2, np.float32)


def text_elements(file: Any) -> None:
    file["layers/dense/vars/0"] = np.array([b"x"])


def records(file: Any) -> None:
    file["layers/dense/vars/0"] = np.zeros(3, [("a", "f4"), ("b", "f4")])


def huge_unwritten(file: Any) -> None:
    file.create_dataset("layers/dense/vars/0", (1 << 40, 1 << 20), "f4", chunks=(1024, 1024))


def huge_bomb(file: Any) -> None:
    made = file.create_dataset("layers/dense/vars/0", (1 << 40,), "f4", chunks=(1 << 16,), compression="gzip")
    made[:10] = 0


def a_group(file: Any) -> None:
    file.create_group("layers/dense/vars/0")


def another_shape(file: Any) -> None:
    file["layers/dense/vars/0"] = np.zeros((4, 2), np.float32)
    file["layers/dense/vars/1"] = np.zeros(2, np.float32)


BROKEN = (missing, one_more, text_elements, records, huge_unwritten, huge_bomb, a_group, another_shape)


@pytest.mark.parametrize("weights", BROKEN, ids=lambda weights: weights.__name__)
def test_broken_weights(tmp_path: Path, weights: Callable[[Any], None]) -> None:
    with pytest.raises(ModelError):
        watched(archive(tmp_path, GOOD, weights))


def test_truncated_files(tmp_path: Path) -> None:
    path = archive(tmp_path, GOOD)
    whole = path.read_bytes()
    for count in range(0, len(whole), max(len(whole) // 40, 1)):
        path.write_bytes(whole[:count])
        with pytest.raises(ModelError):
            watched(path)


def test_flipped_bytes_are_never_a_crash(tmp_path: Path) -> None:
    """A flipped byte gives a model or a typed error; the checksum of a stored member is not ours to trust."""
    whole = bytearray((tmp_path / "w.h5").read_bytes()) if archive(tmp_path, GOOD) else bytearray()
    path = tmp_path / "flipped.keras"
    random = np.random.default_rng(3)
    for place in random.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("config.json", json.dumps(GOOD))
            made.writestr("model.weights.h5", bytes(changed))
        try:
            for parameter in watched(path).parameters().values():
                parameter.data.numpy()
        except ModelError:
            continue


def test_compressed_weights_are_read_from_memory(tmp_path: Path) -> None:
    path = archive(tmp_path, GOOD)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("config.json", json.dumps(GOOD))
        made.write(tmp_path / "w.h5", "model.weights.h5")
    assert watched(path).parameters()["d/kernel"].data.numpy().sum() == 15


def test_chunked_weights_are_read_when_asked(tmp_path: Path) -> None:
    def chunked(file: Any) -> None:
        file.create_dataset(
            "layers/dense/vars/0", data=np.arange(6, dtype=">f4").reshape(3, 2), chunks=(2, 2), compression="gzip"
        )
        file["layers/dense/vars/1"] = np.zeros(2, np.float32)

    assert watched(archive(tmp_path, GOOD, chunked)).parameters()["d/kernel"].data.numpy().sum() == 15


def test_reading_imports_no_framework(tmp_path: Path) -> None:
    path = archive(tmp_path, GOOD)
    code = (
        "import sys; from pathlib import Path; from isomorph.converters.keras.reader import read; "
        "read(Path(sys.argv[1])); "
        "print([name for name in ('keras', 'tensorflow', 'torch', 'jax', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
