"""Which line of the user's code a traceback means, as PyTorch records it in programs and in ONNX files."""

from __future__ import annotations

import re

__all__ = ["of_torch", "user_frame"]

_FRAME = re.compile(r'File "(?P<file>[^"\n]*)", line (?P<line>\d+)[^\n]*\n?(?P<code>[^\n]*)')
_OF_TORCH = re.compile(r"(^|/)torch/(nn|utils|fx|export|_\w+|functional\.py)\b")


def of_torch(file: str) -> bool:
    """Whether a source file is part of torch itself."""
    return _OF_TORCH.search(file) is not None


def user_frame(trace: str) -> tuple[str, int, str]:
    """(file, line, code) of the innermost frame that is not torch's own; the file from its package on."""
    for match in reversed(list(_FRAME.finditer(trace))):
        file = match["file"].replace("\\", "/")
        if not of_torch(file):
            _, installed, below = file.rpartition("site-packages/")
            short = below if installed else file if not file.startswith("/") else file.rpartition("/")[2]
            code = match["code"].strip()
            return short, int(match["line"]), "" if code.startswith("File ") else code
    return "", 0, ""
