"""Text from files, made fit for a terminal: names come from strangers, and a terminal obeys control characters."""

from __future__ import annotations

__all__ = ["printable"]

_KEPT = "\n\t"


def printable(text: str) -> str:
    """The text with every control, formatting and unpaired surrogate character as a Python escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in _KEPT else repr(each)[1:-1] for each in text)
