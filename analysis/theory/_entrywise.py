"""Whether a network is one of independent weights between states that are not activations.

Most closed forms are laws of such networks. A block that activates the sum of trunk and branch,
a matrix that is orthogonal, or one made of +/- pairs, obeys others.
"""

from __future__ import annotations

from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = ["check_entrywise", "check_vectors"]


def check_entrywise(ensemble: Ensemble, name: str, *, projected: bool = False) -> None:
    """Raise Unsupported unless all weights are independent and no sum is activated.

    With ``projected`` a sum may be, where every term of it comes through a matrix of its own.
    """
    network, table = ensemble.network, ensemble.table
    check_vectors(ensemble, name)
    if network.form.post and not (projected and network.form.projected):
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


def check_vectors(ensemble: Ensemble, name: str) -> None:
    """Raise Unsupported for images and for batch normalisation, which have laws of their own."""
    if ensemble.network.convolutional:
        raise Unsupported(
            f"{name} counts the units of a layer as independent, and the pixels of a "
            "convolutional network share their weights. Use image_log_mean_square and "
            "image_log_gradient_mean_square, or simulate it."
        )
    if ensemble.table.batch_norm:
        raise Unsupported(
            f"{name} does not hold with batch normalisation, which ties the inputs of a network "
            "together. Use batch_normalised, or simulate it."
        )
