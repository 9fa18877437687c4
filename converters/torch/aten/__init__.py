"""The rules of ATen's operations, a file a family. See rules.py for how they are called."""
