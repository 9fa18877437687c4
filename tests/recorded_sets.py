"""ONNX models that nobody here wrote, with the results that were recorded for them.

The small models and the light nets that the onnx package has, those of OpenCV's tests (the folder ISOMORPH_DATA with
opencv_extra_dnn.tar.xz unpacked), and those of the zoo that are in the cache.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from backend_cases import Case, agree
from onnx import numpy_helper

from isomorph.zoo import check_answers, entries
from isomorph.zoo.catalogue import local_path
from isomorph.zoo.manifest import Entry, File

__all__ = ["OPENCV", "SETS", "Recorded", "light", "opencv", "packaged", "zoo"]

OPENCV = Path(os.environ.get("ISOMORPH_DATA") or "absent") / "onnx"
_ONNX = Path(onnx.__file__).parent / "backend" / "test" / "data"
Array = np.ndarray[Any, Any]
Results = Callable[[Callable[[Sequence[Any]], Sequence[Any]]], bool]
"""Whether what runs a model (inputs -> outputs, in the file's order) gives the recorded results."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A model file, and how to tell whether a runtime gives its recorded results."""

    name: str
    path: Path
    gives: Results


def packaged() -> Iterator[Recorded]:
    """The onnx package's small models, each with its tolerance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests
    for kind in ("simple", "pytorch-operator", "pytorch-converted"):
        for each in sorted(load_model_tests(kind=kind), key=lambda each: each.name):
            folder = Path(each.model_dir)
            sets = [_data_set(folder / "model.onnx", data) for data in sorted(folder.glob("test_data_set_*"))]
            yield Recorded(each.name, folder / "model.onnx", _gives(sets, each.rtol, max(each.atol, 1e-6)))


def _data_set(path: Path, folder: Path) -> tuple[list[Any], list[Any]]:
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    fed = [item for item in graph.input if item.name not in weights]
    return (
        [_value(folder / f"input_{position}.pb", item) for position, item in enumerate(fed)],
        [_value(folder / f"output_{position}.pb", item) for position, item in enumerate(graph.output)],
    )


def _value(path: Path, item: onnx.ValueInfoProto) -> Any:
    if item.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def light() -> Iterator[Recorded]:
    """Nets of the model zoo whose weights ConstantOfShape computes. Input as the package makes it: arange(n) / n."""
    for path in sorted((_ONNX / "light").glob("*.onnx")):
        graph = onnx.load(path).graph
        weights = {tensor.name for tensor in graph.initializer}
        (item,) = [item for item in graph.input if item.name not in weights]
        shape = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in item.type.tensor_type.shape.dim]
        count = int(np.prod(shape))
        x = (np.arange(count).reshape(shape) / count).astype(np.float32)
        expected = onnx.TensorProto.FromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
        yield Recorded(path.stem, path, _gives([([x], [numpy_helper.to_array(expected)])], 2e-3, 1e-6))


def opencv() -> Iterator[Recorded]:
    """What PyTorch of 2018 exported for the tests of OpenCV; outputs were recorded without their axes of size 1."""
    for path in sorted((OPENCV / "models").glob("*.onnx")):
        data = OPENCV / "data"
        inputs = [np.load(each) for each in sorted(data.glob(f"input_{path.stem}*.npy")) if _is_of(each, path.stem)]
        yield Recorded(path.stem, path, _gives([(inputs, [np.load(data / f"output_{path.stem}.npy")])], 1e-4, 1e-5))


def _is_of(data: Path, name: str) -> bool:
    """input_NAME.npy, input_NAME_0.npy ...; not those of a longer name."""
    rest = data.stem.removeprefix(f"input_{name}")
    return not rest or rest[1:].isdigit()


def _gives(sets: Sequence[tuple[Sequence[Any], Sequence[Any]]], rtol: float, atol: float) -> Results:
    tolerance = Case("", b"", (), (), rtol, atol)
    return lambda runs: all(agree(list(runs(inputs)), expected, tolerance) for inputs, expected in sets)


def zoo() -> Iterator[Recorded]:
    """The models of the zoo that are in the cache, with their known answers."""
    for entry in entries():
        for file in entry.files:
            if file.format == "onnx" and local_path(entry, file).is_file():
                path = local_path(entry, file)
                yield Recorded(entry.name, path, _answers(entry, file, path))


def _answers(entry: Entry, file: File, path: Path) -> Results:
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in weights]
    outputs = [item.name for item in graph.output]

    def gives(runs: Callable[[Sequence[Any]], Sequence[Any]]) -> bool:
        def named(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return dict(zip(outputs, runs([arrays[name] for name in inputs]), strict=True))

        return all(result.passed for result in check_answers(entry, named, file))

    return gives


SETS: dict[str, Callable[[], Iterator[Recorded]]] = {
    "small models of the onnx package": packaged,
    "light nets of the onnx package": light,
    "models of OpenCV's tests": opencv,
    "models of the zoo": zoo,
}
