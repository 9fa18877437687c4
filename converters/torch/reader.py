"""`.pt2` -> Program -> Model, without torch: the archive is a zip of JSON and raw tensors. See docs/formats/pt2.md.

Nothing of the file runs. Weights are not read but mapped, when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isomorph.converters.archive import Archive, parse_json
from isomorph.converters.torch.arguments import DTYPES, GraphReader, integer, module_stack, only, text_of
from isomorph.converters.torch.importer import import_program
from isomorph.converters.torch.program import (
    Program,
    ProgramNode,
    output_names,
    ranges_of,
    read_scope,
)
from isomorph.converters.torch.symbols import Inexpressible, Symbols, name_symbols, unify
from isomorph.errors import MalformedError, UnsafeError, Unsupported, UnsupportedError, UsageError
from isomorph.ir import Dim, DimRange, DType, MappedTensor, Model, Parameter, Shape, Sym, TensorType

__all__ = ["read", "read_program"]

Inputs = Mapping[str, tuple[Shape, DType | None]]
Json = Any

_MAJOR = 8
_MODEL_LIMIT = 1 << 30
_STRIDED = 7


def read(path: Path, *, inputs: Inputs | None = None) -> Model:
    """The model of a `.pt2` file that `torch.export.save` wrote.

    inputs  shapes (and dtypes) by input name that replace symbolic sizes; see `symbols.unify`
    Raises  MalformedError, UnsafeError, UnsupportedError (all operations that have no rule, at once), UsageError.
    """
    return import_program(read_program(path, inputs=inputs))


def read_program(path: Path, *, inputs: Inputs | None = None) -> Program:
    """The exported program in a `.pt2` file, as plain data."""
    with Archive(path) as archive:
        root, name = _find_model(archive)
        try:
            return _ProgramReader(archive, root, name, inputs or {}).read()
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise MalformedError(
                f"{root}/models/{name}.json does not follow the schema of exported programs",
                at=str(path),
                because=f"{type(error).__name__}: {error}",
            ) from error


def _find_model(archive: Archive) -> tuple[str, str]:
    """(root folder, model name) of the program in the archive."""
    found = []
    for name in archive:
        head, _, tail = name.rpartition("/models/")
        if head and "/" not in head and "/" not in tail and tail.endswith(".json"):
            found.append((head, tail.removesuffix(".json")))
    if not found:
        raise UnsupportedError(
            f"read {archive.path.name}",
            [Unsupported("archive", "it holds no exported program of torch 2.8 or later")],
            advice="save it again with torch.export.save of a current torch",
        )
    return next((pair for pair in found if pair[1] == "model"), found[0])


class _ProgramReader:
    def __init__(self, archive: Archive, root: str, name: str, inputs: Inputs) -> None:
        self.archive = archive
        self.root = root
        self.name = name
        self.overrides = inputs
        order = f"{root}/byteorder"
        if order in archive and archive.read(order, limit=64).strip() != b"little":
            raise UnsupportedError(
                f"read {archive.path.name}", [Unsupported("byteorder", "the weights are big-endian")]
            )
        self.document = self._json(f"{root}/models/{name}.json")
        version = self.document["schema_version"]
        if version["major"] != _MAJOR:
            stated = f"{version['major']}.{version['minor']}"
            raise UnsupportedError(
                f"read {archive.path.name}",
                [Unsupported("schema_version", f"it is {stated}, {_MAJOR}.x is read")],
                advice="save it again with torch.export.save of a current torch",
            )
        self.module = self.document["graph_module"]
        self.graph = self.module["graph"]
        self.symbols = Symbols()
        self.refusals: list[Unsupported] = []

    def _json(self, member: str) -> Json:
        return parse_json(self.archive.read(member, limit=_MODEL_LIMIT), member)

    def read(self) -> Program:
        ranges = ranges_of(
            (symbol, span["min_val"], span["max_val"]) for symbol, span in self.document["range_constraints"].items()
        )
        specs = [only(spec) for spec in self.module["signature"]["input_specs"]]
        users = [
            spec["arg"]["as_tensor"]["name"]
            for kind, spec in specs
            if kind == "user_input" and "as_tensor" in spec["arg"]
        ]
        dims = self._name_dims(users, ranges)
        parameters = self._parameters(specs)
        self.types: dict[str, TensorType] = {}
        nodes = self._nodes(self.graph, "", {})
        outputs = self._outputs()
        return Program(
            self._title(),
            [(name, self.types[name]) for name in users],
            parameters,
            nodes,
            outputs,
            self.types,
            dims,
            self.refusals,
            ("torch", f"pt2 schema {_MAJOR}.{self.document['schema_version']['minor']}"),
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
        renamed = Symbols({symbol: Sym(name) for symbol, name in names.items()})
        spans = {names[symbol]: span for symbol, span in ranges.items() if symbol in names}
        bindings: dict[str, Dim] = {}
        self.symbols = renamed
        for name, _ in raw:
            kind = self._type(self.graph["tensor_values"][name])
            if kind is None:
                raise MalformedError(f"the input {name} has no readable shape")
            if name in self.overrides:
                unify(name, kind.shape, kind.dtype, self.overrides[name], bindings=bindings, ranges=spans)
        self.symbols = Symbols({symbol: bindings.get(name, Sym(name)) for symbol, name in names.items()})
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

    def _size(self, size: Json) -> Dim:
        if "as_int" in size:
            return integer(size["as_int"])
        return self.symbols.dim(text_of(size["as_expr"]["expr_str"]))

    def _parameters(self, specs: Sequence[tuple[str, Json]]) -> dict[str, Parameter]:
        """Parameters by tensor name; those with the same bytes under the same strides are one."""
        weights = self._configuration("weights", "weights_config")
        constants = self._configuration("constants", "constants_config")
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
            folder, entry = ("weights", weights.get(title)) if title in weights else ("constants", constants.get(title))
            if entry is None:
                raise MalformedError(f"the archive has no data for {title}", at=str(self.archive.path))
            data, key = self._tensor(title, folder, entry)
            role = {"parameter": "weight", "buffer": "buffer"}.get(kind, "constant")
            trainable = kind == "parameter" and bool(entry["tensor_meta"]["requires_grad"])
            if key not in shared:
                shared[key] = Parameter(title, data, trainable, role)
            found[spec["arg"]["name"]] = shared[key]
        return found

    def _configuration(self, folder: str, suffix: str) -> Mapping[str, Json]:
        member = f"{self.root}/data/{folder}/{self.name}_{suffix}.json"
        configuration = self._json(member)["config"] if member in self.archive else {}
        if not isinstance(configuration, dict):
            raise MalformedError(f"{member} has no table of tensors", at=str(self.archive.path))
        return configuration

    def _tensor(self, title: str, folder: str, entry: Json) -> tuple[MappedTensor, Any]:
        """The mapped tensor of a configuration's entry, bounds checked, and what makes it the same as another."""
        if entry["use_pickle"]:
            raise UnsafeError(f"{title} is stored as a pickle, which is never loaded", at=str(self.archive.path))
        meta = entry["tensor_meta"]
        dtype = DTYPES.get(meta["dtype"])
        if dtype is None or meta["layout"] != _STRIDED:
            item = Unsupported(
                title, f"its element type (code {meta['dtype']}) or layout (code {meta['layout']}) has no counterpart"
            )
            raise UnsupportedError(f"read {self.archive.path.name}", [item])
        shape = [integer(size["as_int"]) for size in meta["sizes"]]
        strides = [integer(stride["as_int"]) for stride in meta["strides"]]
        start = integer(meta["storage_offset"]["as_int"])
        member = f"{self.root}/data/{folder}/{text_of(entry['path_name'])}"
        offset, available = self.archive.span(member)
        if len(strides) != len(shape) or min([*shape, *strides, start], default=0) < 0:
            raise MalformedError(f"{title} has sizes {shape} and strides {strides}", at=member)
        count = math.prod(shape)
        extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
        if max(count, start + extent) * dtype.itemsize > available:
            raise MalformedError(
                f"{title} reaches beyond its data",
                at=member,
                because=f"{dtype}{shape}, strides {strides}, from element {start}: the member has {available} bytes",
            )
        plain = (
            count == 0
            or strides == _c_order(shape)
            or all(
                size == 1 or stride == wanted
                for size, stride, wanted in zip(shape, strides, _c_order(shape), strict=True)
            )
        )
        data = MappedTensor(
            self.archive.path, offset + start * dtype.itemsize, dtype, shape, None if plain else strides
        )
        return data, (member, start, dtype, tuple(shape), tuple(strides)) if count else (title,)

    def _nodes(self, graph: Json, prefix: str, bound: Mapping[str, Any]) -> list[ProgramNode]:
        """The nodes of a graph, inner graphs in line; `bound` maps an inner graph's inputs to outer tensors."""
        reader = GraphReader(graph, prefix, bound, self.symbols)
        for name, meta in graph["tensor_values"].items():
            kind = self._type(meta)
            if kind is not None:
                self.types[reader.renamed(name)] = kind
        nodes: list[ProgramNode] = []
        for node in graph["nodes"]:
            inner = [each["arg"]["as_graph"] for each in node["inputs"] if "as_graph" in each["arg"]]
            wraps = node["target"].rpartition(".")[2] in _WRAPPERS
            if not inner or not wraps:
                nodes.append(reader.node(node))
                continue
            nodes.extend(self._inlined(reader, node, inner[0]["graph"]))
        return nodes

    def _inlined(self, reader: GraphReader, node: Json, graph: Json) -> list[ProgramNode]:
        """A block under `torch.no_grad()` or autocast, whose nodes run as if they stood outside."""
        given = [each["arg"] for each in node["inputs"] if "as_tensor" in each["arg"] or "as_sym_int" in each["arg"]]
        names = [only(each)[1].get("name") or only(each)[1].get("as_name") for each in graph["inputs"]]
        bound = {name: reader.value(value) for name, value in zip(names, given, strict=True)}
        prefix = f"{reader.prefix}{node['name']}."
        if prefix.count(".") > 8:
            raise MalformedError("graphs are nested deeper than 8")
        nodes = self._nodes(graph, prefix, bound)
        inside = GraphReader(graph, prefix, bound, self.symbols)
        results = [inside.value(each) for each in graph["outputs"]]
        outside = reader.outputs(node)
        scope = read_scope(module_stack(node["metadata"].get("nn_module_stack", "")))
        for name, value in zip(outside, results, strict=True):
            if name is not None:
                nodes.append(ProgramNode(name, "aten.alias.default", {"self": value}, (name,), scope))
        return nodes

    def _outputs(self) -> list[tuple[str, Any]]:
        reader = GraphReader(self.graph, "", {}, self.symbols)
        values: list[Any] = []
        for kind, spec in (only(each) for each in self.module["signature"]["output_specs"]):
            if kind == "user_output":
                values.append(reader.value(spec["arg"]))
            elif kind in ("buffer_mutation", "parameter_mutation"):
                title = spec.get("buffer_name") or spec.get("parameter_name")
                self.refusals.append(Unsupported(kind, f"it changes {title}; models with state are not expressed yet"))
            elif kind != "user_input_mutation":
                self.refusals.append(Unsupported(kind, "an output of this kind is not expressed"))
        entries = self.module["module_call_graph"]
        spec = next(
            (each["signature"]["out_spec"] for each in entries if each["fqn"] == "" and each["signature"]), None
        )
        names = output_names(spec, len(values))
        return [(name, value) for name, value in zip(names, values, strict=True) if value is not None]


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


def _c_order(shape: Sequence[int]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides
