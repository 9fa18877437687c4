"""PyTorch: exported programs (`.pt2`), live modules, TorchScript archives and checkpoints.

reader.py, capture.py, script/    a file, a module, an archive -> Program
program.py                        an exported program as plain data
importer.py, lowering.py          Program -> Model, by the rules of aten/
aten/                             what each ATen operation is, a file a family
files/                            pickles, checkpoints, safetensors as data
custom.py                         rules of the user's own
"""
