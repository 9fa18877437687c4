"""Certificates: the same bytes twice, replayed with the target alone, and what spoils them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isomorph.cli import main
from isomorph.errors import MalformedError, RunnerError, UsageError
from isomorph.validators import ModelFile, Verdict
from isomorph.validators.certificates.certificate import Certificate, fingerprint, read_certificate
from isomorph.validators.certificates.record import Recording, pack, question, unpack
from isomorph.validators.certificates.verify import certified_target, verify
from isomorph.validators.npz import npz_bytes
from isomorph.validators.training.trial import Training

WEIGHTS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def save(path: Path, weights: np.ndarray, *, name: str = "g", external: bool = False) -> Path:
    """x (N, 6) -> y (N, 4) = x W."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, str(path), save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two certificates of one pair, made in two runs, with data of the user's."""
    folder = tmp_path_factory.mktemp("certified")
    source, target = save(folder / "source.onnx", WEIGHTS), save(folder / "target.onnx", WEIGHTS)
    np.savez(folder / "data.npz", x=np.float32([[1, 2, 3, 4, 5, 6]]))
    for name in ("a.json", "b.json"):
        arguments = [str(source), str(target), "--data", str(folder / "data.npz"), "--certificate", str(folder / name)]
        assert main(["validate", *arguments]) == 0
    return folder


@pytest.fixture
def certificate(certified: Path) -> Certificate:
    return read_certificate(certified / "a.json")


def test_two_runs_give_the_same_bytes(certified: Path) -> None:
    assert (certified / "a.json").read_bytes() == (certified / "b.json").read_bytes()
    assert (certified / "a.json.npz").read_bytes() == (certified / "b.json.npz").read_bytes()


