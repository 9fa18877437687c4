"""Real pretrained models with known answers: `zoo:NAME` wherever a model path is expected. See docs/zoo.md."""

from isomorph.zoo.answers import AnswerResult, Run, check_answers
from isomorph.zoo.catalogue import Verification, entries, find, local_path, pull, resolve, verify
from isomorph.zoo.manifest import Answer, Embedded, Entry, File, Manifest, NpmPackage, Source, TensorInfo, Wheel

__all__ = [
    "Answer",
    "AnswerResult",
    "Embedded",
    "Entry",
    "File",
    "Manifest",
    "NpmPackage",
    "Run",
    "Source",
    "TensorInfo",
    "Verification",
    "Wheel",
    "check_answers",
    "entries",
    "find",
    "local_path",
    "pull",
    "resolve",
    "verify",
]
