"""Exported programs (`.pt2`) and TorchScript archives by the PyTorch of this interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import Refusal

__all__ = ["ProgramModel", "TorchModel", "open_model"]

_CHECKS = ("_guards_fn", "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")


def open_model(model: dict[str, Any], role: str, device: str) -> Any:
    """The model on one thread and one device."""
    torch.set_num_threads(1)
    if not (device == "cpu" or (device.startswith("cuda") and torch.cuda.is_available())):
        raise Refusal(f"there is no device `{device}` here", because="torch " + torch.__version__)
    kind = model["format"] if model["kind"] == "file" else model["kind"]
    if kind == "pt2":
        return ProgramModel(_load_program(model["path"]), device)
    if kind != "torchscript":
        what = "PyTorch in another interpreter runs files only: exported programs and TorchScript archives"
        raise Refusal(what, advice="export the module there, and name the .pt2")
    if not model["inputs"]:
        raise Refusal("a TorchScript archive does not say its inputs", advice="--input NAME=SHAPE[:DTYPE]")
    module = torch.jit.load(model["path"], map_location=device)
    return TorchModel(module.eval(), model["inputs"], device)


class TorchModel:
    """`forward` of an archive, called with the inputs that the judge describes, in their order."""

    def __init__(self, module: Any, inputs: list[Any], device: str) -> None:
        self._module = module
        self._device = device
        self._inputs = [(name, list(shape), dtype or "float32") for name, shape, dtype in inputs]

    def signature(self) -> dict[str, Any]:
        dims = {size: [1, None] for _, shape, _ in self._inputs for size in shape if isinstance(size, str)}
        small, large = self._probe(2), self._probe(3)
        outputs = []
        for name in small:
            pairs = enumerate(zip(small[name].shape, large[name].shape))
            shape = [a if a == b else f"{name}_d{axis}" for axis, (a, b) in pairs]
            outputs.append({"name": name, "dtype": small[name].dtype.name, "shape": shape, "bounds": None})
        return {
            "inputs": [{"name": n, "dtype": d, "shape": s, "bounds": None} for n, s, d in self._inputs],
            "outputs": outputs,
            "dims": dims,
            "parameters": int(sum(tensor.numel() for tensor in self._module.parameters())),
            "environment": {"runtime": "torch " + torch.__version__, "device": self._device, "threads": 1},
            "notes": [],
        }

    def _probe(self, size: int) -> dict[str, np.ndarray]:
        feeds = {
            name: np.zeros([each if isinstance(each, int) else size for each in shape], dtype)
            for name, shape, dtype in self._inputs
        }
        return self.run(feeds, [])[0]

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        feeds = [torch.from_numpy(np.array(inputs[name])).to(self._device) for name, _, _ in self._inputs]
        with torch.no_grad():
            values = self._module(*feeds)
        if isinstance(values, dict):
            return {str(name): _array(value) for name, value in values.items()}, {}
        if not isinstance(values, (list, tuple)):
            return {"output": _array(values)}, {}
        return {f"output_{index}": _array(value) for index, value in enumerate(values)}, {}


def _load_program(path: str) -> Any:
    try:
        return torch.export.load(path)
    except (AttributeError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = "PyTorch " + torch.__version__ + " cannot load this exported program"
        because = type(error).__name__ + ": " + (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise Refusal(
            what, because, "name an interpreter that has the PyTorch it was exported by, or a newer one"
        ) from None


class ProgramModel:
    """A torch.export.ExportedProgram, called with tensors in the order of its placeholders. Taps are fx node names.

    Outputs are called "output" or "output_0" …, or by the keys of the dict that is returned, as in this installation's
    own runner. A program that changes buffers or arguments in place is refused.
    """

    def __init__(self, program: Any, device: str) -> None:
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        signature = program.graph_signature
        changed = _changed(program)
        if changed is not None:
            what = "PyTorch in another interpreter runs no program that changes `{}` in place".format(changed)
            raise Refusal(what, advice="judge it by the PyTorch of this installation")
        nodes = {node.name: node for node in program.graph.nodes}
        self._inputs = [nodes[name] for name in signature.user_inputs if isinstance(name, str) and name in nodes]
        self._outputs = [nodes.get(name) for name in signature.user_outputs]
        self._names = _names_of(program.call_spec.out_spec, len(self._outputs))
        self._dims = {str(symbol): _range(bounds) for symbol, bounds in program.range_constraints.items()}
        self._parameters = int(sum(tensor.numel() for tensor in program.state_dict.values()))
        self._device = device
        self._module = _flat(program.module())

    def signature(self) -> dict[str, Any]:
        named = [(name, node) for name, node in zip(self._names, self._outputs) if node is not None]
        return {
            "inputs": [_described(node.name, node) for node in self._inputs],
            "outputs": [_described(name, node) for name, node in named],
            "dims": self._dims,
            "parameters": self._parameters,
            "environment": {"runtime": "torch " + torch.__version__, "device": self._device, "threads": 1},
            "notes": [],
        }

    def run(self, inputs: dict[str, np.ndarray], taps: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        feeds = [torch.from_numpy(np.array(inputs[node.name])).to(self._device) for node in self._inputs]
        kept: dict[str, Any] = {}

        class Tapping(torch.fx.Interpreter):
            def run_node(self, n: Any) -> Any:
                value = super().run_node(n)
                if n.name in taps and isinstance(value, torch.Tensor):
                    kept[n.name] = _array(value.clone())
                return value

        with torch.no_grad():
            values = Tapping(self._module).run(*feeds) if taps else self._module(*feeds)
        leaves = torch.utils._pytree.tree_flatten(values)[0]
        pairs = zip(self._names, leaves, self._outputs)
        return {name: _array(value) for name, value, node in pairs if node is not None}, kept


def _changed(program: Any) -> str | None:
    """A buffer or an input that an operation writes to, itself or a view of it."""
    owners: dict[Any, str] = {}
    buffers = program.graph_signature.inputs_to_buffers
    for node in program.graph.nodes:
        if node.op == "placeholder":
            owners[node] = buffers.get(node.name, node.name)
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        given = [*zip(schema.arguments, node.args)]
        given += [(each, node.kwargs[each.name]) for each in schema.arguments if each.name in node.kwargs]
        for formal, argument in given:
            if formal.alias_info is None or not isinstance(argument, torch.fx.Node) or argument not in owners:
                continue
            if formal.alias_info.is_write:
                return owners[argument]
            owners[node] = owners[argument]
    changes = getattr(program.graph_signature, "buffers_to_mutate", {})
    return next(iter(changes.values()), None)


def _flat(module: Any) -> Any:
    """The graph with plain positional arguments and without its checks, which pin types and sizes."""
    for node in list(module.graph.nodes):
        if any(check in str(node.target) for check in _CHECKS) and not node.users:
            module.graph.erase_node(node)
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    module.recompile()
    return module


def _names_of(spec: Any, count: int) -> list[str]:
    """Names of the leaves of the returned structure: the keys that lead there."""
    paths: list[tuple[str, ...]] = []
    if hasattr(torch.utils._pytree, "tree_flatten_with_path"):
        places = torch.utils._pytree.tree_unflatten(list(range(count)), spec)
        found = torch.utils._pytree.tree_flatten_with_path(places)[0]
        paths = [tuple(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) for path, _ in found]
    if len(paths) != count:
        paths = [(str(index),) for index in range(count)] if count > 1 else [()]
    return ["_".join(path if path and not path[0].isdigit() else ("output", *path)) for path in paths]


def _described(name: str, node: Any) -> dict[str, Any]:
    value = node.meta["val"]
    shape = [size if isinstance(size, int) else str(size.node.expr) for size in value.shape]
    return {"name": name, "dtype": str(value.dtype).replace("torch.", ""), "shape": shape, "bounds": None}


def _range(bounds: Any) -> list[Any]:
    """Least and greatest size. torch.export writes 2 where no least size is stated; such programs run with 1."""
    low, high = str(bounds.lower), str(bounds.upper)
    finite = high.isdigit() and int(high) < 2**62
    return [int(low) if low.isdigit() and int(low) > 2 else 1, int(high) if finite else None]


def _array(value: Any) -> np.ndarray:
    value = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.tensor(value)
    if value.dtype == torch.bfloat16:
        raise Refusal("PyTorch in another interpreter hands over no bfloat16")
    return np.asarray(value.resolve_conj().resolve_neg().numpy())
