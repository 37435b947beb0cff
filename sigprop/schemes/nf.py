"""NF-ResNet: normaliser-free, every branch reading a trunk of known variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["NFResNet"]


@Scheme.family.register("nf")
@dataclass(frozen=True, kw_only=True)
class NFResNet(Scheme):
    r"""h' = h + alpha f(h / beta_l), beta_l^2 = 1 + (l - 1) alpha^2, l = 1 .. depth.

    The trunk gains alpha^2 of variance at every block, so its standard deviation before
    block l is known beforehand and divided out: batch normalisation by arithmetic. The
    branch preserves unit variance, because

    * every weight has variance :math:`\gamma^2 / n`, n the fan-in, with
      :math:`\gamma^2 = 1 / \mathrm{Var}\,\varphi(Z)`;
    * the weights of a unit sum to zero (weight standardisation), so that the mean of the
      activations, positive for ReLU, is not passed on.

    The table says this by ``centred``: rows are drawn with entry variance
    :math:`\gamma^2 / (n - 1)` and projected to sum zero, after which it is exactly
    :math:`\gamma^2 / n`. Weight standardisation also fixes the norm of each row, which
    here holds in expectation only: fluctuations differ by O(1/n), means do not.

    The mean square of the gradient grows faster than that of the signal: a wide block l of m
    matrices multiplies it by :math:`1 + (\alpha / \beta_l)^2 (\gamma^2 E\varphi'(Z)^2)^m`, and
    for ReLU :math:`\gamma^2 E\varphi'^2 = \pi / (\pi - 1)`.

    Parameters
    ----------
    alpha : float
        Default 0.2, the paper's.
    """

    formula: ClassVar[str] = (
        "h' = h + alpha f(h / beta_l), beta_l^2 = 1 + (l-1) alpha^2, f pre-activation; Var w = "
        "1 / (fan_in Var phi(Z)), each row centred; alpha = 0.2."
    )
    source: ClassVar[str] = (
        "Brock, De and Smith (2021), Characterizing signal propagation to close the performance "
        "gap in unnormalized ResNets, arXiv:2101.08692"
    )
    blocks: ClassVar[tuple[str, ...]] = ("preact",)
    default_block: ClassVar[str] = "preact"

    alpha: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "It is the standard deviation that a branch adds to the trunk."
        alpha = check_number("alpha", self.alpha, low=0.0, why=why)
        object.__setattr__(self, "alpha", alpha)
        if np.any(np.asarray(self.skip) != 1.0):
            raise SpecError(
                f"scheme 'nf' needs skip = 1, got {self.skip!r}: its beta_l is the standard "
                "deviation of a trunk that adds up. Leave skip out, or use scheme 'given'."
            )

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        fan_in = network.connections[0].astype(float)
        if (fan_in < 2).any():
            raise Unsupported(
                "scheme 'nf' needs widths of at least 2: a row of one weight that sums to zero "
                "is zero. Use a larger width and inner_width."
            )
        phi = network.phi
        square = phi.second_moment()
        spread = square - phi.mean() ** 2
        if not spread > 1e-9 * square:
            raise SpecError(
                f"scheme 'nf' divides by Var phi(Z), but activation {phi.kind!r} has "
                f"{max(spread, 0.0):.2g}: it is constant almost everywhere. Use another."
            )
        layer = np.arange(network.depth, dtype=float)
        return self.table(
            network,
            variance=1 / (spread * (fan_in - 1)),
            branch=self.alpha,
            input_scale=1 / np.sqrt(1 + layer * self.alpha**2),
            centred=True,
        )
