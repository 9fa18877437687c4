"""`.pt2` -> Program -> Model, without torch: the archive is a zip of JSON and raw tensors. See docs/formats/pt2.md.

Nothing of the file runs. Weights are not read but mapped, when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isomorph.converters.archive import Archive, parse_json
from isomorph.converters.torch.importer import import_program
from isomorph.converters.torch.program import (
    Opaque,
    Program,
    ProgramNode,
    Ref,
    output_names,
    range_of,
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
_DTYPES = {
    1: DType.UINT8,
    2: DType.INT8,
    3: DType.INT16,
    4: DType.INT32,
    5: DType.INT64,
    6: DType.FLOAT16,
    7: DType.FLOAT32,
    8: DType.FLOAT64,
    10: DType.COMPLEX64,
    11: DType.COMPLEX128,
    12: DType.BOOL,
    13: DType.BFLOAT16,
    28: DType.UINT16,
    29: DType.FLOAT8_E4M3FN,
    30: DType.FLOAT8_E5M2,
    31: DType.FLOAT8_E4M3FNUZ,
    32: DType.FLOAT8_E5M2FNUZ,
    34: DType.UINT32,
    35: DType.UINT64,
}
"""ScalarType of torch/_export/serde/schema.py."""


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
        ranges = {
            symbol: range_of(span["min_val"], span["max_val"])
            for symbol, span in self.document["range_constraints"].items()
        }
        specs = [_only(spec) for spec in self.module["signature"]["input_specs"]]
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
        dtype = _DTYPES.get(meta["dtype"])
        if dtype is None or meta["layout"] != _STRIDED:
            return None
        try:
            return TensorType(dtype, tuple(self._size(size) for size in meta["sizes"]))
        except Inexpressible:
            return None

    def _size(self, size: Json) -> Dim:
        if "as_int" in size:
            return _integer(size["as_int"])
        return self.symbols.dim(_text(size["as_expr"]["expr_str"]))

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
            title = _text(
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
        dtype = _DTYPES.get(meta["dtype"])
        if dtype is None or meta["layout"] != _STRIDED:
            item = Unsupported(
                title, f"its element type (code {meta['dtype']}) or layout (code {meta['layout']}) has no counterpart"
            )
            raise UnsupportedError(f"read {self.archive.path.name}", [item])
        shape = [_integer(size["as_int"]) for size in meta["sizes"]]
        strides = [_integer(stride["as_int"]) for stride in meta["strides"]]
        start = _integer(meta["storage_offset"]["as_int"])
        member = f"{self.root}/data/{folder}/{_text(entry['path_name'])}"
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
        reader = _GraphReader(graph, prefix, bound, self.symbols)
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

    def _inlined(self, reader: _GraphReader, node: Json, graph: Json) -> list[ProgramNode]:
        """A block under `torch.no_grad()` or autocast, whose nodes run as if they stood outside."""
        given = [each["arg"] for each in node["inputs"] if "as_tensor" in each["arg"] or "as_sym_int" in each["arg"]]
        names = [_only(each)[1].get("name") or _only(each)[1].get("as_name") for each in graph["inputs"]]
        bound = {name: reader.value(value) for name, value in zip(names, given, strict=True)}
        prefix = f"{reader.prefix}{node['name']}."
        if prefix.count(".") > 8:
            raise MalformedError("graphs are nested deeper than 8")
        nodes = self._nodes(graph, prefix, bound)
        inside = _GraphReader(graph, prefix, bound, self.symbols)
        results = [inside.value(each) for each in graph["outputs"]]
        outside = reader.outputs(node)
        scope = read_scope(_module_stack(node["metadata"].get("nn_module_stack", "")))
        for name, value in zip(outside, results, strict=True):
            if name is not None:
                nodes.append(ProgramNode(name, "aten.alias.default", {"self": value}, (name,), scope))
        return nodes

    def _outputs(self) -> list[tuple[str, Any]]:
        reader = _GraphReader(self.graph, "", {}, self.symbols)
        values: list[Any] = []
        for kind, spec in (_only(each) for each in self.module["signature"]["output_specs"]):
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


class _GraphReader:
    """Turns the arguments of one graph's nodes into plain values."""

    def __init__(self, graph: Json, prefix: str, bound: Mapping[str, Any], symbols: Symbols) -> None:
        self.graph = graph
        self.prefix = prefix
        self.bound = bound
        self.symbols = symbols

    def renamed(self, name: str) -> str:
        return self.prefix + name

    def node(self, node: Json) -> ProgramNode:
        metadata = node["metadata"]
        outputs = self.outputs(node)
        symbolic = bool(node["outputs"]) and not any(name for name in outputs)
        name = node.get("name") or next((each for each in outputs if each), "node")
        return ProgramNode(
            self.prefix + _text(name) if not symbolic else _text(name),
            _text(node["target"]).removeprefix("torch.ops."),
            {_text(each["name"]): self.value(each["arg"]) for each in node["inputs"]},
            outputs,
            read_scope(_module_stack(metadata.get("nn_module_stack", ""))),
            _text(metadata.get("stack_trace", "")),
            symbolic and all(_only(each)[0].startswith("as_sym_") for each in node["outputs"]),
        )

    def outputs(self, node: Json) -> tuple[str | None, ...]:
        names: list[str | None] = []
        for kind, value in (_only(each) for each in node["outputs"]):
            if kind == "as_tensor":
                names.append(self.renamed(_text(value["name"])))
            elif kind == "as_tensors":
                names.extend(self.renamed(_text(each["name"])) for each in value)
            else:
                names.append(None)
        return tuple(names)

    def value(self, argument: Json) -> Any:
        kind, value = _only(argument)
        decode = _ARGUMENTS.get(kind)
        if decode is None:
            return Opaque(f"an argument of the kind {kind} is not expressed")
        return decode(self, value)

    def tensor(self, value: Json) -> Any:
        name = _text(value["name"])
        if name in self.bound:
            return self.bound[name]
        known = not self.prefix or name in self.graph["tensor_values"]
        return Ref(self.renamed(name) if known else name)

    def tensors(self, value: Json) -> tuple[Any, ...]:
        return tuple(self.tensor(each) for each in value)

    def optional_tensors(self, value: Json) -> tuple[Any, ...]:
        return tuple(None if "as_none" in each else self.tensor(each["as_tensor"]) for each in value)

    def sym_int(self, value: Json) -> Any:
        if "as_int" in value:
            return _integer(value["as_int"])
        name = _text(value["as_name"])
        if name in self.bound:
            return self.bound[name]
        known = self.graph["sym_int_values"][name]
        if "as_int" in known:
            return _integer(known["as_int"])
        try:
            return self.symbols.dim(_text(known["as_expr"]["expr_str"]))
        except Inexpressible as reason:
            return Opaque(f"{reason} is not expressed")

    def sym_ints(self, value: Json) -> Any:
        sizes = tuple(self.sym_int(each) for each in value)
        return next((size for size in sizes if isinstance(size, Opaque)), sizes)

    def sym_float(self, value: Json) -> Any:
        return (
            _number(value["as_float"])
            if "as_float" in value
            else Opaque("a number computed from sizes is not expressed")
        )

    def sym_bool(self, value: Json) -> Any:
        return value["as_bool"] if "as_bool" in value else Opaque("a condition on sizes is not expressed")

    def dtype(self, value: Json) -> Any:
        return _DTYPES.get(value) or Opaque(f"the element type with code {value} is not expressed")


