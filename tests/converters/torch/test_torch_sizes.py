"""Sizes that only the run decides, where an operation needs more of them than to pass them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isomorph
from isomorph.errors import UnsupportedError
from isomorph.ir import Model

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
AUTO = torch.export.Dim.AUTO


def correlation(z: Any, x: Any) -> Any:
    """Each map of x with its own template in z, as Siamese trackers do."""
    n, c = z.shape[:2]
    maps = torch.nn.functional.conv2d(x.reshape(1, n * c, *x.shape[2:]), z.reshape(n * c, 1, *z.shape[2:]), groups=6)
    return maps.reshape(n, c, *maps.shape[2:])


def conv(**how: Any) -> Callable[..., Any]:
    return lambda x, w: torch.nn.functional.conv2d(x, w, **how)


ANY_KERNEL = ({}, {2: AUTO, 3: AUTO})
ANY_IMAGE = ({2: AUTO, 3: AUTO}, {2: AUTO, 3: AUTO})
ANY_MATRIX = ({0: AUTO, 1: AUTO}, {0: AUTO, 1: AUTO})


@pytest.mark.parametrize(
    ("function", "shapes", "others", "dims"),
    [
        (conv(padding=1), [(2, 3, 9, 9), (4, 3, 3, 3)], [(2, 3, 9, 9), (4, 3, 5, 2)], ANY_KERNEL),
        (conv(padding="same"), [(2, 3, 9, 9), (4, 3, 3, 3)], [(2, 3, 9, 9), (4, 3, 5, 7)], ANY_KERNEL),
        (conv(stride=2), [(2, 3, 9, 9), (4, 3, 3, 3)], [(2, 3, 12, 11), (4, 3, 4, 5)], ANY_IMAGE),
        (conv(), [(2, 3, 5, 5), (4, 3, 3, 3)], [(2, 6, 5, 5), (7, 6, 3, 3)], ({1: AUTO}, {0: AUTO, 1: AUTO})),
        (correlation, [(2, 3, 3, 3), (2, 3, 9, 9)], [(2, 3, 5, 4), (2, 3, 11, 12)], ANY_IMAGE),
        (
            lambda x, w: torch.nn.functional.conv_transpose2d(x, w, padding=1, stride=2),
            [(2, 3, 4, 4), (3, 4, 3, 3)],
            [(2, 3, 4, 4), (3, 4, 5, 4)],
            ANY_KERNEL,
        ),
        (torch.block_diag, [(3, 4), (5, 2)], [(6, 2), (2, 7)], ANY_MATRIX),
        (
            lambda x, mask: torch.masked_select(x, mask > 0),
            [(3, 1, 4), (5, 4)],
            [(6, 1, 2), (3, 2)],
            ({0: AUTO, 2: AUTO}, {0: AUTO, 1: AUTO}),
        ),
    ],
    ids=["kernel", "same", "stride", "channels", "correlation", "transposed", "block_diag", "masked_select"],
)
def test_symbolic_sizes(judge: Callable[..., Model], function: Any, shapes: Any, others: Any, dims: Any) -> None:
    torch.manual_seed(0)
    made, more = ([torch.randn(shape) for shape in each] for each in (shapes, others))
    judge(function, *made, others=[more], dynamic_shapes=(dims,))


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_keras_refuses_a_kernel_of_symbolic_size(apply: Callable[..., Any], tmp_path: Path, name: str) -> None:
    from isomorph.converters.convert import save
    from isomorph.converters.torch.capture import capture

    module = apply(getattr(torch.nn.functional, name))
    inputs = torch.randn(2, 3, 9, 9), torch.randn(3, 3, 3, 3)
    model = capture(torch.export.export(module, inputs, dynamic_shapes=(ANY_KERNEL,)))
    with pytest.raises(UnsupportedError, match="computed"):
        save(model, tmp_path / "model.keras")


class Kept(torch.nn.Module):
    """The images whose mean is positive, each map of them as one row."""

    def forward(self, x: Any) -> Any:
        kept = x[torch.nonzero(x.mean((1, 2, 3)) > 0).squeeze(1)]
        return kept.flatten(2), kept.transpose(1, 2).reshape(kept.shape[0], x.shape[2] * x.shape[3], x.shape[1])


@pytest.mark.parametrize("opset", [13, 14, 24])
def test_rows_of_nothing(tmp_path: Path, opset: int) -> None:
    """Where data may leave no row, no other size may be left open: 0 elements fit any."""
    import onnxruntime

    size = torch.export.Dim("size", min=2, max=64)
    model = isomorph.capture(Kept().eval(), (torch.rand(3, 5, 4, 4),), dynamic_shapes=({2: size, 3: AUTO},))
    isomorph.save(model, tmp_path / "kept.onnx", opset=opset)
    session = onnxruntime.InferenceSession(tmp_path / "kept.onnx")
    for image in (torch.randn(3, 5, 3, 6), -torch.ones(3, 5, 3, 6)):
        found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        for one, other in zip(found, Kept()(image), strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-6, strict=True)
