"""What a SOURCE is: a path, `zoo:NAME[.SUFFIX]`, or `python:MODULE:CALLABLE`.

The last one calls the user's own code, and so does a checkpoint that `--arch` joins with an architecture; see live.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from isomorph.converters.convert import Inputs, load
from isomorph.converters.formats import by_name, identify
from isomorph.errors import UnknownFormatError, UsageError
from isomorph.inputs import Dynamic
from isomorph.ir import Model
from isomorph.records import record

if TYPE_CHECKING:  # what a conversion of a file does not need is imported where it is used
    from isomorph.converters.torch.architecture import Architecture
    from isomorph.validators.runner import RunnerChoice, Subject

__all__ = ["PYTHON", "ZOO", "Source", "locate", "locate_file", "refuse_dynamic"]

ZOO = "zoo:"
PYTHON = "python:"


@record
class Source:
    """A located source: `path` of a file, or `reference` "MODULE:CALLABLE" of the user's code.

    architecture  the user's code that the weights in the file are for; `prefix` says where in the file they are
    """

    given: str
    path: Path | None = None
    reference: str = ""
    format: str | None = None
    architecture: Architecture | None = None
    prefix: str | None = None

    @property
    def calls(self) -> str:
        """The user's code that is called, "" if none is."""
        return self.architecture.text if self.architecture else self.reference

    @property
    def file(self) -> Path:
        """The path. Raises UsageError for the user's code."""
        if self.path is None:
            raise UsageError(f"a file is needed here, not {self.given}")
        return self.path

    @property
    def holds_weights(self) -> bool:
        """Whether it is a checkpoint: weights without a program."""
        if self.path is None:
            return False
        return (by_name(self.format) if self.format else identify(self.path)).lacks is not None

    def joined(self, architecture: str | None, prefix: str | None = None) -> Source:
        """The source with `--arch` and `--prefix`. Raises UsageError where they do not go with it."""
        if architecture is None:
            if prefix is not None:
                raise UsageError("--prefix is for --arch, which is not given")
            return self
        if self.path is None:
            raise UsageError(f"--arch is for checkpoints, not for {self.given}")
        if not self.holds_weights:
            raise UsageError(
                f"--arch is for checkpoints, and {self.given} is not one",
                because="the file itself says what the model computes",
                advice="leave out --arch",
            )
        from isomorph.converters.torch.architecture import Architecture

        return replace(self, architecture=Architecture.parse(architecture), prefix=prefix)

    def model(self, inputs: Inputs | None = None, dynamic: Dynamic | None = None) -> Model:
        """Read the file, or call the code and capture what it returns.

        Raises UsageError where `dynamic` is given for a file: its sizes were decided when it was written.
        """
        return self.captured(inputs, dynamic)[0]

    def captured(self, inputs: Inputs | None = None, dynamic: Dynamic | None = None) -> tuple[Model, list[str]]:
        """(model, notes on how it was made)."""
        if self.path is None:
            from isomorph.live import capture_reference

            return capture_reference(self.reference, inputs, dynamic), []
        if self.architecture is not None:
            from isomorph.live import capture_joined

            model, note = capture_joined(
                self.architecture, self.path, prefix=self.prefix, inputs=inputs, dynamic=dynamic
            )
            return model, [f"the weights are {note}"]
        refuse_dynamic(self.given, dynamic)
        return load(self.path, format=self.format, inputs=inputs), []

    @property
    def runner(self) -> str | None:
        """The runner of its format; None if the format is unknown or no runner knows it."""
        if self.path is None or self.architecture is not None:
            return "torch"
        try:
            return (by_name(self.format) if self.format else identify(self.path)).runner
        except UnknownFormatError:
            return None

    def subject(self, inputs: Inputs | None = None, choice: RunnerChoice | None = None) -> Subject:
        """The same for the judge. Raises MissingExtraError if what runs it is not installed.

        choice  where it is run if not here: then nothing needs to be installed, and a program may know any format
        """
        from isomorph.runtimes import require_runtime
        from isomorph.validators.runner import PROGRAM, Capture, ModelFile, Weights

        called = self.given if self.given.startswith(ZOO) else ""
        if choice is not None and choice.name == PROGRAM:
            known = by_name(self.format).name if self.format else _known(self.file)
            return ModelFile(self.file, known, _described(inputs or {}), called)
        if self.path is None:
            require_runtime(by_name("pt2"))
            return Capture(self.reference)
        if self.architecture is not None:
            require_runtime(by_name("pt2"))
            weights = Weights(self.path, self.architecture.text, self.prefix, _described(inputs or {}))
            return Capture(self.architecture.reference, weights)
        kind = by_name(self.format) if self.format else identify(self.path)
        require_runtime(kind, choice)
        return ModelFile(self.path, kind.name, _described(inputs or {}), called)


def _known(path: Path) -> str:
    """The name of a file's format, "unknown" where nothing tells."""
    try:
        return identify(path).name
    except UnknownFormatError:
        return "unknown"


def _described(inputs: Inputs) -> tuple[tuple[str, tuple[int | str, ...], str | None], ...]:
    """Input shapes as the judge passes them on."""
    return tuple(
        (name, tuple(dim if isinstance(dim, int) else str(dim) for dim in shape), None if dtype is None else str(dtype))
        for name, (shape, dtype) in inputs.items()
    )


def locate(given: str | Path, *, format: str | None = None, progress: Callable[[str], None] | None = None) -> Source:
    """Find a source; a zoo model is pulled if it is not in the cache. Raises UsageError, IntegrityError."""
    text = str(given)
    if format is not None:
        by_name(format)
    if text.startswith(PYTHON):
        return Source(text, reference=_reference(text))
    if text.startswith(ZOO):
        from isomorph.zoo import resolve

        notify = None if progress is None else (lambda what: progress(f"fetching {what}"))
        return Source(text, path=resolve(text, notify=notify), format=format)
    path = Path(given)
    if not path.exists():
        _refuse_missing(path)
    return Source(text, path=path, format=format)


def locate_file(given: str | Path, *, format: str | None = None) -> Source:
    """The same for what must be a file. Raises UsageError for `python:`."""
    source = locate(given, format=format)
    return replace(source, path=source.file)


def _reference(text: str) -> str:
    reference = text.removeprefix(PYTHON)
    module, _, name = reference.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"cannot read {text!r}", advice="write python:MODULE:CALLABLE, for example python:nets:make_model"
        )
    return reference


def _refuse_missing(path: Path) -> None:
    from isomorph.zoo import entries

    if any(path.name in (entry.name, *(f"{entry.name}.{file.suffix}" for file in entry.files)) for entry in entries()):
        raise UsageError(f"no such file: {path}", advice=f"did you mean {ZOO}{path.name}?")
    identify(path)


def refuse_dynamic(given: str, dynamic: Dynamic | None) -> None:
    """Raise UsageError if sizes of a file are to be symbolic that the file does not have so."""
    if dynamic:
        raise UsageError(
            f"--dynamic is for sources that are captured, not for the file {given}",
            because="its sizes were fixed when it was exported",
            advice="export it again with symbolic sizes, or name the sizes of an open shape with --input",
        )
