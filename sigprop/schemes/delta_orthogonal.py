"""Delta-orthogonal initialisation: convolutions that turn every pixel by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.schemes.orthogonal import OrthogonalScheme
from sigprop.spec import Scheme

__all__ = ["DeltaOrthogonal"]


@Scheme.family.register("delta_orthogonal")
@dataclass(frozen=True, kw_only=True)
class DeltaOrthogonal(OrthogonalScheme):
    r"""The central tap of a kernel is a gain times an orthogonal matrix, all others are 0.

    A convolution then keeps the length of every pixel, wherever borders are, and hands on no
    information between pixels. As in `OrthogonalScheme` the gain makes up for the activation,
    sqrt(2) for ReLU, which it does on average only. Where the channels become fewer the
    matrix has orthonormal rows and projects; a stride drops pixels. Without an image there is
    one tap, and it is `OrthogonalScheme`.
    """

    formula: ClassVar[str] = (
        "images: central tap Q / sqrt(E phi(Z)^2), so sqrt(2) Q for ReLU, Q orthogonal; other taps "
        "0; branch 1."
    )
    source: ClassVar[str] = (
        "Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington (2018), Dynamical isometry and a "
        "mean field theory of CNNs, arXiv:1806.05393"
    )

    kernels: ClassVar[bool] = True
