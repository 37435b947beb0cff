r"""Narrow linear nets of opposing weights forget their input, as wide ones do not.

Where neighbouring layers oppose each other (fractional noise with H < 1/2), a step along the
input is mostly taken back. For two matrices of a net of block res1
:math:`E V_j V_i = \sigma_i \sigma_j \rho_{j-i}\, I`, so the part of the state along its start
fades as

.. math:: E\langle h_l, h_0 \rangle / |h_0|^2 \approx
          \exp \sum_{i < j \le l} a_i a_j \sigma_i \sigma_j \rho_{j-i},

which for equal layers of variance 1/d is :math:`\exp(L^{-2\beta} (L^{2H} - L) / 2d)`. With
:math:`\beta < 1/2` it tends to 0 with depth, like :math:`\exp(-L^{1 - 2\beta} / 2d)`. Mean field
(width first) knows of no such phase.
"""

from __future__ import annotations

import numpy as np

from sigprop.errors import Unsupported
from sigprop.processes import FractionalGaussianNoise
from sigprop.spec import Ensemble

__all__ = ["log_linear_alignment"]


def log_linear_alignment(ensemble: Ensemble) -> np.ndarray:
    r"""Log of :math:`E\langle h_l, h_0 \rangle / |h_0|^2` in a linear net of opposing weights.

    Parameters
    ----------
    ensemble : Ensemble
        Of block res1 with linear units and skip 1, whose weights are independent or follow
        fractional noise of Hurst index 1/2 or less.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; 0 for independent layers, at every depth.

    Raises
    ------
    Unsupported
        For other blocks, units and processes: persistent weights also add up to states that
        grow along the input, which the first order does not see.

    Notes
    -----
    Status: conjecture, to the leading order in :math:`a^2 / d`: Isserlis' theorem at second order,
    exponentiated; simulation agrees at widths 2 to 5, depths 200 and 1000. Exact for
    independent layers. Assumes Gaussian weights. Cost O(depth^2) time, O(depth) memory.

    References
    ----------
    Elementary. Compare Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, on the flat
    boundary at H < 1/2.

    Examples
    --------
    >>> from sigprop import Network, Point, Power
    >>> network = Network(depth=1000, width=5, block="res1", activation="linear")
    >>> scheme = Power(beta=0.35, process=FractionalGaussianNoise(hurst=0.2))
    >>> round(float(np.exp(log_linear_alignment(Ensemble(network, scheme, Point()))[-1])), 3)
    0.458
    """
    network, table = ensemble.network, ensemble.table
    process = table.processes[-1]
    if network.block != "res1" or not network.phi.homogeneous or network.phi.negative_slope != 1.0:
        raise Unsupported(
            f"log_linear_alignment is of block 'res1' with linear units, got {network.block!r} "
            f"with {network.phi.kind!r}: elsewhere a path through two layers is no product of two "
            "weights. Use analysis.theory.mean_field for wide nets."
        )
    if (table.skip != 1.0).any():
        raise Unsupported(
            "log_linear_alignment needs skip 1 in all layers: another one shrinks or stretches the "
            "state by itself. Set skip to 1."
        )
    opposing = isinstance(process, FractionalGaussianNoise) and process.hurst <= 0.5
    if not opposing and not process.independent:
        raise Unsupported(
            f"log_linear_alignment is for weights that oppose each other along depth, got process "
            f"{process.kind!r}: persistent ones grow, by more than the first order. Use fgn with a "
            "Hurst index of at most 1/2, or simulate."
        )
    depth = network.depth
    size = table.branch * table.scale[:, -1]
    rho = process.autocovariance(depth)
    assert rho is not None  # both kinds are stationary
    steps = np.zeros(depth + 1)
    for layer in range(1, depth):
        steps[layer + 1] = size[layer] * (size[:layer] @ rho[layer:0:-1])
    return np.cumsum(steps)
