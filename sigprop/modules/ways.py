"""The ways from a fork to the two operands of a sum: what is on them, and what follows the sum."""

from __future__ import annotations

from sigprop.modules.recording import ADDITIONS, Graph, Node
from sigprop.modules.roles import ACTIVATIONS, MULTIPLICATIONS, NORMS, TRANSPARENT, WeightLayer

__all__ = ["Way", "follower"]


class Way:
    """The way from the fork to one operand of a sum."""

    def __init__(
        self, graph: Graph, fork: Node, end: Node, layers: dict[int, tuple[WeightLayer, ...]]
    ) -> None:
        self.fork, self.end = fork, end
        between = graph.nodes[fork.index + 1 : end.index + 1]
        self.nodes = [n for n in between if n.after(fork) and end.after(n)]
        self.weights = {n.index: layers.get(n.index, ()) for n in self.nodes}
        # The fewest weight layers, and by the same way the fewest activations, up to each node.
        least: dict[int, tuple[int, int]] = {fork.index: (0, 0)}
        whence: dict[int, int] = {}
        for n in self.nodes:
            before = [p for p in n.parents if p.index in least]
            best = min(before, key=lambda p: least[p.index])
            weights, units = least[best.index]
            least[n.index] = (weights + len(self.weights[n.index]), units + (n.op in ACTIVATIONS))
            whence[n.index] = best.index
        self.order = (*least[end.index], sum(map(len, self.weights.values())))
        shortest, at = set(), end.index
        while at != fork.index:
            shortest.add(at)
            at = whence[at]
        self.shortest = [n for n in self.nodes if n.index in shortest]
        work = [n for n in self.nodes if self.weights[n.index]]
        self.first = work[0].index if work else end.index + 1
        self.last = work[-1].index if work else fork.index

    @property
    def identical(self) -> bool:
        """Whether the operand is the fork itself, or looks at it in another shape."""
        return all(n.op in TRANSPARENT for n in self.shortest)

    @property
    def layers(self) -> tuple[WeightLayer, ...]:
        return tuple(layer for n in self.nodes for layer in self.weights[n.index])

    @property
    def shortest_layers(self) -> tuple[WeightLayer, ...]:
        return tuple(layer for n in self.shortest for layer in self.weights[n.index])

    @property
    def activations(self) -> tuple[str, ...]:
        return tuple(n.op.rstrip("_") for n in self.nodes if n.op in ACTIVATIONS)

    @property
    def begins(self) -> str | None:
        for n in self.nodes:
            if n.index < self.first and n.op in ACTIVATIONS:
                return n.op.rstrip("_")
        return None

    @property
    def ends(self) -> str | None:
        found = [n.module for n in self.nodes if n.index > self.last and n.op in NORMS]
        return found[-1] if found else None

    @property
    def multipliers(self) -> tuple[str, ...]:
        """Of the last weight before it is used, and of what it gives."""
        last = self.layers[-1].multiplier if self.layers else None
        found = [n for n in self.nodes if n.index > self.last and n.op in MULTIPLICATIONS]
        within = () if last is None else (last,)
        return (*within, *(name for n in found for name in n.parameters))

    @property
    def biases(self) -> tuple[str, ...]:
        """Parameters of one number that are added."""
        found = [n for n in self.nodes if n.op in ADDITIONS]
        return tuple(
            p.parameters[0]
            for n in found
            for p in n.parents
            if p.op == "parameter" and all(side == 1 for side in p.shape)
        )

    @property
    def plain(self) -> bool:
        """Whether every node reads one thing that depends on the input."""
        return all(sum(p.moved for p in n.parents) == 1 for n in self.nodes)

    def modules(self, block: str) -> tuple[str, ...]:
        """Modules at work, but for that in which the sum happens and those around it."""
        names = dict.fromkeys(n.module for n in self.nodes)
        around = block + "." if block else ""
        return tuple(
            name for name in names if name != block and name and not around.startswith(name + ".")
        )


def follower(node: Node) -> tuple[str | None, str | None]:
    """(activation, module of a normalisation) that alone reads the sum, if either does."""
    readers = node.children
    while len(readers) == 1 and readers[0].op in TRANSPARENT:
        readers = readers[0].children
    if len(readers) != 1:
        return None, None
    if readers[0].op in ACTIVATIONS:
        return readers[0].op.rstrip("_"), None
    if readers[0].op in NORMS:
        return None, readers[0].module
    return None, None
