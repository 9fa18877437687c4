"""torchvision's models through the file and through capture, static and with a symbolic batch: the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isomorph.ir import Sym
from isomorph.ir.verify import verify

pytestmark = pytest.mark.requires("torch", "torchvision")

QUICK = ["resnet18", "shufflenet_v2_x1_0"]
SLOW = [
    "resnet50",
    "vgg16_bn",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "inception_v3",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
]


def listing(model: Any) -> list[Any]:
    return [
        (
            node.name,
            node.op,
            [value and value.name for value in node.inputs],
            [value.type for value in node.outputs],
            node.scope,
        )
        for node in model.graph.nodes
    ]


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def test_model(name: str, symbolic: bool, tmp_path: Path) -> None:
    import torch
    import torchvision

    from isomorph.converters.torch.capture import capture
    from isomorph.converters.torch.reader import read

    options = {"init_weights": False} if name == "inception_v3" else {}
    module = getattr(torchvision.models, name)(weights=None, **options).eval()
    side = 299 if name == "inception_v3" else 224
    shapes = ({0: torch.export.Dim("N")},) if symbolic else None
    exported = torch.export.export(module, (torch.randn(2, 3, side, side),), dynamic_shapes=shapes)
    torch.export.save(exported, tmp_path / "model.pt2")
    model = read(tmp_path / "model.pt2")
    verify(model)
    assert listing(model) == listing(capture(exported))
    assert model.inputs["x"].shape == (Sym("N") if symbolic else 2, 3, side, side)
    assert model.outputs["output"].shape == (Sym("N") if symbolic else 2, 1000)
    weights = {name for name, each in model.parameters().items() if each.role == "weight"}
    assert weights <= {name for name, _ in module.named_parameters()}