def test_the_same_target_holds_bit_for_bit(certified: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(certified / "a.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["identical"], found["same_file"]) == ("EQUIVALENT", True, True)
    assert "data N=1" in found["report"]["cases"]


def test_models_of_the_zoo_leave_no_path_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judged from two folders: the same bytes; the target is found again by its name in the zoo."""
    written = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert main(["validate", "zoo:digits-cnn.onnx", "zoo:digits-cnn.onnx", "--certificate", "c.json"]) == 0
        written.append((Path("c.json").read_bytes(), Path("c.json.npz").read_bytes()))
    assert written[0] == written[1]
    assert json.loads(written[0][0])["target"]["model"] == "zoo:digits-cnn.onnx"
    root = Path(__file__).resolve().parents[3]
    for machine in (root, tmp_path, Path.home(), Path(sys.prefix)):
        assert str(machine).encode() not in written[0][0]
    capsys.readouterr()
    assert main(["verify", "c.json"]) == 0
    assert "zoo:digits-cnn.onnx" in capsys.readouterr().out


@pytest.mark.parametrize("stated", ["EQUIVALENT", "DIFFERENT"])
def test_training_is_certified_and_not_asked_again(certificate: Certificate, tmp_path: Path, stated: str) -> None:
    """The certificate of a pair whose outputs agree, as `--train` leaves it."""
    training = Training(2, Verdict(stated), [] if stated == "EQUIVALENT" else ["gradient of w: 40 times"])
    told = [f"training: {reason}" for reason in training.reasons]
    report = {**certificate.content["report"], "training": training.as_dict(), "reasons": told}
    trained = replace(certificate, content={**certificate.content, "report": report, "verdict": stated})
    target = certified_target(trained)
    found = verify(trained, target)
    assert (found.verdict, found.training, found.reasons) == (Verdict(stated), Verdict(stated), tuple(told))
    other = ModelFile(save(tmp_path / "target.onnx", np.nextafter(WEIGHTS, np.float32(9))), "onnx")
    found = verify(trained, other, changed=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons == ("training was certified of other bytes, and it is not asked again",)


def test_another_file_is_not_the_certified_one(certificate: Certificate, tmp_path: Path) -> None:
    target = ModelFile(save(tmp_path / "target.onnx", WEIGHTS, name="saved_again"), "onnx")
    found = verify(certificate, target)
    assert (found.verdict, found.identical, found.same_file) == (Verdict.INCONCLUSIVE, True, False)
    assert "SHA-256" in found.reasons[0]
    assert verify(certificate, target, changed=True).verdict is Verdict.EQUIVALENT


def test_a_target_with_a_fault_is_different(certificate: Certificate, tmp_path: Path) -> None:
    target = ModelFile(save(tmp_path / "target.onnx", WEIGHTS[::-1].copy()), "onnx")
    found = verify(certificate, target, changed=True)
    assert (found.verdict, found.exit_code, found.identical) == (Verdict.DIFFERENT, 1, False)


def test_a_target_that_rounds_otherwise_is_judged_by_the_budgets(certificate: Certificate, tmp_path: Path) -> None:
    nudged = np.nextafter(WEIGHTS, np.float32(9))
    found = verify(certificate, ModelFile(save(tmp_path / "target.onnx", nudged), "onnx"), changed=True)
    assert (found.verdict, found.identical) == (Verdict.EQUIVALENT, False)


def test_a_changed_certificate_is_refused(certified: Path, tmp_path: Path) -> None:
    text = (certified / "a.json").read_text()
    (tmp_path / "c.json").write_text(text.replace('"verdict": "EQUIVALENT"', '"verdict": "DIFFERENT"', 1))
    shutil.copy(certified / "a.json.npz", tmp_path / "c.json.npz")
    with pytest.raises(MalformedError, match="digest"):
        read_certificate(tmp_path / "c.json")


def test_another_npz_is_refused(certified: Path, tmp_path: Path) -> None:
    shutil.copy(certified / "a.json", tmp_path / "c.json")
    with pytest.raises(UsageError, match="missing"):
        read_certificate(tmp_path / "c.json")
    (tmp_path / "c.json.npz").write_bytes(npz_bytes({"x": np.zeros(3)}))
    with pytest.raises(MalformedError, match="not the file"):
        read_certificate(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"certificate": 1}', '{"certificate": 2}', "\x00"])
def test_what_is_no_certificate(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(MalformedError):
        read_certificate(tmp_path / "c.json")


def test_the_target_is_found_beside_the_certificate(certified: Path, tmp_path: Path) -> None:
    for name in ("a.json", "a.json.npz", "target.onnx"):
        shutil.copy(certified / name, tmp_path / name)
    read = read_certificate(tmp_path / "a.json")
    assert certified_target(read).path == certified / "target.onnx"
    with pytest.raises(UsageError, match="no such file"):
        certified_target(read, tmp_path / "nothing.onnx")


def test_external_data_is_hashed(tmp_path: Path) -> None:
    model = ModelFile(save(tmp_path / "m.onnx", WEIGHTS, external=True), "onnx")
    first = fingerprint(model)
    assert [entry["name"] for entry in first] == ["m.onnx", "weights.bin"]
    with (tmp_path / "weights.bin").open("ab") as stream:
        stream.write(b"\0")
    assert fingerprint(model)[1] != first[1]


def test_a_folder_is_hashed_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    for name in ("saved_model.pb", "variables/index"):
        (tmp_path / name).write_bytes(name.encode())
    found = fingerprint(ModelFile(tmp_path, "saved_model"))
    assert [(entry["name"], entry["size"]) for entry in found] == [("saved_model.pb", 14), ("variables/index", 15)]


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.int64, np.bool_, np.complex64, ml_dtypes.bfloat16, ml_dtypes.int4]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_of_any_type_come_back(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes(pack("q", {"y": array})))
    with np.load(path) as loaded:
        back = unpack({name: loaded[name] for name in loaded.files}, ["y"])["q"]["y"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_recording_answers_its_questions_only(certificate: Certificate) -> None:
    recording = Recording(certificate.signature, certificate.answers, {})
    with pytest.raises(RunnerError, match="no answer"):
        recording.run({"x": np.full((1, 6), 7.5, np.float32)})
    with pytest.raises(NotImplementedError):
        recording.run({"x": np.zeros((1, 6), np.float32)}, taps=["y"])


def test_questions_differ_by_name_type_shape_and_precision() -> None:
    zeros = np.zeros((2, 3), np.float32)
    asked = [
        question({"x": zeros}, "native"),
        question({"y": zeros}, "native"),
        question({"x": zeros.reshape(3, 2)}, "native"),
        question({"x": zeros.astype(np.int32)}, "native"),
        question({"x": zeros}, "float64"),
    ]
    assert len(set(asked)) == len(asked)
