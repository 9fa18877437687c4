"""Recurrent layers that a source spells out step by step: what torch.export makes of a loop over cells.

    h1, c1 = step(x[0], h0, c0), h2, c2 = step(x[1], h1, c1), …     ->  y, h, c = LSTM(x, h0, c0)
    Concat(h1 as (1, N, H), h2 as (1, N, H), …)                     ->  y

and likewise with (N, 1, H) of x (N, T, I). Steps take all of x, in order or from the end. What reads a single h gets a
slice of y, and of the last one the last state. A sequence of which something else reads a c on the way stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.recurrent import RNN
from isomorph.ir.ops.shape import Concat, Reshape, Slice, Split, Squeeze, Transpose, Unsqueeze
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.cells import Cell, read_cell
from isomorph.ir.passes.raising.layers import Layer, layer_of, made
from isomorph.ir.passes.raising.scores import Readers, constant_number
from isomorph.ir.passes.share import share

__all__ = ["raise_steps"]


@dataclass(eq=False, slots=True)
class _Chain:
    """Steps of one layer, the first one first. `x` is what they take apart along `axis`: a value, or a layer before."""

    cells: list[Cell]
    layer: Layer
    first: tuple[Value, ...]
    x: Value | _Chain | None = None
    axis: int = 0
    backwards: bool = False
    made: list[Value] = field(default_factory=list)

    @property
    def start(self) -> Value:
        """The result of the earliest node that is replaced."""
        cell = self.cells[0]
        return cell.h_next if cell.c_next is None else cell.c_next


Place = tuple["Value | _Chain", int, int]
"""(x, axis, index) of a step of x."""


def raise_steps(model: Model, refuse: Refuse) -> Model:
    """The model with a layer for each sequence of its steps."""
    if not _cells(model.graph):
        return model
    shared = share(model)  # a first state of zeros is one value
    chains = _chains(shared.graph)
    if not chains:
        return model
    starts = {chain.start: chain for chain in chains}
    states = {cell.h_next: (chain, step) for chain in chains for step, cell in enumerate(chain.cells)}
    ends = {chain.cells[-1].c_next: chain for chain in chains if chain.cells[-1].c_next is not None}

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        value = node.outputs[0] if len(node.outputs) == 1 else None
        if value is None:
            return None
        if value in starts:
            _make(b, starts[value], refuse)
        if value in ends and ends[value].made:
            return (_as(b, ends[value].made[2], value),)
        if value in states and states[value][0].made:
            return (_state(b, *states[value]),)
        return _stacked(b, node, states) if isinstance(node.op, Concat) else None

    return prune(rewrite(shared, "raise_recurrent", change))


def _cells(graph: Graph) -> list[Cell]:
    return [cell for node in graph.nodes for value in node.outputs[:1] if (cell := read_cell(value)) is not None]


def _chains(graph: Graph) -> list[_Chain]:
    cells = _cells(graph)
    readers = Readers(graph)
    found: list[_Chain] = []
    states: dict[Value, tuple[_Chain, int]] = {}
    for listed in _sequences(cells):
        chain = _chain(listed)
        if chain is None or not _is_closed(chain, readers) or not _take_apart(chain, states):
            continue
        found.append(chain)
        states.update({cell.h_next: (chain, step) for step, cell in enumerate(chain.cells)})
    return found


def _sequences(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells of one layer of which each takes the states of the one before."""
    by_state = {cell.h_next: cell for cell in cells}
    by_cell = {cell.c_next: cell for cell in cells if cell.c_next is not None}
    after: dict[Value, Cell] = {}
    firsts = []
    for cell in cells:
        before = by_cell.get(cell.c) if cell.c is not None else by_state.get(cell.h) if cell.h is not None else None
        if cell.kind is RNN:
            pairs = [by_state.get(product.data) for product in cell.products]
            before = next((each for each in pairs if each is not None and each.weights == cell.weights), None)
        if before is None or before.weights != cell.weights or before.h_next in after:
            firsts.append(cell)
        else:
            after[before.h_next] = cell
    sequences = []
    for cell in firsts:
        listed = [cell]
        while listed[-1].h_next in after:
            listed.append(after[listed[-1].h_next])
        sequences.append(listed)
    return sequences


