"""The base class of all ops. An op is a frozen dataclass whose fields are its typed, normalized attributes.

An op that bears an ONNX name means what ONNX says at opset `OPSET`, except where its docstring says "Differs".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from isomorph.errors import DTypeError, GraphError, ShapeError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule, Perm
from isomorph.ir.shapes import Dim, Shape, Sym, elements, format_shape
from isomorph.records import record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Region, Value

__all__ = [
    "OPS",
    "OPSET",
    "Op",
    "OpaqueType",
    "TensorType",
    "broadcast",
    "normalize_axes",
    "normalize_axis",
    "operation",
]

OPSET = 24
"""The ONNX opset whose definitions the IR's ONNX-named ops follow."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape of a value; dimensions are ints or symbolic."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        return not any(isinstance(dim, Sym) for dim in self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return elements(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{format_shape(self.shape)}"


@dataclass(frozen=True, slots=True)
class OpaqueType(TensorType):
    """The type of a value that is only handed on: a sequence, an optional, a map, or a tensor of unknown rank.

    form     "sequence", "optional" or "map" of an `element`; "tensor", a tensor with any number of axes
    element  the type of what is inside; sizes that differ from one to the next are the symbol `any`
    key      the element type of a map's keys
    `dtype` is that of the tensors inside; `shape` is empty and says nothing. Only ops that say `takes_opaque` take it.
    See: docs/decisions/0013-preserved-operators.md
    """

    form: str = "tensor"
    element: TensorType | None = None
    key: DType | None = None

    @classmethod
    def of(cls, form: str, element: TensorType, key: DType | None = None) -> OpaqueType:
        """A sequence or optional of `element`, or a map from `key` to it."""
        return cls(element.dtype, (), form, element, key)

    @property
    def is_static(self) -> bool:
        return False

    def __str__(self) -> str:
        inside = [str(each) for each in (self.key, self.element) if each is not None]
        return f"{self.form}({', '.join(inside) or self.dtype})"


OpT = TypeVar("OpT", bound="Op")


@dataclass_transform(frozen_default=True)
def operation(cls: type[OpT]) -> type[OpT]:
    """A `record` that is an op: a frozen dataclass with slots. One that adds no attribute is its base with another
    meaning."""
    return record(cls)


