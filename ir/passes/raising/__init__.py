"""Raises computations that a source spells out to the op that says them."""
