"""Recurrent layers and cells of PyTorch: eager against the IR, and against onnxruntime on the ONNX that is written."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.convert import prepare
from isomorph.ir import Model

pytestmark = [pytest.mark.requires("torch"), pytest.mark.filterwarnings("ignore")]


def arrays(value: Any) -> list[np.ndarray[Any, Any]]:
    """The tensors of a nested result, in order."""
    if isinstance(value, (tuple, list)):
        return [array for each in value for array in arrays(each)]
    return [value.detach().numpy()]


@pytest.fixture
def judge(convert: Callable[..., Model], tmp_path: Path) -> Callable[..., collections.Counter[str]]:
    """`convert`, then onnxruntime against eager, then the ONNX file's parameters against the module's. Counts nodes."""
    import onnx
    import onnxruntime
    import torch

    from isomorph.converters.onnx import reader, writer

    def run(module: Any, *inputs: Any, others: Any = (), kept: bool = True, **options: Any) -> Any:
        model = convert(module, *inputs, others=others, **options)
        path = tmp_path / "model.onnx"
        writer.write(prepare(model, writer.target()), path)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
        for given in (inputs, *others):
            with torch.no_grad():
                wanted = arrays(module(*given))
            names = [node.name for node in session.get_inputs()]
            for got, want in zip(session.run(None, dict(zip(names, arrays(given), strict=True))), wanted, strict=True):
                assert got.dtype == want.dtype
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=options.get("rtol", 1e-5), atol=options.get("atol", 1e-5))
        given_back = reader.read(path).parameters()
        for name, parameter in module.named_parameters() if kept else ():
            np.testing.assert_array_equal(given_back[name].data.numpy(), parameter.detach().numpy())
            assert given_back[name].trainable == parameter.requires_grad
        return collections.Counter(node.op_type for node in onnx.load(path).graph.node)

    return run


class Flat:
    """Builds a module with flat arguments and results around a recurrent layer."""

    def __new__(cls, layer: Any) -> Any:
        import torch

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self, x: Any, *states: Any) -> Any:
                if not states:
                    return self.layer(x)
                return self.layer(x, states[0] if len(states) == 1 else states)

        return Module()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "form",
    [(1, False, False, True), (1, True, True, False), (2, False, True, True), (2, True, False, True)],
)
@pytest.mark.parametrize("states", [False, True], ids=["zeros", "states"])
def test_layers(judge: Any, kind: str, form: tuple[int, bool, bool, bool], states: bool) -> None:
    import torch

    torch.manual_seed(0)
    levels, both, batch_first, bias = form
    layer = getattr(torch.nn, kind)(3, 4, levels, bias=bias, batch_first=batch_first, bidirectional=both)
    batch = torch.export.Dim("N", max=64)

    def arguments(size: int) -> tuple[Any, ...]:
        x = torch.randn(size, 5, 3) if batch_first else torch.randn(5, size, 3)
        count = 0 if not states else 2 if kind == "LSTM" else 1
        return (x, *(torch.randn(levels * (1 + both), size, 4) for _ in range(count)))

    given = arguments(2)
    shapes: dict[str, Any] = {"x": {1 - batch_first: batch}}
    if states:
        shapes["states"] = tuple({1: batch} for _ in given[1:])
    found = judge(Flat(layer), *given, dynamic_shapes=shapes, others=[arguments(7)])
    assert found[kind] == levels


def test_an_lstm_is_two_nodes(judge: Any) -> None:
    import torch

    assert judge(torch.nn.LSTM(3, 4), torch.randn(5, 2, 3)) == {"LSTM": 1, "Squeeze": 1}
    stacked = torch.nn.LSTM(3, 4, 3, batch_first=True, bidirectional=True)
    assert judge(stacked, torch.randn(2, 5, 3)) == {"LSTM": 3, "Transpose": 4, "Reshape": 3, "Concat": 2}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_unbatched(judge: Any, kind: str) -> None:
    import torch

    judge(getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, batch_first=True), torch.randn(5, 3))


def test_relu(judge: Any) -> None:
    import torch

    judge(torch.nn.RNN(3, 4, 2, nonlinearity="relu", bidirectional=True), torch.randn(5, 2, 3))
    judge(torch.nn.RNNCell(3, 4, nonlinearity="relu"), torch.randn(2, 3))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("steps", [3, 20])
def test_projections(judge: Any, both: bool, steps: int) -> None:
    import torch

    layer = torch.nn.LSTM(3, 4, 2, proj_size=2, bidirectional=both, batch_first=True)
    batch = torch.export.Dim("N", max=64)
    states = (torch.randn(2 * (1 + both), 2, 2), torch.randn(2 * (1 + both), 2, 4))
    found = judge(Flat(layer), torch.randn(2, steps, 3), *states)
    assert (found["Scan"] > 0) == (steps > 16)
    judge(layer, torch.randn(2, steps, 3), dynamic_shapes=({0: batch},), others=[(torch.randn(5, steps, 3),)])


@pytest.mark.parametrize(("name", "tolerance"), [("float16", 5e-3), ("float64", 1e-12)])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_other_precisions(judge: Any, kind: str, name: str, tolerance: float) -> None:
    import torch

    dtype = getattr(torch, name)
    layer = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True).to(dtype)
    judge(layer, torch.randn(5, 2, 3).to(dtype), rtol=tolerance, atol=tolerance)


def test_bfloat16_is_evaluated(convert: Any) -> None:
    import torch

    convert(torch.nn.GRU(3, 4).bfloat16(), torch.randn(5, 2, 3).bfloat16(), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(judge: Any, kind: str) -> None:
    import torch

    cell = getattr(torch.nn, kind)
    batch = torch.export.Dim("N", max=64)
    for bias, size in itertools.product((True, False), (1, 3)):
        judge(cell(3, 4, bias=bias), torch.randn(size, 3))
    judge(cell(3, 4), torch.randn(3))
    count = 2 if kind == "LSTMCell" else 1
    shapes = {"x": {0: batch}, "states": tuple({0: batch} for _ in range(count))}
    given = (torch.randn(2, 3), *(torch.randn(2, 4) for _ in range(count)))
    judge(Flat(cell(3, 4)), *given, dynamic_shapes=shapes)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_chain_of_cells_hands_its_states_on_without_nodes(judge: Any, kind: str) -> None:
    import torch

    class Chain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(torch.nn, kind)(3, 4)

        def forward(self, x: Any) -> Any:
            states = None
            for step in x.unbind(0):
                states = self.cell(step, states)
            return states

    found = judge(Chain(), torch.randn(6, 2, 3))
    assert found[kind.removesuffix("Cell")] == 6
    assert found.total() <= 6 + 1 + 2  # the split, and the states under their own shape


def test_decomposed_lstm(judge: Any) -> None:
    import torch

    layer = torch.nn.LSTM(3, 4, 2, bidirectional=True).eval()
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        program = torch.export.export(layer, (x,)).run_decompositions()
    from isomorph.converters.torch.capture import capture
    from isomorph.ir.evaluate import evaluate

    model = capture(program)
    wanted, (h, c) = layer(x)
    for got, want in zip(evaluate(model, {"input": x.numpy()}).values(), (wanted, h, c), strict=True):
        np.testing.assert_allclose(got, want.detach().numpy(), atol=1e-5)


def test_weights_that_are_shared_frozen_or_computed(judge: Any) -> None:
    import torch

    class Shared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.GRU(4, 4, batch_first=True)
            self.b = torch.nn.GRU(4, 4, bidirectional=True, batch_first=True)
            self.b.weight_hh_l0 = self.a.weight_hh_l0
            self.a.bias_ih_l0.requires_grad_(False)

        def forward(self, x: Any) -> Any:
            y, h = self.a(x)
            return self.b(self.a(y, h)[0])[0] * self.a.weight_hh_l0.sum()

    judge(Shared(), torch.randn(2, 5, 4))

    class Computed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.LSTM(3, 4, bidirectional=True)
            for name in list(dict(self.layer.named_parameters())):
                if name.startswith("weight"):
                    torch.nn.utils.parametrizations.weight_norm(self.layer, name)

        def forward(self, x: Any) -> Any:
            return self.layer(x)[0]

    judge(Computed(), torch.randn(5, 2, 3), kept=False)  # the products of the weights are computed once


def test_text_classifier(judge: Any) -> None:
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(11, 3)
            self.layer = torch.nn.LSTM(3, 4, 2, batch_first=True, dropout=0.5)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(self.embed(x))[0][:, -1])

    batch = torch.export.Dim("N", max=64)
    judge(
        Classifier(),
        torch.randint(0, 11, (2, 5)),
        dynamic_shapes=({0: batch},),
        others=[(torch.randint(0, 11, (7, 5)),)],
    )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("projected", [False, True], ids=["", "projected"])
def test_captured_with_a_symbolic_length(kind: str, projected: bool, tmp_path: Path) -> None:
    """torch.export alone makes a symbolic length the number of the example."""
    import onnxruntime
    import torch

    from isomorph.converters.onnx import writer
    from isomorph.converters.torch.capture import capture

    if projected and kind != "LSTM":
        pytest.skip("only an LSTM projects")
    options = {"proj_size": 2} if projected else {}
    layer = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, batch_first=True, **options).eval()
    batch, length = torch.export.Dim("N", max=64), torch.export.Dim("T", max=512)
    model = capture(layer, (torch.randn(2, 5, 3),), dynamic_shapes=({0: batch, 1: length},))
    assert [str(dim) for dim in next(iter(model.outputs.values())).shape[:2]] == ["N", "T"]
    path = tmp_path / "model.onnx"
    writer.write(prepare(model, writer.target()), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((2, 5, 3), (1, 1, 3), (7, 33, 3)):
        x = torch.randn(shape)
        for got, want in zip(session.run(None, {"input": x.numpy()}), arrays(layer(x)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_capture_leaves_torch_as_it_was() -> None:
    import torch

    from isomorph.converters.torch.capture import capture

    layer = torch.nn.GRU(3, 4, batch_first=True).eval()
    operator = torch.ops.aten.gru.input
    before = dict(operator.py_kernels), torch._decomp.decomposition_table[operator]
    capture(layer, (torch.randn(2, 5, 3),))
    assert (dict(operator.py_kernels), torch._decomp.decomposition_table[operator]) == before
    x = torch.randn(2, 9, 3)
    program = torch.export.export(layer, (x,)).run_decompositions()
    torch.testing.assert_close(program.module()(x), layer(x))
