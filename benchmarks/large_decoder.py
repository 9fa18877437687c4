"""Memory of converting a decoder of 1.1 billion parameters (random weights, bfloat16) from `.pt2` to ONNX.

    python benchmarks/large_decoder.py FOLDER

Writes about 4.5 GB to FOLDER, and prints sizes, seconds and the peak memory of the conversion, weights that the system
keeps in its page cache not counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from processes import measure, python

MAKE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
config = LlamaConfig(
    hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
    vocab_size=32000, max_position_embeddings=2048,
)

class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = LlamaForCausalLM(config)

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits

ids = torch.randint(0, 32000, (2, 16))
sizes = {0: torch.export.Dim("N"), 1: torch.export.Dim("S", min=2, max=2048)}
torch.export.save(torch.export.export(Logits().eval(), (ids,), dynamic_shapes=(sizes,)), "decoder.pt2")
"""


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "decoder.pt2").exists():
        measure(python("-c", MAKE), folder=folder, cpu=None, settings={"HF_HUB_OFFLINE": "1"}).check()
    command = python("-m", "isomorph", "convert", "decoder.pt2", "decoder.onnx", "--force", "--json")
    done = measure(command, folder=folder, cpu=None).check()
    size = (folder / "decoder.pt2").stat().st_size / 1e9
    print(f"{size:.2f} GB converted in {done.seconds:.1f} s, peak {done.megabytes:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
