"""The anatomy of a module: its weight layers in order, and every residual sum.

Found by provenance and not by the names of classes: one forward pass is recorded
(`sigprop.modules.recording`), and a *residual sum* is an addition of two tensors of one shape that
have a common ancestor, one of them by a path of fewer weight layers than the other. The latest
common ancestor is the fork; the way with fewer weight layers is the shortcut, the other is the
branch. Concatenations are no sums, and an addition whose two ways are alike is none that has a
branch.

For example of ``h + W_2 phi(W_1 h)`` the fork is h, the shortcut has no weight layer and is the
identity, and the branch has two. Where a model adds in another way, its branches may be named.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from sigprop.errors import SpecError
from sigprop.modules.recording import ADDITIONS, Graph, Node, record
from sigprop.modules.refusals import check_module
from sigprop.modules.roles import NormLayer, WeightLayer, layers_of, norms_of
from sigprop.modules.ways import Way, follower

__all__ = ["Anatomy", "ResidualSum", "anatomy"]


@dataclass(frozen=True, kw_only=True)
class ResidualSum:
    """One sum of a branch and a shortcut.

    Attributes
    ----------
    name : str
        ``block``; where several sums happen in that module, the common prefix of the branch's
        weight layers, or ``block:1``, ``block:2`` where these do not tell them apart.
    block : str
        Module in whose forward the sum happens, as `named_modules` calls it ("" is the model).
    branch, shortcut : tuple of str
        Modules at work in either, in order; an identity shortcut has none.
    layers, shortcut_layers : tuple of WeightLayer
        Weight layers of either, in order.
    activations : tuple of str
        Activations of the branch, in order.
    activation : str or None
        The activation that follows the sum before anything else reads it (types B and C).
    norm : str or None
        The module of a normalisation that follows the sum likewise.
    begins : str or None
        The activation in the branch ahead of its first weight layer (pre-activation).
    ends : str or None
        Module of the normalisation behind the last weight layer of the branch.
    multipliers, biases : tuple of str
        Parameters of one number, or one a channel, by which the branch is multiplied behind its
        last weight layer, and those of one number that are added anywhere in it.
    branch_output, shortcut_output : str or None
        Innermost module whose output the one operand is, as it enters the sum, if there is one.
    call : int
        It is the how many-th addition of the forward (0, 1, ..), residual or not.
    shape : tuple of int
        Of the sum, for the example input.
    plain : bool
        Whether the branch is a chain: no operation in it reads two things that depend on the
        input.
    nested : bool
        Whether another residual sum stands in the branch.
    """

    name: str
    block: str
    branch: tuple[str, ...]
    shortcut: tuple[str, ...]
    layers: tuple[WeightLayer, ...]
    shortcut_layers: tuple[WeightLayer, ...] = ()
    activations: tuple[str, ...] = ()
    activation: str | None = None
    norm: str | None = None
    begins: str | None = None
    ends: str | None = None
    multipliers: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    branch_output: str | None = None
    shortcut_output: str | None = None
    call: int = -1
    shape: tuple[int, ...] = ()
    plain: bool = True
    nested: bool = False

    @property
    def projected(self) -> bool:
        """Whether the shortcut has a weight layer."""
        return bool(self.shortcut_layers)

    @property
    def type(self) -> str:
        """``B`` or ``C`` if an activation follows the sum, else ``identity`` or ``projection``."""
        if self.activation is not None:
            return "C" if self.projected else "B"
        return "projection" if self.projected else "identity"


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What `anatomy` found.

    Attributes
    ----------
    layers : tuple of WeightLayer
        In the order of execution, one for every call.
    sums : tuple of ResidualSum
        In the order of execution.
    norms : tuple of NormLayer
        Normalisations in the order of execution.
    modules : tuple of str
        Modules in the order of their calls.
    activations : tuple of str
        Those that weight layers read, each once, in order.
    unused : tuple of str
        Parameters that no weight layer, normalisation or other operation read.
    """

    layers: tuple[WeightLayer, ...]
    sums: tuple[ResidualSum, ...]
    norms: tuple[NormLayer, ...] = ()
    modules: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    graph: Graph = field(default_factory=Graph, repr=False, compare=False)

    @property
    def depth(self) -> int:
        """L, the number of residual sums."""
        return len(self.sums)

    def __str__(self) -> str:
        lines = [f"{len(self.layers)} weight layers, {len(self.sums)} residual sums"]
        for s in self.sums:
            shortcut = " -> ".join(x.name for x in s.shortcut_layers) or "identity"
            follows = s.activation or s.norm
            after = f", then {follows}" if follows else ""
            branch = " -> ".join(x.name for x in s.layers)
            lines.append(f"  {s.name or '(model)'}: {branch} + {shortcut}{after}")
        return "\n".join(lines)


