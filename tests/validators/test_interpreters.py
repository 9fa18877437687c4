"""Runners in other interpreters, by other runtimes, and what --runner and --device say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import isomorph
from isomorph.errors import RunnerError, UsageError
from isomorph.runtimes import choose_runners
from isomorph.validators import ModelFile, RunnerChoice, Verdict, Worker, validate

OTHER = os.environ.get("ISOMORPH_OTHER_PYTHON")
"""An interpreter with NumPy and any onnxruntime, for example Python 3.9 with onnxruntime 1.10."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A dense layer that every onnxruntime since 1.8 runs."""
    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "dense", [x], [y], [numpy_helper.from_array(weights, "w")])
    path = tmp_path / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), str(path))
    return path


def test_the_guest_in_this_interpreter(model: Path) -> None:
    report = isomorph.validate(model, model, runners=[f"target=onnxruntime={sys.executable}"])
    assert report.verdict is Verdict.EQUIVALENT
    environment = report.signatures[1].environment
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["network"] in ("none (own namespace)", "not confined")


def test_a_guest_has_no_float64_run(model: Path) -> None:
    report = isomorph.validate(model, model, runners=[f"source=onnxruntime={sys.executable}"])
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "no float64 run" in report.reasons[0]


@pytest.mark.skipif(OTHER is None, reason="ISOMORPH_OTHER_PYTHON names no interpreter with another onnxruntime")
def test_another_interpreter(model: Path) -> None:
    report = isomorph.validate(model, model, runners=[f"target=onnxruntime={OTHER}"])
    assert report.verdict is Verdict.EQUIVALENT
    here, there = (signature.environment["runtime"] for signature in report.signatures)
    assert here != there


def test_the_guest_speaks_old_python() -> None:
    """Every file compiles under the oldest interpreter at hand, at least as the grammar of 3.8."""
    import ast

    for path in sorted((Path(isomorph.validators.__file__).parent / "guest").glob("*.py")):
        ast.parse(path.read_text(), feature_version=(3, 8))
        if OTHER is not None:
            subprocess.run([OTHER, "-c", f"compile(open({str(path)!r}).read(), 'guest', 'exec')"], check=True)


