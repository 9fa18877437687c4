"""Small networks with the ops that collections of models lack: recurrence, detection, audio, arithmetic, state."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = [
    "Arithmetic", "Audio", "Decoder", "Detector", "Graph", "Recurrent", "Speaker", "Stateful", "Unet", "Volume",
    "Windowed",
]  # fmt: skip


class Recurrent(nn.Module):
    """Token ids (N, L) -> tags (N, L, 7): two bidirectional LSTM layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 9, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(18, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.lstm(self.table(tokens))[0])


class Speaker(nn.Module):
    """Frames (N, L, 10) and a state (1, N, 12) -> an embedding and the next state: a GRU, then an RNN."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(10, 12, batch_first=True)
        self.rnn = nn.RNN(12, 8, batch_first=True)
        self.head = nn.Linear(8, 6)

    def forward(self, frames: Any, state: Any) -> Any:
        values, following = self.gru(frames, state)
        values, _ = self.rnn(values)
        return functional.normalize(self.head(values.mean(1)), dim=-1), following


class Audio(nn.Module):
    """A wave (N, 1, 400) -> (N, 6): strided 1-d convolutions, reflect padding, average pools, cumulative sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 9, stride=4, padding=4, padding_mode="reflect")
        self.second = nn.Conv1d(8, 12, 5, padding=4, dilation=2)
        self.norm = nn.BatchNorm1d(12)
        self.third = nn.Conv1d(12, 12, 3, groups=3)
        self.head = nn.Linear(12, 6)

    def forward(self, wave: Any) -> Any:
        x = functional.elu(self.first(wave))
        x = functional.avg_pool1d(functional.leaky_relu(self.norm(self.second(x)), 0.2), 3, 2, 1)
        x = functional.softplus(self.third(functional.pad(x, (1, 2), mode="replicate")))
        x = torch.cumsum(x, -1) / torch.arange(1, x.shape[-1] + 1)
        return functional.log_softmax(self.head(x.amax(-1)), -1)


class Unet(nn.Module):
    """An image (N, 3, 24, 20) -> masks (N, 2, 24, 20): transposed convolution, resizing, norms by group."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.group = nn.GroupNorm(2, 8)
        self.deep = nn.Conv2d(8, 12, 3, stride=2, padding=1, padding_mode="circular")
        self.instance = nn.InstanceNorm2d(12, affine=True)
        self.up = nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1, output_padding=1)
        self.mix = nn.Conv2d(16, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Any) -> Any:
        near = functional.silu(self.group(self.down(x)))
        far = functional.mish(self.instance(self.deep(near)))
        far = self.up(far)
        mixed = functional.relu6(self.mix(torch.cat([near, far], 1)))
        wide = functional.interpolate(mixed, scale_factor=2, mode="bilinear", align_corners=False)
        coarse = functional.interpolate(functional.max_pool2d(x, 5, 4, 2), size=(24, 20), mode="nearest")
        return self.head(wide) + coarse[:, :2] + functional.interpolate(self.head(mixed), (24, 20), mode="bicubic")


class Detector(nn.Module):
    """An image (N, 3, 32, 32) -> boxes (N, 10, 4), scores (N, 10), labels (N, 10): a head with anchors and top-k."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
            nn.MaxPool2d(3, 2, 0, ceil_mode=True),
        )  # fmt: skip
        self.scores = nn.Conv2d(16, 5, 3, padding=1)
        self.boxes = nn.Conv2d(16, 4, 3, padding=1)
        self.register_buffer("anchors", torch.rand(16, 4) * 32)

    def forward(self, image: Any) -> Any:
        features = self.body(image)
        scores = self.scores(features).flatten(2).transpose(1, 2).sigmoid()
        deltas = self.boxes(features).flatten(2).transpose(1, 2)
        centers = self.anchors[:, :2] + deltas[..., :2] * self.anchors[:, 2:]
        halves = self.anchors[:, 2:] * torch.exp(deltas[..., 2:].clamp(max=4.0)) / 2
        boxes = torch.cat([centers - halves, centers + halves], -1).clamp(0, 32)
        best, labels = scores.max(-1)
        best, order = best.topk(10, dim=1)
        return torch.gather(boxes, 1, order[..., None].expand(-1, -1, 4)), best, torch.gather(labels, 1, order)


