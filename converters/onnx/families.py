"""Importing this module registers the rules of all families."""

from isomorph.converters.onnx import (  # noqa: F401
    activation,
    attention,
    conv,
    elementwise,
    index,
    linear,
    norm,
    pool,
    reduce,
    resize,
    select,
    shape,
)
