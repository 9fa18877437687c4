"""`--input NAME=SHAPE[:DTYPE]`, shapes in Python, and `--data`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isomorph.errors import MalformedError, UsageError
from isomorph.inputs import open_data, parse_inputs, read_data, read_inputs
from isomorph.ir import DType, Sym
from isomorph.report_options import Saving


def test_shapes_with_numbers_names_and_expressions() -> None:
    read = parse_inputs(["x=1,3,224,224", "y=N,3,H,W:float16", "z=N,2*S", "w=N,max(S, 7)", "s=:bool"])
    n, h, w, s = (Sym(name) for name in ("N", "H", "W", "S"))
    assert read["x"] == ((1, 3, 224, 224), None)
    assert read["y"] == ((n, 3, h, w), DType.FLOAT16)
    assert read["z"] == ((n, 2 * s), None)
    assert str(read["w"][0][1]) == "max(S, 7)"
    assert read["s"] == ((), DType.BOOL)


def test_names_may_hold_what_frameworks_put_in_them() -> None:
    assert set(parse_inputs(["serving_default_x:0=1,3", "a/b=2", "k=v=3"])) == {"serving_default_x:0", "a/b", "k=v"}


def test_python_shapes_as_sequences_and_as_text() -> None:
    n = Sym("N")
    assert read_inputs({"x": ("N", 3), "y": [1, 2], "z": "N,3:int64"}) == {
        "x": ((n, 3), None),
        "y": ((1, 2), None),
        "z": ((n, 3), DType.INT64),
    }
    assert read_inputs(None) is None


@pytest.mark.parametrize(
    "text", ["x", "=1,2", "x=1,,2", "x=1,?", "x=None,3", "x=-1", "x=1.5", "x=1,2:floot", "x=a b", "x=1;2"]
)
def test_what_cannot_be_read_is_quoted(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_inputs([text])
    assert "cannot read" in raised.value.what
    assert repr(text) in raised.value.what
    assert raised.value.advice


def test_data_is_read_by_name_and_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", x=np.arange(3.0), y=np.ones((1, 2)))
    read = read_data(tmp_path / "good.npz")
    assert read is not None
    assert set(read) == {"x", "y"}
    assert read["x"].tolist() == [0.0, 1.0, 2.0]
    assert read_data(None) is None
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(UsageError, match="one array without a name"):
        read_data(tmp_path / "one.npy")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with pytest.raises(MalformedError, match="cannot read"):
        read_data(tmp_path / "objects.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:100])
    with pytest.raises(MalformedError, match="cannot read"):
        read_data(tmp_path / "cut.npz")
    with pytest.raises(UsageError, match="no such file"):
        read_data(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("return 5", "gave int where inputs by name were due"),
        ("return None", "gave NoneType where inputs by name were due"),
        ("return [[1, 2]]", "gave list where inputs by name were due"),
        ("return []", "gave no inputs"),
        ("raise SystemExit(7)", "raised SystemExit: 7"),
        ("raise RuntimeError('no data today')", "raised RuntimeError: no data today"),
    ],
)
def test_a_function_that_gives_no_inputs(
    made: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    name = f"loader_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(f"def data():\n    {made}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        open_data(f"{name}:data", None)
    assert said in raised.value.what


def test_outputs_go_to_files_of_their_own(tmp_path: Path) -> None:
    """Nor over what is read. The certificate is two files."""
    certificate, page, inputs = tmp_path / "c.json", tmp_path / "page.html", tmp_path / "inputs.npz"
    inputs.write_bytes(b"")
    Saving([page], tmp_path / "worst.npz", certificate).check([Path("/dev/null"), Path("/dev/null")], [inputs])
    for saving, beside, said in (
        (Saving([page, page]), [], "page.html is named for two outputs"),
        (Saving([page], None, certificate), [certificate], "c.json is named for two outputs"),
        (Saving((), tmp_path / "c.json.npz", certificate), [], "c.json.npz is named for two outputs"),
        (Saving((), inputs), [], "inputs.npz is read, and would be written over"),
    ):
        with pytest.raises(UsageError) as raised:
            saving.check(beside, [inputs])
        assert said in raised.value.what
