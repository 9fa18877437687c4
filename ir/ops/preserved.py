"""Operators of a source format that the IR has no op for: kept as they are, to be written back or refused by name.

What the IR does not understand it does not touch: the op is a barrier to every pass, and only the writer of the format
that it comes from takes it. Others refuse it with the reason for which the reader kept it.
See: docs/decisions/0013-preserved-operators.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from isomorph.errors import GraphError
from isomorph.ir.op import Op, TensorType, operation

__all__ = ["EVALUATORS", "Preserved", "Stated"]


class Stated(NamedTuple):
    """One attribute of a preserved operator, as the source states it.

    kind   "int", "float", "string", "ints", "floats", "strings": `value` is a number, a text, or a tuple of them;
           "tensor", "tensors": `value` is how many of the node's last operands are the tensors;
           "bytes", "type", "graph": `value` is in base64: what is no text, the source's own message
    """

    name: str
    kind: str
    value: Any

    @property
    def tensors(self) -> int:
        """How many operands hold its tensors."""
        return int(self.value) if self.kind in ("tensor", "tensors") else 0


@operation
class Preserved(Op):
    """The operator `kind` of a `domain` at a `version`, of the format `framework`, with its attributes as `stated`.

    Operands: the operator's own, without those left out (whose positions are `absent`); then what its subgraphs read
              from around them, by the names in `captures`; then the tensors among its attributes, in order.
    Results:  of the types in `results`, without those left out (whose positions are `unused`). A size that is known
              only when it runs is a named dimension, which `decides` lists where it is first seen here.
    imports   the domains of the operators in its subgraphs, each with its version
    reason    why the reader kept it: no rule, a domain of its own, an operand that depends on data.
    Nothing is known of what it computes: it is never folded or merged, and its operands keep their layout.
    """

    kind: str
    domain: str
    version: int
    results: tuple[TensorType, ...]
    stated: tuple[Stated, ...] = ()
    absent: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()
    captures: tuple[str, ...] = ()
    decides: tuple[str, ...] = ()
    imports: tuple[tuple[str, int], ...] = ()
    reason: str = ""
    framework: str = "onnx"

    inputs: ClassVar[tuple[str, ...]] = ("operands*",)
    is_random: ClassVar[bool] = True
    takes_opaque: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """The operator as its users know it: `Slice`, `ai.onnx.ml.TreeEnsemble`."""
        return f"{self.domain}.{self.kind}" if self.domain else self.kind

    def defines(self) -> frozenset[str]:
        return frozenset(self.decides)

    def tensors(self) -> int:
        """How many of the last operands are attributes of the operator."""
        return sum(Stated(*each).tensors for each in self.stated)

    def own_operands(self, count: int) -> int:
        """How many of `count` operands are those of the operator itself."""
        return count - len(self.captures) - self.tensors()

    def infer(self, *operands: TensorType | None) -> tuple[TensorType, ...]:
        if not all(isinstance(kind, TensorType) for kind in self.results):
            raise GraphError(f"Preserved: {self.results} are no types")
        self.require(self.own_operands(len(operands)) >= 0, f"{self.title} has {len(operands)} operands, too few")
        return self.results

    def evaluate(self, *arrays: Any) -> tuple[Any, ...]:
        evaluator = EVALUATORS.get(self.framework)
        if evaluator is None:
            raise GraphError(f"nothing here evaluates the {self.framework} operator {self.title}")
        return evaluator(self, arrays)


Evaluator = Callable[[Preserved, Sequence[Any]], tuple[Any, ...]]
EVALUATORS: dict[str, Evaluator] = {}
"""What computes preserved operators, by format; a converter that knows the format enters itself here."""
