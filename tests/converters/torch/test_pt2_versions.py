"""`.pt2` files that older versions of torch wrote (tests/data/pt2), against what those versions computed."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.torch.reader import read
from isomorph.errors import MalformedError, UnsupportedError
from isomorph.ir import DimRange, MappedTensor
from isomorph.ir.evaluate import evaluate

FILES = Path(__file__).resolve().parents[2] / "data" / "pt2"
SCHEMAS = {"2.5.1": "7.3", "2.6.0": "8.2", "2.7.1": "8.7", "2.8.0": "8.8"}
DTYPES = {"tokens": np.int64}


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("name", ["convolution", "tied", "sizes"])
def test_outputs_of_the_version_that_wrote_it(name: str, version: str) -> None:
    known = json.loads((FILES / f"torch-{version}.json").read_text())[name]
    model = read(FILES / f"{name}-{version}.pt2")
    assert model.source == ("torch", f"pt2 schema {SCHEMAS[version]}")
    inputs = {key: np.array(values, DTYPES.get(key, np.float32)) for key, values in known["inputs"].items()}
    assert list(model.inputs) == list(inputs)
    outputs = evaluate(model, inputs)
    for found, expected in zip(outputs.values(), known["outputs"], strict=True):
        np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("version", SCHEMAS)
def test_names_sizes_and_parameters(version: str) -> None:
    model = read(FILES / f"convolution-{version}.pt2")
    assert model.name == "Convolution"
    assert str(model.inputs["image"]) == "float32[N, 1, 5, 6]"
    assert model.dims == {"N": DimRange(1, 64)}
    parameters = model.parameters()
    assert parameters["conv.weight"].trainable
    assert parameters["norm.running_mean"].role == "buffer"
    assert all(isinstance(each.data, MappedTensor) for each in parameters.values())
    assert {node.scope.path for node in model.graph.nodes} >= {"conv", "norm", "classifier"}


@pytest.mark.parametrize("version", SCHEMAS)
def test_tied_weights_are_one_parameter(version: str) -> None:
    model = read(FILES / f"tied-{version}.pt2")
    assert list(model.outputs) == ["logits", "mixed"]
    weights = [name for name, each in model.parameters().items() if each.role == "weight"]
    assert sorted(name.partition(".")[2] or name for name in weights) == ["mixing", "weight"]


def edited(tmp_path: Path, name: str, change: dict[str, bytes | None]) -> Path:
    """A copy with members replaced, or left out where the new content is None."""
    path = tmp_path / name
    with zipfile.ZipFile(FILES / name) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            data = change.get(member, source.read(member))
            if data is not None:
                target.writestr(member, data)
    return path


def test_legacy_archives_that_lie(tmp_path: Path) -> None:
    name = "convolution-2.6.0.pt2"
    for data in (
        b"",
        b"PK\x03\x04",
        b"\x80\x02N.",
        b"\x80\x02}q\x00X\x04\x00\x00\x00evilcos\nsystem\n(X\x02\x00\x00\x00lstRs.",
    ):
        with pytest.raises(MalformedError):
            read(edited(tmp_path, name, {"serialized_state_dict.pt": data}))
    with pytest.raises(MalformedError, match="no data for"):
        read(edited(tmp_path, name, {"serialized_state_dict.pt": None}))


def test_a_weight_that_is_a_call_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(FILES / "convolution-2.6.0.pt2") as archive:
        document = json.loads(archive.read("serialized_exported_program.json"))
    names = [
        spec[kind][f"{kind}_name"]
        for spec in document["graph_module"]["signature"]["input_specs"]
        for kind in ("parameter", "buffer")
        if kind in spec
    ]
    call = b"cposix\nsystem\nX\x02\x00\x00\x00ls\x85R"
    entries = b"".join(b"X" + len(key).to_bytes(4, "little") + key.encode() + call for key in names)
    with pytest.raises(UnsupportedError, match=r"not a strided tensor"):
        read(edited(tmp_path, "convolution-2.6.0.pt2", {"serialized_state_dict.pt": b"\x80\x02}(" + entries + b"u."}))


def test_compiled_and_ambiguous_archives_are_refused(tmp_path: Path) -> None:
    compiled = tmp_path / "compiled.pt2"
    with zipfile.ZipFile(compiled, "w") as target:
        target.writestr("m/archive_format", "pt2")
        target.writestr("m/archive_version", "0")
        target.writestr("m/data/aotinductor/model/code.so", b"\x7fELF")
    with pytest.raises(UnsupportedError, match="AOTInductor"):
        read(compiled)
    several = tmp_path / "several.pt2"
    with zipfile.ZipFile(FILES / "tied-2.8.0.pt2") as source, zipfile.ZipFile(several, "w") as target:
        for member in source.namelist():
            for model in ("encoder", "decoder"):
                renamed = member.replace("/model.json", f"/{model}.json").replace("/model_", f"/{model}_")
                if renamed not in target.namelist():
                    target.writestr(renamed, source.read(member))
    with pytest.raises(UnsupportedError, match=r"2 programs \(encoder, decoder\)"):
        read(several)


@pytest.mark.requires("torch")
def test_tensor_subclasses_are_read_from_their_pickle(tmp_path: Path) -> None:
    import torch

    class Marked(torch.Tensor):
        pass

    Marked.__qualname__ = "Marked"  # so that it can be pickled; nothing here looks it up
    vars(sys.modules[__name__])["Marked"] = Marked

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))

        def forward(self, x: Any) -> Any:
            return x * self.weight

    exported = torch.export.export(Scale(), (torch.ones(2, 3),))
    marked = torch.arange(6.0).reshape(3, 2).t().as_subclass(Marked)
    exported.state_dict["weight"] = torch.nn.Parameter(marked)
    path = tmp_path / "subclass.pt2"
    torch.export.save(exported, str(path))
    model = read(path)
    np.testing.assert_array_equal(
        evaluate(model, {"x": np.ones((2, 3), np.float32)})["output"], np.arange(6.0).reshape(3, 2).T
    )


def test_copies_keep_reading_after_a_rename(tmp_path: Path) -> None:
    shutil.copy(FILES / "sizes-2.7.1.pt2", tmp_path / "any.name.pt2")
    model = read(tmp_path / "any.name.pt2", inputs={"x": ((7, 3), None)})
    assert [str(kind) for kind in model.outputs.values()] == ["float32[42]", "float32[]", "float32[7, 2]"]
