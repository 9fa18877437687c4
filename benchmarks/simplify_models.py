"""Writes the raw export of a model: what `torch.onnx.export(dynamo=True, optimize=False)` gives, and example inputs.

    python benchmarks/simplify_models.py NAME FOLDER        writes FOLDER/NAME.onnx and FOLDER/NAME.npz

Sizes that may vary do, where torch.export allows it. Weights are random, of a kind that a fault shows in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_trial
from models.entry import Example, batched

__all__ = ["MODELS", "export"]


class Tagger(torch.nn.Module):
    """Two layers of LSTM in both directions over embedded tokens, and a tag for each."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(99, 32)
        self.lstm = torch.nn.LSTM(32, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(48, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(tokens))[0])


class Speaker(torch.nn.Module):
    """Convolutions and a GRU over a spectrogram, the last state classified."""

    def __init__(self) -> None:
        super().__init__()
        self.front = torch.nn.Sequential(torch.nn.Conv1d(20, 32, 5, 2), torch.nn.BatchNorm1d(32), torch.nn.ReLU())
        self.gru = torch.nn.GRU(32, 32, batch_first=True)
        self.head = torch.nn.Linear(32, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.front(x).transpose(1, 2))[1][-1]).log_softmax(-1)


def _swept(name: str, *, symbolic: bool = True) -> Callable[[], Example]:
    """An entry of the collections that the sweep has, with symbolic sizes unless said otherwise."""

    def make() -> Example:
        entries = import_module(f"models.{name.partition('/')[0]}").ENTRIES
        return next(entry for entry in entries if entry.name == name).make(symbolic)  # type: ignore[no-any-return]

    return make


def _tagger() -> Example:
    tokens = torch.randint(0, 99, (2, 10))
    return Example(Tagger().eval(), (tokens,), {}, ({0: torch.export.Dim("N", min=1, max=64)},))


MODELS: dict[str, Callable[[], Example]] = {
    "resnet18": _swept("torchvision/resnet18"),
    "efficientnet_b0": _swept("torchvision/efficientnet_b0"),
    "mobilenet_v3_small": _swept("torchvision/mobilenet_v3_small"),
    "shufflenet_v2_x1_0": _swept("torchvision/shufflenet_v2_x1_0"),
    "densenet121": _swept("torchvision/densenet121"),
    "googlenet": _swept("torchvision/googlenet"),
    "convnext_tiny": _swept("torchvision/convnext_tiny"),
    "swin_t": _swept("torchvision/swin_t"),
    "vit": _swept("transformers/vit"),
    "lraspp_mobilenet": _swept("torchvision/lraspp_mobilenet_v3_large"),
    "bert": _swept("transformers/bert"),
    "gpt2": _swept("transformers/gpt2"),
    "llama": _swept("transformers/llama"),
    "qwen3": _swept("transformers/qwen3"),
    "segformer": _swept("transformers/segformer"),
    "clip": _swept("transformers/clip"),
    "mamba": _swept("transformers/mamba"),
    "wav2vec2": _swept("transformers/wav2vec2", symbolic=False),  # the file would allow lengths that its layers do not
    "lstm": _tagger,
    "gru": lambda: batched(Speaker().eval(), (20, 41), symbolic=True),
}


def export(name: str, folder: Path) -> None:
    """Write the raw export and the example inputs, in the order of the graph's inputs."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    example = MODELS[name]()
    program, _ = torch_trial._export(example)
    made: Any = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
    made.save(str(folder / f"{name}.onnx"), external_data=False)
    np.savez(folder / f"{name}.npz", *torch_trial._arrays(example))


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
