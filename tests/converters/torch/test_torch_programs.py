"""Whole programs: in-place operations, symbolic sizes, tied weights, scopes, origins, names, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.errors import UnsupportedError, UsageError
from isomorph.ir import DimRange, DType, Sym

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional


def randn(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def saved(tmp_path: Path, module: Any, *inputs: Any, dynamic_shapes: Any = None) -> Path:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic_shapes), path)
    return path


# --- in-place operations ---------------------------------------------------------------------------------------------


def _chain(x: Any) -> Any:
    y = x + 1
    y.add_(x).mul_(2).relu_()
    y += 1
    return y, y * 2


def _old_name(x: Any) -> Any:
    y = x * 2
    z = y.relu_()
    return y + z


def _view_of_changed(x: Any) -> Any:
    y = x * 2
    row = y[0]
    flat = y.view(-1)
    y.add_(1)
    return row, flat, y


def _write_through_slice(x: Any) -> Any:
    z = x.new_zeros(4, 6)
    for count, rows in enumerate((slice(0, 1), slice(1, 3), slice(3, None))):
        for columns in (slice(0, 2), slice(2, 6)):
            z[rows, columns] = float(count)
    return z + x


def _write_through_view(x: Any) -> Any:
    y = x * 2
    y.view(2, 12).t().unsqueeze(0).mul_(3)
    y[1].fill_(7)
    y[:, -1] = x[:, 0]
    return y


def _write_through_mask(x: Any) -> Any:
    y = x * 2
    row = y[1]
    y[y < 0] = 0
    row[row > 1] = 1.5
    row.multiply_(3)
    return y, row


def _sibling_views(x: Any) -> Any:
    y = x * 2
    left, right = y[:, :3], y[:, 3:]
    left.add_(right)
    right.mul_(2)
    return y, left, right


def _masked(x: Any) -> Any:
    y = x.clone()
    y.masked_fill_(x > 0, -1.0)
    y.clamp_(-2, 0)
    y.copy_(y + x[0])
    y[2].zero_()
    return y


def _dropped(x: Any) -> Any:
    y = x * 2
    z = F.dropout(y, training=False)
    z.add_(1)
    return y, z


def _integer(x: Any) -> Any:
    y = x.int()
    y += 2
    y *= 3
    return y


@pytest.mark.parametrize(
    "function",
    [
        _chain,
        _old_name,
        _view_of_changed,
        _write_through_slice,
        _write_through_view,
        _write_through_mask,
        _sibling_views,
        _masked,
        _dropped,
        _integer,
    ],
)
def test_in_place(function: Any, convert: Any, apply: Any) -> None:
    convert(apply(function), randn(4, 6))


def test_in_place_on_an_input_gives_the_same_outputs(convert: Any) -> None:
    convert(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), randn(2, 3))


def test_no_grad_blocks_are_inlined(convert: Any, apply: Any) -> None:
    def function(x: Any) -> Any:
        with torch.no_grad():
            a, b = (x * 2).split(1)
            y = a + b
        return y.relu() + x, y

    convert(apply(function), randn(2, 3))


# --- symbolic sizes --------------------------------------------------------------------------------------------------


class _Attention(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, tokens: Any) -> Any:
        x = self.table(tokens) + torch.arange(tokens.shape[1])[None, :, None]
        return self.block(x.float()).flatten(1, 2)


def test_symbolic_batch_and_length(convert: Any) -> None:
    batch, length = torch.export.Dim("N", min=2, max=64), torch.export.Dim("tokens_d1", min=2)
    tokens = torch.arange(12).reshape(2, 6) % 11
    others = [(tokens.reshape(4, 3),), (tokens.reshape(3, 4),)]
    model = convert(_Attention(), tokens, dynamic_shapes=({0: batch, 1: length},), others=others, atol=1e-4)
    assert model.inputs["tokens"].shape == (Sym("N"), Sym("tokens_d1"))
    assert model.dims == {"N": DimRange(2, 64), "tokens_d1": DimRange(2, None)}
    assert model.outputs["output"].shape == (Sym("N"), Sym("tokens_d1") * 8)


class _Images(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Any) -> Any:
        y = F.max_pool2d(self.down(x), 2)
        up = F.interpolate(y, scale_factor=2.0)
        patches = up.reshape(up.shape[0], 4, -1).transpose(1, 2)
        return patches.mean(1) * x.shape[2], up, x.new_zeros(x.shape[0], x.shape[2] // 2) + 1, patches


def test_symbolic_images(convert: Any) -> None:
    height, width = torch.export.Dim("H", min=8, max=512), torch.export.Dim("W", min=8, max=512)
    dims = ({0: torch.export.Dim("N"), 2: height, 3: width},)
    others = [(randn(1, 3, 19, 24),), (randn(3, 3, 8, 9),)]
    model = convert(_Images(), randn(2, 3, 16, 20), dynamic_shapes=dims, others=others)
    assert model.inputs["x"].shape == (Sym("N"), 3, Sym("H"), Sym("W"))


def test_names_of_dims_come_from_the_user_where_they_are_known() -> None:
    from isomorph.converters.torch.capture import capture

    dims = {"input": {0: torch.export.Dim("images")}}
    model = capture(nn.Linear(3, 2).eval(), (randn(4, 3),), dynamic_shapes=dims, name="head")
    assert model.inputs["input"].shape == (Sym("images"), 3)
    assert model.name == "head"


def test_input_shapes_specialize_symbolic_sizes(tmp_path: Path) -> None:
    from isomorph.converters.torch.reader import read

    dims = {
        "x": {0: torch.export.Dim("N", min=2, max=64), 2: torch.export.Dim("H", min=8), 3: torch.export.Dim("W", min=8)}
    }
    path = saved(tmp_path, _Images(), randn(2, 3, 16, 20), dynamic_shapes=dims)
    fixed = read(path, inputs={"x": ((5, 3, 24, 32), None)})
    assert fixed.outputs["output_1"].shape == (5, 4, 12, 16)
    assert not fixed.dims
    renamed = read(path, inputs={"x": ((Sym("B"), 3, 24, 32), DType.FLOAT32)})
    assert renamed.outputs["output_1"].shape == (Sym("B"), 4, 12, 16)
    assert renamed.dims == {"B": DimRange(2, 64)}
    for shape, kind in (((5, 4, 24, 32), None), ((1, 3, 24, 32), None), ((5, 3), None), ((5, 3, 24, 32), DType.INT64)):
        with pytest.raises(UsageError):
            read(path, inputs={"x": (shape, kind)})
    with pytest.raises(UsageError, match="no input y"):
        read(path, inputs={"y": ((5, 3, 24, 32), None)})


def test_one_symbol_cannot_have_two_sizes(tmp_path: Path, apply: Any) -> None:
    from isomorph.converters.torch.reader import read

    batch = torch.export.Dim("N")
    path = saved(tmp_path, _Sum(), randn(2, 3), randn(2, 3), dynamic_shapes={"a": {0: batch}, "b": {0: batch}})
    assert read(path).inputs["b"].shape == (Sym("N"), 3)
    with pytest.raises(UsageError, match="cannot have the size 5 at axis 0"):
        read(path, inputs={"a": ((4, 3), None), "b": ((5, 3), None)})


class _Sum(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, a: Any, b: Any) -> Any:
        return {"total": a + b, "parts": (a, b.relu()), "none": None}


# --- identity and provenance -----------------------------------------------------------------------------------------


class _Tied(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight
        self.layer.bias.requires_grad_(False)
        self.register_buffer("offset", torch.arange(8.0).reshape(4, 2)[:, 1])

    def forward(self, tokens: Any) -> Any:
        x = self.layer(self.table(tokens))
        return self.head(self.layer(x) + self.offset + torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_tied_weights_are_one_parameter(convert: Any) -> None:
    model = convert(_Tied(), torch.tensor([1, 5, 6]))
    parameters = model.parameters()
    tied = [
        node for node in model.graph.nodes if any(v.parameter is parameters["table.weight"] for v in node.operands())
    ]
    assert [node.op.name for node in tied] == ["Embedding", "Linear"]
    assert {name: (each.role, each.trainable) for name, each in parameters.items()} == {
        "table.weight": ("weight", True),
        "layer.weight": ("weight", True),
        "layer.bias": ("weight", False),
        "offset": ("buffer", False),
        "lifted_tensor_0": ("constant", False),
    }


def test_captured_weights_are_shared_with_the_module() -> None:
    from isomorph.converters.torch.capture import capture

    module = nn.Linear(3, 2).eval()
    weight = capture(module, (randn(4, 3),)).parameters()["weight"].data
    assert np.shares_memory(weight.numpy(), module.weight.detach().numpy())
    half = nn.Linear(3, 2).bfloat16().eval()
    data = capture(half, (randn(4, 3).bfloat16(),)).parameters()["weight"].data
    assert data.dtype is DType.BFLOAT16
    assert np.array_equal(data.numpy().astype(np.float32), half.weight.detach().float().numpy())


def test_scopes_and_origins(convert: Any) -> None:
    model = convert(_Tied(), torch.tensor([1, 5, 6]))
    nodes = {node.name: node for node in model.graph.nodes}
    first, second = nodes["linear"], nodes["linear_1"]
    assert [(entry.path, entry.cls, entry.call) for entry in first.scope.entries] == [("layer", "torch.nn.Linear", 0)]
    assert [(entry.path, entry.call) for entry in second.scope.entries] == [("layer", 1)]
    assert first.origin.framework == "torch"
    assert first.origin.op == "aten.linear.default"
    assert first.origin.name == "linear"
    assert first.origin.file == "test_torch_programs.py"
    assert first.origin.code == "x = self.layer(self.table(tokens))"
    assert nodes["add"].scope.path == ""
    assert model.name == "_Tied"


def test_names_of_inputs_and_outputs(convert: Any) -> None:
    model = convert(_Sum(), randn(2, 3), randn(2, 3))
    assert list(model.inputs) == ["a", "b"]
    assert list(model.outputs) == ["total", "parts_0", "parts_1"]


# --- refusals --------------------------------------------------------------------------------------------------------


class _Unsupported(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.Hardtanh())

    def forward(self, x: Any) -> Any:
        y = torch.linalg.svdvals(self.inner(x))
        z = torch.linalg.eigvalsh(x[:3])
        return y + 1, z.relu(), torch.linalg.matrix_exp(x)


def test_everything_unsupported_is_listed_at_once(tmp_path: Path) -> None:
    from isomorph.converters.torch.reader import read

    path = saved(tmp_path, _Unsupported(), randn(3, 3))
    with pytest.raises(UnsupportedError) as caught:
        read(path)
    found = {item.op: item for item in caught.value.items}
    wanted = {"aten.linalg_svdvals.default", "aten.linalg_eigvalsh.default", "aten.linalg_matrix_exp.default"}
    assert wanted <= set(found)
    assert "test_torch_programs.py" in found["aten.linalg_eigvalsh.default"].where
    assert "z = torch.linalg.eigvalsh(x[:3])" in found["aten.linalg_eigvalsh.default"].where


class _Counter(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.count += 1
        return x + self.count


def test_a_buffer_that_changes_is_an_input_and_an_output(convert: Any) -> None:
    model = convert(_Counter(), randn(2))
    assert model.state["count"].output == "count.next"


def test_what_cannot_be_captured_is_said() -> None:
    from isomorph.converters.torch.capture import capture

    with pytest.raises(UsageError, match="training mode"):
        capture(nn.Dropout().train(), (randn(2),))
    with pytest.raises(UsageError, match="not int"):
        capture(3)

    class Branching(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match=r"torch\.export\.export"):
        capture(Branching().eval(), (randn(2),))
