"""Writes small checkpoints and a TorchScript file with torch: python make.py FOLDER. Those here are torch 2.14's."""

import sys
from collections import OrderedDict
from pathlib import Path

import torch


class Small(torch.nn.Module):
    """Two layers, a buffer, and weights of several kinds."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("steps", torch.arange(6)[1:5:2])

    def forward(self, x):
        return torch.relu(self.norm(self.first(x)))


def main():
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    model = Small().eval()
    state = OrderedDict(model.state_dict())
    state["half"] = torch.linspace(-1, 1, 4, dtype=torch.bfloat16)
    state["turned"] = torch.arange(6.0).reshape(2, 3).t()
    state["repeated"] = torch.tensor([1.0, 2.0]).expand(3, 2)
    state["empty"] = torch.empty(0, 3)
    torch.save({"state_dict": state, "epoch": 3, "names": ["a", "b"]}, folder / "zip.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(model, folder / "module.pt")
    quantized = torch.quantize_per_tensor(torch.arange(4.0), 0.5, 2, torch.quint8)
    sparse = torch.eye(2).to_sparse()
    torch.save({"quantized": quantized, "sparse": sparse, "plain": torch.ones(2)}, folder / "kinds.pt")
    torch.jit.script(model).save(str(folder / "script.pt"))


if __name__ == "__main__":
    main()