@record
class Op:
    """Base of all ops. A subclass is an `operation`, is registered in `OPS` by its class name, and defines

    infer        types of the outputs from types of the inputs; raises ShapeError or DTypeError on the line that builds
    decompose    optional: the same computation as other ops; its specification, and the fallback of every writer
    evaluate     optional: the same computation in NumPy
    layout_rule  what happens when data axes are permuted; AXES ops define `permuted`

    `is_random` says that two runs give two results: such an op is never folded, and never merged with its equal.
    `takes_opaque` says that operands and results may be no tensors (see OpaqueType).
    `inputs` names the operands in order; a trailing "?" marks an optional one (None in a node), a trailing "*" any
    number of them.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    layout_rule: ClassVar[LayoutRule] = LayoutRule.FIXED
    has_side_state: ClassVar[bool] = False
    is_random: ClassVar[bool] = False
    takes_opaque: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if cls.__name__.startswith("_"):
            return
        # slots make the class a second time: the same qualified name is the same op
        known = OPS.get(cls.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"two ops are named {cls.__name__}: {known.__module__} and {cls.__module__}")
        OPS[cls.__name__] = cls

    @property
    def name(self) -> str:
        return type(self).__name__

    def defines(self) -> frozenset[str]:
        """Names of the dimensions whose size this op decides from data: their first appearance in the graph is here."""
        return frozenset()

    def attributes(self) -> dict[str, Any]:
        """The attributes by name, in the order of declaration."""
        return {name: getattr(self, name) for name in self.__match_args__}

    def infer(self, *operands: TensorType | None) -> tuple[TensorType, ...]:
        """Types of the outputs. None stands for an optional operand that is absent."""
        raise GraphError(f"{self.name} does not define infer")  # pragma: no cover

    def decompose(self, b: Builder, *operands: Value | None) -> Value | Sequence[Value]:
        """Emit the same computation through `b`; returns the value (or values) that replace the outputs."""
        raise GraphError(f"{self.name} has no decomposition")

    def evaluate(self, *arrays: npt.NDArray[np.generic] | None) -> Any:
        """The same computation in NumPy: an array, or a tuple of arrays where there are several outputs."""
        raise GraphError(f"{self.name} has no evaluation in NumPy")

    def check_regions(self, operands: Sequence[TensorType | None], regions: Sequence[Region]) -> None:
        """Raise GraphError unless the regions fit the op and its operands. Only control flow has regions."""
        if regions:
            raise GraphError(f"{self.name} takes no regions, {len(regions)} were given")

    def run(self, bodies: Sequence[Callable[..., Any]], *arrays: npt.NDArray[np.generic]) -> Any:
        """As `evaluate`, of an op with regions: each body is a function from arrays to a tuple of arrays."""
        raise GraphError(f"{self.name} has no regions")

    def permuted(self, perm: Perm) -> Op | None:
        """The op that does the same on data whose axes are in the order `perm` (numpy.transpose), or None.

        With x' = transpose(x, perm): op.permuted(perm)(x') == transpose(op(x), perm).
        """
        if self.layout_rule is LayoutRule.ELEMENTWISE:
            return self
        if self.layout_rule is LayoutRule.BOUND:
            layout = self.layout.after(perm)  # type: ignore[attr-defined]
            return None if layout is None else replace(self, layout=layout)  # type: ignore[call-arg]
        return None

    @classmethod
    def can_decompose(cls) -> bool:
        return cls.decompose is not Op.decompose

    @classmethod
    def can_evaluate(cls) -> bool:
        return cls.evaluate is not Op.evaluate

    @classmethod
    def has_regions(cls) -> bool:
        """Whether this is control flow: its nodes have regions, and `run` stands for `evaluate`."""
        return cls.run is not Op.run

    def require(self, condition: bool, message: str) -> None:
        """Raise ShapeError with the op's name unless the condition holds."""
        if not condition:
            raise ShapeError(f"{self.name}: {message}")

    def check_opaque(self, types: Sequence[TensorType | None]) -> None:
        """Raise DTypeError unless all these operands and results are tensors of known rank, or the op takes others."""
        for kind in types:
            if isinstance(kind, OpaqueType) and not self.takes_opaque:
                raise DTypeError(f"{self.name}: tensors of known rank are needed, not {kind}")

    def require_float(self, operand: TensorType) -> None:
        if not (operand.dtype.is_float or operand.dtype.is_complex):
            raise DTypeError(f"{self.name}: a floating-point operand is needed, not {operand.dtype}")

    def require_same_dtype(self, *operands: TensorType | None) -> DType:
        """The common dtype of all operands that are present; raises DTypeError where they differ."""
        dtypes = {operand.dtype for operand in operands if operand is not None}
        if len(dtypes) != 1:
            names = ", ".join(sorted(str(dtype) for dtype in dtypes))
            raise DTypeError(f"{self.name}: operands must have one element type, not {names}")
        return dtypes.pop()


OPS: dict[str, type[Op]] = {}
"""All ops by name."""


def normalize_axis(axis: int, rank: int, what: str = "axis") -> int:
    """An axis in [0, rank) from one in [-rank, rank). Raises ShapeError."""
    if not -rank <= axis < rank:
        raise ShapeError(f"{what} {axis} is out of range for rank {rank}")
    return axis % rank


def normalize_axes(axes: Sequence[int], rank: int, what: str = "axis") -> tuple[int, ...]:
    """Axes in [0, rank), in the order given. Raises ShapeError for one out of range or named twice."""
    normal = tuple(normalize_axis(axis, rank, what) for axis in axes)
    if len(set(normal)) != len(normal):
        raise ShapeError(f"{what} named twice in {tuple(axes)}")
    return normal


def broadcast(*shapes: Shape) -> Shape:
    """The NumPy broadcast of shapes. A symbol against an int > 1 takes the int; two different symbols are refused."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for offset, dim in enumerate(reversed(shape), start=1):
            seen = result[-offset]
            if dim in (1, seen):
                continue
            if seen == 1 or (isinstance(seen, Sym) and isinstance(dim, int)):
                result[-offset] = dim
            elif isinstance(dim, Sym) and isinstance(seen, int):
                continue
            else:
                listed = " and ".join(format_shape(shape) for shape in shapes)
                raise ShapeError(f"shapes {listed} do not broadcast", because=f"{seen} against {dim}")
    return tuple(result)
