"""`.pt2` -> Program -> Model, without torch: the archive is a zip of JSON and tensors. See docs/formats/pt2.md.

All schemas from torch 2.5 on are read here: 7.x and 8.x differ in fields that are absent, and in how the archive keeps
its tensors (payload.py). Nothing of the file runs. Weights are not read but mapped, when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isomorph.converters.archive import Archive, parse_json
from isomorph.converters.torch.arguments import DTYPES, GraphReader, integer, module_stack, only, text_of
from isomorph.converters.torch.files.payload import Payload, SavedPayload, payload_of
from isomorph.converters.torch.guards import assumptions
from isomorph.converters.torch.importer import import_program
from isomorph.converters.torch.program import (
    Block,
    Program,
    ProgramNode,
    output_names,
    ranges_of,
    read_scope,
)
from isomorph.converters.torch.symbols import Inexpressible, Symbols, name_symbols, unify
from isomorph.errors import MalformedError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import Dim, DimRange, DType, Model, Parameter, Shape, Sym, TensorType

__all__ = ["read", "read_program"]

Inputs = Mapping[str, tuple[Shape, DType | None]]
Json = Any

_MAJORS = (7, 8)
_MODEL_LIMIT = 1 << 30
_STRIDED = 7


def read(path: Path, *, inputs: Inputs | None = None) -> Model:
    """The model of a `.pt2` file that `torch.export.save` of torch 2.5 or later wrote.

    inputs  shapes (and dtypes) by input name that replace symbolic sizes; see `symbols.unify`
    Raises  MalformedError, UnsafeError, UnsupportedError (all operations that have no rule, at once), UsageError.
    """
    return import_program(read_program(path, inputs=inputs))


def read_program(path: Path, *, inputs: Inputs | None = None) -> Program:
    """The exported program in a `.pt2` file, as plain data."""
    with Archive(path) as archive:
        try:
            return _ProgramReader(archive, inputs or {}).read()
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise MalformedError(
                f"{path.name} does not follow the schema of exported programs",
                at=str(path),
                because=f"{type(error).__name__}: {error}",
            ) from error


_LEGACY = "serialized_exported_program.json"
"""The program in archives of torch 2.5 to 2.7, at their top."""
_LEGACY_TENSORS = ("serialized_state_dict.pt", "serialized_constants.pt")


def _open_program(archive: Archive) -> tuple[str, str, Payload]:
    """(name, member with the program, tensors) of the archive."""
    if _LEGACY in archive:
        return archive.path.stem, _LEGACY, SavedPayload(archive, _LEGACY_TENSORS)
    found = []
    for name in archive:
        head, _, tail = name.rpartition("/models/")
        if head and "/" not in head and "/" not in tail and tail.endswith(".json"):
            found.append((head, tail.removesuffix(".json")))
    names = [model for _, model in found]
    if not found:
        raise _unsupported_archive(archive)
    if len(found) > 1 and "model" not in names:
        raise UnsupportedError(
            f"read {archive.path.name}",
            [Unsupported("archive", f"it holds {len(found)} programs ({', '.join(names[:6])}), none of them `model`")],
            advice="save the one that is meant in a file of its own",
        )
    root, model = next((pair for pair in found if pair[1] == "model"), found[0])
    return root, f"{root}/models/{model}.json", payload_of(archive, root, model)


def _unsupported_archive(archive: Archive) -> UnsupportedError:
    compiled = any("/data/aotinductor/" in name for name in archive)
    reason = (
        "it holds code that AOTInductor compiled, without the program it was made of"
        if compiled
        else "it holds no exported program"
    )
    return UnsupportedError(
        f"read {archive.path.name}",
        [Unsupported("archive", reason)],
        advice="save the program itself with torch.export.save",
    )


class _ProgramReader:
    def __init__(self, archive: Archive, inputs: Inputs) -> None:
        self.archive = archive
        self.overrides = inputs
        self.root, self.member, self.payload = _open_program(archive)
        legacy = self.member == _LEGACY
        content = archive.read(self.member, limit=_MODEL_LIMIT)
        self.document = parse_json(content, self.member, allow_nan=legacy)
        version = self.document["schema_version"]
        self.version = f"{integer(version['major'])}.{integer(version['minor'])}"
        if version["major"] not in _MAJORS:
            raise UnsupportedError(
                f"read {archive.path.name}",
                [Unsupported("schema_version", f"it is {self.version}; 7.x (torch 2.5) and 8.x are read")],
                advice="save it again with torch.export.save of a current torch",
            )
        self.module = self.document["graph_module"]
        self.graph = self.module["graph"]
        self.symbols = Symbols()
        self.refusals: list[Unsupported] = []
        self.updates: list[tuple[str, Any]] = []
        self.strides: dict[str, tuple[Dim, ...]] = {}

    def read(self) -> Program:
        ranges = ranges_of(
            (symbol, _bound(span["min_val"]), _bound(span["max_val"]))
            for symbol, span in self.document["range_constraints"].items()
        )
        specs = [only(spec) for spec in self.module["signature"]["input_specs"]]
        users = [
            spec["arg"]["as_tensor"]["name"]
            for kind, spec in specs
            if kind == "user_input" and "as_tensor" in spec["arg"]
        ]
        self.users = users
        dims = self._name_dims(users, ranges)
        parameters = self._parameters(specs)
        self.types: dict[str, TensorType] = {}
        nodes = self._nodes(self.graph, "", {})
        outputs = self._outputs()
        inputs = [(name, self.types[name]) for name in users]
        return Program(
            self._title(),
            inputs,
            parameters,
            nodes,
            outputs,
            self.types,
            dims,
            self.refusals,
            ("torch", f"pt2 schema {self.version}"),
            self.updates,
            self.strides,
            assumptions(map(text_of, self.document.get("guards_code", ())), inputs, dims),
        )

    def _title(self) -> str:
        """The class of the root module, else the name of the archive."""
        for node in self.graph["nodes"]:
            head = node["metadata"].get("nn_module_stack", "").partition(";")[0].split(",")
            if len(head) == 3 and head[0].startswith("L__self__") and not head[1]:
                return str(head[2].rpartition(".")[2])
        return self.root

    def _name_dims(self, users: Sequence[str], ranges: Mapping[str, DimRange]) -> dict[str, DimRange]:
        """Name the symbols, apply the user's input shapes; the ranges of what is left."""
        raw = [(name, self._type(self.graph["tensor_values"][name])) for name in users]
        unknown = set(self.overrides) - set(users)
        if unknown:
            raise UsageError(
                f"there is no input {', '.join(sorted(unknown))}", advice=f"the inputs are {', '.join(users)}"
            )
        names = name_symbols([(name, kind.shape) for name, kind in raw if kind], {}, ranges)
        renamed = Symbols({symbol: Sym(name) for symbol, name in names.items()}, ranges)
        spans = {names[symbol]: span for symbol, span in ranges.items() if symbol in names}
        bindings: dict[str, Dim] = {}
        self.symbols = renamed
        for name, _ in raw:
            kind = self._type(self.graph["tensor_values"][name])
            if kind is None:
                raise MalformedError(f"the input {name} has no readable shape")
            if name in self.overrides:
                unify(name, kind.shape, kind.dtype, self.overrides[name], bindings=bindings, ranges=spans)
        self.symbols = Symbols({symbol: bindings.get(name, Sym(name)) for symbol, name in names.items()}, ranges)
        return _bound_ranges(spans, bindings)

    def _type(self, meta: Json) -> TensorType | None:
        """The type that a tensor's metadata state, None where a size is inexpressible."""
        dtype = DTYPES.get(meta["dtype"])
        if dtype is None or meta["layout"] != _STRIDED:
            return None
        try:
            return TensorType(dtype, tuple(self._size(size) for size in meta["sizes"]))
        except Inexpressible:
            return None

    def _strides(self, meta: Json) -> tuple[Dim, ...] | None:
        try:
            return tuple(self._size(size) for size in meta["strides"])
        except Inexpressible:
            return None

    def _size(self, size: Json) -> Dim:
        if "as_int" in size:
            return integer(size["as_int"])
        return self.symbols.dim(text_of(size["as_expr"]["expr_str"]))

    def _parameters(self, specs: Sequence[tuple[str, Json]]) -> dict[str, Parameter]:
        """Parameters by tensor name; those with the same bytes under the same strides are one."""
        shared: dict[Any, Parameter] = {}
        found: dict[str, Parameter] = {}
        for kind, spec in specs:
            if kind in ("user_input", "constant_input", "token"):
                continue
            if kind not in ("parameter", "buffer", "tensor_constant"):
                self.refusals.append(Unsupported(kind, "an input of this kind is not expressed"))
                continue
            title = text_of(
                spec[
                    "parameter_name"
                    if kind == "parameter"
                    else "buffer_name"
                    if kind == "buffer"
                    else "tensor_constant_name"
                ]
            )
            stored = self.payload.find(title)
            role = {"parameter": "weight", "buffer": "buffer"}.get(kind, "constant")
            trainable = kind == "parameter" and stored.trainable
            key = stored.identity
            if key not in shared:
                shared[key] = Parameter(title, stored.data, trainable, role)
            found[spec["arg"]["name"]] = shared[key]
        return found

    def _nodes(self, graph: Json, prefix: str, bound: Mapping[str, Any]) -> list[ProgramNode]:
        """The nodes of a graph, inner graphs in line; `bound` maps an inner graph's inputs to outer tensors."""
        reader = GraphReader(graph, prefix, bound, self.symbols, self._block)
        for name, meta in graph["tensor_values"].items():
            kind = self._type(meta)
            if kind is not None:
                self.types[reader.renamed(name)] = kind
                strides = self._strides(meta)
                if strides is not None:
                    self.strides[reader.renamed(name)] = strides
        nodes: list[ProgramNode] = []
        for node in graph["nodes"]:
            inner = [each["arg"]["as_graph"] for each in node["inputs"] if "as_graph" in each["arg"]]
            wraps = node["target"].rpartition(".")[2] in _WRAPPERS
            if not inner or not wraps:
                nodes.append(reader.node(node))
                continue
            nodes.extend(self._inlined(reader, node, inner[0]["graph"]))
        return nodes

    def _block(self, graph: Json, prefix: str) -> Block:
        """The inner graph of a branch or a loop."""
        if prefix.count(".") > 8:
            raise MalformedError("graphs are nested deeper than 8")
        nodes = self._nodes(graph, prefix, {})
        reader = GraphReader(graph, prefix, {}, self.symbols, self._block)
        inputs: list[tuple[str, Any]] = []
        for kind, value in (only(each) for each in graph["inputs"]):
            tensor = kind == "as_tensor"
            name = text_of(value["name"] if tensor else value["as_name"])
            inputs.append((reader.renamed(name), None if tensor else reader.value({kind: value})))
        return Block(inputs, nodes, tuple(map(reader.value, graph["outputs"])))

    def _inlined(self, reader: GraphReader, node: Json, graph: Json) -> list[ProgramNode]:
        """A block under `torch.no_grad()` or autocast, whose nodes run as if they stood outside."""
        given = [each["arg"] for each in node["inputs"] if "as_tensor" in each["arg"] or "as_sym_int" in each["arg"]]
        names = [only(each)[1].get("name") or only(each)[1].get("as_name") for each in graph["inputs"]]
        bound = {name: reader.value(value) for name, value in zip(names, given, strict=True)}
        outside = reader.outputs(node)
        label = node.get("name") or next((name for name in outside if name), "block")  # before schema 8.9: no name
        prefix = f"{reader.prefix}{label}."
        if prefix.count(".") > 8:
            raise MalformedError("graphs are nested deeper than 8")
        nodes = self._nodes(graph, prefix, bound)
        inside = GraphReader(graph, prefix, bound, self.symbols)
        results = [inside.value(each) for each in graph["outputs"]]
        scope = read_scope(module_stack(node["metadata"].get("nn_module_stack", "")))
        for name, value in zip(outside, results, strict=True):
            if name is not None:
                nodes.append(ProgramNode(name, "aten.alias.default", {"self": value}, (name,), scope))
        return nodes

    def _holder(self, kind: str, spec: Json) -> str:
        """The tensor of the graph that an output is the new value of."""
        of, key = _UPDATES[kind]
        title = text_of(spec[key])
        if of == "user_input":
            return title
        inputs = [only(each) for each in self.module["signature"]["input_specs"]]
        return next(text_of(each["arg"]["name"]) for found, each in inputs if found == of and each.get(key) == title)

    def _outputs(self) -> list[tuple[str, Any]]:
        reader = GraphReader(self.graph, "", {}, self.symbols)
        values: list[Any] = []
        for kind, spec in (only(each) for each in self.module["signature"]["output_specs"]):
            if kind == "user_output":
                values.append(reader.value(spec["arg"]))
            elif kind in _UPDATES:
                self.updates.append((self._holder(kind, spec), reader.value({"as_tensor": spec["arg"]})))
            else:
                self.refusals.append(Unsupported(kind, "an output of this kind is not expressed"))
        entries = self.module["module_call_graph"]
        spec = next(
            (each["signature"]["out_spec"] for each in entries if each["fqn"] == "" and each["signature"]), None
        )
        names = output_names(spec, len(values), self.users)
        return [(name, value) for name, value in zip(names, values, strict=True) if value is not None]


_UPDATES = {
    "buffer_mutation": ("buffer", "buffer_name"),
    "parameter_mutation": ("parameter", "parameter_name"),
    "user_input_mutation": ("user_input", "user_input_name"),
}
"""Kinds of outputs that are new values: the kind of input that they are of, and the key of its name."""
_WRAPPERS = frozenset({"wrap_with_set_grad_enabled", "wrap_with_autocast"})


def _bound_ranges(spans: Mapping[str, DimRange], bindings: Mapping[str, Dim]) -> dict[str, DimRange]:
    """Ranges of the dimensions that are still symbolic, under their new names."""
    left: dict[str, DimRange] = {}
    for name, span in spans.items():
        dim = bindings.get(name)
        if dim is None:
            left[name] = span
        elif not isinstance(dim, int) and dim.name is not None:
            left[dim.name] = span
    return left


def _bound(value: Json) -> int | None:
    """A bound of a range; infinity is None, in all the ways that versions of torch write it."""
    if value is None or value in ("Infinity", "-Infinity") or (isinstance(value, float) and math.isinf(value)):
        return None
    return integer(value)
