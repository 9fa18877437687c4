"""Exported programs (torch.export) as runners. Taps are fx node names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from isomorph.converters.torch.capture import capture_program
from isomorph.converters.torch.guards import assumptions
from isomorph.converters.torch.state import changed
from isomorph.errors import IsomorphError, MalformedError
from isomorph.ir import DimRange, DType, TensorType
from isomorph.ir.conditions import Condition
from isomorph.ir.shapes import as_dim
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import NATIVE, Result, Signature, TensorSpec
from isomorph.validators.runners.torch_device import Device, environment
from isomorph.validators.runners.torch_double import doubled, in_double, widened
from isomorph.validators.runners.torch_pieces import gives_first_alone, run_piece
from isomorph.validators.runners.torch_signature import as_numpy, element_count, result_names, tensor_spec
from isomorph.validators.runners.torch_states import States
from isomorph.validators.runners.torch_train import train
from isomorph.validators.training.exercise import Exercise, Trained

__all__ = ["ProgramRunner", "flat"]

_CHECKS = ("_guards_fn", "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")


class _GraphRunner:
    """Runs a flat fx graph module: arguments in the order of `input_names`, results in the order of `output_names`."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        input_names: Sequence[str],
        output_names: Sequence[str | None],
        states: States,
    ) -> None:
        self._module = flat(module)
        self._states = states
        self._double: torch.fx.GraphModule | None = None
        self.input_names = tuple(input_names)
        self.output_names = tuple(output_names)

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        arguments = [Device.tensor(inputs[name]) for name in self.input_names]
        kept: dict[str, np.ndarray] = {}
        module = self._module
        if precision != NATIVE:
            if self._double is None:
                Device.needs_double()
                self._double = doubled(self._module)
            module, arguments = self._double, [widened(a) for a in arguments]
            self._states.restore(module, inputs)
            values = in_double(lambda: _interpret(module, arguments, taps, kept), Noise.parse(precision), arguments)
        else:
            self._states.restore(module, inputs)
            with torch.no_grad():
                values = _interpret(module, arguments, taps, kept)
        named = zip(self.output_names, tree_flatten(values)[0], strict=True)
        results = {name: as_numpy(value) for name, value in named if name is not None}
        given = dict(zip(self.input_names, arguments, strict=True))
        return Result({**results, **self._states.after(module, given)}, kept)

    def run_piece(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """The values `wanted` from those of `feeds`, both named as taps."""
        if self._states.inputs():
            raise NotImplementedError("the program keeps states from run to run")
        return run_piece(self._module, feeds, wanted, Device.tensor)

    def train(self, inputs: Mapping[str, np.ndarray], exercise: Exercise, precision: str) -> Trained:
        arguments = [Device.tensor(inputs[name]) for name in self.input_names]
        if precision == NATIVE:
            self._states.restore(self._module, inputs)
            return train(self._module, self._module, lambda module: self._named(module, arguments), exercise)
        Device.needs_double()
        self._double = self._double or doubled(self._module)
        double, wide = self._double, [widened(a) for a in arguments]
        self._states.restore(double, inputs)
        done = in_double(
            lambda: train(double, self._module, lambda module: self._named(module, wide), exercise),
            Noise.parse(precision),
        )
        return cast("Trained", done)

    def _named(self, module: Any, arguments: Sequence[torch.Tensor]) -> list[tuple[str | None, Any]]:
        return list(zip(self.output_names, tree_flatten(module(*arguments))[0], strict=True))


def _interpret(module: Any, arguments: Sequence[torch.Tensor], taps: Sequence[str], kept: dict[str, np.ndarray]) -> Any:
    """Run the module; values named in `taps` are copied when they are made, before a later op writes into them. An op
    with several results, of which the first alone is used (an LSTM's sequence), has that for its value."""
    if not taps:
        return module(*arguments)
    wanted = set(taps)

    class Tapping(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if n.name in wanted:
                first = value[0] if isinstance(value, (tuple, list)) and gives_first_alone(n) else value
                if isinstance(first, torch.Tensor):
                    kept[n.name] = as_numpy(first.detach().clone())
            return value

    return Tapping(module).run(*arguments)


def flat(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The same graph with plain positional arguments, in the order of its placeholders, and without its run-time checks
    (they pin dtypes and sizes)."""
    for node in list(module.graph.nodes):
        if any(check in str(node.target) for check in _CHECKS) and not node.users:
            module.graph.erase_node(node)
    module._forward_pre_hooks.clear()  # checks that the arguments are nested, and named, as the program's are
    module._forward_pre_hooks_with_kwargs.clear()
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    module.recompile()
    return module


class ProgramRunner:
    """A torch.export.ExportedProgram. Taps are fx node names."""

    def __init__(self, program: Any) -> None:
        self._program = program
        signature = program.graph_signature
        graph_inputs = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        self._inputs = [
            graph_inputs[name] for name in signature.user_inputs if isinstance(name, str) and name in graph_inputs
        ]
        output_node = next(node for node in program.graph.nodes if node.op == "output")
        kinds = signature.output_specs
        self._outputs = [
            node for node, spec in zip(output_node.args[0], kinds, strict=True) if spec.kind.name == "USER_OUTPUT"
        ]
        spec = program.module_call_graph[0].signature.out_spec
        taken = [node.name for node in self._inputs]
        named = zip(result_names(spec, len(self._outputs), taken), self._outputs, strict=True)
        names = [name if isinstance(node, torch.fx.Node) else None for name, node in named]
        module = program.module(check_guards=False)
        inputs = [node.name for node in self._inputs]
        self._states = States(module, *_changes(program, inputs), inputs)
        self._runner = _GraphRunner(module, inputs, names, self._states)

    def signature(self) -> Signature:
        dims = {
            str(symbol): (_lower(bounds.lower), _upper(bounds.upper))
            for symbol, bounds in self._program.range_constraints.items()
        }
        inputs = tuple(
            tensor_spec(node.name, node.meta["val"], _table_rows(node, self._program)) for node in self._inputs
        )
        outputs = tuple(
            tensor_spec(name, node.meta["val"], None)
            for name, node in zip(self._runner.output_names, self._outputs, strict=True)
            if name is not None
        )
        outputs += self._states.specs({spec.name: spec for spec in inputs})
        inputs += self._states.inputs()
        count = element_count(self._program.state_dict.values())
        assumes = _assumed(self._program, inputs, dims)
        return Signature(inputs, outputs, dims, count, environment(), assumes=assumes)

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        return self._runner.run(inputs, taps=taps, precision=precision)

    def run_piece(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """See localization/piece.py."""
        return self._runner.run_piece(feeds, wanted)

    def train(self, inputs: Mapping[str, np.ndarray], exercise: Exercise, precision: str = "native") -> Trained:
        return self._runner.train(inputs, exercise, precision)


def _assumed(program: Any, inputs: Sequence[TensorSpec], dims: Mapping[str, tuple[int, int | None]]) -> tuple[str, ...]:
    """What torch.export assumed of the sizes of the inputs."""
    guards = getattr(program, "_guards_code", ())
    shapes = [(spec.name, TensorType(DType.FLOAT32, tuple(map(as_dim, spec.shape)))) for spec in inputs]
    ranges = {name: DimRange(*span) for name, span in dims.items()}
    return tuple(each for each in assumptions(guards, shapes, ranges) if _is_about_sizes(each))


def _is_about_sizes(text: str) -> bool:
    try:
        Condition.parse(text)
    except MalformedError:
        return False
    return True


def _changes(program: Any, inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths of the buffers and names of the inputs that a program changes in place."""
    try:
        walked = capture_program(program)
    except IsomorphError:  # it cannot be converted either
        return [], []
    names = changed(walked)
    buffers = dict.fromkeys(walked.parameters[name].name for name in names if name in walked.parameters)
    return list(buffers), [name for name in inputs if name in names]


def _lower(bound: Any) -> int:
    """torch.export writes 2 for a dimension without a stated minimum; such programs run with 1."""
    return int(bound) if getattr(bound, "is_Integer", False) and int(bound) > 2 else 1


def _upper(bound: Any) -> int | None:
    """An int, or None for a bound that is infinite or symbolic."""
    return int(bound) if getattr(bound, "is_Integer", False) and int(bound) < (1 << 62) else None


def _table_rows(placeholder: torch.fx.Node, program: Any) -> int | None:
    """Rows of the smallest table that this input indexes, directly or through casts and reshapes."""
    rows: list[int] = []
    pending, seen = [placeholder], {placeholder}
    while pending:
        for user in pending.pop().users:
            name = str(user.target)
            if "embedding" in name and isinstance(user.args[0], torch.fx.Node) and user.args[1] in seen:
                rows.append(int(user.args[0].meta["val"].shape[0]))
            elif (
                any(part in name for part in (".to.", "_to_copy", "view", "reshape", "unsqueeze", "flatten"))
                and user not in seen
            ):
                seen.add(user)
                pending.append(user)
    return min(rows, default=None)
