"""What PyTorch writes beside programs, parsed as data: pickles, checkpoints, safetensors."""