_ARGUMENTS: dict[str, Any] = {
    "as_none": lambda reader, value: None,
    "as_tensor": _GraphReader.tensor,
    "as_tensors": _GraphReader.tensors,
    "as_optional_tensor": lambda reader, value: None if "as_none" in value else reader.tensor(value["as_tensor"]),
    "as_optional_tensors": _GraphReader.optional_tensors,
    "as_int": lambda reader, value: _integer(value),
    "as_ints": lambda reader, value: tuple(_integer(each) for each in value),
    "as_bool": lambda reader, value: bool(value),
    "as_bools": lambda reader, value: tuple(bool(each) for each in value),
    "as_float": lambda reader, value: _number(value),
    "as_floats": lambda reader, value: tuple(_number(each) for each in value),
    "as_string": lambda reader, value: _text(value),
    "as_strings": lambda reader, value: tuple(_text(each) for each in value),
    "as_sym_int": _GraphReader.sym_int,
    "as_sym_ints": _GraphReader.sym_ints,
    "as_sym_float": _GraphReader.sym_float,
    "as_sym_bool": _GraphReader.sym_bool,
    "as_scalar_type": _GraphReader.dtype,
    "as_memory_format": lambda reader, value: "memory_format",
    "as_layout": lambda reader, value: "layout",
    "as_device": lambda reader, value: "device",
}


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


def _module_stack(text: str) -> dict[str, tuple[str, str]]:
    """{key: (path, class)} of "key,path,class;key,path,class"; only the class may have commas, within brackets."""
    stack = {}
    for item in text.split(";") if text else ():
        key, _, rest = item.partition(",")
        path, _, cls = rest.partition(",")
        stack[key] = (path, cls)
    return stack


def _only(union: Json) -> tuple[str, Json]:
    """(tag, value) of a tagged union, {"as_int": 3}."""
    (pair,) = union.items()
    return pair  # type: ignore[no-any-return]


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string is expected, not {value!r}"[:120])
    return value


def _integer(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"an integer is expected, not {value!r}"[:120])
    return value


def _number(value: Json) -> float:
    """A float; torch writes the ones that JSON lacks as strings."""
    return float(value)


def _c_order(shape: Sequence[int]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides
