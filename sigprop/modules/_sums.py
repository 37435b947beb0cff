"""Residual sums as they happen: trunk, branch, and what they add up to.

`sigprop.modules.anatomy` says which additions of a forward pass are residual sums; a mode of torch
that sees every addition finds them again in the watched pass, by their place among the additions
of two tensors of one shape. (Additions of other kinds are not counted, for there are some that
happen in training mode only, such as the counter of batches in batch normalisation.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from sigprop.modules._watch import Row, Watch
from sigprop.modules.anatomy import Anatomy
from sigprop.modules.recording import ADDITIONS, Graph, Node
from sigprop.modules.roles import WeightLayer, layers_of

__all__ = ["Found", "Place", "Sums", "places"]


@dataclass(frozen=True)
class Place:
    """Where a residual sum is: the how manieth addition, and which operand is the branch."""

    name: str
    index: int
    branch: int


@dataclass
class Found:
    """What a sum left: the row of the sum, and sums of squares of branch and trunk."""

    row: Row
    branch: torch.Tensor
    trunk: torch.Tensor


def places(model: torch.nn.Module, found: Anatomy) -> list[Place]:
    """The residual sums of a model."""
    additions = [node for node in found.graph.nodes if _counts(node)]
    where = {node.call: index for index, node in enumerate(additions)}
    weights = layers_of(model, found.graph)
    out = []
    for one in found.sums:
        if one.call not in where:
            continue  # a branch that the caller named: no addition is known
        node = additions[where[one.call]]
        last = _last(node, found.graph, weights, one.layers[-1])
        ends = [x.after(last) for x in node.arguments[:2]]
        if ends[0] != ends[1]:
            out.append(Place(one.name or "sum", where[one.call], ends.index(True)))
    return out


def _counts(node: Node) -> bool:
    two = node.arguments[:2]
    return (
        node.op in ADDITIONS
        and node.floating
        and len(two) == 2
        and all(isinstance(x, Node) and x.floating and x.shape == node.shape for x in two)
    )


def _last(end: Node, graph: Graph, weights: dict[int, Any], layer: WeightLayer) -> Node:
    """Where ``layer`` was last at work before ``end``: it may be at work in many places."""
    at = [i for i in weights if layer in weights[i] and end.after(graph.nodes[i])]
    return graph.nodes[max(at)]


class Sums(TorchFunctionMode):
    """While entered, measures the residual sums among all additions."""

    def __init__(self, watch: Watch, wanted: Sequence[Place]) -> None:
        super().__init__()
        self.watch = watch
        self.wanted = {place.index: place for place in wanted}
        self.found: list[Found] = []
        self.seen = 0  # additions of two tensors of one shape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") not in ADDITIONS or not _adds(args):
            return func(*args, **kwargs)
        place = self.wanted.get(self.seen)
        self.seen += 1
        if place is None:
            return func(*args, **kwargs)
        # Before the addition, which may write to an operand.
        squares = [self.watch.squares(operand) for operand in args[:2]]
        y = func(*args, **kwargs)
        row = self.watch.measured(place.name, "sum", 0, y.detach())
        self.watch.follow(row, y)
        self.found.append(Found(row, squares[place.branch], squares[1 - place.branch]))
        return y


def _adds(args: Any) -> bool:
    two = args[:2]
    return (
        len(two) == 2
        and all(isinstance(x, torch.Tensor) and x.is_floating_point() for x in two)
        and two[0].shape == two[1].shape
    )
