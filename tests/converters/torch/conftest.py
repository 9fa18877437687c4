"""`convert(module, *inputs)`: a module through both roads, file and capture, judged against PyTorch itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.ir import Model
from isomorph.ir.evaluate import evaluate
from isomorph.ir.verify import verify


def listing(model: Model) -> list[Any]:
    """Everything about a model but its weights' bytes."""
    nodes = [
        (
            node.name,
            node.op,
            [value and value.name for value in node.inputs],
            [(value.name, value.type) for value in node.outputs],
            node.scope,
            node.origin,
        )
        for node in model.graph.nodes
    ]
    parameters = [(name, each.trainable, each.role, each.data.shape) for name, each in model.parameters().items()]
    return [
        *nodes,
        *parameters,
        model.inputs,
        {k: v.name for k, v in model.graph.outputs.items()},
        model.dims,
        model.name,
    ]


def attribute(module: Any, path: str) -> Any:
    """The buffer at a path, None if there is none."""
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


def arrays(value: Any) -> list[np.ndarray[Any, Any]]:
    """The tensors of a nested result, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        tensor = value.detach()
        return [tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [array for each in value for array in arrays(each)]
    return [] if value is None else [np.asarray(value)]


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Model]:
    """Export, save, read; compare with the capture's graph; evaluate and compare with eager. Returns the model."""
    import torch

    from isomorph.converters.torch.capture import capture
    from isomorph.converters.torch.reader import read

    def run(
        module: Any, *inputs: Any, dynamic_shapes: Any = None, others: Any = (), rtol: float = 1e-5, atol: float = 1e-5
    ) -> Model:
        module = module.eval()
        exported = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes)
        path = tmp_path / "model.pt2"
        torch.export.save(exported, path)
        model = read(path)
        verify(model)
        live = capture(exported)
        assert listing(live) == listing(model)
        buffers = {name for name, state in model.state.items() if state.initial is not None}
        for name, parameter in live.parameters().items():
            assert np.array_equal(parameter.data.numpy(), model.parameters()[name].data.numpy(), equal_nan=True), name
        for given in (inputs, *others):
            copies = [each.clone() for each in given]
            feeds = {
                name: arrays(each)[0].astype(kind.dtype.numpy)
                for (name, kind), each in zip(
                    ((name, kind) for name, kind in model.inputs.items() if name not in buffers), given, strict=True
                )
            }
            found = list(evaluate(model, feeds).values())
            stateful = copy.deepcopy(module)
            with torch.no_grad():
                wanted = arrays(stateful(*copies))
            changed = dict(zip((name for name in model.inputs if name not in buffers), copies, strict=True))
            wanted += [arrays(changed.get(name, attribute(stateful, name)))[0] for name in model.state]
            assert len(found) == len(wanted)
            for got, want in zip(found, wanted, strict=True):
                if str(got.dtype) == "bfloat16":
                    got = got.astype(np.float32)
                assert got.dtype == want.dtype
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
        return model

    return run


@pytest.fixture
def apply() -> Callable[..., Any]:
    """A function of tensors as a module."""
    import torch

    class Apply(torch.nn.Module):
        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__()
            self.function = function

        def forward(self, *args: Any) -> Any:
            return self.function(*args)

    return Apply


@pytest.fixture
def judge(convert: Callable[..., Model], apply: Callable[..., Any], tmp_path: Path) -> Callable[..., Model]:
    """`convert` of a function, and onnxruntime on our ONNX against eager."""
    import onnxruntime
    import torch

    from isomorph.converters.convert import save

    def run(
        function: Callable[..., Any], *inputs: Any, others: Any = (), rtol: float = 1e-5, atol: float = 1e-5, **how: Any
    ) -> Model:
        module = apply(function).eval()
        model = convert(module, *inputs, others=others, rtol=rtol, atol=atol, **how)
        path = tmp_path / "model.onnx"
        save(model, path, force=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        for given in (inputs, *others):
            feeds = dict(zip(model.inputs, (each.numpy() for each in given), strict=True))
            found = session.run(None, {name: feeds[name] for name in names})
            with torch.no_grad():
                wanted = arrays(module(*(each.clone() for each in given)))
            for got, want in zip(found, wanted, strict=True):
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
        return model

    return run
