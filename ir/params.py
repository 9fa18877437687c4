"""Parameters: identities, not arrays. A tied weight is one object that several nodes read."""

from __future__ import annotations

from dataclasses import dataclass

from isomorph.ir.tensors import TensorSource

__all__ = ["Parameter"]


@dataclass(eq=False, slots=True)
class Parameter:
    """A tensor that belongs to the model. Compared and hashed by identity.

    name       as the source framework calls it (`layer1.0.conv1.weight`)
    data       the elements, read on demand
    trainable  whether an optimizer may change it
    role       "weight" (a parameter), "buffer" (state such as running statistics), "constant" (a literal of the graph)
    """

    name: str
    data: TensorSource
    trainable: bool = True
    role: str = "weight"
