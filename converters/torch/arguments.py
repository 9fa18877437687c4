"""Arguments of a `.pt2` program as plain values: torch's tagged unions, `{"as_int": 3}`, checked and decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isomorph.converters.torch.program import BLOCK_ARGUMENTS, Block, Computed, Opaque, ProgramNode, Ref, read_scope
from isomorph.converters.torch.symbols import Inexpressible, Symbols
from isomorph.ir import DType

__all__ = ["DTYPES", "GraphReader", "integer", "module_stack", "only", "text_of"]

Json = Any
BlockReader = Callable[[Json, str], Block]

DTYPES = {
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


class GraphReader:
    """Turns the arguments of one graph's nodes into plain values."""

    def __init__(
        self, graph: Json, prefix: str, bound: Mapping[str, Any], symbols: Symbols, block: BlockReader | None = None
    ) -> None:
        self.read_block = block
        self.graph = graph
        self.prefix = prefix
        self.bound = bound
        self.symbols = symbols

    def renamed(self, name: str) -> str:
        return self.prefix + name

    def node(self, node: Json) -> ProgramNode:
        metadata = node["metadata"]
        outputs = self.outputs(node)
        number = self._number_made(node)
        name = node.get("name") or next((each for each in outputs if each), "node")
        return ProgramNode(
            self.renamed(text_of(name if number is None else number["as_name"])),
            text_of(node["target"]).removeprefix("torch.ops."),
            self.arguments(node),
            outputs if number is None else (),
            read_scope(module_stack(metadata.get("nn_module_stack", ""))),
            text_of(metadata.get("stack_trace", "")),
            number is not None,
            None if number is None else self.value(node["outputs"][0]),
        )

    def arguments(self, node: Json) -> dict[str, Any]:
        """The arguments by name; those of operators with inner graphs, which have none in the file, by position."""
        positions = BLOCK_ARGUMENTS.get(text_of(node["target"]).removeprefix("torch.ops."))
        if positions is None:
            return {text_of(each["name"]): self.value(each["arg"]) for each in node["inputs"]}
        named = zip(positions, node["inputs"], strict=False)
        return {text_of(each["name"]) or position: self.value(each["arg"]) for position, each in named}

    def inner(self, value: Json) -> Any:
        if self.read_block is None:
            return Opaque("an inner graph is not expressed here")
        return self.read_block(value["graph"], f"{self.prefix}{text_of(value['name'])}.")

    def _number_made(self, node: Json) -> Json | None:
        """The symbolic number that a node returns, None where it returns anything else."""
        if len(node["outputs"]) != 1:
            return None
        kind, value = only(node["outputs"][0])
        return value if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in value else None

    def outputs(self, node: Json) -> tuple[str | None, ...]:
        names: list[str | None] = []
        for kind, value in (only(each) for each in node["outputs"]):
            if kind == "as_tensor":
                names.append(self.renamed(text_of(value["name"])))
            elif kind == "as_tensors":
                names.extend(self.renamed(text_of(each["name"])) for each in value)
            else:
                names.append(None)
        return tuple(names)

    def value(self, argument: Json) -> Any:
        kind, value = only(argument)
        decode = _ARGUMENTS.get(kind)
        if decode is None:
            return Opaque(f"an argument of the kind {kind} is not expressed")
        return decode(self, value)

    def tensor(self, value: Json) -> Any:
        name = text_of(value["name"])
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
            return integer(value["as_int"])
        name = text_of(value["as_name"])
        if name in self.bound:
            return self.bound[name]
        known = self.graph["sym_int_values"][name]
        if "as_int" in known:
            return integer(known["as_int"])
        expression = text_of(known["as_expr"]["expr_str"])
        try:
            return self.symbols.dim(expression)
        except Inexpressible:
            return Computed(self.renamed(name), expression)

    def sym_ints(self, value: Json) -> Any:
        sizes = tuple(self.sym_int(each) for each in value)
        return next((size for size in sizes if isinstance(size, Opaque)), sizes)

    def sym_float(self, value: Json) -> Any:
        return _number(value["as_float"]) if "as_float" in value else self._computed("sym_float_values", value)

    def sym_bool(self, value: Json) -> Any:
        return bool(value["as_bool"]) if "as_bool" in value else self._computed("sym_bool_values", value)

    def _computed(self, table: str, value: Json) -> Any:
        name = text_of(value["as_name"])
        if name in self.bound:
            return self.bound[name]
        known = self.graph[table].get(name, {})
        expression = known.get("as_expr") if isinstance(known, dict) else None
        return Computed(self.renamed(name), text_of(expression["expr_str"]) if expression else self.renamed(name))

    def dtype(self, value: Json) -> Any:
        return DTYPES.get(value) or Opaque(f"the element type with code {value} is not expressed")


_ARGUMENTS: dict[str, Any] = {
    "as_none": lambda reader, value: None,
    "as_tensor": GraphReader.tensor,
    "as_graph": GraphReader.inner,
    "as_tensors": GraphReader.tensors,
    "as_optional_tensor": lambda reader, value: None if "as_none" in value else reader.tensor(value["as_tensor"]),
    "as_optional_tensors": GraphReader.optional_tensors,
    "as_int": lambda reader, value: integer(value),
    "as_ints": lambda reader, value: tuple(integer(each) for each in value),
    "as_bool": lambda reader, value: bool(value),
    "as_bools": lambda reader, value: tuple(bool(each) for each in value),
    "as_float": lambda reader, value: _number(value),
    "as_floats": lambda reader, value: tuple(_number(each) for each in value),
    "as_complex": lambda reader, value: complex(_number(value["real"]), _number(value["imag"])),
    "as_string": lambda reader, value: text_of(value),
    "as_strings": lambda reader, value: tuple(text_of(each) for each in value),
    "as_sym_int": GraphReader.sym_int,
    "as_sym_ints": GraphReader.sym_ints,
    "as_sym_float": GraphReader.sym_float,
    "as_sym_bool": GraphReader.sym_bool,
    "as_scalar_type": GraphReader.dtype,
    "as_memory_format": lambda reader, value: "memory_format",
    "as_layout": lambda reader, value: "layout",
    "as_device": lambda reader, value: "device",
}


def module_stack(text: str) -> dict[str, tuple[str, str]]:
    """{key: (path, class)} of "key,path,class;key,path,class"; only the class may have commas, within brackets."""
    stack = {}
    for item in text.split(";") if text else ():
        key, _, rest = item.partition(",")
        path, _, cls = rest.partition(",")
        stack[key] = (path, cls)
    return stack


def only(union: Json) -> tuple[str, Json]:
    """(tag, value) of a tagged union, {"as_int": 3}."""
    (pair,) = union.items()
    return pair  # type: ignore[no-any-return]


def text_of(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string is expected, not {value!r}"[:120])
    return value


def integer(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"an integer is expected, not {value!r}"[:120])
    return value


def _number(value: Json) -> float:
    """A float; torch writes the ones that JSON lacks as strings."""
    return float(value)
