"""The minimum cut against brute force over all assignments."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from isomorph.ir.passes.mincut import CutGraph

VERTICES = 5  # besides the source and the sink


def cut_cost(edges: list[tuple[int, int, int]], sink_side: set[int]) -> int:
    return sum(cost for tail, head, cost in edges if tail not in sink_side and head in sink_side)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, VERTICES + 1), st.integers(0, VERTICES + 1), st.integers(0, 9)).filter(
            lambda e: e[0] != e[1]
        ),
        max_size=24,
    )
)
def test_the_cut_is_minimal_and_its_sink_side_smallest(edges: list[tuple[int, int, int]]) -> None:
    graph = CutGraph()
    for _ in range(VERTICES):
        graph.vertex()
    for tail, head, cost in edges:
        graph.edge(tail, head, cost)
    found = graph.sink_side()
    assert CutGraph.SINK in found and CutGraph.SOURCE not in found
    sides = [{1, *(v + 2 for v, chosen in enumerate(bits) if chosen)} for bits in product((0, 1), repeat=VERTICES)]
    best = min(cut_cost(edges, side) for side in sides)
    assert cut_cost(edges, found) == best
    assert len(found) == min(len(side) for side in sides if cut_cost(edges, side) == best)
