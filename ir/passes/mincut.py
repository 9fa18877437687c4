"""Minimum s-t cut by Dinic's algorithm.

See: E. A. Dinic, Algorithm for solution of a problem of maximum flow in networks with power estimation (1970).
"""

from __future__ import annotations

from collections import deque

__all__ = ["CutGraph"]


class CutGraph:
    """A directed graph with capacities. Vertices are ints; 0 is the source, 1 the sink."""

    SOURCE = 0
    SINK = 1
    INFINITE = 1 << 60

    def __init__(self) -> None:
        self._heads: list[int] = []
        self._capacities: list[int] = []
        self._edges: list[list[int]] = [[], []]

    def vertex(self) -> int:
        """A new vertex."""
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, tail: int, head: int, capacity: int) -> None:
        """Cutting `tail` (source side) from `head` (sink side) costs `capacity`."""
        for start, end, amount in ((tail, head, capacity), (head, tail, 0)):
            self._edges[start].append(len(self._heads))
            self._heads.append(end)
            self._capacities.append(amount)

    def sink_side(self) -> set[int]:
        """The vertices on the sink's side of a minimum cut, as few of them as possible."""
        while (levels := self._levels())[self.SINK] >= 0:
            positions = [0] * len(self._edges)
            while self._augment(levels, positions):
                pass
        return self._reaching_sink()

    def _levels(self) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[self.SOURCE] = 0
        queue = deque([self.SOURCE])
        while queue:
            vertex = queue.popleft()
            for edge in self._edges[vertex]:
                head = self._heads[edge]
                if self._capacities[edge] > 0 and levels[head] < 0:
                    levels[head] = levels[vertex] + 1
                    queue.append(head)
        return levels

    def _augment(self, levels: list[int], positions: list[int]) -> bool:
        """Send flow along one shortest path; False if there is none left in this phase."""
        path: list[int] = []
        vertex = self.SOURCE
        while vertex != self.SINK:
            edges = self._edges[vertex]
            while positions[vertex] < len(edges):
                edge = edges[positions[vertex]]
                if self._capacities[edge] > 0 and levels[self._heads[edge]] == levels[vertex] + 1:
                    break
                positions[vertex] += 1
            if positions[vertex] < len(edges):
                path.append(edges[positions[vertex]])
                vertex = self._heads[path[-1]]
            elif path:
                vertex = self._heads[path.pop() ^ 1]
                positions[vertex] += 1
            else:
                return False
        amount = min(self._capacities[edge] for edge in path)
        for edge in path:
            self._capacities[edge] -= amount
            self._capacities[edge ^ 1] += amount
        return True

    def _reaching_sink(self) -> set[int]:
        seen = {self.SINK}
        queue = deque([self.SINK])
        while queue:
            vertex = queue.popleft()
            for edge in self._edges[vertex]:
                tail = self._heads[edge]
                if self._capacities[edge ^ 1] > 0 and tail not in seen:
                    seen.add(tail)
                    queue.append(tail)
        return seen
