"""Loops of TorchScript whose number of iterations the data or a varying size decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isomorph
from isomorph.errors import UnsupportedError
from isomorph.ir import Sym

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn
Tensor = torch.Tensor


class Doubling(nn.Module):
    """Doubles until the sum is large; counts."""

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        count = 0
        while bool(x.abs().sum() < 100.0):
            x = x * 2
            count += 1
        return x, count


class Scripted(nn.Module):
    """An LSTM written out, over the rows of x."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []
        h = torch.zeros(x.size(1), 5)
        state = (h, h)
        for t in range(x.size(0)):
            state = self.cell(x[t], state)
            outputs += [state[0]]
        return torch.stack(outputs), state[1]


class Unbound(nn.Module):
    """The same over an unbound tensor, backwards, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, int]:
        inputs = x.unbind(1)
        outputs: list[Tensor] = []
        for i in range(len(inputs)):
            h = self.cell(inputs[len(inputs) - 1 - i], h)
            outputs.append(h)
        return torch.stack(outputs, dim=1), len(outputs)


class Each(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found: list[Tensor] = [x[0]]
        total = 0.5
        for row in x.unbind(0):
            total = total + 1.5
            found.append(row.cumsum(0) * total)
        return torch.cat(found, dim=-1), torch.tensor(total)


class Running(nn.Module):
    """An attribute and a tensor changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        best = torch.full((3,), -1.0)
        for t in range(1, x.size(0), 2):
            if bool(x[t].sum() > 0):
                best.copy_(torch.max(best, x[t]))
        return best * 2


class Nested(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(2)
        for i in range(x.size(0)):
            for j in range(i):
                y = y + x[i] * x[j]
            y = y * 0.5
        return y


class Greedy(nn.Module):
    """Decodes until the end token or the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.cell = nn.GRUCell(6, 6)
        self.head = nn.Linear(6, 7)

    def forward(self, h: Tensor, limit: int) -> Tensor:
        token = torch.zeros(1, dtype=torch.long)
        tokens: list[Tensor] = []
        step = 0
        while step < limit:
            h = self.cell(self.embed(token), h)
            token = self.head(h).argmax(1)
            tokens.append(token)
            step += 1
            if bool(token[0] == 3):
                break
        return torch.cat(tokens)


def sized(*names: Any) -> tuple[Any, ...]:
    return tuple(Sym(name) if isinstance(name, str) else name for name in names)


def x(*shape: int) -> Tensor:
    return torch.randn(shape)


def test_a_loop_on_data(script: Any) -> None:
    script(Doubling(), torch.ones(3) * 4, others=[(torch.ones(3) * 0.1,), (torch.ones(3) * 50,)])


@pytest.mark.parametrize(
    ("module", "inputs", "shapes", "others"),
    [
        (Scripted(), (x(3, 2, 4),), {"x": sized("T", 2, 4)}, [(x(7, 2, 4),), (x(1, 2, 4),)]),
        (Scripted(), (x(3, 2, 4),), {"x": sized("T", "N", 4)}, [(x(5, 3, 4),)]),
        (Unbound(), (x(2, 3, 4), x(2, 5)), {"x": sized(2, "T", 4)}, [(x(2, 6, 4), x(2, 5))]),
        (Each(), (x(3, 4),), {"x": sized("T", 4)}, [(x(6, 4),)]),
        (Running(), (x(6, 3),), {"x": sized("T", 3)}, [(x(9, 3),), (x(1, 3),), (x(2, 3),)]),
        (Nested(), (x(4, 2),), {"x": sized("T", 2)}, [(x(6, 2),), (x(1, 2),)]),
    ],
    ids=["lstm", "lstm_batch", "gru_reversed", "rows", "in_place", "nested"],
)
def test_a_loop_over_a_size(script: Any, module: Any, inputs: Any, shapes: Any, others: Any) -> None:
    model = script(module, *inputs, shapes=shapes, others=others)
    assert [node.op.name for node in model.nodes()].count("Loop") >= 1


def test_a_loop_with_an_end(script: Any) -> None:
    torch.manual_seed(3)
    script(Greedy(), x(1, 6), fixed={"limit": 6}, others=[(x(1, 6),) for _ in range(4)])


def test_what_a_loop_gives_in_onnxruntime(script: Any, tmp_path: Path) -> None:
    import onnxruntime

    module = Scripted().eval()
    model = script(module, x(3, 2, 4), shapes={"x": sized("T", 2, 4)})
    isomorph.save(model, tmp_path / "loop.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "loop.onnx")
    for length in (1, 4, 9):
        given = x(length, 2, 4)
        found = session.run(None, {"x": given.numpy()})
        for one, other in zip(found, module(given), strict=True):
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-5, atol=1e-6)


class Unique(nn.Module):
    """As torchvision suppresses many boxes: a loop over the classes that are there."""

    def forward(self, x: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = torch.zeros_like(x, dtype=torch.bool)
        for kind in torch.unique(kinds):
            places = torch.where(kinds == kind)[0]
            best = x[places].argmax()
            kept[places[best]] = True
        values, counts = torch.unique_consecutive(kinds, return_counts=True)
        again = torch.bincount(kinds)
        return torch.where(kept)[0], values.repeat_interleave(counts) + again[kinds], counts


def test_a_loop_over_what_is_there(script: Any) -> None:
    kinds = torch.tensor([3, 1, 1, 3, 7])
    script(Unique(), x(5), kinds, others=[(x(5), torch.tensor([2, 2, 2, 2, 2])), (x(5), torch.arange(5))])


class Growing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x[0:1]
        for t in range(x.size(0)):
            y = torch.cat([y, x[t : t + 1]])
        return y


class Overwriting(nn.Module):
    """The first iteration writes to what the caller gave, the others to what they made."""

    def forward(self, x: Tensor) -> Tensor:
        y = x[0].clone()
        z = y
        for t in range(x.size(0)):
            z[0:1].mul_(2.0)
            z = z + x[t]
        return y + z


class Viewing(nn.Module):
    """Reads a view that was taken before its memory is changed."""

    def forward(self, x: Tensor) -> Tensor:
        memory = x.clone()
        row, y = memory[0], x[0]
        for _ in range(x.size(0)):
            memory[:3].add_(1.0)
            y = y + row
        return y


class Branching(nn.Module):
    """The same in a branch."""

    def forward(self, x: Tensor) -> Tensor:
        memory = x.clone()
        row = memory[0]
        if bool(x.sum() > 0):
            memory.add_(1.0)
            y = row * 2
        else:
            y = row
        return y


class Counting(nn.Module):
    """Changes a buffer in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        for t in range(x.size(0)):
            self.count[0:2].add_(x[t, 0:2])
        return self.count * x[0]


class Peeking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = [x[0]]
        for t in range(x.size(0)):
            found.append(found[-1] + x[t])
        return torch.stack(found)


class Popping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found = [x[0], x[0] * 2, x[0] * 3]
        while bool(found[-1].sum() > 1.0):
            found.pop()
        return found[-1]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Growing(), "another type after an iteration"),
        (Overwriting(), "another one in the next iteration"),
        (Viewing(), "reads another one of its memory"),
        (Branching(), "reads another one of its memory"),
        (Counting(), "changes `count` in place"),
        (Peeking(), "reads a list in the loop that appends to it"),
        (Popping(), "otherwise than by appending"),
    ],
)
def test_what_a_loop_cannot_carry_is_refused(script: Any, module: Any, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        script(module, x(3, 4), shapes={"x": sized("T", 4)})
