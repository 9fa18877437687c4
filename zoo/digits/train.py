"""Train the embedded digits classifier and export it: `python zoo/digits/train.py`.

Writes beside this file

    digits-cnn.pt2   torch.export program with a symbolic batch, float32
    answers.npz      image (16, 1, 8, 8) held-back images, label (16,), logits (16, 10) of torch float32

and prints the accuracy on the held-back images. Seed and split are fixed; one build of torch on one thread gives
the same bytes every time, another may round differently. The `.onnx` and `.keras` beside it are isomorph's own
conversions of the `.pt2`.

Data: scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set (1,797 images of 8 x 8 pixels,
values 0..16). Needs torch and scikit-learn.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 2
HELD_BACK = 360
EPOCHS = 120
BATCH = 64
PEAK_RATE = 4e-3
ANSWERS = 16


class DigitsCnn(nn.Module):
    """Two convolutions at 8 x 8, one at 4 x 4, one linear layer: 15,418 weights.

    image (N, 1, 8, 8) in 0..1 -> logits (N, 10)
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(32 * 2 * 2, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.conv1(image)))
        x = self.pool(torch.relu(self.norm2(self.conv2(x))))
        x = self.pool(torch.relu(self.norm3(self.conv3(x))))
        x = self.dropout(torch.flatten(x, 1))
        logits: torch.Tensor = self.head(x)
        return logits


DigitsCnn.__module__ = "digits.train"  # what the exported module stack states, however this file is run


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Train images, held-back images, train labels, held-back labels; stratified, fixed split."""
    digits: Any = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    split = train_test_split(images, digits.target, test_size=HELD_BACK, stratify=digits.target, random_state=0)
    train, held, train_labels, held_labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in split)
    return train, held, train_labels, held_labels


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The batch moved by -1, 0 or 1 pixel on each axis, zeros moving in."""
    row, column = (int(value) for value in torch.randint(0, 3, (2,)))
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return padded[:, :, row : row + 8, column : column + 8]


def train(model: DigitsCnn, images: torch.Tensor, labels: torch.Tensor) -> None:
    """AdamW, cosine rate after a short linear warm-up, cross entropy with label smoothing 0.05."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(model(shifted(images[rows])), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def export(model: DigitsCnn, example: torch.Tensor, path: Path) -> None:
    """Save the torch.export program with symbolic batch N; the source files that it names are relative."""
    batch = torch.export.Dim("N", min=1)
    program = torch.export.export(model, (example,), dynamic_shapes={"image": {0: batch}})
    packages = Path(torch.__file__).resolve().parent.parent
    for node in program.graph.nodes:
        trace = node.meta.get("stack_trace")
        if trace:
            node.meta["stack_trace"] = trace.replace(f"{HERE}", "zoo/digits").replace(f"{packages}/", "")
    torch.export.save(program, str(path))


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, held, labels, held_labels = data()
    model = DigitsCnn()
    train(model, images, labels)
    with torch.no_grad():
        logits = model(held)
    right = int((logits.argmax(1) == held_labels).sum())
    sys.stdout.write(f"{right} of {len(held)} held-back images right: {right / len(held):.2%}\n")
    export(model, held[:2].clone(), HERE / "digits-cnn.pt2")
    np.savez(
        HERE / "answers.npz",
        image=held[:ANSWERS].numpy(),
        label=held_labels[:ANSWERS].numpy().astype(np.int64),
        logits=logits[:ANSWERS].numpy(),
    )


if __name__ == "__main__":
    main()
