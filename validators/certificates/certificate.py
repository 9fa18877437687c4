"""A certificate: what was judged, by which bytes, with which result, and what it takes to ask the target again.

`isomorph validate --certificate FILE.json` writes two files, the same bytes for the same models, versions and seed:

    FILE.json        the report without its time, SHA-256 of every file of both models and of every input, the source's
                     signature, the target's answers as SHA-256, and the SHA-256 of the other file
    FILE.json.npz    the user's own inputs and every answer of the source: in its own precision, on inputs moved by an
                     ulp, in float64, and with noise

`verify` runs the target alone: the inputs are made again from the seed, their questions to the source are answered from
the second file (record.py), and the same trial decides. Generated inputs are not stored; should another NumPy make
others, `verify` says so. `digest` finds accidents, not forgers: sign the certificate where that matters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isomorph.converters.archive import parse_json
from isomorph.errors import MalformedError, UsageError
from isomorph.validators.certificates.record import Recorder, pack, unpack
from isomorph.validators.npz import save_npz
from isomorph.validators.report import Report
from isomorph.validators.runner import Capture, ModelFile, RunnerChoice, Signature, Subject

__all__ = ["Certificate", "check_certificate_path", "fingerprint", "read_certificate", "write_certificate"]

FORMAT = 1
_LIMIT = 256 << 20
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as it was read. `content` is the JSON document; arrays come from the file beside it."""

    path: Path
    content: Mapping[str, Any]
    answers: Mapping[str, Mapping[str, np.ndarray]]
    data: Sequence[Mapping[str, np.ndarray]]

    @property
    def signature(self) -> Signature:
        return Signature.of(self.content["signature"])

    @property
    def target(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content["target"]
        return found


def check_certificate_path(path: Path) -> None:
    """Raise UsageError unless a certificate can be written there, before anything is run."""
    if path.suffix != ".json":
        raise UsageError(f"a certificate is a .json file, not {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: " + ("it is a folder" if path.is_dir() else f"no folder {path.parent}"))


def write_certificate(
    path: Path, report: Report, recorder: Recorder, *, maps: Sequence[str], choice: RunnerChoice
) -> None:
    """Write both files. `maps` and `choice` (of the target's runner) are those of the trial."""
    arrays: dict[str, np.ndarray] = {}
    for asked in sorted(recorder.answers):
        arrays.update(pack(asked, recorder.answers[asked]))
    for index, each in enumerate(recorder.data):
        arrays.update(pack(f"data{index}", {name: each[name] for name in sorted(each)}))
    beside = _beside(path)
    save_npz(beside, arrays)
    judged = report.as_dict()
    content: dict[str, Any] = {
        "certificate": FORMAT,
        "verdict": judged["verdict"],
        "report": {key: value for key, value in judged.items() if key not in ("seconds", "replay")},
        "source": {"files": fingerprint(report.subjects[0])},
        "target": {
            **_described(report.subjects[1]),
            "files": fingerprint(report.subjects[1]),
            "answers": recorder.target,
        },
        "runner": {"name": choice.name, "backend": choice.backend, "device": choice.device},
        "maps": list(maps),
        "signature": report.signatures[0].as_dict(),
        "refusals": dict(sorted(recorder.refusals.items())),
        "data": [sorted(each) for each in recorder.data],
        "arrays": {"sha256": _sha256(beside)},
    }
    from isomorph.validators.reports import write_reports

    write_reports({**content, "digest": _digest(content)}, [path])


def read_certificate(path: Path) -> Certificate:
    """Read both files; nothing in them is executed. Raises UsageError, MalformedError."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    if path.stat().st_size > _LIMIT:
        raise MalformedError(f"{path} is larger than a certificate")
    content = parse_json(path.read_bytes(), str(path))
    if not isinstance(content, dict) or content.get("certificate") != FORMAT:
        raise MalformedError(f"{path} is no certificate of isomorph")
    stated = content.get("digest")
    if stated != _digest({key: value for key, value in content.items() if key != "digest"}):
        raise MalformedError(
            f"{path} was changed: its digest does not fit", advice="take the certificate as it was written"
        )
    beside = _beside(path)
    if not beside.is_file():
        raise UsageError(f"the certificate's other file is missing: {beside}")
    if _sha256(beside) != content["arrays"]["sha256"]:
        raise MalformedError(f"{beside} is not the file that {path.name} is about")
    try:
        return _filled(path, content, beside)
    except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
        raise MalformedError(f"{path} is no certificate of isomorph", because=str(error)) from None


def _filled(path: Path, content: Mapping[str, Any], beside: Path) -> Certificate:
    with np.load(beside, allow_pickle=False) as loaded:
        packed = {name: loaded[name] for name in loaded.files}
    own = {name: array for name, array in packed.items() if name.startswith("data")}
    outputs = [spec.name for spec in Signature.of(content["signature"]).outputs]
    answers = unpack({name: array for name, array in packed.items() if name not in own}, outputs)
    data = []
    for index, names in enumerate(content["data"]):
        mine = {name: array for name, array in own.items() if name.startswith(f"data{index}.")}
        data.append(unpack(mine, names)[f"data{index}"])
    return Certificate(path, content, answers, data)


def fingerprint(subject: Subject | None) -> list[dict[str, Any]]:
    """Every file of a model: name (relative to the model), size, SHA-256. Empty for code, which has none."""
    if isinstance(subject, Capture):
        return _hashed([(subject.weights.path.name, subject.weights.path)]) if subject.weights else []
    if subject is None:
        return []
    path = Path(subject.path)
    if path.is_dir():
        return _hashed(
            [(each.relative_to(path).as_posix(), each) for each in sorted(path.rglob("*")) if each.is_file()]
        )
    beside = _external_data(path) if subject.format == "onnx" else []
    return _hashed([(path.name, path), *((name, path.parent / name) for name in beside)])


def _external_data(path: Path) -> list[str]:
    """Names of the files that hold an ONNX model's weights, relative to its folder."""
    import onnx

    from isomorph.converters.onnx.wire import read_model

    model, _ = read_model(path)
    names = {
        entry.value
        for tensor in _tensors(model.graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(name for name in names if (path.parent / name).is_file())


def _tensors(graph: Any) -> list[Any]:
    """Initializers and constants, those in branches and loops included."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    found += _tensors(inner)
    return found


def _hashed(files: Sequence[tuple[str, Path]]) -> list[dict[str, Any]]:
    return [{"name": name, "size": path.stat().st_size, "sha256": _sha256(path)} for name, path in files]


def _described(subject: Subject | None) -> dict[str, Any]:
    inputs = (
        [[name, list(shape), dtype] for name, shape, dtype in subject.inputs] if isinstance(subject, ModelFile) else []
    )
    return {"model": str(subject), "format": getattr(subject, "format", None), "inputs": inputs}


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.npz")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
