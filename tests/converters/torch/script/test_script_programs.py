"""Small modules as users write them, scripted and traced: branches, loops, containers, constants, tied weights."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import pytest

from isomorph.errors import UnsupportedError, UsageError
from isomorph.ir import Sym

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

Tensor = torch.Tensor


def randn(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


class Loops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 3
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        for index in range(self.steps):
            if index % 2 == 0:  # noqa: SIM108 (a branch is what is tested)
                x = x + index
            else:
                x = x * 2.0
        count = 0
        while count < x.size(1):
            x = x - 0.5
            count += 2
        return x


class Branches(nn.Module):
    def __init__(self, flag: bool) -> None:
        super().__init__()
        self.flag = flag

    def forward(self, x: Tensor, y: Tensor | None = None, scale: float = 2.0) -> Tensor:
        if self.flag and x.dim() == 2:
            x = x.unsqueeze(0)
        if y is not None:
            return x + y
        if x.shape[-1] > 3 and not self.training:
            return x * scale
        raise ValueError("too small")


Pair = NamedTuple("Pair", [("first", Tensor), ("second", Tensor)])  # noqa: UP014 (annotations are no strings)


class Containers(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        parts: list[Tensor] = []
        for index in range(3):
            parts.append(x[:, index])
        parts[1] = parts[1] * 2
        last = parts.pop()
        table = {"sum": torch.stack(parts).sum(0), "last": last}
        names = [name + "_" for name in table.keys()]  # noqa: SIM118
        made: dict[str, Tensor] = {}
        for name, value in zip(names, table.values()):  # noqa: B905 (as TorchScript has it)
            made[name] = value + len(names)
        shape = [int(size) for size in x.shape]
        shape.reverse()
        made["turned"] = x.reshape(shape)
        made["joined"] = torch.cat([part.unsqueeze(0) for part in parts[::-1]], 0)
        return made


class Tuples(nn.Module):
    def helper(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x - 1

    def forward(self, x: Tensor) -> tuple[Tensor, Pair, list[Tensor]]:
        a, b = self.helper(x)
        pair = Pair(a, b)
        return pair.first * pair[1], pair, [a, b]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("offset", torch.arange(10.0))
        self.scale = 0.5

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids) * self.scale) + self.offset


class Shapes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        half = h // 2
        x = x.view(n, c, h * w).transpose(1, 2).contiguous().view(n, h, w, c)
        x = F.pad(x, [0, 0, 0, half])
        return F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2.0).mean([2, 3]) / float(c)


class Inplace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, 0] = x[:, 1]
        y += 1
        y[1:, 2:] *= 3
        view = y.view(-1)
        view.add_(2)
        return F.relu(y, inplace=True).clamp_(max=4.0)


class Constants(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        grid = torch.arange(x.size(1), dtype=x.dtype, device=x.device)
        mask = torch.tril(torch.ones([x.size(1), x.size(1)])).to(torch.bool)
        scores = (x.unsqueeze(-1) * grid).masked_fill(~mask, float("-inf"))
        return torch.softmax(scores, -1).sum(1) + kernel.sum() + torch.full([1], 3.0)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Enums(nn.Module):
    def __init__(self, color: Color) -> None:
        super().__init__()
        self.color = color

    def forward(self, x: Tensor) -> Tensor:
        if self.color == Color.RED:
            return x + 1
        return x * self.color.value


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(x, x, x, need_weights=False)
        return self.norm(x + mixed)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(4, 5)
        self.gru = nn.GRUCell(5, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = torch.zeros(x.size(0), 5)
        c = torch.zeros(x.size(0), 5)
        g = torch.zeros(x.size(0), 5)
        states: list[Tensor] = []
        for step in x.unbind(1):
            h, c = self.lstm(step, (h, c))
            g = self.gru(h, g)
            states.append(g)
        return torch.stack(states, 1), [h, c]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(6, 3, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (_, c) = self.lstm(x)
        z, _ = self.gru(y)
        return z, c


class Lists(nn.Module):
    def forward(self, xs: list[Tensor], table: dict[str, Tensor]) -> Tensor:
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        if "bias" in table:
            total = total + table["bias"]
        return total * len(xs)


class Sized(nn.Module):
    def forward(self, x: Tensor, size: list[int], twice: bool = False, times: int = 1) -> Tensor:
        y = F.adaptive_avg_pool2d(x, size) * times
        return y * 2 if twice else y


def _functions(x: Tensor) -> Tensor:
    value = 2**3 + 7 // 2 + 7 % 4 + abs(-3) + max(1, 2) + min([4, 5]) + int(3.7) + round(2.5)
    text = "{}-{}".format(1, "a")
    if text == "1-a" and text.startswith("1") and len(text) == 3:
        value = value + 1
    return x * float(value)


class Functions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 2, "rank"
        with torch.no_grad():
            y = _functions(x)
        return y.sum(dim=1, keepdim=True).to(torch.float64)


PROGRAMS = {
    "loops": (Loops, (2, 4)),
    "branches": (lambda: Branches(True), (2, 4)),
    "other-branch": (lambda: Branches(False), (2, 3, 4)),
    "containers": (Containers, (4, 3)),
    "tuples": (Tuples, (2, 3)),
    "shapes": (Shapes, (2, 3, 4, 6)),
    "inplace": (Inplace, (3, 4)),
    "constants": (Constants, (2, 5)),
    "enums": (lambda: Enums(Color.BLUE), (2, 3)),
    "attention": (Attention, (2, 5, 8)),
    "cells": (Cells, (2, 3, 4)),
    "recurrent": (Recurrent, (2, 5, 4)),
    "functions": (Functions, (2, 3)),
}
REFUSED_BY_TORCH = {
    ("traced", "containers"): "a dict is no result of torch.jit.trace",
    ("mobile", "functions"): "`with` is not supported in mobile modules",
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("form", ["scripted", "traced", "frozen", "mobile"])
def test_programs(script: Any, name: str, form: str) -> None:
    make, shape = PROGRAMS[name]
    if (form, name) in REFUSED_BY_TORCH:
        pytest.skip(REFUSED_BY_TORCH[form, name])
    script(make(), randn(*shape), traced=form == "traced", frozen=form == "frozen", mobile=form == "mobile")


def test_optional_argument(script: Any) -> None:
    script(Branches(True), randn(2, 4), randn(1, 2, 4))


def test_tied_weights_stay_one_parameter(script: Any) -> None:
    model = script(Tied(), torch.tensor([[1, 2, 9]]))
    named = {name: each for name, each in model.parameters().items() if each.role != "constant"}
    assert sorted(named) == ["embed.weight", "offset"]
    assert model.parameters()["embed.weight"].trainable
    assert model.parameters()["offset"].role == "buffer"


def test_lists_and_dicts_of_tensors_are_inputs(script: Any) -> None:
    model = script(Lists(), [randn(2, 3), randn(2, 3), randn(1, 3)], {"bias": randn(3), "other": randn(1)})
    assert list(model.inputs) == ["xs_0", "xs_1", "xs_2", "table_bias", "table_other"]


def test_symbolic_sizes(script: Any) -> None:
    shape = (Sym("N"), 3, Sym("H"), Sym("W"))
    others = [(randn(1, 3, 6, 2),), (randn(3, 3, 8, 8),)]
    model = script(Shapes(), randn(2, 3, 4, 6), shapes={"x": shape}, others=others)
    assert model.inputs["x"].shape == shape
    script(Shapes(), randn(2, 3, 4, 6), shapes={"x": shape}, others=others, traced=True)


def test_symbolic_length_in_arithmetic(script: Any) -> None:
    script(Constants(), randn(2, 5), shapes={"x": (Sym("N"), Sym("L"))}, others=[(randn(1, 3),)])


def test_a_check_on_a_size_that_varies_is_taken_to_hold(script: Any) -> None:
    script(Branches(True), randn(2, 4), shapes={"x": (2, Sym("C"))})


def test_scopes_and_origins(script: Any) -> None:
    model = script(Loops(), randn(2, 4))
    linear = [node for node in model.graph.nodes if node.scope.path.startswith("layers.")]
    assert [node.scope.path for node in linear[:2]] == ["layers.0", "layers.1"]
    assert linear[0].scope.cls == "torch.nn.Linear"
    assert linear[0].origin.file.endswith("test_script_programs.py")
    assert "layer(x)" in linear[0].origin.code


def test_fixed_numbers(tmp_path: Any) -> None:
    from isomorph.converters.torch.script.reader import read
    from isomorph.inputs import parse_inputs

    path = tmp_path / "m.pt"
    torch.jit.script(Sized()).save(str(path))
    model = read(path, inputs=parse_inputs(["x=1,2,8,8", "size=2,4", "twice=1", "times=3"]))
    assert str(model.outputs["output"]) == "float32[1, 2, 2, 4]"


def test_missing_inputs_are_listed(tmp_path: Any) -> None:
    from isomorph.converters.torch.script.reader import read

    path = tmp_path / "m.pt"
    torch.jit.script(Sized()).save(str(path))
    with pytest.raises(UsageError) as error:
        read(path)
    assert "give x, size" in error.value.what
    assert error.value.advice == "--input x=1,3,224,224 --input size=2,3"
    with pytest.raises(UsageError, match="there is no input y"):
        read(path, inputs={"y": ((1,), None)})


def test_an_exception_of_the_model_is_reported(script: Any) -> None:
    with pytest.raises(UsageError, match="refuses these inputs") as error:
        script(Branches(True), randn(2, 4), shapes={"x": (2, 3)})
    assert "too small" in str(error.value)


class Switch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.big, self.small = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):  # noqa: SIM108
            y = torch.relu(self.big(x))
        else:
            y = self.small(x) * 2
        return y + 1


class Numbers(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        rows = 1
        scale = 0.5
        if x[0, 0].item() > 0:
            rows = 2
            scale = float(x.max()) + 1.0
        return x[:rows] * scale, rows + 1


class Nested(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> list[Tensor]:
        parts = [x]
        table = {"a": x}
        if bool(x.sum() > 0):
            if bool(y.sum() > 0):
                parts[0] = x * y
                z = x
            else:
                parts[0] = y
                z = x - 1
            table["a"] = z
        else:
            z = y
        return [parts[0], table["a"], z]


class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 1
        if bool(x.sum() > 0):
            y += 1
            y[0] = 7
        return y


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kept = x[x > 0]
        if kept.numel() > 2:  # noqa: SIM108
            return_value = kept.sum()
        else:
            return_value = x.mean()
        return return_value


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 2:  # noqa: SIM108
            x = x * 2
        else:
            x = x.flip(0)
        return x


def positive(*shape: int) -> Any:
    return randn(*shape).abs()


@pytest.mark.parametrize("module", [Switch, Numbers, Writes, Masked])
def test_branches_that_the_data_decide(script: Any, module: Any) -> None:
    script(module(), positive(3, 4), others=[(-positive(3, 4),)])


def test_nested_branches(script: Any) -> None:
    p, n = positive(2, 2), -positive(2, 2)
    model = script(Nested(), p, p, others=[(p, n), (n, p), (n, n)])
    assert sum(node.op.name == "If" for node in model.graph.nodes) == 1


def test_branches_that_a_size_decides(script: Any) -> None:
    script(Sizes(), randn(2, 4), shapes={"x": (Sym("N"), 4)}, others=[(randn(3, 4),)])


class Kinds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor | None = None
        if bool(x.sum() > 0):
            y = x
        return x if y is None else y * 2


class Aliased(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y, z = x * 1, x * 2
        if bool(x.sum() > 0):  # noqa: SIM108
            w = y
        else:
            w = z
        w += 1
        return y


def test_what_a_branch_cannot_leave_is_refused(script: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"prim.If") as error:
        script(Kinds(), randn(2, 2))
    assert "another kind after one branch" in str(error.value)
    with pytest.raises(UnsupportedError) as error:
        script(Aliased(), randn(2, 2))
    assert "may be another one, depending on a branch" in str(error.value)


def _strict(x: Tensor, rows: int) -> Tensor:
    if rows != 3:
        raise ValueError("rows")
    return x * 2


class Guarded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):  # noqa: SIM108
            y = x + 1
        else:
            y = _strict(x, x.size(0))
        return y


def test_a_branch_that_is_sure_to_raise_is_a_check(script: Any) -> None:
    model = script(Guarded(), positive(2, 2))
    assert [node.op.name for node in model.graph.nodes if node.op.name == "If"] == []
    script(Guarded(), positive(3, 2), others=[(-positive(3, 2),)])


class Truth(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(bool(x.sum() > 0)) & (x > -1)


def test_a_truth_value_of_data_is_a_tensor(script: Any) -> None:
    script(Truth(), torch.ones(3), others=[(-torch.ones(3) * 0.5,)])


class Warned(nn.Module):
    """Sets an attribute that decides nothing; or, after `late` calls, everything."""

    def __init__(self, late: int) -> None:
        super().__init__()
        self.warned = False
        self.calls = 0
        self.late = late

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.warned:
            self.warned = True
        if self.late > 0 and self.calls < 2:
            self.calls += 1
        return x * 2 if self.calls < self.late else x


def test_an_attribute_that_decides_nothing_is_no_state(script: Any) -> None:
    script(Warned(0), torch.ones(3))


def test_an_attribute_that_decides_something_is_refused(script: Any) -> None:
    with pytest.raises(UnsupportedError, match="calls`: the model changes this attribute, to 1"):
        script(Warned(2), torch.ones(3))
