"""A source that was converted itself: its values by the names that the target records.

Each node of a file that isomorph wrote carries the name of its value in *its* source (`isomorph.origin`), and a
conversion of that file hands the name on. So a target made from such a file speaks of values of the first model; the
file says under which of its own names it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from isomorph.converters.formats import by_name
from isomorph.errors import IsomorphError
from isomorph.ir import Model, Node
from isomorph.validators.runner import LINEAR, NATIVE, Arrays, ModelFile, Result, Runner, Signature, Subject

__all__ = ["NamedSource", "own_names"]


class NamedSource:
    """A `Runner` that is asked for intermediate values by the names of the model that its file was made from."""

    def __init__(self, runner: Runner, subject: Subject | None) -> None:
        self._runner = runner
        self._subject = subject

    def signature(self) -> Signature:
        return self._runner.signature()

    def run(self, inputs: Arrays, *, taps: Sequence[str] = (), precision: str = NATIVE) -> Result:
        names = {each: self._own(each) for each in taps} if taps else {}
        found = self._runner.run(inputs, taps=list(dict.fromkeys(names.values())), precision=precision)
        return Result(found.outputs, {name: found.taps[own] for name, own in names.items() if own in found.taps})

    def _own(self, name: str) -> str:
        base = name.removesuffix(LINEAR)
        return self._names.get(base, base) + name[len(base) :]

    def node(self, name: str) -> Node | None:
        """What makes the value of this name, as the source's file says. None where it is code or cannot be read."""
        return self._nodes.get(name.removesuffix(LINEAR))

    @cached_property
    def _nodes(self) -> Mapping[str, Node]:
        model = self._read()
        return {node.origin.name: node for node in model.graph.nodes} if model is not None else {}

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """Name in the first model -> name in this file; of several nodes with one origin the last has its value."""
        model = self._read()
        if model is None or not isinstance(self._subject, ModelFile):
            return {}
        handed_on = [node for node in model.graph.nodes if node.origin.framework != model.source[0]]
        known = own_names(self._subject, model) if handed_on else {}
        return {node.origin.name: known[node.name] for node in handed_on if node.origin.name and node.name in known}

    def _read(self) -> Model | None:
        if not isinstance(self._subject, ModelFile):
            return None
        try:
            model: Model = by_name(self._subject.format).load_reader()(Path(self._subject.path))
        except (IsomorphError, ImportError):
            return None
        return model


def own_names(file: ModelFile, model: Model) -> Mapping[str, str]:
    """Name of a node of the file as we read it -> what its runner calls the node's value.

    ONNX names values rather than nodes: the first output's. Keras names layers, whose calls are counted; what is inside
    a nested model has no name. Of a program's node we may make several; the last has its value.
    """
    names = {node.name: node.name for node in model.graph.nodes}
    if file.format == "onnx":
        from isomorph.converters.onnx.wire import read_model

        graph = read_model(Path(file.path))[0].graph
        return names | {node.name: node.output[0] for node in graph.node if node.name and node.output}
    if file.format in ("keras", "h5"):
        from isomorph.converters.keras.reader import read_calls

        return read_calls(Path(file.path))[1]
    if file.format == "pt2":
        return {
            node.name: name for name, node in {node.origin.name: node for node in model.graph.nodes}.items() if name
        }
    return names
