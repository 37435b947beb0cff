"""Whether a network is one of independent weights between states that are not activations.

Most closed forms are laws of such networks. A block that activates the sum of trunk and branch,
a matrix that is orthogonal, or one made of +/- pairs, obeys others.
"""

from __future__ import annotations

from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = ["check_entrywise"]


def check_entrywise(ensemble: Ensemble, name: str) -> None:
    """Raise Unsupported unless all weights are independent and no sum is activated."""
    network, table = ensemble.network, ensemble.table
    if network.form.post:
        raise Unsupported(
            f"{name} does not hold for block {network.block!r}: it activates the sum of trunk and "
            "branch, so that the trunk itself loses what is negative. Use block 'res3' or "
            "'inner', or simulate it."
        )
    if not table.entrywise:
        what = "scheme " if table.structured else "law "
        which = ensemble.scheme.kind if table.structured else table.law.kind
        raise Unsupported(
            f"{name} needs weights that are independent of each other, but {what}{which!r} makes "
            "those of one matrix depend on each other. Use law 'gaussian', or simulate it."
        )
