"""What the judge found, as an object, as JSON and on a terminal."""

from __future__ import annotations

import hashlib
import math
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from isomorph import __version__
from isomorph.ir import DType
from isomorph.validators.distribution import DIFFER
from isomorph.validators.histogram import EDGES
from isomorph.validators.inputs import Case
from isomorph.validators.localization.layers import Layer
from isomorph.validators.localization.localize import Localization
from isomorph.validators.pairing import Pairing
from isomorph.validators.precision import Precision
from isomorph.validators.runner import Signature, Subject
from isomorph.validators.verdict import EQUAL, UNEQUAL, OutputVerdict, Verdict, worse

if TYPE_CHECKING:
    from rich.console import Console

    from isomorph.validators.training.trial import Training

__all__ = ["Report", "Tried"]

FORMAT = 1
_COLOURS = {Verdict.EQUIVALENT: "bold green", Verdict.DIFFERENT: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
_RESEMBLES = ((2.0**-24, "float32"), (2.0**-11, "float16 or TF32"), (2.0**-8, "bfloat16"))


@dataclass(frozen=True, slots=True)
class Tried:
    """The inputs of one case: its family, sizes and batch, and for each input what it was.

    inputs  name, dtype, shape, SHA-256 of the bytes (C order, little-endian), least and greatest value that is a number
    """

    case: str
    family: str
    sizes: Mapping[str, int]
    batch: int
    inputs: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, case: Case) -> Tried:
        inputs = tuple(describe_array(name, array) for name, array in case.inputs.items())
        return cls(case.describe(), case.family, dict(sorted(case.dims.items())), case.batch, inputs)

    def as_dict(self) -> dict[str, Any]:
        sizes, inputs = dict(self.sizes), [dict(entry) for entry in self.inputs]
        return {"case": self.case, "family": self.family, "sizes": sizes, "batch": self.batch, "inputs": inputs}


