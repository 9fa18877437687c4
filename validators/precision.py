"""Declared precision classes: what a target that computes in less than the source's precision may be off by.

A target in float16 is not the float32 model, and nothing is taken for granted: without a declaration it is held to the
source's own precision, and is DIFFERENT. `--precision fp16` says that it is meant to be one. Then it is held to what a
correct model *of that class* can give, and EQUIVALENT means "the same function within fp16".

**What a class stores.** A class is a statement about where numbers are rounded, and how; in between, everything is
computed in float32 or wider.

    class    what is rounded                                       a number v becomes v + e with
    fp16     inputs, weights, the result of every operation        |e| <= max(2^-11·|v|, 2^-25)
    bf16     the same                                              |e| <= 2^-8·|v|
    tf32     operands of products (convolutions, matrix products)  |e| <= 2^-11·|v|
    int8     weights; operands of products; or every tensor: as    |e| <= s/2, s = (max(v, 0) - min(v, 0)) / (2^b - 1),
             the target's file says (lowered.py)                   of a weight s = 2 max|v| / (2^b - 1); b = 8 or 4 bits

2^-11 and 2^-8 are the units of roundoff of 11 and 8 significant bits (IEEE 754; TF32 keeps 10 stored bits, as float16);
2^-25 is half the least subnormal float16; s is the step of a grid that just holds the tensor and zero, symmetric for a
weight (of two axes or more), for which each channel may have its own. Copies, selections and comparisons are exact, and
so is a weight or an input that the class can represent. What tf32 and int8 leave in float32 has the noise of float32
(monte_carlo.py).

An int8 target with constant scales was calibrated for a range. Generated inputs beyond it are left out (where its file
does not state it, the families of wide ranges), and one that spans 1/k of it meets steps k times as coarse, which what
follows inherits: e is multiplied by k. The user's own inputs are judged whatever they are.

**The budget.** The source runs DRAWS times in float64, each number that the class stores moved by

    e' uniform on [-ALLOWANCE·e, ALLOWANCE·e]                      Q_k, k = 1 … DRAWS

and E = (Q_k - R) / EQUAL stand where S_k - R stand in compare.py: an error of EQUAL budgets is what ALLOWANCE times the
class's own rounding makes of *this* model on *this* input. So the thresholds, the reports and the few-draws rule stay
as they are.

**ALLOWANCE = 4.** As FLOOR_ULPS: one unit each for the rounding of the result and of the last operation, two because an
operation of the source may be several of the target, each of which stores its result (a normalization in pieces, GELU
through erf, a folded batch norm). 2 where only weights are rounded: nothing is computed in the class, and T is one more
draw. docs/validation.md has what correct targets need.

**Slices.** Errors of a slice may all come from one weight that they share. The largest of G single draws is at z(G)
standard deviations (compare.py), and EQUAL budgets are ALLOWANCE of them: slices get max(1, z(G) / ALLOWANCE) times
their budget.

**Chaos and resolution.** Where a model of the class is by itself further than CHAOS from R (relative RMS of the noise
over ALLOWANCE), or the tolerance is more than EQUAL / UNEQUAL of the signal, the case says nothing: a model that
answers something else altogether is off by about the signal, and that must be a difference.

Range is no rounding: where float16 ends (65504) and R goes on, infinities and NaN stay a difference.
"""

from __future__ import annotations

from dataclasses import dataclass

from isomorph.errors import UsageError
from isomorph.ir import DType

__all__ = ["ALLOWANCE", "MASKING", "NAMES", "Precision"]

ALLOWANCE = 4.0
MASKING = 1e9
"""A number of at least this size says "never" (a masked score). No grid holds it beside others; int8 leaves it."""
NAMES = ("float32", "tf32", "fp16", "bf16", "int8")
_UNITS = {"float32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8}
_STORED = {"float32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Precision:
    """A declared class.

    name    one of NAMES
    scope   what is rounded: "tensors" (every stored one), "products" (operands of products), "weights"
    bits    of the grid of int8; 0 for floats, which round in proportion
    split   each channel of a weight has a grid of its own
    """

    name: str
    scope: str = "tensors"
    bits: int = 0
    split: bool = False

    @classmethod
    def of(cls, name: str) -> Precision:
        """The class of this name. Raises UsageError."""
        if name not in NAMES:
            raise UsageError(f"there is no precision class `{name}`", advice=f"one of {', '.join(NAMES)}")
        if name == "int8":
            return cls(name, bits=8)
        return cls(name, "products" if name == "tf32" else "tensors")

    @property
    def unit(self) -> float:
        """Largest error of a rounding: relative to the number, for int8 to the range of its tensor."""
        return 0.5 / (2**self.bits - 1) if self.bits else _UNITS[self.name]

    @property
    def allowance(self) -> float:
        """How many times the class's own rounding is allowed: once for weights alone, which are rounded and not
        computed; doubled, as ranges about 0 may be taken symmetric; else ALLOWANCE."""
        return 2.0 if self.scope == "weights" else ALLOWANCE

    @property
    def least(self) -> float:
        """Absolute error that a number near 0 may have."""
        return 2.0**-25 if self.name == "fp16" else 0.0

    def lowers(self, source: str, target: str) -> bool:
        """Whether a target of this class may have an input or output of the type `target` for the source's `source`."""
        wide, narrow = DType.of(source), DType.of(target)
        stored = (DType.FLOAT32, DType.of(_STORED.get(self.name, "float32")))
        return wide.is_float and narrow in stored

    @property
    def lowest(self) -> float:
        """The relative error that any output may have: of its own rounding. 0 where outputs need not be rounded."""
        return self.unit if self.scope == "tensors" and not self.bits else 0.0

    def __str__(self) -> str:
        """As the runners are asked (monte_carlo.py): "fp16", "int8/products/8/"."""
        return "/".join((self.name, self.scope, str(self.bits), "split" * self.split)) if self.bits else self.name

    @classmethod
    def parse(cls, spelled: str) -> Precision:
        name, _, rest = spelled.partition("/")
        if not rest:
            return cls.of(name)
        scope, bits, split = rest.split("/")
        return cls(name, scope, int(bits), bool(split))

    @property
    def evidence(self) -> str:
        """What a file of this class holds."""
        return f"it has weights of {self.bits} bits" if self.bits else f"most of its weights are {_STORED[self.name]}"

    @property
    def allows(self) -> str:
        """What the class allows, for reports."""
        what = {
            "tensors": "inputs, weights and results of operations",
            "products": "operands of products",
            "weights": "weights",
        }[self.scope]
        if self.bits:
            part = "channel" if self.split else "tensor"
            return f"{what} rounded to {2**self.bits - 1} steps of the range of a {part}"
        return f"{what} rounded to {self.unit:.2g} of themselves"

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "scope": self.scope, "bits": self.bits or None, "unit": self.unit}
