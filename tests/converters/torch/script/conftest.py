"""`script(module, *inputs)`: saved by torch.jit, read as data, evaluated, compared with torch's own answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomorph.converters.torch.script.reader import read
from isomorph.converters.torch.script.signature import leaves
from isomorph.ir import DType, Model
from isomorph.ir.evaluate import evaluate
from isomorph.ir.verify import verify


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; its files are not going away
        yield


def as_array(value: Any) -> np.ndarray[Any, Any]:
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Model]:
    """Save with torch.jit.script or .trace, read, verify, evaluate on the inputs and on `others`. Returns the model.

    shapes  replaces the shapes of the inputs by name, for symbolic sizes
    fixed   numbers that `--input NAME=NUMBER` would fix, by name
    """
    import torch

    def run(
        module: Any,
        *inputs: Any,
        traced: bool = False,
        frozen: bool = False,
        mobile: bool = False,
        shapes: Mapping[str, Any] | None = None,
        fixed: Mapping[str, int] | None = None,
        others: Any = (),
        tolerance: float = 1e-5,
    ) -> Model:
        module = module.eval()
        made = torch.jit.trace(module, inputs, check_trace=False) if traced else torch.jit.script(module)
        made = torch.jit.freeze(made) if frozen else made
        path = tmp_path / ("model.ptl" if mobile else "model.pt")
        made._save_for_lite_interpreter(str(path)) if mobile else made.save(str(path))
        names = [argument.name for argument in made.forward.schema.arguments[1:]]
        given: dict[str, Any] = {name: ((number,), None) for name, number in (fixed or {}).items()}
        flat = _flat([name for name in names if name not in given], inputs)
        for name, value in flat.items():
            array = as_array(value)
            shape = (shapes or {}).get(name, array.shape)
            given[name] = (tuple(shape), DType.of(array.dtype))
        model = read(path, inputs=given)
        verify(model)
        for arguments in (inputs, *others):
            feeds = {
                name: as_array(v) for name, v in _flat([n for n in names if n not in (fixed or {})], arguments).items()
            }
            found = evaluate(model, {name: feeds[name] for name in model.inputs})
            with torch.no_grad():
                wanted = dict(leaves(made(*_clones(arguments), **(fixed or {}))))
            assert list(found) == list(wanted)
            for name, want in wanted.items():
                expected = as_array(want)
                assert found[name].dtype == expected.dtype, name
                assert found[name].shape == expected.shape, name
                np.testing.assert_allclose(found[name], expected, rtol=tolerance, atol=tolerance)
        return model

    return run


def _clones(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_clones(each) for each in value)
    if isinstance(value, dict):
        return {key: _clones(each) for key, each in value.items()}
    return value.clone() if hasattr(value, "clone") else value


def _flat(names: list[str], values: Any) -> dict[str, Any]:
    """Arguments by input name: elements of lists as `x_0`, entries of dicts as `x_key`."""
    flat: dict[str, Any] = {}
    for name, value in zip(names, values, strict=False):
        if isinstance(value, list | tuple):
            flat.update({f"{name}_{index}": each for index, each in enumerate(value)})
        elif isinstance(value, dict):
            flat.update({f"{name}_{key}": each for key, each in value.items()})
        elif value is not None:
            flat[name] = value
    return flat
