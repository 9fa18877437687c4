"""Importing this module registers the rules of all families."""

from isomorph.converters.onnx import (  # noqa: F401
    activation,
    attention,
    control,
    conv,
    elementwise,
    index,
    linear,
    norm,
    pool,
    preserved,
    quant,
    random,
    recurrent,
    reduce,
    resize,
    sample,
    select,
    shape,
    signal,
    vision,
)
