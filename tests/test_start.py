"""What makes a command start quickly: records, and packages whose `__init__` waits."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import ClassVar

import pytest

from isomorph.records import record


@record
class Point:
    x: int
    y: int = 0
    kind: ClassVar[str] = "plane"


@record
class Space(Point):
    z: list[int] = field(default_factory=list)


@record
class Named(Point):
    kind: ClassVar[str] = "named"


@record
class Nothing:
    """No field at all."""


@dataclass(frozen=True, slots=True)
class Model:
    x: int
    y: int = 0


def test_a_record_is_a_frozen_dataclass() -> None:
    point = Point(1, y=2)
    assert is_dataclass(Point) and [each.name for each in fields(Point)] == ["x", "y"]
    assert repr(point) == "Point(x=1, y=2)" == repr(Model(1, 2)).replace("Model", "Point")
    assert point == Point(1, 2) != Point(1) and len({point, Point(1, 2), Point(1)}) == 2
    assert point != Space(1, 2) and Named(1, 2) != point
    assert replace(point, x=3) == Point(3, 2)
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert not hasattr(point, "__dict__")
    for copied in (copy.copy(point), copy.deepcopy(point)):
        assert copied == point


def test_a_subclass_has_its_own_init_whichever_is_built_first() -> None:
    assert Point(1) == Point(1, 0)
    assert Space(1, 2, [3]).z == [3] and Space(1).z == [] and Space(1).z is not Space(1).z
    assert Nothing() == Nothing() and repr(Nothing()) == "Nothing()"
    assert repr(Named(1)) == "Named(x=1, y=0)" and Named.kind == "named"


def test_a_record_refuses_what_a_frozen_dataclass_refuses() -> None:
    with pytest.raises(TypeError, match="Point lacks its argument 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Point takes 2 arguments, 3 were given"):
        Point(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="an unknown argument 'z'"):
        Point(1, z=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="twice its argument 'x'"):
        Point(1, x=2)  # type: ignore[misc]
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match="'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="'x'"):
        del point.x
    with pytest.raises(FrozenInstanceError, match="'w'"):
        point.w = 2  # type: ignore[attr-defined]

    class Checked:
        x: int

        def __post_init__(self) -> None: ...

    with pytest.raises(TypeError, match="__post_init__"):
        record(Checked)


DEFERRED = """
import sys
from isomorph.deferred import defer
defer("onnx", names="onnx.onnx_pb")
defer("no_such_package", names="no_such_package.names")
assert "no_such_package" not in sys.modules
import onnx
from onnx import NodeProto, helper
assert helper.make_node("Relu", ["x"], ["y"]).op_type == "Relu"
assert onnx.defs.get_schema("Relu").name == "Relu"
assert not hasattr(onnx, "__wrapped__")
assert "onnx.checker" not in sys.modules and "__init__" not in repr(type(onnx))
{}
assert type(onnx) is type(sys) and "onnx.checker" in sys.modules
assert onnx.NodeProto is NodeProto is onnx.onnx_ml_pb2.NodeProto and onnx.helper is helper
assert onnx.__version__
defer("onnx", names="onnx.onnx_pb")
assert type(onnx) is type(sys)
"""


@pytest.mark.parametrize(
    "use",
    [
        "onnx.load_model",
        "assert onnx.__version__",
        "from onnx import load_model",
        "from onnx import *",
        "import onnx.reference; onnx.load",
        "try:\n    onnx.no_such_name\nexcept AttributeError as error:\n    assert 'no_such_name' in str(error)",
    ],
)
def test_a_deferred_package_becomes_what_it_is(use: str) -> None:
    done = subprocess.run([sys.executable, "-c", DEFERRED.format(use)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