def _chain(cells: list[Cell]) -> _Chain | None:
    """The layer of a sequence. Which product of the first step is that of h, the second one says."""
    layers: list[Layer] = []
    for before, cell in pairwise(cells):
        layer = layer_of(cell, before.h_next)
        if layer is None or (layers and not _same_layer(layer, layers[0])):
            return None
        layers.append(layer)
    first = cells[0]
    known = layers[0].back if layers else None
    for product in (first.again,) if first.again is not None else first.products:
        if product is None or product.weight is None or product.data.type != first.h_next.type:
            continue
        if known is not None and (product.weight, product.bias) != (known.weight, known.bias):
            continue
        layer = layer_of(first, product.data)
        if layer is not None and (not layers or _same_layer(layer, layers[0])):
            if not layers and (first.kind is RNN or _is_ambiguous(first)):
                return None
            initial = (product.data,) if first.c is None else (product.data, first.c)
            return _Chain(cells, layer, initial)
    return None


def _is_ambiguous(cell: Cell) -> bool:
    """Whether either product of a single step may be that of h."""
    return cell.again is None and all(
        product.weight is not None and product.data.type == cell.h_next.type for product in cell.products
    )


def _same_layer(one: Layer, other: Layer) -> bool:
    def constant(layer: Layer) -> tuple[object, ...]:
        inside, back = layer.inside, layer.back
        weights = (inside.weight, inside.bias, inside.transposed, back.weight, back.bias, back.transposed)
        return (layer.op, *weights, frozenset(layer.vectors), layer.peepholes)

    return constant(one) == constant(other)


def _is_closed(chain: _Chain, readers: Readers) -> bool:
    """Whether nothing but the steps reads a c on the way: two times, with peepholes five times."""
    times = 5 if chain.layer.peepholes else 2
    return all(cell.c_next is None or readers.times(cell.c_next) == times for cell in chain.cells[:-1])


def _take_apart(chain: _Chain, states: Mapping[Value, tuple[_Chain, int]]) -> bool:
    """Find what the steps take apart; False if they do not take all of it, one after another."""
    data = [_data(cell, chain.layer) for cell in chain.cells]
    places = [None if value is None else _place(value, states) for value in data]
    if len(places) == 1 and data[0] is not None and chain.layer.inside.weight is not None:
        return data[0].rank == 2 or data[0].shape[0] == 1
    found = [place for place in places if place is not None]
    if len(found) != len(places) or len({(id(x), axis) for x, axis, _ in found}) != 1:
        return False
    x, axis, _ = found[0]
    indices = [index for _, _, index in found]
    size = len(x.cells) if isinstance(x, _Chain) else x.shape[axis]
    chain.x, chain.axis, chain.backwards = x, axis, len(indices) > 1 and indices[0] > indices[-1]
    steps = indices[::-1] if chain.backwards else indices
    rows = chain.layer.inside.weight is None
    return steps == list(range(len(indices))) and len(indices) == size and axis == (0 if rows else axis)


def _data(cell: Cell, layer: Layer) -> Value | None:
    """What a step takes of the data."""
    weight = layer.inside.weight
    found = [product.data for product in cell.products if product.weight is weight]
    return found[0] if found else None


def _place(value: Value, states: Mapping[Value, tuple[_Chain, int]]) -> Place | None:
    """Which step of what a value is, with or without an axis of size 1 in its place."""
    if value in states:
        chain, step = states[value]
        return chain, chain.axis, len(chain.cells) - 1 - step if chain.backwards else step
    node = value.producer
    if node is not None and isinstance(node.op, Gather) and node.inputs[0] is not None and value.rank == 2:
        index = constant_number(node.inputs[1]) if node.inputs[1] is not None and node.inputs[1].rank == 0 else None
        size = node.inputs[0].shape[node.op.axis]
        if index is None or not isinstance(size, int) or node.op.axis % 3 == 2:
            return None
        return node.inputs[0], node.op.axis % 3, int(index) % size
    kept = operand(value, Squeeze, Reshape) if value.rank == 2 else value
    return _single(kept) if kept is not None and kept.rank == 3 else None


