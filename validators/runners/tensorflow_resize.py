"""Bilinear resizing by its definition, for graphs in float64: the kernel's result is float32 whatever it is given.

y[n, i, j, c] = the linear interpolation of x[n, :, :, c] at s(i) along the rows and s(j) along the columns,

    s(i) = (i + 1/2) · in/out - 1/2   half_pixel_centers
    s(i) = i · (in - 1)/(out - 1)     align_corners
    s(i) = i · in/out                 else

x (N, H, W, C) of numbers, size (2) int32 -> y (N, size[0], size[1], C) float64; what lies beyond the border is the
border. See: tensorflow/core/kernels/image/resize_bilinear_op.cc, tensorflow/core/util/image_resizer_state.h.
"""

from __future__ import annotations

from typing import Any

import tensorflow

__all__ = ["call_resize"]


def call_resize(node: Any, graph: Any, dtype: Any) -> None:
    """Add to a GraphDef, in the place of a ResizeBilinear `node`, the call of a function that computes it from images
    of this type; the function, too, where the graph lacks it."""
    aligned, centred = node.attr["align_corners"].b, node.attr["half_pixel_centers"].b
    name = f"resize_bilinear_{dtype.name}" + "_aligned" * aligned + "_centred" * centred
    if name not in {each.signature.name for each in graph.library.function}:
        function = tensorflow.function(lambda x, size: _resized(x, size, aligned=aligned, centred=centred))
        traced = function.get_concrete_function(
            tensorflow.TensorSpec([None] * 4, dtype), tensorflow.TensorSpec([2], tensorflow.int32)
        )
        definition = traced.function_def
        definition.signature.name = name
        graph.library.function.add().CopyFrom(definition)
    call = graph.node.add(name=node.name, op="PartitionedCall", input=list(node.input))
    call.attr["Tin"].list.type[:] = [dtype.as_datatype_enum, tensorflow.int32.as_datatype_enum]
    call.attr["Tout"].list.type[:] = [tensorflow.float64.as_datatype_enum]
    call.attr["f"].func.name = name


def _resized(x: Any, size: Any, *, aligned: bool, centred: bool) -> Any:
    wide = tensorflow.cast(x, tensorflow.float64)
    for axis in (1, 2):
        wide = _along(wide, axis, size[axis - 1], aligned=aligned, centred=centred)
    return wide


def _along(x: Any, axis: int, count: Any, *, aligned: bool, centred: bool) -> Any:
    have, want = (tensorflow.cast(each, tensorflow.float64) for each in (tensorflow.shape(x)[axis], count))
    places = tensorflow.cast(tensorflow.range(count), tensorflow.float64)
    if aligned:
        at = places * tensorflow.where(want > 1, (have - 1) / tensorflow.maximum(want - 1, 1), have / want)
    else:
        at = (places + 0.5) * have / want - 0.5 if centred else places * have / want
    low = tensorflow.cast(tensorflow.floor(at), tensorflow.int32)  # from here in whole numbers, which no noise moves
    last = tensorflow.shape(x)[axis] - 1
    near, far = (tensorflow.clip_by_value(each, 0, last) for each in (low, low + 1))
    share = tensorflow.reshape(
        at - tensorflow.cast(low, tensorflow.float64), [-1 if a == axis else 1 for a in range(4)]
    )
    before, after = tensorflow.gather(x, near, axis=axis), tensorflow.gather(x, far, axis=axis)
    return before + (after - before) * share