@pytest.mark.skipif(not any(Path(p, "tensorflow").is_dir() for p in sys.path), reason="tensorflow is not installed")
def test_a_saved_model_has_names_and_no_order() -> None:
    """Its maps come in another order each time that they are read. TensorFlow must not be imported beside PyTorch."""
    script = (
        "from types import SimpleNamespace as Fake\n"
        "import numpy as np\n"
        "from isomorph.validators.guest.tensorflow import SavedModel\n"
        "specs = {f'output_{index}': Fake(shape=(), dtype=np.dtype('float32')) for index in (10, 2, 1)}\n"
        "function = Fake(structured_input_signature=((), {}), structured_outputs=specs)\n"
        "signature = SavedModel(Fake(signatures={'f': function}), 'cpu').signature()\n"
        "assert [each['name'] for each in signature['outputs']] == ['output_1', 'output_2', 'output_10']\n"
        "assert signature['ordered'] is False\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_onnx_reference(model: Path) -> None:
    report = isomorph.validate(model, model, runners=["target=onnx.reference"])
    assert report.verdict is Verdict.EQUIVALENT
    assert report.signatures[1].environment["runtime"].startswith("onnx.reference")
    assert report.signatures[1].inputs == report.signatures[0].inputs


def test_settings_are_recorded(model: Path) -> None:
    with Worker(ModelFile(model, "onnx"), role="reference") as worker:
        environment = worker.signature().environment
    assert environment["threads"] == 1
    assert environment["provider"] == "CPUExecutionProvider"
    assert environment["graph_optimizations"] == "disabled"


def test_what_the_options_say() -> None:
    onnx_keras = ("onnxruntime", "keras")
    assert choose_runners([], [], onnx_keras) == (RunnerChoice(), RunnerChoice())
    source, target = choose_runners(["keras:torch"], ["target=cuda:1"], onnx_keras)
    assert (source, target) == (RunnerChoice(), RunnerChoice("keras", "torch", None, "cuda:1"))
    source, target = choose_runners([f"target=program={sys.executable}"], ["cuda"], onnx_keras)
    assert (source.device, target.name, target.device) == ("cuda", "program", "cuda")
    same = choose_runners([f"onnxruntime={sys.executable}"], [], ("onnxruntime", "onnxruntime"))
    assert [choice.python for choice in same] == [str(Path(sys.executable).absolute())] * 2


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        ("caffe", "no runner is named 'caffe'"),
        ("torch", "runs neither side"),
        ("source=keras", "runs neither side"),
        ("onnxruntime:jax", "has no backend"),
        ("keras:caffe", "has no backend"),
        ("program", "names no program"),
        (f"program={sys.executable}", "does not say which side"),
        ("onnxruntime=/no/such/python", "is not an executable"),
    ],
)
def test_options_that_are_wrong(runner: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        choose_runners([runner], [], ("onnxruntime", "keras"))
    assert said in str(error.value)


def test_devices_that_cannot_be_read() -> None:
    with pytest.raises(UsageError, match="cannot read --device"):
        choose_runners([], ["gpu 0"], ("onnxruntime", "keras"))


@pytest.mark.slow
@pytest.mark.skipif(not any(Path(p, "tensorflow").is_dir() for p in sys.path), reason="tensorflow is not installed")
def test_tflite_and_saved_models(tmp_path: Path) -> None:
    """A network as SavedModel, as TFLite and as Keras file, written in a process of its own."""
    script = (
        "import sys, keras, tensorflow as tf\n"
        "keras.utils.set_random_seed(0)\n"
        "x = keras.Input((8, 8, 3), name='x')\n"
        "h = keras.layers.Conv2D(4, 3, activation='relu')(x)\n"
        "h = keras.layers.Dense(5)(keras.layers.Flatten()(h))\n"
        "m = keras.Model(x, h)\n"
        "m.save(sys.argv[1] + '/m.keras')\n"
        "m.export(sys.argv[1] + '/saved', verbose=False)\n"
        "lite = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + '/saved').convert()\n"
        "open(sys.argv[1] + '/m.tflite', 'wb').write(lite)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    for target in (ModelFile(tmp_path / "m.tflite", "tflite"), ModelFile(tmp_path / "saved", "saved-model")):
        report = validate(ModelFile(tmp_path / "m.keras", "keras"), target)
        assert report.verdict is Verdict.EQUIVALENT, report.as_dict()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_backends_of_keras(backend: str, tmp_path: Path, requires: Callable[..., None]) -> None:
    """Neither is imported here: TensorFlow must not come before PyTorch in one process."""
    requires("keras", backend)
    path = tmp_path / "m.keras"
    script = (
        "import sys, keras\n"
        "keras.utils.set_random_seed(0)\n"
        "x = keras.Input((5,), name='x')\n"
        "keras.Model(x, keras.layers.Dense(3, activation='gelu')(x)).save(sys.argv[1])\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, env=environment)
    report = isomorph.validate(path, path, runners=[f"source=keras:{backend}", f"target=keras:{backend}"])
    assert report.verdict is Verdict.EQUIVALENT
    assert f"({backend} " in report.signatures[0].environment["runtime"]


def test_exported_programs_in_another_interpreter(tmp_path: Path) -> None:
    """Names of inputs and outputs, open sizes and nested results are those of the runner of this installation."""
    torch = pytest.importorskip("torch")

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(6, 8)
            self.register_buffer("count", torch.zeros(8))

        def forward(self, x: object, mask: object) -> object:
            y = self.line(x) + self.count
            return {"y": y * mask[:, None], "pair": (y.sum(-1), [x.mean()])}  # type: ignore[index, attr-defined]

    class Counting(Network):
        def forward(self, x: object, mask: object) -> object:
            self.count += 1  # type: ignore[has-type]
            return super().forward(x, mask)

    size = torch.export.Dim("N")
    for module, name in ((Network(), "m.pt2"), (Counting(), "counting.pt2")):
        arguments = (torch.zeros(3, 6), torch.ones(3))
        program = torch.export.export(module.eval(), arguments, dynamic_shapes=({0: size}, {0: size}))
        torch.export.save(program, tmp_path / name)
    report = isomorph.validate(tmp_path / "m.pt2", tmp_path / "m.pt2", runners=[f"target=torch={sys.executable}"])
    assert report.verdict is Verdict.EQUIVALENT, report.reasons
    here, there = report.signatures
    assert [spec.shape for spec in here.outputs] == [spec.shape for spec in there.outputs]
    assert {pair.how for pair in (*report.pairing.inputs, *report.pairing.outputs)} == {"name"}
    path = tmp_path / "counting.pt2"
    with pytest.raises(RunnerError, match="runs no program that changes `count` in place"):
        isomorph.validate(path, path, runners=[f"target=torch={sys.executable}"])


def test_a_keras_older_than_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Keras raises of a newer form is a TypeError about an argument; the reader wants the two versions."""
    from isomorph.validators.guest import Refusal
    from isomorph.validators.guest import keras as guest

    def load_model(path: str, *, compile: bool) -> None:
        raise TypeError("get_tensor() takes 3 positional arguments but 5 were given")

    old = SimpleNamespace(__version__="3.3.3", models=SimpleNamespace(load_model=load_model))
    monkeypatch.setattr(guest, "_keras", lambda: old)
    monkeypatch.setattr(guest.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "m.keras"
    for version in ("3.15.1", "3.3.3"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        with pytest.raises(Refusal if version != "3.3.3" else TypeError) as raised:
            guest.open_model({"path": str(path)}, "target", "cpu")
        if version != "3.3.3":
            assert str(raised.value) == "Keras 3.3.3 cannot read a file in the form of Keras 3.15.1"
