"""TorchScript archives read as data: zip, inert pickles, code parsed as syntax and inlined. Nothing runs, no torch."""
