r"""The first step of training: how far it moves the function, before it moves anything else.

For :math:`f = p_L \cdot h_L` one step of gradient descent of size :math:`\eta` on f changes it by
:math:`\eta \sum (\partial f / \partial\theta)^2`. A matrix between a signal x and the gradient q
at its output counts :math:`|q|^2 |x|^2`, a branch coefficient :math:`(p \cdot F)^2`. In a block
whose branch reads the trunk through a matrix, masks are fair coins given the state, so both
factors average apart and signal and gradient take the gains of `second_moment`.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.theory._transition import check_no_ties, transition
from analysis.theory.second_moment import log_gradient_mean_square, log_mean_square
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = ["log_first_step"]


def log_first_step(ensemble: Ensemble) -> np.ndarray:
    r"""Log of :math:`E|\Delta f| / (\eta |h_0|^2 |p_L|^2)` of the layers up to each.

    .. math:: \sum_{k \le l} \frac{E|h_{k-1}|^2}{|h_0|^2} \frac{E|p_k|^2}{|p_L|^2}
              \Bigl(a^2 s^2 \sum_j \prod_{i<j} \kappa n_i \sigma_i^2
              \prod_{i>j} \kappa n_{i-1} \sigma_i^2
              + \frac{s^2}{n} \kappa^{m-1} \prod_i n_i \sigma_i^2\Bigr)

    :math:`n_0, .., n_m` the widths along the branch; the last term is of a branch coefficient that
    is trained. With two matrices of He, :math:`N_m` hidden units and N in the trunk: Fixup
    :math:`N_m/N` at any depth, without its scaling L times that, SkipInit and ReZero
    :math:`2L/N`.

    Parameters
    ----------
    ensemble : Ensemble
        Block res3 or inner, a positively homogeneous activation, no biases.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; -inf where nothing is trained yet.

    Raises
    ------
    Unsupported
        For other blocks, with biases, and as `log_gradient_mean_square`.

    Notes
    -----
    Status: exact for all depths and widths, as the step size goes to 0. Assumes independent
    symmetric weights, an isotropic gradient at the top; biases, stem and read-out are not
    trained. Cost O(depth).

    References
    ----------
    Zhang, Dauphin, Ma (2019), arXiv:1901.09321, for the goal; the form above is elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, Fixup, Network, SkipInit
    >>> for depth in (10, 160):
    ...     network = Network(depth=depth, width=30, inner_width=18, block="res3")
    ...     steps = [log_first_step(Ensemble(network, s))[-1] for s in (Fixup(), SkipInit())]
    ...     print(np.exp(steps).round(6).tolist())
    [0.6, 0.666667]
    [0.6, 10.666667]
    """
    network, table = ensemble.network, ensemble.table
    name = "log_first_step"
    check_no_ties(ensemble, name)
    transition(ensemble, name=name, order=2)  # refuses what is not homogeneous, independent, ..
    if network.block not in ("res3", "inner"):
        raise Unsupported(
            f"{name} is a law of blocks 'res3' and 'inner', got {network.block!r}, where a mask "
            "depends on what it masks. Simulate it: --observe first_step."
        )
    if table.biased:
        raise Unsupported(
            f"{name} counts matrices whose inputs are signals alone, but there are biases. Set "
            "bias_variance = 0, or simulate it: --observe first_step."
        )
    plus, minus = (float(y) ** 2 for y in network.phi(np.array([1.0, -1.0])))
    kappa = (plus + minus) / 2
    square = table.scale**2
    fan_in, fan_out = network.fans
    m = network.matrices
    forward = square * fan_out * np.where(np.arange(m) < m - 1, kappa, 1.0)
    backward = square * fan_in * np.where(np.arange(m) > 0, kappa, 1.0)
    per_layer = np.zeros(network.depth)
    for j in range(m):
        per_layer += np.prod(forward[:, :j], axis=1) * np.prod(backward[:, j + 1 :], axis=1)
    per_layer *= (table.branch * table.input_scale) ** 2
    if table.gain:
        per_layer += table.input_scale**2 * np.prod(forward, axis=1) / network.width
    with np.errstate(divide="ignore"):
        logs = (
            log_mean_square(ensemble)[:-1]
            + log_gradient_mean_square(ensemble)[1:]
            + np.log(per_layer)
        )
    return np.concatenate([[-math.inf], np.logaddexp.accumulate(logs)])
