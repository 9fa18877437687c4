"""What torch.export assumed of symbolic sizes while it traced: its guards, as conditions on the model's named sizes.

torch writes them as Python over the inputs: `L['x'].size()[0] == 2`. Most repeat what the shapes say; one that fails
for some sizes in the declared ranges means that the code fixed or bounded a size, and has to be said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from isomorph.errors import MalformedError
from isomorph.ir import DimRange, TensorType
from isomorph.ir.conditions import CONDITIONS, Condition

__all__ = ["assumptions", "assumptions_as_metadata"]

_SIZE = re.compile(r"L((?:\[(?:'[^']*'|\d+)\])+)\.(?:size\(\)|shape)\[(\d+)\]")
_KEY = re.compile(r"\['([^']*)'\]|\[(\d+)\]")
_SPELLING = (("torch.sym_", ""), ("math.", ""), ("torch.", ""), ("IntTrueDiv", "/"))
_MOST = 1000


def assumptions(
    guards: Iterable[str], inputs: Sequence[tuple[str, TensorType]], dims: Mapping[str, DimRange]
) -> list[str]:
    """The guards that do not hold for all sizes within `dims`, in the names of the model; those of which this cannot be
    told (because they are about more than sizes) are left as torch writes them."""
    found: dict[str, None] = {}
    types = dict(inputs)
    for guard in list(guards)[:_MOST]:
        text = _named(str(guard), types)
        if text is None:
            found[str(guard)] = None
            continue
        try:
            condition = Condition.parse(text)
        except MalformedError:
            found[text] = None
            continue
        if condition.counterexample(dims) is not None:
            found[text] = None
    return list(found)


def assumptions_as_metadata(found: Sequence[str]) -> dict[str, str]:
    """The metadata that states them; {} if there are none."""
    return {CONDITIONS: json.dumps(list(found))} if found else {}


def _named(guard: str, types: Mapping[str, TensorType]) -> str | None:
    """The guard over named sizes; None if it is about an input that the model does not have."""
    unknown = False

    def size(match: re.Match[str]) -> str:
        nonlocal unknown
        name = "_".join(word or number for word, number in _KEY.findall(match[1]))
        axis = int(match[2])
        if name not in types or axis >= len(types[name].shape):
            unknown = True
            return ""
        dim = str(types[name].shape[axis])
        return dim if re.fullmatch(r"\w+", dim) else f"({dim})"

    text = _SIZE.sub(size, guard)
    if unknown:
        return None
    for old, new in _SPELLING:
        text = text.replace(old, new)
    return text
