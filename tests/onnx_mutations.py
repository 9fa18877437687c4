"""Damaged ONNX files by the thousand, the same ones for the same seed: onnx_corpus.py, and what is done to its models.

See mutated_files.py for what becomes of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper
from onnx_corpus import Original, corpus

__all__ = ["MUTATIONS", "Mutant", "mutant"]

_LARGEST_SIZES = (-1, 0, 1, 2, 3, 255, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63))


@dataclass(frozen=True, slots=True)
class Mutant:
    """A damaged file: which original, what was done, and the result."""

    original: Original
    mutations: tuple[str, ...]
    data: bytes


def mutant(seed: int, index: int) -> Mutant:
    """The damaged file of this number: the same for the same seed, whatever came before."""
    rng = random.Random(f"{seed}/{index}")
    originals = corpus()
    original = originals[index % len(originals)]
    data, done = original.data, []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(sorted(MUTATIONS))
        data = MUTATIONS[name](data, rng)
        done.append(name)
    return Mutant(original, tuple(done), data)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(min(rng.choice((1, 1, 2, 8)), len(damaged))):
        place = rng.randrange(len(damaged))
        damaged[place] = rng.choice((damaged[place] ^ 1 << rng.randrange(8), 0, 1, 127, 128, 255))
    return bytes(damaged)


def _truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if data else data


def _without_a_run(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) or 1)
    return data[:place] + data[place + rng.randint(1, 32) :]


def _with_a_run_of_another(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(corpus()).data
    start, place = rng.randrange(len(other)), rng.randrange(len(data) or 1)
    piece = other[start : start + rng.choice((1, 4, 16, 256))]
    return data[:place] + piece + data[place + rng.choice((0, len(piece))) :]


def _with_a_wrong_length(data: bytes, rng: random.Random) -> bytes:
    """The length of a field in the message, at any depth, is another; those around it stay."""
    places = list(_lengths(data, onnx.ModelProto.DESCRIPTOR, 0, len(data)))
    if not places:
        return data
    start, end, length = rng.choice(places)
    wrong = rng.choice((0, length + 1, max(length - 1, 0), length * 2, 1 << 31, (1 << 63) - 1, rng.randrange(1 << 16)))
    return data[:start] + _varint(wrong) + data[end:]


def _lengths(data: bytes, kind: Any, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(begin, end, value) of every length in a message, as far as it can be read."""
    while position < end:
        key, position = _number(data, position)
        field = kind.fields_by_number.get(key >> 3)
        if key & 7 == 0:
            _, position = _number(data, position)
        elif key & 7 in (1, 5):
            position += 8 if key & 7 == 1 else 4
        elif key & 7 == 2:
            start = position
            length, position = _number(data, position)
            if position + length > end:
                return
            yield start, position, length
            if field is not None and field.message_type is not None:
                yield from _lengths(data, field.message_type, position, position + length)
            position += length
        else:
            return


