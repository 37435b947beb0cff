r"""Mean squares of states and gradients, exact at every width and depth.

Given the state h, what a branch adds has mean zero and mean square :math:`t |h|^2 + \tau`, so
:math:`E|h'|^2 = (c^2 + t) E|h|^2 + \tau`; only the variance of a weight enters, not its law.
See `analysis.theory._transition` for t and :math:`\tau`.
"""

from __future__ import annotations

import numpy as np

from analysis.theory._transition import (
    Transition,
    alive_probability,
    check_no_ties,
    stem_alive_probability,
    transition,
)
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = [
    "log_displacement_mean_square",
    "log_gradient_displacement_mean_square",
    "log_gradient_mean_square",
    "log_mean_square",
]


def log_mean_square(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Log of the mean squared norm ratio, :math:`\log E|h_l|^2 / |h_0|^2`.

    .. math:: E|h'|^2 = (c^2 + t)\, E|h|^2 + \tau, \qquad
              t = a^2 s^2 \sigma_m^2 n_m \prod_{j<m} \kappa\, \sigma_j^2 n_j

    with skip c, branch a, input scale s, m matrices of :math:`n_j` rows and entries of
    variance :math:`\sigma_j^2`, and :math:`\kappa = E\varphi(Z)^2`. Biases add :math:`\tau`,
    the same product begun at each of them. A plain net has c = 0 and an activation after
    its last matrix too. In block projection (type C) t counts the last matrix and the skip matrix
    of variance :math:`\sigma_s^2` alike, :math:`c = 0` and

    .. math:: t = \kappa n' \bigl(a^2 \sigma_m^2 n_{m-1} \kappa \cdots + \beta^2 \sigma_s^2\bigr),

    told from the state behind the stem, which is 0 with chance :math:`2^{-n_0}` for ReLU.

    Parameters
    ----------
    ensemble : Ensemble
    input : int
        Which of the inputs; it matters only with biases and inputs of unlike norm.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; -inf where the state is zero.

    Raises
    ------
    Unsupported
        If the activation is not positively homogeneous, rows are centred, weights have no
        variance, or a branch begins with an activation that is not linear.

    Notes
    -----
    Status: exact for all depths and widths. Assumes independent symmetric weights;
    Gaussianity is *not* needed. Cost O(depth).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for beta-scalings; Gadhikar and
    Burkholz (2022), arXiv:2210.02411, theorem 2.3, for projections (recalled); the form above is
    elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=4, width=10), Power(beta=0.5))
    >>> round(float(np.exp(log_mean_square(critical)[-1])), 6)  # (1 + 1/2 / 4)^4
    1.601807
    """
    name = "log_mean_square"
    steps = transition(ensemble, input, name=name, order=2, projected=True)
    alive = np.log(stem_alive_probability(ensemble, name))
    return alive + _accumulate(steps.gain, steps.branch[:, 2, 3])


def log_gradient_mean_square(ensemble: Ensemble) -> np.ndarray:
    r"""Log of :math:`E|p_l|^2 / |p_L|^2` for an isotropic gradient p_L at the top.

    .. math:: \frac{E|p_l|^2}{|p_L|^2} = \frac{E\|J\|_F^2}{n_L}
              = \frac{n_l}{n_L} \prod_{k > l} (c_k^2 + t_k)

    with J the Jacobian from layer l to the top and t as in `log_mean_square`: biases do
    not enter. In a plain ReLU net without biases a state may be zero, and the gradient with
    it: there this is multiplied by :math:`\prod_{k \le l} (1 - 2^{-n_k})`.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is 0.

    Raises
    ------
    Unsupported
        As `log_mean_square`; and where a unit may sit on its kink: Rademacher weights on
        given inputs or in a plain net, and skip coefficients of 0.

    Notes
    -----
    Status: exact for all depths and widths. Assumes independent symmetric weights, a top
    gradient independent of the network, and that no pre-activation is exactly 0 unless it
    is so for all inputs nearby. Cost O(depth).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> taper = Ensemble(Network(depth=2, block="plain", widths=(8, 4, 2)), He())
    >>> np.exp(log_gradient_mean_square(taper)).round(9).tolist()  # 1 in 16 dead at 1
    [1.0, 0.9375, 1.0]
    """
    name = "log_gradient_mean_square"
    steps = _tangent(ensemble, name, projected=True)
    start = np.log(steps.widths / steps.widths[-1] * alive_probability(ensemble, name))
    with np.errstate(divide="ignore"):
        logs = np.log(steps.gain)
    return start + np.concatenate([np.cumsum(logs[::-1])[::-1], [0.0]])


def log_displacement_mean_square(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Log of :math:`E|h_l - h_0|^2 / |h_0|^2` of a residual net.

    With :math:`C_l = \prod_{k \le l} c_k`, the mean of :math:`h_l` given :math:`h_0` is
    :math:`C_l h_0`, and the spread about it obeys a recursion of positive terms:

    .. math:: V' = (c^2 + t) V + t\, C^2 + \tau, \qquad
              E|h_l - h_0|^2 / |h_0|^2 = V_l + (C_l - 1)^2 .

    Parameters, raises, status and assumptions as `log_mean_square`; a plain net is
    Unsupported. Accurate however small the branches. Cost O(depth).

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; -inf where the state has not moved.

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for c = 1.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=1000, width=10), Power(beta=0.5))
    >>> float(np.exp(log_displacement_mean_square(critical)[-1]).round(6))  # e^(1/2) - 1
    0.648515
    """
    steps = transition(ensemble, input, name="log_displacement_mean_square", order=2)
    _check_trunk(ensemble, "log_displacement_mean_square")
    return _displacement(steps, steps.branch[:, 2, 3])