def anatomy(
    model: nn.Module,
    *inputs: Any,
    branches: str | Sequence[str] | None = None,
    **options: Any,
) -> Anatomy:
    """Find the weight layers and the residual sums of ``model``.

    The module runs once on the example input, in evaluation mode and without gradients; modes,
    buffers, hooks and random number generators are left exactly as they were.

    Parameters
    ----------
    model : Module
        Any; it may return tensors, tuples or dicts.
    *inputs, **options
        What its forward takes: one example, with a batch axis.
    branches : str or sequence of str, optional
        Names of modules, by glob, that are branches in any case: each is taken for the branch of
        a residual sum with an identity shortcut, if no sum was found that it belongs to.

    Raises
    ------
    SpecError
        If the module has no parameters, or only uninitialised ones, if the forward fails on this
        input, or if a name of ``branches`` fits no module.

    Examples
    --------
    >>> import torch
    >>> class Block(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.one, self.two = torch.nn.Linear(3, 5), torch.nn.Linear(5, 3)
    ...     def forward(self, h):
    ...         return h + self.two(torch.relu(self.one(h)))
    >>> print(anatomy(torch.nn.Sequential(Block(), Block()), torch.ones(1, 3)))
    4 weight layers, 2 residual sums
      0: 0.one -> 0.two + identity
      1: 1.one -> 1.two + identity
    """
    check_module(model)
    if not inputs and not options:
        raise SpecError(
            f"anatomy of {type(model).__name__} needs an example input: what a module does is "
            "found by running it once. Give one, such as torch.randn(2, 3, 32, 32)."
        )
    graph = record(model, inputs, options)
    layers = layers_of(model, graph)
    found = [s for node in graph.nodes if (s := _residual(graph, node, layers)) is not None]
    sums = _named([s for s in found if s.layers])
    ordered = tuple(layer for node in graph.nodes for layer in layers.get(node.index, ()))
    if not ordered:
        raise SpecError(
            f"no weight layer of {type(model).__name__} was seen at work, so there is nothing to "
            "read: scripted or compiled modules hide what they do. Give the plain module."
        )
    if branches is not None:
        sums = sums + _given(model, branches, sums, ordered)
    used = {name for node in graph.nodes for name in node.parameters}
    return Anatomy(
        layers=ordered,
        sums=tuple(sums),
        norms=norms_of(graph),
        modules=tuple(graph.called),
        activations=tuple(dict.fromkeys(x.reads for x in ordered if x.reads is not None)),
        unused=tuple(name for name, _ in model.named_parameters() if name not in used),
        graph=graph,
    )


# ------------------------------------------------------------------------ sums


def _residual(
    graph: Graph, node: Node, layers: dict[int, tuple[WeightLayer, ...]]
) -> ResidualSum | None:
    """The residual sum that ``node`` is, if it is one."""
    if node.op not in ADDITIONS or not node.moved:
        return None
    operands = [x for x in (*node.arguments, *node.options.values()) if isinstance(x, Node)]
    if len(operands) != 2 or operands[0] is operands[1]:
        return None
    a, b = operands
    if not (a.moved and b.moved and a.shape == b.shape == node.shape and node.floating):
        return None
    common = a.ancestors & b.ancestors
    if not common:
        return None
    fork = graph.nodes[common.bit_length() - 1]
    ways = [Way(graph, fork, end, layers) for end in (a, b)]
    if ways[0].order == ways[1].order:
        return None
    branch, shortcut = sorted(ways, key=lambda way: way.order, reverse=True)
    activation, norm = follower(node)
    inner = [n for n in branch.nodes if n.op in ADDITIONS]
    return ResidualSum(
        name="",
        block=node.module,
        branch=branch.modules(node.module),
        shortcut=() if shortcut.identical else shortcut.modules(node.module),
        layers=branch.layers,
        shortcut_layers=shortcut.shortest_layers,
        activations=branch.activations,
        activation=activation,
        norm=norm,
        begins=branch.begins,
        ends=branch.ends,
        multipliers=branch.multipliers,
        biases=branch.biases,
        branch_output=next(iter(branch.end.left_by), None),
        shortcut_output=None if shortcut.end is fork else next(iter(shortcut.end.left_by), None),
        call=node.call,
        shape=node.shape,
        plain=branch.plain,
        nested=any(_residual(graph, n, layers) is not None for n in inner),
    )


def _named(sums: Sequence[ResidualSum]) -> list[ResidualSum]:
    """The sums with names that tell them apart."""
    named: list[ResidualSum] = []
    for s in sums:
        beside = [t for t in sums if t.block == s.block]
        name = s.block
        if len(beside) > 1:
            prefixes = [_prefix(t.layers) for t in beside]
            place = beside.index(s)
            name = f"{s.block}:{place + 1}"
            clear = len(set(prefixes)) == len(prefixes) and s.block not in prefixes
            if clear and all(prefixes):
                name = prefixes[place]
        named.append(replace(s, name=name))
    return named


def _prefix(layers: Iterable[WeightLayer]) -> str:
    """The innermost module around all of some layers."""
    parts = [layer.name.split(".") for layer in layers]
    shared = []
    for level in zip(*parts):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


def _given(
    model: nn.Module,
    branches: str | Sequence[str],
    sums: Sequence[ResidualSum],
    layers: Sequence[WeightLayer],
) -> list[ResidualSum]:
    """The branches that the caller names and that belong to no sum found."""
    patterns = (branches,) if isinstance(branches, str) else tuple(branches)
    modules = [name for name, _ in model.named_modules() if name]
    known = {layer.name for s in sums for layer in s.layers}
    added: list[ResidualSum] = []
    for pattern in patterns:
        fitting = fnmatch.filter(modules, pattern)
        if not fitting:
            raise SpecError(
                f"branches names {pattern!r}, but no module of {type(model).__name__} is called "
                "so. Use a name, or a glob, of named_modules()."
            )
        for name in fitting:
            own = tuple(x for x in layers if x.name == name or x.name.startswith(name + "."))
            if not own or any(x.name in known for x in own):
                continue
            known |= {x.name for x in own}
            added.append(
                ResidualSum(
                    name=name, block=name, branch=tuple(x.name for x in own), shortcut=(),
                    layers=own, branch_output=name, plain=False,
                )
            )  # fmt: skip
    return added