def _single(value: Value) -> Place | None:
    """Which step of x (T, N, I) or (N, T, I) a value (1, N, I) or (N, 1, I) is."""
    node = value.producer
    x = node.inputs[0] if node is not None and isinstance(node.op, Split | Slice) else None
    if node is None or x is None:
        return None
    if isinstance(node.op, Split):
        place = next(at for at, each in enumerate(node.outputs) if each is value)
        axis, whole = node.op.axis % 3, set(node.op.sizes) == {1}
        return (x, axis, place) if whole and axis < 2 else None
    assert isinstance(node.op, Slice)
    if len(node.op.axes) != 1 or node.op.steps != (1,) or node.op.axes[0] % 3 == 2:
        return None
    axis, start, end = node.op.axes[0] % 3, node.op.starts[0], node.op.ends[0]
    if not isinstance(x.shape[axis], int) or not isinstance(start, int | None) or not isinstance(end, int | None):
        return None
    found = range(*slice(start, end).indices(int(x.shape[axis])))  # type: ignore[arg-type]
    return (x, axis, found.start) if len(found) == 1 else None


def _make(b: Rewriter, chain: _Chain, refuse: Refuse) -> None:
    """Emit the layer of a chain, before its first step."""
    rows = chain.layer.inside.weight is None
    if isinstance(chain.x, _Chain):
        data = chain.x.made[0] if chain.x.made and not rows else None
    elif chain.x is None:
        single = _data(chain.cells[0], chain.layer)
        data = None if single is None else _wide(b, b.new(single))
    else:
        data = chain.x if rows else b.new(chain.x)
    if data is None:
        return
    first = [_wide(b, b.new(state)) for state in chain.first]
    way = "reverse" if chain.backwards else "forward"
    found = made(b, chain.layer, data, first, direction=way, batch_first=chain.axis == 1)
    if found is not None and not refuses(refuse, found[0]):
        chain.made = list(found)


def _wide(b: Rewriter, state: Value) -> Value:
    return state if state.rank == 3 else b.emit(Unsqueeze((0,)), state)


def _as(b: Rewriter, state: Value, like: Value) -> Value:
    """The last state (1, N, H) as the source has it."""
    return state if like.rank == 3 else b.emit(Squeeze((0,)), state)


def _state(b: Rewriter, chain: _Chain, step: int) -> Value:
    """The h of a step."""
    like, y = chain.cells[step].h_next, chain.made[0]
    if step == len(chain.cells) - 1:
        return _as(b, chain.made[1], like)
    place = len(chain.cells) - 1 - step if chain.backwards else step
    taken = b.emit(Slice((chain.axis,), (place,), (place + 1,), (1,)), y)
    if like.rank == 2:
        return b.emit(Squeeze((chain.axis,)), taken)
    return taken if chain.axis == 0 else b.emit(Transpose((1, 0, 2)), taken)


def _stacked(b: Rewriter, node: Node, states: Mapping[Value, tuple[_Chain, int]]) -> Sequence[Value] | None:
    """y of a Concat of the h of all steps, in the order of the data."""
    assert isinstance(node.op, Concat)
    axis = node.op.axis % node.output.rank
    apart = [_apart(value, axis) for value in node.operands()]
    found = [states.get(value) if value is not None else None for value in apart]
    chains = {each[0] for each in found if each is not None}
    if None in found or len(chains) != 1 or axis > 1 or node.output.rank != 3:
        return None
    (chain,) = chains
    steps = [each[1] for each in found if each is not None]
    if steps != list(range(len(chain.cells)))[:: -1 if chain.backwards else 1] or not chain.made:
        return None
    y = chain.made[0]
    return (y if axis == chain.axis else b.emit(Transpose((1, 0, 2)), y),)


def _apart(value: Value, axis: int) -> Value | None:
    """h of a value that is h with the axis along which it is stacked."""
    inner = operand(value, Unsqueeze, Reshape)
    if inner is not None and inner.rank == 2 and value.shape == (*inner.shape[:axis], 1, *inner.shape[axis:]):
        return inner
    return value if value.rank == 3 and axis == 0 else None
