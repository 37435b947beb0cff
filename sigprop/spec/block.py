"""What one layer computes: the branch, and where the activation sits."""

from __future__ import annotations

from dataclasses import dataclass

from sigprop.registry import Registry

__all__ = ["Block", "blocks"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """What the branch is and where the activation sits.

    Attributes
    ----------
    trunk : bool
        Whether a skip connection carries h past the branch.
    pre : bool
        Whether the activation acts on the trunk, before the first matrix.
    matrices : int or None
        Their number in the branch, or None where ``inner_layers`` says it.
    post : bool
        Whether the activation acts on the sum of trunk and branch. Then the network has a
        stem, whose output is the state h_0.
    projected : bool
        Whether a matrix of its own, the last of the layer, stands in the skip connection.
    """

    kind: str
    formula: str
    trunk: bool
    pre: bool
    matrices: int | None
    post: bool = False
    projected: bool = False


blocks: Registry[Block] = Registry("block")
for _block in (
    Block(kind="plain", formula="h' = branch phi(W h + b)", trunk=False, pre=False, matrices=1),
    Block(kind="res1", formula="h' = skip h + branch V phi(h)", trunk=True, pre=True, matrices=1),
    Block(
        kind="res3", formula="h' = skip h + branch V phi(W h)", trunk=True, pre=False, matrices=2
    ),
    Block(
        kind="inner",
        formula="h' = skip h + branch W_m phi(... phi(W_1 h))",
        trunk=True,
        pre=False,
        matrices=None,
    ),
    Block(
        kind="preact",
        formula="h' = skip h + branch W_m phi(... W_1 phi(h))",
        trunk=True,
        pre=True,
        matrices=None,
    ),
    Block(
        kind="identity",
        formula="h' = phi(skip h + branch W_m phi(... phi(W_1 h))), h_0 = phi(W_0 x) (type B)",
        trunk=True,
        pre=False,
        matrices=None,
        post=True,
    ),
    Block(
        kind="projection",
        formula="h' = phi(skip S h + branch W_m phi(... phi(W_1 h))), h_0 = phi(W_0 x) (type C)",
        trunk=True,
        pre=False,
        matrices=None,
        post=True,
        projected=True,
    ),
):
    blocks.register(_block.kind)(_block)
