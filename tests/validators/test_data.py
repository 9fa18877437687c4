"""--data in all its forms: arrays by name, a folder of images, the user's own function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isomorph.errors import UsageError
from isomorph.images import ImageFolder, parse_images
from isomorph.inputs import DATA_CASES, open_data
from isomorph.validators import Signature, TensorSpec
from isomorph.validators.inputs import data_cases, plan

IMAGE = Signature((TensorSpec("image", "float32", ("N", 3, 4, 6)),), (), {"N": (1, None)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for index in range(6):
        pixels = rng.integers(0, 256, (4, 6, 3), np.uint8)
        np.save(tmp_path / f"{index}.npy", pixels)
        image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return tmp_path


def opened(folder: Path, text: str, signature: Signature = IMAGE) -> list[np.ndarray]:
    source = open_data(str(folder), text)
    assert isinstance(source, ImageFolder)
    return [next(iter(each.values())) for each in source.inputs(signature)]


def test_images_are_scaled_as_stated(folder: Path) -> None:
    pixels = np.stack([np.load(folder / f"{index}.npy") for index in range(4)]).astype(np.float64)
    plain, half = opened(folder, "range=0..255"), opened(folder, "range=-1..1,mean=0.1/0.2/0.3,std=2,channels=bgr")
    assert [each.shape for each in plain] == [(4, 3, 4, 6)]
    np.testing.assert_array_equal(plain[0], np.moveaxis(pixels, -1, 1).astype(np.float32))
    due = (pixels[..., ::-1] / 255 * 2 - 1 - [0.1, 0.2, 0.3]) / 2
    np.testing.assert_allclose(half[0], np.moveaxis(due, -1, 1), rtol=1e-6, atol=1e-7)


def test_layout_size_and_grey(folder: Path) -> None:
    last = Signature((TensorSpec("image", "uint8", (1, "H", "W", 3)),), (), {"H": (1, None), "W": (1, None)})
    batches = opened(folder, "size=8x10,count=3", last)
    assert [each.shape for each in batches] == [(1, 8, 10, 3)] * 3
    assert batches[0].dtype == np.uint8
    grey = Signature((TensorSpec("image", "float32", (2, 1, 4, 6)),), ())
    assert [each.shape for each in opened(folder, "range=0..1,channels=grey", grey)] == [(2, 1, 4, 6)] * 3


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("", ("N", 3, 4, 6), "must say the range"),
        ("range=0..1", ("N", 3, 4, 3), "layout=first or layout=last"),
        ("range=0..1", ("N", 3, "H", "W"), "must say the size"),
        ("range=0..1,size=5x6", ("N", 3, 4, 6), "the model takes the height 4"),
        ("range=0..1", ("N", 3), "one input of 3 or 4 axes"),
        ("range=0..1", (9, 3, 4, 6), "has 6 images, the model takes 9"),
        ("range=0..1,input=other", ("N", 3, 4, 6), "one input of 3 or 4 axes"),
    ],
)
def test_what_is_left_open_is_asked_for(text: str, shape: tuple[int | str, ...], said: str, folder: Path) -> None:
    with pytest.raises(UsageError) as error:
        opened(folder, text, Signature((TensorSpec("image", "float32", shape),), ()))
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["range=low", "size=3", "std=0", "colour=red", "layout=middle", "count=0", "range"])
def test_options_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read --images"):
        parse_images(tmp_path, text)


def test_the_report_says_what_was_done(folder: Path) -> None:
    cases, notes = data_cases(parse_images(folder, "range=0..1,count=5"), IMAGE, 0)
    assert "4 of 6 images" in notes[0]
    assert "4x6, rgb, channels first, 0..1" in notes[0]
    assert [case.family for case in cases] == ["data", "calibrated"]


def test_a_file_that_is_no_image(folder: Path) -> None:
    (folder / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UsageError, match=r"cannot read the image 0\.png"):
        opened(folder, "range=0..1")


def test_the_users_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_data.py").write_text(
        "import itertools\n"
        "def one(): return {'x': [[1.0, 2.0]]}\n"
        "def many(): return ({'x': [[float(i), 0.0]]} for i in itertools.count())\n"
        "def wrong(): return [1, 2]\n"
        "def nothing(): return []\n"
    )
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    one = open_data("users_data:one", notify=told.append)
    assert told == ["users_data:one"]
    signature = Signature((TensorSpec("x", "float32", ("N", 2)),), (), {"N": (1, None)})
    cases, _ = data_cases(one, signature, 0)  # type: ignore[arg-type]
    assert cases[0].inputs["x"].dtype == np.float32
    cases, _ = data_cases(open_data("users_data:many"), signature, 0)  # type: ignore[arg-type]
    assert len(cases) == DATA_CASES + 1
    assert [case.describe() for case in cases][:2] == ["data 1 N=1", "data 2 N=1"]
    for name in ("wrong", "nothing"):
        with pytest.raises(UsageError):
            open_data(f"users_data:{name}")


def test_calibrated_inputs_imitate_the_data() -> None:
    signature = Signature((TensorSpec("x", "float32", (1000,)), TensorSpec("i", "int64", (1000,))), ())
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(40.0, 3.0, 1000), "i": rng.integers(17, 23, 1000)}
    case = data_cases(data, signature, 0)[0][-1]
    assert abs(case.inputs["x"].mean() - 40) < 1
    assert abs(case.inputs["x"].std() - 3) < 0.5
    assert set(case.inputs["i"].tolist()) == set(range(17, 23))


def test_data_that_does_not_fit() -> None:
    signature = Signature(
        (TensorSpec("x", "float32", ("N", "S")), TensorSpec("y", "float32", ("N", 2))), (), {"N": (1, None)}
    )
    x = np.zeros((2, 3), np.float32)
    for data, said in [
        ({"x": x}, "lacks the input `y`"),
        ({"x": x, "y": x}, "has shape"),
        ({"x": x, "y": x[:, :2], "z": x}, "no input of the source"),
        ({"x": x.astype(int), "y": x[:, :2]}, "is int64"),
    ]:
        with pytest.raises(UsageError, match=said):
            data_cases(data, signature, 0)


def test_open_sizes_that_differ_are_told_apart() -> None:
    """A file that names neither gives both one name: the data know better."""
    signature = Signature((TensorSpec("x", "float32", ("d0",)), TensorSpec("y", "float32", ("d0",))), ())
    case = data_cases({"x": np.zeros(3, np.float32), "y": np.zeros(4, np.float32)}, signature, 0)[0][0]
    assert case.describe() == "data d0=3 y.d0=4"


def test_every_symbolic_size_takes_distinct_values() -> None:
    signature = Signature(
        (TensorSpec("x", "float32", ("N", 3, "H", "W")),), (), {"N": (1, None), "H": (1, None), "W": (1, None)}
    )
    cases = plan(signature, 0)
    for name in ("H", "W"):
        sizes = [case.dims[name] for case in cases]
        assert len(set(sizes)) >= 3
        assert any(size % 2 for size in sizes)
    assert all(case.dims["H"] != case.dims["W"] for case in cases)
    assert {case.dims["N"] for case in cases} == {1, 2, 3}
