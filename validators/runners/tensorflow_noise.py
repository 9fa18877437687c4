"""Monte Carlo arithmetic (validators/monte_carlo.py) for SavedModels: a widened GraphDef, each of whose operations is
followed, and where it sums is preceded, by a call of one function,

    moved(y, index, c) = y · (1 + δ) + c · η         δ ~ U(-A, A) per element, η ~ U(-A, A) one for the tensor

whose draws depend on the seed and on `index`, the operation's number, alone. Amplitude A and seed are two variables of
the session, so that one graph serves all runs. The bodies of loops, branches and functions are rewritten, too; in every
round of a loop an operation draws the same δ.
See: tensorflow/core/framework/{node_def,function,op_def}.proto; tf.raw_ops.StatelessRandomUniform (Philox).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runners.tensorflow_double import CENTRED, DoubleFunction

__all__ = ["EXACT", "Move", "NoisyFunction", "Rewriting", "draw", "variable"]

# Results are elements of the operands, or decisions about them.
_COPIES_AND_DECISIONS = """
Const Placeholder PlaceholderWithDefault Identity IdentityN NoOp StopGradient PreventGradient Snapshot CheckNumerics
EnsureShape Cast Reshape Transpose Squeeze ExpandDims Tile Concat ConcatV2 Pack Unpack Split SplitV Slice StridedSlice
Gather GatherV2 GatherNd ResourceGather ScatterNd TensorScatterUpdate TensorScatterMax TensorScatterMin Pad PadV2
MirrorPad Fill ZerosLike OnesLike BroadcastTo BroadcastArgs Shape ShapeN Size Rank Range Where Select SelectV2 OneHot
DepthToSpace SpaceToDepth BatchToSpaceND SpaceToBatchND BatchToSpace SpaceToBatch Reverse ReverseV2 ReverseSequence
Roll MatrixBandPart MatrixBandPartV2 MatrixBandPartV3 MatrixDiag MatrixDiagV2 MatrixDiagV3 MatrixDiagPart
MatrixDiagPartV2 MatrixDiagPartV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 Diag DiagPart InvertPermutation Unique
UniqueV2 DynamicPartition DynamicStitch ParallelDynamicStitch ExtractImagePatches ExtractVolumePatches
ResizeNearestNeighbor Relu Relu6 Abs Neg Sign Floor Ceil Round Rint Maximum Minimum ClipByValue Max Min ArgMax ArgMin
TopK TopKV2 Sort InTopK InTopKV2 MaxPool MaxPoolV2 MaxPool3D MaxPoolWithArgmax SegmentMax SegmentMin UnsortedSegmentMax
UnsortedSegmentMin NonMaxSuppressionV3 NonMaxSuppressionV4 Equal NotEqual Less LessEqual Greater GreaterEqual
ApproximateEqual LogicalNot LogicalAnd LogicalOr IsNan IsInf IsFinite All Any Bucketize SearchSorted LowerBound
UpperBound Assert Print PrintV2 RandomUniform RandomStandardNormal StatelessRandomUniform StatelessRandomUniformV2
Enter RefEnter Exit Switch Merge NextIteration LoopCond
While StatelessWhile If StatelessIf Case StatelessCase PartitionedCall StatefulPartitionedCall
TensorListReserve EmptyTensorList TensorListFromTensor TensorListStack TensorListGetItem TensorListSetItem
TensorListPushBack TensorListPopBack TensorListLength TensorListElementShape TensorListResize TensorListConcatV2
TensorListSplit TensorListGather TensorListScatterV2
TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3
TensorArrayConcatV3 TensorArraySplitV3
"""
# One rounding (or a few) of the result.
_ARITHMETIC = """
Add AddV2 Sub Mul MulNoNan Div RealDiv DivNoNan Pow Sqrt Rsqrt Reciprocal Inv Square SquaredDifference Exp Expm1 Log
Log1p Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Tanh Asinh Acosh Atanh Erf Erfc Erfinv Sigmoid Elu Selu Softplus
Softsign LeakyRelu Xdivy Xlogy Xlog1py FloorMod FloorDiv Mod Softmax LogSoftmax BiasAdd BiasAddV1
"""
EXACT = frozenset(_COPIES_AND_DECISIONS.split())
_ELEMENTWISE = frozenset(_ARITHMETIC.split())
# The c of functions that are computed as c + g(x): how large the terms are that cancel.
_TERMS = {"Sigmoid": 1.0, "Elu": 1.0, "Selu": 1.76}
# A function that reads the amplitude has a state, so has what calls it.
_STATEFUL = {
    "StatelessWhile": "While",
    "StatelessIf": "If",
    "StatelessCase": "Case",
    "PartitionedCall": "StatefulPartitionedCall",
}
_AMPLITUDE, _SEED = "monte_carlo_amplitude", "monte_carlo_seed"


class NoisyFunction(DoubleFunction):
    """A signature in float64 with noise. Raises NotImplementedError, naming the op, where it has no such form."""

    suffix = "_float64_noise"

    def __init__(self, function: Any, names: Iterable[str]) -> None:
        super().__init__(function, names)
        with self.graph.as_default():
            self._settings = {name: _assignment(name, dtype) for name, dtype in self.variables().items()}

    def rewritten(self, graph: Any) -> tuple[Any, Mapping[str, str]]:
        return Rewriting(super().rewritten(graph)[0]).result()

    @staticmethod
    def variables() -> dict[str, Any]:
        """The variables that a run sets, and their types."""
        return {_AMPLITUDE: tensorflow.float64, _SEED: tensorflow.int64}

    def settings(self, noise: Noise) -> dict[str, float | int]:
        """What a run with this noise sets them to."""
        return {_AMPLITUDE: noise.amplitude, _SEED: noise.seed}

    def run_with(
        self, noise: Noise, inputs: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """These outputs by name, or all, of the run with this noise: the same for the same noise."""
        values = self.settings(noise)
        self.session.run(
            [assign for assign, _ in self._settings.values()],
            {value: values[name] for name, (_, value) in self._settings.items()},
        )
        return self.run(inputs, names)


def _assignment(name: str, dtype: Any) -> tuple[Any, Any]:
    """The operation that sets the variable of this name, and the placeholder of what it is set to."""
    value = tensorflow.compat.v1.placeholder(dtype, [])
    return tensorflow.raw_ops.AssignVariableOp(resource=variable(name, dtype), value=value), value


def variable(name: str, dtype: Any) -> Any:
    """The variable of the session that has this name: the same in a graph and in the functions of its library."""
    return tensorflow.raw_ops.VarHandleOp(dtype=dtype, shape=[], shared_name=name)


def draw(amplitude: str, index: Any, which: int, shape: Any) -> Any:
    """Numbers uniform on ±A, A the variable of this name, that depend on the seed, on `index` and on `which` (0, 1)."""
    read = tensorflow.raw_ops.ReadVariableOp
    largest = read(resource=variable(amplitude, tensorflow.float64), dtype=tensorflow.float64)
    seed = read(resource=variable(_SEED, tensorflow.int64), dtype=tensorflow.int64)
    key = tensorflow.stack([2 * index + which, seed])
    uniform = tensorflow.raw_ops.StatelessRandomUniform(shape=shape, seed=key, dtype=tensorflow.float64)
    return largest * (2.0 * uniform - 1.0)


def mover(function: Callable[[Any, Any, Any], Any]) -> Any:
    """The definition of a function y, index, c -> moved y, for the library of a graph."""
    specs = [
        tensorflow.TensorSpec(None, tensorflow.float64),
        tensorflow.TensorSpec([], tensorflow.int64),
        tensorflow.TensorSpec([], tensorflow.float64),
    ]
    traced = tensorflow.function(function, input_signature=specs, autograph=False)
    return traced.get_concrete_function().function_def


def _moved(y: Any, index: Any, c: Any) -> Any:
    relative = draw(_AMPLITUDE, index, 0, tensorflow.shape(y, tensorflow.int64))
    return y * (1.0 + relative) + c * draw(_AMPLITUDE, index, 1, [])


class Move(NamedTuple):
    """A call on a value: which of the movers, and its c."""

    mover: str
    c: float = 0.0


class Rewriting:
    """One GraphDef with its function library, calls of movers put in."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._functions = {each.signature.name for each in graph.library.function}
        self._definitions = {name: mover(function) for name, function in self.movers().items()}
        self._index = 0

    def movers(self) -> dict[str, Callable[[Any, Any, Any], Any]]:
        """The functions that move values, by the names that `Move` knows them by."""
        return {"noise": _moved}

    def results(self, node: Any) -> Sequence[Move]:
        """What is done to each float result of this node."""
        return () if node.op in EXACT else (Move("noise", _TERMS.get(node.op, 0.0)),)

    def operands(self, node: Any) -> Sequence[Move]:
        """What is done to each float operand of this node."""
        summed = node.op not in _ELEMENTWISE or node.name.endswith(CENTRED)
        return (Move("noise"),) if summed and node.op not in EXACT else ()

    def result(self) -> tuple[Any, dict[str, str]]:
        """The graph, and each tensor that moved -> the one to read in its stead."""
        for function in self.graph.library.function:
            function.signature.is_stateful = True
            moved = self._rewrite(function.node_def, inner=True)
            for name, value in function.ret.items():
                function.ret[name] = moved.get(value, value)
        moved = self._rewrite(self.graph.node, inner=False)
        self.graph.library.function.extend(self._definitions.values())
        return self.graph, moved

    def _rewrite(self, nodes: Any, *, inner: bool) -> dict[str, str]:
        """Of a graph's nodes or, `inner`, of a function's."""
        moved: dict[str, str] = {}
        originals = list(nodes)
        for node in originals:
            node.op = _STATEFUL.get(node.op, node.op)
            moves = () if node.op in self._functions else self.results(node)
            for place, (reference, dtype) in enumerate(_results(node, inner=inner) if moves else ()):
                if dtype == types_pb2.DT_DOUBLE:
                    moved[reference] = self._calls(nodes, f"{node.name}/moved_{place}", reference, moves, inner=inner)
        for node in originals:
            node.input[:] = [moved.get(_plain(name), name) for name in node.input]
            moves = () if node.op in self._functions else self.operands(node)
            for place, dtype in enumerate(_types(node, op_def_registry.get(node.op).input_arg) if moves else ()):
                if dtype == types_pb2.DT_DOUBLE:
                    name = f"{node.name}/operand_{place}"
                    node.input[place] = self._calls(nodes, name, node.input[place], moves, inner=inner)
        return moved

    def _calls(self, nodes: Any, name: str, operand: str, moves: Sequence[Move], *, inner: bool) -> str:
        for place, move in enumerate(moves):
            operand = self._call(nodes, f"{name}_{place}" if place else name, operand, move, inner=inner)
        return operand

    def _call(self, nodes: Any, name: str, operand: str, move: Move, *, inner: bool) -> str:
        """A call of a mover; its constants wait for the operand, which puts them into the frame of its loop."""
        suffix = ":output:0" if inner else ""
        waits = [f"^{operand.partition(':')[0]}"] if not inner or ":" in operand else []
        operands = [operand]
        for kind, value, dtype in (("index", self._index, types_pb2.DT_INT64), ("c", move.c, types_pb2.DT_DOUBLE)):
            constant = nodes.add(name=f"{name}/{kind}", op="Const", input=waits)
            constant.attr["dtype"].type = dtype
            constant.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(value, dtype, []))
            operands.append(constant.name + suffix)
        self._index += 1
        call = nodes.add(name=name, op="StatefulPartitionedCall", input=operands)
        call.attr["f"].func.name = self._definitions[move.mover].signature.name
        call.attr["Tin"].list.type[:] = [types_pb2.DT_DOUBLE, types_pb2.DT_INT64, types_pb2.DT_DOUBLE]
        call.attr["Tout"].list.type[:] = [types_pb2.DT_DOUBLE]
        return name + suffix


def _plain(reference: str) -> str:
    """The first result of a node of a graph is spelled with or without `:0`."""
    return reference.removesuffix(":0") if reference.count(":") == 1 else reference


def _results(node: Any, *, inner: bool) -> Iterator[tuple[str, int]]:
    """Each result: how it is referred to, and its type."""
    definition = op_def_registry.get(node.op)
    if definition is None:
        raise NotImplementedError(f"`{node.op}` has no noise: it is no op of this TensorFlow ({node.name})")
    flat = 0
    for argument in definition.output_arg:
        for place, dtype in enumerate(_types(node, [argument])):
            if inner:
                yield f"{node.name}:{argument.name}:{place}", dtype
            else:
                yield node.name if flat == 0 else f"{node.name}:{flat}", dtype
            flat += 1


def _types(node: Any, arguments: Iterable[Any]) -> list[int]:
    """The types of these arguments, lists of tensors spread."""
    found: list[int] = []
    for argument in arguments:
        if argument.type_list_attr:
            found += node.attr[argument.type_list_attr].list.type
            continue
        dtype = node.attr[argument.type_attr].type if argument.type_attr else argument.type
        found += [dtype] * (node.attr[argument.number_attr].i if argument.number_attr else 1)
    return found
