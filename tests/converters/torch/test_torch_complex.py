"""Complex numbers inside of PyTorch models, against eager."""

from __future__ import annotations

from typing import Any

import pytest

from isomorph.errors import UnsupportedError

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn


def randn(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def as_z(x: Any) -> Any:
    return torch.view_as_complex(x)


PAIRS = randn(2, 3, 4, 2)
OTHER = randn(3, 4, 2)

FUNCTIONS = {
    "mul": lambda z, w: z * w,
    "mul_same": lambda z, w: z * z,
    "mul_real": lambda z, w: z * w.real,
    "real_mul": lambda z, w: w.imag * z,
    "mul_number": lambda z, w: z * 2.5 * 3,
    "mul_complex_number": lambda z, w: z * (1.5 - 2j),
    "real_times_number": lambda z, w: z.real * 1j,
    "add": lambda z, w: z + w,
    "add_alpha": lambda z, w: torch.add(z, w, alpha=2),
    "add_complex_alpha": lambda z, w: torch.add(z, w, alpha=2j),
    "add_real": lambda z, w: w.real + z,
    "add_number": lambda z, w: z + 2,
    "sub": lambda z, w: z - w,
    "sub_real": lambda z, w: w.real - z,
    "rsub": lambda z, w: 1 - z,
    "rsub_complex": lambda z, w: (1 + 2j) - z,
    "div": lambda z, w: z / w,
    "div_real": lambda z, w: z / w.real,
    "div_number": lambda z, w: z / 3,
    "real_div": lambda z, w: w.real / z,
    "reciprocal": lambda z, w: z.reciprocal(),
    "neg": lambda z, w: -z,
    "square": lambda z, w: z**2 + torch.square(z) + z**3 + z**-1,
    "conj": lambda z, w: z.conj() * w,
    "resolve_conj": lambda z, w: z.conj().resolve_conj(),
    "exp": lambda z, w: torch.exp(z),
    "log": lambda z, w: torch.log(z),
    "sgn": lambda z, w: torch.sgn(z) + torch.sgn(z * 0),
    "polar": lambda z, w: torch.polar(z.abs(), z.angle()),
    "complex": lambda z, w: torch.complex(z.imag, z.real),
    "eq": lambda z, w: ((z == z.clone()) & (z != w)).to(torch.float32) * z,
    "sum": lambda z, w: z.sum() + z.sum(-1, keepdim=True) + z.mean(1, keepdim=True) + z.mean(),
    "cumsum": lambda z, w: z.cumsum(-2),
    "matmul": lambda z, w: z @ w.mT,
    "matmul_parts": lambda z, w: torch.exp(z) @ w.transpose(-1, -2).exp(),
    "matmul_real": lambda z, w: z @ (w + 0).mT + z.real.to(z.dtype) @ w.mT,
    "mH": lambda z, w: w @ z.mH,
    "linear": lambda z, w: nn.functional.linear(z, w, z[0, 0, :3]),
    "vdot": lambda z, w: torch.vdot(z.flatten(), z.flatten()) + torch.dot(w.flatten(), w.flatten()),
    "einsum": lambda z, w: torch.einsum("bij,kj->bik", z, w) + torch.einsum("bij->bi", z)[..., None],
    "view": lambda z, w: z.view(2, -1, 2).reshape(4, 6).unsqueeze(-1).squeeze(-1).flatten().unflatten(0, (2, -1)),
    "flatten_parts": lambda z, w: torch.exp(z).flatten(1).unflatten(-1, (-1, 4)),
    "permute": lambda z, w: z.permute(2, -3, 1).transpose(-1, -2).movedim(-1, 0),
    "t": lambda z, w: w.t() * 2,
    "expand": lambda z, w: w.expand(2, -1, -1) + w.expand_as(z) + w.repeat(2, 1, 1),
    "cat": lambda z, w: torch.cat([z, z.exp(), z], -1),
    "cat_real": lambda z, w: torch.cat([z, z.real], -2),
    "stack": lambda z, w: torch.stack([w, w.exp()], -1) * torch.stack([w.exp(), w.exp()], -1),
    "slice": lambda z, w: z[..., 1:3] + z[:, 0, None, ::2] + z[-1] [..., :2],
    "index": lambda z, w: z[:, torch.tensor([0, 2])] + z.index_select(-2, torch.tensor([1, 0])),
    "split": lambda z, w: z.chunk(2, -1)[1] * z.split(2, -1)[0] + z.unbind(-1)[0].unsqueeze(-1),
    "flip": lambda z, w: z.flip(-1) + z.roll(1, -1) + z.roll((1, 2), (0, -1)) + z.roll(3),
    "pad": lambda z, w: nn.functional.pad(z, (1, 2)),
    "where": lambda z, w: torch.where(z.real > 0, z, w) + torch.where(w.real > 0, w.exp(), 1j * w.exp()),
    "masked_fill": lambda z, w: z.masked_fill(w.real > 0, 0),
    "zeros": lambda z, w: torch.zeros(3, 4, dtype=torch.complex64) + torch.ones_like(z) + torch.full((4,), 1 + 2j),
    "to_complex": lambda z, w: z.real.to(torch.complex64) + z.imag.to(z.dtype),
    "to_double": lambda z, w: (z.to(torch.complex128) * w).to(torch.complex64),
    "clone_in_place": lambda z, w: z.clone().mul_(w).add_(1),
    "scalar": lambda z, w: z[0, 0, 0] * z + w[0, 0].abs(),
    "diagonal": lambda z, w: torch.tril(w) + torch.triu(w) + w.diagonal()[:, None],
    "scatter": lambda z, w: w.index_put((torch.tensor([1]),), z[0, 0]).index_add(0, torch.tensor([2]), z[0, :1]),
    "stacks": lambda z, w: torch.hstack([w, w.real]) * torch.vstack([w[:1], z[0, 1:]]).repeat(1, 2),
    "convolution": lambda z, w: nn.functional.conv1d(z, w[:, :3, None], w[:, 0]),
    "addmm": lambda z, w: torch.addmm(w[:, :3], w, z[0].mT, beta=2, alpha=1j) + torch.outer(w[:, 0], w[:, 1]),
    "norm": lambda z, w: torch.linalg.vector_norm(z, dim=-1, keepdim=True) * w + z.var(-1, keepdim=True),
    "sines": lambda z, w: torch.sin(z) + torch.cos(w) + torch.sinh(z) * torch.cosh(w),
    "pad_with_a_number": lambda z, w: nn.functional.pad(z, (1, 2), value=2.5) * torch.fill(z[..., :1], 3),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str, convert: Any, apply: Any) -> None:
    def through(x: Any, y: Any) -> Any:
        return torch.view_as_real(FUNCTIONS[name](as_z(x), as_z(y)).resolve_conj())

    convert(apply(through), PAIRS, OTHER)


REALS = {
    "abs": lambda z, w: (z.abs(), z.exp().abs(), torch.abs(z - w)),
    "angle": lambda z, w: (z.angle(), (z * w).angle()),
    "parts": lambda z, w: (z.real, z.imag, (z * w).real, z.conj().imag * 2),
    "to_real": lambda z, w: torch.view_as_real(z).sum(-1),
    "double": lambda z, w: torch.view_as_real(z.to(torch.complex128) + w),
}


@pytest.mark.parametrize("name", REALS)
def test_real_result(name: str, convert: Any, apply: Any) -> None:
    convert(apply(lambda x, y: REALS[name](as_z(x), as_z(y))), PAIRS, OTHER)


class Rotary(nn.Module):
    """Llama's rotary embedding, as Meta wrote it."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(16.0), 1.0 / 100 ** (torch.arange(0, 8, 2) / 8))
        table = torch.polar(torch.ones_like(angles), angles)
        if buffer:
            self.register_buffer("table", table)
        else:
            self.table = nn.Parameter(table)

    def forward(self, x: Any) -> Any:
        z = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        table = self.table[: x.shape[1]].view(1, x.shape[1], 1, -1)
        return torch.view_as_real(z * table).flatten(3).type_as(x)


@pytest.mark.parametrize("buffer", [False, True])
def test_rotary_embedding_takes_few_nodes(buffer: bool, convert: Any) -> None:
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=16)
    x = randn(2, 5, 3, 8)
    model = convert(Rotary(buffer), x, dynamic_shapes=({0: batch, 1: length},), others=[(randn(3, 16, 3, 8),)])
    assert len(model.graph.nodes) <= 12
    assert model.parameters()["table"].data.shape == (16, 4, 2)


def test_complex_inputs_and_outputs_are_refused_by_name(apply: Any) -> None:
    from isomorph.converters.torch.capture import capture

    with pytest.raises(UnsupportedError, match="view_as_complex"):
        capture(torch.export.export(apply(lambda z: z.abs()), (randn(2, 3, dtype=torch.complex64),)))
    with pytest.raises(UnsupportedError, match="view_as_real"):
        capture(torch.export.export(apply(lambda x: torch.complex(x, x)), (randn(2, 3),)))
