"""Writes small `.pt2` files with the torch that runs it: python make.py FOLDER. Needs torch 2.5 or later, nothing else.

The files beside this one were written by torch 2.5.1, 2.6.0, 2.7.1 and 2.8.0 (CPU builds, Python 3.11); the paths
in their stack traces were shortened. Each version adds its files and `torch-VERSION.json`, the
example inputs with what eager torch returned for them:
{model: {"inputs": {name: values}, "outputs": [values]}}.
"""

import json
import sys
from pathlib import Path

import torch


class Convolution(torch.nn.Module):
    """A convolution with batch norm, in place activation, pooling and a classifier, and a named batch size."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(2)
        self.classifier = torch.nn.Linear(2, 3)

    def forward(self, image):
        features = torch.relu_(self.norm(self.conv(image)))
        return self.classifier(torch.nn.functional.adaptive_avg_pool2d(features, 1).flatten(1))


class Tied(torch.nn.Module):
    """One matrix for embedding and output, a buffer that is not saved, a constant tensor, a transposed weight."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.output = torch.nn.Linear(3, 5, bias=False)
        self.output.weight = self.embedding.weight
        self.mixing = torch.nn.Parameter(torch.randn(4, 3).t())
        self.register_buffer("scale", torch.tensor([1.0, 0.5, 2.0]), persistent=False)

    def forward(self, tokens):
        hidden = self.embedding(tokens) * self.scale + torch.tensor([0.25, 0.5, 0.75])
        return {"logits": self.output(hidden), "mixed": hidden @ self.mixing}


class Sizes(torch.nn.Module):
    """Arithmetic with a size, a block without gradients, an argument by keyword, a list of indices with a None."""

    def forward(self, x, *, factor):
        with torch.no_grad():
            wide = torch.cat([x, x * 2], dim=0)
        flat = wide.reshape(x.shape[0] * 2 * 3)
        return flat * factor, x[:, [0, 2]].sum(), x.new_zeros(x.shape[0], 2)


def programs():
    torch.manual_seed(0)
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=64)
    model = Convolution().eval()
    model.norm.running_mean.uniform_(-0.5, 0.5)
    model.norm.running_var.uniform_(0.5, 1.5)
    yield "convolution", model, {"image": torch.rand(3, 1, 5, 6)}, {"image": {0: batch}}
    yield "tied", Tied().eval(), {"tokens": torch.tensor([[0, 3, 4, 1]])}, None
    inputs = {"x": torch.rand(4, 3), "factor": torch.tensor(1.5)}
    yield "sizes", Sizes(), inputs, {"x": {0: length}, "factor": None}


def main():
    folder = Path(sys.argv[1])
    version = torch.__version__.partition("+")[0]
    known = {}
    for name, model, inputs, dynamic in programs():
        args = tuple(inputs[key] for key in inputs if key != "factor")
        kwargs = {key: inputs[key] for key in inputs if key == "factor"}
        with torch.no_grad():
            outputs = model(*args, **kwargs)
        outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
        outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        exported = torch.export.export(model, args, kwargs, dynamic_shapes=dynamic)
        torch.export.save(exported, str(folder / f"{name}-{version}.pt2"))
        known[name] = {
            "inputs": {key: value.tolist() for key, value in inputs.items()},
            "outputs": [value.tolist() for value in outputs],
        }
    (folder / f"torch-{version}.json").write_text(json.dumps(known) + "\n")


if __name__ == "__main__":
    main()