def describe_array(name: str, array: np.ndarray) -> dict[str, Any]:
    """What a report says of an array: name, dtype, shape, SHA-256, least and greatest finite value (null if none)."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    dtype = DType.of(array.dtype)
    low = high = None
    if array.dtype == bool or not dtype.is_complex:
        wide = plain.astype(np.float64)
        finite = wide[np.isfinite(wide)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    digest = hashlib.sha256(plain.tobytes()).hexdigest()
    return {
        "name": name,
        "dtype": dtype.value,
        "shape": list(array.shape),
        "sha256": digest,
        "min": low,
        "max": high,
    }


@dataclass(slots=True)
class Report:
    """The verdict and its evidence.

    reasons   why it is not EQUIVALENT; empty if it is
    notes     what was assumed or noticed: pairings by position, permuted axes, refused cases
    cases     the inputs that were tried, "family dim=size …"
    maps      on DIFFERENT, the pairs (`--map`) under which the two would agree
    tried     the same cases in detail
    layers    errors along the graph, where intermediate values were compared
    replay    the command that gives this report again; "" where there is none (runners of the caller's own)
    counterexample  on DIFFERENT, the case that speaks most against the target
    training  what `--train` showed; None if it was not asked
    precision  the class that the target was declared to compute in; None: the source's own precision
    """

    subjects: tuple[Subject | None, Subject | None]
    signatures: tuple[Signature, Signature]
    pairing: Pairing
    seed: int
    verdict: Verdict = Verdict.INCONCLUSIVE
    outputs: list[OutputVerdict] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    culprit: Localization | None = None
    maps: list[str] = field(default_factory=list)
    seconds: float = 0.0
    tried: list[Tried] = field(default_factory=list)
    layers: tuple[Layer, ...] = ()
    replay: str = ""
    counterexample: Case | None = None
    training: Training | None = None
    precision: Precision | None = None

    def add_training(self, training: Training) -> None:
        """Let the verdict be the worse of the two."""
        self.training = training
        self.reasons += [f"training: {reason}" for reason in training.reasons]
        self.notes += [f"training: {note}" for note in training.notes]
        self.verdict = worse(self.verdict, training.verdict)

    @property
    def exit_code(self) -> int:
        """0 EQUIVALENT, 1 DIFFERENT, 3 INCONCLUSIVE."""
        return self.verdict.exit_code

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe, the same for the same models and seed apart from `seconds`; keys are described in
        docs/validation.md."""
        source, target = self.subjects
        return {
            "format": FORMAT,
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "source": {"model": str(source), "environment": dict(self.signatures[0].environment)},
            "target": {"model": str(target), "environment": dict(self.signatures[1].environment)},
            "seed": self.seed,
            "cases": list(self.cases),
            "thresholds": {"equal": EQUAL, "unequal": UNEQUAL},
            "inputs": [pair.as_dict() for pair in self.pairing.inputs],
            "outputs": [
                {**pair.as_dict(), **(_output_dict(self.outputs[i]) if i < len(self.outputs) else {})}
                for i, pair in enumerate(self.pairing.outputs)
            ],
            "maps": list(self.maps),
            "culprit": _safe(self.culprit.as_dict()) if self.culprit else None,
            "seconds": round(self.seconds, 3),
            "families": _safe([tried.as_dict() for tried in self.tried]),
            "layers": _safe([layer.as_dict() for layer in self.layers]),
            "histogram_edges": list(EDGES),
            "judge": _judge_environment(),
            "replay": self.replay or None,
            "training": _safe(self.training.as_dict()) if self.training else None,
            "precision": self.precision.as_dict() if self.precision else None,
        }

    def render(self, console: Console) -> None:
        """Print for a person: two lines and one for each output on success, the evidence otherwise."""

        def print_(text: str, style: str | None = None) -> None:
            console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

        within = f" within {self.precision.name} ({self.precision.allows})" if self.precision else ""
        print_(f"{self.verdict.value}{within}", _COLOURS[self.verdict])
        for output in self.outputs:
            print_(f"  {_summary(output, self.precision)}")
        for line in self.training.lines() if self.training else ():
            print_(f"  {line}")
        for reason in self.reasons:
            print_(f"  because  {reason}")
        if self.verdict is Verdict.DIFFERENT and not self._only_training():
            self._render_difference(print_)
        elif self.verdict is Verdict.DIFFERENT:
            print_(
                "  try      look these weights up under Training in docs/validation.md: some formats cannot train alike"
            )
        for note in self.notes:
            print_(f"  note     {note}", "dim")
        runtimes = " against ".join(str(signature.environment.get("runtime", "?")) for signature in self.signatures)
        print_(f"  judged   {runtimes}, {len(self.cases)} cases, seed {self.seed}, {self.seconds:.1f} s", "dim")

    def _only_training(self) -> bool:
        """Whether all outputs are EQUIVALENT, and only training shows a difference."""
        return bool(self.outputs) and all(output.verdict is Verdict.EQUIVALENT for output in self.outputs)

    def _render_difference(self, print_: Any) -> None:
        guilty = next((output for output in self.outputs if output.verdict is Verdict.DIFFERENT and output.worst), None)
        if guilty is not None and guilty.worst is not None and guilty.worst.comparison.index:
            c = guilty.worst.comparison
            print_(
                f"  worst    {guilty.source}{list(c.index)}: got {c.got:.9g}, expected {c.expected:.9g}"
                f" ({guilty.worst.case})"
            )
            if resembles := _resembles(guilty):
                print_(f"  looks    {resembles}")
        if self.maps:
            spelled = " ".join(f"--map {shlex.quote(text)}" for text in self.maps)
            print_(f"  try      the two agree if they are paired otherwise: {spelled}")
            return
        if self.culprit is not None and self.culprit.op:
            found = self.culprit
            print_(
                f"  culprit  {found.op} `{found.target}`: {_far(found.ratio)}, its inputs are right",
                "bold",
            )
            print_(f"  at       {found.where}")
            for other in found.others[:5]:
                print_(f"  and      {other.op} `{other.target}`: {other.ratio:.3g} times  {other.where}")
            if len(found.others) > 5:
                print_(f"  and      {len(found.others) - 5} more")
            if found.propagated:
                others = "1 further value is" if found.propagated == 1 else f"{found.propagated} further values are"
                print_(f"  note     {others} wrong only because of wrong operands")
            if found.note:
                print_(f"  note     {found.note}")
            print_("  try      compare its weights and attributes in both models (`isomorph inspect`)")
            return
        if self.culprit is not None:
            print_(f"  culprit  {self.culprit.note}")
        what = "compare inputs and outputs, and pair with --map" if self.pairing.problems else "compare both models"
        print_(f"  try      {what} (`isomorph inspect`)")


def _summary(output: OutputVerdict, declared: Precision | None) -> str:
    if output.draws:
        z = max(each.worst[1] for each in output.draws)
        judged = f"output {output.source}: {output.verdict.value}"
        return f"{judged}  in distribution (z {z:.2g}; {DIFFER:g} is a difference)"
    if output.worst is None:
        return f"output {output.source}: {output.verdict.value}"
    c = output.worst.comparison
    own = "the source's" if declared is None else f"{declared.name}'s"
    numbers = (
        "exact" if "mismatches" in c.ratios else f"error {c.error:.1e} of the float64 run, {own} own {c.accuracy:.1e}"
    )
    label = f"{output.source}" if output.source == output.target else f"{output.source} -> {output.target}"
    if c.mask is not None and not c.mask_explained:
        return f"output {label}: {output.verdict.value}  NaN or infinity on one side only"
    return f"output {label}: {output.verdict.value}  {numbers} (ratio {c.worst:.3g})"


def _resembles(output: OutputVerdict) -> str | None:
    """What precision a target with this error would have; None if no rounding explains it."""
    if output.worst is None or not output.worst.unit:
        return None
    error = output.worst.comparison.error
    for unit, name in _RESEMBLES:
        if output.worst.unit <= unit and error <= 4 * unit:
            return f"like {name} arithmetic or weights" if unit > output.worst.unit else None
    return None


def _output_dict(output: OutputVerdict) -> dict[str, Any]:
    worst = output.worst
    evidence: dict[str, Any] = {
        "verdict": output.verdict.value,
        "reasons": list(output.reasons),
        "resembles": _resembles(output),
        "draws": [each.as_dict() for each in output.draws],
        "cases": [
            {
                "case": result.case,
                "ratios": result.comparison.ratios,
                "error": result.comparison.error,
                "source_error": result.comparison.accuracy,
                "tolerance": result.comparison.tolerance,
                "signal": result.signal,
                "informative": result.informative,
                "undecided": result.comparison.undecided,
                "mask": result.comparison.mask,
                "errors": result.spread.as_dict() if result.spread is not None else None,
            }
            for result in output.results
        ],
    }
    if worst is not None:
        c = worst.comparison
        evidence["worst"] = {
            "case": worst.case,
            "index": list(c.index),
            "got": c.got,
            "expected": c.expected,
            "group": c.group,
        }
    return dict(_safe(evidence))


def _judge_environment() -> dict[str, str]:
    """What judged: versions and the machine."""
    return {
        "isomorph": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _safe(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(item) for item in value]
    return value


def _far(ratio: float) -> str:
    """How wrong a culprit is."""
    return f"{ratio:.3g} times its budget" if math.isfinite(ratio) else "of another shape, or NaN or infinite elsewhere"
