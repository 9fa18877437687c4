"""How one model differs from another: nodes matched by structure and weights, then compared one by one."""

from isomorph.ir.diff.compare import diff_models
from isomorph.ir.diff.difference import KINDS, LENIENT, SCHEMA, Difference

__all__ = ["KINDS", "LENIENT", "SCHEMA", "Difference", "diff_models"]