class Arithmetic(nn.Module):
    """Numbers (N, 8, 6) and counts (N, 9) -> floats and integers: division, remainders, rounding, order, selection."""

    def forward(self, x: Any, counts: Any) -> Any:
        halves = torch.round(x * 2) / 2
        floored = torch.floor_divide(x, 0.7) + torch.fmod(x, 0.3) + torch.remainder(x, -0.4)
        picked = torch.where(x >= 0.5, x.clamp(-2, 2), -x.abs().sqrt())
        spread = torch.cumsum(picked, 1) + torch.nn.functional.pad(floored, (1, 0))[:, :, :-1]
        whole = (counts * 7 - 20) // 3 + (counts * 5) % 4
        ranks = torch.argsort(x + torch.arange(6) * 0.01, dim=-1)
        low, high = x.sort(dim=1)[0][:, :2], torch.logsumexp(x, 2)
        return (
            spread + halves,
            whole,
            ranks,
            x.argmax(1),
            low * high[:, :2, None],
            x.std(-1) + torch.maximum(x, -x)[..., 0],
        )


class Graph(nn.Module):
    """Features (N, 12, 6) of the nodes of a fixed graph -> (N, 12, 4): gather, scatter-add, layer norm, PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(6, 6), nn.Linear(12, 4)
        self.norm, self.slope = nn.LayerNorm(6), nn.PReLU(6)
        self.register_buffer("start", torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 3, 6, 9, 2, 2]))
        self.register_buffer("end", torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 5, 8, 11, 2, 7, 4]))

    def forward(self, x: Any) -> Any:
        messages = self.message(x).transpose(1, 2)
        messages = self.slope(messages).transpose(1, 2)
        gathered = torch.zeros_like(x).index_add(1, self.end, messages[:, self.start])
        degree = torch.einsum("nij,njk->nik", x @ x.transpose(1, 2) / 6, self.norm(gathered))
        return torch.tanh(self.update(torch.cat([x, degree], -1)))


class Stateful(nn.Module):
    """Samples (1, 5) -> (1, 5): an exponential mean and a counter that live in buffers from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(5, 5)
        self.register_buffer("mean", torch.randn(1, 5))
        self.register_buffer("seen", torch.tensor(3))

    def forward(self, x: Any) -> Any:
        self.mean.mul_(0.9).add_(0.1 * self.mix(x))
        self.seen.add_(1)
        return torch.sin(x - self.mean) * torch.rsqrt(self.seen + x.pow(2))


class Volume(nn.Module):
    """A volume (N, 2, 6, 8, 7) -> (N, 3): 3-d convolution and pools, softmax over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(2, 6, 3, padding=1), nn.Conv3d(6, 4, (1, 3, 2))
        self.norm = nn.BatchNorm3d(6)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        x = functional.selu(self.norm(self.first(x)))
        x = torch.softmax(self.second(functional.avg_pool3d(x, 2, count_include_pad=False)), 1)
        return self.head(x.mean((2, 3, 4)))


class Windowed(nn.Module):
    """An image (N, 8, 8, 6) -> the same: windows that are shifted, attention inside each, pixels shuffled back."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.grow = nn.Linear(6, 18), nn.Linear(6, 6), nn.Conv2d(6, 8, 3, 2, 1)
        self.bias = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Any) -> Any:
        rolled = torch.roll(x, (-2, -2), (1, 2))
        windows = rolled.reshape(-1, 2, 4, 2, 4, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 16, 6)
        q, k, v = self.qkv(windows).chunk(3, -1)
        mixed = torch.softmax(q @ k.transpose(-1, -2) * 0.4 + self.bias, -1) @ v
        back = self.out(mixed).reshape(-1, 2, 2, 4, 4, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 6)
        y = torch.roll(back, (2, 2), (1, 2)) + x
        return functional.pixel_shuffle(torch.tanh(self.grow(y.permute(0, 3, 1, 2))), 2), y


class Decoder(nn.Module):
    """Token ids (N, L) -> logits (N, L, 40): rotary positions, a causal mask, RMS norm, a gated MLP, tied weights."""

    def __init__(self, width: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Embedding(40, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-5) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, 40, bias=False), nn.Linear(width, 40, bias=False)
        self.down, self.head = nn.Linear(40, width, bias=False), nn.Linear(width, 40, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Any) -> Any:
        x = self.table(tokens)
        n, length, width = x.shape
        size = width // self.heads
        q, k, v = (
            part.reshape(n, length, self.heads, size).transpose(1, 2)
            for part in self.qkv(self.norms[0](x)).chunk(3, -1)
        )
        angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
        cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

        def rotate(t: Any) -> Any:
            return t * cos + torch.cat([-t[..., size // 2 :], t[..., : size // 2]], -1) * sin

        scores = rotate(q) @ rotate(k).transpose(-1, -2) / size**0.5
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mixed = torch.softmax(scores.masked_fill(~mask, float("-inf")), -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        h = self.norms[1](x)
        return self.head(self.norms[2](x + self.down(functional.silu(self.gate(h)) * self.up(h))))