def log_gradient_displacement_mean_square(ensemble: Ensemble) -> np.ndarray:
    r"""Log of :math:`E|p_l - p_L|^2 / |p_L|^2` of a residual net, p_L isotropic.

    The recursion of `log_displacement_mean_square`, without biases, run downward from the
    top: the mean of :math:`p_l` given :math:`p_L` is :math:`\prod_{k>l} c_k\, p_L`.

    Raises, status and assumptions as `log_gradient_mean_square`; a plain net is
    Unsupported. Cost O(depth).

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is -inf.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=7, width=10), Power(beta=0.25))
    >>> forward = log_displacement_mean_square(law)
    >>> bool(np.allclose(log_gradient_displacement_mean_square(law)[::-1][1:], forward[1:]))
    True
    """
    steps = _tangent(ensemble, "log_gradient_displacement_mean_square")
    _check_trunk(ensemble, "log_gradient_displacement_mean_square")
    downward = Transition(steps.branch[::-1], steps.skip[::-1], steps.widths, steps.start)
    return _displacement(downward, np.zeros(len(steps.skip)))[::-1]


def _tangent(ensemble: Ensemble, name: str, *, projected: bool = False) -> Transition:
    check_no_ties(ensemble, name)
    return transition(ensemble, name=name, order=2, tangent=True, projected=projected)


def _check_trunk(ensemble: Ensemble, name: str) -> None:
    if not ensemble.network.form.trunk:
        raise Unsupported(
            f"{name} is a law of residual nets: the layers of block 'plain' live in unrelated "
            "spaces, so their difference means nothing. Use block 'res3' or another with a trunk."
        )


def _displacement(steps: Transition, bias: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        log_skip = np.concatenate([[0.0], np.cumsum(np.log(np.abs(steps.skip)))])
        sign = np.concatenate([[1.0], np.cumprod(np.sign(steps.skip))])
        gain, source = np.log(steps.gain), np.log(steps.branch[:, 2, 2])
        tau = np.log(bias)
        spread = np.full(len(gain) + 1, -np.inf)
        for k in range(len(gain)):
            terms = (gain[k] + spread[k], source[k] + 2 * log_skip[k], tau[k])
            spread[k + 1] = np.logaddexp.reduce(terms)
        # log|C - 1|, kept where C is close to 1 and where it overflows.
        apart = np.where(
            sign > 0,
            np.maximum(log_skip, 0) + np.log(-np.expm1(-np.abs(log_skip))),
            np.logaddexp(log_skip, 0.0),
        )
    return np.logaddexp(spread, 2 * apart)


def _accumulate(gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Logs of M_{l+1} = gain_l M_l + bias_l, M_0 = 1."""
    with np.errstate(divide="ignore"):
        gain, bias = np.log(gain), np.log(bias)
    total = np.zeros(len(gain) + 1)
    if np.all(np.isneginf(bias)):
        total[1:] = np.cumsum(gain)
        return total
    for k in range(len(gain)):
        total[k + 1] = np.logaddexp(gain[k] + total[k], bias[k])
    return total
