"""Attention and transformer layers, called as modules and as the fused operators of the fast path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

DIM, HEADS = 16, 4


def rand(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padding() -> Any:
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 3:] = True
    return mask


@pytest.mark.parametrize("norm_first", (False, True))
@pytest.mark.parametrize("activation", ("relu", "gelu"))
def test_fused_encoder_layer(convert: Callable[..., Any], norm_first: bool, activation: str) -> None:
    class Fused(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.TransformerEncoderLayer(
                DIM, HEADS, 24, activation=activation, batch_first=True, norm_first=norm_first
            )

        def forward(self, x: Any, mask: Any) -> Any:
            each = self.layer
            attention = (each.self_attn.in_proj_weight, each.self_attn.in_proj_bias)
            attention += (each.self_attn.out_proj.weight, each.self_attn.out_proj.bias)
            norms = (each.norm1.weight, each.norm1.bias, each.norm2.weight, each.norm2.bias)
            feed = (each.linear1.weight, each.linear1.bias, each.linear2.weight, each.linear2.bias)
            kind = (activation == "gelu", norm_first, each.norm1.eps)
            return torch._transformer_encoder_layer_fwd(x, DIM, HEADS, *attention, *kind, *norms, *feed, mask, 1)

    torch.manual_seed(0)
    with torch.no_grad():
        convert(Fused(), rand(2, 5, DIM), padding())


@pytest.mark.parametrize("need_weights", (False, True))
def test_multi_head_attention(convert: Callable[..., Any], need_weights: bool) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(DIM, HEADS, kdim=12, vdim=10, batch_first=True)

        def forward(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
            made, weights = self.attention(q, k, v, key_padding_mask=mask, need_weights=need_weights)
            return (made, weights) if need_weights else made

    torch.manual_seed(0)
    rows = torch.export.Dim("rows", min=2, max=9)
    sizes = ({0: rows}, {0: rows}, {0: rows}, {0: rows})
    given = (rand(2, 3, DIM), rand(2, 5, 12, seed=1), rand(2, 5, 10, seed=2), padding())
    other = tuple(torch.cat([each, each[:1]]) for each in given)
    with torch.no_grad():
        convert(Model(), *given, dynamic_shapes=sizes, others=[other])


@pytest.mark.parametrize("norm_first", (False, True))
def test_encoder_and_decoder(convert: Callable[..., Any], norm_first: bool) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Transformer(DIM, HEADS, 1, 1, 24, batch_first=True, norm_first=norm_first)

        def forward(self, src: Any, tgt: Any) -> Any:
            mask = torch.nn.Transformer.generate_square_subsequent_mask(tgt.shape[1])
            return self.layers(src, tgt, tgt_mask=mask, tgt_is_causal=True)

    torch.manual_seed(0)
    with torch.no_grad():
        convert(Model(), rand(2, 5, DIM), rand(2, 4, DIM, seed=1))


@pytest.mark.parametrize("mask", (None, "bool", "float", "causal"))
def test_grouped_queries_of_symbolic_length(convert: Callable[..., Any], apply: Callable[..., Any], mask: Any) -> None:
    def call(q: Any, k: Any, v: Any) -> Any:
        rows = torch.arange(q.shape[2])[:, None]
        columns = torch.arange(k.shape[2])
        bias = {"bool": rows >= columns - 1, "float": (rows - columns) * 0.1}.get(mask)
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, bias, is_causal=mask == "causal", scale=0.3, enable_gqa=True
        )

    length = torch.export.Dim("length", min=2, max=64)
    given = (rand(2, 6, 5, 8), rand(2, 2, 5, 8, seed=1), rand(2, 2, 5, 8, seed=2))
    other = tuple(torch.cat([each, each], 2) for each in given)
    convert(apply(call), *given, dynamic_shapes=(({2: length},) * 3,), others=[other])
