"""PyTorch models: a `.pt2` file through torch.export.load, or the user's own module.

Float64 is made by two means together: the module's parameters, buffers and inputs are doubled, and a dispatch mode
(torch_double.py) rewrites each dtype argument that names a narrower float (`to(torch.float32)`, factory functions)
while the model runs. The same mode sees every result, so a value that stayed narrow is found and the float64 run is
refused.

What a model changes in place, its buffers and its arguments, are outputs as well: every run begins with the buffers as
they were in the file, and ends with a look at what became of them.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, treespec_dumps

from isomorph.converters.torch.architecture import Architecture, join
from isomorph.converters.torch.capture import capture_program
from isomorph.converters.torch.custom import load_extensions
from isomorph.converters.torch.detection import exportable
from isomorph.converters.torch.guards import assumptions
from isomorph.converters.torch.program import output_names
from isomorph.converters.torch.reference import argument_names, example_inputs
from isomorph.converters.torch.state import changed, input_name, next_name
from isomorph.errors import IsomorphError, MalformedError, RunnerError, UsageError
from isomorph.ir import DimRange, DType, TensorType
from isomorph.ir.conditions import Condition
from isomorph.ir.shapes import as_dim, parse_dim
from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runner import NATIVE, Result, Signature, TensorSpec
from isomorph.validators.runners.torch_device import Device, environment
from isomorph.validators.runners.torch_double import WIDE, in_double, widened
from isomorph.validators.runners.torch_pieces import gives_first_alone, run_piece
from isomorph.validators.runners.torch_quantized import register_operators
from isomorph.validators.runners.torch_train import train
from isomorph.validators.runners.torch_versions import loadable
from isomorph.validators.training.exercise import Exercise, Trained

__all__ = ["CallableRunner", "ProgramRunner", "open_model"]

_CHECKS = ("_guards_fn", "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")


def open_model(model: Mapping[str, Any], *, role: str, device: str = "cpu") -> Any:
    """The runner for a worker. A model is built from one seed; what it draws at random comes from another on each
    side."""
    Device.select(device)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(0)
    runner = _opened(model, device)
    torch.manual_seed({"reference": 1, "target": 2}[role])
    return runner


def _opened(model: Mapping[str, Any], device: str) -> Any:
    if model["kind"] == "capture":
        made = _joined(model["weights"]) if "weights" in model else resolve(model["reference"])
        return CallableRunner(*_placed(*made))
    if model["format"] == "torchscript":
        from isomorph.validators.runners.torchscript import ScriptRunner

        if device != "cpu":
            raise RunnerError("TorchScript archives run on the CPU only", runner="torch", advice="--device cpu")

        return ScriptRunner(model, as_numpy)
    program = _load_program(model["path"])
    if Device.current.type != "cpu":
        program = torch.export.passes.move_to_device_pass(program, Device.current)
    return ProgramRunner(program)


def _load_program(path: str) -> Any:
    """The program in a file; libraries that register its operators are imported first, torchvision where it lacks."""
    load_extensions()
    try:
        return torch.export.load(loadable(path))
    except Exception:
        register_operators()
        if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is not None:
            importlib.import_module("torchvision")
        return torch.export.load(loadable(path))


def _placed(module: torch.nn.Module, arguments: Any, keywords: Any) -> tuple[torch.nn.Module, Any, Any]:
    """A module and its example arguments on the device of the process."""
    if Device.current.type == "cpu":
        return module, arguments, keywords
    leaves, structure = tree_flatten((arguments, keywords))
    moved = [leaf.to(Device.current) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return (module.to(Device.current), *structure.unflatten(moved))


def _joined(weights: Mapping[str, Any]) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    """The module of a checkpoint's architecture with its weights, and example arguments of the shapes given."""
    architecture = Architecture.parse(weights["architecture"])
    joined = join(architecture, Path(weights["path"]), prefix=weights["prefix"])
    arguments, keywords = joined.arguments, joined.keywords
    if arguments is None:
        shapes: dict[str, tuple[Any, DType | None]] = {
            name: (tuple(parse_dim(str(size)) for size in shape), DType(dtype) if dtype else None)
            for name, shape, dtype in weights["inputs"]
        }
        arguments, keywords = example_inputs(architecture.reference, argument_names(joined.module), shapes)
    return joined.module, arguments, keywords


