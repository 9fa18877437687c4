"""The zoo as its users see it: which models there are, where a model's file is, and whether it is still what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isomorph.errors import IntegrityError
from isomorph.validators.runner import ModelFile
from isomorph.validators.workers.process import Worker
from isomorph.zoo.answers import AnswerResult, check_answers
from isomorph.zoo.cache import check_bytes, check_file, is_intact, place, store
from isomorph.zoo.manifest import Embedded, Entry, File, load_manifest
from isomorph.zoo.recipes import FOLDER
from isomorph.zoo.sources import TIMEOUT, fetch

__all__ = ["Notify", "Verification", "entries", "find", "local_path", "pull", "resolve", "verify"]

Notify = Callable[[str], None]
"""Told what is fetched, before it is."""


@dataclass(frozen=True, slots=True)
class Verification:
    """A file whose size and checksum are right, and what it answered (nothing, if it was not run)."""

    entry: Entry
    file: File
    path: Path
    answers: tuple[AnswerResult, ...] = ()

    @property
    def passed(self) -> bool:
        return all(answer.passed for answer in self.answers)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; the keys are stable."""
        return {
            "name": self.entry.name,
            "suffix": self.file.suffix,
            "format": self.file.format,
            "path": str(self.path),
            "size": self.file.size,
            "sha256": self.file.sha256,
            "answers": [answer.as_dict() for answer in self.answers],
            "passed": self.passed,
        }


def entries() -> tuple[Entry, ...]:
    """All models of the zoo, in the manifest's order."""
    return load_manifest().entries


def find(reference: str) -> tuple[Entry, File]:
    """The entry and the file of `zoo:NAME` or `zoo:NAME.SUFFIX` (`zoo:` may be left out). Raises UsageError."""
    return load_manifest().find(reference)


def local_path(entry: Entry, file: File) -> Path:
    """Where a file lies, or will lie when it is pulled."""
    if isinstance(entry.source, Embedded):
        return FOLDER / file.member
    return place(file.sha256, f"{entry.name}.{file.suffix}")


def resolve(reference: str, *, notify: Notify | None = None) -> Path:
    """The path of the file that `zoo:NAME` or `zoo:NAME.SUFFIX` means; it is pulled if it is not there, and checked.

    Raises UsageError for an unknown name, ModelError if it cannot be fetched, IntegrityError if it is another file than
    the manifest describes.
    """
    return pull(reference, notify=notify)


def pull(reference: str, *, notify: Notify | None = None, timeout: float = TIMEOUT) -> Path:
    """Fetch a file into the cache unless an intact copy is there; a damaged copy is replaced. Returns its path.

    Raises as `resolve`. Nothing is kept that does not have the manifest's size and checksum.
    """
    entry, file = find(reference)
    path = local_path(entry, file)
    if isinstance(entry.source, Embedded):
        _check_embedded(path, file)
        return path
    if is_intact(path, file.size, file.sha256):
        return path
    if notify is not None:
        notify(f"{entry.name}.{file.suffix} from {entry.source}")
    data = fetch(entry.source, file.member, file.size, timeout=timeout)
    check_bytes(data, file.size, file.sha256, f"{file.member} of {entry.source}")
    return store(data, file.sha256, path.name)


def verify(
    reference: str, *, run: bool = False, notify: Notify | None = None, timeout: float = TIMEOUT
) -> Verification:
    """Check the size and checksum of a file, and with `run` its known answers in the runtime of its format.

    A file that was never pulled is pulled. Raises IntegrityError if a file that is there is damaged, RunnerError if the
    runtime cannot run it; an answer that is wrong is a result, not an error.
    """
    entry, file = find(reference)
    path = local_path(entry, file)
    if isinstance(entry.source, Embedded):
        _check_embedded(path, file)
    elif not path.exists():
        pull(reference, notify=notify, timeout=timeout)
    else:
        _check_cached(path, entry, file)
    if not run:
        return Verification(entry, file, path)
    with Worker(ModelFile(path, file.format), role="target", timeout=timeout) as worker:
        answers = check_answers(entry, lambda inputs: worker.run(inputs).outputs, file)
    return Verification(entry, file, path, tuple(answers))


def _check_embedded(path: Path, file: File) -> None:
    """Raise IntegrityError unless the installed file is the one that the manifest describes."""
    try:
        check_file(path, file.size, file.sha256)
    except FileNotFoundError:
        what = "a model of the zoo is missing from this installation"
        raise IntegrityError(what, at=str(path), advice="reinstall isomorph") from None
    except IntegrityError as error:
        raise IntegrityError(error.what, at=error.at, because=error.because, advice="reinstall isomorph") from None


def _check_cached(path: Path, entry: Entry, file: File) -> None:
    try:
        check_file(path, file.size, file.sha256)
    except IntegrityError as error:
        advice = f"isomorph zoo pull {entry.name}.{file.suffix}"
        raise IntegrityError(error.what, at=error.at, because=error.because, advice=advice) from None
