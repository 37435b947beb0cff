"""Fixup: a residual network that is the identity at initialisation, and trains like one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.registry import did_you_mean
from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme

__all__ = ["Fixup"]

_VARIANTS = ("fixup", "unscaled", "nonzero")


@Scheme.family.register("fixup")
@dataclass(frozen=True, kw_only=True)
class Fixup(Scheme):
    r"""Last matrix of every branch 0, the m - 1 others He times :math:`L^{-1/(2m-2)}`.

    The zeros make every branch vanish at initialisation, so the signal, its gradient and
    the angle between inputs pass through unchanged at any depth. The scaling acts later:
    one step of gradient descent changes the function by an amount that does not grow with
    the number L of branches, since each contributes :math:`L^{-1}` (the product of the
    m - 1 scales, squared). The multiplier of a branch is 1 and its biases are 0.

    Parameters
    ----------
    variant : str
        ``"fixup"`` (default): as above, the paper's.
        ``"unscaled"``: last matrix 0, the others He, without the scaling. It looks the same
        at initialisation and takes a first step that is depth times as large.
        ``"nonzero"``: the scaling, with a last matrix He instead of 0. The branch then has
        gain 1/L, so it propagates like uniform Stable ResNet.
    """

    formula: ClassVar[str] = (
        "branch of m >= 2 matrices: std of the first m-1 is He times depth^(-1/(2m-2)), the last "
        "matrix is 0; branch 1. Variant unscaled: without the scaling; nonzero: the last matrix is "
        "He."
    )
    source: ClassVar[str] = (
        "Zhang, Dauphin and Ma (2019), Fixup initialization: residual learning without "
        "normalization, arXiv:1901.09321"
    )
    blocks: ClassVar[tuple[str, ...]] = ("res3", "inner", "preact", "identity", "projection")

    variant: str = "fixup"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in _VARIANTS:
            raise SpecError(
                f"variant must be one of {', '.join(_VARIANTS)}, got {self.variant!r}: it says "
                f"which parts of Fixup are used.{did_you_mean(self.variant, list(_VARIANTS))}"
            )

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        m = network.branch_matrices
        if m < 2:
            raise Unsupported(
                f"scheme 'fixup' needs branches of at least 2 matrices, got inner_layers = {m}: "
                "its exponent -1/(2m-2) divides by zero. Set inner_layers = 2 or more, or use "
                "scheme 'skipinit'."
            )
        variance = np.array(he_variance(network)(*self.fans(network)))
        if self.variant != "unscaled":
            variance[:, : m - 1] *= float(network.depth) ** (-1 / (m - 1))
        if self.variant != "nonzero":
            variance[:, m - 1] = 0.0
        return self.table(network, variance=variance, stem_variance=he_variance(network), gain=True)