def resolve(reference: str) -> tuple[torch.nn.Module, tuple[Any, ...] | None, dict[str, Any]]:
    """Call "MODULE:CALLABLE": (module, example arguments or None, keyword arguments). Raises UsageError."""
    name, _, attribute = reference.partition(":")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 (the user's code is imported as the user's interpreter would)
    try:
        target: Any = importlib.import_module(name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot import `{reference}`: {error}") from error
    made = target if isinstance(target, torch.nn.Module) else target()
    module, arguments, keywords = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"`{reference}` returned {type(module).__name__}, not a torch.nn.Module")
    if arguments is not None and not isinstance(arguments, (tuple, list)):
        arguments = (arguments,)
    return module, tuple(arguments) if arguments is not None else None, dict(keywords or {})


def _doubled(module: torch.nn.Module) -> torch.nn.Module:
    """A copy in float64 and complex128, tensors that are plain attributes included."""
    for part in module.modules():
        for name, value in [*part._buffers.items(), *vars(part).items()]:
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(part, name, value.detach())  # a state that gradients were followed through
    double = copy.deepcopy(module, _sharing(module))
    known: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}  # the narrow ones, too: no memory is used again meanwhile
    for part in double.modules():
        tensors = (*part.parameters(recurse=False), *part.buffers(recurse=False), *vars(part).values())
        for held in tensors:
            if isinstance(held, torch.Tensor) and held.dtype in WIDE:
                place = (held.data_ptr(), held.shape, held.stride(), held.dtype) if held.numel() else id(held)
                narrow = held.data
                held.data = known.setdefault(place, (narrow, widened(narrow)))[1]  # a cache of two names stays one
    return double


def _sharing(module: torch.nn.Module) -> dict[int, Any]:
    """A memo for copy.deepcopy under which the copy's tensors have the memory of the module's: they are replaced."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for held in (*part._parameters.values(), *part._buffers.values()):
            if type(held) is torch.nn.Parameter and held.dtype in WIDE:
                memo[id(held)] = torch.nn.Parameter(held.detach(), requires_grad=False)
            elif type(held) is torch.Tensor and held.dtype in WIDE:
                memo[id(held)] = held.detach()
    return memo


class _States:
    """Buffers by their paths, and arguments by their names, that a model changes in place."""

    def __init__(
        self, module: torch.nn.Module, buffers: Sequence[str], arguments: Sequence[str], inputs: Sequence[str]
    ) -> None:
        self._initial = {path: _attribute(module, path).detach().clone() for path in buffers}
        self._names = {path: input_name(path, inputs) for path in buffers}
        self._arguments = tuple(arguments)

    def restore(self, module: torch.nn.Module, given: Mapping[str, np.ndarray] | None = None) -> None:
        """Give the buffers the values that they began with, or those that are given."""
        with torch.no_grad():
            for path, value in self._initial.items():
                array = (given or {}).get(self._names[path])
                _attribute(module, path).copy_(value if array is None else torch.from_numpy(np.array(array)))

    def inputs(self) -> tuple[TensorSpec, ...]:
        """The buffers as inputs, with the range of the values that they began with."""
        return tuple(
            replace(_spec(self._names[path], value, None), bounds=_range(value))
            for path, value in self._initial.items()
        )

    def after(self, module: torch.nn.Module, arguments: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """What became of them, under the names of the outputs that a conversion has for them."""
        found = {self._names[path]: _attribute(module, path) for path in self._initial}
        found.update((name, arguments[name]) for name in self._arguments)
        return {next_name(name): as_numpy(value) for name, value in found.items()}

    def specs(self, arguments: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        buffers = [_spec(next_name(self._names[path]), value, None) for path, value in self._initial.items()]
        return (*buffers, *(replace(arguments[name], name=next_name(name), bounds=None) for name in self._arguments))


def _range(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Whole numbers around the elements, at least 1 apart."""
    if not tensor.numel() or tensor.dtype is torch.bool or tensor.is_complex() or not tensor.isfinite().all():
        return None
    low, high = math.floor(tensor.min().item()), math.ceil(tensor.max().item())
    return low, max(high, low + 1)


