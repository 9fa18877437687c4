"""PyTorch: exported programs (`.pt2` files and live modules) and the rules of their ATen operations."""
