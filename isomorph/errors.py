"""Every error that isomorph raises on purpose.

    IsomorphError                 base; carries `at`, `because`, `advice`, `exit_code`
    ├── UsageError                the call itself is wrong                                  exit code 2
    │   ├── TargetExistsError     the target exists and --force was not given
    │   └── WeightsError          a checkpoint does not have the weights of the architecture
    ├── ModelError                the model cannot be read or written                       exit code 4
    │   ├── UnknownFormatError    neither the content nor the suffix names a format
    │   ├── MalformedError        the file breaks its format's specification
    │   ├── UnsafeError           the file asks for something a reader must not do
    │   ├── UnsupportedError      valid, but isomorph cannot express it (lists every case)
    │   ├── GraphError            the IR graph breaks an invariant (a bug in a rule or a pass)
    │   │   ├── ShapeError        shapes do not fit an op
    │   │   └── DTypeError        element types do not fit an op
    │   ├── FetchError            a registry client could not fetch a package
    │   ├── IntegrityError        a downloaded or cached file is not what its checksum says
    │   └── MissingExtraError     an optional dependency is needed and not installed
    └── RunnerError               a runtime could not run the model: no verdict             exit code 3

An error prints as at most six lines:

    cannot write `Conv` to keras: group=3 with 8 output channels is not divisible
      at       layer2.0.conv1 (torch.nn.Conv2d)  resnet.py:91
      because  evidence
      try      the next step
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from isomorph.records import record

__all__ = [
    "DTypeError",
    "FetchError",
    "GraphError",
    "IntegrityError",
    "IsomorphError",
    "MalformedError",
    "MissingExtraError",
    "ModelError",
    "RunnerError",
    "ShapeError",
    "TargetExistsError",
    "Terminated",
    "UnknownFormatError",
    "UnsafeError",
    "Unsupported",
    "UnsupportedError",
    "UsageError",
    "WeightsError",
    "first_line",
]


class IsomorphError(Exception):
    """Base of all errors.

    what     one clause, lower case, no full stop: what is wrong with which thing
    at       where: a file, a byte offset, a layer, a source line
    because  the evidence
    advice   the next step for the reader (printed as `try`)
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self, what: str, *, at: str | None = None, because: str | None = None, advice: str | None = None
    ) -> None:
        self.what = what
        self.at = at
        self.because = because
        self.advice = advice
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("at", self.at), ("because", self.because), ("try", self.advice)):
            if text:
                lines.append(f"  {label:<8} {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The same as data, for `--json`."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "at": self.at,
            "because": self.because,
            "try": self.advice,
        }


class UsageError(IsomorphError):
    """The call itself is wrong: an option, a name, a shape given by the user."""

    exit_code = 2


class TargetExistsError(UsageError):
    """The target exists, and overwriting it was not asked for."""


class WeightsError(UsageError):
    """A checkpoint is not one of the architecture that the user named. The three lists are complete.

    missing     names of the module that the checkpoint lacks
    unexpected  names of the checkpoint that the module lacks
    mismatched  what torch says of tensors with other shapes
    """

    _SHOWN = 5

    def __init__(
        self,
        what: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        mismatched: Sequence[str] = (),
        advice: str | None = None,
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.mismatched = tuple(mismatched)
        lists = (("missing", missing), ("unexpected", unexpected), ("", mismatched))
        because = "; ".join(self._shown(title, names) for title, names in lists if names)
        super().__init__(what, because=because or None, advice=advice)

    def _shown(self, title: str, names: Sequence[str]) -> str:
        rest = f" and {len(names) - self._SHOWN} more" if len(names) > self._SHOWN else ""
        return f"{title} {', '.join(names[: self._SHOWN])}{rest}".strip()

    def as_dict(self) -> dict[str, object]:
        lists = {"missing": self.missing, "unexpected": self.unexpected, "mismatched": self.mismatched}
        return {**super().as_dict(), **{name: list(values) for name, values in lists.items()}}


class ModelError(IsomorphError):
    """The model cannot be read or written."""


class UnknownFormatError(ModelError):
    """Neither the content nor the suffix of a file names a format."""


class MalformedError(ModelError):
    """A file breaks its format's specification (truncated, inconsistent, absurd sizes)."""


class UnsafeError(ModelError):
    """A file asks for something a reader must not do: leave its folder, run code, follow a link."""


class GraphError(ModelError):
    """An IR graph breaks an invariant; a rule or a pass is at fault unless the file was inconsistent."""


class ShapeError(GraphError):
    """Shapes do not fit an op."""


class DTypeError(GraphError):
    """Element types do not fit an op."""


class FetchError(ModelError):
    """A package could not be fetched through the user's registry client."""


class IntegrityError(ModelError):
    """A file is not the one its recorded size and checksum describe."""


class MissingExtraError(ModelError):
    """An optional dependency is needed; `extra` names what to install."""

    def __init__(self, package: str, extra: str, *, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            advice=f"pip install 'isomorph[{extra}]'",
        )


class RunnerError(IsomorphError):
    """A runtime could not be asked (crash, time-out, missing device); `runner` names it.

    fatal  its process is gone: nothing more can be asked of it
    """

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        runner: str,
        at: str | None = None,
        because: str | None = None,
        advice: str | None = None,
        fatal: bool = False,
    ) -> None:
        self.runner = runner
        self.fatal = fatal
        super().__init__(what, at=at, because=because, advice=advice)


@record
class Unsupported:
    """One thing that cannot be expressed: `op` as its framework spells it, the reason, and where the user wrote it."""

    op: str
    reason: str
    where: str = ""


class UnsupportedError(ModelError):
    """A valid model uses what isomorph cannot express. `items` lists every case, not the first."""

    def __init__(self, action: str, items: Sequence[Unsupported], *, advice: str | None = None) -> None:
        self.action = action
        self.items = tuple(items)
        super().__init__(f"cannot {action}: {self._headline()}", advice=advice)

    def _headline(self) -> str:
        kinds = sorted({item.op for item in self.items})
        places = "1 place" if len(self.items) == 1 else f"{len(self.items)} places"
        names = ", ".join(f"`{kind}`" for kind in kinds)
        return f"{names} ({places})"

    def __str__(self) -> str:
        lines = [self.what]
        for item in self.items:
            where = f"  at {item.where}" if item.where else ""
            lines.append(f"  `{item.op}`: {item.reason}{where}")
        if self.advice:
            lines.append(f"  {'try':<8} {self.advice}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        items = [{"op": item.op, "reason": item.reason, "where": item.where} for item in self.items]
        return {**super().as_dict(), "items": items}


class Terminated(SystemExit):
    """SIGTERM, which ends the process wherever it is; other SystemExit of the user's code are errors of that code."""


def first_line(error: BaseException) -> str:
    """What an error says, in the one line that a sentence can quote."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