def _attribute(module: torch.nn.Module, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


class _Writes(TorchDispatchMode):
    """Notes the memory that operations write to in place."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for formal, given in zip(func._schema.arguments, args, strict=False):
            if formal.alias_info is not None and formal.alias_info.is_write:
                self.written.update(_memory(each) for each in tree_flatten(given)[0] if isinstance(each, torch.Tensor))
        return func(*args, **(kwargs or {}))


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers and plain attributes by path, each once."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                found[f"{prefix}.{name}" if prefix else name] = value
    return found


class _GraphRunner:
    """Runs a flat fx graph module: arguments in the order of `input_names`, results in the order of `output_names`."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        input_names: Sequence[str],
        output_names: Sequence[str | None],
        states: _States,
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
                self._double = _doubled(self._module)
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
        self._double = self._double or _doubled(self._module)
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


def as_numpy(value: Any) -> np.ndarray:
    """A tensor (bfloat16 included) or a number as an array."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu().contiguous()
    if value.dtype is torch.bfloat16:
        import ml_dtypes

        return np.asarray(value.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(value.resolve_conj().resolve_neg().numpy())


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
        named = zip(_result_names(spec, len(self._outputs), taken), self._outputs, strict=True)
        names = [name if isinstance(node, torch.fx.Node) else None for name, node in named]
        module = program.module(check_guards=False)
        inputs = [node.name for node in self._inputs]
        self._states = _States(module, *_changes(program, inputs), inputs)
        self._runner = _GraphRunner(module, inputs, names, self._states)

    def signature(self) -> Signature:
        dims = {
            str(symbol): (_lower(bounds.lower), _upper(bounds.upper))
            for symbol, bounds in self._program.range_constraints.items()
        }
        inputs = tuple(_spec(node.name, node.meta["val"], _table_rows(node, self._program)) for node in self._inputs)
        outputs = tuple(
            _spec(name, node.meta["val"], None)
            for name, node in zip(self._runner.output_names, self._outputs, strict=True)
            if name is not None
        )
        outputs += self._states.specs({spec.name: spec for spec in inputs})
        inputs += self._states.inputs()
        count = _count(self._program.state_dict.values())
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


class CallableRunner:
    """The user's live module, run as it is. Taps come from torch.export of the module with the inputs at hand."""

    def __init__(
        self, module: torch.nn.Module, arguments: tuple[Any, ...] | None, keywords: Mapping[str, Any] | None = None
    ) -> None:
        if arguments is None:
            raise UsageError(
                "the judge needs example arguments", advice="return (module, (example, ...)) from the callable"
            )
        self._module = module
        given, self._structure = tree_flatten((arguments, dict(keywords or {})))
        self._given = given
        self._leaves = [leaf for leaf in given if isinstance(leaf, torch.Tensor)]
        self._names = _leaf_names(module, arguments, keywords or {})
        self._double: torch.nn.Module | None = None
        self._states = self._watched()

    def _watched(self) -> _States:
        """Run a copy once, to see what it changes in place."""
        module, leaves = copy.deepcopy(self._module), [leaf.detach().clone() for leaf in self._leaves]
        with torch.no_grad(), _Writes() as watch:
            self._call(module, leaves)
        buffers = [path for path, tensor in _tensors_of(module).items() if _memory(tensor) in watch.written]
        arguments = [name for name, leaf in zip(self._names, leaves, strict=True) if _memory(leaf) in watch.written]
        return _States(self._module, buffers, arguments, self._names)

    def _arguments(self, leaves: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example arguments with other tensors; what is no tensor stays."""
        tensors = iter(leaves)
        given = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._given]
        arguments, keywords = self._structure.unflatten(given)
        return tuple(arguments), dict(keywords)

    def _call(self, module: torch.nn.Module, leaves: Sequence[torch.Tensor]) -> Any:
        arguments, keywords = self._arguments(leaves)
        return module(*arguments, **keywords)

    def signature(self) -> Signature:
        inputs = tuple(
            _spec(name, leaf, _embedding_rows(self._module))
            for name, leaf in zip(self._names, self._leaves, strict=True)
        )
        with torch.no_grad():
            leaves = [leaf.detach().clone() for leaf in self._leaves]
            values, spec = tree_flatten(self._call(copy.deepcopy(self._module), leaves))
        names = _result_names(spec, len(values), self._names)
        outputs = tuple(_spec(name, value, None) for name, value in zip(names, values, strict=True))
        outputs += self._states.specs({each.name: each for each in inputs})
        inputs += self._states.inputs()
        notes = ("the module is in training mode",) if self._module.training else ()
        return Signature(inputs, outputs, {}, _count(self._module.state_dict().values()), environment(), notes)

    def run(self, inputs: Mapping[str, np.ndarray], *, taps: Sequence[str] = (), precision: str = "native") -> Result:
        leaves = [Device.tensor(inputs[name]) for name in self._names]
        if taps:
            return self._run_exported(leaves, inputs, taps, precision)
        if precision != NATIVE:
            if self._double is None:
                Device.needs_double()
                self._double = _doubled(self._module)
            module, leaves = self._double, [widened(leaf) for leaf in leaves]
            self._states.restore(module, inputs)
            values = in_double(lambda: self._call(module, leaves), Noise.parse(precision), leaves)
        else:
            module = self._module
            self._states.restore(module, inputs)
            with torch.no_grad():
                values = self._call(module, leaves)
        flat_values, spec = tree_flatten(values)
        names = _result_names(spec, len(flat_values), self._names)
        results = {name: as_numpy(value) for name, value in zip(names, flat_values, strict=True)}
        return Result({**results, **self._states.after(module, dict(zip(self._names, leaves, strict=True)))})

    def train(self, inputs: Mapping[str, np.ndarray], exercise: Exercise, precision: str = "native") -> Trained:
        leaves = [Device.tensor(inputs[name]) for name in self._names]

        def forward(module: torch.nn.Module) -> list[tuple[str | None, Any]]:
            given = leaves if precision == NATIVE else [widened(leaf) for leaf in leaves]
            values, spec = tree_flatten(self._call(module, given))
            return list(zip(_result_names(spec, len(values), self._names), values, strict=True))

        if precision == NATIVE:
            self._states.restore(self._module, inputs)
            return train(self._module, self._module, forward, exercise)
        Device.needs_double()
        double = self._double = self._double or _doubled(self._module)
        self._states.restore(double, inputs)
        done = in_double(lambda: train(double, self._module, forward, exercise), Noise.parse(precision))
        return cast("Trained", done)

    def _run_exported(
        self, leaves: list[torch.Tensor], inputs: Mapping[str, np.ndarray], taps: Sequence[str], precision: str
    ) -> Result:
        self._states.restore(self._module)
        with exportable(torch):
            runner = ProgramRunner(torch.export.export(self._module, *self._arguments(leaves)))
        names = [spec.name for spec in runner.signature().inputs]
        feeds = {**inputs, **{name: as_numpy(leaf) for name, leaf in zip(names, leaves, strict=False)}}
        return runner.run(feeds, taps=taps, precision=precision)


def _leaf_names(module: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[str]:
    """Names of the tensors among the arguments, as torch.export names them: x, x_0, cache_key …

    In the order of tree_flatten((arguments, keywords)).
    """
    try:
        bound = inspect.signature(module.forward).bind(*arguments, **keywords).arguments
    except TypeError as error:
        raise UsageError(f"the example arguments do not fit `{type(module).__name__}.forward`: {error}") from error
    names = {
        id(leaf): "_".join(_key_name(key) for key in path)
        for path, leaf in tree_flatten_with_path(_spread(module, bound))[0]
    }
    leaves = tree_flatten((tuple(arguments), dict(keywords)))[0]
    return [names[id(leaf)] for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _spread(module: torch.nn.Module, bound: Mapping[str, Any]) -> dict[str, Any]:
    """The bound arguments, those of `**kwargs` by their own names."""
    formal = inspect.signature(module.forward).parameters
    spread: dict[str, Any] = {}
    for name, value in bound.items():
        spread.update(value if formal[name].kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    return spread


def _key_name(key: Any) -> str:
    """A step of a path into a structure as torch.export spells it."""
    step = next(getattr(key, field) for field in ("key", "idx", "name") if hasattr(key, field))
    return re.sub(r"[^a-zA-Z0-9]", "_", str(step)).lower()


def _spec(name: str, value: Any, rows: int | None) -> TensorSpec:
    if not isinstance(value, torch.Tensor):
        raise RunnerError(f"`{name}` is not a tensor", runner="torch")
    shape = tuple(size if isinstance(size, int) else str(size.node.expr) for size in value.shape)
    integer = not value.dtype.is_floating_point and value.dtype is not torch.bool
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), shape, (0, rows - 1) if rows and integer else None)


def _result_names(spec: Any, count: int, inputs: Sequence[str]) -> list[str]:
    """Names of the tensors in a returned structure, the ones that the reader and the capture give them."""
    try:
        text = treespec_dumps(spec)
    except NotImplementedError:  # a type that torch cannot write: by position
        text = None
    return output_names(text, count, inputs)


def _lower(bound: Any) -> int:
    """torch.export writes 2 for a dimension without a stated minimum; such programs run with 1."""
    return int(bound) if getattr(bound, "is_Integer", False) and int(bound) > 2 else 1


def _upper(bound: Any) -> int | None:
    """An int, or None for a bound that is infinite or symbolic."""
    return int(bound) if getattr(bound, "is_Integer", False) and int(bound) < (1 << 62) else None


def _count(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors if isinstance(tensor, torch.Tensor))


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


def _embedding_rows(module: torch.nn.Module) -> int | None:
    return min((part.num_embeddings for part in module.modules() if isinstance(part, torch.nn.Embedding)), default=None)