def _number(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return number, position


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def _parsed(change: Callable[[onnx.ModelProto, random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    """A mutation of the message, where the file still is one."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
            change(model, rng)
            return model.SerializeToString()
        except Exception:  # protobuf's own errors for what earlier mutations have made of it
            return data

    return mutate


def _messages(message: Message) -> list[Message]:
    """A message and all messages in it."""
    found = [message]
    for each in found:
        for field, content in each.ListFields():
            if field.message_type is not None:
                found.extend(content if field.is_repeated else (content,))
    return found


def _of_kind(model: onnx.ModelProto, *kinds: type[Message]) -> list[Any]:
    return [message for message in _messages(model) if isinstance(message, kinds)]


def _swap_messages(model: onnx.ModelProto, rng: random.Random) -> None:
    first = rng.choice(_messages(model)[1:])
    second = rng.choice(_of_kind(model, type(first)))
    one, other = first.SerializeToString(), second.SerializeToString()
    if one not in other and other not in one:  # a message that holds the other cannot take its place
        first.ParseFromString(other)
        second.ParseFromString(one)


def _take_a_message_of_another(model: onnx.ModelProto, rng: random.Random) -> None:
    other = onnx.ModelProto.FromString(rng.choice(corpus()).data)
    foreign = rng.choice(_messages(other)[1:])
    same = _of_kind(model, type(foreign))
    if same:
        rng.choice(same).CopyFrom(foreign)


def _drop_or_double(model: onnx.ModelProto, rng: random.Random) -> None:
    """An element of a repeated field goes, or stands there twice."""
    fields = [
        content
        for message in _messages(model)
        for field, content in message.ListFields()
        if field.is_repeated and field.message_type is not None
    ]
    chosen = rng.choice(fields)
    if rng.random() < 0.5:
        del chosen[rng.randrange(len(chosen))]
    else:
        chosen.add().CopyFrom(rng.choice(list(chosen)))


def _absurd_sizes(model: onnx.ModelProto, rng: random.Random) -> None:
    kinds = (onnx.TensorProto, onnx.SparseTensorProto, onnx.TensorShapeProto.Dimension)
    for message in rng.sample(found := _of_kind(model, *kinds), min(len(found), rng.randint(1, 3))):
        if isinstance(message, onnx.TensorShapeProto.Dimension):
            message.dim_value = rng.choice(_LARGEST_SIZES)
        elif message.dims and rng.random() < 0.7:
            message.dims[rng.randrange(len(message.dims))] = rng.choice(_LARGEST_SIZES)
        else:
            message.dims.extend([rng.choice(_LARGEST_SIZES)] * rng.choice((1, 2, 40)))


def _absurd_constants(model: onnx.ModelProto, rng: random.Random) -> None:
    """Integers in attributes and tensors: axes, pads, sizes, repeats."""
    items = [item for item in _of_kind(model, onnx.AttributeProto) if item.ints or item.HasField("i")]
    tensors = [each for each in _of_kind(model, onnx.TensorProto) if each.data_type == TensorProto.INT64 and each.dims]
    chosen = rng.choice(items + tensors)
    if isinstance(chosen, onnx.TensorProto):
        count = int(np.prod(list(chosen.dims)))
        array = np.array([rng.choice(_LARGEST_SIZES) for _ in range(min(count, 64))], np.int64)
        chosen.CopyFrom(numpy_helper.from_array(array, chosen.name))
    elif chosen.ints:
        chosen.ints[rng.randrange(len(chosen.ints))] = rng.choice(_LARGEST_SIZES)
    else:
        chosen.i = rng.choice(_LARGEST_SIZES)


def _other_enumerations(model: onnx.ModelProto, rng: random.Random) -> None:
    """Element types, attribute types, operators, opsets and IR versions."""
    codes = (-1, 0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 17, 21, 22, 23, 24, 25, 26, 99, (1 << 31) - 1)
    kinds = (onnx.TensorProto, onnx.AttributeProto, onnx.NodeProto, onnx.OperatorSetIdProto, onnx.TypeProto.Tensor)
    message = rng.choice(_of_kind(model, *kinds))
    if isinstance(message, onnx.TensorProto):
        message.data_type = rng.choice(codes)
    elif isinstance(message, onnx.TypeProto.Tensor):
        message.elem_type = rng.choice(codes)
    elif isinstance(message, onnx.AttributeProto):
        message.type = rng.randrange(15)
    elif isinstance(message, onnx.NodeProto):
        message.op_type = rng.choice(_operators())
    else:
        message.version = rng.choice((-1, 0, 1, 6, 7, 9, 11, 13, 17, 22, 28, 29, 1 << 62))


@cache
def _operators() -> list[str]:
    return sorted({schema.name for schema in onnx.defs.get_all_schemas()})


def _other_names(model: onnx.ModelProto, rng: random.Random) -> None:
    """An operand, a result, or any name is another one: cycles, doubles, nothing at all."""
    nodes = _of_kind(model, onnx.NodeProto)
    names = [name for node in nodes for name in (*node.input, *node.output)] + ["", "x\0", "é" * 50, "n" * 100_000]
    node = rng.choice(nodes)
    field = node.input if node.input and rng.random() < 0.5 else node.output
    if field and rng.random() < 0.8:
        field[rng.randrange(len(field))] = rng.choice(names)
    else:
        field.extend([rng.choice(names)] * rng.choice((1, 2, 300)))


def _nested(model: onnx.ModelProto, rng: random.Random) -> None:
    """The graph in branches of If in branches of If."""
    for level in range(rng.choice((1, 5, 12, 25, 31))):
        branch = onnx.GraphProto()
        branch.CopyFrom(model.graph)
        del branch.input[:]
        node = helper.make_node("If", ["deep"], list(dict.fromkeys(item.name for item in branch.output)))
        node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(branch)
        node.attribute.add(name="else_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(onnx.GraphProto())
        if rng.random() < 0.5 and branch.ByteSize() < 20_000:
            node.attribute[1].g.CopyFrom(branch)
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.append(node)
        if level == 0 and rng.random() < 0.5:
            model.graph.initializer.append(numpy_helper.from_array(np.array(True), "deep"))
        elif level == 0:
            model.graph.input.append(helper.make_tensor_value_info("deep", TensorProto.BOOL, []))
        if model.ByteSize() > 200_000:
            return


def _elsewhere(model: onnx.ModelProto, rng: random.Random) -> None:
    """A tensor's data lie beside the model, above it, in links and devices, or nowhere."""
    tensor = rng.choice(_of_kind(model, onnx.TensorProto))
    entries = {entry.key: entry.value for entry in tensor.external_data} or {"location": "w.bin"}
    locations = ("w.bin", "/etc/passwd", "../w.bin", "a/../../w.bin", "C:\\w.bin", "/dev/zero", "", ".", "w.bin\0")
    numbers = ("0", "-1", "64", "255", "256", str(1 << 40), str((1 << 63) - 1), "1e3", "", "٣", " 1", "9" * 5000)
    key = rng.choice(("location", "offset", "length"))
    entries[key] = rng.choice(locations if key == "location" else numbers)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    for name, text in entries.items():
        tensor.external_data.add(key=name, value=text)


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes flipped": _flipped,
    "truncated": _truncated,
    "a run of bytes removed": _without_a_run,
    "a run of bytes of another file": _with_a_run_of_another,
    "a wrong length": _with_a_wrong_length,
    "messages swapped": _parsed(_swap_messages),
    "a message of another file": _parsed(_take_a_message_of_another),
    "a message dropped or doubled": _parsed(_drop_or_double),
    "absurd sizes": _parsed(_absurd_sizes),
    "absurd constants": _parsed(_absurd_constants),
    "other types, operators, opsets": _parsed(_other_enumerations),
    "other names": _parsed(_other_names),
    "deep nesting": _parsed(_nested),
    "data elsewhere": _parsed(_elsewhere),
}
"""What is done to a file, by name."""
