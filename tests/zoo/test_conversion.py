"""Converted models give the known answers of their sources, in another runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isomorph.converters.convert import convert
from isomorph.zoo import check_answers, entries, find, resolve


@pytest.mark.parametrize("name", ["digits-cnn.pt2", pytest.param("fer-mini-xception.hdf5", marks=pytest.mark.network)])
def test_as_onnx(name: str, tmp_path: Path, requires: Callable[..., None]) -> None:
    if name.startswith("fer"):
        requires("skimage")
    import onnxruntime

    convert(resolve(f"zoo:{name}"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    [given], [taken] = session.get_inputs(), session.get_outputs()
    entry, _ = find(name)
    [input_name], [output_name] = [end.name for end in entry.inputs], [end.name for end in entry.outputs]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {output_name: session.run([taken.name], {given.name: inputs[input_name]})[0]}

    results = check_answers(entry, run)
    assert results and all(result.passed for result in results), results


def test_the_embedded_onnx_is_what_isomorph_writes_of_the_pt2(tmp_path: Path) -> None:
    """Compared as graphs: another version of the writer may choose other bytes, but not other weights or nodes."""
    import onnx
    from onnx import numpy_helper

    convert(resolve("zoo:digits-cnn.pt2"), tmp_path / "model.onnx")
    fresh, embedded = onnx.load(tmp_path / "model.onnx"), onnx.load(resolve("zoo:digits-cnn.onnx"))
    assert [node.op_type for node in fresh.graph.node] == [node.op_type for node in embedded.graph.node]
    for new, old in zip(fresh.graph.initializer, embedded.graph.initializer, strict=True):
        assert new.name == old.name
        np.testing.assert_array_equal(numpy_helper.to_array(new), numpy_helper.to_array(old))


@pytest.mark.network
@pytest.mark.parametrize("name", [entry.name for entry in entries() if entry.files[0].format == "onnx"])
def test_onnx_through_isomorph_and_back(name: str, tmp_path: Path, requires: Callable[..., None]) -> None:
    requires("skimage")
    import onnxruntime

    entry, file = find(name)
    convert(resolve(f"zoo:{name}"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [end.name for end in session.get_outputs()]
    results = check_answers(entry, lambda inputs: dict(zip(names, session.run(names, inputs), strict=True)), file)
    assert results and all(result.passed for result in results), results
