"""Ask a certified target again, without the source's framework: does the certificate still hold?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isomorph.errors import UsageError
from isomorph.validators.certificates.certificate import Certificate, fingerprint
from isomorph.validators.certificates.record import Recorder, Recording
from isomorph.validators.report import Report
from isomorph.validators.runner import ModelFile, RunnerChoice
from isomorph.validators.trial import Progress, judge
from isomorph.validators.verdict import Verdict, worse
from isomorph.validators.workers.process import TIMEOUT, Worker

__all__ = ["Verification", "certified_choice", "certified_target", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a certificate.

    verdict    of this run: the certified one where every answer is bit for bit what it was, else what the trial says
    reasons    why it is not EQUIVALENT
    identical  every output of every case has the certified bits
    same_file  the target's files have the certified SHA-256
    training   the certified verdict on training, of the certified bytes; it is not asked again (its steps need the
               source's framework). None if there is none
    report     of the trial, against the recorded source
    """

    verdict: Verdict
    certified: Verdict
    reasons: tuple[str, ...]
    identical: bool
    same_file: bool
    report: Report
    training: Verdict | None = None

    @property
    def exit_code(self) -> int:
        """0 EQUIVALENT, 1 DIFFERENT, 3 INCONCLUSIVE."""
        return self.verdict.exit_code

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "certified": self.certified.value,
            "reasons": list(self.reasons),
            "identical": self.identical,
            "same_file": self.same_file,
            "training": self.training.value if self.training else None,
            "report": self.report.as_dict(),
        }


def certified_target(certificate: Certificate, given: Path | None = None) -> ModelFile:
    """The target: `given`, else the file that was judged, else one of its name beside the certificate.

    Raises UsageError.
    """
    stated, kind = certificate.target["model"], certificate.target["format"]
    if kind is None:
        raise UsageError("the certified target is code, not a file: judge it with isomorph validate")
    inputs = tuple((name, tuple(shape), dtype) for name, shape, dtype in certificate.target["inputs"])
    candidates = [given] if given is not None else [Path(stated), certificate.path.parent / Path(stated).name]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise UsageError(f"no such file: {candidates[0]}", advice="isomorph verify FILE.json --target PATH")
    return ModelFile(found, kind, inputs)


def certified_choice(certificate: Certificate) -> RunnerChoice:
    """The target's runner and device of the trial; another interpreter is not remembered."""
    runner = certificate.content["runner"]
    return RunnerChoice(runner["name"], runner["backend"], None, runner["device"])


def verify(
    certificate: Certificate,
    target: ModelFile,
    *,
    choice: RunnerChoice | None = None,
    changed: bool = False,
    timeout: float = TIMEOUT,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Run the target on the certified inputs and judge it by the recorded source. The source's framework is not needed.

    changed  the target was changed on purpose (saved again, optimized): judge what it computes whatever its bytes are.
             Without it a file with another SHA-256 is INCONCLUSIVE at best
    Raises RunnerError if the target cannot be run, UsageError if the files do not fit.
    """
    begun = time.perf_counter()
    say = progress or (lambda step: None)
    content = certificate.content
    same_file = fingerprint(target) == content["target"]["files"]
    say("starting the runtime")
    source = Recorder(Recording(certificate.signature, certificate.answers, content["refusals"]))
    runner = choice or certified_choice(certificate)
    with Worker(target, role="target", choice=runner, timeout=timeout, memory=memory) as right:
        data = certificate.data or None
        report = judge(
            source,
            right,
            data=data,
            seed=content["report"]["seed"],
            maps=content["maps"],
            written=target,
            explain=False,
            precision=(content["report"].get("precision") or {}).get("name"),
        )
    report.subjects = (ModelFile(Path(content["report"]["source"]["model"]), "recorded"), target)
    report.seconds = time.perf_counter() - begun
    return _concluded(report, content, source, same_file=same_file, changed=changed)


def _concluded(
    report: Report, content: Mapping[str, Any], source: Recorder, *, same_file: bool, changed: bool
) -> Verification:
    certified = Verdict(content["verdict"])
    same_cases = [t.as_dict() for t in report.tried] == content["report"]["families"]
    identical = same_cases and bool(source.target) and source.target == content["target"]["answers"]
    training = _certified_training(content)
    if identical and (same_file or training is None):
        verdict, reasons = certified, list(content["report"]["reasons"])
    else:
        verdict, reasons = report.verdict, list(report.reasons)
        if training is not None and same_file:
            verdict = worse(verdict, training)
            reasons += [reason for reason in content["report"]["reasons"] if reason.startswith("training: ")]
    if not same_cases and not report.pairing.problems:
        reasons.append("these are not the certified inputs: another version of NumPy, or a target of another signature")
    if not same_file and not changed:
        reasons.append(
            "the target's files are not those that were certified (SHA-256); --changed judges them all the same"
        )
    if training is not None and not same_file and changed:
        reasons.append("training was certified of other bytes, and it is not asked again")
    if verdict is Verdict.EQUIVALENT and reasons:
        verdict = Verdict.INCONCLUSIVE
    return Verification(verdict, certified, tuple(reasons), identical, same_file, report, training)


def _certified_training(content: Mapping[str, Any]) -> Verdict | None:
    found = content["report"].get("training")
    return Verdict(found["verdict"]) if found else None
